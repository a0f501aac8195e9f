//! Checks each second whether the data directory and the engine's files are still there, and measures them for metrics.
//!
//! It has a thread of its own. So a removal is noticed while nothing is written, while the writer waits for the disk,
//! and after a fault of the writer, when reads go on.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use super::state::StoreState;

/// A removal is noticed within about this time.
const INTERVAL: Duration = Duration::from_secs(1);
/// The files are measured for metrics once in this number of checks, because each file is looked at.
const CHECKS_PER_MEASUREMENT: u32 = 5;

/// The thread. Dropping it ends the thread, and waits for that.
pub(super) struct DirectoryWatch {
    /// Nothing is ever sent. The thread ends when it is dropped.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl DirectoryWatch {
    pub(super) fn start(state: Arc<StoreState>) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = Builder::new().name("embedded-watch".to_owned()).spawn(move || {
            if catch_unwind(AssertUnwindSafe(|| run(&state, &stopped))).is_err() {
                state.set_fault("the thread that checks the data directory ended");
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

fn run(state: &StoreState, stopped: &Receiver<()>) {
    let mut checks = 0_u32;
    while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
        state.check_files();
        checks = checks.wrapping_add(1);
        if checks.is_multiple_of(CHECKS_PER_MEASUREMENT) {
            state.measure();
        }
    }
}

impl Drop for DirectoryWatch {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
