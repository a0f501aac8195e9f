//! Where a replay begins and ends in each partition, fixed before its first record.
//!
//! The end is T, the leader's high watermark after the request arrived. Records between the last stable offset and T may be
//! hidden from a reader by an open transaction of anybody's: they are waited for, bounded, and never passed over.

use std::time::{Duration, Instant, SystemTime};

use super::{
    cluster::Cluster,
    offsets::{OffsetSnapshot, Offsets},
};
use crate::{
    log::{ReadError, ReplayRequest, StartAt},
    model::Partition,
    rule::{Rule, holds},
};

/// The longest pause between two looks at a transaction that is open.
const MAX_RETRY_DELAY: Duration = Duration::from_millis(50);

/// One partition on its way.
#[derive(Debug, Clone, Copy)]
pub struct ReplayRange {
    pub partition: Partition,
    pub start: i64,
    /// T
    pub end: i64,
    pub leader_epoch: i32,
    /// It is read from the low watermark: what is counted is what the partition holds.
    pub whole_partition: bool,
    /// When T was asked for.
    pub end_taken_at: Instant,
    pub end_taken_at_wall: SystemTime,
}

/// The spans of a request.
pub fn resolve_ranges<C: Cluster>(
    cluster: &mut C,
    request: &ReplayRequest,
    max_wait: Duration,
) -> Result<Vec<ReplayRange>, ReadError> {
    let partitions: Vec<Partition> = request.partitions.iter().map(|(p, _)| *p).collect();
    let snapshot = wait_for_stable_offsets(cluster, &partitions, max_wait, request.deadline.into_std())?;
    #[cfg(feature = "take-out-rules")]
    let snapshot = with_first_known_ends(snapshot, &request.topic.id);
    let mut ranges = Vec::new();
    for ((partition, start), offsets) in request.partitions.iter().zip(&snapshot.offsets) {
        let (start, leader_epoch) = match *start {
            StartAt::Low => (offsets.low, -1),
            StartAt::Offset { offset, leader_epoch } => (offset, leader_epoch),
        };
        if !(offsets.low..=offsets.high).contains(&start) {
            let (low, end) = (offsets.low, offsets.high);
            return Err(ReadError::OffsetOutOfRange { partition: *partition, offset: start, low, end });
        }
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

/// Told to nobody.
pub fn abandoned() -> ReadError {
    ReadError::Unreachable { cause: "nobody waits for it any more".to_owned() }
}

/// Offsets at a time when no open transaction hides records below the high watermark that was first seen; bounded by
/// `max_wait`.
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
    // After a commit it may lag for a moment.
    let mut delay = Duration::from_millis(1);
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
        delay = (delay * 2).min(MAX_RETRY_DELAY);
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

/// With R1 taken out: the ends that the first request for a partition was given serve all later ones.
#[cfg(feature = "take-out-rules")]
fn with_first_known_ends(mut snapshot: OffsetSnapshot, topic: &str) -> OffsetSnapshot {
    use std::{
        collections::HashMap,
        sync::{LazyLock, Mutex, PoisonError},
    };
    static ENDS: LazyLock<Mutex<HashMap<(String, Partition), i64>>> = LazyLock::new(Mutex::default);
    if holds(Rule::EndIsHighWatermark) {
        return snapshot;
    }
    let mut ends = ENDS.lock().unwrap_or_else(PoisonError::into_inner);
    for offsets in &mut snapshot.offsets {
        offsets.high = *ends.entry((topic.to_owned(), offsets.partition)).or_insert(offsets.high);
    }
    snapshot
}
