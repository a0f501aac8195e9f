//! The memory budget of all replays of the process: records read ahead, folded, or being sent.
//!
//! Promises: reservations together never exceed the budget. A reservation is released when its [`MemoryReservation`] is
//! dropped, which is when the stream ends. No reservation waits: a replay that has begun holds memory, so replays that
//! wait for each other could wait forever. It fails instead.
//! Does not: measure memory. Bytes are estimated by [`Record::memory_size`](crate::model::Record::memory_size). They are
//! reserved in steps, so that a record costs no atomic operation.

use std::sync::{
    Arc,
    atomic::{
        AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

/// Bytes that are reserved at a time.
const STEP: usize = 256 * 1024;

/// A budget in bytes, with what is reserved of it.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: usize,
    reserved: AtomicUsize,
}

/// The budget has too few bytes left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// The budget, in bytes.
    pub limit: usize,
    /// Bytes that all replays had reserved.
    pub reserved: usize,
    /// Bytes that one of them requested in addition.
    pub requested: usize,
}

impl MemoryBudget {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, reserved: AtomicUsize::new(0) })
    }

    /// Reserves the memory of a replay for reading ahead.
    pub fn reserve(self: &Arc<Self>, read_ahead: usize) -> Result<MemoryReservation, Exhausted> {
        let mut reservation = MemoryReservation { budget: self.clone(), read_ahead, bytes: 0 };
        reservation.reserve(0)?;
        Ok(reservation)
    }

    fn try_add(&self, requested: usize) -> Result<(), Exhausted> {
        let fits = |reserved: usize| reserved.checked_add(requested).filter(|sum| *sum <= self.limit);
        match self.reserved.fetch_update(SeqCst, Relaxed, fits) {
            Ok(_) => Ok(()),
            Err(reserved) => Err(Exhausted { limit: self.limit, reserved, requested }),
        }
    }

    /// Bytes that all replays have reserved.
    pub fn reserved(&self) -> usize {
        self.reserved.load(SeqCst)
    }
}

/// The memory that one replay has reserved. Released on drop.
#[derive(Debug)]
pub struct MemoryReservation {
    budget: Arc<MemoryBudget>,
    /// Bytes for reading ahead.
    read_ahead: usize,
    bytes: usize,
}

impl MemoryReservation {
    /// Reserves memory for folded records, next to the memory for reading ahead. Never shrinks: folded records stay in
    /// memory until they are sent.
    pub fn reserve(&mut self, fold_bytes: usize) -> Result<(), Exhausted> {
        let wanted = self.read_ahead.saturating_add(fold_bytes.div_ceil(STEP).saturating_mul(STEP));
        if wanted > self.bytes {
            self.budget.try_add(wanted - self.bytes)?;
            self.bytes = wanted;
        }
        Ok(())
    }

    /// Releases the memory for folded records.
    pub fn release_fold(&mut self) {
        let surplus = self.bytes.saturating_sub(self.read_ahead);
        self.bytes -= surplus;
        self.budget.reserved.fetch_sub(surplus, SeqCst);
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        self.budget.reserved.fetch_sub(self.bytes, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers R21, K6.
    #[test]
    fn replays_share_the_memory_budget_and_return_all_of_it() {
        let budget = MemoryBudget::new(4 * STEP);
        let mut first = budget.reserve(STEP).unwrap();
        first.reserve(1).unwrap();
        first.reserve(STEP).unwrap();
        let mut second = budget.reserve(2 * STEP).unwrap();
        let full = Exhausted { limit: 4 * STEP, reserved: 4 * STEP, requested: STEP };
        assert_eq!(second.reserve(1), Err(full));
        assert_eq!(budget.reserve(1).unwrap_err(), Exhausted { requested: 1, ..full });
        drop(first);
        second.reserve(2 * STEP).unwrap();
        second.reserve(0).unwrap();
        assert_eq!(budget.reserved.load(SeqCst), 4 * STEP, "what was folded is held while it is sent");
        drop(second);
        assert_eq!(budget.reserved.load(SeqCst), 0);
    }
}
