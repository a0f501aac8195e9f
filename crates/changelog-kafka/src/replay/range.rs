//! Where a replay starts and ends in each partition, fixed before its first record.
//!
//! The end offset is the leader's high watermark, taken after the request arrived. An open transaction may hide records
//! between the last stable offset and the end offset. The replay waits for its end, bounded, and never skips those
//! records.

use std::time::{Duration, Instant, SystemTime};

use changelog_core::{
    log::{Follow, ReadError, ReplayRequest, StartAt},
    model::Partition,
    rule::{Rule, holds},
};

use super::cluster::{Cluster, OffsetSnapshot, Offsets};
use crate::timeouts::{MAX_STABLE_OFFSET_DELAY, MIN_STABLE_OFFSET_DELAY};

/// The leader epoch while no record of a range was read. The range may be empty, or have only markers, aborted records,
/// and offsets that compaction left. A token has this epoch, too. Its offset alone does not show that the log was
/// truncated below it and has grown again. So the resumed replay starts at the low watermark. Nothing is delivered
/// twice, because nothing was read. -1 is different: a record was read, and its epoch is not known.
pub const NO_RECORD_READ: i32 = -2;

/// The range of one partition that a replay reads.
#[derive(Debug, Clone, Copy)]
pub struct ReplayRange {
    pub partition: Partition,
    pub start: i64,
    /// The end offset, exclusive.
    pub end: i64,
    /// Of the record before the start; [`NO_RECORD_READ`], or -1 if it is not known.
    pub leader_epoch: i32,
    /// The range starts at the low watermark, so its counts are of the whole partition.
    pub whole_partition: bool,
    /// When the end offset was queried.
    pub end_taken_at: Instant,
    pub end_taken_at_wall: SystemTime,
}

/// The ranges that a request reads, with end offsets as of now.
pub fn resolve_ranges<C: Cluster>(
    cluster: &mut C,
    request: &ReplayRequest,
    max_wait: Duration,
) -> Result<Vec<ReplayRange>, ReadError> {
    let partitions: Vec<Partition> = request.partitions.iter().map(|(p, _)| *p).collect();
    let deadline = request.deadline.into_std();
    let snapshot = if request.follow == Follow::FromStart {
        // Nothing is promised of these ends. The check of a replay that follows watches the last stable offset.
        cluster.offsets(&partitions, deadline)?
    } else {
        wait_for_stable_offsets(cluster, &partitions, max_wait, deadline)?
    };
    #[cfg(feature = "take-out-rules")]
    let snapshot = with_first_known_ends(snapshot, &request.topic.id);
    let mut ranges = Vec::new();
    for ((partition, start), offsets) in request.partitions.iter().zip(&snapshot.offsets) {
        let (offset, leader_epoch) = match *start {
            StartAt::Low => (offsets.low, NO_RECORD_READ),
            StartAt::Offset { offset, leader_epoch } => (offset, leader_epoch),
        };
        if !(offsets.low..=offsets.high).contains(&offset) {
            let (low, end) = (offsets.low, offsets.high);
            return Err(ReadError::OffsetOutOfRange { partition: *partition, offset, low, end });
        }
        let start = if leader_epoch == NO_RECORD_READ { offsets.low } else { offset };
        ranges.push(ReplayRange {
            partition: *partition,
            start,
            end: offsets.high,
            leader_epoch,
            whole_partition: start == offsets.low,
            end_taken_at: snapshot.at,
            end_taken_at_wall: snapshot.wall,
        });
    }
    Ok(ranges)
}

/// The error of a replay whose caller has left, so it is never delivered.
pub fn abandoned() -> ReadError {
    ReadError::Internal { cause: "the caller has dropped the replay".to_owned() }
}

/// Queries the offsets, and waits until no open transaction hides a record below the high watermarks that were
/// returned. Waits at most for `max_wait`.
pub fn wait_for_stable_offsets<C: Cluster>(
    cluster: &mut C,
    partitions: &[Partition],
    max_wait: Duration,
    deadline: Instant,
) -> Result<OffsetSnapshot, ReadError> {
    let until = deadline.min(cluster.now() + max_wait);
    let mut snapshot = cluster.offsets(partitions, deadline)?;
    if !holds(Rule::StableOffsetIsNotEnd) {
        snapshot.offsets.iter_mut().for_each(|o| o.high = o.last_stable);
        return Ok(snapshot);
    }
    // After a commit the last stable offset may lag for a moment.
    let mut delay = MIN_STABLE_OFFSET_DELAY;
    let mut hidden: Vec<_> = snapshot.offsets.iter().filter(|o| o.last_stable < o.high).copied().collect();
    while let Some(first) = hidden.first() {
        if cluster.now() + delay >= until {
            let Offsets { partition, last_stable, high, .. } = *first;
            return Err(ReadError::OpenTransaction { partition, last_stable, high });
        }
        if cluster.is_abandoned() {
            return Err(abandoned());
        }
        cluster.pause(delay);
        delay = (delay * 2).min(MAX_STABLE_OFFSET_DELAY);
        let hidden_partitions: Vec<_> = hidden.iter().map(|o| o.partition).collect();
        let now = cluster.offsets(&hidden_partitions, deadline)?;
        for offsets in &mut hidden {
            if let Some(seen) = now.offsets.iter().find(|o| o.partition == offsets.partition) {
                offsets.last_stable = seen.last_stable;
            }
        }
        hidden.retain(|o| o.last_stable < o.high);
    }
    Ok(snapshot)
}

/// With the rule taken out, all requests get the end offsets of the first request for the partition.
#[cfg(feature = "take-out-rules")]
fn with_first_known_ends(mut snapshot: OffsetSnapshot, topic: &str) -> OffsetSnapshot {
    use std::{collections::HashMap, sync::LazyLock};

    use parking_lot::Mutex;
    static ENDS: LazyLock<Mutex<HashMap<(String, Partition), i64>>> = LazyLock::new(Mutex::default);
    if holds(Rule::EndIsHighWatermark) {
        return snapshot;
    }
    let mut ends = ENDS.lock();
    for offsets in &mut snapshot.offsets {
        offsets.high = *ends.entry((topic.to_owned(), offsets.partition)).or_insert(offsets.high);
    }
    snapshot
}
