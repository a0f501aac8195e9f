//! The thread of the writer. When the log closes, it stops the engine.
//!
//! Stopping the engine waits for its threads, which must not block a worker of a runtime. At the close the system may
//! give no new thread, so this one does it. If replays have the store then, it waits for them.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Receiver, Sender, channel},
    thread::Builder,
};

use super::{directory_watch::DirectoryWatch, store::Store, writer::Writer};

/// Of the fault after which no thread writes.
pub(super) const WRITER_ENDED: &str = "the writer thread ended";

/// The running thread.
pub(super) struct WriterThread {
    /// Nothing is ever sent. The thread closes the store when it is dropped.
    close: Sender<()>,
    closed: Receiver<()>,
}

impl WriterThread {
    /// `unused` gets the store when nothing uses it any more.
    pub(super) fn start(writer: Writer, watch: DirectoryWatch, unused: Receiver<Store>) -> io::Result<Self> {
        let ((close, closing), (done, closed)) = (channel(), channel());
        Builder::new().name("embedded-writer".to_owned()).spawn(move || run(writer, watch, &unused, &closing, done))?;
        Ok(Self { close, closed })
    }

    /// Closes the store when the writer has ended, which it does when its queue is closed and empty. The receiver is
    /// closed when the store is dropped, or only replays have it.
    pub(super) fn close(self) -> Receiver<()> {
        drop(self.close);
        self.closed
    }
}

fn run(writer: Writer, watch: DirectoryWatch, unused: &Receiver<Store>, closing: &Receiver<()>, done: Sender<()>) {
    let state = writer.state.clone();
    // The pending replies are dropped with the writer, so their outcome is not known. Published data stays readable.
    let ended = catch_unwind(AssertUnwindSafe(|| writer.run()));
    if ended.is_err() || !state.closing.is_cancelled() {
        state.set_fault(WRITER_ENDED);
    }
    let _ = closing.recv();
    drop(watch);
    state.published.send_replace(None);
    drop(unused.try_recv());
    drop(done);
    // The last replay ends.
    drop(unused.recv());
}
