//! The queues of waiting loads, one for each partition.
//!
//! A *waiter* is a load without a replay. The *slot* of a partition is held by the one replay that makes progress. A
//! *stalled* replay has released the slot.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::loaded::Reply;
use crate::{changelog::metrics::Waiting, log::Selection, model::Partition};

/// Stalled replays of one partition that may exist while another one runs. Other partitions need replay permits, too.
const MAX_STALLED_REPLAYS: usize = 4;

/// A load that waits for a replay.
#[derive(Debug)]
pub struct Waiter {
    pub selection: Selection,
    pub deadline: Instant,
    pub queued_at: Instant,
    pub reply: Reply,
    /// Counts it as waiting until its replay starts.
    pub _waiting: Option<Waiting>,
}

/// One partition of one topic. A topic that was created again has another id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PartitionId {
    pub topic_id: String,
    pub partition: Partition,
}

/// The slot of a partition, and the permits of stalled replays.
#[derive(Debug, Clone)]
pub struct PartitionSlots {
    slot: Arc<Semaphore>,
    stalled: Arc<Semaphore>,
}

impl PartitionSlots {
    /// Waits until no replay of the partition makes progress.
    pub async fn acquire(&self) -> Option<HeldSlot> {
        // The semaphore is never closed.
        let permit = self.slot.clone().acquire_owned().await.ok()?;
        Some(HeldSlot::OfPartition { _slot: permit, stalled: self.stalled.clone() })
    }
}

/// Held by a replay, until the partition is read.
#[derive(Debug)]
pub enum HeldSlot {
    /// While it makes progress: no other replay of the partition starts.
    OfPartition {
        _slot: OwnedSemaphorePermit,
        /// Permits for stalled replays.
        stalled: Arc<Semaphore>,
    },
    /// Once it has stalled.
    OfStalled { _permit: OwnedSemaphorePermit },
}

impl HeldSlot {
    /// Lets the next replay start, unless as many stalled replays exist as may.
    pub fn release_stalled(&mut self) {
        if let Self::OfPartition { stalled, .. } = self
            && let Ok(permit) = stalled.clone().try_acquire_owned()
        {
            *self = Self::OfStalled { _permit: permit };
        }
    }
}

#[derive(Debug)]
struct PartitionQueue {
    slots: PartitionSlots,
    /// Whether a task starts replays for the waiters.
    is_dispatching: bool,
    waiters: Vec<Waiter>,
}

/// The queues of all partitions. They hold no more than the waiting loads, and an entry for each partition.
#[derive(Debug, Default)]
pub struct SharedReplays {
    partitions: Mutex<HashMap<PartitionId, PartitionQueue>>,
}

impl SharedReplays {
    /// Adds a waiter. Returns what a dispatcher needs if none is active: then the caller starts one.
    pub fn enqueue(&self, id: &PartitionId, waiter: Waiter) -> Option<PartitionSlots> {
        let mut partitions = self.partitions.lock();
        let permits = |count| Arc::new(Semaphore::new(count));
        let slots = || PartitionSlots { slot: permits(1), stalled: permits(MAX_STALLED_REPLAYS) };
        let new = || PartitionQueue { slots: slots(), is_dispatching: false, waiters: Vec::new() };
        let queue = partitions.entry(id.clone()).or_insert_with(new);
        queue.waiters.push(waiter);
        (!std::mem::replace(&mut queue.is_dispatching, true)).then(|| queue.slots.clone())
    }

    /// Removes the waiters whose loads have left.
    pub fn remove_left(&self, id: &PartitionId) {
        self.take_waiters(id, |waiter| waiter.reply.is_closed());
    }

    /// When the first of the waiters was queued; `None` if there is none.
    pub fn oldest(&self, id: &PartitionId) -> Option<Instant> {
        self.partitions.lock().get(id)?.waiters.iter().map(|waiter| waiter.queued_at).min()
    }

    /// Removes and returns waiters.
    pub fn take_waiters(&self, id: &PartitionId, mut which: impl FnMut(&Waiter) -> bool) -> Vec<Waiter> {
        let mut partitions = self.partitions.lock();
        let Some(queue) = partitions.get_mut(id) else { return Vec::new() };
        queue.waiters.extract_if(.., |waiter| which(waiter)).collect()
    }

    /// Drops all waiters of a partition that has lost its dispatcher.
    pub fn abandon(&self, id: &PartitionId) {
        if let Some(queue) = self.partitions.lock().get_mut(id) {
            (queue.is_dispatching, queue.waiters) = (false, Vec::new());
        }
    }

    /// Ends the dispatcher of a partition for which no load waits. The next load starts another one.
    pub fn end_dispatcher(&self, id: &PartitionId) -> bool {
        let mut partitions = self.partitions.lock();
        let Some(queue) = partitions.get_mut(id) else { return true };
        queue.is_dispatching = !queue.waiters.is_empty();
        !queue.is_dispatching
    }
}
