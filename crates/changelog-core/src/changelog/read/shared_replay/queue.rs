//! The queues of waiting loads, one for each partition.
//!
//! A *waiter* is a load without a replay. The *driver* is the waiter that starts the next replay. The *slot* of a
//! partition is held by the one replay that makes progress. A *stalled* replay has released the slot.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{Semaphore, oneshot},
    time::Instant,
};

use super::loaded::Reply;
use crate::{log::Selection, model::Partition};

/// Stalled replays of one partition that may exist while another one runs. Other partitions need replay permits, too.
const MAX_STALLED_REPLAYS: usize = 4;

/// A load that waits for a replay.
#[derive(Debug)]
pub struct Waiter {
    pub selection: Selection,
    pub deadline: Instant,
    pub queued_at: Instant,
    /// Notified when a replay starts for this waiter.
    pub started: oneshot::Sender<()>,
    pub reply: Reply,
}

/// One partition of one topic. A topic that was created again has another id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartitionId {
    pub topic_id: String,
    pub partition: Partition,
}

#[derive(Debug)]
struct PartitionQueue {
    /// One permit: for the replay that makes progress.
    slot: Arc<Semaphore>,
    /// Permits for stalled replays.
    stalled: Arc<Semaphore>,
    /// One permit: for the driver. So one partition waits for one replay permit at a time.
    driver: Arc<Semaphore>,
    waiters: Vec<Waiter>,
}

/// The queues of all partitions. They hold no more than the waiting loads.
#[derive(Debug, Default)]
pub struct SharedReplays {
    partitions: Mutex<HashMap<PartitionId, PartitionQueue>>,
}

impl SharedReplays {
    pub fn enqueue(&self, id: &PartitionId, waiter: Waiter) -> [Arc<Semaphore>; 3] {
        let mut partitions = self.partitions.lock();
        let one = || Arc::new(Semaphore::new(1));
        let stalled = || Arc::new(Semaphore::new(MAX_STALLED_REPLAYS));
        let new = || PartitionQueue { slot: one(), stalled: stalled(), driver: one(), waiters: Vec::new() };
        let queue = partitions.entry(id.clone()).or_insert_with(new);
        // Remove cancelled loads. Otherwise a partition whose replay stalls would collect them.
        queue.waiters.retain(|waiter| !waiter.reply.is_closed());
        queue.waiters.push(waiter);
        [queue.driver.clone(), queue.slot.clone(), queue.stalled.clone()]
    }

    /// Removes and returns the waiters that have waited for at least `min_wait`.
    pub fn drain_waiters(&self, id: &PartitionId, min_wait: Duration) -> Vec<Waiter> {
        let mut partitions = self.partitions.lock();
        let Some(queue) = partitions.get_mut(id) else { return Vec::new() };
        let (drained, left) =
            std::mem::take(&mut queue.waiters).into_iter().partition(|w| w.queued_at.elapsed() >= min_wait);
        queue.waiters = left;
        drained
    }
}
