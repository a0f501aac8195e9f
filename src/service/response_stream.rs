//! Streaming responses. A task sends messages through a bounded channel to the transport.
//!
//! Promises: the task ends at its deadline, and when the client leaves. It holds its resources until the transport has
//! taken the last message. The transport cuts a client that takes nothing, and so ends the task.
//! Does not: poll work from the response body. The transport does not poll the body of a client that receives nothing,
//! so its deadline would pass unnoticed.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tonic::Status;

use super::status;

/// Messages that may wait for the transport.
const MAX_BUFFERED_MESSAGES: usize = 4;

/// Sends the messages of a response to the transport.
#[derive(Debug, Clone)]
pub struct ResponseSender<T> {
    messages: mpsc::Sender<T>,
    deadline: Option<Instant>,
}

impl<T> ResponseSender<T> {
    /// Sends a message. On an error the task must end: the client left, or its deadline passed.
    pub async fn send(&self, message: T) -> Result<(), Status> {
        self.before_deadline(self.messages.send(message)).await
    }

    async fn before_deadline<V, E>(&self, work: impl Future<Output = Result<V, E>>) -> Result<V, Status> {
        let done = match self.deadline {
            None => work.await,
            Some(deadline) => timeout_at(deadline, work).await.map_err(|_| {
                status::deadline_exceeded("the deadline passed before the client had taken all".to_owned())
            })?,
        };
        done.map_err(|_| Status::cancelled("the client has gone"))
    }

    /// Waits until the transport has taken all messages. The caller must hold its records and its replay permit until
    /// then. Otherwise a client that receives nothing holds memory that no budget counts.
    pub async fn flushed(&self) -> Result<(), Status> {
        self.before_deadline(self.messages.reserve_many(MAX_BUFFERED_MESSAGES)).await.map(drop)
    }
}

/// The messages of a streaming response, and its status.
#[derive(Debug)]
pub struct ResponseStream<T> {
    messages: mpsc::Receiver<T>,
    end: Option<oneshot::Receiver<Result<(), Status>>>,
    /// The status if the task panics.
    fault: fn() -> Status,
}

impl<T: Send + 'static> ResponseStream<T> {
    /// Starts the task. It is dropped when it ends, or when the client leaves or is cut.
    pub fn spawn<F>(
        deadline: impl Into<Option<Instant>>,
        fault: fn() -> Status,
        task: impl FnOnce(ResponseSender<T>) -> F,
    ) -> Self
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (sender, messages) = mpsc::channel(MAX_BUFFERED_MESSAGES);
        let (ended, end) = oneshot::channel();
        let client = sender.clone();
        let work = task(ResponseSender { messages: sender, deadline: deadline.into() });
        tokio::spawn(async move {
            tokio::select! {
                result = work => { let _ = ended.send(result); }
                () = client.closed() => {}
            }
        });
        Self { messages, end: Some(end), fault }
    }
}

impl<T> Stream for ResponseStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(message) = ready!(self.messages.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(message)));
        }
        let Some(end) = &mut self.end else { return Poll::Ready(None) };
        let result = ready!(Pin::new(end).poll(cx));
        self.end = None;
        // A task that panicked must not look like a complete response.
        let result = result.unwrap_or_else(|_| Err((self.fault)()));
        Poll::Ready(result.err().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::StreamExt;
    use tonic::Code;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn fault() -> Status {
        status::internal_fault("a test")
    }

    /// Covers S3, F24.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_cut_at_its_deadline_with_the_cause() {
        let deadline = Instant::now() + MINUTE / 2;
        let mut stream = ResponseStream::spawn(deadline, fault, |responses| async move {
            loop {
                responses.send(1).await?;
            }
        });
        tokio::time::sleep(MINUTE).await;
        let mut taken = 0;
        let status = loop {
            match stream.next().await.expect("a status ends it") {
                Ok(_) => taken += 1,
                Err(status) => break status,
            }
        };
        assert_eq!((taken, status.code()), (MAX_BUFFERED_MESSAGES, Code::DeadlineExceeded));
        assert!(stream.next().await.is_none());
    }

    /// The last messages, too: a small response has no others.
    /// Covers S4, F24.
    #[tokio::test(start_paused = true)]
    async fn a_response_holds_its_permits_until_its_last_message_is_read_or_its_deadline() {
        for reads in [true, false] {
            let (held, mut gone) = oneshot::channel::<()>();
            let mut stream: ResponseStream<u8> =
                ResponseStream::spawn(Instant::now() + MINUTE / 2, fault, |responses| async move {
                    let _held = held;
                    responses.send(1).await?;
                    responses.flushed().await
                });
            tokio::time::sleep(MINUTE / 4).await;
            assert_eq!(gone.try_recv(), Err(oneshot::error::TryRecvError::Empty), "the message is still waiting");
            if reads {
                assert_eq!(stream.next().await.unwrap().unwrap(), 1);
            } else {
                tokio::time::sleep(MINUTE / 2).await;
            }
            assert!(gone.await.is_err(), "it is released");
            if !reads {
                assert_eq!(stream.next().await.unwrap().unwrap(), 1);
                assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
            }
            assert!(stream.next().await.is_none());
        }
    }

    /// Covers C43, R44.
    #[tokio::test(start_paused = true)]
    async fn a_panicking_task_is_an_error_and_not_an_end() {
        let mut stream: ResponseStream<u8> =
            ResponseStream::spawn(Instant::now() + MINUTE, fault, |_responses| async { panic!("a bug") });
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::Internal);
    }

    /// Covers R24, F24.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_ends_the_task() {
        let (held, gone) = oneshot::channel::<()>();
        let stream: ResponseStream<u8> =
            ResponseStream::spawn(Instant::now() + MINUTE, fault, |_responses| async move {
                let _held = held;
                std::future::pending().await
            });
        tokio::task::yield_now().await;
        drop(stream);
        assert!(gone.await.is_err(), "what the task held is dropped");
    }
}
