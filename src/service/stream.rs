//! Answers that stream: one task feeds a bounded channel, so that a reader who takes nothing holds up the replay, and is
//! cut when his time is over; and a reader who goes away ends the task.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::Stream;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tonic::Status;

use super::status;

/// Messages that may wait for the transport.
const AHEAD: usize = 4;

/// Where a task puts its answer.
#[derive(Debug, Clone)]
pub struct Feed<T> {
    messages: mpsc::Sender<T>,
    deadline: Option<Instant>,
    stall: Duration,
}

impl<T> Feed<T> {
    /// Hands a message to the transport. Errors end the task: the reader is gone, too slow, or out of time.
    pub async fn send(&self, message: T) -> Result<(), Status> {
        self.in_time(self.messages.send(message)).await
    }

    async fn in_time<V, E>(&self, work: impl Future<Output = Result<V, E>>) -> Result<V, Status> {
        let stalled = Instant::now() + self.stall;
        let until = self.deadline.map_or(stalled, |deadline| deadline.min(stalled));
        match tokio::time::timeout_at(until, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => Err(Status::cancelled("the client has gone")),
            Err(_) if until == stalled => {
                Err(status::too_late(format!("the client took no message for {} s", self.stall.as_secs())))
            }
            Err(_) => Err(status::too_late("the deadline passed before the client had taken all".to_owned())),
        }
    }

    /// Waits until the transport has taken all that was sent. What the messages were made from, and the turn they were made in,
    /// must be held until then: a client that takes nothing would else hold memory that nobody counts, for as long as it likes.
    pub async fn taken(&self) -> Result<(), Status> {
        self.in_time(self.messages.reserve_many(AHEAD)).await.map(drop)
    }

    /// From here on the stream may last.
    pub fn without_deadline(mut self) -> Self {
        self.deadline = None;
        self
    }
}

/// The stream that a call answers with.
#[derive(Debug)]
pub struct Answer<T> {
    messages: mpsc::Receiver<T>,
    end: Option<oneshot::Receiver<Result<(), Status>>>,
}

impl<T: Send + 'static> Answer<T> {
    /// Starts the task. Whatever it holds is dropped when it ends, or within a poll of the client's going away.
    pub fn spawn<F>(deadline: Instant, stall: Duration, task: impl FnOnce(Feed<T>) -> F) -> Self
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (sender, messages) = mpsc::channel(AHEAD);
        let (ended, end) = oneshot::channel();
        let gone = sender.clone();
        let work = task(Feed { messages: sender, deadline: Some(deadline), stall });
        tokio::spawn(async move {
            tokio::select! {
                result = work => { let _ = ended.send(result); }
                () = gone.closed() => {}
            }
        });
        Self { messages, end: Some(end) }
    }
}

impl<T> Stream for Answer<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(message) = ready!(self.messages.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(message)));
        }
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        let result = ready!(Pin::new(end).poll(cx));
        self.end = None;
        // A task that died must not look like one that came to its end.
        let result =
            result.unwrap_or_else(|_| Err(Status::internal("the stream broke off; nothing after it is known")));
        Poll::Ready(result.err().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tonic::Code;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Covers S3, F24.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_cut_at_its_deadline_with_the_cause() {
        let deadline = Instant::now() + MINUTE / 2;
        let mut answer = Answer::spawn(deadline, MINUTE, |feed| async move {
            loop {
                feed.send(1).await?;
            }
        });
        tokio::time::sleep(MINUTE).await;
        let mut taken = 0;
        let status = loop {
            match answer.next().await.expect("a status ends it") {
                Ok(_) => taken += 1,
                Err(status) => break status,
            }
        };
        assert_eq!((taken, status.code()), (AHEAD, Code::DeadlineExceeded));
        assert!(answer.next().await.is_none());
    }

    /// The last messages, too: a small answer has no others.
    /// Covers S4, F24.
    #[tokio::test(start_paused = true)]
    async fn a_response_holds_its_permits_until_its_last_message_is_read_or_its_deadline() {
        for reads in [true, false] {
            let (held, mut gone) = oneshot::channel::<()>();
            let mut answer: Answer<u8> = Answer::spawn(Instant::now() + MINUTE, MINUTE / 2, |feed| async move {
                let _held = held;
                feed.send(1).await?;
                feed.taken().await
            });
            tokio::time::sleep(MINUTE / 4).await;
            assert_eq!(gone.try_recv(), Err(oneshot::error::TryRecvError::Empty), "nobody has taken it yet");
            if reads {
                assert_eq!(answer.next().await.unwrap().unwrap(), 1);
            } else {
                tokio::time::sleep(MINUTE / 2).await;
            }
            assert!(gone.await.is_err(), "it is let go");
            if !reads {
                assert_eq!(answer.next().await.unwrap().unwrap(), 1);
                assert_eq!(answer.next().await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
            }
            assert!(answer.next().await.is_none());
        }
    }

    /// Covers C43.
    #[tokio::test(start_paused = true)]
    async fn a_panicking_task_is_an_error_and_not_an_end() {
        let mut answer: Answer<u8> = Answer::spawn(Instant::now() + MINUTE, MINUTE, |_feed| async { panic!("a bug") });
        assert_eq!(answer.next().await.unwrap().unwrap_err().code(), Code::Internal);
    }

    /// Covers R24, F24.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_ends_the_task() {
        let (held, gone) = oneshot::channel::<()>();
        let answer: Answer<u8> = Answer::spawn(Instant::now() + MINUTE, MINUTE, |_feed| async move {
            let _held = held;
            std::future::pending().await
        });
        tokio::task::yield_now().await;
        drop(answer);
        assert!(gone.await.is_err(), "what the task held is dropped");
    }
}
