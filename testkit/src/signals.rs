//! Signals that end a program of tests.

use tokio::signal::unix::{SignalKind, signal};

/// Waits for INT, TERM or HUP.
///
/// # Panics
/// If it is not on a tokio runtime, or the system refuses to deliver them.
pub async fn stopped() {
    let of = |kind| signal(kind).expect("signals can be waited for");
    let (mut interrupt, mut terminate) = (of(SignalKind::interrupt()), of(SignalKind::terminate()));
    let mut hangup = of(SignalKind::hangup());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
