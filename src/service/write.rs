//! The stream of mutations: each is handed to the log as it is read, and its verdict comes when the log has answered.
//!
//! Promises: mutations of one workspace are applied in the order sent; every mutation that was read gets one verdict, also when
//! the stream ends with an error, as long as the client is there to take it; a client that does not take its verdicts is read
//! no further, so that what waits is bounded by [`WINDOW`].
//!
//! Verdicts come by partition, each partition's in order: one that stands still does not hold up the others.

use std::{collections::HashMap, pin::pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt, future::poll_immediate};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::Instant,
};
use tonic::Status;

use super::{request, response, status, stream::Feed};
use crate::{
    changelog::{Accepted, Change, Changelog},
    log::WriteError,
    model::{Key, Partition, Shown, ValueRules},
    proto::v1::{self, mutation, verdict},
};

/// Mutations of one message; more end the stream.
const MAX_MUTATIONS: usize = 1_000;
/// What a stream may have between reading a mutation and handing over its verdict: a mutation counts one, and one for each KiB
/// of its value.
const WINDOW: usize = 16_384;
/// Verdicts of one message.
const MAX_VERDICTS: usize = 1_000;
/// Fewer than these are not sent before others have had the chance to become known.
const FEW: usize = 64;
/// Between two tries of a record for which its producer has no room.
const NO_ROOM: Duration = Duration::from_millis(2);

/// A mutation that the log has accepted.
struct OnItsWay {
    id: u64,
    key: Key,
    accepted: Accepted,
    /// Given back when its verdict is handed over.
    _place: OwnedSemaphorePermit,
}

/// One stream.
pub struct Writing {
    changelog: Changelog,
    verdicts: Feed<v1::WriteResponse>,
    /// How long a producer that is full is waited for, before that is the verdict.
    patience: Duration,
    window: Arc<Semaphore>,
    lanes: HashMap<Partition, mpsc::UnboundedSender<OnItsWay>>,
    /// One for each lane.
    tellers: JoinSet<Result<(), Status>>,
}

impl Writing {
    /// Before its first message.
    pub fn new(changelog: Changelog, verdicts: Feed<v1::WriteResponse>, patience: Duration) -> Self {
        let window = Arc::new(Semaphore::new(WINDOW));
        Self { changelog, verdicts, patience, window, lanes: HashMap::new(), tellers: JoinSet::new() }
    }

    /// Reads until the client closes its half, or an error; then hands over the verdicts of what was read.
    pub async fn run<S>(mut self, mut messages: S) -> Result<(), Status>
    where
        S: Stream<Item = Result<v1::WriteRequest, Status>> + Unpin,
    {
        let ended = self.read(&mut messages).await;
        self.lanes.clear();
        while let Some(told) = self.tellers.join_next().await {
            told.unwrap_or_else(|_| Err(Status::internal("verdicts were lost")))?;
        }
        ended
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
                () = &mut draining => return Err(status::of_write(&WriteError::Draining, "write")),
                // A lane ends early only if nobody takes its verdicts.
                Some(told) = self.tellers.join_next(), if !self.tellers.is_empty() => {
                    return told.unwrap_or_else(|_| Err(Status::internal("verdicts were lost")));
                }
            };
            match message {
                None => return Ok(()),
                Some(message) => self.take(message?.mutations).await?,
            }
        }
    }

    async fn take(&mut self, mutations: Vec<v1::Mutation>) -> Result<(), Status> {
        if mutations.len() > MAX_MUTATIONS {
            let message = format!(
                "{} mutations in one message, the limit is {MAX_MUTATIONS}; none of them was written",
                mutations.len()
            );
            return Err(status::bad_argument("mutations", message));
        }
        let rules = self.changelog.value_rules();
        let mut refused = Vec::new();
        for mutation in mutations {
            let id = mutation.id;
            let sent = match change(mutation, &rules) {
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
        let place = self.window.clone().acquire_many_owned(u32::try_from(weight).unwrap_or(u32::MAX)).await;
        let place = place.map_err(|_| Status::internal("the window was closed"))?;
        let (key, verb) = (change.key.clone(), verb(change.value.is_none()));
        let accepted = self.accept(change).await.map_err(|e| failed(&e, verb, &key))?;
        let (verdicts, tellers) = (&self.verdicts, &mut self.tellers);
        let lane = self.lanes.entry(accepted.partition()).or_insert_with(|| {
            let (lane, accepted) = mpsc::unbounded_channel();
            tellers.spawn(tell(accepted, verdicts.clone()));
            lane
        });
        // If nobody tells any more, nobody takes verdicts: the stream ends.
        let _ = lane.send(OnItsWay { id, key, accepted, _place: place });
        Ok(())
    }

    /// A full producer pushes back on who sends, and so on the order of nothing.
    async fn accept(&self, change: Change) -> Result<Accepted, WriteError> {
        let until = Instant::now() + self.patience;
        loop {
            match self.changelog.accept(change.clone()) {
                Err(WriteError::QueueFull { .. }) if Instant::now() < until => tokio::time::sleep(NO_ROOM).await,
                accepted => return accepted,
            }
        }
    }
}

/// Hands over the verdicts of one partition, in order, as many at a time as are known.
async fn tell(mut lane: mpsc::UnboundedReceiver<OnItsWay>, feed: Feed<v1::WriteResponse>) -> Result<(), Status> {
    let mut waiting = Vec::with_capacity(MAX_VERDICTS);
    // Places are held until the transport has taken their verdicts.
    let (mut known, mut places) = (Vec::new(), Vec::new());
    while lane.recv_many(&mut waiting, MAX_VERDICTS).await > 0 {
        for OnItsWay { id, key, accepted, _place: place } in waiting.drain(..) {
            let mut outcome = pin!(accepted.outcome());
            let mut written = poll_immediate(&mut outcome).await;
            if written.is_none() && (1..FEW).contains(&known.len()) {
                tokio::task::yield_now().await;
                written = poll_immediate(&mut outcome).await;
            }
            if written.is_none() && !known.is_empty() {
                feed.send(v1::WriteResponse { verdicts: std::mem::take(&mut known) }).await?;
                places.clear();
            }
            let written = match written {
                Some(written) => written,
                None => outcome.await,
            };
            let outcome = match written {
                Ok(written) => verdict::Outcome::Written(v1::Written {
                    position: Some(response::position(&written)),
                    timestamp: written.timestamp.map(response::timestamp),
                }),
                Err(error) => verdict::Outcome::Error(response::rpc_status(&failed(&error, "write", &key))),
            };
            known.push(verdict_of(id, outcome));
            places.push(place);
        }
        if !known.is_empty() {
            feed.send(v1::WriteResponse { verdicts: std::mem::take(&mut known) }).await?;
            places.clear();
        }
    }
    Ok(())
}

fn verdict_of(id: u64, outcome: verdict::Outcome) -> v1::Verdict {
    v1::Verdict { id, outcome: Some(outcome) }
}

fn verb(deletion: bool) -> &'static str {
    if deletion { "delete" } else { "set" }
}

fn failed(error: &WriteError, verb: &str, key: &Key) -> Status {
    status::of_write(error, &format!("{verb} {}", Shown(key.as_str())))
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
