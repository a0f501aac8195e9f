//! References for loads: librdkafka alone. One has changelogd's settings and does only what a load must do. The other
//! has librdkafka's defaults.
//!
//! We poll records with the C call, because the wrapper makes an event and a reference count for each record.

#![allow(unsafe_code, reason = "the wrapper costs more than the limit may")]

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList, bindings as c,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};

/// A replay or a write that takes longer has stalled.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The settings of changelog-kafka, which this program cannot read. [`check_properties`] checks that they are the
/// same.
const COMMON: [(&str, &str); 8] = [
    ("client.id", "changelogd"),
    ("socket.nagle.disable", "true"),
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
    ("retry.backoff.ms", "50"),
    ("log.connection.close", "false"),
    ("ssl.ca.location", "probe"),
    ("allow.auto.create.topics", "false"),
];
const CONSUMER: [(&str, &str); 9] = [
    ("fetch.wait.max.ms", "5"),
    ("fetch.queue.backoff.ms", "5"),
    ("fetch.error.backoff.ms", "50"),
    ("check.crcs", "true"),
    ("fetch.message.max.bytes", "4194304"),
    ("isolation.level", "read_committed"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
];
const PRODUCER: [(&str, &str); 7] = [
    ("compression.type", "snappy"),
    ("linger.ms", "0"),
    ("queue.buffering.max.messages", "100000"),
    ("queue.buffering.max.kbytes", "131072"),
    ("acks", "all"),
    ("enable.idempotence", "true"),
    ("max.in.flight.requests.per.connection", "5"),
];

/// The properties above must be changelogd's own. Otherwise the reference would be wrong.
pub fn check_properties() -> Result<(), String> {
    let settings = include_str!("../../crates/changelog-kafka/src/settings.rs");
    let all = [&COMMON[..], &CONSUMER, &PRODUCER].concat();
    match all.iter().find(|(name, value)| !settings.contains(&format!("\"{name}\", \"{value}\""))) {
        Some((name, value)) => {
            Err(format!("benches/system/raw.rs: crates/changelog-kafka/src/settings.rs does not set {name}={value}"))
        }
        None => Ok(()),
    }
}

fn config(brokers: &str, properties: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in COMMON.iter().chain(properties) {
        config.set(*name, *value);
    }
    config.set("bootstrap.servers", brokers);
    config
}

pub fn producer_config(brokers: &str) -> ClientConfig {
    let mut config = config(brokers, &PRODUCER);
    // The values that follow from the broker's default of max.message.bytes.
    config.set("message.max.bytes", "1048588").set("batch.size", "1000000").set("message.timeout.ms", "10000");
    config
}

pub fn admin_config(brokers: &str) -> ClientConfig {
    config(brokers, &[])
}

/// The text of an error.
pub fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Records and bytes of keys and values that were read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Replayed {
    pub ms: f64,
    pub records: u64,
    pub bytes: u64,
}

/// The high watermarks of all partitions.
pub fn ends(brokers: &str, topic: &str, partitions: i32) -> Result<Vec<i64>, String> {
    let client: BaseConsumer = config(brokers, &[]).create().map_err(text)?;
    (0..partitions).map(|p| Ok(client.fetch_watermarks(topic, p, PATIENCE).map_err(text)?.1)).collect()
}

/// The tuned replay of these partitions, each from its first offset to its end. It only counts records. The time
/// includes making the consumer, but not destroying it or reading the end offsets.
pub fn replay(brokers: &str, topic: &str, partitions: &[(i32, i64)]) -> Result<Replayed, String> {
    let started = Instant::now();
    let mut config = config(brokers, &CONSUMER);
    config.set("group.id", "workspace-changelog-consumer").set("auto.offset.reset", "error");
    // The read-ahead that the default --replay-memory leaves to each replay.
    config.set("queued.max.messages.kbytes", "3276").set("topic.metadata.refresh.interval.ms", "2000");
    let consumer: BaseConsumer = config.create().map_err(text)?;
    let mut list = TopicPartitionList::new();
    for (partition, _) in partitions {
        list.add_partition_offset(topic, *partition, Offset::Offset(0)).map_err(text)?;
    }
    consumer.assign(&list).map_err(text)?;
    let mut left: Vec<(i32, i64)> = partitions.iter().copied().filter(|(_, end)| *end > 0).collect();
    let mut replayed = Replayed::default();
    while !left.is_empty() {
        if started.elapsed() > PATIENCE {
            return Err(format!("a raw replay does not reach its end: {left:?} after {replayed:?}"));
        }
        // Safety: the consumer outlives the message, which is destroyed once and not used after that.
        unsafe {
            let message = c::rd_kafka_consumer_poll(consumer.client().native_ptr(), 100);
            if message.is_null() {
                continue;
            }
            let of = &*message;
            if of.err == c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                replayed.records += 1;
                replayed.bytes += (of.key_len + of.len) as u64;
                left.retain(|(partition, end)| of.partition != *partition || of.offset + 1 < *end);
            }
            c::rd_kafka_message_destroy(message);
        }
    }
    replayed.ms = started.elapsed().as_secs_f64() * 1e3;
    Ok(replayed)
}

/// How a consumer with default settings gets its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untuned {
    /// As a member of a group.
    Subscribed,
    /// Assigned at the beginning, which needs no group.
    Assigned,
}

/// The times at which a consumer with default settings had these.
#[derive(Debug, Clone, Copy)]
pub struct UntunedMs {
    /// The last record. It does not know that it is the last.
    pub last_record: f64,
    /// The event of the end of the partition.
    pub end: f64,
}

/// The same for partition 0, with librdkafka's defaults. Only these are set: a group.id of its own,
/// auto.offset.reset=earliest, and enable.partition.eof=true, because otherwise it would not know the end.
pub fn untuned(brokers: &str, topic: &str, end: i64, how: Untuned) -> Result<UntunedMs, String> {
    let started = Instant::now();
    let group = changelogd_testkit::unique_topic("group");
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", group).set("auto.offset.reset", "earliest");
    config.set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().map_err(text)?;
    if how == Untuned::Subscribed {
        consumer.subscribe(&[topic]).map_err(text)?;
    } else {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning).map_err(text)?;
        consumer.assign(&list).map_err(text)?;
    }
    let mut last_record = None;
    while started.elapsed() < PATIENCE {
        let ms = || started.elapsed().as_secs_f64() * 1e3;
        match consumer.poll(Duration::from_millis(100)) {
            None => {}
            Some(Ok(message)) if message.offset() + 1 >= end => last_record = Some(ms()),
            Some(Ok(_)) => {}
            Some(Err(KafkaError::PartitionEOF(_))) => match last_record {
                Some(last_record) => return Ok(UntunedMs { last_record, end: ms() }),
                None => return Err("an untuned consumer was at the end before the last record".to_owned()),
            },
            Some(Err(error)) => return Err(text(error)),
        }
    }
    Err("an untuned consumer does not reach the end".to_owned())
}
