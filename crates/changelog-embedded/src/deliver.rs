//! The delivery of one range to the receiver of a replay: scans a batch, sends it, and scans the next.
//!
//! It reads each batch on a thread for blocking work, unless the batch is in memory already. It sends the batch from
//! the replay's task. So a slow receiver holds no thread. A panic of the engine becomes an error of this replay.
//!
//! Promises that no step takes longer than the deadline, and that it stops when the receiver is dropped.
//!
//! Does not decide which ranges are read.

use std::{future::Future, sync::Arc};

use changelog_core::{
    blocking::{BlockingError, run_blocking},
    log::{Counts, ReadError, ReplayEvent, ReplaySender, Selection},
    model::Partition,
};
use tokio::time::Instant;

use super::{
    scan::PartitionScan,
    state::{Published, ReplayRange, StoreState},
};

/// Why a replay stopped.
pub(super) enum StopReason {
    /// The caller has dropped the replay.
    Abandoned,
    Error(ReadError),
}

/// The error of a read near this offset.
pub(super) fn unread(error: &BlockingError, partition: Partition, near: i64) -> ReadError {
    match error {
        BlockingError::Panicked => {
            let cause = format!("the engine panicked as it read partition {partition} near {near}");
            ReadError::Internal { cause }
        }
        BlockingError::NoThread(_) => ReadError::OutOfFiles { cause: error.to_string() },
    }
}

/// Where the records of a replay come from, and where they go.
pub(super) struct Delivery {
    pub(super) state: Arc<StoreState>,
    pub(super) selection: Arc<Selection>,
    pub(super) events: ReplaySender,
}

impl Delivery {
    /// Sends the selected records of a range.
    pub(super) async fn deliver(
        &self,
        published: &Arc<Published>,
        range: ReplayRange,
        deadline: Option<Instant>,
    ) -> Result<Counts, StopReason> {
        if range.from >= range.end {
            return Ok(Counts::default());
        }
        let mut scan = PartitionScan::new(self.state.clone(), published.clone(), self.selection.clone(), range);
        loop {
            let at = ReplayRange { from: scan.position(), ..range };
            let in_memory = scan.is_in_memory();
            let read = move || {
                let batch = scan.next_batch();
                (scan, batch)
            };
            let read = async { if in_memory { Ok(read()) } else { run_blocking(read).await } };
            let (returned, batch) = match self.bounded(at, deadline, read).await? {
                Ok(read) => read,
                Err(error) => return Err(StopReason::Error(unread(&error, at.partition, at.from))),
            };
            scan = returned;
            let Some(records) = batch.map_err(|unreadable| StopReason::Error(unreadable.into()))? else {
                return Ok(scan.counts());
            };
            if !records.is_empty() {
                let event = ReplayEvent::Records { partition: range.partition, records, leader_epoch: -1 };
                self.send(event, at, deadline).await?;
            }
        }
    }

    pub(super) async fn send(
        &self,
        event: ReplayEvent,
        at: ReplayRange,
        deadline: Option<Instant>,
    ) -> Result<(), StopReason> {
        self.bounded(at, deadline, self.events.send(Ok(event))).await?.map_err(|_| StopReason::Abandoned)
    }

    async fn bounded<T>(
        &self,
        at: ReplayRange,
        deadline: Option<Instant>,
        work: impl Future<Output = T>,
    ) -> Result<T, StopReason> {
        let ReplayRange { partition, from: position, end, .. } = at;
        let deadline_exceeded = || Err(StopReason::Error(ReadError::Deadline { partition, position, end }));
        // A timer may fire late, so a passed deadline is checked first.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return deadline_exceeded();
        }
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.events.closed() => Err(StopReason::Abandoned),
            () = late => deadline_exceeded(),
            out = work => Ok(out),
        }
    }
}
