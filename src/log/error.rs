//! What can go wrong in a log, an enum an operation. Each says what callers act on; none is a gRPC status.

use std::time::Duration;

use crate::model::Partition;

/// The topic is not the one this process may serve. Retrying does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicProblem {
    /// No such topic.
    #[error("topic {topic:?} does not exist; create it with `changelogd topic ensure`")]
    NotFound {
        /// Its name.
        topic: String,
    },
    /// Its cleanup.policy is not exactly `compact`: live keys would be removed by age.
    #[error(
        "topic {topic:?} has cleanup.policy={policy}, which must be exactly compact, else live keys are removed by age"
    )]
    NotCompacted {
        /// Its name.
        topic: String,
        /// What it has.
        policy: String,
    },
    /// Not the expected count, or grown: workspaces would be looked for in partitions that do not hold them.
    #[error("topic {topic:?} has {actual} partitions where {expected} are expected{}", if *final_ { "; it changed while this process ran: restart to adopt it, after moving the records of re-homed workspaces" } else { "" })]
    PartitionCountChanged {
        /// Its name.
        topic: String,
        /// What was configured, or seen before.
        expected: i32,
        /// What it has.
        actual: i32,
        /// Changed under the running process.
        final_: bool,
    },
    /// Deleted and created again under the running process.
    #[error("topic {topic:?} was deleted and created again (id {was} is now {now}); restart to adopt it")]
    Recreated {
        /// Its name.
        topic: String,
        /// The id served.
        was: String,
        /// The id it has.
        now: String,
    },
    /// The broker does not let our principal do this.
    #[error("the broker does not authorize this deployment to {what}: {cause}")]
    NotAuthorized {
        /// The operation and its topic or group.
        what: String,
        /// The broker's words.
        cause: String,
    },
}

impl TopicProblem {
    /// UPPER_SNAKE, stable: the reason of a status, the code of a finding.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "TOPIC_NOT_FOUND",
            Self::NotCompacted { .. } => "TOPIC_NOT_COMPACTED",
            Self::PartitionCountChanged { .. } => "PARTITION_COUNT_CHANGED",
            Self::Recreated { .. } => "TOPIC_RECREATED",
            Self::NotAuthorized { .. } => "NOT_AUTHORIZED_BY_BROKER",
        }
    }
}

/// Why a write failed, and whether it may have landed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The topic is wrong; nothing was written.
    #[error(transparent)]
    Topic(#[from] TopicProblem),
    /// The queue is full; nothing was written.
    #[error("the write queue is full ({limit})")]
    QueueFull {
        /// What is full, with its limit.
        limit: String,
    },
    /// Over what the topic takes; nothing was written.
    #[error("the record has {got} bytes, the topic takes at most {limit}")]
    TooLarge {
        /// The topic's max.message.bytes, less the record's overhead.
        limit: usize,
        /// Bytes of key, value and headers.
        got: usize,
    },
    /// The brokers could not be reached in time; nothing was written.
    #[error("nothing was written: {cause}")]
    Unreachable {
        /// librdkafka's words.
        cause: String,
    },
    /// Fewer in-sync replicas than min.insync.replicas; nothing was written.
    #[error("nothing was written: {cause}")]
    NotEnoughReplicas {
        /// The broker's words.
        cause: String,
    },
    /// This process is stopping; nothing was written.
    #[error("nothing was written: this process is draining")]
    Draining,
    /// The disk is full; nothing was written.
    #[error("nothing was written: the disk is full: {cause}")]
    DiskFull {
        /// The system's words.
        cause: String,
    },
    /// The store takes no writes; nothing was written.
    #[error("nothing was written: the store is read-only: {cause}")]
    ReadOnly {
        /// What made it so.
        cause: String,
    },
    /// The store is corrupt; nothing was written.
    #[error("nothing was written: {0}")]
    Corrupt(#[from] Corrupt),
    /// It may have been written, and may still be.
    #[error("the outcome is not known: {cause}")]
    OutcomeUnknown {
        /// By a time limit, and not otherwise.
        by_time: bool,
        /// What happened.
        cause: String,
    },
}

/// Why a store that was opened takes no writes any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailure {
    /// What was committed can be read.
    #[error("the store takes no writes: {cause}; mend the cause and restart")]
    ReadOnly {
        /// What made it so.
        cause: String,
    },
    /// Nothing is served.
    #[error("{0}; nothing is served: restore the directory from a copy")]
    Corrupt(#[from] Corrupt),
}

impl From<StoreFailure> for WriteError {
    fn from(failure: StoreFailure) -> Self {
        match failure {
            StoreFailure::ReadOnly { cause } => Self::ReadOnly { cause },
            StoreFailure::Corrupt(corrupt) => Self::Corrupt(corrupt),
        }
    }
}

/// The embedded store can't be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store is corrupt: {detail}")]
pub struct Corrupt {
    /// What, and in which file where that is known.
    pub detail: String,
}

impl ReadError {
    /// A reader that fell behind by so long that tombstones which it has not seen may have been taken away.
    pub fn follower_lagged(partition: Partition, lag: Duration, limit: Duration) -> Self {
        let cause = format!(
            "the reader was away from the end for {} ms, and tombstones may be gone after delete.retention.ms / 2 = {} ms",
            lag.as_millis(),
            limit.as_millis()
        );
        Self::Moved { partition, cause }
    }
}

/// Why a replay ended without its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The topic is wrong.
    #[error(transparent)]
    Topic(#[from] TopicProblem),
    /// The brokers, or a partition's leader, can't be reached; or no progress within the bound.
    #[error("can't be read now: {cause}")]
    Unreachable {
        /// What, where and for how long.
        cause: String,
    },
    /// Acknowledged records are hidden behind an open transaction.
    #[error(
        "partition {partition}: an open transaction hides the records from the last stable offset {last_stable} to the \
         high watermark {high}; find it with kafka-transactions.sh --describe-producers"
    )]
    OpenTransaction {
        /// Where.
        partition: Partition,
        /// The last stable offset.
        last_stable: i64,
        /// The high watermark to be reached.
        high: i64,
    },
    /// The log lost records that were to be read.
    #[error("partition {partition}: the log changed while it was read: {cause}; start again")]
    Truncated {
        /// Where.
        partition: Partition,
        /// What was seen.
        cause: String,
    },
    /// The end ran away: compaction may have taken what was below it.
    #[error("partition {partition}: the log moved faster than it could be read: {cause}; start again")]
    Moved {
        /// Where.
        partition: Partition,
        /// What was seen.
        cause: String,
    },
    /// The offset to start from is not within the log.
    #[error("partition {partition}: offset {offset} is outside the log, {low} to {end}")]
    OffsetOutOfRange {
        /// Where.
        partition: Partition,
        /// Asked for.
        offset: i64,
        /// The low watermark.
        low: i64,
        /// The high watermark.
        end: i64,
    },
    /// The caller's deadline, or the server's cap, passed.
    #[error("the deadline passed while partition {partition} was at offset {position} of {end}")]
    Deadline {
        /// Where.
        partition: Partition,
        /// The next offset to be read.
        position: i64,
        /// The end offset.
        end: i64,
    },
    /// This process is stopping.
    #[error("this process is draining")]
    Draining,
    /// The store is corrupt.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
}
