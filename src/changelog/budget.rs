//! The bytes that all replays of the process together may hold: what they read ahead, what they fold, what is being sent.
//!
//! Promises: what was taken comes back when its [`Held`] is dropped, which is when the stream ends; the whole is never more
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
pub struct Budget {
    limit: usize,
    held: AtomicUsize,
    metrics: Arc<Metrics>,
}

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exhausted {
    /// The budget, in bytes.
    pub limit: usize,
    /// What all replays held at that moment.
    pub held: usize,
    /// What one of them wanted on top.
    pub wanted: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(limit: usize, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { limit, held: AtomicUsize::new(0), metrics })
    }

    /// Takes what a replay reads ahead, if there is room.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Result<Held, Exhausted> {
        let mut held = Held { budget: self.clone(), base: bytes, bytes: 0 };
        held.grow(0)?;
        Ok(held)
    }

    fn add(&self, wanted: usize) -> Result<(), Exhausted> {
        let fits = |held: usize| held.checked_add(wanted).filter(|sum| *sum <= self.limit);
        match self.held.fetch_update(SeqCst, Relaxed, fits) {
            Ok(_) => {
                self.metrics.replay_bytes_held(i64::try_from(wanted).unwrap_or(i64::MAX));
                Ok(())
            }
            Err(held) => Err(Exhausted { limit: self.limit, held, wanted }),
        }
    }
}

/// What one stream has taken. Given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    /// What it reads ahead.
    base: usize,
    bytes: usize,
}

impl Held {
    /// Holds so many bytes beside what is read ahead, or more, until the end: what was folded is sent, and is in memory until
    /// then.
    pub fn grow(&mut self, beside: usize) -> Result<(), Exhausted> {
        let wanted = self.base.saturating_add(beside.div_ceil(STEP).saturating_mul(STEP));
        if wanted > self.bytes {
            self.budget.add(wanted - self.bytes)?;
            self.bytes = wanted;
        }
        Ok(())
    }

    /// Gives back all but what is read ahead.
    pub fn shrink(&mut self) {
        let surplus = self.bytes.saturating_sub(self.base);
        self.bytes -= surplus;
        self.budget.held.fetch_sub(surplus, SeqCst);
        self.budget.metrics.replay_bytes_held(-i64::try_from(surplus).unwrap_or(i64::MAX));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, SeqCst);
        self.budget.metrics.replay_bytes_held(-i64::try_from(self.bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers R21, K6.
    #[test]
    fn replays_share_the_memory_budget_and_return_all_of_it() {
        let budget = Budget::new(4 * STEP, Arc::default());
        let mut first = budget.take(STEP).unwrap();
        first.grow(1).unwrap();
        first.grow(STEP).unwrap();
        let mut second = budget.take(2 * STEP).unwrap();
        let full = Exhausted { limit: 4 * STEP, held: 4 * STEP, wanted: STEP };
        assert_eq!(second.grow(1), Err(full));
        assert_eq!(budget.take(1).unwrap_err(), Exhausted { wanted: 1, ..full });
        drop(first);
        second.grow(2 * STEP).unwrap();
        second.grow(0).unwrap();
        assert_eq!(budget.held.load(SeqCst), 4 * STEP, "what was folded is held while it is sent");
        drop(second);
        assert_eq!(budget.held.load(SeqCst), 0);
    }
}
