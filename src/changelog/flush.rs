//! What became of accepted writes: how many are in flight, and which buffered ones failed.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    log::WriteError,
    model::{Key, Partition, Shown},
};

/// Failures of buffered writes that are kept.
const RING: usize = 10_000;

/// A buffered write that failed after it was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedWrite {
    /// Increasing within this process, from 1.
    pub id: u64,
    /// Where it was to go.
    pub partition: Partition,
    /// Its key.
    pub key: Key,
    /// What a durable write would have been told.
    pub error: WriteError,
}

/// What a flush found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flushed {
    /// Writes accepted before it that are not settled.
    pub remaining: u64,
    /// Failures after the id asked for, oldest first.
    pub failures: Vec<FailedWrite>,
    /// Failures after the id asked for that are no longer kept.
    pub omitted: u64,
    /// The greatest failure id given out so far.
    pub newest: u64,
}

/// Accepted writes that were not delivered when the process stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undelivered {
    /// How many.
    pub count: u64,
    /// Where they were to go.
    pub partitions: BTreeSet<Partition>,
    /// Some of them, escaped.
    pub keys: Vec<String>,
}

/// Keys that are named at the end of a drain.
const NAMED: usize = 100;

impl Undelivered {
    fn add(&mut self, partition: Partition, key: &Key) {
        self.count += 1;
        self.partitions.insert(partition);
        if self.keys.len() < NAMED {
            self.keys.push(Shown(key.as_str()).to_string());
        }
    }
}

/// Writes in the order of their acceptance; a settled one is taken off as soon as all before it are.
#[derive(Debug, Default)]
struct InFlight {
    /// The number of the first write in the window.
    first: u64,
    /// `None`: settled.
    window: VecDeque<Option<(Partition, Key)>>,
}

impl InFlight {
    fn accept(&mut self, partition: Partition, key: Key) -> u64 {
        self.window.push_back(Some((partition, key)));
        self.first + self.window.len() as u64 - 1
    }

    /// True if the front moved.
    fn settle(&mut self, number: u64) -> bool {
        self.window[(number - self.first) as usize] = None;
        let before = self.first;
        while matches!(self.window.front(), Some(None)) {
            self.window.pop_front();
            self.first += 1;
        }
        self.first != before
    }

    fn next(&self) -> u64 {
        self.first + self.window.len() as u64
    }

    fn outstanding_below(&self, number: u64) -> u64 {
        let window = number.saturating_sub(self.first) as usize;
        self.window.iter().take(window).flatten().count() as u64
    }
}

#[derive(Debug, Default)]
struct Failures {
    newest: u64,
    ring: VecDeque<FailedWrite>,
}

/// Counts accepted writes until their outcome is known.
#[derive(Debug, Default)]
pub struct Tracker {
    in_flight: Mutex<InFlight>,
    failures: Mutex<Failures>,
    /// The first write that is not settled is another one: said only where a flush waits for it, since each write would pay.
    moved: watch::Sender<()>,
}

/// An accepted write. Settled when dropped.
#[derive(Debug)]
pub struct Ticket {
    tracker: Arc<Tracker>,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let moved = lock(&self.tracker.in_flight).settle(self.number);
        // A flush that comes between the two looks for itself once it listens.
        if moved && self.tracker.moved.receiver_count() > 0 {
            self.tracker.moved.send_replace(());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tracker {
    /// Counts a write that is about to be accepted.
    pub fn accept(self: &Arc<Self>, partition: Partition, key: Key) -> Ticket {
        let number = lock(&self.in_flight).accept(partition, key);
        Ticket { tracker: self.clone(), number }
    }

    /// Keeps a failure, to be told by every flush that has not seen it.
    pub fn fail(&self, partition: Partition, key: Key, error: WriteError) {
        let mut failures = lock(&self.failures);
        failures.newest += 1;
        let id = failures.newest;
        if failures.ring.len() == RING {
            failures.ring.pop_front();
        }
        failures.ring.push_back(FailedWrite { id, partition, key, error });
    }

    /// The greatest failure id given out so far.
    pub fn newest_failure(&self) -> u64 {
        lock(&self.failures).newest
    }

    /// Writes whose outcome is not known, and buffered ones that failed after this failure: nobody can flush any more.
    pub fn undelivered(&self, failures_after: u64) -> Undelivered {
        let mut found = Undelivered::default();
        for failed in lock(&self.failures).ring.iter().filter(|f| f.id > failures_after) {
            found.add(failed.partition, &failed.key);
        }
        for (partition, key) in lock(&self.in_flight).window.iter().flatten() {
            found.add(*partition, key);
        }
        found
    }

    /// Waits, until the deadline, for every write accepted before the call.
    pub async fn flush(&self, failures_after: u64, deadline: Instant) -> Flushed {
        let target = lock(&self.in_flight).next();
        let mut moved = self.moved.subscribe();
        let all = async {
            while lock(&self.in_flight).first < target {
                // The other end is this tracker's.
                let _ = moved.changed().await;
            }
        };
        let in_time = timeout_at(deadline, all).await.is_ok();
        let remaining = if in_time { 0 } else { lock(&self.in_flight).outstanding_below(target) };

        let failures = lock(&self.failures);
        // Ids start at 1 in every process: one that was never given out here is another process's, and hides nothing.
        let after = if failures_after > failures.newest { 0 } else { failures_after };
        let kept: Vec<_> = failures.ring.iter().filter(|f| f.id > after).cloned().collect();
        let omitted = failures.newest - after - kept.len() as u64;
        Flushed { remaining, failures: kept, omitted, newest: failures.newest }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    fn home() -> Partition {
        Partition::new(0).unwrap()
    }

    fn key(n: usize) -> Key {
        Key::parse(&format!("w/t/{n}")).unwrap()
    }

    fn accept(tracker: &Arc<Tracker>) -> Ticket {
        tracker.accept(home(), key(0))
    }

    fn fail(tracker: &Tracker, n: usize) {
        tracker.fail(home(), key(n), WriteError::Draining);
    }

    /// Covers C20, R31.
    #[tokio::test(start_paused = true)]
    async fn a_flush_waits_for_earlier_writes_only() {
        let tracker = Arc::new(Tracker::default());
        let (first, second) = (accept(&tracker), accept(&tracker));
        let flush = {
            let tracker = tracker.clone();
            tokio::spawn(async move { tracker.flush(0, Instant::now() + Duration::from_secs(60)).await })
        };
        tokio::task::yield_now().await;
        let _later = accept(&tracker);
        drop(second);
        tokio::task::yield_now().await;
        assert!(!flush.is_finished());
        drop(first);
        assert_eq!(flush.await.unwrap().remaining, 0);
        assert_eq!(tracker.undelivered(0).count, 1);
    }

    /// Covers C19, C20, R31.
    #[tokio::test(start_paused = true)]
    async fn a_flush_counts_writes_still_in_flight_at_its_timeout() {
        let tracker = Arc::new(Tracker::default());
        let (_a, b, _c) = (accept(&tracker), accept(&tracker), accept(&tracker));
        drop(b);
        assert_eq!(tracker.flush(0, soon()).await.remaining, 2);
    }

    /// Covers C21, R31.
    #[tokio::test(start_paused = true)]
    async fn a_flush_returns_every_failure_after_the_given_id() {
        let tracker = Arc::new(Tracker::default());
        (0..3).for_each(|n| fail(&tracker, n));
        let ids = |f: Flushed| f.failures.iter().map(|f| f.id).collect::<Vec<_>>();
        assert_eq!(ids(tracker.flush(0, soon()).await), [1, 2, 3]);
        assert_eq!(ids(tracker.flush(0, soon()).await), [1, 2, 3], "a lost answer is asked again");
        assert_eq!(ids(tracker.flush(2, soon()).await), [3]);
        assert_eq!(ids(tracker.flush(3, soon()).await), [0u64; 0]);
        assert_eq!(ids(tracker.flush(99, soon()).await), [1, 2, 3], "an id of an earlier process hides nothing");
    }

    /// Covers R32.
    #[test]
    fn undelivered_writes_are_named_and_earlier_failures_are_not() {
        let tracker = Arc::new(Tracker::default());
        fail(&tracker, 1);
        let before = tracker.newest_failure();
        let settled = tracker.accept(home(), key(2));
        let open = tracker.accept(Partition::new(3).unwrap(), Key::parse("w/t/\u{202e}").unwrap());
        fail(&tracker, 4);
        drop(settled);
        let found = tracker.undelivered(before);
        assert_eq!(found.count, 2);
        assert_eq!(found.partitions.iter().map(|p| p.number()).collect::<Vec<_>>(), [0, 3]);
        assert!(found.keys[0].contains("w/t/4") && found.keys[1].is_ascii(), "{:?}", found.keys);
        drop(open);
        (0..200).for_each(|n| fail(&tracker, n));
        let found = tracker.undelivered(before);
        assert_eq!((found.count, found.keys.len()), (201, NAMED));
    }

    /// Covers C21.
    #[tokio::test(start_paused = true)]
    async fn the_last_ten_thousand_failures_are_kept_and_the_rest_counted() {
        let tracker = Arc::new(Tracker::default());
        (0..RING + 5).for_each(|n| fail(&tracker, n));
        let flushed = tracker.flush(0, soon()).await;
        assert_eq!((flushed.failures.len(), flushed.omitted), (RING, 5));
        assert_eq!(flushed.failures[0].id, 6);
        assert_eq!(tracker.flush(3, soon()).await.omitted, 2);
    }
}
