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
const MAX_KEPT_FAILURES: usize = 10_000;

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
const MAX_NAMED_KEYS: usize = 100;

impl Undelivered {
    fn add(&mut self, partition: Partition, key: &Key) {
        self.count += 1;
        self.partitions.insert(partition);
        if self.keys.len() < MAX_NAMED_KEYS {
            self.keys.push(Shown(key.as_str()).to_string());
        }
    }
}

/// Writes in the order of their acceptance; a settled one is taken off as soon as all before it are.
#[derive(Debug, Default)]
struct Window {
    /// The number of the first write in the window.
    first: u64,
    /// `None`: settled.
    writes: VecDeque<Option<(Partition, Key)>>,
}

impl Window {
    fn accept(&mut self, partition: Partition, key: Key) -> u64 {
        self.writes.push_back(Some((partition, key)));
        self.first + self.writes.len() as u64 - 1
    }

    /// Whether the front advanced.
    fn settle(&mut self, number: u64) -> bool {
        self.writes[(number - self.first) as usize] = None;
        let before = self.first;
        while matches!(self.writes.front(), Some(None)) {
            self.writes.pop_front();
            self.first += 1;
        }
        self.first != before
    }

    fn next(&self) -> u64 {
        self.first + self.writes.len() as u64
    }

    fn outstanding_below(&self, number: u64) -> u64 {
        let below = number.saturating_sub(self.first) as usize;
        self.writes.iter().take(below).flatten().count() as u64
    }
}

#[derive(Debug, Default)]
struct Failures {
    newest: u64,
    kept: VecDeque<FailedWrite>,
}

/// Counts accepted writes until their outcome is known.
#[derive(Debug, Default)]
pub struct InFlightWrites {
    window: Mutex<Window>,
    failures: Mutex<Failures>,
    /// The first write that is not settled is another one: said only where a flush waits for it, since each write would pay.
    front_advanced: watch::Sender<()>,
}

/// An accepted write. Settled when dropped.
#[derive(Debug)]
pub struct InFlightGuard {
    writes: Arc<InFlightWrites>,
    number: u64,
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let advanced = lock(&self.writes.window).settle(self.number);
        // A flush that comes between the two looks for itself once it listens.
        if advanced && self.writes.front_advanced.receiver_count() > 0 {
            self.writes.front_advanced.send_replace(());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl InFlightWrites {
    /// Counts a write that is about to be accepted.
    pub fn accept(self: &Arc<Self>, partition: Partition, key: Key) -> InFlightGuard {
        let number = lock(&self.window).accept(partition, key);
        InFlightGuard { writes: self.clone(), number }
    }

    /// Keeps a failure, to be told by every flush that has not seen it.
    pub fn record_failure(&self, partition: Partition, key: Key, error: WriteError) {
        let mut failures = lock(&self.failures);
        failures.newest += 1;
        let id = failures.newest;
        if failures.kept.len() == MAX_KEPT_FAILURES {
            failures.kept.pop_front();
        }
        failures.kept.push_back(FailedWrite { id, partition, key, error });
    }

    /// The greatest failure id given out so far.
    pub fn newest_failure(&self) -> u64 {
        lock(&self.failures).newest
    }

    /// Writes whose outcome is not known, and buffered ones that failed after this failure: nobody can flush any more.
    pub fn undelivered(&self, failures_after: u64) -> Undelivered {
        let mut found = Undelivered::default();
        for failed in lock(&self.failures).kept.iter().filter(|f| f.id > failures_after) {
            found.add(failed.partition, &failed.key);
        }
        for (partition, key) in lock(&self.window).writes.iter().flatten() {
            found.add(*partition, key);
        }
        found
    }

    /// Waits, until the deadline, for every write accepted before the call.
    pub async fn flush(&self, failures_after: u64, deadline: Instant) -> Flushed {
        let target = lock(&self.window).next();
        let mut front_advanced = self.front_advanced.subscribe();
        let all = async {
            while lock(&self.window).first < target {
                // The other end is this writes's.
                let _ = front_advanced.changed().await;
            }
        };
        let in_time = timeout_at(deadline, all).await.is_ok();
        let remaining = if in_time { 0 } else { lock(&self.window).outstanding_below(target) };

        let failures = lock(&self.failures);
        // Ids start at 1 in every process: one that was never given out here is another process's, and hides nothing.
        let after = if failures_after > failures.newest { 0 } else { failures_after };
        let newer: Vec<_> = failures.kept.iter().filter(|f| f.id > after).cloned().collect();
        let omitted = failures.newest - after - newer.len() as u64;
        Flushed { remaining, failures: newer, omitted, newest: failures.newest }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    fn partition() -> Partition {
        Partition::new(0).unwrap()
    }

    fn key(n: usize) -> Key {
        Key::parse(&format!("w/t/{n}")).unwrap()
    }

    fn accept(writes: &Arc<InFlightWrites>) -> InFlightGuard {
        writes.accept(partition(), key(0))
    }

    fn fail(writes: &InFlightWrites, n: usize) {
        writes.record_failure(partition(), key(n), WriteError::Draining);
    }

    #[tokio::test(start_paused = true)]
    async fn r31_a_flush_waits_for_writes_accepted_before_it_and_for_no_later_ones() {
        let writes = Arc::new(InFlightWrites::default());
        let (first, second) = (accept(&writes), accept(&writes));
        let flush = {
            let writes = writes.clone();
            tokio::spawn(async move { writes.flush(0, Instant::now() + Duration::from_secs(60)).await })
        };
        tokio::task::yield_now().await;
        let _later = accept(&writes);
        drop(second);
        tokio::task::yield_now().await;
        assert!(!flush.is_finished());
        drop(first);
        assert_eq!(flush.await.unwrap().remaining, 0);
        assert_eq!(writes.undelivered(0).count, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn r31_what_is_not_settled_in_time_is_counted() {
        let writes = Arc::new(InFlightWrites::default());
        let (_a, b, _c) = (accept(&writes), accept(&writes), accept(&writes));
        drop(b);
        assert_eq!(writes.flush(0, soon()).await.remaining, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn r31_each_client_is_told_every_failure_it_has_not_seen() {
        let writes = Arc::new(InFlightWrites::default());
        (0..3).for_each(|n| fail(&writes, n));
        let ids = |f: Flushed| f.failures.iter().map(|f| f.id).collect::<Vec<_>>();
        assert_eq!(ids(writes.flush(0, soon()).await), [1, 2, 3]);
        assert_eq!(ids(writes.flush(0, soon()).await), [1, 2, 3], "a lost answer is asked again");
        assert_eq!(ids(writes.flush(2, soon()).await), [3]);
        assert_eq!(ids(writes.flush(3, soon()).await), [0u64; 0]);
        assert_eq!(ids(writes.flush(99, soon()).await), [1, 2, 3], "an id of an earlier process hides nothing");
    }

    #[test]
    fn r32_what_was_not_delivered_is_named_and_what_was_known_before_is_not() {
        let writes = Arc::new(InFlightWrites::default());
        fail(&writes, 1);
        let before = writes.newest_failure();
        let settled = writes.accept(partition(), key(2));
        let open = writes.accept(Partition::new(3).unwrap(), Key::parse("w/t/\u{202e}").unwrap());
        fail(&writes, 4);
        drop(settled);
        let found = writes.undelivered(before);
        assert_eq!(found.count, 2);
        assert_eq!(found.partitions.iter().map(|p| p.number()).collect::<Vec<_>>(), [0, 3]);
        assert!(found.keys[0].contains("w/t/4") && found.keys[1].is_ascii(), "{:?}", found.keys);
        drop(open);
        (0..200).for_each(|n| fail(&writes, n));
        let found = writes.undelivered(before);
        assert_eq!((found.count, found.keys.len()), (201, MAX_NAMED_KEYS));
    }

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_failures_are_kept_and_the_rest_are_counted() {
        let writes = Arc::new(InFlightWrites::default());
        (0..MAX_KEPT_FAILURES + 5).for_each(|n| fail(&writes, n));
        let flushed = writes.flush(0, soon()).await;
        assert_eq!((flushed.failures.len(), flushed.omitted), (MAX_KEPT_FAILURES, 5));
        assert_eq!(flushed.failures[0].id, 6);
        assert_eq!(writes.flush(3, soon()).await.omitted, 2);
    }
}
