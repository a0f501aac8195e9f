//! Streaming responses. A task sends messages through a bounded channel to the transport. The bytes of a message are
//! reserved in the part of the memory limit for answers before it is made, until it is written to the client's socket.
//!
//! Promises: the task ends at its deadline, and when the client leaves. It holds its resources until the transport has
//! taken the last message. The transport cuts a client that takes nothing, and so ends the task.
//! Does not: poll work from the response body. The transport does not poll the body of a client that receives nothing,
//! so its deadline would pass unnoticed.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use prost::Message;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout_at},
};
use tonic::{Response, Status};

use super::{
    call::{AnswerMemory, CallStats, Kept},
    conversion::Batches,
    status,
};
use crate::{
    memory::{MemoryPart, Reserved},
    proto::v1,
};

/// Messages that may wait for the transport.
const MAX_BUFFERED_MESSAGES: usize = 4;

/// Sends the messages of a response to the transport.
#[derive(Debug, Clone)]
pub struct ResponseSender<T> {
    messages: mpsc::Sender<(T, Kept)>,
    answers: Arc<MemoryPart>,
    deadline: Option<Instant>,
}

/// A place for a message, and room for its bytes.
pub struct Place<'a, T> {
    place: mpsc::Permit<'a, (T, Kept)>,
    reserved: Reserved,
}

impl<T: Message> Place<'_, T> {
    /// Sends the message, and releases the room that it does not need.
    pub fn send(mut self, message: T) {
        let bytes = message.encoded_len() as u64;
        debug_assert!(bytes <= self.reserved.bytes(), "{bytes} of {}", self.reserved.bytes());
        self.reserved.shrink_to(bytes);
        self.place.send((message, Kept::Memory { _reserved: self.reserved }));
    }
}

impl<T: Message> ResponseSender<T> {
    /// Waits for a place, and room for a message of at most these bytes. So a message that is made afterwards is never
    /// in memory without a reservation. On an error the task must end: the client left, its deadline passed, or too
    /// many answers wait to be taken.
    pub async fn place(&self, most_bytes: usize) -> Result<Place<'_, T>, Status> {
        // The place is first, so that a client that takes nothing does not use up the memory for others.
        let place = self.before_deadline(self.messages.reserve()).await?;
        let reserved = self.answers.reserve_before(most_bytes as u64, self.deadline).await;
        let reserved = reserved.map_err(|full| status::no_room_for_message("the answer", &full))?;
        Ok(Place { place, reserved })
    }

    /// As [`ResponseSender::place`], for a small message that is there already.
    pub async fn send(&self, message: T) -> Result<(), Status> {
        self.place(message.encoded_len()).await?.send(message);
        Ok(())
    }

    /// Sends a message whose memory is counted by what it keeps.
    pub async fn send_keeping(&self, message: T, kept: Kept) -> Result<(), Status> {
        self.before_deadline(self.messages.reserve()).await?.send((message, kept));
        Ok(())
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

    /// Sends batches, each when there is room for it.
    pub async fn send_batches(
        &self,
        mut batches: Batches<'_>,
        stats: &CallStats,
        message: impl Fn(v1::EntryBatch) -> T,
    ) -> Result<(), Status> {
        while let Some(most_bytes) = batches.most_bytes() {
            let place = self.place(most_bytes).await?;
            let Some((entries, batch)) = batches.next().await? else { break };
            stats.add_entries(entries);
            place.send(message(batch));
        }
        Ok(())
    }

    /// Waits until the transport has taken all messages. The caller must hold its records and its replay permit until
    /// then. Otherwise a client that receives nothing holds memory that no budget counts.
    pub async fn flushed(&self) -> Result<(), Status> {
        self.before_deadline(self.messages.reserve_many(MAX_BUFFERED_MESSAGES)).await.map(drop)
    }
}

/// Sends what a client must take before this deadline, because a replay permit is held meanwhile.
pub async fn taken_by(deadline: Instant, sending: impl Future<Output = Result<(), Status>>) -> Result<(), Status> {
    let late = || status::deadline_exceeded("the client had not taken the state before the deadline".to_owned());
    timeout_at(deadline, sending).await.unwrap_or_else(|_| Err(late()))
}

/// The messages of a streaming response, and its status.
#[derive(Debug)]
pub struct ResponseStream<T> {
    messages: mpsc::Receiver<(T, Kept)>,
    /// What the messages hold that the transport has.
    memory: AnswerMemory,
    end: Option<oneshot::Receiver<Result<(), Status>>>,
    /// The status if the task panics.
    fault: fn() -> Status,
}

impl<T: Message + 'static> ResponseStream<T> {
    /// Starts the task. It is dropped when it ends, or when the client leaves or is cut.
    pub fn spawn<F>(
        deadline: impl Into<Option<Instant>>,
        fault: fn() -> Status,
        answers: &Arc<MemoryPart>,
        task: impl FnOnce(ResponseSender<T>) -> F,
    ) -> Self
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (sender, messages) = mpsc::channel(MAX_BUFFERED_MESSAGES);
        let (ended, end) = oneshot::channel();
        let client = sender.clone();
        let work = task(ResponseSender { messages: sender, answers: answers.clone(), deadline: deadline.into() });
        tokio::spawn(async move {
            tokio::select! {
                result = work => { let _ = ended.send(result); }
                () = client.closed() => {}
            }
        });
        Self { messages, memory: AnswerMemory::default(), end: Some(end), fault }
    }

    pub fn into_response(self) -> Response<Self> {
        self.memory.clone().attach(Response::new(self))
    }
}

impl<T: Unpin> Stream for ResponseStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some((message, kept)) = ready!(self.messages.poll_recv(cx)) {
            self.memory.add(kept);
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

    fn answers() -> Arc<MemoryPart> {
        MemoryPart::new("answers", 1_000, 0)
    }

    fn fault() -> Status {
        status::internal_fault("a test")
    }

    /// Covers S3, F24.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_cut_at_its_deadline_with_the_cause() {
        let deadline = Instant::now() + MINUTE / 2;
        let mut stream: ResponseStream<u32> =
            ResponseStream::spawn(deadline, fault, &answers(), |responses| async move {
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
            let mut stream: ResponseStream<u32> =
                ResponseStream::spawn(Instant::now() + MINUTE / 2, fault, &answers(), |responses| async move {
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
        let mut stream: ResponseStream<u32> =
            ResponseStream::spawn(Instant::now() + MINUTE, fault, &answers(), |_responses| async { panic!("a bug") });
        assert_eq!(stream.next().await.unwrap().unwrap_err().code(), Code::Internal);
    }

    /// Covers R24, F24.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_leaves_ends_the_task() {
        let (held, gone) = oneshot::channel::<()>();
        let stream: ResponseStream<u32> =
            ResponseStream::spawn(Instant::now() + MINUTE, fault, &answers(), |_responses| async move {
                let _held = held;
                std::future::pending().await
            });
        tokio::task::yield_now().await;
        drop(stream);
        assert!(gone.await.is_err(), "what the task held is dropped");
    }

    /// Covers S19.
    #[tokio::test(start_paused = true)]
    async fn messages_that_are_not_taken_use_up_the_memory_of_answers_until_the_client_leaves() {
        let part = MemoryPart::new("answers", 10_000, 0);
        let stalled = |bytes: usize| {
            ResponseStream::spawn(None, fault, &part, move |responses| async move {
                loop {
                    responses.send("a".repeat(bytes)).await?;
                }
            })
        };
        // Each message has three bytes more. Four of the first stream fit, and one of the second.
        let first = stalled(2_000);
        tokio::time::sleep(MINUTE).await;
        let mut second = stalled(1_500);
        tokio::time::sleep(MINUTE).await;
        assert_eq!(part.used(), 4 * 2_003 + 1_503);
        assert_eq!(second.next().await.unwrap().unwrap().len(), 1_500);
        let status = second.next().await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        drop(second);
        assert_eq!(part.used(), 4 * 2_003);
        drop(first);
        tokio::task::yield_now().await;
        assert_eq!(part.used(), 0);
    }
}
