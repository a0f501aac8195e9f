//! Batches that make themselves: what comes for a partition while it has writes under way waits for their answer, and then goes
//! as one.
//!
//! With linger.ms=0 librdkafka sends what it has as soon as it may: right for a lone write, but under load many small requests,
//! each of which costs it and the broker as much as a large one. A longer linger would hold up the lone write, too. This is what
//! Nagle's algorithm does for segments (RFC 896): the round trip that is waited for anyway is the linger.
//!
//! Promises: the order in which writes came is the order in which they are handed over; one that finds its partition idle is
//! handed over at once; none waits for the answers of others for longer than [`HOLD`] and the feeder's next look.
//!
//! Does not: know what it carries, or hand anything over itself.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long an answer is waited for. A leader that is lost, or far away, is then left to librdkafka, whose times it keeps.
pub const HOLD: Duration = Duration::from_millis(20);

#[derive(Debug)]
struct State<T> {
    /// Handed over, or about to be, and not answered.
    under_way: usize,
    /// Somebody hands over now: what comes meanwhile must not overtake it.
    handing: bool,
    waiting: VecDeque<T>,
    /// When the first of them came.
    since: Option<Instant>,
}

/// One partition's writes.
#[derive(Debug)]
pub struct Lane<T> {
    state: Mutex<State<T>>,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        let state = State { under_way: 0, handing: false, waiting: VecDeque::new(), since: None };
        Self { state: Mutex::new(state) }
    }
}

/// What is to be done with a write that came.
#[derive(Debug, PartialEq, Eq)]
pub enum Came<T> {
    /// Hand it over, and say so with [`Lane::handed`].
    Now(T),
    /// It waits. `first`: nothing did before.
    Waits {
        /// Somebody has to look after it.
        first: bool,
    },
}

impl<T> Lane<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write comes.
    pub fn come(&self, write: T) -> Came<T> {
        let mut state = self.state();
        if state.under_way == 0 && !state.handing && state.waiting.is_empty() {
            (state.under_way, state.handing) = (1, true);
            return Came::Now(write);
        }
        state.waiting.push_back(write);
        let first = state.waiting.len() == 1;
        if first {
            state.since = Some(Instant::now());
        }
        Came::Waits { first }
    }

    /// All that wait, if they are to be handed over now; to be followed by [`Lane::handed`].
    pub fn take(&self) -> Option<VecDeque<T>> {
        let mut state = self.state();
        let held = state.since.is_some_and(|since| since.elapsed() >= HOLD);
        if state.handing || state.waiting.is_empty() || state.under_way > 0 && !held {
            return None;
        }
        (state.handing, state.since) = (true, None);
        state.under_way += state.waiting.len();
        Some(std::mem::take(&mut state.waiting))
    }

    /// All were handed over but for the first `refused`, which were answered otherwise, and those `back`, for which there was no
    /// room: they wait on. True if what waits is to be handed over now.
    pub fn handed(&self, refused: usize, back: VecDeque<T>) -> bool {
        let mut state = self.state();
        state.handing = false;
        state.under_way -= refused + back.len();
        if !back.is_empty() {
            let later = std::mem::replace(&mut state.waiting, back);
            state.waiting.extend(later);
            state.since = Some(Instant::now());
            return false;
        }
        state.under_way == 0 && !state.waiting.is_empty()
    }

    /// One was answered. True if what waits is to be handed over now.
    pub fn answered(&self) -> bool {
        let mut state = self.state();
        state.under_way -= 1;
        state.under_way == 0 && !state.handing && !state.waiting.is_empty()
    }

    /// Whether any wait.
    pub fn any_wait(&self) -> bool {
        !self.state().waiting.is_empty()
    }

    /// All that wait, which nobody is going to hand over.
    pub fn give_up(&self) -> VecDeque<T> {
        std::mem::take(&mut self.state().waiting)
    }
}

#[derive(Debug, Default)]
struct Rung {
    lanes: Vec<usize>,
    /// The feeder sleeps until it is woken.
    asleep: bool,
    stopped: bool,
}

/// Wakes the feeder.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<Rung>,
    woken: Condvar,
}

impl Bell {
    fn rung(&self) -> MutexGuard<'_, Rung> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This lane is to be seen to now.
    pub fn ring(&self, lane: usize) {
        let mut rung = self.rung();
        rung.lanes.push(lane);
        rung.asleep = false;
        self.woken.notify_one();
    }

    /// Something began to wait somewhere.
    pub fn look(&self) {
        let mut rung = self.rung();
        if std::mem::take(&mut rung.asleep) {
            self.woken.notify_one();
        }
    }

    /// Ends the feeder.
    pub fn stop(&self) {
        self.rung().stopped = true;
        self.woken.notify_one();
    }

    /// Waits for something to see to. The lanes that were named; none: all are to be looked at. `None`: it is over.
    pub fn wait(&self, any_wait: impl Fn() -> bool) -> Option<Vec<usize>> {
        let mut rung = self.rung();
        if rung.lanes.is_empty() && !rung.stopped {
            // Before it is looked: what begins to wait after that rings.
            rung.asleep = true;
            drop(rung);
            let wait = any_wait();
            rung = self.rung();
            let idle = |rung: &mut Rung| rung.lanes.is_empty() && !rung.stopped;
            rung = if wait {
                rung.asleep = false;
                self.woken.wait_timeout_while(rung, HOLD / 2, idle).unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.woken.wait_while(rung, |r| r.asleep && idle(r)).unwrap_or_else(PoisonError::into_inner)
            };
            rung.asleep = false;
        }
        (!rung.stopped).then(|| std::mem::take(&mut rung.lanes))
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
        let lane = Lane::default();
        assert_eq!(lane.come(1), Came::Now(1));
        assert!(!lane.handed(0, none()));
        assert_eq!(lane.come(2), Came::Waits { first: true });
        assert_eq!(lane.come(3), Came::Waits { first: false });
        assert!(lane.take().is_none(), "they wait for the answer");
        assert!(lane.answered());
        assert_eq!(lane.take().unwrap(), [2, 3]);
        assert!(!lane.handed(0, none()));
        assert_eq!(lane.come(4), Came::Waits { first: true });
        assert!(!lane.answered(), "one of two");
        assert!(lane.answered());
        assert_eq!(lane.take().unwrap(), [4]);
        assert!(!lane.handed(1, none()), "refused, and so answered");
        assert_eq!(lane.come(5), Came::Now(5), "idle again");
    }

    /// Covers C45.
    #[test]
    fn no_write_overtakes_one_that_is_being_submitted() {
        let lane = Lane::default();
        assert_eq!(lane.come(1), Came::Now(1));
        assert_eq!(lane.come(2), Came::Waits { first: true });
        std::thread::sleep(HOLD);
        assert!(lane.take().is_none(), "the first is not handed over yet");
        assert!(!lane.answered(), "who hands over is told");
        assert!(lane.handed(0, none()));
        assert_eq!(lane.take().unwrap(), [2]);
        assert_eq!(lane.come(3), Came::Waits { first: true });
        assert!(!lane.handed(0, VecDeque::from([2])), "no room: tried again later, and not at once");
        std::thread::sleep(HOLD);
        assert_eq!(lane.take().unwrap(), [2, 3]);
    }

    #[test]
    fn queued_writes_do_not_wait_forever_for_a_missing_answer() {
        let lane = Lane::default();
        assert_eq!(lane.come(1), Came::Now(1));
        assert!(!lane.handed(0, none()));
        assert_eq!(lane.come(2), Came::Waits { first: true });
        std::thread::sleep(HOLD);
        assert_eq!(lane.take().unwrap(), [2]);
    }

    #[test]
    fn the_submitting_thread_sleeps_only_when_nothing_is_queued() {
        let bell = Bell::default();
        bell.ring(3);
        assert_eq!(bell.wait(|| unreachable!("it is named")), Some(vec![3]));
        assert_eq!(bell.wait(|| true), Some(Vec::new()), "it looks at all of them after a while");
        // What begins to wait just as it falls asleep wakes it.
        let began = || {
            bell.look();
            false
        };
        assert_eq!(bell.wait(began), Some(Vec::new()));
        bell.stop();
        assert_eq!(bell.wait(|| true), None);
    }
}
