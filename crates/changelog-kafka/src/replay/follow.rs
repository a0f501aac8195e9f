//! The periodic check of a replay that follows: it reports progress, and finds what hides records from the replay.
//!
//! Three things stall a replay that follows: a last stable offset below the high watermark, a position below the last
//! stable offset, and leaders that do not return offsets. Each may last for [`FOLLOW_STALL`], then it is an error.
//! Without that, the caller would take the silence for a quiet log.
//!
//! Does not send the events that it makes, because records below their offsets must be sent first.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use changelog_core::{
    log::{Counts, PROGRESS_INTERVAL, ReadError, ReplayEvent, TruncationCause},
    model::Partition,
};

use super::{
    cluster::{Cluster, Offsets},
    progress::Partitions,
};
use crate::timeouts::{FOLLOW_CHECK_DIVISOR, FOLLOW_STALL, MIN_FOLLOW_CHECK_INTERVAL};

/// Gets the counts of a partition, and whether they are of the whole partition.
pub type OnCounts = Box<dyn FnMut(Partition, Counts, bool) + Send>;

/// Since when an offset has been the same.
#[derive(Default)]
struct StallTimer {
    stalled: Option<(i64, Instant)>,
}

impl StallTimer {
    fn reset(&mut self) {
        self.stalled = None;
    }

    /// Since when the offset has been this one; now, if it was another one before.
    fn since(&mut self, offset: i64, now: Instant) -> Instant {
        let since = self.stalled.filter(|(before, _)| *before == offset).map_or(now, |(_, since)| since);
        self.stalled = Some((offset, since));
        since
    }
}

/// What the checks of one partition remember.
#[derive(Default)]
struct PartitionCheck {
    /// A last stable offset that stays below the high watermark.
    last_stable: StallTimer,
    /// A position that stays below the last stable offset.
    position: StallTimer,
    /// The high watermark was below the position at the last check.
    hwm_below_position: bool,
    /// The end at an earlier check that the position had not reached.
    earlier_end: Option<End>,
}

/// The end of a partition without an open transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    offset: i64,
    at: Instant,
    wall: SystemTime,
}

impl PartitionCheck {
    /// The last end that this position has reached, if it is a new one. A partition that is written all the time is
    /// hardly ever seen at its end, so an earlier end counts once the position has passed it.
    fn reached_end(&mut self, position: i64, offsets: Offsets, at: Instant, wall: SystemTime) -> Option<End> {
        let passed = self.earlier_end.take_if(|end| position >= end.offset);
        if offsets.last_stable != offsets.high {
            return passed;
        }
        let end = End { offset: offsets.high, at, wall };
        // Equal, not above: a position above the high watermark is in a truncated log.
        if position == offsets.high {
            self.earlier_end = None;
            return Some(end);
        }
        if position < offsets.high {
            self.earlier_end.get_or_insert(end);
        }
        passed
    }

    /// Checks a position against new offsets. Time before `no_stall_before` is no stall of the log.
    fn check(
        &mut self,
        position: i64,
        offsets: Offsets,
        now: Instant,
        no_stall_before: Instant,
    ) -> Result<(), ReadError> {
        let Offsets { partition, last_stable, high, .. } = offsets;
        if last_stable == high {
            self.last_stable.reset();
        } else {
            let since = self.last_stable.since(last_stable, now);
            if now.saturating_duration_since(since) >= FOLLOW_STALL {
                return Err(ReadError::OpenTransaction { partition, last_stable, high });
            }
        }
        if position >= last_stable {
            self.position.reset();
        } else {
            let since = self.position.since(position, now).max(no_stall_before);
            if now.saturating_duration_since(since) >= FOLLOW_STALL {
                let seconds = FOLLOW_STALL.as_secs();
                return Err(ReadError::NoProgress { partition, position, end: last_stable, seconds, cause: None });
            }
        }
        // Once is not enough: it may be the response of a leader that has been replaced.
        if std::mem::replace(&mut self.hwm_below_position, position > high) && position > high {
            let cause = TruncationCause::EndWentBack { was: position, high };
            return Err(ReadError::Truncated { partition, cause });
        }
        Ok(())
    }
}

pub struct FollowCheck {
    last_check: Instant,
    /// By partition number.
    checks: BTreeMap<i32, PartitionCheck>,
    /// Since when leaders do not return offsets.
    offsets_unavailable_since: Option<Instant>,
}

impl FollowCheck {
    pub fn new(now: Instant) -> Self {
        Self { last_check: now, checks: BTreeMap::new(), offsets_unavailable_since: None }
    }

    /// Often enough to find the position at the end of the log before tombstones may be removed.
    pub fn is_due(&self, now: Instant, delete_retention: Duration) -> bool {
        let interval = PROGRESS_INTERVAL.min(delete_retention / FOLLOW_CHECK_DIVISOR).max(MIN_FOLLOW_CHECK_INTERVAL);
        now.saturating_duration_since(self.last_check) >= interval
    }

    /// Checks the partitions whose end was reported. Returns the progress of each.
    pub fn check(
        &mut self,
        cluster: &mut impl Cluster,
        partitions: &mut Partitions,
        no_stall_before: Instant,
        on_counts: &mut OnCounts,
    ) -> Result<Vec<ReplayEvent>, ReadError> {
        let now = cluster.now();
        self.last_check = now;
        let done = partitions.which(true);
        if done.is_empty() {
            return Ok(Vec::new());
        }
        let snapshot = cluster.offsets(&done, now + PROGRESS_INTERVAL);
        let mut events = Vec::new();
        for progress in partitions.done_mut() {
            let partition = progress.range.partition;
            let check = self.checks.entry(partition.number()).or_default();
            let seen = snapshot.as_ref().ok().and_then(|snapshot| {
                let found = snapshot.offsets.iter().find(|o| o.partition == partition);
                found.map(|offsets| (*offsets, snapshot))
            });
            let mut at_end = None;
            if let Some((offsets, snapshot)) = seen {
                check.check(progress.position, offsets, now, no_stall_before)?;
                if let Some(end) = check.reached_end(progress.position, offsets, snapshot.at, snapshot.wall) {
                    at_end = Some(end.wall);
                    progress.complete_as_of = end.at;
                }
            } else {
                // During an election the position can't move, so its time starts again afterwards.
                check.position.reset();
            }
            on_counts(partition, progress.counts, false);
            let (next_offset, leader_epoch) = progress.resume_at(progress.position);
            events.push(ReplayEvent::Progress {
                partition,
                next_offset,
                leader_epoch,
                counts: std::mem::take(&mut progress.counts),
                at_end,
            });
        }
        match snapshot {
            Ok(_) => self.offsets_unavailable_since = None,
            // Whether it is one partition or all.
            Err(error) => {
                let since = (*self.offsets_unavailable_since.get_or_insert(now)).max(no_stall_before);
                if now.saturating_duration_since(since) >= FOLLOW_STALL {
                    return Err(error);
                }
            }
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use changelog_core::model::PartitionCount;

    use super::*;

    /// Covers C30, R14.
    #[test]
    fn a_partition_that_is_written_all_the_time_is_complete_as_of_an_earlier_end() {
        let partition = PartitionCount::new(1).unwrap().partition(0).unwrap();
        let (begun, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let mut check = PartitionCheck::default();
        let mut seen = |second: u64, position, last_stable, high| {
            let offsets = Offsets { partition, low: 0, last_stable, high };
            let after = Duration::from_secs(second);
            let end = check.reached_end(position, offsets, begun + after, wall + after);
            end.map(|end| {
                assert_eq!(end.at.duration_since(begun), end.wall.duration_since(wall).unwrap());
                (end.offset, end.at.duration_since(begun).as_secs())
            })
        };
        assert_eq!(seen(0, 10, 10, 10), Some((10, 0)), "at the end");
        assert_eq!(seen(5, 90, 100, 100), None);
        assert_eq!(seen(10, 190, 200, 200), Some((100, 5)), "an earlier end was passed");
        assert_eq!(seen(15, 195, 300, 300), None, "not yet the one of second 10");
        assert_eq!(seen(20, 200, 400, 400), Some((200, 10)));
        assert_eq!(seen(25, 400, 399, 500), Some((400, 20)), "also while a transaction is open");
        assert_eq!(seen(30, 500, 499, 500), None, "an end behind an open transaction is none");
        assert_eq!(seen(35, 500, 500, 500), Some((500, 35)));
        assert_eq!(seen(40, 501, 500, 500), None, "above the end of a truncated log");
    }
}
