//! How far a replay is in each of its partitions, and when a partition is complete.
//!
//! Does not query the cluster and does not read the clock: the caller passes both in.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use changelog_core::{
    log::{Counts, MoveCause, PartitionEnd, ReadError, TruncationCause},
    model::Partition,
};

use super::{
    cluster::{OffsetSnapshot, StartOffset},
    range::ReplayRange,
};
use crate::timeouts::{MAX_ROUNDS, SHORT_ROUND};

pub struct PartitionProgress {
    pub range: ReplayRange,
    /// Everything below this offset has been read.
    pub position: i64,
    /// The offset above the last record that was read, and its leader epoch.
    last_read: (i64, i32),
    /// Counts of the records since the last event with counts.
    pub counts: Counts,
    /// How often the end was taken again.
    rounds: u32,
    /// The end was reported, or there is none.
    pub done: bool,
    /// A tombstone written after this time may have been removed before it was read. It is when the end was taken and,
    /// while following, when the position was last at the end of the log.
    pub complete_as_of: Instant,
}

impl PartitionProgress {
    fn new(range: ReplayRange, done: bool) -> Self {
        Self {
            position: range.start,
            last_read: (range.start, range.leader_epoch),
            complete_as_of: range.end_taken_at,
            range,
            counts: Counts::default(),
            rounds: 0,
            done,
        }
    }

    /// Whether a partition is complete without a consumer. A resumed replay may start at the end of a log that was
    /// truncated and has grown again. A consumer checks its leader epoch, so that partition needs one.
    pub fn needs_no_consumer(&self) -> bool {
        self.position >= self.range.end && self.range.leader_epoch < 0
    }

    /// A record was read.
    pub fn read(&mut self, offset: i64, leader_epoch: i32) {
        self.position = offset + 1;
        self.last_read = (self.position, leader_epoch);
    }

    /// Where another replay can go on: an offset, and the leader epoch of the record before it.
    ///
    /// Markers, aborted records and holes above the last record say no epoch. With the offset above them and the epoch
    /// of that record, a broker would take an election in between for a truncation. With the epoch of a later leader it
    /// would not notice a truncation of what was read. So it is the offset above the last record.
    pub fn resume_at(&self, read_to: i64) -> (i64, i32) {
        let (_, epoch) = self.last_read;
        if epoch < 0 { (read_to, epoch) } else { self.last_read }
    }

    /// Whether everything below the end has been read if everything below this offset has.
    pub fn ends_by(&self, offset: i64) -> bool {
        !self.done && offset >= self.range.end
    }

    pub fn start_offset(&self) -> StartOffset {
        StartOffset { partition: self.range.partition, offset: self.position, leader_epoch: self.range.leader_epoch }
    }

    /// Whether nothing is between its start and its end. Compaction can remove nothing of that.
    pub fn reads_nothing(&self) -> bool {
        self.position == self.range.start && self.range.start == self.range.end
    }

    /// Whether this round took so long that compaction may have removed a record below its end.
    pub fn round_was_long(&self, now: Instant, min_compaction_lag: Duration) -> bool {
        if self.reads_nothing() {
            return false;
        }
        let elapsed = now.saturating_duration_since(self.range.end_taken_at);
        if min_compaction_lag.is_zero() {
            self.rounds == 0 || elapsed > SHORT_ROUND
        } else {
            elapsed > min_compaction_lag
        }
    }

    /// Moves the end to a high watermark that was queried after a long round. Returns whether it moved. If nothing came
    /// above the old end, nothing above it can have superseded a record.
    pub fn move_end(
        &mut self,
        high: i64,
        taken: &OffsetSnapshot,
        min_compaction_lag: Duration,
    ) -> Result<bool, ReadError> {
        let partition = self.range.partition;
        if high < self.range.end {
            let cause = TruncationCause::EndWentBack { was: self.range.end, high };
            return Err(ReadError::Truncated { partition, cause });
        }
        if high == self.range.end {
            return Ok(false);
        }
        self.rounds += 1;
        if self.rounds >= MAX_ROUNDS {
            let lag_ms = min_compaction_lag.as_millis();
            let cause = MoveCause::Grew { rounds: MAX_ROUNDS, end: high, lag_ms };
            return Err(ReadError::Moved { partition, cause });
        }
        (self.range.end, self.range.end_taken_at, self.range.end_taken_at_wall) = (high, taken.at, taken.wall);
        Ok(true)
    }
}

/// The partitions of a replay by number.
pub struct Partitions {
    progress: BTreeMap<i32, PartitionProgress>,
    unfinished: usize,
}

impl Partitions {
    /// Of changes, which have no ends, or of a replay with an end in each partition.
    pub fn new(ranges: Vec<ReplayRange>, of_changes: bool) -> Self {
        let progress = |range: ReplayRange| (range.partition.number(), PartitionProgress::new(range, of_changes));
        Self {
            unfinished: if of_changes { 0 } else { ranges.len() },
            progress: ranges.into_iter().map(progress).collect(),
        }
    }

    pub fn get(&self, number: i32) -> Option<&PartitionProgress> {
        self.progress.get(&number)
    }

    pub fn get_mut(&mut self, number: i32) -> Option<&mut PartitionProgress> {
        self.progress.get_mut(&number)
    }

    pub fn iter(&self) -> impl Iterator<Item = &PartitionProgress> {
        self.progress.values()
    }

    pub fn done_mut(&mut self) -> impl Iterator<Item = &mut PartitionProgress> {
        self.progress.values_mut().filter(|p| p.done)
    }

    /// The partitions that are done, or those that are not.
    pub fn which(&self, done: bool) -> Vec<Partition> {
        self.iter().filter(|p| p.done == done).map(|p| p.range.partition).collect()
    }

    pub fn all_done(&self) -> bool {
        self.unfinished == 0
    }

    /// The first partition that is not done, its position and its end. The first of all, if all are done.
    pub fn first_unfinished(&self) -> (Partition, i64, i64) {
        let first = self.iter().min_by_key(|p| (p.done, p.range.partition));
        first.map_or_else(
            || (Partition::new(0).unwrap_or_else(|| unreachable!("0 is a partition")), 0, 0),
            |p| (p.range.partition, p.position, p.range.end),
        )
    }

    /// Marks a partition as done, and returns its end.
    pub fn finish(&mut self, number: i32) -> Option<PartitionEnd> {
        let progress = self.progress.get_mut(&number)?;
        progress.done = true;
        progress.complete_as_of = progress.range.end_taken_at;
        self.unfinished -= 1;
        let (next, leader_epoch) = progress.resume_at(progress.range.end);
        Some(PartitionEnd {
            partition: progress.range.partition,
            start: progress.range.start,
            end: progress.range.end,
            counts: std::mem::take(&mut progress.counts),
            next,
            leader_epoch,
            at_end: progress.range.end_taken_at_wall,
        })
    }
}
