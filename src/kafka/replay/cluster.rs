//! What a replay asks of a cluster and of its caller, so that a simulated cluster can stand in for a real one: everything that
//! decides whether a load is whole is above this and runs the same on both.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::error::RDKafkaErrorCode;

use super::offsets::OffsetSnapshot;
use crate::{
    log::{ReadError, ReplayEvent, Topic, TopicProblem},
    model::{Header, Partition},
};

/// What a poll of a consumer gave.
#[derive(Debug)]
pub enum Polled<M> {
    /// A record, borrowed until the next poll.
    Record(M),
    /// The end of a partition, as the reader sees it now.
    End {
        /// The partition.
        partition: i32,
        /// The offset at which it ends: no record below it is still to come.
        offset: i64,
    },
    /// An error, of a partition or of the client.
    Failed {
        /// The partition; negative if it is the client's.
        partition: i32,
        /// librdkafka's code.
        code: RDKafkaErrorCode,
        /// librdkafka's words.
        text: String,
    },
    /// Nothing in time.
    Nothing,
}

/// A record as a consumer delivers it.
pub trait Message {
    /// Its partition.
    fn partition(&self) -> i32;
    /// Its offset.
    fn offset(&self) -> i64;
    /// Its key; `None` is null.
    fn key(&self) -> Option<&[u8]>;
    /// Its value; `None` is null: a tombstone. An empty one is a value.
    fn value(&self) -> Option<&[u8]>;
    /// The log's timestamp, in milliseconds since 1970.
    fn timestamp(&self) -> Option<i64>;
    /// The leader epoch it was written in; -1 = not known.
    fn leader_epoch(&self) -> i32;
    /// Its headers, in order; names that are not UTF-8 are replaced lossily, and counted.
    fn headers(&self, lossy_names: &mut u64) -> Vec<Header>;
}

/// Where a consumer begins in a partition: always a concrete offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartOffset {
    /// The partition.
    pub partition: Partition,
    /// The first offset wanted.
    pub offset: i64,
    /// The leader epoch of the record before it; -1 = not known.
    pub leader_epoch: i32,
}

/// A consumer that lives for one replay.
pub trait Consumer {
    /// A record it delivers.
    type Message<'a>: Message
    where
        Self: 'a;

    /// What comes next, within this time.
    fn poll(&self, wait: Duration) -> Polled<Self::Message<'_>>;
}

/// What became of an event that was offered to the caller.
#[derive(Debug)]
pub enum SendOutcome {
    /// The caller has it.
    Sent,
    /// Not within this time; here it is again.
    Full(ReplayEvent),
    /// Nobody listens any more.
    Abandoned,
}

/// The cluster, and the caller of a replay.
pub trait Cluster {
    /// Its consumers.
    type Consumer: Consumer;

    /// The time: monotonic.
    fn now(&self) -> Instant;
    /// Lets time pass.
    fn pause(&mut self, time: Duration);
    /// Low watermark, last stable offset and high watermark of each partition, as their leaders say now.
    fn offsets(&mut self, partitions: &[Partition], deadline: Instant) -> Result<OffsetSnapshot, ReadError>;
    /// The topic, asked after this call began.
    fn fetch_topic(&mut self) -> Result<Arc<Topic>, ReadError>;
    /// What is known to be wrong with the topic, at most a second or so old.
    fn problem(&self) -> Option<TopicProblem>;
    /// The topic's min.compaction.lag.ms as it is known now: it may be lowered at any time.
    fn min_compaction_lag(&self) -> Duration;
    /// A consumer at these places.
    fn consumer(&mut self, start_offsets: &[StartOffset]) -> Result<Self::Consumer, ReadError>;
    /// Hands an event to the caller, who may be slow.
    fn send(&mut self, event: ReplayEvent, wait: Duration) -> SendOutcome;
    /// The caller has gone.
    fn is_abandoned(&self) -> bool;
    /// This process is stopping.
    fn is_closed(&self) -> bool;
}
