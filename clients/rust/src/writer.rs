//! Many writes over one stream.
//!
//! Promises: each mutation gets one answer. Mutations of one workspace are applied in the order in which they were
//! passed. What is outstanding is bounded in mutations and bytes. Verdicts are read while mutations are sent.
//! Does not: send a mutation again.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, stream};
use parking_lot::Mutex;
use prost::Message;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;

use crate::{
    Client, Code, Entity, Error, Key, Position,
    client::{encode, written},
    proto::{self, mutation::Change, verdict::Outcome},
};

/// Mutations in one message, and their bytes, unless it has one. The server takes 1,000, and at least 4 MiB.
const MESSAGE_MUTATIONS: usize = 1_000;
const MESSAGE_BYTES: usize = 1024 * 1024;
/// Mutations without a verdict, and their bytes.
const OUTSTANDING_MUTATIONS: usize = 10_000;
const OUTSTANDING_BYTES: usize = 8 * 1024 * 1024;
/// The most bytes that the id of a mutation takes in a message, and its tag and length.
const FRAME_BYTES: usize = 17;

type Answer = Result<Position, Error>;

/// Writes many entities over one stream, each with its own [`Verdict`].
#[derive(Debug)]
pub struct Writer {
    queue: mpsc::Sender<proto::Mutation>,
    mutations: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    state: Arc<Mutex<State>>,
    reader: AbortOnDropHandle<Result<(), Error>>,
    close_timeout: Duration,
}

#[derive(Debug, Default)]
struct State {
    last_id: u64,
    /// Where the verdicts go, by id. The room of a mutation is free when it is answered.
    outstanding: HashMap<u64, (oneshot::Sender<Answer>, [OwnedSemaphorePermit; 2])>,
    /// What mutations are answered with after the end of the stream.
    ended: Option<Error>,
}

/// The outcome of a mutation: its position, or an error. A mutation is written also if its verdict is dropped.
#[derive(Debug)]
pub struct Verdict(oneshot::Receiver<Answer>);

impl Future for Verdict {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let dropped = |_| Err(Error::local(Code::Cancelled, "the outcome is not known: the writer was dropped"));
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or_else(dropped))
    }
}

impl Client {
    /// Opens a stream for many writes, within the timeout of calls.
    pub async fn writer(&self) -> Result<Writer, Error> {
        // Nothing is sent before the server has accepted the stream, so this may be repeated.
        let opened = self.retried(self.call_timeout, |mut grpc, _| async move {
            // It is never full: each mutation in it has its room.
            let (queue, queued) = mpsc::channel(OUTSTANDING_MUTATIONS);
            Ok((queue, grpc.write(messages(queued)).await?.into_inner()))
        });
        let (queue, verdicts) = opened.await?;
        let state = Arc::default();
        Ok(Writer {
            queue,
            mutations: Arc::new(Semaphore::new(OUTSTANDING_MUTATIONS)),
            bytes: Arc::new(Semaphore::new(OUTSTANDING_BYTES)),
            reader: AbortOnDropHandle::new(tokio::spawn(read(verdicts, Arc::clone(&state)))),
            state,
            close_timeout: self.load_timeout,
        })
    }
}

impl Writer {
    /// Passes an entity to the stream. Waits while 10,000 mutations or 8 MiB are outstanding.
    pub async fn set<T: Entity>(&self, entity: &T) -> Result<Verdict, Error> {
        self.send(&entity.key(), Change::Raw(encode(entity)?)).await
    }

    /// Passes a delete to the stream. Waits as [`Self::set`] does.
    pub async fn delete(&self, key: &Key) -> Result<Verdict, Error> {
        self.send(key, Change::Deletion(proto::Deletion {})).await
    }

    /// Ends the stream, and waits until each mutation has its verdict, for at most the timeout of loads.
    ///
    /// It is an error if the stream broke, or if a mutation has no verdict. What verdicts say is in them only.
    pub async fn close(self) -> Result<(), Error> {
        let Self { queue, reader, close_timeout, .. } = self;
        // The stream of messages ends, and so the call is half-closed.
        drop(queue);
        let ended = timeout(close_timeout, reader).await.map_err(|_| Error::late(close_timeout))?;
        ended.unwrap_or_else(|error| Err(Error::local(Code::Unknown, format!("the outcome is not known: {error}"))))
    }

    async fn send(&self, key: &Key, change: Change) -> Result<Verdict, Error> {
        let (workspace_id, changelog_id) = (key.workspace.clone(), key.changelog_id()?);
        let mut mutation = proto::Mutation { workspace_id, changelog_id, change: Some(change), ..Default::default() };
        let bytes = (mutation.encoded_len() + FRAME_BYTES).min(OUTSTANDING_BYTES);
        let room = [room(&self.mutations, 1).await, room(&self.bytes, bytes).await];
        let (sender, answer) = oneshot::channel();
        // Ids and the queue have one order.
        let mut state = self.state.lock();
        if let Some(ended) = &state.ended {
            return Err(ended.clone());
        }
        state.last_id += 1;
        mutation.id = state.last_id;
        state.outstanding.insert(mutation.id, (sender, room));
        // If the transport takes no more, the end of the stream is the answer.
        let _ = self.queue.try_send(mutation);
        Ok(Verdict(answer))
    }
}

async fn room(semaphore: &Arc<Semaphore>, count: usize) -> OwnedSemaphorePermit {
    semaphore.clone().acquire_many_owned(count as u32).await.expect("the semaphores of a writer are never closed")
}

/// When the transport takes a message, it gets the mutations that are queued, as far as they fit into one.
fn messages(queued: mpsc::Receiver<proto::Mutation>) -> impl Stream<Item = proto::WriteRequest> {
    stream::unfold((queued, None::<proto::Mutation>), async |(mut queued, first)| {
        let first = if let Some(first) = first { first } else { queued.recv().await? };
        let mut bytes = first.encoded_len() + FRAME_BYTES;
        let (mut mutations, mut next) = (vec![first], None);
        while mutations.len() < MESSAGE_MUTATIONS
            && let Ok(mutation) = queued.try_recv()
        {
            bytes += mutation.encoded_len() + FRAME_BYTES;
            if bytes > MESSAGE_BYTES {
                next = Some(mutation);
                break;
            }
            mutations.push(mutation);
        }
        Some((proto::WriteRequest { mutations }, (queued, next)))
    })
}

/// Answers mutations with their verdicts, and at the end of the stream all others. It is an error if there are any, or
/// if the stream broke.
async fn read(mut verdicts: Streaming<proto::WriteResponse>, state: Arc<Mutex<State>>) -> Result<(), Error> {
    let (status, is_ok) = loop {
        match verdicts.message().await {
            Ok(Some(message)) => message.verdicts.into_iter().for_each(|verdict| {
                if let Some((answer, _)) = state.lock().outstanding.remove(&verdict.id) {
                    // The caller may have dropped it.
                    let _ = answer.send(answer_of(verdict));
                }
            }),
            Ok(None) => break (Error::local(Code::Unavailable, "the stream has ended"), true),
            Err(status) => break (status.into(), false),
        }
    };
    let (mut state, unknown) = (state.lock(), status.of_unknown_outcome());
    let is_whole = is_ok && state.outstanding.is_empty();
    state.ended = Some(unknown.clone());
    for (_, (answer, _)) in state.outstanding.drain() {
        let _ = answer.send(Err(unknown.clone()));
    }
    if is_whole { Ok(()) } else { Err(unknown) }
}

fn answer_of(verdict: proto::Verdict) -> Answer {
    match verdict.outcome {
        Some(Outcome::Written(record)) => written(record.position),
        Some(Outcome::Error(error)) => Err(error.into()),
        None => Err(Error::local(Code::Unknown, "the outcome is not known: this client does not know the verdict")),
    }
}
