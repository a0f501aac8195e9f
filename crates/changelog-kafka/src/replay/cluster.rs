//! The traits between a replay and the cluster it reads, and between a replay and its caller.
//!
//! A simulated cluster implements them too. All decisions about whether a load is complete are made above these traits.
//! So the same code runs on a real and on a simulated cluster.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use changelog_core::{
    log::{ReadError, ReplayEvent, Topic, TopicProblem},
    model::{Header, Partition},
};
use rdkafka::error::RDKafkaErrorCode;

/// The result of a poll.
#[derive(Debug)]
pub enum Polled<M> {
    /// A record, borrowed until the next poll.
    Record(M),
    /// The end of a partition, as the consumer sees it now.
    End {
        partition: i32,
        /// No record below this offset is still to come.
        offset: i64,
    },
    /// An error, of a partition or of the client.
    Failed {
        /// Negative if the error is the client's.
        partition: i32,
        code: RDKafkaErrorCode,
        /// librdkafka's message.
        text: String,
    },
    /// Nothing came in time.
    Nothing,
}

/// A record as a consumer delivers it.
pub trait Message {
    fn partition(&self) -> i32;
    fn offset(&self) -> i64;
    /// `None` is a null key.
    fn key(&self) -> Option<&[u8]>;
    /// `None` is a tombstone. An empty value is a value.
    fn value(&self) -> Option<&[u8]>;
    /// The log's timestamp, in milliseconds since 1970.
    fn timestamp(&self) -> Option<i64>;
    /// The leader epoch of its write; -1 = not known.
    fn leader_epoch(&self) -> i32;
    /// In order. Names that are not UTF-8 are replaced lossily, and added to `lossy_names`.
    fn headers(&self, lossy_names: &mut u64) -> Vec<Header>;
}

/// Where a consumer starts in a partition: always a concrete offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartOffset {
    pub partition: Partition,
    /// The first offset to be read.
    pub offset: i64,
    /// The leader epoch of the record before it; -1 = not known.
    pub leader_epoch: i32,
}

/// The offsets of one partition at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    pub partition: Partition,
    pub low: i64,
    pub last_stable: i64,
    pub high: i64,
}

/// The offsets of several partitions, and the time before the query was sent.
#[derive(Debug)]
pub struct OffsetSnapshot {
    pub offsets: Vec<Offsets>,
    pub at: Instant,
    pub wall: SystemTime,
}

/// A consumer that lives for one replay.
pub trait Consumer {
    type Message<'a>: Message
    where
        Self: 'a;

    /// The next record or event, or [`Polled::Nothing`] after this time.
    fn poll(&self, wait: Duration) -> Polled<Self::Message<'_>>;

    /// Until when a broker last said that it delays its answers, because of a quota (KIP-219).
    fn throttled_until(&self) -> Option<Instant>;

    /// Why a connection to a broker last failed, if that was not before this time.
    fn failure_since(&self, time: Instant) -> Option<String>;
}

/// The outcome of sending an event to the caller.
#[derive(Debug)]
pub enum SendOutcome {
    Sent,
    /// The channel stayed full. The event is returned.
    Full(ReplayEvent),
    /// The caller has dropped the replay.
    Abandoned,
}

/// The cluster, and the caller of a replay.
pub trait Cluster {
    type Consumer: Consumer;

    /// The monotonic clock.
    fn now(&self) -> Instant;
    /// Sleeps.
    fn pause(&mut self, time: Duration);
    /// Queries the low watermark, last stable offset and high watermark of each partition from its leader.
    fn offsets(&mut self, partitions: &[Partition], deadline: Instant) -> Result<OffsetSnapshot, ReadError>;
    /// The topic, by a query sent after this call began.
    fn fetch_topic(&mut self) -> Result<Arc<Topic>, ReadError>;
    /// The topic's problem as of the last check, which is about a second old at most.
    fn problem(&self) -> Option<TopicProblem>;
    /// The topic's min.compaction.lag.ms as last read. It may be lowered at any time.
    fn min_compaction_lag(&self) -> Duration;
    /// The topic's delete.retention.ms as last read. It may be lowered at any time.
    fn delete_retention(&self) -> Duration;
    /// Creates a consumer that is assigned at these offsets.
    fn consumer(&mut self, start_offsets: &[StartOffset]) -> Result<Self::Consumer, ReadError>;
    /// Tells the caller that records were read, selected or not.
    fn count_read(&mut self, records: u64);
    /// Sends an event to the caller, and waits at most this time for room in the channel.
    fn send(&mut self, event: ReplayEvent, wait: Duration) -> SendOutcome;
    /// Whether the caller has dropped the replay.
    fn is_abandoned(&self) -> bool;
    /// Whether this process is stopping.
    fn is_closed(&self) -> bool;
}
