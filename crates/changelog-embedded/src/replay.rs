//! Replays of the embedded store: one published snapshot, read up to its end offsets.
//!
//! A replay is a task. It reads its partitions one after another, sends an end event for each, and then follows the
//! writer if the request asks for it. An error is its last event.
//!
//! Does not deliver superseded records: a follower that lags gets only the last record of each key.

use std::{sync::Arc, time::SystemTime};

use changelog_core::log::{Follow, PartitionEnd, ReadError, ReplayEvent, ReplayRequest};
use tokio::time::Instant;

use super::{
    deliver::{Delivery, StopReason},
    follow::follow,
    state::{Published, ReplayRange},
};

/// What comes after the end of a range.
fn from_end(range: ReplayRange) -> ReplayRange {
    ReplayRange { from: range.end, whole_partition: false, ..range }
}

pub(super) struct Reader {
    pub(super) request: ReplayRequest,
    pub(super) delivery: Delivery,
}

impl Reader {
    /// Reads to the end offsets of `published`, and follows if the request does.
    pub(super) async fn run(
        self,
        published: Arc<Published>,
        ranges: Vec<ReplayRange>,
        at_end: SystemTime,
        requested_at: Instant,
    ) {
        let delivery = &self.delivery;
        let outcome = match self.request.follow {
            Follow::No => self.read_to_ends(published, &ranges, at_end).await,
            Follow::AfterEnds => match self.read_to_ends(published, &ranges, at_end).await {
                Ok(()) => follow(delivery, ranges.into_iter().map(from_end).collect(), requested_at).await,
                outcome => outcome,
            },
            Follow::FromStart => {
                drop(published);
                follow(delivery, ranges, requested_at).await
            }
        };
        if let Err(StopReason::Error(mut error)) = outcome {
            if let ReadError::Corrupt(corrupt) = &error {
                error = delivery.state.set_corrupt(corrupt.clone()).read_error().unwrap_or(error);
            }
            let _ = delivery.events.send(Err(error)).await;
        }
    }

    async fn read_to_ends(
        &self,
        published: Arc<Published>,
        ranges: &[ReplayRange],
        at_end: SystemTime,
    ) -> Result<(), StopReason> {
        let deadline = Some(self.request.deadline);
        for range in ranges {
            let counts = self.delivery.deliver(&published, *range, deadline).await?;
            let ReplayRange { partition, from: start, end, .. } = *range;
            let end = PartitionEnd::without_epoch(partition, start..end, counts, at_end);
            self.delivery.send(ReplayEvent::End(end), *range, deadline).await?;
        }
        Ok(())
    }
}
