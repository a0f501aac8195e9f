//! A partitioned, compacted log: append, replay, describe. Kafka is one, the embedded store another; the memory log is the
//! executable specification of what the verbs mean.
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
//! Rules that every log keeps, each with a test of the contract suite:
//!
//! - **An acknowledged record is durable**, and is in every replay that begins afterwards.
//! - **Order**: records accepted one after another for one partition get increasing offsets; offsets never go back, also
//!   not over a restart. Offsets may have holes.
//! - **Compaction** may take a record that a later record of the same key supersedes, and a tombstone that is older than the
//!   delete retention. It takes nothing else.
//! - **A replay's end is fixed** after the request and before its first record. It ends with [`ReplayEvent::End`] for every
//!   partition, or with a [`ReadError`]: never with silence, never short.
//! - **A replay never misses a key** that existed when it began and was not deleted since, even if the key is overwritten all
//!   the while.
//! - Concurrent replays do not see each other.

mod error;
mod memory;
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

pub use error::{Corrupt, ReadError, StoreFailure, TopicProblem, WriteError};
pub use memory::MemoryLog;
pub use selection::{Class, Counts, Keys, Selection};

use crate::model::{Headers, Key, Partition, PartitionCount, Record};

/// Which log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// On disk, in the data directory.
    Embedded,
    /// A Kafka topic.
    Kafka,
    /// In memory, gone with the process.
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

/// The topic that is served: fixed for the life of the process once it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name; of the embedded store, that of the data directory.
    pub name: String,
    /// Its id, in Kafka's base64 form; of other stores, the store's.
    pub id: String,
    /// Its real partition count.
    pub partition_count: PartitionCount,
    /// The largest value it takes beside the longest key and headers, in bytes; `None` if it sets no limit or it is not known.
    pub max_value_bytes: Option<usize>,
    /// How long tombstones stay (delete.retention.ms).
    pub delete_retention: Duration,
}

/// Whether writes and loads are possible, as far as is known now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicState {
    /// Nothing is known yet, or the brokers can't be reached; `topic` is the one seen before.
    Unreachable {
        /// What failed.
        cause: String,
        /// The topic that was served before the brokers were lost.
        topic: Option<Arc<Topic>>,
    },
    /// Served.
    Ready(Arc<Topic>),
    /// Refused; recoverable unless the problem is one of identity.
    Invalid(TopicProblem),
    /// The store itself failed; final until it is opened again.
    Failed(StoreFailure),
}

/// A record to be appended.
#[derive(Debug, Clone)]
pub struct NewRecord {
    /// Its partition: that of the key's workspace.
    pub partition: Partition,
    /// Its key.
    pub key: Key,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Headers,
}

/// Where the log put a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Its offset.
    pub offset: i64,
    /// The log's timestamp, in milliseconds since 1970.
    pub timestamp: Option<i64>,
}

/// An accepted record's outcome, when it is known. A sender that is dropped without an answer means that the outcome is not
/// known.
pub type PendingAppend = oneshot::Receiver<Result<Appended, WriteError>>;

/// Where a replay starts in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// At the low watermark.
    Low,
    /// At an offset, which must be within the log: low watermark <= offset <= end.
    Offset {
        /// The first offset wanted.
        offset: i64,
        /// The leader epoch of the record before it, by which the log can notice a truncation; -1 = not known.
        leader_epoch: i32,
    },
}

/// What to replay.
#[derive(Debug, Clone)]
pub struct ReplayRequest {
    /// The topic that the caller computed partitions for; another identity is refused.
    pub topic: Arc<Topic>,
    /// Where to start, for each wanted partition; not empty, no partition twice.
    pub partitions: Vec<(Partition, StartAt)>,
    /// Which records to deliver.
    pub selection: Selection,
    /// Go on after the ends.
    pub follow: bool,
    /// Each record is to hold no more than its own bytes, for whoever keeps some of them: else those of a batch may share a buffer,
    /// all of which lasts as long as any of them.
    pub owned_records: bool,
    /// When to give up (until the ends: a replay that follows has none after them).
    pub deadline: Instant,
}

/// A partition's end was reached: every wanted record in `[start, end)` has been delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionEnd {
    /// The partition.
    pub partition: Partition,
    /// Where reading began.
    pub start: i64,
    /// The end offset, exclusive: the high watermark after the request arrived, or a later one.
    pub end: i64,
    /// What was met, before filters.
    pub counts: Counts,
    /// The leader epoch of the last record met; -1 = not known.
    pub leader_epoch: i32,
    /// A time at which the reader was at the log's end: when the end offset was taken.
    pub at_end: SystemTime,
}

impl PartitionEnd {
    /// Of an empty partition.
    pub(crate) fn empty(partition: Partition) -> Self {
        let counts = Counts::default();
        Self { partition, start: 0, end: 0, counts, leader_epoch: -1, at_end: SystemTime::now() }
    }
}

/// What a replay delivers. Events of one partition come in offset order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayEvent {
    /// Wanted records of one partition, in offset order.
    Records {
        /// The partition.
        partition: Partition,
        /// Never empty.
        records: Vec<Record>,
        /// The leader epoch of the last one; -1 = not known.
        leader_epoch: i32,
    },
    /// A partition's end; once a partition.
    End(PartitionEnd),
    /// Only with `follow`, after a partition's end: everything wanted below `next_offset` has been delivered.
    Progress {
        /// The partition.
        partition: Partition,
        /// The next offset to be read.
        next_offset: i64,
        /// The leader epoch of the last record met; -1 = not known.
        leader_epoch: i32,
        /// What was met since the last event that counted, before filters.
        counts: Counts,
        /// Set if nothing was left to read at that time.
        at_end: Option<SystemTime>,
    },
    /// Only without `follow`, from logs whose replays are shared: records were read, though none of them may be wanted. So a
    /// replay that goes on is told from one that stands still.
    Moving,
}

/// How long a replay that reads keeps silent at most, where [`ReplayEvent::Moving`] is sent.
pub const MOVING_INTERVAL: Duration = Duration::from_millis(100);

/// How often a following replay says how far it is, also if nothing matched.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// How many batches a replay may be ahead of its reader.
pub const REPLAY_BATCHES_AHEAD: usize = 4;

/// A running replay. Dropping it stops the replay.
#[derive(Debug)]
pub struct Replay {
    events: mpsc::Receiver<Result<ReplayEvent, ReadError>>,
}

impl Replay {
    /// A channel whose sender the backend's reading thread owns.
    pub fn channel() -> (mpsc::Sender<Result<ReplayEvent, ReadError>>, Self) {
        let (sender, events) = mpsc::channel(REPLAY_BATCHES_AHEAD);
        (sender, Self { events })
    }

    /// The next event; `None` after the last partition's end (never with `follow`), or after an error.
    pub async fn next(&mut self) -> Option<Result<ReplayEvent, ReadError>> {
        self.events.recv().await
    }
}

/// One partition, as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionState {
    /// The partition.
    pub partition: Partition,
    /// Its leader's broker id; -1 = none.
    pub leader: i32,
    /// The low watermark.
    pub low: i64,
    /// The last stable offset.
    pub last_stable: i64,
    /// The high watermark.
    pub high: i64,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Writes and loads are refused until it is mended.
    Error,
    /// Works, but a promise leans on something that is not so.
    Warning,
    /// Worth knowing.
    Info,
}

/// Something noticed about the topic, the store or the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// UPPER_SNAKE, stable.
    pub code: &'static str,
    /// What, why and what to do.
    pub message: String,
}

/// What the log is, as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// The topic's name, known from the configuration alone.
    pub name: String,
    /// The topic, if it is known.
    pub topic: Option<Arc<Topic>>,
    /// Its partitions, in order; empty if they can't be had.
    pub partitions: Vec<PartitionState>,
    /// What was noticed.
    pub findings: Vec<Finding>,
}

/// A partitioned, compacted log; see the module for the rules.
#[async_trait]
pub trait Log: Send + Sync + fmt::Debug + 'static {
    /// Which log it is.
    fn kind(&self) -> StoreKind;

    /// What is known of the topic now, and every change of it. Readiness follows it.
    fn topic_state(&self) -> watch::Receiver<TopicState>;

    /// The topic, checked within the last second (an answer so old may be shared). Waits, bounded, for the brokers.
    async fn topic(&self) -> Result<Arc<Topic>, ReadError>;

    /// Accepts a record or refuses it, at once: never blocks, and keeps the order of its calls for a partition. `Err` means
    /// that nothing was written and never will be.
    fn append(&self, record: NewRecord) -> Result<PendingAppend, WriteError>;

    /// Takes the end offsets of the wanted partitions and starts to read. A partition that is empty is answered without
    /// reading. Errors that are known before the first record come as `Err`, later ones through the [`Replay`].
    async fn replay(&self, request: ReplayRequest) -> Result<Replay, ReadError>;

    /// The log as it is now; what can't be had is a finding, not an error.
    async fn describe(&self) -> Description;

    /// Stops accepting and waits, until the deadline, for what was accepted. Answers how many writes are not settled.
    async fn close(&self, deadline: Instant) -> u64;
}
