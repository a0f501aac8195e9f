//! Per-partition write coalescing. While a partition has writes in flight, new ones are queued. When the ones in flight
//! are completed, or after [`MAX_COALESCE_WAIT`], the queued ones are submitted together.
//!
//! With linger.ms=0 librdkafka sends each record as soon as it can. That is right for a lone write. Under load it makes
//! many small requests, and a small request costs librdkafka and the broker as much as a large one. A longer linger
//! would delay the lone write, too. So the linger is the round trip of the writes in flight. Nagle's algorithm
//! (RFC 896) collects TCP segments in the same way.
//!
//! A write is *submitted* when librdkafka takes its record, and *completed* when its delivery report comes. In this
//! file it is *in flight* between these two. A partition without queued writes and writes in flight is *idle*. The
//! caller submits a write to an idle partition itself. One thread, the *submit thread*, submits queued writes.
//!
//! Promises:
//! - Writes of a partition are submitted in the order in which they came.
//! - A write to an idle partition is submitted at once.
//! - No write waits for others longer than [`MAX_COALESCE_WAIT`] plus [`COALESCE_CHECK_INTERVAL`], after which the
//!   submit thread checks all queues. While a partition is *held*, its writes are queued until it is released.
//!
//! Decides only when a write is submitted: [`super::submit`] submits it.

use std::{collections::VecDeque, time::Instant};

use parking_lot::{Condvar, Mutex};

use crate::timeouts::{COALESCE_CHECK_INTERVAL, MAX_COALESCE_WAIT};

/// The writes of one partition.
#[derive(Debug)]
struct PartitionWrites<T> {
    /// Writes that are submitted, or taken to be submitted, and not completed.
    in_flight: usize,
    /// A thread submits now. New writes must not overtake it, so they are queued.
    submitting: bool,
    /// Nothing is submitted, because the producer is being replaced.
    held: bool,
    queued: VecDeque<T>,
    /// When the first queued write came.
    queued_since: Option<Instant>,
}

impl<T> Default for PartitionWrites<T> {
    fn default() -> Self {
        Self { in_flight: 0, submitting: false, held: false, queued: VecDeque::new(), queued_since: None }
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

/// The writes of all partitions, by index, and the wake-up of the submit thread.
pub struct Coalescers<T> {
    partitions: Vec<Mutex<PartitionWrites<T>>>,
    wakeup: Wakeup,
}

impl<T> Coalescers<T> {
    pub fn new(partitions: usize) -> Self {
        Self { partitions: (0..partitions).map(|_| Mutex::default()).collect(), wakeup: Wakeup::default() }
    }

    pub fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Takes a new write. Returns it if the caller must submit it, and then call [`Coalescers::submitted`]. Otherwise
    /// it is queued.
    pub fn submit(&self, index: usize, write: T) -> Option<T> {
        let mut writes = self.partitions[index].lock();
        if writes.in_flight == 0 && !writes.submitting && !writes.held && writes.queued.is_empty() {
            (writes.in_flight, writes.submitting) = (1, true);
            return Some(write);
        }
        writes.queued.push_back(write);
        if writes.queued.len() == 1 {
            writes.queued_since = Some(Instant::now());
            drop(writes);
            self.wakeup.notify_if_idle();
        }
        None
    }

    /// The queue of a partition, if it is to be submitted now. [`Coalescers::submitted`] must be called afterwards.
    pub fn take(&self, index: usize) -> Option<VecDeque<T>> {
        let mut writes = self.partitions[index].lock();
        let overdue = writes.queued_since.is_some_and(|queued_since| queued_since.elapsed() >= MAX_COALESCE_WAIT);
        if writes.submitting || writes.held || writes.queued.is_empty() || writes.in_flight > 0 && !overdue {
            return None;
        }
        (writes.submitting, writes.queued_since) = (true, None);
        writes.in_flight += writes.queued.len();
        Some(std::mem::take(&mut writes.queued))
    }

    /// Writes that were taken have been submitted, except for `rejected` ones, which are completed, and `returned`
    /// ones, for which librdkafka had no room. The returned ones stay queued.
    pub fn submitted(&self, index: usize, rejected: usize, returned: VecDeque<T>) {
        let mut writes = self.partitions[index].lock();
        writes.submitting = false;
        writes.in_flight -= rejected + returned.len();
        if !returned.is_empty() {
            let newer = std::mem::replace(&mut writes.queued, returned);
            writes.queued.extend(newer);
            writes.queued_since = Some(Instant::now());
            return;
        }
        if writes.in_flight == 0 && !writes.queued.is_empty() {
            drop(writes);
            self.wakeup.notify(index);
        }
    }

    /// A write was completed.
    pub fn completed(&self, index: usize) {
        let mut writes = self.partitions[index].lock();
        writes.in_flight -= 1;
        if writes.in_flight == 0 && !writes.submitting && !writes.queued.is_empty() {
            drop(writes);
            self.wakeup.notify(index);
        }
    }

    /// Queues the writes of a partition from now on. One that was taken before may still be submitted.
    pub fn hold(&self, index: usize) {
        self.partitions[index].lock().held = true;
    }

    /// Whether all writes that were taken are completed. Stays so while the partition is held.
    pub fn is_settled(&self, index: usize) -> bool {
        let writes = self.partitions[index].lock();
        writes.in_flight == 0 && !writes.submitting
    }

    /// Ends [`Coalescers::hold`].
    pub fn release(&self, index: usize) {
        let mut writes = self.partitions[index].lock();
        writes.held = false;
        if writes.in_flight == 0 && !writes.submitting && !writes.queued.is_empty() {
            drop(writes);
            self.wakeup.notify(index);
        }
    }

    /// See [`Wakeup::wait`].
    pub fn wait(&self) -> Option<Vec<usize>> {
        self.wakeup.wait(|| self.has_queued())
    }

    pub fn has_queued(&self) -> bool {
        self.partitions.iter().any(|writes| !writes.lock().queued.is_empty())
    }

    #[cfg(test)]
    pub fn is_submitting(&self) -> bool {
        self.partitions.iter().any(|writes| writes.lock().submitting)
    }

    /// Ends the submit thread.
    pub fn stop(&self) {
        self.wakeup.stop();
    }

    /// Takes all queues, to discard them.
    pub fn discard_queued(&self) -> impl Iterator<Item = T> {
        self.partitions.iter().flat_map(|writes| std::mem::take(&mut writes.lock().queued))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The partition of most tests.
    const ONE: usize = 1;

    fn none() -> VecDeque<u8> {
        VecDeque::new()
    }

    impl<T> Coalescers<T> {
        pub fn is_holding(&self) -> bool {
            self.partitions.iter().any(|writes| writes.lock().held)
        }
    }

    /// The partitions whose queues are ready. [`Wakeup::wait`] would wait if there were none.
    fn ready(coalescers: &Coalescers<u8>) -> Vec<usize> {
        std::mem::take(&mut coalescers.wakeup.state.lock().ready)
    }

    #[test]
    fn a_lone_write_goes_at_once_and_later_ones_go_together_after_its_answer() {
        let coalescers = Coalescers::new(3);
        assert_eq!(coalescers.submit(ONE, 1), Some(1));
        coalescers.submitted(ONE, 0, none());
        assert_eq!(coalescers.submit(ONE, 2), None);
        assert_eq!(coalescers.submit(ONE, 3), None);
        assert_eq!(coalescers.submit(0, 9), Some(9), "another partition");
        assert!(coalescers.take(ONE).is_none(), "the writes in flight are not completed");
        assert!(ready(&coalescers).is_empty());
        coalescers.completed(ONE);
        assert_eq!(ready(&coalescers), [ONE]);
        assert_eq!(coalescers.take(ONE).unwrap(), [2, 3]);
        coalescers.submitted(ONE, 0, none());
        assert_eq!(coalescers.submit(ONE, 4), None);
        coalescers.completed(ONE);
        assert!(ready(&coalescers).is_empty(), "one of two");
        coalescers.completed(ONE);
        assert_eq!(ready(&coalescers), [ONE]);
        assert_eq!(coalescers.take(ONE).unwrap(), [4]);
        coalescers.submitted(ONE, 1, none());
        assert!(ready(&coalescers).is_empty(), "a rejected write is completed, and nothing is queued");
        assert_eq!(coalescers.submit(ONE, 5), Some(5), "idle again");
    }

    /// Covers C45.
    #[test]
    fn no_write_overtakes_one_that_is_being_submitted() {
        let coalescers = Coalescers::new(2);
        assert_eq!(coalescers.submit(ONE, 1), Some(1));
        assert_eq!(coalescers.submit(ONE, 2), None);
        std::thread::sleep(MAX_COALESCE_WAIT);
        assert!(coalescers.take(ONE).is_none(), "the first is not submitted yet");
        coalescers.completed(ONE);
        assert!(ready(&coalescers).is_empty(), "`submitted` reports it");
        coalescers.submitted(ONE, 0, none());
        assert_eq!(ready(&coalescers), [ONE]);
        assert_eq!(coalescers.take(ONE).unwrap(), [2]);
        assert_eq!(coalescers.submit(ONE, 3), None);
        coalescers.submitted(ONE, 0, VecDeque::from([2]));
        assert!(ready(&coalescers).is_empty(), "without room it is tried later");
        std::thread::sleep(MAX_COALESCE_WAIT);
        assert_eq!(coalescers.take(ONE).unwrap(), [2, 3]);
    }

    #[test]
    fn queued_writes_do_not_wait_forever_for_a_missing_answer() {
        let coalescers = Coalescers::new(2);
        assert_eq!(coalescers.submit(ONE, 1), Some(1));
        coalescers.submitted(ONE, 0, none());
        assert_eq!(coalescers.submit(ONE, 2), None);
        std::thread::sleep(MAX_COALESCE_WAIT);
        assert_eq!(coalescers.take(ONE).unwrap(), [2]);
    }

    /// Covers C45, R53.
    #[test]
    fn a_held_partition_queues_its_writes_and_is_settled_when_all_taken_ones_are_completed() {
        let coalescers = Coalescers::new(2);
        assert_eq!(coalescers.submit(ONE, 1), Some(1));
        coalescers.hold(ONE);
        assert!(!coalescers.is_settled(ONE), "the first is not submitted yet");
        assert_eq!(coalescers.submit(ONE, 2), None);
        coalescers.submitted(ONE, 0, none());
        assert!(!coalescers.is_settled(ONE), "it is in flight");
        coalescers.completed(ONE);
        assert!(coalescers.is_settled(ONE));
        assert_eq!(coalescers.submit(ONE, 3), None, "not even if the partition is idle");
        std::thread::sleep(MAX_COALESCE_WAIT);
        assert!(coalescers.take(ONE).is_none(), "a held queue waits, also if it is overdue");
        ready(&coalescers);
        coalescers.release(ONE);
        assert_eq!(ready(&coalescers), [ONE]);
        assert_eq!(coalescers.take(ONE).unwrap(), [2, 3], "in their order");
        coalescers.submitted(ONE, 2, none());
        coalescers.hold(ONE);
        coalescers.release(ONE);
        assert!(ready(&coalescers).is_empty(), "nothing is queued");
        assert_eq!(coalescers.submit(ONE, 4), Some(4));
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
