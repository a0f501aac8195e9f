//! What tests of log lines share.

use std::{
    io::{self, Write},
    sync::Arc,
};

use parking_lot::Mutex;
use tracing::{Subscriber, subscriber::with_default};

/// A writer that keeps what is written.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a subscriber that writes to these lines logs of `event`.
pub fn logged<S: Subscriber + Send + Sync + 'static>(
    subscriber: impl FnOnce(Lines) -> S,
    event: impl FnOnce(),
) -> String {
    let lines = Lines::default();
    with_default(subscriber(lines.clone()), event);
    String::from_utf8(lines.0.lock().clone()).expect("text")
}
