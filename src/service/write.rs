//! The stream of mutations: each is handed to the log as it is read, and its verdict comes when the log has answered.
//!
//! Promises: mutations of one workspace are applied in the order sent; every mutation that was read gets one verdict, also when
//! the stream ends with an error, as long as the client is there to take it; a client that does not take its verdicts is read
//! no further, so that what waits is bounded by [`WINDOW`]; and it keeps nobody's flush waiting, since a write is settled when the
//! log has answered, and not when its verdict is taken.
//!
//! Each partition has a queue of its own, in which answers come in order: one that stands still does not hold up the others.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
    time::Instant,
};
use tonic::Status;

use super::{request, response, response_stream::ResponseSender, status};
use crate::{
    changelog::{AcceptedWrite, Change, Changelog, Written},
    log::WriteError,
    model::{Key, Partition, Shown, ValueRules},
    proto::{
        self,
        v1::{self, mutation, verdict},
    },
};

/// Mutations of one message; more end the stream.
const MAX_MUTATIONS: usize = 1_000;
/// What a stream may have between reading a mutation and handing over its verdict: a mutation counts one, and one for each KiB
/// of its value. The few messages of verdicts that wait for the transport are beside it.
const WINDOW: usize = 16_384;
/// Verdicts of one message.
const MAX_VERDICTS: usize = 1_000;
/// Fewer than these are not sent before others have had the chance to complete.
const MIN_VERDICTS: usize = 64;
/// Between two tries of a record for which its producer has no room.
const QUEUE_FULL_RETRY: Duration = Duration::from_millis(2);

/// A mutation that the log has accepted.
struct PendingWrite {
    id: u64,
    key: Key,
    accepted: AcceptedWrite,
    window_permit: OwnedSemaphorePermit,
}

/// One that the log has answered.
struct CompletedWrite {
    id: u64,
    key: Key,
    outcome: Result<Written, WriteError>,
    /// Given back when its verdict is handed over.
    _window_permit: OwnedSemaphorePermit,
}

/// One stream.
pub struct Writing {
    changelog: Changelog,
    verdicts: ResponseSender<v1::WriteResponse>,
    /// How long a producer that is full is waited for, before that is the verdict.
    queue_full_timeout: Duration,
    window: Arc<Semaphore>,
    partition_queues: HashMap<Partition, mpsc::UnboundedSender<PendingWrite>>,
    completed: mpsc::UnboundedSender<CompletedWrite>,
    /// Hands over verdicts. Answers how many.
    verdict_task: JoinHandle<Result<u64, Status>>,
    accepted: u64,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.verdict_task.abort();
    }
}

impl Writing {
    /// Before its first message.
    pub fn new(
        changelog: Changelog,
        verdicts: ResponseSender<v1::WriteResponse>,
        queue_full_timeout: Duration,
    ) -> Self {
        let (completed, answered) = mpsc::unbounded_channel();
        let verdict_task = tokio::spawn(send_verdicts(answered, verdicts.clone()));
        let window = Arc::new(Semaphore::new(WINDOW));
        Self {
            changelog,
            verdicts,
            queue_full_timeout,
            window,
            partition_queues: HashMap::new(),
            completed,
            verdict_task,
            accepted: 0,
        }
    }

    /// Reads until the client closes its half, or an error; then hands over the verdicts of what was read.
    pub async fn run<S>(mut self, mut messages: S) -> Result<(), Status>
    where
        S: Stream<Item = Result<v1::WriteRequest, Status>> + Unpin,
    {
        let ended = self.read(&mut messages).await;
        // The queues end when all their writes are answered, and the verdict task ends with the last queue.
        self.partition_queues.clear();
        self.completed = mpsc::unbounded_channel().0;
        if self.verdict_task.is_finished() && ended.is_err() {
            return ended;
        }
        let sent = (&mut self.verdict_task).await.unwrap_or_else(|_| Err(lost()))?;
        if sent == self.accepted { ended } else { Err(lost()) }
    }

    async fn read<S>(&mut self, messages: &mut S) -> Result<(), Status>
    where
        S: Stream<Item = Result<v1::WriteRequest, Status>> + Unpin,
    {
        let changelog = self.changelog.clone();
        let mut draining = pin!(changelog.draining());
        loop {
            let message = tokio::select! {
                message = messages.next() => message,
                () = &mut draining => return Err(status::from_write_error(&WriteError::Draining, "write")),
                // It ends early only if nobody takes its verdicts.
                sent = &mut self.verdict_task => {
                    return sent.unwrap_or_else(|_| Err(lost())).and_then(|_| Err(lost()));
                }
            };
            match message {
                None => return Ok(()),
                Some(message) => self.accept_all(message?.mutations).await?,
            }
        }
    }

    async fn accept_all(&mut self, mutations: Vec<v1::Mutation>) -> Result<(), Status> {
        if mutations.len() > MAX_MUTATIONS {
            let message = format!(
                "{} mutations in one message, the limit is {MAX_MUTATIONS}; none of them was written",
                mutations.len()
            );
            return Err(status::bad_argument("mutations", message));
        }
        let rules = self.changelog.value_rules();
        let mut refused = Vec::new();
        // All are looked at before the first is handed over: a producer sends at once what it has, and what comes to it in one go
        // is one batch.
        let changes: Vec<_> = mutations.into_iter().map(|mutation| (mutation.id, change(mutation, &rules))).collect();
        for (id, change) in changes {
            let sent = match change {
                Ok(change) => self.send(id, change).await,
                Err(status) => Err(status),
            };
            if let Err(status) = sent {
                refused.push(verdict_of(id, verdict::Outcome::Error(response::rpc_status(&status))));
            }
        }
        if refused.is_empty() { Ok(()) } else { self.verdicts.send(v1::WriteResponse { verdicts: refused }).await }
    }

    async fn send(&mut self, id: u64, change: Change) -> Result<(), Status> {
        let weight = (1 + change.value.as_ref().map_or(0, |v| v.len() / 1024)).min(WINDOW);
        let window_permit = self.window.clone().acquire_many_owned(u32::try_from(weight).unwrap_or(u32::MAX)).await;
        let window_permit = window_permit.map_err(|_| lost())?;
        let (key, verb) = (change.key.clone(), verb(change.value.is_none()));
        let accepted = self.accept(change).await.map_err(|e| failed(&e, verb, &key))?;
        let completed = &self.completed;
        let queue = self.partition_queues.entry(accepted.partition()).or_insert_with(|| {
            let (queue, writes) = mpsc::unbounded_channel();
            // It ends by itself: what was accepted is waited for also when its client has gone.
            tokio::spawn(complete(writes, completed.clone()));
            queue
        });
        self.accepted += 1;
        let _ = queue.send(PendingWrite { id, key, accepted, window_permit });
        Ok(())
    }

    /// A full producer pushes back on who sends, and so on the order of nothing.
    async fn accept(&self, change: Change) -> Result<AcceptedWrite, WriteError> {
        let until = Instant::now() + self.queue_full_timeout;
        loop {
            match self.changelog.accept(change.clone()) {
                Err(WriteError::QueueFull { .. }) if Instant::now() < until => {
                    tokio::time::sleep(QUEUE_FULL_RETRY).await
                }
                accepted => return accepted,
            }
        }
    }
}

/// Waits for the log's answers about one partition, which come in order.
async fn complete(mut queue: mpsc::UnboundedReceiver<PendingWrite>, completed: mpsc::UnboundedSender<CompletedWrite>) {
    while let Some(PendingWrite { id, key, accepted, window_permit }) = queue.recv().await {
        let outcome = accepted.outcome().await;
        // Nobody may want to know any more.
        let _ = completed.send(CompletedWrite { id, key, outcome, _window_permit: window_permit });
    }
}

/// Hands over verdicts, as many at a time as there are.
async fn send_verdicts(
    mut completed: mpsc::UnboundedReceiver<CompletedWrite>,
    responses: ResponseSender<v1::WriteResponse>,
) -> Result<u64, Status> {
    let (mut sent, mut batch) = (0, Vec::with_capacity(MAX_VERDICTS));
    while completed.recv_many(&mut batch, MAX_VERDICTS).await > 0 {
        if batch.len() < MIN_VERDICTS {
            tokio::task::yield_now().await;
            while batch.len() < MAX_VERDICTS
                && let Ok(more) = completed.try_recv()
            {
                batch.push(more);
            }
        }
        let verdicts = batch.iter().map(verdict).collect();
        responses.send(v1::WriteResponse { verdicts }).await?;
        sent += batch.len() as u64;
        batch.clear();
    }
    Ok(sent)
}

fn verdict(completed: &CompletedWrite) -> v1::Verdict {
    let outcome = match &completed.outcome {
        Ok(written) => verdict::Outcome::Written(v1::Written {
            position: Some(response::position(written)),
            timestamp: written.timestamp.map(proto::timestamp),
        }),
        Err(error) => verdict::Outcome::Error(response::rpc_status(&failed(error, "write", &completed.key))),
    };
    verdict_of(completed.id, outcome)
}

fn lost() -> Status {
    Status::internal("verdicts were lost")
}

fn verdict_of(id: u64, outcome: verdict::Outcome) -> v1::Verdict {
    v1::Verdict { id, outcome: Some(outcome) }
}

fn verb(deletion: bool) -> &'static str {
    if deletion { "delete" } else { "set" }
}

fn failed(error: &WriteError, verb: &str, key: &Key) -> Status {
    status::from_write_error(error, &format!("{verb} {}", Shown(key.as_str())))
}

fn change(mutation: v1::Mutation, rules: &ValueRules) -> Result<Change, Status> {
    let key = request::key(&mutation.workspace_id, &mutation.changelog_id)?;
    let headers = request::headers(mutation.headers)?;
    let value = match mutation.change {
        Some(mutation::Change::Raw(raw)) => Some(request::raw(raw, rules)?),
        Some(mutation::Change::Json(json)) => Some(request::json_value(&json, rules)?),
        Some(mutation::Change::Deletion(_)) => None,
        None => return Err(status::bad_argument("change", "a change is required: raw, json or deletion")),
    };
    Ok(Change { key, value, headers })
}
