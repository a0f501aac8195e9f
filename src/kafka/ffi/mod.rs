//! Safe functions over the parts of librdkafka's C API that rust-rdkafka does not wrap. All unsafe code of the program
//! is here.
//!
//! - ListOffsets with an isolation level for each request.
//! - DescribeTopics with topic ids.
//! - Polling that keeps the offset of an end-of-partition event, and header names that are not UTF-8.
//! - The persistence status of a failed write.
//!
//! Does not retry, and does not decide what an error means.

#![allow(unsafe_code)]

use std::{
    borrow::Cow,
    ffi::{CStr, CString, c_char, c_int, c_void},
    ptr, slice,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rdkafka::{
    TopicPartitionList,
    admin::AdminClient,
    bindings as c,
    client::Client,
    config::{ClientConfig, RDKafkaLogLevel},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::BorrowedMessage,
};

use super::{
    client_context::Context,
    replay::cluster::{self, Polled},
    timeouts::{DESCRIBE_TOPICS_SLACK, LIST_OFFSETS_SLACK},
};
use crate::model::Header;

/// Why a call of the C API failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {text} ({code:?})")]
pub struct NativeError {
    pub what: &'static str,
    pub code: RDKafkaErrorCode,
    /// librdkafka's message.
    pub text: String,
}

/// A pointer from the C API, with the function that frees it.
struct NativePtr<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for NativePtr<T> {
    fn drop(&mut self) {
        // Safety: made by the constructor that belongs to this destructor, and not freed elsewhere.
        unsafe { (self.1)(self.0) }
    }
}

unsafe extern "C" fn log_line(
    client: *const c::rd_kafka_t,
    level: c_int,
    facility: *const c_char,
    text: *const c_char,
) {
    let level = match level {
        ..=2 => RDKafkaLogLevel::Critical,
        3 => RDKafkaLogLevel::Error,
        4 => RDKafkaLogLevel::Warning,
        5 | 6 => RDKafkaLogLevel::Info,
        _ => RDKafkaLogLevel::Debug,
    };
    // Safety: librdkafka gives two strings, and the opaque that the wrapper set: its context, which outlives the
    // client.
    unsafe {
        let (facility, text) = (CStr::from_ptr(facility).to_string_lossy(), CStr::from_ptr(text).to_string_lossy());
        let context = c::rd_kafka_opaque(client).cast::<Context>();
        if let Some(context) = context.as_ref() {
            context.log_line(level, &facility, &text);
        }
    }
}

/// Sends a client's log lines to its context. rust-rdkafka does this only for clients that it polls itself. Without it
/// librdkafka writes the lines to standard error.
pub fn redirect_logs(client: &Client<Context>) {
    // Safety: the client is alive, and its opaque is a `Context`.
    unsafe { c::rd_kafka_set_logger(client.native_ptr(), Some(log_line)) }
}

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

/// One offset of one partition, or the leader's error.
pub type PartitionOffset = (i32, Result<i64, RDKafkaErrorCode>);

fn c_topic_name(topic: &str, what: &'static str) -> Result<CString, NativeError> {
    CString::new(topic).map_err(|_| NativeError {
        what,
        code: RDKafkaErrorCode::InvalidTopic,
        text: "the topic's name contains NUL".to_owned(),
    })
}

fn admin_options(
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
fn wait_for_event(
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
    let deadline = Instant::now() + timeout + LIST_OFFSETS_SLACK;
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
                found[which].push((entry.partition, offset));
            }
        }
        for offsets in &mut found {
            offsets.sort_unstable_by_key(|(partition, _)| *partition);
        }
        Ok(found)
    }
}

/// Polls a client's main queue, where its log lines and errors wait.
pub fn poll_logs(admin: &AdminClient<Context>) {
    // Safety: the client is alive.
    unsafe {
        c::rd_kafka_poll(admin.inner().native_ptr(), 0);
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
    /// In Kafka's base64 form.
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
        let id = c::rd_kafka_TopicDescription_topic_id(described);
        let id = if id.is_null() { ptr::null() } else { c::rd_kafka_Uuid_base64str(id) };
        let id = if id.is_null() { String::new() } else { CStr::from_ptr(id).to_string_lossy().into_owned() };
        // Kafka's tools write ids in base64's URL alphabet (org.apache.kafka.common.Uuid), librdkafka in the other.
        let id = id.replace('+', "-").replace('/', "_");
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

/// Describes the topic from plain metadata, without its id. For clusters without a controller, which admin calls need.
/// `None` if the cluster has a controller: its missing answer is then an ordinary failure.
pub fn describe_from_metadata(
    admin: &AdminClient<Context>,
    topic: &str,
    timeout: Duration,
) -> Option<Result<DescribedTopic, NativeError>> {
    const WHAT: &str = "Metadata";
    let failed = |code: RDKafkaErrorCode, text: String| Some(Err(NativeError { what: WHAT, code, text }));
    let metadata = match admin.inner().fetch_metadata(Some(topic), timeout) {
        Ok(metadata) => metadata,
        Err(error) => {
            return failed(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail), error.to_string());
        }
    };
    // Safety: the client is alive. The id is known from the metadata just fetched.
    let controller = unsafe { c::rd_kafka_controllerid(admin.inner().native_ptr(), 0) };
    if metadata.brokers().iter().any(|b| b.id() == controller) {
        return None;
    }
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else {
        return failed(RDKafkaErrorCode::UnknownTopicOrPartition, "not there".to_owned());
    };
    if let Some(error) = found.error() {
        let code = RDKafkaErrorCode::from(error);
        return failed(code, code.to_string());
    }
    let partition = |p: &rdkafka::metadata::MetadataPartition| DescribedPartition {
        partition: p.id(),
        leader: p.leader(),
        replicas: p.replicas().to_vec(),
        isr: p.isr().to_vec(),
    };
    let mut partitions: Vec<_> = found.partitions().iter().map(partition).collect();
    partitions.sort_unstable_by_key(|p| p.partition);
    Some(Ok(DescribedTopic { id: String::new(), partitions }))
}

/// A consumer that is assigned and never subscribes. It is destroyed without a close, because there is no group to
/// leave, and a close queries the group's coordinator, which may not answer.
pub struct Consumer {
    handle: *mut c::rd_kafka_t,
    /// The opaque of the log callback. Declared after the handle, which uses it until it is destroyed.
    _context: Box<Context>,
}

// Safety: librdkafka's handles may be used from any thread, and so may the context.
unsafe impl Send for Consumer {}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

impl Consumer {
    /// Creates a consumer without an assignment.
    pub fn new(config: &ClientConfig) -> KafkaResult<Self> {
        let native = config.create_native_config()?;
        let context = Box::new(Context::default());
        let mut error = [0 as c_char; 512];
        // Safety: the context is boxed and outlives the handle. `rd_kafka_new` takes over the configuration if it
        // succeeds, so its guard must not destroy it then.
        unsafe {
            c::rd_kafka_conf_set_opaque(native.ptr(), ptr::from_ref(&*context).cast_mut().cast());
            c::rd_kafka_conf_set_log_cb(native.ptr(), Some(log_line));
            let kind = c::rd_kafka_type_t::RD_KAFKA_CONSUMER;
            let handle = c::rd_kafka_new(kind, native.ptr(), error.as_mut_ptr(), error.len());
            if handle.is_null() {
                return Err(KafkaError::ClientCreation(CStr::from_ptr(error.as_ptr()).to_string_lossy().into_owned()));
            }
            std::mem::forget(native);
            c::rd_kafka_poll_set_consumer(handle);
            Ok(Self { handle, _context: context })
        }
    }

    pub fn assign(&self, list: &TopicPartitionList) -> KafkaResult<()> {
        // Safety: both are alive; the list is copied.
        match unsafe { c::rd_kafka_assign(self.handle, list.ptr()) } {
            c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(KafkaError::Subscription(RDKafkaErrorCode::from(code).to_string())),
        }
    }
}

impl Drop for Consumer {
    /// Blocks until the consumer's threads have ended.
    fn drop(&mut self) {
        // Safety: made by `new`, and destroyed once.
        unsafe { c::rd_kafka_destroy_flags(self.handle, c::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) }
    }
}

/// A message in librdkafka's memory.
pub struct Message<'a> {
    message: NativePtr<c::rd_kafka_message_t>,
    _consumer: std::marker::PhantomData<&'a ()>,
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message").field("partition", &self.get().partition).field("offset", &self.get().offset).finish()
    }
}

impl cluster::Consumer for Consumer {
    type Message<'a> = Message<'a>;

    /// rust-rdkafka's poll panics on a header name that is not UTF-8, and drops the offset of an end-of-partition
    /// event. This one does neither.
    fn poll(&self, timeout: Duration) -> Polled<Message<'_>> {
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        // Safety: the consumer outlives the borrow; the message is freed by its guard.
        unsafe {
            let message = c::rd_kafka_consumer_poll(self.handle, millis);
            if message.is_null() {
                return Polled::Nothing;
            }
            let message = NativePtr(message, c::rd_kafka_message_destroy);
            let raw = &*message.0;
            match raw.err {
                c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    Polled::Record(Message { message, _consumer: std::marker::PhantomData })
                }
                c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                    Polled::End { partition: raw.partition, offset: raw.offset }
                }
                code => {
                    let text = c::rd_kafka_message_errstr(message.0);
                    let text = if text.is_null() {
                        String::new()
                    } else {
                        CStr::from_ptr(text).to_string_lossy().into_owned()
                    };
                    // The field is set only if the error is of one partition.
                    let partition = if raw.rkt.is_null() { -1 } else { raw.partition };
                    Polled::Failed { partition, code: code.into(), text }
                }
            }
        }
    }
}

impl Message<'_> {
    fn get(&self) -> &c::rd_kafka_message_t {
        // Safety: not null, and alive as long as its guard.
        unsafe { &*self.message.0 }
    }
}

impl cluster::Message for Message<'_> {
    fn partition(&self) -> i32 {
        self.get().partition
    }

    fn offset(&self) -> i64 {
        self.get().offset
    }

    fn key(&self) -> Option<&[u8]> {
        let raw = self.get();
        // Safety: librdkafka gives the pointer and its length together.
        (!raw.key.is_null()).then(|| unsafe { slice::from_raw_parts(raw.key.cast(), raw.key_len) })
    }

    fn value(&self) -> Option<&[u8]> {
        let raw = self.get();
        // Safety: as for the key.
        (!raw.payload.is_null()).then(|| unsafe { slice::from_raw_parts(raw.payload.cast(), raw.len) })
    }

    fn timestamp(&self) -> Option<i64> {
        let mut kind = c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // Safety: the message is alive.
        let millis = unsafe { c::rd_kafka_message_timestamp(self.message.0, &raw mut kind) };
        (kind != c::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE && millis >= 0).then_some(millis)
    }

    fn leader_epoch(&self) -> i32 {
        // Safety: the message is alive.
        unsafe { c::rd_kafka_message_leader_epoch(self.message.0) }
    }

    fn headers(&self, lossy_names: &mut u64) -> Vec<Header> {
        let mut list = ptr::null_mut();
        let mut headers = Vec::new();
        // Safety: the message is alive and owns the list; each name and value is copied before the next call.
        unsafe {
            if c::rd_kafka_message_headers(self.message.0, &raw mut list)
                != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                return headers;
            }
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            while c::rd_kafka_header_get_all(list, headers.len(), &raw mut name, &raw mut value, &raw mut size)
                == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                let key: Cow<'_, str> = CStr::from_ptr(name).to_string_lossy();
                let value =
                    (!value.is_null()).then(|| Bytes::copy_from_slice(slice::from_raw_parts(value.cast(), size)));
                *lossy_names += u64::from(matches!(key, Cow::Owned(_)));
                headers.push(Header { key: key.into_owned(), value });
            }
        }
        headers
    }
}

/// Sets the leader epoch of a start offset. librdkafka detects a truncated log by it (KIP-320).
pub fn set_leader_epoch(list: &mut TopicPartitionList, topic: &str, partition: i32, epoch: i32) {
    let Ok(topic) = CString::new(topic) else { return };
    // Safety: the list is borrowed mutably, and owns its entries.
    unsafe {
        let entry = c::rd_kafka_topic_partition_list_find(list.ptr(), topic.as_ptr(), partition);
        if !entry.is_null() {
            c::rd_kafka_topic_partition_set_leader_epoch(entry, epoch);
        }
    }
}

/// Whether a write that failed can be in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// It was never sent, or was refused.
    No,
    /// It was sent, and the outcome is not known.
    Possibly,
    /// It is in the log.
    Yes,
}

/// The persistence status of a delivery report.
pub fn persistence(message: &BorrowedMessage<'_>) -> Persistence {
    // Safety: the message is alive.
    match unsafe { c::rd_kafka_message_status(message.ptr()) } {
        c::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => Persistence::No,
        c::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED => Persistence::Possibly,
        c::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_PERSISTED => Persistence::Yes,
    }
}

/// Triggers a fatal producer error by librdkafka's own test function.
#[cfg(test)]
pub fn inject_fatal_error<C: rdkafka::ClientContext>(client: &Client<C>) {
    let code = c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    // Safety: the client is alive; the text is static.
    unsafe { c::rd_kafka_test_fatal_error(client.native_ptr(), code, c"a test".as_ptr()) };
}

/// Queues a record with a header name of any bytes, which rust-rdkafka can't.
#[cfg(test)]
pub fn produce_with_header<C: rdkafka::ClientContext>(client: &Client<C>, topic: &CStr, key: &[u8], name: &CStr) {
    use c::rd_kafka_vtype_t as v;
    // Safety: everything outlives the call, which copies it; the list of arguments is ended.
    let code = unsafe {
        c::rd_kafka_producev(
            client.native_ptr(),
            v::RD_KAFKA_VTYPE_TOPIC,
            topic.as_ptr(),
            v::RD_KAFKA_VTYPE_PARTITION,
            0_i32,
            v::RD_KAFKA_VTYPE_MSGFLAGS,
            c::RD_KAFKA_MSG_F_COPY,
            v::RD_KAFKA_VTYPE_KEY,
            key.as_ptr(),
            key.len(),
            v::RD_KAFKA_VTYPE_HEADER,
            name.as_ptr(),
            ptr::null::<c_void>(),
            0_isize,
            v::RD_KAFKA_VTYPE_HEADER,
            c"empty".as_ptr(),
            c"".as_ptr(),
            0_isize,
            v::RD_KAFKA_VTYPE_END,
        )
    };
    assert_eq!(code, c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
}
