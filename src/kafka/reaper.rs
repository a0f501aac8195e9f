//! Threads that destroy consumers. Destroying a consumer blocks until its threads have ended, and a thread that owes an
//! answer must not wait for that.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use super::ffi::Consumer;

const THREADS: usize = 2;
const MAX_QUEUED: usize = 64;

/// Threads that destroy consumers. They end with the last clone.
#[derive(Clone)]
pub struct Reaper(SyncSender<Consumer>);

impl Reaper {
    pub fn start() -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel::<Consumer>(MAX_QUEUED);
        let receiver = Arc::new(Mutex::new(receiver));
        for i in 0..THREADS {
            let receiver = receiver.clone();
            thread::Builder::new().name(format!("consumer-reaper-{i}")).spawn(move || {
                loop {
                    let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    match next {
                        Ok(consumer) => drop(consumer),
                        Err(_) => return,
                    }
                }
            })?;
        }
        Ok(Self(sender))
    }

    /// Queues a consumer. If the queue is full, the caller destroys it, so this is never called on a thread of the
    /// runtime.
    pub fn take(&self, consumer: Consumer) {
        let _ = self.0.try_send(consumer);
    }
}
