//! Where consumers go when their replay has ended: dropping one blocks until its threads have ended, which takes about a
//! millisecond, and is nothing for a thread that an answer waits for.
//!
//! What they leave behind is given back to the system once it is quiet: each of their threads had an arena of the allocator, which
//! keeps what is freed, and replays that come many at a time would have the process be as large as that from then on.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

const THREADS: usize = 2;
const WAITING: usize = 64;
/// How long nothing must come before memory is given back: under load it would be asked for again at once.
const QUIET: Duration = Duration::from_millis(250);

struct Arrivals<T> {
    consumers: Receiver<T>,
    /// Some have come since memory was last given back.
    since: bool,
}

impl<T> Arrivals<T> {
    /// The next one; `None`: it is quiet.
    fn next(&mut self) -> Result<Option<T>, ()> {
        let next = if self.since {
            self.consumers.recv_timeout(QUIET)
        } else {
            self.consumers.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        self.since = next.is_ok();
        match next {
            Ok(consumer) => Ok(Some(consumer)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }
}

/// A few threads that let go of consumers; they end with the last clone.
pub struct Reaper<T>(SyncSender<T>);

impl<T> Clone for Reaper<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Send + 'static> Reaper<T> {
    /// `give_back` is called on one of its threads.
    pub fn start(give_back: fn()) -> io::Result<Self> {
        let (sender, consumers) = sync_channel(WAITING);
        let arrivals = Arc::new(Mutex::new(Arrivals { consumers, since: false }));
        for i in 0..THREADS {
            let arrivals = arrivals.clone();
            thread::Builder::new().name(format!("consumer-reaper-{i}")).spawn(move || {
                loop {
                    // The lock is not held while it is let go.
                    let next = arrivals.lock().unwrap_or_else(PoisonError::into_inner).next();
                    match next {
                        Ok(Some(consumer)) => drop(consumer),
                        Ok(None) => give_back(),
                        Err(()) => return,
                    }
                }
            })?;
        }
        Ok(Self(sender))
    }

    /// Never on a thread of the runtime: if every place is taken the caller lets go himself.
    pub fn take(&self, consumer: T) {
        let _ = self.0.try_send(consumer);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        time::Instant,
    };

    use super::*;

    static GIVEN_BACK: AtomicUsize = AtomicUsize::new(0);

    fn until(what: impl Fn() -> bool) {
        let since = Instant::now();
        while !what() {
            assert!(since.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn consumers_are_let_go_and_memory_is_given_back_once_it_is_quiet() {
        let reaper = Reaper::start(|| _ = GIVEN_BACK.fetch_add(1, SeqCst)).unwrap();
        for _ in 0..3 {
            let (consumer, before) = (Arc::new(()), GIVEN_BACK.load(SeqCst));
            for _ in 0..WAITING {
                reaper.take(consumer.clone());
            }
            until(|| Arc::strong_count(&consumer) == 1);
            until(|| GIVEN_BACK.load(SeqCst) > before);
        }
        // Not again while nothing comes; where this thread was held up there may be one more.
        until(|| {
            let before = GIVEN_BACK.load(SeqCst);
            thread::sleep(QUIET * 3);
            GIVEN_BACK.load(SeqCst) == before
        });
    }
}
