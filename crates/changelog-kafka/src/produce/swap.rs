//! Replaces working producers while writes go on.
//!
//! The partitions of a producer are held until it has no write any more. So new writes can't overtake those that the
//! old producer still sends, and no write is discarded. Held writes are late, so they are held for
//! [`SWAP_FLUSH_TIMEOUT`] at most. A producer that has writes then, because its brokers are slow, goes on and is
//! replaced later. One that the brokers reject would keep its writes until they time out, so it is purged.
//!
//! Promises: no write is held longer than that, and none fails that its producer can still deliver. Does not: make the
//! new producers, or decide when to try again.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::producer::{Producer as _, PurgeConfig};

use super::{delivery::Producer, submit::Submitter};
use crate::timeouts::{SWAP_CHECK_INTERVAL, SWAP_FLUSH_TIMEOUT};

/// What became of the producers.
#[derive(Default)]
pub struct Swapped {
    /// Old producers whose place another one has.
    pub replaced: Vec<Arc<Producer>>,
    /// New producers that are not used, because the old ones go on.
    pub unused: Vec<Arc<Producer>>,
}

/// Puts each new producer into its slot, unless the old one goes on. Blocks.
///
/// Writes of a purged producer are reported as not written if they were not sent, and else as unknown.
pub fn swap(submitter: &Submitter, new: Vec<(usize, Arc<Producer>)>) -> Swapped {
    let deadline = Instant::now() + SWAP_FLUSH_TIMEOUT;
    let mut waiting: Vec<_> = new.into_iter().map(|(slot, new)| (HeldSlot::hold(submitter, slot), new)).collect();
    let mut swapped = Swapped::default();
    loop {
        let is_late = Instant::now() >= deadline;
        for (slot, new) in std::mem::take(&mut waiting) {
            if slot.flush() {
                swapped.replaced.push(slot.replace(new));
            } else if !is_late {
                waiting.push((slot, new));
            } else if slot.producer().context().may_go_on() {
                swapped.unused.push(new);
            } else {
                swapped.replaced.push(slot.purge_and_replace(new));
            }
        }
        if waiting.is_empty() {
            return swapped;
        }
        // No lock is held meanwhile: callers that accept writes run on the runtime.
        thread::sleep(SWAP_CHECK_INTERVAL);
    }
}

/// A slot whose partitions are held until this is dropped.
struct HeldSlot<'a> {
    submitter: &'a Submitter,
    slot: usize,
}

impl<'a> HeldSlot<'a> {
    fn hold(submitter: &'a Submitter, slot: usize) -> Self {
        submitter.partitions_of(slot).for_each(|index| submitter.coalescers.hold(index));
        Self { submitter, slot }
    }

    fn producer(&self) -> Arc<Producer> {
        self.submitter.slots[self.slot].read().clone()
    }

    /// Tells the producer not to wait for more writes. Returns whether it has none, and will get none.
    fn flush(&self) -> bool {
        let _ = self.producer().flush(Duration::ZERO);
        // Not the count of the producer, because a write may have been taken and not have reached it.
        self.submitter.partitions_of(self.slot).all(|index| self.submitter.coalescers.is_settled(index))
    }

    fn replace(&self, new: Arc<Producer>) -> Arc<Producer> {
        std::mem::replace(&mut *self.submitter.slots[self.slot].write(), new)
    }

    fn purge_and_replace(&self, new: Arc<Producer>) -> Arc<Producer> {
        // Under the lock, so that no write reaches the old producer after the purge.
        let mut producer = self.submitter.slots[self.slot].write();
        producer.purge(PurgeConfig::default().queue().inflight());
        std::mem::replace(&mut *producer, new)
    }
}

impl Drop for HeldSlot<'_> {
    fn drop(&mut self) {
        self.submitter.partitions_of(self.slot).for_each(|index| self.submitter.coalescers.release(index));
    }
}
