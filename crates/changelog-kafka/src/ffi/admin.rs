//! ListOffsets with an isolation level for each request, and DescribeTopics with topic ids.

use std::{
    ffi::{CStr, CString, c_char, c_void},
    slice,
    time::{Duration, Instant},
};

use rdkafka::{admin::AdminClient, bindings as c, error::RDKafkaErrorCode, metadata::Metadata};

use super::native::{NativeError, NativePtr};
use crate::{
    client_context::Context,
    timeouts::{ADMIN_SLACK, DESCRIBE_TOPICS_SLACK},
};

/// Which offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The low watermark.
    Low,
    /// The last stable offset: the end as read_committed sees it.
    LastStable,
    /// The high watermark: the end as read_uncommitted sees it.
    High,
}

/// One offset of one partition.
#[derive(Debug, Clone, Copy)]
pub struct PartitionOffset {
    pub partition: i32,
    /// The offset, or the leader's error.
    pub offset: Result<i64, RDKafkaErrorCode>,
    /// The leader epoch of the answer; -1 if the broker does not tell it.
    pub leader_epoch: i32,
}

pub(super) fn c_topic_name(topic: &str, what: &'static str) -> Result<CString, NativeError> {
    CString::new(topic).map_err(|_| NativeError {
        what,
        code: RDKafkaErrorCode::InvalidTopic,
        text: "the topic's name contains NUL".to_owned(),
    })
}

pub(super) fn admin_options(
    client: *mut c::rd_kafka_t,
    operation: c::rd_kafka_admin_op_t,
    timeout: Duration,
) -> NativePtr<c::rd_kafka_AdminOptions_t> {
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).max(1);
    let mut error = [0 as c_char; 256];
    // Safety: the client is alive; the buffer outlives the call.
    unsafe {
        let options = c::rd_kafka_AdminOptions_new(client, operation);
        c::rd_kafka_AdminOptions_set_request_timeout(options, millis, error.as_mut_ptr(), error.len());
        NativePtr(options, c::rd_kafka_AdminOptions_destroy)
    }
}

/// Waits for the next event of a queue.
pub(super) fn wait_for_event(
    queue: &NativePtr<c::rd_kafka_queue_t>,
    deadline: Instant,
    what: &'static str,
) -> Result<NativePtr<c::rd_kafka_event_t>, NativeError> {
    let wait = deadline.saturating_duration_since(Instant::now());
    // Safety: the queue is alive; the event is ours and freed by its guard; the string is copied before that.
    unsafe {
        let event = c::rd_kafka_queue_poll(queue.0, i32::try_from(wait.as_millis()).unwrap_or(i32::MAX));
        if event.is_null() {
            let text = "no answer in time".to_owned();
            return Err(NativeError { what, code: RDKafkaErrorCode::OperationTimedOut, text });
        }
        let event = NativePtr(event, c::rd_kafka_event_destroy);
        let code = c::rd_kafka_event_error(event.0);
        if code == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Ok(event);
        }
        let text = c::rd_kafka_event_error_string(event.0);
        let text = if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() };
        Err(NativeError { what, code: code.into(), text })
    }
}

/// Queries these offsets from the partitions' leaders, in one round trip. Blocks at most for `timeout`.
pub fn list_offsets<const N: usize>(
    admin: &AdminClient<Context>,
    topic: &str,
    partitions: &[i32],
    specs: [OffsetSpec; N],
    timeout: Duration,
) -> Result<[Vec<PartitionOffset>; N], NativeError> {
    const WHAT: &str = "ListOffsets";
    let topic = c_topic_name(topic, WHAT)?;
    let client = admin.inner().native_ptr();
    let deadline = Instant::now() + timeout + ADMIN_SLACK;
    // Safety: every pointer is made here and freed by its guard. The data of an event is read before the event is
    // freed. The opaque is an index and never followed.
    unsafe {
        let queue = NativePtr(c::rd_kafka_queue_new(client), c::rd_kafka_queue_destroy);
        for (i, spec) in specs.iter().enumerate() {
            let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
            let list = NativePtr(c::rd_kafka_topic_partition_list_new(count), c::rd_kafka_topic_partition_list_destroy);
            for partition in partitions {
                let entry = c::rd_kafka_topic_partition_list_add(list.0, topic.as_ptr(), *partition);
                // RD_KAFKA_OFFSET_SPEC_EARLIEST, RD_KAFKA_OFFSET_SPEC_LATEST
                (*entry).offset = if *spec == OffsetSpec::Low { -2 } else { -1 };
            }
            let options = admin_options(client, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, timeout);
            let isolation = match spec {
                OffsetSpec::LastStable => c::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
                OffsetSpec::Low | OffsetSpec::High => {
                    c::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
                }
            };
            let error = c::rd_kafka_AdminOptions_set_isolation_level(options.0, isolation);
            if !error.is_null() {
                c::rd_kafka_error_destroy(error);
            }
            c::rd_kafka_AdminOptions_set_opaque(options.0, i as *mut c_void);
            c::rd_kafka_ListOffsets(client, list.0, options.0, queue.0);
        }
        let mut found = [const { Vec::new() }; N];
        for _ in 0..N {
            let event = wait_for_event(&queue, deadline, WHAT)?;
            let which = c::rd_kafka_event_opaque(event.0) as usize;
            let result = c::rd_kafka_event_ListOffsets_result(event.0);
            let mut count = 0;
            let infos = c::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
            let infos = if count == 0 { &[][..] } else { slice::from_raw_parts(infos, count) };
            for info in infos {
                let entry = &*c::rd_kafka_ListOffsetsResultInfo_topic_partition(*info);
                let offset = match entry.err {
                    // Where a leader's whole response failed, for example by a timeout, librdkafka sets no error on the
                    // entry and an invalid offset. Three of those would look like an empty partition.
                    c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR if entry.offset < 0 => {
                        Err(RDKafkaErrorCode::RequestTimedOut)
                    }
                    c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(entry.offset),
                    code => Err(code.into()),
                };
                let leader_epoch = c::rd_kafka_topic_partition_get_leader_epoch(entry);
                found[which].push(PartitionOffset { partition: entry.partition, offset, leader_epoch });
            }
        }
        for offsets in &mut found {
            offsets.sort_unstable_by_key(|of| of.partition);
        }
        Ok(found)
    }
}

/// One partition of a described topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedPartition {
    pub partition: i32,
    /// The leader's broker id; -1 = none.
    pub leader: i32,
    /// Broker ids.
    pub replicas: Vec<i32>,
    /// Broker ids of the replicas in sync.
    pub isr: Vec<i32>,
}

/// A topic as a broker describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedTopic {
    /// In Kafka's base64 form. Empty if the broker returned none.
    pub id: String,
    /// Sorted by number.
    pub partitions: Vec<DescribedPartition>,
}

unsafe fn node_ids(nodes: *mut *const c::rd_kafka_Node_t, count: usize) -> Vec<i32> {
    if count == 0 {
        return Vec::new();
    }
    // Safety: the caller got this list from librdkafka and has not freed it.
    unsafe { slice::from_raw_parts(nodes, count).iter().map(|n| c::rd_kafka_Node_id(*n)).collect() }
}

/// A topic id in Kafka's base64 form. Empty if the broker returned none: brokers before 2.8 have no ids (KIP-516), and
/// librdkafka then gives one of zeros.
unsafe fn topic_id(id: *const c::rd_kafka_Uuid_t) -> String {
    // Safety: the caller got the id from librdkafka and has not freed it.
    unsafe {
        if id.is_null()
            || c::rd_kafka_Uuid_most_significant_bits(id) == 0 && c::rd_kafka_Uuid_least_significant_bits(id) == 0
        {
            return String::new();
        }
        let text = c::rd_kafka_Uuid_base64str(id);
        let text = if text.is_null() { String::new() } else { CStr::from_ptr(text).to_string_lossy().into_owned() };
        // Kafka's tools write ids in base64's URL alphabet (org.apache.kafka.common.Uuid), librdkafka in the other.
        text.replace('+', "-").replace('/', "_")
    }
}

/// Describes the topic, and never creates it. Asks this broker, or the controller if `broker` is `None`. Blocks at most
/// for `timeout`.
pub fn describe_topic(
    admin: &AdminClient<Context>,
    topic: &str,
    broker: Option<i32>,
    timeout: Duration,
) -> Result<DescribedTopic, NativeError> {
    const WHAT: &str = "DescribeTopics";
    let name = c_topic_name(topic, WHAT)?;
    let client = admin.inner().native_ptr();
    let deadline = Instant::now() + timeout + DESCRIBE_TOPICS_SLACK;
    // Safety: as in `list_offsets`.
    unsafe {
        let queue = NativePtr(c::rd_kafka_queue_new(client), c::rd_kafka_queue_destroy);
        let mut names = [name.as_ptr()];
        let collection = c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let collection = NativePtr(collection, c::rd_kafka_TopicCollection_destroy);
        let options = admin_options(client, c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, timeout);
        if let Some(broker) = broker {
            let mut error = [0 as c_char; 256];
            c::rd_kafka_AdminOptions_set_broker(options.0, broker, error.as_mut_ptr(), error.len());
        }
        c::rd_kafka_DescribeTopics(client, collection.0, options.0, queue.0);
        let event = wait_for_event(&queue, deadline, WHAT)?;
        let result = c::rd_kafka_event_DescribeTopics_result(event.0);
        let mut count = 0;
        let topics = c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count == 0 {
            let text = "the answer names no topic".to_owned();
            return Err(NativeError { what: WHAT, code: RDKafkaErrorCode::UnknownTopicOrPartition, text });
        }
        let described = *topics;
        let error = c::rd_kafka_TopicDescription_error(described);
        let code = if error.is_null() {
            c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        } else {
            c::rd_kafka_error_code(error)
        };
        if code != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            let text = CStr::from_ptr(c::rd_kafka_error_string(error)).to_string_lossy().into_owned();
            return Err(NativeError { what: WHAT, code: code.into(), text });
        }
        let id = topic_id(c::rd_kafka_TopicDescription_topic_id(described));
        let mut count = 0;
        let infos = c::rd_kafka_TopicDescription_partitions(described, &raw mut count);
        let infos = if count == 0 { &[][..] } else { slice::from_raw_parts(infos, count) };
        let mut partitions: Vec<_> = infos
            .iter()
            .map(|info| {
                let leader = c::rd_kafka_TopicPartitionInfo_leader(*info);
                let (mut replica_count, mut isr_count) = (0, 0);
                let replicas = c::rd_kafka_TopicPartitionInfo_replicas(*info, &raw mut replica_count);
                let isr = c::rd_kafka_TopicPartitionInfo_isr(*info, &raw mut isr_count);
                DescribedPartition {
                    partition: c::rd_kafka_TopicPartitionInfo_partition(*info),
                    leader: if leader.is_null() { -1 } else { c::rd_kafka_Node_id(leader) },
                    replicas: node_ids(replicas, replica_count),
                    isr: node_ids(isr, isr_count),
                }
            })
            .collect();
        partitions.sort_unstable_by_key(|p| p.partition);
        Ok(DescribedTopic { id, partitions })
    }
}

/// Whether one of the brokers in this metadata, which was just fetched, is the controller.
fn names_controller(admin: &AdminClient<Context>, metadata: &Metadata) -> bool {
    // Safety: the client is alive. It knows the id from the metadata, so the call does not wait.
    let controller = unsafe { c::rd_kafka_controllerid(admin.inner().native_ptr(), 0) };
    metadata.brokers().iter().any(|broker| broker.id() == controller)
}

/// What plain metadata says of a topic.
pub enum FromMetadata {
    /// The cluster has a controller. Its missing answer is then an ordinary failure.
    HasController,
    /// The cluster has none. This is the topic, without its id.
    WithoutController(Result<DescribedTopic, NativeError>),
}

/// Describes the topic from plain metadata, for clusters without a controller, which admin calls need. An error if no
/// broker answers.
pub fn describe_from_metadata(
    admin: &AdminClient<Context>,
    topic: &str,
    timeout: Duration,
) -> Result<FromMetadata, NativeError> {
    use FromMetadata::{HasController, WithoutController};
    let failed = |code: RDKafkaErrorCode, text: String| NativeError { what: "Metadata", code, text };
    let metadata = admin
        .inner()
        .fetch_metadata(Some(topic), timeout)
        .map_err(|error| failed(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail), error.to_string()))?;
    if names_controller(admin, &metadata) {
        return Ok(HasController);
    }
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else {
        let missing = failed(RDKafkaErrorCode::UnknownTopicOrPartition, "not there".to_owned());
        return Ok(WithoutController(Err(missing)));
    };
    if let Some(error) = found.error() {
        let code = RDKafkaErrorCode::from(error);
        return Ok(WithoutController(Err(failed(code, code.to_string()))));
    }
    let partition = |p: &rdkafka::metadata::MetadataPartition| DescribedPartition {
        partition: p.id(),
        leader: p.leader(),
        replicas: p.replicas().to_vec(),
        isr: p.isr().to_vec(),
    };
    let mut partitions: Vec<_> = found.partitions().iter().map(partition).collect();
    partitions.sort_unstable_by_key(|p| p.partition);
    Ok(WithoutController(Ok(DescribedTopic { id: String::new(), partitions })))
}

/// The addresses that the brokers give to clients, for a message. `None` if no broker answers.
pub fn given_addresses(admin: &AdminClient<Context>, topic: &str, timeout: Duration) -> Option<String> {
    const SHOWN: usize = 5;
    let metadata = admin.inner().fetch_metadata(Some(topic), timeout).ok()?;
    if !names_controller(admin, &metadata) {
        return Some("the cluster has no controller that clients can ask".to_owned());
    }
    let brokers = metadata.brokers();
    let shown: Vec<_> =
        brokers.iter().take(SHOWN).map(|b| format!("{} at {}:{}", b.id(), b.host(), b.port())).collect();
    let more = if brokers.len() > SHOWN { " and more" } else { "" };
    Some(format!("the brokers gave these addresses (advertised.listeners): {}{more}", shown.join(", ")))
}
