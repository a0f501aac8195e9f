//! The part of a replay after the end offsets: it delivers what the writer publishes.
//!
//! Promises an error if it may have missed a purged tombstone. It compares offsets, and it checks how long it was not
//! at the end, because a tombstone may be purged when the retention has passed.
//!
//! Does not hold a snapshot while it waits.

use std::time::{Duration, SystemTime};

use changelog_core::log::{DELETE_RETENTION_FLAG, MoveCause, PROGRESS_INTERVAL, ReadError, ReplayEvent};
use tokio::time::Instant;

use super::{
    deliver::{Delivery, StopReason},
    state::ReplayRange,
};

/// The shortest time between a follower's checks of whether it is still at the end.
const MIN_FOLLOW_WAIT: Duration = Duration::from_millis(10);

/// Delivers what was or is written from the start of each range on. `caught_up_at` is when the replay was last at the
/// end. A tombstone that was written later must not have been purged yet.
pub(super) async fn follow(
    delivery: &Delivery,
    mut ranges: Vec<ReplayRange>,
    mut caught_up_at: Instant,
) -> Result<(), StopReason> {
    let retention = delivery.state.topic.delete_retention;
    let mut changes = delivery.state.published.subscribe();
    let mut last_progress_at = None::<Instant>;
    // Not known before the first check.
    let mut published_since = true;
    loop {
        if delivery.state.closing.is_cancelled() {
            return Err(StopReason::Error(ReadError::Draining));
        }
        if let Some(refusal) = delivery.state.read_refusal() {
            return Err(StopReason::Error(refusal));
        }
        // Taken before the end offsets, so nothing was left to read at this time.
        let (at_end, now) = (SystemTime::now(), Instant::now());
        if !published_since && matches!(changes.has_changed(), Ok(false)) {
            caught_up_at = now;
        }
        let lag = now - caught_up_at;
        if lag > retention / 2 {
            let error = ReadError::too_slow(ranges[0].partition, lag, retention, DELETE_RETENTION_FLAG);
            return Err(StopReason::Error(error));
        }
        (caught_up_at, published_since) = (now, false);
        let Some(published) = changes.borrow_and_update().clone() else {
            return Err(StopReason::Error(ReadError::Draining));
        };
        let progress_due = last_progress_at.is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL);
        for range in &mut ranges {
            range.end = published.end(range.partition).unwrap_or(range.from);
            if published.purged_beyond(range.partition, range.from) {
                let cause = MoveCause::Purged { offset: range.from };
                return Err(StopReason::Error(ReadError::Moved { partition: range.partition, cause }));
            }
            if range.end == range.from && !progress_due {
                continue;
            }
            let counts = delivery.deliver(&published, *range, None).await?;
            let progress = ReplayEvent::Progress {
                partition: range.partition,
                next_offset: range.end,
                leader_epoch: -1,
                counts,
                at_end: Some(at_end),
            };
            delivery.send(progress, *range, None).await?;
            (range.from, range.whole_partition) = (range.end, false);
        }
        if progress_due {
            last_progress_at = Some(Instant::now());
        }
        // A snapshot that is held while waiting would keep the engine from removing superseded records.
        drop(published);
        let wake = last_progress_at.map_or_else(Instant::now, |at| at + PROGRESS_INTERVAL);
        let wake = wake.min(Instant::now() + (retention / 8).max(MIN_FOLLOW_WAIT));
        tokio::select! {
            () = delivery.events.closed() => return Err(StopReason::Abandoned),
            () = delivery.state.closing.cancelled() => {}
            changed = tokio::time::timeout_at(wake, changes.changed()) => published_since = changed.is_ok(),
        }
    }
}
