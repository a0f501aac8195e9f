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
mod error;
mod memory;
mod reason;
mod retention;
mod selection;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

pub use cause::{MoveCause, TruncationCause};
pub use error::{ClockRange, Corrupt, Gone, InSync, ReadError, StoreFailure, TopicProblem, WriteError};
pub use memory::MemoryLog;
pub use retention::{
    DELETE_RETENTION_FLAG, DELETE_RETENTION_PROPERTY, MIN_DELETE_RETENTION, short_retention,
    short_retention_of_followers,
};
pub use selection::{Class, Counts, Keys, Selection};

use crate::model::{Headers, Key, Partition, PartitionCount, Position, Record};

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

/// The topic that is served. Once it is known, it does not change while the process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// The name of the topic; for the embedded store, of the data directory.
    pub name: String,
    /// The topic id in Kafka's base64 form; for other stores, the id of the store.
    pub id: String,
    /// The partition count that the log has.
    pub partition_count: PartitionCount,
    /// The largest value that fits next to the longest key and headers, in bytes; `None` if there is no limit or it is
    /// not known.
    pub max_value_bytes: Option<usize>,
    /// How long tombstones are kept (delete.retention.ms).
    pub delete_retention: Duration,
}

/// Whether writes and loads are possible, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicState {
    /// The brokers can't be reached, or were not reached yet.
    Unreachable {
        /// The error.
        cause: String,
        /// The topic that was served before; `None` if none was.
        topic: Option<Arc<Topic>>,
    },
    /// The topic is served.
    Ready(Arc<Topic>),
    /// The topic is refused. The state can change again, unless another topic has taken its place.
    Invalid(TopicProblem),
    /// The store failed. The state is final until the store is opened again.
    Failed(StoreFailure),
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

/// Where a replay starts in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At the low watermark.
    Low,
    /// At an offset, which must be within the log: low watermark <= offset <= end.
    Offset {
        /// The first offset to read.
        offset: i64,
        /// The leader epoch of the record before it, so that the log can notice a truncation. Negative if it is not
        /// known: as the log returned it with the offset.
        leader_epoch: i32,
    },
}

/// A request for a replay.
#[derive(Debug, Clone)]
pub struct ReplayRequest {
    /// The topic that the caller computed partitions for. A topic with another id is refused.
    pub topic: Arc<Topic>,
    /// The partitions to read, and where to start. Not empty, and no partition twice.
    pub partitions: Vec<(Partition, StartAt)>,
    /// Which records to deliver.
    pub selection: Selection,
    /// Whether to continue after the end offsets.
    pub follow: bool,
    /// Whether each record must own its bytes. Otherwise the records of a batch may share a buffer, which stays in
    /// memory as long as one of them. Set it to keep some records of a batch.
    pub owned_records: bool,
    /// The deadline for the end offsets. A following replay has none after them.
    pub deadline: Instant,
}

/// The end of a partition was reached: every selected record in `[start, end)` has been delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionEnd {
    /// The partition.
    pub partition: Partition,
    /// The offset at which the replay started.
    pub start: i64,
    /// The end offset, exclusive: the high watermark after the request arrived, or a later one.
    pub end: i64,
    /// Counts of all records in the range.
    pub counts: Counts,
    /// The leader epoch of the last record that was read; negative if it is not known.
    pub leader_epoch: i32,
    /// The time at which the end offset was taken.
    pub at_end: SystemTime,
}

impl PartitionEnd {
    /// The end of an empty partition.
    pub(crate) fn empty(partition: Partition) -> Self {
        let counts = Counts::default();
        Self { partition, start: 0, end: 0, counts, leader_epoch: -1, at_end: SystemTime::now() }
    }
}

/// An event of a replay. Events of one partition come in the order of offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayEvent {
    /// Selected records of one partition, in the order of offsets.
    Records {
        /// The partition.
        partition: Partition,
        /// The records; never empty.
        records: Vec<Record>,
        /// The leader epoch of the last record; negative if it is not known.
        leader_epoch: i32,
    },
    /// The end of a partition. Sent once for each partition.
    End(PartitionEnd),
    /// Every selected record below `next_offset` has been delivered. Only with `follow`, after the end of the
    /// partition.
    Progress {
        /// The partition.
        partition: Partition,
        /// The next offset to read.
        next_offset: i64,
        /// The leader epoch of the last record that was read; negative if it is not known.
        leader_epoch: i32,
        /// Counts of all records since the last event with counts.
        counts: Counts,
        /// A time at which the reader had read all records; `None` if records were left to read.
        at_end: Option<SystemTime>,
    },
    /// Records were read, selected or not. Distinguishes a replay that makes progress from a stalled one. Only without
    /// `follow`, from logs whose replays are shared.
    Moving,
}

/// The interval of [`ReplayEvent::Moving`].
pub const MOVING_INTERVAL: Duration = Duration::from_millis(100);

/// The interval of [`ReplayEvent::Progress`] of a following replay, even if no record is selected.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Batches that a replay may be ahead of its receiver.
pub const REPLAY_BATCHES_AHEAD: usize = 4;

/// A running replay. Dropping it stops the replay.
#[derive(Debug)]
pub struct Replay {
    events: mpsc::Receiver<Result<ReplayEvent, ReadError>>,
}

impl Replay {
    /// A channel. The backend owns the sender.
    pub fn channel() -> (mpsc::Sender<Result<ReplayEvent, ReadError>>, Self) {
        let (sender, events) = mpsc::channel(REPLAY_BATCHES_AHEAD);
        (sender, Self { events })
    }

    /// The next event; `None` after the end of the last partition (never with `follow`), or after an error.
    pub async fn next(&mut self) -> Option<Result<ReplayEvent, ReadError>> {
        self.events.recv().await
    }
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

    /// Accepts or refuses a record. Never blocks. Records of a partition are written in the order of the calls. `Err`
    /// means that the record was not written and never will be.
    fn append(&self, record: NewRecord) -> Result<PendingAppend, WriteError>;

    /// The accepted records without an outcome, as the log counts them for its queue limits.
    fn queue(&self) -> WriteQueue;

    /// Takes the end offsets of the partitions and starts to read. An empty partition ends without reading. Errors
    /// before the first record are returned as `Err`, later ones through the [`Replay`].
    async fn replay(&self, request: ReplayRequest) -> Result<Replay, ReadError>;

    /// Describes the log as it is now. Facts that are not available are findings, not errors.
    async fn describe(&self) -> Description;

    /// Refuses new records and waits until the deadline for accepted ones. Returns how many have no outcome yet.
    async fn close(&self, deadline: Instant) -> u64;
}
