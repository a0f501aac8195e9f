//! The bytes that all replays of the process together may hold: what they read ahead, what they fold, what is being sent.
//!
//! Promises: what was taken comes back when its [`MemoryReservation`] is dropped, which is when the stream ends; the whole is never more
//! than the budget. Nobody waits here: a load that has begun and finds no room is an error, since waiting for others that wait
//! as well would end with nobody.
//!
//! Does not: measure. Bytes are counted by [`Record::weight`](crate::model::Record::weight), and taken in steps, so that a
//! record costs no atomic operation.

use std::sync::{
    Arc,
    atomic::{
        AtomicUsize,
        Ordering::{Relaxed, SeqCst},
    },
};

use crate::metrics::Metrics;

/// What is taken at a time.
const STEP: usize = 256 * 1024;

/// The process's budget.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: usize,
    reserved: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// The budget, in bytes.
    pub limit: usize,
    /// What all replays held at that moment.
    pub reserved: usize,
    /// What one of them wanted on top.
    pub requested: usize,
}

impl MemoryBudget {
    /// A budget of so many bytes.
    pub fn new(limit: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limit, reserved: AtomicUsize::new(0), metrics })
    }

    /// Takes what a replay reads ahead, if there is room.
    pub fn reserve(self: &Arc<Self>, read_ahead: usize) -> Result<MemoryReservation, Exhausted> {
        let mut reservation = MemoryReservation { budget: self.clone(), read_ahead, bytes: 0 };
        reservation.reserve(0)?;
        Ok(reservation)
    }

    fn try_add(&self, requested: usize) -> Result<(), Exhausted> {
        let fits = |reserved: usize| reserved.checked_add(requested).filter(|sum| *sum <= self.limit);
        match self.reserved.fetch_update(SeqCst, Relaxed, fits) {
            Ok(_) => {
                self.metrics.add_replay_memory(i64::try_from(requested).unwrap_or(i64::MAX));
                Ok(())
            }
            Err(reserved) => Err(Exhausted { limit: self.limit, reserved, requested }),
        }
    }
}

/// What one stream has taken. Given back when dropped.
#[derive(Debug)]
pub struct MemoryReservation {
    budget: Arc<MemoryBudget>,
    /// What it reads ahead.
    read_ahead: usize,
    bytes: usize,
}

impl MemoryReservation {
    /// Holds so many bytes beside what is read ahead, or more, until the end: what was folded is sent, and is in memory until
    /// then.
    pub fn reserve(&mut self, fold_bytes: usize) -> Result<(), Exhausted> {
        let wanted = self.read_ahead.saturating_add(fold_bytes.div_ceil(STEP).saturating_mul(STEP));
        if wanted > self.bytes {
            self.budget.try_add(wanted - self.bytes)?;
            self.bytes = wanted;
        }
        Ok(())
    }

    /// Gives back all but what is read ahead.
    pub fn release_fold(&mut self) {
        let surplus = self.bytes.saturating_sub(self.read_ahead);
        self.bytes -= surplus;
        self.budget.reserved.fetch_sub(surplus, SeqCst);
        self.budget.metrics.add_replay_memory(-i64::try_from(surplus).unwrap_or(i64::MAX));
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        self.budget.reserved.fetch_sub(self.bytes, SeqCst);
        self.budget.metrics.add_replay_memory(-i64::try_from(self.bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r21_replays_together_hold_no_more_than_the_budget_and_give_all_of_it_back() {
        let budget = MemoryBudget::new(4 * STEP, Arc::default());
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
