//! Accepted writes: how many are in flight, and which buffered ones failed.
//!
//! Promises: a flush waits for every write accepted before it and for no later one. Every flush reports all kept
//! failures that its caller has not seen.
//! Does not: keep failures beyond the newest [`MAX_KEPT_FAILURES`], or over a restart.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

use crate::{
    log::WriteError,
    model::{Escaped, Key, Partition},
};

/// Failures of buffered writes that are kept. Older ones are only counted.
const MAX_KEPT_FAILURES: usize = 10_000;

/// A buffered write that failed after it was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedWrite {
    /// Increases from one failure to the next. An earlier process gave out smaller ones.
    pub id: u64,
    /// The partition of the record.
    pub partition: Partition,
    /// The key of the record.
    pub key: Key,
    /// The error that a durable write would have returned.
    pub error: WriteError,
}

/// The result of a flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flushed {
    /// Writes accepted before the flush whose outcome is still unknown.
    pub remaining: u64,
    /// Failures with a greater id than the request named, oldest first.
    pub failures: Vec<FailedWrite>,
    /// Failures with a greater id than the request named that are no longer kept.
    pub omitted: u64,
    /// The id that the request named. 0 if it is not of this process.
    pub after: u64,
}

/// Accepted writes that were not delivered when the process stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Undelivered {
    /// How many writes.
    pub count: u64,
    /// The partitions of their records.
    pub partitions: BTreeSet<Partition>,
    /// The first hundred of their keys, escaped.
    pub keys: Vec<String>,
}

/// Keys that are logged when a drain ends with undelivered writes.
const MAX_NAMED_KEYS: usize = 100;

impl Undelivered {
    fn add(&mut self, partition: Partition, key: &Key) {
        self.count += 1;
        self.partitions.insert(partition);
        if self.keys.len() < MAX_NAMED_KEYS {
            self.keys.push(Escaped(key.as_str()).to_string());
        }
    }
}

/// Writes in the order in which they were accepted. A completed write is removed when all earlier ones are completed.
#[derive(Debug, Default)]
struct Window {
    /// The number of the first write in `writes`.
    first: u64,
    /// `None` for a completed write.
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
    /// Below each id of this process.
    base: u64,
    /// The id of the newest failure, or `base`.
    newest: u64,
    kept: VecDeque<FailedWrite>,
    /// The id of the newest failure that a flush has returned, or `base`.
    returned: u64,
    /// Failures that were not returned when a newer one took their place.
    dropped: u64,
}

/// The kept failures of buffered writes, for metrics.
#[derive(Debug, Clone, Copy)]
pub struct FailuresKept {
    /// Those that no flush has returned.
    pub not_returned: u64,
    pub max: usize,
    pub dropped: u64,
}

/// Microseconds since 1970. Ids that began at 1 in each process would pass for those of the process before.
fn base_of_this_process() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros().try_into().unwrap_or(0)
}

/// Accepted writes whose outcome is not known, and kept failures of buffered writes.
#[derive(Debug, Default)]
pub struct InFlightWrites {
    /// Runs a task for each write whose caller does not wait for its outcome.
    tasks: TaskTracker,
    window: Mutex<Window>,
    failures: Mutex<Failures>,
    /// Notifies flushes that the front of the window advanced. Sent only while a flush waits, because every write would
    /// pay for it.
    front_advanced: watch::Sender<()>,
}

/// Keeps a write in flight until it is dropped.
#[derive(Debug)]
pub struct InFlightGuard {
    writes: Arc<InFlightWrites>,
    number: u64,
}

impl InFlightGuard {
    /// Where the outcome is awaited if the caller does not wait.
    pub fn tasks(&self) -> &TaskTracker {
        &self.writes.tasks
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        let advanced = self.writes.window.lock().settle(self.number);
        // A flush that subscribes between these two lines reads the window after subscribing.
        if advanced && self.writes.front_advanced.receiver_count() > 0 {
            self.writes.front_advanced.send_replace(());
        }
    }
}

impl InFlightWrites {
    pub fn new(tasks: TaskTracker) -> Self {
        Self { tasks, ..Self::with_ids_above(base_of_this_process()) }
    }

    fn with_ids_above(base: u64) -> Self {
        Self {
            failures: Mutex::new(Failures { base, newest: base, returned: base, ..Failures::default() }),
            ..Self::default()
        }
    }

    /// Counts a write as in flight. Called just before the log accepts it.
    pub fn accept(self: &Arc<Self>, partition: Partition, key: Key) -> InFlightGuard {
        let number = self.window.lock().accept(partition, key);
        InFlightGuard { writes: self.clone(), number }
    }

    /// Keeps a failure for the flushes that have not reported it.
    pub fn record_failure(&self, partition: Partition, key: Key, error: WriteError) {
        let mut failures = self.failures.lock();
        failures.newest += 1;
        let id = failures.newest;
        if failures.kept.len() == MAX_KEPT_FAILURES {
            let oldest = failures.kept.pop_front();
            failures.dropped += u64::from(oldest.is_some_and(|oldest| oldest.id > failures.returned));
        }
        failures.kept.push_back(FailedWrite { id, partition, key, error });
    }

    pub fn failures(&self) -> FailuresKept {
        let failures = self.failures.lock();
        let not_returned = (failures.newest - failures.returned).min(failures.kept.len() as u64);
        FailuresKept { not_returned, max: MAX_KEPT_FAILURES, dropped: failures.dropped }
    }

    /// The id of the newest failure. Smaller than each id if there was none.
    pub fn newest_failure(&self) -> u64 {
        self.failures.lock().newest
    }

    /// Writes that are in flight, and buffered writes with a failure id above `failures_after`: no flush can report
    /// them any more.
    pub fn undelivered(&self, failures_after: u64) -> Undelivered {
        let mut found = Undelivered::default();
        for failed in self.failures.lock().kept.iter().filter(|f| f.id > failures_after) {
            found.add(failed.partition, &failed.key);
        }
        for (partition, key) in self.window.lock().writes.iter().flatten() {
            found.add(*partition, key);
        }
        found
    }

    /// Waits until `deadline` for every write accepted before the call.
    pub async fn flush(&self, failures_after: u64, deadline: Instant) -> Flushed {
        let target = self.window.lock().next();
        let mut front_advanced = self.front_advanced.subscribe();
        let all = async {
            while self.window.lock().first < target {
                // The sender is a field of `self`, so this can not fail.
                let _ = front_advanced.changed().await;
            }
        };
        let in_time = timeout_at(deadline, all).await.is_ok();
        let remaining = if in_time { 0 } else { self.window.lock().outstanding_below(target) };

        let mut failures = self.failures.lock();
        // An id of another process hides nothing. It is greater only if the clock went back.
        let named = (failures.base + 1..=failures.newest).contains(&failures_after).then_some(failures_after);
        let above = named.unwrap_or(failures.base);
        let newer: Vec<_> = failures.kept.iter().filter(|f| f.id > above).cloned().collect();
        let omitted = failures.newest - above - newer.len() as u64;
        failures.returned = failures.newest;
        Flushed { remaining, failures: newer, omitted, after: named.unwrap_or_default() }
    }
}
