//! The `Write` stream. Each mutation is passed to the log as it is read, and its verdict is sent when the log has
//! reported the outcome.
//!
//! Promises: mutations of one workspace are applied in the order sent. Every mutation that was read gets one verdict,
//! even if the stream ends with an error, as long as the client receives verdicts. A client that does not receive
//! verdicts is read no further, so memory is limited by [`WINDOW`]. A slow client does not delay `Flush`: a write
//! completes when the log reports its outcome, not when its verdict is sent.
//!
//! Each partition has its own queue, whose outcomes come in order. So a slow partition does not delay the verdicts of
//! others.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use changelog_core::{
    changelog::{AcceptedWrite, Changelog},
    log::{Appended, WriteError},
    model::{Headers, Key, Partition, ValueRules},
};
use futures_util::StreamExt;
use prost::Message;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, timeout_at},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::{Request, Status, Streaming};

use super::{
    call::{Call, CallLimits, RequestMemory},
    conversion::Conversions,
    request, response,
    response_stream::{ResponseSender, ResponseStream},
    status,
};
use crate::{
    memory::{CallMemory, MemoryPart, Reserved},
    proto::v1::{self, mutation, verdict},
};

/// Mutations in one message. More end the stream.
const MAX_MUTATIONS: usize = 1_000;
/// Units between reading mutations and sending their verdicts. A mutation takes one unit, and one for each KiB of its
/// value. Messages of verdicts that wait for the transport do not count.
const WINDOW: usize = 16_384;
/// What an outstanding unit takes at most until its verdict is sent, besides what the queue of the log counts.
const UNIT_BYTES: u64 = 128;
/// Memory for outstanding units is reserved in steps. The first ones may use the reserve for small requests.
const MEMORY_STEP: u64 = 16 * 1024;
/// What a decoded mutation and a header take while their message waits to be accepted.
const MUTATION_BYTES: u64 = 256;
const HEADER_BYTES: u64 = 96;
/// Bytes of verdicts in one message, which are some 450 if nothing failed. Memory for those that wait for the transport
/// is reserved at the start: verdicts of what was written can't be refused.
const MAX_VERDICT_BYTES: usize = 20 * 1024;
/// Verdicts that are taken from the queue at once.
const MAX_VERDICTS: usize = 500;
/// With fewer verdicts than this, the task yields once before it sends them, because more may complete meanwhile.
const MIN_VERDICTS: usize = 64;
/// The pause before a record is offered again to a full write queue.
const QUEUE_FULL_RETRY: Duration = Duration::from_millis(2);

/// A mutation that was checked. It is not tied to a topic: it may wait long before the log accepts it.
#[derive(Clone)]
pub struct Change {
    pub key: Key,
    /// `None` deletes.
    pub value: Option<Bytes>,
    pub headers: Headers,
}

/// A mutation that the log has accepted.
struct PendingWrite {
    id: u64,
    key: Key,
    accepted: AcceptedWrite,
    window_permit: OwnedSemaphorePermit,
}

/// A mutation whose outcome the log has reported.
struct CompletedWrite {
    id: u64,
    /// An error with the key that it names.
    outcome: Result<Appended, (WriteError, Key)>,
    /// Released when the verdict is sent.
    _window_permit: OwnedSemaphorePermit,
}

/// Starts a `Write` stream. `tasks` gets the tasks that wait for outcomes, which may live longer than the stream.
pub fn write(
    changelog: Changelog,
    limits: &CallLimits,
    memory: &CallMemory,
    tasks: TaskTracker,
    conversions: Conversions,
    request: Request<Streaming<v1::WriteRequest>>,
) -> Result<ResponseStream<v1::WriteResponse>, Status> {
    let request_memory = RequestMemory::of(&request);
    let (call, messages) = Call::from_request(request);
    let (queue_full_timeout, requests) = (limits.write_timeout, memory.requests.clone());
    // A stream of mutations may last forever. It has only the deadline of its client.
    let stream = ResponseStream::spawn_reserved(MAX_VERDICT_BYTES, lost, &memory.answers, move |verdicts| async move {
        let verdicts = VerdictSender(verdicts);
        let (completed, answered) = mpsc::unbounded_channel();
        let writing = Writing {
            changelog,
            verdicts: verdicts.clone(),
            queue_full_timeout,
            conversions,
            window: Arc::new(Semaphore::new(WINDOW)),
            partition_queues: HashMap::new(),
            tasks,
            completed,
            requests: requests.clone(),
            outstanding: requests.nothing(),
            verdict_task: AbortOnDropHandle::new(tokio::spawn(send_verdicts(answered, verdicts))),
            accepted: 0,
            request_memory,
        };
        let work = writing.run(messages);
        match call.deadline {
            None => work.await,
            Some(end) => timeout_at(end, work).await.unwrap_or_else(|_| {
                let cause = "the call's deadline passed; mutations without a verdict may be written".to_owned();
                Err(status::from_write_error(&WriteError::OutcomeUnknown { by_time: true, cause }, "write"))
            }),
        }
    });
    stream.map_err(|full| status::memory_limit("write", &full))
}

/// One `Write` stream.
struct Writing {
    changelog: Changelog,
    verdicts: VerdictSender,
    /// How long a mutation waits for a full write queue before its verdict is PRODUCER_QUEUE_FULL.
    queue_full_timeout: Duration,
    conversions: Conversions,
    window: Arc<Semaphore>,
    partition_queues: HashMap<Partition, mpsc::UnboundedSender<PendingWrite>>,
    /// Runs a task for each queue.
    tasks: TaskTracker,
    completed: mpsc::UnboundedSender<CompletedWrite>,
    requests: Arc<MemoryPart>,
    /// For units without a verdict.
    outstanding: Reserved,
    /// Sends verdicts. Returns how many it sent.
    verdict_task: AbortOnDropHandle<Result<u64, Status>>,
    accepted: u64,
    /// Of the messages that are read.
    request_memory: Option<RequestMemory>,
}

impl Writing {
    /// Reads until the client closes its half of the stream, or an error. Then sends the remaining verdicts.
    async fn run(mut self, mut messages: Streaming<v1::WriteRequest>) -> Result<(), Status> {
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

    async fn read(&mut self, messages: &mut Streaming<v1::WriteRequest>) -> Result<(), Status> {
        let changelog = self.changelog.clone();
        let mut draining = pin!(changelog.draining());
        loop {
            let message = tokio::select! {
                message = messages.next() => message,
                () = &mut draining => return Err(status::draining("write")),
                // It ends early only if the client does not receive verdicts.
                sent = &mut self.verdict_task => {
                    return sent.unwrap_or_else(|_| Err(lost())).and_then(|_| Err(lost()));
                }
            };
            match message {
                None => return Ok(()),
                Some(message) => {
                    let message = message?;
                    if let Some(memory) = &self.request_memory {
                        memory.decoded(|| message.encoded_len());
                    }
                    self.accept_all(message.mutations).await?;
                }
            }
        }
    }

    async fn accept_all(&mut self, mutations: Vec<v1::Mutation>) -> Result<(), Status> {
        check_count(&mutations)?;
        let headers: usize = mutations.iter().map(|mutation| mutation.headers.len()).sum();
        let decoded = MUTATION_BYTES * mutations.len() as u64 + HEADER_BYTES * headers as u64;
        let _decoded = self
            .requests
            .reserve_before(decoded, None)
            .await
            .map_err(|full| status::no_room_for_message("write", &full))?;
        let target = self.changelog.write_target();
        let rules = target.value_rules();
        let mut refused = Vec::new();
        // All mutations are checked before the first is passed to the log. The producer sends at once, so records that
        // arrive together become one batch.
        let mut changes = Vec::with_capacity(mutations.len());
        for mutation in mutations {
            changes.push((mutation.id, change(mutation, rules, &self.conversions).await));
        }
        for (id, change) in changes {
            let sent = match change {
                Ok(change) => self.send(id, change).await,
                Err(status) => Err(status),
            };
            if let Err(status) = sent {
                let outcome = Some(verdict::Outcome::Error(response::rpc_status(&status)));
                refused.push(v1::Verdict { id, outcome });
            }
        }
        self.verdicts.send(refused).await
    }

    async fn send(&mut self, id: u64, change: Change) -> Result<(), Status> {
        let units = (1 + change.value.as_ref().map_or(0, |v| v.len() / 1024)).min(WINDOW);
        let window_permit = self.window.clone().acquire_many_owned(u32::try_from(units).unwrap_or(u32::MAX)).await;
        let window_permit = window_permit.map_err(|_| lost())?;
        self.reserve_outstanding().await?;
        let verb = if change.value.is_some() { "set" } else { "delete" };
        let key = change.key.clone();
        let accepted = self.accept(change).await.map_err(|e| status::from_failed_write(&e, verb, &key))?;
        let completed = &self.completed;
        let queue = self.partition_queues.entry(accepted.partition()).or_insert_with(|| {
            let (queue, writes) = mpsc::unbounded_channel();
            // Accepted writes are awaited even if the client has left.
            self.tasks.spawn(complete(writes, completed.clone()));
            queue
        });
        self.accepted += 1;
        let _ = queue.send(PendingWrite { id, key, accepted, window_permit });
        Ok(())
    }

    async fn reserve_outstanding(&mut self) -> Result<(), Status> {
        let units = WINDOW - self.window.available_permits();
        let bytes = (units as u64 * UNIT_BYTES).next_multiple_of(MEMORY_STEP);
        let held = self.outstanding.bytes();
        if bytes > held || bytes < held / 4 {
            self.outstanding.set_before(bytes, None).await.map_err(|full| status::memory_limit("write", &full))?;
        }
        Ok(())
    }

    /// Passes a change to the log, and waits while the write queue is full. The stream is not read meanwhile, so the
    /// order of mutations is kept.
    async fn accept(&self, change: Change) -> Result<AcceptedWrite, WriteError> {
        let until = Instant::now() + self.queue_full_timeout;
        loop {
            let Change { key, value, headers } = change.clone();
            let record = self.changelog.write_target().record(key, value, headers)?;
            match self.changelog.accept(record) {
                Err(WriteError::QueueFull { .. }) if Instant::now() < until => {
                    tokio::time::sleep(QUEUE_FULL_RETRY).await;
                }
                accepted => return accepted,
            }
        }
    }
}

/// Waits for the outcomes of the writes to one partition, in order.
async fn complete(mut queue: mpsc::UnboundedReceiver<PendingWrite>, completed: mpsc::UnboundedSender<CompletedWrite>) {
    while let Some(PendingWrite { id, key, accepted, window_permit }) = queue.recv().await {
        let outcome = accepted.outcome().await;
        let outcome = outcome.map_err(|error| (error, key));
        // The stream may have ended.
        let _ = completed.send(CompletedWrite { id, outcome, _window_permit: window_permit });
    }
}

/// Sends verdicts, as many in one message as there are.
async fn send_verdicts(
    mut completed: mpsc::UnboundedReceiver<CompletedWrite>,
    verdicts: VerdictSender,
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
        verdicts.send(batch.iter().map(verdict)).await?;
        sent += batch.len() as u64;
        batch.clear();
    }
    Ok(sent)
}

/// Sends verdicts in messages whose size is limited.
#[derive(Clone)]
struct VerdictSender(ResponseSender<v1::WriteResponse>);

impl VerdictSender {
    async fn send(&self, all: impl IntoIterator<Item = v1::Verdict>) -> Result<(), Status> {
        let (mut verdicts, mut bytes) = (Vec::new(), 0);
        for verdict in all {
            // With its tag and length.
            let more = verdict.encoded_len() + 4;
            if bytes + more > MAX_VERDICT_BYTES && !verdicts.is_empty() {
                self.0.send(v1::WriteResponse { verdicts: std::mem::take(&mut verdicts) }).await?;
                bytes = 0;
            }
            bytes += more;
            verdicts.push(verdict);
        }
        if verdicts.is_empty() { Ok(()) } else { self.0.send(v1::WriteResponse { verdicts }).await }
    }
}

fn verdict(completed: &CompletedWrite) -> v1::Verdict {
    let outcome = match &completed.outcome {
        Ok(written) => verdict::Outcome::Written(response::written(written)),
        Err((error, key)) => {
            let status = status::from_failed_write(error, "write", key);
            verdict::Outcome::Error(response::rpc_status(&status))
        }
    };
    v1::Verdict { id: completed.id, outcome: Some(outcome) }
}

fn lost() -> Status {
    status::fault_of_write("mutations without a verdict")
}

pub fn check_count(mutations: &[v1::Mutation]) -> Result<(), Status> {
    let got = mutations.len();
    if got > MAX_MUTATIONS {
        let message = format!("{got} mutations in one message, the limit is {MAX_MUTATIONS}; none of them was written");
        return Err(status::bad_argument("mutations", message));
    }
    Ok(())
}

pub async fn change(mutation: v1::Mutation, rules: &ValueRules, conversions: &Conversions) -> Result<Change, Status> {
    let key = request::key(&mutation.workspace_id, &mutation.changelog_id)?;
    let headers = request::headers(mutation.headers)?;
    let value = match mutation.change {
        Some(mutation::Change::Raw(raw)) => Some(conversions.check(raw, rules, None).await?),
        Some(mutation::Change::Json(json)) => Some(conversions.stored(json, rules, None).await?),
        Some(mutation::Change::Deletion(_)) => None,
        None => return Err(status::bad_argument("change", "a change is required: raw, json or deletion")),
    };
    Ok(Change { key, value, headers })
}
