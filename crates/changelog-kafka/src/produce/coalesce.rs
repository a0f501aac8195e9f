//! Per-partition write coalescing. While a partition has writes in flight, new ones are queued. When the ones in flight
//! are completed, the queued ones are submitted together.
//!
//! With linger.ms=0 librdkafka sends each record as soon as it can. That is right for a lone write. Under load it makes
//! many small requests, and a small request costs librdkafka and the broker as much as a large one. A longer linger
//! would delay the lone write, too. Nagle's algorithm (RFC 896) does the same for TCP segments: the round trip of the
//! writes in flight is the linger.
//!
//! Promises:
//! - Writes of a partition are submitted in the order in which they came.
//! - A write to an idle partition is submitted at once.
//! - No write waits for others longer than [`MAX_COALESCE_WAIT`] and the submit thread's next check.
//!
//! Does not know what it queues, and submits nothing itself.

use std::{collections::VecDeque, time::Instant};

use parking_lot::{Condvar, Mutex};

use crate::timeouts::{COALESCE_CHECK_INTERVAL, MAX_COALESCE_WAIT};

#[derive(Debug)]
struct State<T> {
    /// Writes that are submitted, or taken to be submitted, and not completed.
    in_flight: usize,
    /// A thread submits now. New writes must not overtake it, so they are queued.
    submitting: bool,
    queued: VecDeque<T>,
    /// When the first queued write came.
    queued_since: Option<Instant>,
}

/// The queue of one partition.
#[derive(Debug)]
pub struct PartitionCoalescer<T> {
    state: Mutex<State<T>>,
}

impl<T> Default for PartitionCoalescer<T> {
    fn default() -> Self {
        let state = State { in_flight: 0, submitting: false, queued: VecDeque::new(), queued_since: None };
        Self { state: Mutex::new(state) }
    }
}

/// What the caller must do with a write.
#[derive(Debug, PartialEq, Eq)]
pub enum Submit<T> {
    /// Submit it, then call [`PartitionCoalescer::submitted`].
    Now(T),
    /// It is queued.
    Queued {
        /// It is the only one, so the submit thread must know of the queue.
        first: bool,
    },
}

impl<T> PartitionCoalescer<T> {
    /// Takes a new write.
    pub fn submit(&self, write: T) -> Submit<T> {
        let mut state = self.state.lock();
        if state.in_flight == 0 && !state.submitting && state.queued.is_empty() {
            (state.in_flight, state.submitting) = (1, true);
            return Submit::Now(write);
        }
        state.queued.push_back(write);
        let first = state.queued.len() == 1;
        if first {
            state.queued_since = Some(Instant::now());
        }
        Submit::Queued { first }
    }

    /// The queue, if it is to be submitted now. [`PartitionCoalescer::submitted`] must be called afterwards.
    pub fn take(&self) -> Option<VecDeque<T>> {
        let mut state = self.state.lock();
        let overdue = state.queued_since.is_some_and(|queued_since| queued_since.elapsed() >= MAX_COALESCE_WAIT);
        if state.submitting || state.queued.is_empty() || state.in_flight > 0 && !overdue {
            return None;
        }
        (state.submitting, state.queued_since) = (true, None);
        state.in_flight += state.queued.len();
        Some(std::mem::take(&mut state.queued))
    }

    /// Writes that were taken have been submitted, except for `rejected` ones, which are completed, and `returned`
    /// ones, for which librdkafka had no room. The returned ones stay queued. Returns whether the queue is to be
    /// submitted now.
    pub fn submitted(&self, rejected: usize, returned: VecDeque<T>) -> bool {
        let mut state = self.state.lock();
        state.submitting = false;
        state.in_flight -= rejected + returned.len();
        if !returned.is_empty() {
            let newer = std::mem::replace(&mut state.queued, returned);
            state.queued.extend(newer);
            state.queued_since = Some(Instant::now());
            return false;
        }
        state.in_flight == 0 && !state.queued.is_empty()
    }

    /// A write was completed. Returns whether the queue is to be submitted now.
    pub fn completed(&self) -> bool {
        let mut state = self.state.lock();
        state.in_flight -= 1;
        state.in_flight == 0 && !state.submitting && !state.queued.is_empty()
    }

    pub fn has_queued(&self) -> bool {
        !self.state.lock().queued.is_empty()
    }

    /// Takes the queue, to discard it.
    pub fn discard_queued(&self) -> VecDeque<T> {
        std::mem::take(&mut self.state.lock().queued)
    }
}

#[derive(Debug, Default)]
struct WakeupState {
    ready: Vec<usize>,
    /// The submit thread sleeps without a timeout.
    idle: bool,
    stopped: bool,
}

/// Wakes the submit thread.
#[derive(Debug, Default)]
pub struct Wakeup {
    state: Mutex<WakeupState>,
    condvar: Condvar,
}

impl Wakeup {
    /// The queue of this partition is ready to be submitted.
    pub fn notify(&self, coalescer: usize) {
        let mut state = self.state.lock();
        state.ready.push(coalescer);
        state.idle = false;
        self.condvar.notify_one();
    }

    /// A queue is not empty any more.
    pub fn notify_if_idle(&self) {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.idle) {
            self.condvar.notify_one();
        }
    }

    /// Ends the submit thread.
    pub fn stop(&self) {
        self.state.lock().stopped = true;
        self.condvar.notify_one();
    }

    /// Waits until queues are ready, and returns their partitions. An empty list means that all queues are to be
    /// checked; `None` means that the thread must end.
    pub fn wait(&self, has_queued: impl Fn() -> bool) -> Option<Vec<usize>> {
        let mut state = self.state.lock();
        if state.ready.is_empty() && !state.stopped {
            // Set before the check, so that a queue that fills after the check wakes the thread.
            state.idle = true;
            drop(state);
            let queued = has_queued();
            state = self.state.lock();
            let nothing = |state: &mut WakeupState| state.ready.is_empty() && !state.stopped;
            if queued {
                state.idle = false;
                self.condvar.wait_while_for(&mut state, nothing, COALESCE_CHECK_INTERVAL);
            } else {
                self.condvar.wait_while(&mut state, |state| state.idle && nothing(state));
            }
            state.idle = false;
        }
        (!state.stopped).then(|| std::mem::take(&mut state.ready))
    }
}

/// The coalescers of all partitions, by index, and the wake-up of the submit thread.
pub struct Coalescers<T> {
    partitions: Vec<PartitionCoalescer<T>>,
    wakeup: Wakeup,
}

impl<T> Coalescers<T> {
    pub fn new(partitions: usize) -> Self {
        let partitions = (0..partitions).map(|_| PartitionCoalescer::default()).collect();
        Self { partitions, wakeup: Wakeup::default() }
    }

    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Takes a new write. Returns it if the caller must submit it, and then call [`Coalescers::submitted`].
    pub fn submit(&self, index: usize, write: T) -> Option<T> {
        match self.partitions[index].submit(write) {
            Submit::Now(write) => Some(write),
            Submit::Queued { first } => {
                if first {
                    self.wakeup.notify_if_idle();
                }
                None
            }
        }
    }

    /// See [`PartitionCoalescer::take`].
    pub fn take(&self, index: usize) -> Option<VecDeque<T>> {
        self.partitions[index].take()
    }

    /// See [`PartitionCoalescer::submitted`].
    pub fn submitted(&self, index: usize, rejected: usize, returned: VecDeque<T>) {
        if self.partitions[index].submitted(rejected, returned) {
            self.wakeup.notify(index);
        }
    }

    /// A write was completed.
    pub fn completed(&self, index: usize) {
        if self.partitions[index].completed() {
            self.wakeup.notify(index);
        }
    }

    /// See [`Wakeup::wait`].
    pub fn wait(&self) -> Option<Vec<usize>> {
        self.wakeup.wait(|| self.has_queued())
    }

    pub fn has_queued(&self) -> bool {
        self.partitions.iter().any(PartitionCoalescer::has_queued)
    }

    /// Ends the submit thread.
    pub fn stop(&self) {
        self.wakeup.stop();
    }

    /// Takes all queues, to discard them.
    pub fn discard_queued(&self) -> impl Iterator<Item = T> {
        self.partitions.iter().flat_map(PartitionCoalescer::discard_queued)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> VecDeque<u8> {
        VecDeque::new()
    }

    #[test]
    fn a_lone_write_goes_at_once_and_later_ones_go_together_after_its_answer() {
        let coalescer = PartitionCoalescer::default();
        assert_eq!(coalescer.submit(1), Submit::Now(1));
        assert!(!coalescer.submitted(0, none()));
        assert_eq!(coalescer.submit(2), Submit::Queued { first: true });
        assert_eq!(coalescer.submit(3), Submit::Queued { first: false });
        assert!(coalescer.take().is_none(), "the writes in flight are not completed");
        assert!(coalescer.completed());
        assert_eq!(coalescer.take().unwrap(), [2, 3]);
        assert!(!coalescer.submitted(0, none()));
        assert_eq!(coalescer.submit(4), Submit::Queued { first: true });
        assert!(!coalescer.completed(), "one of two");
        assert!(coalescer.completed());
        assert_eq!(coalescer.take().unwrap(), [4]);
        assert!(!coalescer.submitted(1, none()), "a rejected write is completed");
        assert_eq!(coalescer.submit(5), Submit::Now(5), "idle again");
    }

    /// Covers C45.
    #[test]
    fn no_write_overtakes_one_that_is_being_submitted() {
        let coalescer = PartitionCoalescer::default();
        assert_eq!(coalescer.submit(1), Submit::Now(1));
        assert_eq!(coalescer.submit(2), Submit::Queued { first: true });
        std::thread::sleep(MAX_COALESCE_WAIT);
        assert!(coalescer.take().is_none(), "the first is not submitted yet");
        assert!(!coalescer.completed(), "`submitted` reports it");
        assert!(coalescer.submitted(0, none()));
        assert_eq!(coalescer.take().unwrap(), [2]);
        assert_eq!(coalescer.submit(3), Submit::Queued { first: true });
        assert!(!coalescer.submitted(0, VecDeque::from([2])), "without room it is tried later");
        std::thread::sleep(MAX_COALESCE_WAIT);
        assert_eq!(coalescer.take().unwrap(), [2, 3]);
    }

    #[test]
    fn queued_writes_do_not_wait_forever_for_a_missing_answer() {
        let coalescer = PartitionCoalescer::default();
        assert_eq!(coalescer.submit(1), Submit::Now(1));
        assert!(!coalescer.submitted(0, none()));
        assert_eq!(coalescer.submit(2), Submit::Queued { first: true });
        std::thread::sleep(MAX_COALESCE_WAIT);
        assert_eq!(coalescer.take().unwrap(), [2]);
    }

    #[test]
    fn the_submit_thread_sleeps_only_when_nothing_is_queued() {
        let wakeup = Wakeup::default();
        wakeup.notify(3);
        assert_eq!(wakeup.wait(|| unreachable!("a partition is ready")), Some(vec![3]));
        assert_eq!(wakeup.wait(|| true), Some(Vec::new()), "all are checked after a while");
        // A queue that fills just before the thread sleeps wakes it.
        let begins_to_queue = || {
            wakeup.notify_if_idle();
            false
        };
        assert_eq!(wakeup.wait(begins_to_queue), Some(Vec::new()));
        wakeup.stop();
        assert_eq!(wakeup.wait(|| true), None);
    }
}
