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

/// Calls of health and reflection that a connection may have open: so many of `Check`, and so many streams. A probe has
/// one of them.
pub const MAX_PROBES: usize = 8;

/// How many calls are open, and since when there is none.
#[derive(Debug)]
pub struct Activity {
    calls: Mutex<Calls>,
    became_idle: Notify,
    lost_place: Notify,
    bytes_read: AtomicUsize,
    /// Since when the socket takes no bytes, although some wait.
    write_blocked_since: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Calls {
    open: usize,
    begun: bool,
    place: Place,
    had_place: bool,
    /// The last bytes are written, so no answer can be.
    closed: bool,
    idle_since: Instant,
    /// Open calls of health and reflection, by kind.
    probes: [usize; 2],
}

/// Whether the connection is one of those that its port may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Has,
    /// Others have all places. It may get one again.
    None,
    /// It is being closed.
    Left,
}

/// A call of health or reflection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    Check,
    /// `Watch`, or reflection.
    Stream,
}

/// An open call of health or reflection, until it is dropped.
#[derive(Debug)]
pub struct OpenProbe(Arc<Activity>, Probe);

/// An open call, until it is dropped.
#[derive(Debug)]
pub struct OpenCall(Arc<Activity>);

impl Activity {
    pub fn new() -> Arc<Self> {
        let (place, idle_since) = (Place::Has, Instant::now());
        let calls = Calls { open: 0, begun: false, place, had_place: true, closed: false, idle_since, probes: [0; 2] };
        Arc::new(Self {
            calls: Mutex::new(calls),
            became_idle: Notify::new(),
            lost_place: Notify::new(),
            bytes_read: AtomicUsize::new(0),
            write_blocked_since: Mutex::new(None),
        })
    }

    /// Of a connection that comes to a port whose places are all taken.
    pub fn without_place() -> Arc<Self> {
        let activity = Self::new();
        let mut calls = activity.calls.lock();
        (calls.place, calls.had_place) = (Place::None, false);
        drop(calls);
        activity
    }

    /// `None` if the connection has no place, or is closed. The caller answers the call with the reason.
    pub fn begin(self: &Arc<Self>) -> Option<OpenCall> {
        let mut calls = self.calls.lock();
        calls.begun = true;
        if calls.place != Place::Has || calls.closed {
            calls.idle_since = Instant::now();
            return None;
        }
        calls.open += 1;
        Some(OpenCall(self.clone()))
    }

    /// `None` if the connection has too many calls of this kind.
    pub fn begin_probe(self: &Arc<Self>, probe: Probe) -> Option<OpenProbe> {
        let mut calls = self.calls.lock();
        let open = &mut calls.probes[probe as usize];
        if *open >= MAX_PROBES {
            return None;
        }
        *open += 1;
        Some(OpenProbe(self.clone(), probe))
    }

    /// A sign of life that is no call of the API.
    pub fn touch(&self) {
        self.calls.lock().idle_since = Instant::now();
    }

    /// Takes the place away, if no call is open. Returns whether that is so.
    pub fn lose_place(&self) -> bool {
        let mut calls = self.calls.lock();
        if calls.open > 0 {
            return false;
        }
        calls.place = Place::None;
        drop(calls);
        self.lost_place.notify_waiters();
        true
    }

    /// Gives a place, if the connection can take one and there is room. Returns whether it has one now. `room` is asked
    /// only then, and meanwhile the connection does not leave: others lose their places for this one.
    pub fn get_place(&self, room: impl FnOnce() -> bool) -> bool {
        let mut calls = self.calls.lock();
        if calls.place == Place::None && !calls.closed && room() {
            (calls.place, calls.had_place) = (Place::Has, true);
        }
        calls.place == Place::Has
    }

    /// No call begins from now on: its answer could not be sent.
    pub fn close(&self) {
        self.calls.lock().closed = true;
    }

    pub fn is_closed(&self) -> bool {
        self.calls.lock().closed
    }

    /// Gives up getting a place, if no call has come for this time. Returns whether that is so.
    pub fn leave(&self, quiet: Duration) -> bool {
        let mut calls = self.calls.lock();
        if calls.place == Place::None && calls.idle_since.elapsed() >= quiet {
            calls.place = Place::Left;
        }
        calls.place == Place::Left
    }

    /// Completes when the connection has no place.
    pub async fn place_lost(&self) {
        loop {
            // Before the check, so that no change is missed.
            let lost_place = self.lost_place.notified();
            if self.calls.lock().place != Place::Has {
                return;
            }
            lost_place.await;
        }
    }

    /// Whether the last call came within this time, and none is open.
    pub fn called_within(&self, time: Duration) -> bool {
        let calls = self.calls.lock();
        calls.begun && calls.open == 0 && calls.idle_since.elapsed() < time
    }

    /// Whether it ever had a place.
    pub fn had_place(&self) -> bool {
        self.calls.lock().had_place
    }

    /// Since when no call is open; `None` if one is.
    pub fn idle_since(&self) -> Option<Instant> {
        let calls = self.calls.lock();
        (calls.open == 0).then_some(calls.idle_since)
    }

    /// From when on another connection may take the place; `None` if a call is open. After a call the next one is
    /// expected for this time.
    pub fn displaceable_from(&self, between_calls: Duration) -> Option<Instant> {
        let calls = self.calls.lock();
        let expected = if calls.begun { between_calls } else { Duration::ZERO };
        (calls.open == 0).then_some(calls.idle_since + expected)
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

impl Drop for OpenProbe {
    fn drop(&mut self) {
        self.0.calls.lock().probes[self.1 as usize] -= 1;
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
