//! A replay of a log: what is asked for, its events, and the channel between the log and the caller.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use tokio::{sync::mpsc, time::Instant};

use super::{
    error::ReadError,
    selection::{Counts, Selection},
    topic::Topic,
};
use crate::model::{Partition, Record};

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
    /// Whether to deliver what is written after the request.
    pub follow: Follow,
    /// Whether each record must own its bytes. Otherwise the records of a batch may share a buffer, which stays in
    /// memory as long as one of them. Set it to keep some records of a batch.
    pub owned_records: bool,
    /// The deadline for the end offsets. A following replay has none after them.
    pub deadline: Instant,
}

/// Whether a replay delivers what is written after its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// No. The replay ends with the [`ReplayEvent::End`] of its last partition.
    No,
    /// After the end offsets.
    AfterEnds,
    /// From the start on, as changes. It has no end offsets, so it sends no [`ReplayEvent::End`], and waits for no open
    /// transaction at first. What ends a replay that follows ends it from its start on.
    FromStart,
}

impl Follow {
    /// Whether it follows at all.
    pub fn is_on(self) -> bool {
        self != Self::No
    }
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
    /// Where another replay goes on. It delivers no record below the end, but may start below it.
    pub next: i64,
    /// The leader epoch of the record before `next`; negative if it is not known.
    pub leader_epoch: i32,
    /// The time at which the end offset was taken.
    pub at_end: SystemTime,
}

impl PartitionEnd {
    /// The end of a range of a log that has no leader epochs.
    pub fn without_epoch(partition: Partition, range: Range<i64>, counts: Counts, at_end: SystemTime) -> Self {
        let Range { start, end } = range;
        Self { partition, start, end, counts, next: end, leader_epoch: -1, at_end }
    }

    /// The end of an empty partition.
    pub(crate) fn empty(partition: Partition) -> Self {
        Self::without_epoch(partition, 0..0, Counts::default(), SystemTime::now())
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
    /// Every selected record below `next_offset` has been delivered. Only of a replay that follows; with
    /// [`Follow::AfterEnds`] after the end of the partition.
    Progress {
        /// The partition.
        partition: Partition,
        /// Where another replay goes on.
        next_offset: i64,
        /// The leader epoch of the record before `next_offset`; negative if it is not known.
        leader_epoch: i32,
        /// Counts of all records since the last event with counts.
        counts: Counts,
        /// A time at which the reader had read all records; `None` if records were left to read.
        at_end: Option<SystemTime>,
    },
}

/// The interval of [`ReplayEvent::Progress`] of a following replay, even if no record is selected.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Batches that a replay may be ahead of its receiver.
const REPLAY_BATCHES_AHEAD: usize = 4;

/// The backend's end of a replay.
pub type ReplaySender = mpsc::Sender<Result<ReplayEvent, ReadError>>;

/// A running replay. Dropping it stops the replay.
#[derive(Debug)]
pub struct Replay {
    events: mpsc::Receiver<Result<ReplayEvent, ReadError>>,
    records_read: ReadCounter,
}

impl Replay {
    /// A channel. The backend owns the sender.
    pub fn channel() -> (ReplaySender, Self) {
        let (sender, events) = mpsc::channel(REPLAY_BATCHES_AHEAD);
        (sender, Self { events, records_read: ReadCounter::default() })
    }

    /// The next event; `None` after the end of the last partition (never if it follows), or after an error.
    pub async fn next(&mut self) -> Option<Result<ReplayEvent, ReadError>> {
        self.events.recv().await
    }

    /// The records that the replay has read, selected or not. Grows between events, too, if the log reads whole
    /// partitions: see [`Log::reads_whole_partitions`](super::Log::reads_whole_partitions).
    pub fn records_read(&self) -> ReadCounter {
        self.records_read.clone()
    }
}

/// Counts records while a replay runs, so that one that makes progress can be told from a stalled one. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct ReadCounter(Arc<AtomicU64>);

impl ReadCounter {
    /// Adds records.
    pub fn add(&self, records: u64) {
        self.0.fetch_add(records, Relaxed);
    }

    /// The records so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
