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
    /// Since when the socket takes no bytes, although some wait.
    write_blocked_since: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Calls {
    open: usize,
    begun: bool,
    /// The connection is being closed for another one.
    displaced: bool,
    idle_since: Instant,
}

/// An open call, until it is dropped.
#[derive(Debug)]
pub struct OpenCall(Arc<Activity>);

impl Activity {
    pub fn new() -> Arc<Self> {
        let calls = Calls { open: 0, begun: false, displaced: false, idle_since: Instant::now() };
        Arc::new(Self {
            calls: Mutex::new(calls),
            became_idle: Notify::new(),
            bytes_read: AtomicUsize::new(0),
            write_blocked_since: Mutex::new(None),
        })
    }

    /// `None` if the connection is being closed for another one.
    pub fn begin(self: &Arc<Self>) -> Option<OpenCall> {
        let mut calls = self.calls.lock();
        if calls.displaced {
            return None;
        }
        calls.open += 1;
        calls.begun = true;
        Some(OpenCall(self.clone()))
    }

    /// A sign of life that is no call of the API.
    pub fn touch(&self) {
        self.calls.lock().idle_since = Instant::now();
    }

    /// Lets no call begin any more, if none is open. Returns whether that is so.
    pub fn displace(&self) -> bool {
        let mut calls = self.calls.lock();
        calls.displaced = calls.open == 0;
        calls.displaced
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

    /// The socket takes no bytes now, or it has taken some.
    pub fn set_write_blocked(&self, blocked: bool) {
        let mut since = self.write_blocked_since.lock();
        match (blocked, since.is_some()) {
            (true, false) => *since = Some(Instant::now()),
            (false, true) => *since = None,
            _ => {}
        }
    }

    pub fn write_blocked_since(&self) -> Option<Instant> {
        *self.write_blocked_since.lock()
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
