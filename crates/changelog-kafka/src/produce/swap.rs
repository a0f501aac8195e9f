//! Replaces working producers while writes go on.
//!
//! The partitions of a producer are held until it has no write any more. So new writes can't overtake those that the
//! old producer still sends, and no write is discarded. If the brokers do not answer, for example because they reject
//! the old password, the old producer would keep its writes until they time out. So it gets [`SWAP_FLUSH_TIMEOUT`].
//!
//! Promises: no write is held longer than that. Does not: make the new producers.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rdkafka::producer::{Producer as _, PurgeConfig};

use super::{delivery::Producer, submit::Submitter};
use crate::timeouts::{SWAP_CHECK_INTERVAL, SWAP_FLUSH_TIMEOUT};

/// Puts each new producer into its slot. Returns the old ones. Blocks.
///
/// Writes that an old producer still has at the end of the time are purged: those that were not sent are reported as
/// not written, and the outcome of the others is not known.
pub fn swap(submitter: &Submitter, new: Vec<(usize, Arc<Producer>)>) -> Vec<Arc<Producer>> {
    let deadline = Instant::now() + SWAP_FLUSH_TIMEOUT;
    let mut waiting: Vec<_> = new.into_iter().map(|(slot, new)| (HeldSlot::hold(submitter, slot), new)).collect();
    let mut replaced = Vec::new();
    loop {
        let is_late = Instant::now() >= deadline;
        for (slot, new) in std::mem::take(&mut waiting) {
            let is_settled = slot.flush();
            if is_settled || is_late {
                replaced.push(slot.replace(new, !is_settled));
            } else {
                waiting.push((slot, new));
            }
        }
        if waiting.is_empty() {
            return replaced;
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

    /// Tells the producer not to wait for more writes. Returns whether it has none, and will get none.
    fn flush(&self) -> bool {
        let producer = self.submitter.slots[self.slot].read().clone();
        let _ = producer.flush(Duration::ZERO);
        // Not the count of the producer, because a write may have been taken and not have reached it.
        self.submitter.partitions_of(self.slot).all(|index| self.submitter.coalescers.is_settled(index))
    }

    fn replace(&self, new: Arc<Producer>, purge: bool) -> Arc<Producer> {
        let mut producer = self.submitter.slots[self.slot].write();
        if purge {
            producer.purge(PurgeConfig::default().queue().inflight());
        }
        std::mem::replace(&mut *producer, new)
    }
}

impl Drop for HeldSlot<'_> {
    fn drop(&mut self) {
        self.submitter.partitions_of(self.slot).for_each(|index| self.submitter.coalescers.release(index));
    }
}
