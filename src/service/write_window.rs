//! How much of a `Write` stream may be outstanding: mutations that were read, until their verdicts are written to the
//! client's socket.
//!
//! Promises: units that are taken have their memory reserved, also if the client leaves before the outcomes are known.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::memory::{Full, MemoryPart, Reserved};

/// Units between reading mutations and sending their verdicts.
const WINDOW: usize = 16_384;
/// What a unit takes at most, besides what the queue of the log counts. The verdict of a failure has a text, which is
/// longer than a verdict of success.
const UNIT_BYTES: u64 = 256;
/// A unit more for each of these bytes of a key, which a failure names, and of a refusal.
const KEY_UNIT_BYTES: usize = 256;
/// A unit more for each of these bytes of a value. They are in the queue of the log, and leave it late if it is slow.
const VALUE_UNIT_BYTES: usize = 1024;
/// Memory is reserved in steps. Up to 64 KiB may use the reserve for small requests.
const MEMORY_STEP: u64 = 16 * 1024;

/// The window of one stream.
#[derive(Debug)]
pub struct WriteWindow {
    units: Semaphore,
    reserved: Mutex<Reserved>,
    requests: Arc<MemoryPart>,
}

/// Units of a window, until they are dropped.
#[derive(Debug)]
pub struct Units {
    count: usize,
    window: Arc<WriteWindow>,
}

/// What a mutation takes.
pub fn units_of(key: usize, value: usize) -> usize {
    (1 + key / KEY_UNIT_BYTES + value / VALUE_UNIT_BYTES).min(WINDOW)
}

/// What a mutation takes whose refusal takes so many bytes until its verdict is sent.
pub fn units_of_refusal(bytes: usize) -> usize {
    (1 + bytes / KEY_UNIT_BYTES).min(WINDOW)
}

impl WriteWindow {
    pub fn new(requests: &Arc<MemoryPart>) -> Arc<Self> {
        let (units, reserved) = (Semaphore::new(WINDOW), Mutex::new(requests.nothing()));
        Arc::new(Self { units, reserved, requests: requests.clone() })
    }

    /// Waits until so many units are free.
    pub async fn take(self: &Arc<Self>, units: usize) -> Units {
        let count = units.min(WINDOW);
        // It is never closed.
        if let Ok(taken) = self.units.acquire_many(u32::try_from(count).unwrap_or(u32::MAX)).await {
            taken.forget();
        }
        Units { count, window: self.clone() }
    }

    /// Reserves memory for all units that are taken. Waits for room if there is none. One task at a time may call it.
    pub async fn reserve(&self) -> Result<(), Full> {
        let needed = self.needed();
        let missing = needed.saturating_sub(self.reserved.lock().bytes());
        if missing > 0 {
            let more = self.requests.reserve_more_before(missing, needed, None).await?;
            self.reserved.lock().absorb(more);
        }
        Ok(())
    }

    fn needed(&self) -> u64 {
        let taken = WINDOW - self.units.available_permits();
        (taken as u64 * UNIT_BYTES).next_multiple_of(MEMORY_STEP)
    }

    fn release(&self, units: usize) {
        self.units.add_permits(units);
        let mut reserved = self.reserved.lock();
        // Under the lock: units that are taken meanwhile are reserved after this.
        let needed = self.needed();
        // Not for every message: the next ones need it again.
        if needed < reserved.bytes() / 4 {
            reserved.shrink_to(needed);
        }
    }
}

impl Units {
    /// Adds other units of the window.
    pub fn merge(&mut self, mut other: Self) {
        self.count += std::mem::take(&mut other.count);
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        if self.count > 0 {
            self.window.release(self.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Covers S19.
        #[test]
        fn units_that_are_taken_have_their_memory_and_the_rest_is_released(
            steps in prop::collection::vec((0..6_usize, 0..2_000_usize, 0..40_000_usize, any::<bool>()), 1..60),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let part = MemoryPart::new("requests", u64::MAX, 0);
                let window = WriteWindow::new(&part);
                let mut slots: Vec<Option<(usize, Units)>> = (0..6).map(|_| None).collect();
                for (slot, key, value, merge) in steps {
                    let units = units_of(key, value);
                    let (taken, before) = (window.take(units).await, slots[slot].take());
                    slots[slot] = match before {
                        Some((had, mut units_before)) if merge => {
                            units_before.merge(taken);
                            Some((had + units, units_before))
                        }
                        before => {
                            drop(before);
                            Some((units, taken))
                        }
                    };
                    window.reserve().await.unwrap();
                    let all: usize = slots.iter().flatten().map(|(units, _)| units).sum();
                    prop_assert!(part.used() >= all as u64 * UNIT_BYTES);
                    prop_assert!(part.used() <= 4 * (all as u64 * UNIT_BYTES + MEMORY_STEP));
                }
                drop(window);
                drop(slots);
                prop_assert_eq!(part.used(), 0);
                Ok(())
            })?;
        }
    }
}
