//! Open calls: of one connection, or of the whole process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// How many calls are open, and since when there is none.
#[derive(Debug)]
pub struct Activity {
    calls: Mutex<Calls>,
    became_idle: Notify,
    bytes_read: AtomicUsize,
}

#[derive(Debug)]
struct Calls {
    open: usize,
    begun: bool,
    idle_since: Instant,
}

/// An open call, until it is dropped.
#[derive(Debug)]
pub struct OpenCall(Arc<Activity>);

impl Activity {
    pub fn new() -> Arc<Self> {
        let calls = Mutex::new(Calls { open: 0, begun: false, idle_since: Instant::now() });
        Arc::new(Self { calls, became_idle: Notify::new(), bytes_read: AtomicUsize::new(0) })
    }

    pub fn begin(self: &Arc<Self>) -> OpenCall {
        let mut calls = self.calls.lock();
        calls.open += 1;
        calls.begun = true;
        OpenCall(self.clone())
    }

    /// Since when no call is open; `None` if one is.
    pub fn idle_since(&self) -> Option<Instant> {
        let calls = self.calls.lock();
        (calls.open == 0).then_some(calls.idle_since)
    }

    /// Whether it began a short time ago, and has had no call.
    pub fn is_new(&self, age: Duration) -> bool {
        let calls = self.calls.lock();
        !calls.begun && calls.idle_since.elapsed() < age
    }

    /// Completes when no call is open.
    pub async fn idle(&self) {
        loop {
            // Before the check, so that no change is missed.
            let became_idle = self.became_idle.notified();
            if self.calls.lock().open == 0 {
                return;
            }
            became_idle.await;
        }
    }

    pub fn count_read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes, Relaxed);
    }

    pub fn bytes_read(&self) -> usize {
        self.bytes_read.load(Relaxed)
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let mut calls = self.0.calls.lock();
        calls.open -= 1;
        if calls.open == 0 {
            calls.idle_since = Instant::now();
            drop(calls);
            self.0.became_idle.notify_waiters();
        }
    }
}
