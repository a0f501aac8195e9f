//! The signals that stop a process.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// TERM, INT and HUP. While this exists, they do not end the process by themselves.
pub struct Signals([Signal; 3]);

impl Signals {
    pub fn new() -> io::Result<Self> {
        let of = |kind| signal(kind);
        Ok(Self([of(SignalKind::terminate())?, of(SignalKind::interrupt())?, of(SignalKind::hangup())?]))
    }

    /// Waits for one of them.
    pub async fn next(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
