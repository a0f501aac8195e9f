//! Batches that make themselves: what comes for a partition while it has writes under way waits for their answer, and then goes
//! as one.
//!
//! With linger.ms=0 librdkafka sends what it has as soon as it may: right for a lone write, but under load many small requests,
//! each of which costs it and the broker as much as a large one. A longer linger would hold up the lone write, too. This is what
//! Nagle's algorithm does for segments (RFC 896): the round trip that is waited for anyway is the linger.
//!
//! Promises: the order in which writes came is the order in which they are handed over; one that finds its partition idle is
//! handed over at once; none waits for the answers of others for longer than [`MAX_COALESCE_WAIT`] and the feeder's next look.
//!
//! Does not: know what it carries, or hand anything over itself.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long an answer is waited for. A leader that is lost, or far away, is then left to librdkafka, whose times it keeps.
pub const MAX_COALESCE_WAIT: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct State<T> {
    /// Handed over, or about to be, and not answered.
    in_flight: usize,
    /// Somebody hands over now: what comes meanwhile must not overtake it.
    submitting: bool,
    queued: VecDeque<T>,
    /// When the first of them came.
    queued_since: Option<Instant>,
}

/// One partition's writes.
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

/// What is to be done with a write that came.
#[derive(Debug, PartialEq, Eq)]
pub enum Submit<T> {
    /// Hand it over, and say so with [`PartitionCoalescer::submitted`].
    Now(T),
    /// It waits. `first`: nothing did before.
    Queued {
        /// Somebody has to look after it.
        first: bool,
    },
}

impl<T> PartitionCoalescer<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write comes.
    pub fn submit(&self, write: T) -> Submit<T> {
        let mut state = self.state();
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

    /// All that wait, if they are to be handed over now; to be followed by [`PartitionCoalescer::submitted`].
    pub fn take(&self) -> Option<VecDeque<T>> {
        let mut state = self.state();
        let overdue = state.queued_since.is_some_and(|queued_since| queued_since.elapsed() >= MAX_COALESCE_WAIT);
        if state.submitting || state.queued.is_empty() || state.in_flight > 0 && !overdue {
            return None;
        }
        (state.submitting, state.queued_since) = (true, None);
        state.in_flight += state.queued.len();
        Some(std::mem::take(&mut state.queued))
    }

    /// All were handed over but for the first `rejected`, which were answered otherwise, and those `returned`, for which there was no
    /// room: they wait on. True if what waits is to be handed over now.
    pub fn submitted(&self, rejected: usize, returned: VecDeque<T>) -> bool {
        let mut state = self.state();
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

    /// One was answered. True if what waits is to be handed over now.
    pub fn completed(&self) -> bool {
        let mut state = self.state();
        state.in_flight -= 1;
        state.in_flight == 0 && !state.submitting && !state.queued.is_empty()
    }

    /// Whether any wait.
    pub fn has_queued(&self) -> bool {
        !self.state().queued.is_empty()
    }

    /// All that wait, which nobody is going to hand over.
    pub fn discard_queued(&self) -> VecDeque<T> {
        std::mem::take(&mut self.state().queued)
    }
}

#[derive(Debug, Default)]
struct WakeupState {
    ready: Vec<usize>,
    /// The feeder sleeps until it is woken.
    idle: bool,
    stopped: bool,
}

/// Wakes the feeder.
#[derive(Debug, Default)]
pub struct Wakeup {
    state: Mutex<WakeupState>,
    condvar: Condvar,
}

impl Wakeup {
    fn state(&self) -> MutexGuard<'_, WakeupState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This lane is to be seen to now.
    pub fn notify(&self, coalescer: usize) {
        let mut state = self.state();
        state.ready.push(coalescer);
        state.idle = false;
        self.condvar.notify_one();
    }

    /// Something began to wait somewhere.
    pub fn notify_if_idle(&self) {
        let mut state = self.state();
        if std::mem::take(&mut state.idle) {
            self.condvar.notify_one();
        }
    }

    /// Ends the feeder.
    pub fn stop(&self) {
        self.state().stopped = true;
        self.condvar.notify_one();
    }

    /// Waits for something to see to. The lanes that were named; none: all are to be looked at. `None`: it is over.
    pub fn wait(&self, has_queued: impl Fn() -> bool) -> Option<Vec<usize>> {
        let mut state = self.state();
        if state.ready.is_empty() && !state.stopped {
            // Before it is looked: what begins to wait after that rings.
            state.idle = true;
            drop(state);
            let queued = has_queued();
            state = self.state();
            let is_empty = |state: &mut WakeupState| state.ready.is_empty() && !state.stopped;
            state = if queued {
                state.idle = false;
                self.condvar
                    .wait_timeout_while(state, MAX_COALESCE_WAIT / 2, is_empty)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            } else {
                self.condvar.wait_while(state, |r| r.idle && is_empty(r)).unwrap_or_else(PoisonError::into_inner)
            };
            state.idle = false;
        }
        (!state.stopped).then(|| std::mem::take(&mut state.ready))
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
        assert!(coalescer.take().is_none(), "they wait for the answer");
        assert!(coalescer.completed());
        assert_eq!(coalescer.take().unwrap(), [2, 3]);
        assert!(!coalescer.submitted(0, none()));
        assert_eq!(coalescer.submit(4), Submit::Queued { first: true });
        assert!(!coalescer.completed(), "one of two");
        assert!(coalescer.completed());
        assert_eq!(coalescer.take().unwrap(), [4]);
        assert!(!coalescer.submitted(1, none()), "refused, and so answered");
        assert_eq!(coalescer.submit(5), Submit::Now(5), "idle again");
    }

    /// Covers C45.
    #[test]
    fn no_write_overtakes_one_that_is_being_submitted() {
        let coalescer = PartitionCoalescer::default();
        assert_eq!(coalescer.submit(1), Submit::Now(1));
        assert_eq!(coalescer.submit(2), Submit::Queued { first: true });
        std::thread::sleep(MAX_COALESCE_WAIT);
        assert!(coalescer.take().is_none(), "the first is not handed over yet");
        assert!(!coalescer.completed(), "who hands over is told");
        assert!(coalescer.submitted(0, none()));
        assert_eq!(coalescer.take().unwrap(), [2]);
        assert_eq!(coalescer.submit(3), Submit::Queued { first: true });
        assert!(!coalescer.submitted(0, VecDeque::from([2])), "no room: tried again later, and not at once");
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
        assert_eq!(wakeup.wait(|| unreachable!("it is named")), Some(vec![3]));
        assert_eq!(wakeup.wait(|| true), Some(Vec::new()), "it looks at all of them after a while");
        // What begins to wait just as it falls asleep wakes it.
        let begins_to_queue = || {
            wakeup.notify_if_idle();
            false
        };
        assert_eq!(wakeup.wait(begins_to_queue), Some(Vec::new()));
        wakeup.stop();
        assert_eq!(wakeup.wait(|| true), None);
    }
}
