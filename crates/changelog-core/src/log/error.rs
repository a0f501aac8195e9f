//! Errors of a log: one enum for each operation. The variants are what callers act on. None is a gRPC status.

use std::{path::PathBuf, time::Duration};

use super::{
    cause::{MoveCause, TruncationCause},
    retention::MIN_DELETE_RETENTION,
};
use crate::model::Partition;

/// The process may not serve this topic. Retrying does not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicProblem {
    /// No such topic.
    #[error("topic {topic:?} does not exist; create it with `changelogd topic ensure`")]
    NotFound {
        /// The name of the topic.
        topic: String,
    },
    /// No such topic, and it can't be created now.
    #[error("topic {topic:?} does not exist and can't be created: {cause}")]
    NotCreated {
        /// The name of the topic.
        topic: String,
        /// The error of the brokers.
        cause: String,
    },
    /// Its cleanup.policy is not exactly `compact`, so records of existing keys would be removed by age.
    #[error(
        "topic {topic:?} has cleanup.policy={policy}, which must be exactly compact, else live keys are removed by age"
    )]
    NotCompacted {
        /// The name of the topic.
        topic: String,
        /// The policy that it has.
        policy: String,
    },
    /// The partition count is not the configured one. Workspaces would be read from the wrong partitions.
    #[error("topic {topic:?} has {actual} partitions where {expected} are expected")]
    PartitionCountMismatch {
        /// The name of the topic.
        topic: String,
        /// The configured count.
        expected: i32,
        /// The count that it has.
        actual: i32,
    },
    /// The partition count changed while the process ran. Workspaces would be read from the wrong partitions.
    #[error(
        "topic {topic:?} has {actual} partitions where {expected} are expected; it changed while this process ran: \
         restart to adopt it, after moving the records of re-homed workspaces"
    )]
    PartitionCountChanged {
        /// The name of the topic.
        topic: String,
        /// The count seen before.
        expected: i32,
        /// The count that it has.
        actual: i32,
    },
    /// It was deleted and created again while the process ran.
    #[error("topic {topic:?} was deleted and created again (id {was} is now {now}); restart to adopt it")]
    Recreated {
        /// The name of the topic.
        topic: String,
        /// The id served.
        was: String,
        /// The id it has.
        now: String,
    },
    /// The broker does not authorize our principal.
    #[error("the broker does not authorize this deployment to {what}: {cause}")]
    NotAuthorized {
        /// The operation, and its topic or group.
        what: String,
        /// The error of the broker.
        cause: String,
    },
}

impl TopicProblem {
    /// The reason of a status and the code of a finding. Stable, in UPPER_SNAKE.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotFound { .. } | Self::NotCreated { .. } => "TOPIC_NOT_FOUND",
            Self::NotCompacted { .. } => "TOPIC_NOT_COMPACTED",
            Self::PartitionCountMismatch { .. } | Self::PartitionCountChanged { .. } => "PARTITION_COUNT_CHANGED",
            Self::Recreated { .. } => "TOPIC_RECREATED",
            Self::NotAuthorized { .. } => "NOT_AUTHORIZED_BY_BROKER",
        }
    }
}

/// Why a write failed. Only with `OutcomeUnknown` it may have been written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The topic may not be served; nothing was written.
    #[error(transparent)]
    Topic(#[from] TopicProblem),
    /// The queue is full; nothing was written.
    #[error("the write queue is full ({limit})")]
    QueueFull {
        /// The limit that is reached.
        limit: String,
    },
    /// The record is larger than the topic accepts; nothing was written.
    #[error("the record has {got} bytes, the topic takes at most {limit}")]
    TooLarge {
        /// The topic's max.message.bytes minus the overhead of a record.
        limit: usize,
        /// Bytes of key, value and headers.
        got: usize,
    },
    /// The brokers could not be reached in time; nothing was written.
    #[error("nothing was written: {cause}")]
    Unreachable {
        /// The error of librdkafka.
        cause: String,
    },
    /// Fewer in-sync replicas than min.insync.replicas; nothing was written.
    #[error("nothing was written: {cause}")]
    NotEnoughReplicas {
        /// The error of the broker.
        cause: String,
        /// The number of replicas, if it is known.
        replicas: Option<InSync>,
    },
    /// The log rejects the timestamp of the record, so this clock or the log's is wrong; nothing was written.
    #[error("nothing was written: {cause}")]
    ClockSkew {
        /// The error of the broker, the clock and the range.
        cause: String,
        /// The clock of this machine and the range.
        clock: ClockRange,
    },
    /// This process is stopping; nothing was written.
    #[error("nothing was written: this process is draining")]
    Draining,
    /// The system gives no files or memory now; nothing was written.
    #[error("nothing was written: the system has no files or memory left: {cause}")]
    OutOfFiles {
        /// The error of the system.
        cause: String,
    },
    /// The disk is full; nothing was written.
    #[error("nothing was written: the disk is full: {cause}")]
    DiskFull {
        /// The error of the system.
        cause: String,
    },
    /// The store takes no writes; nothing was written.
    #[error("nothing was written: the store is read-only: {cause}")]
    ReadOnly {
        /// The reason.
        cause: String,
    },
    /// The store is corrupt; nothing was written.
    #[error("nothing was written: {0}")]
    Corrupt(#[from] Corrupt),
    /// The store's directory was removed or replaced; nothing was written.
    #[error("nothing was written: {0}")]
    StoreGone(#[from] Gone),
    /// A fault of this process, or of the disk as it was read; nothing was written.
    #[error("nothing was written: {cause}")]
    Fault {
        /// What failed.
        cause: String,
    },
    /// The record may have been written, or may still be.
    #[error("the outcome is not known: {cause}")]
    OutcomeUnknown {
        /// Whether a time limit was the reason.
        by_time: bool,
        /// The reason.
        cause: String,
    },
}

/// The replicas of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InSync {
    /// The partition.
    pub partition: Partition,
    /// Its replicas in sync.
    pub in_sync: usize,
    /// min.insync.replicas.
    pub min: i64,
}

/// The clock of this machine, and the timestamps that a topic takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClockRange {
    /// The time on this machine, as in RFC 3339.
    pub now: String,
    /// message.timestamp.before.max.ms.
    pub before_ms: i64,
    /// message.timestamp.after.max.ms.
    pub after_ms: i64,
}

/// Why an open store no longer accepts writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailure {
    /// Reads are still served.
    #[error("the store takes no writes: {cause}; fix the cause and restart")]
    ReadOnly {
        /// The reason.
        cause: String,
    },
    /// Nothing is served.
    #[error("{0}; nothing is served: import an export into a new directory, or restore a copy")]
    Corrupt(#[from] Corrupt),
    /// Nothing is served, because a restart would lose what reads show.
    #[error("{0}; nothing is served: put the directory back, and restart")]
    Gone(#[from] Gone),
    /// A part of this process ended. Reads are still served.
    #[error("the store takes no writes after a fault of changelogd: {cause}; the log has the cause: restart")]
    Fault {
        /// What ended.
        cause: String,
    },
}

impl StoreFailure {
    /// The reason of a status and the code of a finding. Stable, in UPPER_SNAKE.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::ReadOnly { .. } => "STORE_READ_ONLY",
            Self::Corrupt(_) => "STORE_CORRUPT",
            Self::Gone(_) => "STORE_GONE",
            Self::Fault { .. } => "INTERNAL_FAULT",
        }
    }

    /// The error of a read. `None` if reads are still served.
    pub fn read_error(&self) -> Option<ReadError> {
        match self {
            Self::ReadOnly { .. } | Self::Fault { .. } => None,
            Self::Corrupt(corrupt) => Some(corrupt.clone().into()),
            Self::Gone(gone) => Some(gone.clone().into()),
        }
    }
}

impl From<StoreFailure> for WriteError {
    fn from(failure: StoreFailure) -> Self {
        match failure {
            StoreFailure::ReadOnly { cause } => Self::ReadOnly { cause },
            StoreFailure::Corrupt(corrupt) => Self::Corrupt(corrupt),
            StoreFailure::Gone(gone) => Self::StoreGone(gone),
            fault @ StoreFailure::Fault { .. } => Self::Fault { cause: fault.to_string() },
        }
    }
}

/// The embedded store is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store is corrupt: {detail}")]
pub struct Corrupt {
    /// The damage, and the file if it is known.
    pub detail: String,
}

/// The directory of the embedded store, or a file of it, is not the one that was opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store in {} is gone: {cause}", dir.display())]
pub struct Gone {
    /// The data directory.
    pub dir: PathBuf,
    /// Which file is missing or another one.
    pub cause: String,
}

impl ReadError {
    /// The error for a reader that took so long that tombstones which it has not read may be gone. `setting` names what
    /// sets how long they stay.
    pub fn too_slow(partition: Partition, read: Duration, retention: Duration, setting: &'static str) -> Self {
        let (read_ms, retention_ms) = (read.as_millis(), retention.as_millis());
        if retention < MIN_DELETE_RETENTION {
            return Self::RetentionTooShort { partition, read_ms, retention_ms, setting };
        }
        Self::Moved { partition, cause: MoveCause::TooSlow { read_ms, retention_ms, setting } }
    }
}

/// Why a replay ended before its end offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The topic may not be served.
    #[error(transparent)]
    Topic(#[from] TopicProblem),
    /// The brokers or the leader of a partition can't be reached.
    #[error("can't be read now: {cause}")]
    Unreachable {
        /// The error, with topic, partition and time.
        cause: String,
    },
    /// The replay made no progress for too long.
    #[error(
        "can't be read now: partition {partition}: no progress for {seconds} s at offset {position} of {end}{}",
        cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default()
    )]
    NoProgress {
        /// The partition.
        partition: Partition,
        /// The next offset to read.
        position: i64,
        /// The end offset.
        end: i64,
        /// How long nothing was read.
        seconds: u64,
        /// The last failure of a connection in this time, if there was one.
        cause: Option<String>,
    },
    /// The replay ended without an event for the end of the partition. It must not be taken for the end.
    #[error("can't be read now: the replay of partition {partition} ended before its end offset")]
    EndedEarly {
        /// The partition.
        partition: Partition,
    },
    /// An error of this process: a thread that can't be had or panicked, or a replay that its caller has dropped.
    #[error("can't be read now: {cause}")]
    Internal {
        /// The error.
        cause: String,
    },
    /// The system gives no files, threads or memory now.
    #[error("can't be read now: the system has no files or memory left: {cause}")]
    OutOfFiles {
        /// The error of the system.
        cause: String,
    },
    /// Acknowledged records are hidden behind an open transaction.
    #[error(
        "partition {partition}: an open transaction hides the records from the last stable offset {last_stable} to the \
         high watermark {high}; find it with kafka-transactions.sh --bootstrap-server BROKER describe-producers \
         --topic TOPIC --partition {partition}"
    )]
    OpenTransaction {
        /// The partition.
        partition: Partition,
        /// The last stable offset.
        last_stable: i64,
        /// The high watermark, which is the end offset.
        high: i64,
    },
    /// The log lost records that the replay had to read.
    #[error("partition {partition}: the log changed while it was read: {cause}; start again")]
    Truncated {
        /// The partition.
        partition: Partition,
        /// What is missing.
        cause: TruncationCause,
    },
    /// The replay was too slow: compaction may have removed records that it had to read.
    #[error("partition {partition}: the log moved faster than it could be read: {cause}; start again")]
    Moved {
        /// The partition.
        partition: Partition,
        /// The times or offsets.
        cause: MoveCause,
    },
    /// The log keeps tombstones for so short a time that no reader can be sure to have seen them.
    #[error(
        "partition {partition}: it has been read for {read_ms} ms without reaching the end, and tombstones may be gone \
         after half of {setting}, which is {retention_ms} ms: raise it"
    )]
    RetentionTooShort {
        /// The partition.
        partition: Partition,
        /// How long the reader was not at the end, in milliseconds.
        read_ms: u128,
        /// How long tombstones stay, in milliseconds.
        retention_ms: u128,
        /// What sets that time.
        setting: &'static str,
    },
    /// The start offset is outside the log.
    #[error("partition {partition}: offset {offset} is outside the log, {low} to {end}")]
    OffsetOutOfRange {
        /// The partition.
        partition: Partition,
        /// The start offset.
        offset: i64,
        /// The low watermark.
        low: i64,
        /// The high watermark.
        end: i64,
    },
    /// The deadline of the caller, or the limit of the server, passed.
    #[error("the deadline passed while partition {partition} was at offset {position} of {end}")]
    Deadline {
        /// The partition.
        partition: Partition,
        /// The next offset to read.
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
    /// The store's directory was removed or replaced.
    #[error("can't be read: {0}")]
    StoreGone(#[from] Gone),
}
