//! A partitioned, compacted log: append, replay, describe. A Kafka topic is one, the embedded store another. The memory
//! log is the executable specification of these operations.
//!
//! ```text
//!   offset  0      3          7             12        15
//!           ·······#··#·#·····#·#·#·#·······#··#······
//!           ^      ^                        ^         ^
//!           |      first record that        |         high watermark = end offset: one above the last
//!           low    compaction left          |         acknowledged record (exclusive)
//!           watermark                       last stable offset: records from here on may belong to an
//!                                           open transaction
//! ```
//!
//! Every log keeps these rules. The contract suite has a test for each:
//!
//! - **An acknowledged record is durable**, and is in every replay that starts afterwards.
//! - **Order**: records of one partition get increasing offsets in the order in which they are accepted. Offsets never
//!   go back, not even over a restart. Offsets may have gaps.
//! - **Compaction** may take a record that a later record of the same key supersedes, and a tombstone that is older
//!   than the delete retention. It takes nothing else.
//! - **A replay's end is fixed** after the request and before its first record. It ends with [`ReplayEvent::End`] for
//!   every partition, or with a [`ReadError`]: never with silence, never short.
//! - **A replay never misses a key** that existed when it started and was not deleted since. That holds even if the key
//!   is overwritten all the time.
//! - Concurrent replays do not affect each other.

mod cause;
mod ends;
mod error;
mod latest;
mod memory;
mod reason;
mod replay;
mod retention;
mod selection;
mod topic;

use std::{fmt, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};

pub use cause::{MoveCause, TruncationCause};
pub use ends::{EndOffset, Ends};
pub use error::{ClockRange, Corrupt, Gone, InSync, ReadError, StoreFailure, TopicProblem, WriteError};
pub use latest::{Latest, LatestRequest};
pub use memory::MemoryLog;
pub use replay::{
    Follow, PROGRESS_INTERVAL, PartitionEnd, ReadCounter, Replay, ReplayEvent, ReplayRequest, ReplaySender, StartAt,
};
pub use retention::{
    DELETE_RETENTION_FLAG, DELETE_RETENTION_PROPERTY, MIN_DELETE_RETENTION, short_retention,
    short_retention_of_followers,
};
pub use selection::{Class, Counts, Keys, Selection};
pub use topic::{Topic, TopicState};

use crate::model::{Headers, Key, Partition, Position};

/// The kind of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// On disk, in the data directory.
    Embedded,
    /// A Kafka topic.
    Kafka,
    /// In memory. Records are lost when the process ends.
    Memory,
}

impl fmt::Display for StoreKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "embedded",
            Self::Kafka => "kafka",
            Self::Memory => "memory",
        })
    }
}

/// A record to append.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// The partition of its workspace; see `WriteTarget::record`.
    pub partition: Partition,
    /// The full key.
    pub key: Key,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
}

/// An acknowledged record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The partition and offset of the record.
    pub position: Position,
    /// The timestamp that the log gave it, in milliseconds since 1970; `None` if the log has none.
    pub timestamp: Option<i64>,
}

/// The outcome of an accepted record. If the sender is dropped without a value, the outcome is unknown.
pub type PendingAppend = oneshot::Receiver<Result<Appended, WriteError>>;

/// The queue of accepted records that have no outcome yet.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WriteQueue {
    /// How many there are.
    pub writes: u64,
    /// How many the queue takes at most. Its bytes may refuse a record earlier.
    pub max_writes: u64,
    /// Bytes of memory that they take.
    pub bytes: usize,
    /// How many bytes the queue takes at most.
    pub max_bytes: usize,
    /// The used part of the queue that refuses a record first, of its records or bytes: from 0 to 1. A log may have
    /// several, each for a part of the workspaces.
    pub fullest: f64,
}

/// One partition, as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionState {
    /// The partition.
    pub partition: Partition,
    /// The broker id of its leader; -1 if it has none.
    pub leader: i32,
    /// The low watermark.
    pub low: i64,
    /// The last stable offset.
    pub last_stable: i64,
    /// The high watermark.
    pub high: i64,
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Writes, loads or both may fail until it is fixed.
    Error,
    /// Works, but an assumption of a promise does not hold.
    Warning,
    /// Worth knowing.
    Info,
}

/// A fact about the topic, the store or the log that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The severity.
    pub severity: Severity,
    /// UPPER_SNAKE, stable.
    pub code: &'static str,
    /// The fact, the reason and the remedy.
    pub message: String,
}

/// A description of the log as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The name of the topic, from the configuration.
    pub name: String,
    /// The topic, if it is known.
    pub topic: Option<Arc<Topic>>,
    /// The partitions in order; empty if they are not known.
    pub partitions: Vec<PartitionState>,
    /// Facts that an operator should know.
    pub findings: Vec<Finding>,
}

/// A partitioned, compacted log; see the module for the rules.
#[async_trait]
pub trait Log: Send + Sync + fmt::Debug + 'static {
    /// The kind of this log.
    fn kind(&self) -> StoreKind;

    /// The state of the topic, and every change of it. Readiness depends on it.
    fn topic_state(&self) -> watch::Receiver<TopicState>;

    /// The topic, checked within the last second. Waits for the brokers for a limited time.
    async fn topic(&self) -> Result<Arc<Topic>, ReadError>;

    /// The topic, checked after this call began.
    async fn confirm(&self) -> Result<Arc<Topic>, ReadError> {
        self.topic().await
    }

    /// The ends of the partitions, asked for after this call began. Every record that was acknowledged before is below
    /// them. They may be of a topic that was created again: only [`Log::confirm`] after them says that they are not.
    async fn ends(&self, partitions: &[Partition], deadline: Instant) -> Result<Ends, ReadError> {
        let (asked_at, asked_at_wall) = (Instant::now(), SystemTime::now());
        let late = |_| ReadError::Unreachable { cause: "no answer before the deadline".to_owned() };
        let described = async {
            // A description has findings where a read has errors.
            self.topic().await?;
            Ok::<_, ReadError>(self.describe().await.partitions)
        };
        let found = timeout_at(deadline, described).await.map_err(late)??;
        let end = |partition: &Partition| match found.iter().find(|state| state.partition == *partition) {
            Some(state) => Ok(EndOffset { partition: *partition, offset: state.high, leader_epoch: -1 }),
            None => Err(ReadError::Unreachable { cause: format!("the end of partition {partition} is not known") }),
        };
        Ok(Ends { ends: partitions.iter().map(end).collect::<Result<_, _>>()?, asked_at, asked_at_wall })
    }

    /// Accepts or refuses a record. Never blocks. Records of a partition are written in the order of the calls. `Err`
    /// means that the record was not written and never will be.
    fn append(&self, record: NewRecord) -> Result<PendingAppend, WriteError>;

    /// The accepted records without an outcome, as the log counts them for its queue limits.
    fn queue(&self) -> WriteQueue;

    /// Whether a replay reads whole partitions, whatever it selects. Then one replay of a partition may serve several
    /// loads, and counts what it reads: see [`Replay::records_read`].
    fn reads_whole_partitions(&self) -> bool {
        false
    }

    /// Takes the end offsets of the partitions and starts to read. An empty partition ends without reading. Errors
    /// before the first record are returned as `Err`, later ones through the [`Replay`].
    async fn replay(&self, request: ReplayRequest) -> Result<Replay, ReadError>;

    /// The latest record of each selected key, from an index, as whole as a replay from the low watermark. `None` if
    /// the log has no index, or the records take more memory than they may: then a replay has them.
    async fn latest(&self, _request: LatestRequest) -> Result<Option<Latest>, ReadError> {
        Ok(None)
    }

    /// Describes the log as it is now. Facts that are not available are findings, not errors.
    async fn describe(&self) -> Description;

    /// Refuses new records and waits until the deadline for accepted ones. Returns how many have no outcome yet.
    async fn close(&self, deadline: Instant) -> u64;
}
