//! Where consumers go when their replay has ended: dropping one blocks until its threads have ended, which takes about a
//! millisecond, and is nothing for a thread that an answer waits for.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use super::ffi::Consumer;

const THREADS: usize = 2;
const WAITING: usize = 64;

/// A few threads that let go of consumers; they end with the last clone.
#[derive(Clone)]
pub struct Reaper(SyncSender<Consumer>);

impl Reaper {
    pub fn start() -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel::<Consumer>(WAITING);
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

    /// Never on a thread of the runtime: if every place is taken the caller lets go himself.
    pub fn take(&self, consumer: Consumer) {
        let _ = self.0.try_send(consumer);
    }
}
