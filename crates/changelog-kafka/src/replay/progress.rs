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
    /// Counts of the records since the last event with counts.
    pub counts: Counts,
    /// How often the end was taken again.
    rounds: u32,
    /// The end was reported.
    pub done: bool,
    /// A tombstone written after this time may have been removed before it was read. It is when the end was taken and,
    /// while following, when the position was last at the end of the log.
    pub complete_as_of: Instant,
}

impl PartitionProgress {
    fn new(range: ReplayRange) -> Self {
        Self {
            position: range.start,
            complete_as_of: range.end_taken_at,
            range,
            counts: Counts::default(),
            rounds: 0,
            done: false,
        }
    }

    /// Whether a partition is complete without a consumer. A resumed replay may start at the end of a log that was
    /// truncated and has grown again. A consumer checks its leader epoch, so that partition needs one.
    pub fn needs_no_consumer(&self) -> bool {
        self.position >= self.range.end && self.range.leader_epoch < 0
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
    pub fn new(ranges: Vec<ReplayRange>) -> Self {
        Self {
            unfinished: ranges.len(),
            progress: ranges.into_iter().map(|r| (r.partition.number(), PartitionProgress::new(r))).collect(),
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
        Some(PartitionEnd {
            partition: progress.range.partition,
            start: progress.range.start,
            end: progress.range.end,
            counts: std::mem::take(&mut progress.counts),
            leader_epoch: progress.range.leader_epoch,
            at_end: progress.range.end_taken_at_wall,
        })
    }
}
