//! The `Write` stream. Each mutation is passed to the log as it is read, and its verdict is sent when the log has
//! reported the outcome.
//!
//! Promises: mutations of one workspace are applied in the order sent. Every mutation that was read gets one verdict,
//! even if the stream ends with an error, as long as the client receives verdicts. A client that does not receive
//! verdicts is read no further, so memory is limited by its window. A slow client does not delay `Flush`: a write
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
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::{Request, Status, Streaming};

use super::{
    call::{Call, CallLimits, Kept, RequestMemory},
    conversion::Conversions,
    request, response,
    response_stream::{ResponseSender, ResponseStream},
    status,
    write_window::{Units, WriteWindow, units_of, units_of_refusal},
};
use crate::{
    memory::{CallMemory, Full, MemoryPart},
    metrics::Metrics,
    proto::v1::{self, mutation, verdict},
    traces::CallSpan,
};

/// Mutations in one message. More end the stream.
const MAX_MUTATIONS: usize = 1_000;
/// What a decoded mutation and a header take while their message waits to be accepted.
const MUTATION_BYTES: u64 = 256;
const HEADER_BYTES: u64 = 96;
/// Verdicts in one message, and their bytes, unless it has one.
const MAX_VERDICTS: usize = 1_000;
const MAX_VERDICT_BYTES: usize = 64 * 1024;
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

impl Change {
    /// Copies what may share a buffer with other mutations.
    fn copy(&mut self) {
        self.value = self.value.take().map(|value| Bytes::copy_from_slice(&value));
        self.headers = self.headers.copied();
    }

    fn verb(&self) -> &'static str {
        if self.value.is_some() { "set" } else { "delete" }
    }
}

/// A mutation that the log has accepted.
struct PendingWrite {
    id: u64,
    key: Key,
    accepted: AcceptedWrite,
    units: Units,
    arrived: Instant,
}

/// A mutation that gets its verdict.
struct Answered {
    id: u64,
    outcome: Outcome,
    /// Released when the verdict is written to the client's socket.
    units: Units,
    /// When its message had arrived.
    arrived: Instant,
}

enum Outcome {
    Written(Appended),
    /// The log did not accept it, or has reported an error. Also what was to be done.
    Failed(WriteError, Key, &'static str),
    /// The mutation breaks a rule.
    Bad(Status),
    /// The memory limit has no room for the verdict. Also the key, unless the mutation breaks a rule, too.
    NoRoom(Full, &'static str, Option<Key>),
}

/// Starts a `Write` stream. `tasks` gets the tasks that wait for outcomes, which may live longer than the stream.
pub fn write(
    changelog: Changelog,
    limits: &CallLimits,
    memory: &CallMemory,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    conversions: Conversions,
    request: Request<Streaming<v1::WriteRequest>>,
) -> ResponseStream<v1::WriteResponse> {
    let request_memory = RequestMemory::of(&request);
    let (call, messages) = Call::from_request(request);
    let (queue_full_timeout, requests) = (limits.write_timeout, memory.requests.clone());
    // A stream of mutations may last forever. It has only the deadline of its client.
    ResponseStream::spawn(None, lost, &memory.answers, move |verdicts| async move {
        let (answered, outcomes) = mpsc::unbounded_channel();
        let writing = Writing {
            changelog,
            queue_full_timeout,
            conversions,
            window: WriteWindow::new(&requests),
            partition_queues: HashMap::new(),
            tasks,
            answered,
            requests,
            verdict_task: AbortOnDropHandle::new(tokio::spawn(send_verdicts(outcomes, verdicts, metrics))),
            read: 0,
            request_memory,
            span: call.span.clone(),
        };
        let work = writing.run(messages);
        match call.deadline {
            None => work.await,
            Some(end) => timeout_at(end, work).await.unwrap_or_else(|_| {
                let cause = "the call's deadline passed; mutations without a verdict may be written".to_owned();
                Err(status::from_write_error(&WriteError::OutcomeUnknown { by_time: true, cause }, "write"))
            }),
        }
    })
}

/// One `Write` stream.
struct Writing {
    changelog: Changelog,
    /// How long a mutation waits for a full write queue before its verdict is PRODUCER_QUEUE_FULL.
    queue_full_timeout: Duration,
    conversions: Conversions,
    window: Arc<WriteWindow>,
    partition_queues: HashMap<Partition, mpsc::UnboundedSender<PendingWrite>>,
    /// Runs a task for each queue.
    tasks: TaskTracker,
    answered: mpsc::UnboundedSender<Answered>,
    requests: Arc<MemoryPart>,
    /// Sends verdicts. Returns how many it sent.
    verdict_task: AbortOnDropHandle<Result<u64, Status>>,
    /// Mutations that get a verdict.
    read: u64,
    /// Of the messages that are read.
    request_memory: Option<RequestMemory>,
    span: CallSpan,
}

impl Writing {
    /// Reads until the client closes its half of the stream, or an error. Then sends the remaining verdicts.
    async fn run(mut self, mut messages: Streaming<v1::WriteRequest>) -> Result<(), Status> {
        let ended = self.read(&mut messages).await;
        // The queues end when all their writes are answered, and the verdict task ends with the last queue.
        self.partition_queues.clear();
        self.answered = mpsc::unbounded_channel().0;
        if self.verdict_task.is_finished() && ended.is_err() {
            return ended;
        }
        let sent = (&mut self.verdict_task).await.unwrap_or_else(|_| Err(lost()))?;
        if sent == self.read { ended } else { Err(lost()) }
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
        let arrived = Instant::now();
        let headers: usize = mutations.iter().map(|mutation| mutation.headers.len()).sum();
        let decoded = MUTATION_BYTES * mutations.len() as u64 + HEADER_BYTES * headers as u64;
        let no_room = |full| status::no_room_for_message("write", &full);
        let mut decoded = self.requests.reserve_before(decoded, None).await.map_err(no_room)?;
        let target = self.changelog.write_target();
        let rules = target.value_rules();
        // All mutations are checked before the first is passed to the log. The producer sends at once, so records that
        // arrive together become one batch.
        let mut changes = Vec::with_capacity(mutations.len());
        for mutation in mutations {
            let id = mutation.id;
            let change = change(mutation, rules, &self.conversions)
                .await
                .map(|change| Change { headers: self.span.in_headers(change.headers), ..change });
            if let Err(status) = &change {
                let bytes = status_bytes(status) as u64;
                let whole = decoded.bytes() + bytes;
                decoded.absorb(self.requests.reserve_more_before(bytes, whole, None).await.map_err(no_room)?);
            }
            changes.push((id, change));
        }
        release_message(&mut changes);
        for (id, change) in changes {
            self.send(id, change, arrived).await;
        }
        Ok(())
    }

    async fn send(&mut self, id: u64, change: Result<Change, Status>, arrived: Instant) {
        let needed = match &change {
            Ok(Change { key, value, .. }) => units_of(key.as_str().len(), value.as_ref().map_or(0, Bytes::len)),
            Err(status) => units_of_refusal(status_bytes(status)),
        };
        let units = self.window.take(needed).await;
        self.read += 1;
        let outcome = match (self.window.reserve().await, change) {
            (Err(full), Ok(change)) => Outcome::NoRoom(full, change.verb(), Some(change.key)),
            (Err(full), Err(_)) => Outcome::NoRoom(full, "write", None),
            (Ok(()), Err(status)) => Outcome::Bad(status),
            (Ok(()), Ok(change)) => {
                let (key, verb) = (change.key.clone(), change.verb());
                match self.accept(change).await {
                    Ok(accepted) => return self.await_outcome(PendingWrite { id, key, accepted, units, arrived }),
                    Err(error) => {
                        self.changelog.refused(&error);
                        Outcome::Failed(error, key, verb)
                    }
                }
            }
        };
        // The stream may have ended.
        let _ = self.answered.send(Answered { id, outcome, units, arrived });
    }

    fn await_outcome(&mut self, write: PendingWrite) {
        let answered = &self.answered;
        let queue = self.partition_queues.entry(write.accepted.partition()).or_insert_with(|| {
            let (queue, writes) = mpsc::unbounded_channel();
            // Accepted writes are awaited even if the client has left.
            self.tasks.spawn(complete(writes, answered.clone()));
            queue
        });
        let _ = queue.send(write);
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
async fn complete(mut queue: mpsc::UnboundedReceiver<PendingWrite>, answered: mpsc::UnboundedSender<Answered>) {
    while let Some(PendingWrite { id, key, accepted, units, arrived }) = queue.recv().await {
        let outcome = match accepted.outcome().await {
            Ok(written) => Outcome::Written(written),
            Err(error) => Outcome::Failed(error, key, "write"),
        };
        // The stream may have ended.
        let _ = answered.send(Answered { id, outcome, units, arrived });
    }
}

/// Sends verdicts, as many in one message as there are.
async fn send_verdicts(
    mut answered: mpsc::UnboundedReceiver<Answered>,
    responses: ResponseSender<v1::WriteResponse>,
    metrics: Arc<Metrics>,
) -> Result<u64, Status> {
    let (mut sent, mut batch) = (0, Vec::with_capacity(MAX_VERDICTS));
    while answered.recv_many(&mut batch, MAX_VERDICTS).await > 0 {
        if batch.len() < MIN_VERDICTS {
            tokio::task::yield_now().await;
            while batch.len() < MAX_VERDICTS
                && let Ok(more) = answered.try_recv()
            {
                batch.push(more);
            }
        }
        let now = Instant::now();
        let answer = |id, outcome, arrived: Instant| {
            metrics.mutations().observe(now.saturating_duration_since(arrived).as_secs_f64());
            verdict(id, outcome).unwrap_or_else(|status| {
                metrics.refused(&status::reason(&status).unwrap_or_default());
                v1::Verdict { id, outcome: Some(verdict::Outcome::Error((&status).into())) }
            })
        };
        let mut left = batch.drain(..);
        while let Some(Answered { id, outcome, mut units, arrived }) = left.next() {
            let mut verdicts = vec![answer(id, outcome, arrived)];
            let mut bytes = verdicts[0].encoded_len();
            while bytes < MAX_VERDICT_BYTES
                && let Some(Answered { id, outcome, units: more, arrived }) = left.next()
            {
                let verdict = answer(id, outcome, arrived);
                bytes += verdict.encoded_len();
                verdicts.push(verdict);
                units.merge(more);
            }
            sent += verdicts.len() as u64;
            let kept = Kept::Units { _units: units };
            responses.send_keeping(v1::WriteResponse { verdicts }, kept).await?;
        }
    }
    Ok(sent)
}

/// The status of a mutation that failed is an error.
fn verdict(id: u64, outcome: Outcome) -> Result<v1::Verdict, Status> {
    Err(match outcome {
        Outcome::Written(written) => {
            return Ok(v1::Verdict { id, outcome: Some(verdict::Outcome::Written(response::written(&written))) });
        }
        Outcome::Failed(error, key, verb) => status::from_failed_write(&error, verb, &key),
        Outcome::Bad(status) => status,
        Outcome::NoRoom(full, verb, None) => status::memory_limit(verb, &full),
        Outcome::NoRoom(full, verb, Some(key)) => status::memory_limit_of_write(verb, &key, &full),
    })
}

/// Refused mutations may be nearly all of their message, which the others would keep in memory.
fn release_message(changes: &mut [(u64, Result<Change, Status>)]) {
    if changes.iter().any(|(_, change)| change.is_err()) {
        changes.iter_mut().filter_map(|(_, change)| change.as_mut().ok()).for_each(Change::copy);
    }
}

/// What a refusal takes. Its details name the field once more.
fn status_bytes(status: &Status) -> usize {
    size_of::<Status>() + status.message().len() + status.details().len()
}

fn lost() -> Status {
    status::fault_of_write("mutations without a verdict")
}

pub fn check_count(mutations: &[v1::Mutation]) -> Result<(), Status> {
    let got = mutations.len();
    if got > MAX_MUTATIONS {
        let message = format!("{got} mutations in one message, the limit is {MAX_MUTATIONS}; none of them was written");
        return Err(status::too_many_entries("mutations", MAX_MUTATIONS, got, message));
    }
    Ok(())
}

pub async fn change(mutation: v1::Mutation, rules: &ValueRules, conversions: &Conversions) -> Result<Change, Status> {
    let key = request::key(&mutation.workspace_id, &mutation.changelog_id)?;
    let verb = match mutation.change {
        Some(mutation::Change::Raw(_) | mutation::Change::Json(_)) => "set",
        Some(mutation::Change::Deletion(_)) => "delete",
        None => "write",
    };
    let checked = async {
        let headers = request::headers(mutation.headers)?;
        let value = match mutation.change {
            Some(mutation::Change::Raw(raw)) => Some(conversions.check(raw, rules, None).await?),
            Some(mutation::Change::Json(json)) => Some(conversions.stored(json, rules, None).await?),
            Some(mutation::Change::Deletion(_)) => None,
            None => return Err(status::bad_argument("change", "a change is required: raw, json or deletion")),
        };
        Ok((value, headers))
    };
    match checked.await {
        Ok((value, headers)) => Ok(Change { key, value, headers }),
        Err(status) => Err(status::naming_key(&status, verb, &key)),
    }
}

#[cfg(test)]
mod tests {
    use changelog_core::model::{Header, ValueMode};

    use super::*;

    /// Covers S19.
    #[test]
    fn a_mutation_does_not_keep_those_that_are_refused_in_memory() {
        let message = Bytes::from(vec![b'1'; 1_000]);
        let of_message = message.as_ptr_range();
        let change = |range| Change {
            key: Key::from_request("", "w/t/a").unwrap(),
            value: Some(message.slice(range)),
            headers: Headers::new(vec![Header { key: "h".to_owned(), value: Some(message.slice(998..999)) }]).unwrap(),
        };
        let rules = ValueRules { mode: ValueMode::Opaque, max_bytes: 10 };
        let refused = rules.check(&message).map_err(|error| status::bad_value(&error, "raw")).unwrap_err();
        for (change_of_other, is_shared) in [(Ok(change(0..998)), true), (Err(refused), false)] {
            let mut changes = vec![(1, change_of_other), (2, Ok(change(999..1_000)))];
            release_message(&mut changes);
            let kept = changes[1].1.as_ref().unwrap();
            let header = kept.headers.as_slice()[0].value.clone();
            for part in [kept.value.clone(), header] {
                let part = part.unwrap();
                assert_eq!((&*part, of_message.contains(&part.as_ptr())), (&b"1"[..], is_shared));
            }
        }
    }
}
