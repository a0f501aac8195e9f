//! Responses that the client does not take.
//!
//! hyper takes a chunk of a response, and then waits until the client's flow-control window has room for it. Meanwhile
//! it does not poll the body, so the body can't end the call. But hyper runs each stream on an executor that we give
//! it: the executor sees how long a chunk has waited, and drops the stream. That resets it (RST_STREAM), so the call of
//! the client ends, and frees its memory. Other streams of the connection go on.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    task_local,
    time::{Instant, Sleep, sleep_until},
};

task_local! {
    /// Of the stream whose task runs.
    static CURRENT: Arc<TransportWait>;
}

/// Whether the transport holds a chunk that the client has no room for.
#[derive(Debug, Default)]
pub struct TransportWait(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    /// The transport asks for more, or the response has not begun.
    #[default]
    Nothing,
    /// The transport has taken a chunk and has not asked for more since.
    Since(Instant),
    /// It waited too long: the stream is being reset.
    TooLong,
}

impl TransportWait {
    /// That of the stream whose task calls. In a task of another kind, one that is not watched.
    pub fn current() -> Arc<Self> {
        CURRENT.try_with(Arc::clone).unwrap_or_default()
    }

    /// The transport asks for a chunk, so the client has taken the one before.
    pub fn ends(&self) {
        *self.0.lock() = State::Nothing;
    }

    /// The transport gets a chunk.
    pub fn begins(&self) {
        *self.0.lock() = State::Since(Instant::now());
    }

    /// Whether the stream is reset because of this wait.
    pub fn was_too_long(&self) -> bool {
        matches!(*self.0.lock(), State::TooLong)
    }

    fn since(&self) -> Option<Instant> {
        match *self.0.lock() {
            State::Since(instant) => Some(instant),
            State::Nothing | State::TooLong => None,
        }
    }
}

/// Runs the streams of a connection. Drops a stream whose client takes nothing for `limit`.
#[derive(Debug, Clone, Copy)]
pub struct StreamExecutor {
    pub limit: Duration,
}

impl<F> hyper::rt::Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(watched(stream, self.limit));
    }
}

fn watched(stream: impl Future<Output = ()> + Send, limit: Duration) -> impl Future<Output = ()> + Send {
    let wait = Arc::<TransportWait>::default();
    CURRENT.scope(wait.clone(), async move {
        let mut stream = pin!(stream);
        let mut timer = pin!(None::<Sleep>);
        // Every change of the wait comes from the stream's own task, so this is polled after each.
        poll_fn(|cx| {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let Some(since) = wait.since() else {
                timer.set(None);
                return Poll::Pending;
            };
            let until = since + limit;
            if timer.as_ref().as_pin_ref().is_none_or(|timer| timer.deadline() != until) {
                timer.set(Some(sleep_until(until)));
            }
            let Some(running) = timer.as_mut().as_pin_mut() else { return Poll::Pending };
            running.poll(cx).map(|()| *wait.0.lock() = State::TooLong)
        })
        .await;
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    /// A stream that gives the transport a chunk, and gets back to it after each of these times.
    async fn stream(takes: &[u64], taken: &AtomicUsize) {
        for seconds in takes {
            let wait = TransportWait::current();
            wait.begins();
            tokio::time::sleep(Duration::from_secs(*seconds)).await;
            wait.ends();
            taken.fetch_add(1, SeqCst);
            // The next message takes long, which is not the client's fault.
            tokio::time::sleep(2 * LIMIT).await;
        }
    }

    /// Covers S17.
    #[tokio::test(start_paused = true)]
    async fn a_stream_is_dropped_only_while_the_transport_waits_for_the_client() {
        for (takes, chunks) in
            [(vec![59, 59, 59], 3), (vec![61], 0), (vec![1, 3_600, 1], 1), (vec![], 0), (vec![59, 61, 1], 1)]
        {
            let taken = AtomicUsize::new(0);
            watched(stream(&takes, &taken), LIMIT).await;
            assert_eq!(taken.load(SeqCst), chunks, "{takes:?}");
        }
    }
}
