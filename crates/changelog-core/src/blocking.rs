//! Threads for work that blocks or takes long. All logs and calls of the process share them.
//!
//! Promises: work begins at once, or never. If the system gives no thread, the work is dropped and its caller gets the
//! error. `tokio::task::spawn_blocking` panics then and keeps the work, with all that it holds, for a later thread.
//! Does not: limit how many threads there are. Callers hold a permit of their own, so there are few.

use std::{
    any::Any,
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, LazyLock},
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// How long a thread waits for more work before it ends. As in tokio.
const IDLE: Duration = Duration::from_secs(10);

/// Why work has no result.
#[derive(Debug, thiserror::Error)]
pub enum BlockingError {
    /// The system gives no thread now. The work was not begun.
    #[error("no thread can be had: {0}")]
    NoThread(#[from] io::Error),
    /// The work panicked.
    #[error("a thread of changelogd panicked")]
    Panicked,
}

/// Runs work on another thread. It goes on if the caller no longer waits for it.
pub async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BlockingError> {
    static THREADS: LazyLock<Threads> = LazyLock::new(|| Threads::new(None));
    THREADS.run(work).await
}

type Work = Box<dyn FnOnce() + Send>;

struct Threads {
    shared: Arc<Shared>,
    /// `None` for the default.
    stack_bytes: Option<usize>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    handed: Condvar,
}

#[derive(Default)]
struct State {
    /// Work for threads that are idle: never more than there are.
    handed: VecDeque<Work>,
    idle: usize,
}

impl Threads {
    fn new(stack_bytes: Option<usize>) -> Self {
        Self { shared: Arc::default(), stack_bytes }
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, BlockingError> {
        let (sender, result) = oneshot::channel();
        let work = move || {
            let result: Result<T, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(work));
            // The caller may have left.
            let _ = sender.send(result);
        };
        self.begin(Box::new(work))?;
        result.await.ok().and_then(Result::ok).ok_or(BlockingError::Panicked)
    }

    fn begin(&self, work: Work) -> io::Result<()> {
        let mut state = self.shared.state.lock();
        if state.handed.len() < state.idle {
            state.handed.push_back(work);
            self.shared.handed.notify_one();
            return Ok(());
        }
        drop(state);
        let shared = self.shared.clone();
        let mut builder = thread::Builder::new().name("blocking".to_owned());
        if let Some(bytes) = self.stack_bytes {
            builder = builder.stack_size(bytes);
        }
        builder.spawn(move || shared.run(work)).map(drop)
    }
}

impl Shared {
    /// One thread.
    fn run(&self, first: Work) {
        let mut next = Some(first);
        while let Some(work) = next {
            work();
            let mut state = self.state.lock();
            state.idle += 1;
            self.handed.wait_while_for(&mut state, |state| state.handed.is_empty(), IDLE);
            state.idle -= 1;
            next = state.handed.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Barrier,
        atomic::{AtomicBool, Ordering::SeqCst},
    };

    use super::*;

    /// Covers R43.
    #[tokio::test]
    async fn work_that_gets_no_thread_is_dropped_with_what_it_holds() {
        static RAN: AtomicBool = AtomicBool::new(false);
        // No system has so much memory.
        let threads = Threads::new(Some(1 << 46));
        let permits = Arc::new(tokio::sync::Semaphore::new(1));
        for _ in 0..3 {
            let permit = permits.clone().try_acquire_owned().expect("the work before it is gone");
            let work = move || {
                let _permit = permit;
                RAN.store(true, SeqCst);
            };
            let error = threads.run(work).await.unwrap_err();
            assert!(matches!(error, BlockingError::NoThread(_)), "{error}");
        }
        assert!(!RAN.load(SeqCst));
    }

    /// Covers R44.
    #[tokio::test]
    async fn a_panic_is_the_error_of_its_work_only() {
        let threads = Threads::new(None);
        for n in 0..10 {
            assert!(matches!(threads.run(|| panic!("a bug")).await, Err::<(), _>(BlockingError::Panicked)));
            assert_eq!(threads.run(move || n).await.unwrap(), n);
        }
    }

    #[tokio::test]
    async fn threads_are_used_again_and_work_never_waits_for_other_work() {
        let threads = Arc::new(Threads::new(None));
        for _ in 0..20 {
            // Each waits for all others.
            let together = Arc::new(Barrier::new(8));
            let mut running = tokio::task::JoinSet::new();
            for _ in 0..8 {
                let (threads, together) = (threads.clone(), together.clone());
                running.spawn(async move { threads.run(move || together.wait().is_leader()).await.unwrap() });
            }
            assert_eq!(running.join_all().await.into_iter().filter(|leads| *leads).count(), 1);
        }
        let started = std::time::Instant::now();
        while threads.shared.state.lock().idle < 8 && started.elapsed() < IDLE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // While some are idle, no other is started: it would get no memory for this stack.
        let no_more = Threads { shared: threads.shared.clone(), stack_bytes: Some(1 << 46) };
        for _ in 0..100 {
            no_more.run(|| ()).await.unwrap();
        }
    }
}
