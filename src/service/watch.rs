//! `Watch`.

use std::sync::Arc;

use changelog_core::{
    changelog::{Changelog, Load, LoadError, Snapshot, WatchEvent, WatchRequest},
    model::{Escaped, Partition, Record},
};
use tokio::time::Instant;
use tonic::{Request, Status};

use super::{
    call::{Call, CallLimits},
    conversion::Conversions,
    facts, request, response,
    response_stream::{ResponseSender, ResponseStream, taken_by},
    status,
};
use crate::{
    memory::{CallMemory, list_bytes},
    metrics::Metrics,
    proto::v1::{self, watch_response::Event},
};

pub fn watch(
    changelog: Changelog,
    limits: &CallLimits,
    memory: &CallMemory,
    metrics: Arc<Metrics>,
    conversions: Conversions,
    request: Request<v1::WatchRequest>,
) -> Result<ResponseStream<v1::WatchResponse>, Status> {
    let (call, request) = Call::from_message(request);
    let workspace = request::workspace(&request.workspace_id, "workspace_id")?;
    let what = format!("watch {}", Escaped(workspace.as_str()));
    let named = facts::shown("workspace", workspace.as_str());
    let kept = list_bytes(&[&request.entity_types]) + request.resume_token.len() as u64;
    let naming = |status: Status| status::naming(&status, &what, &named);
    let types = request::entity_types(request.entity_types).map_err(naming)?;
    let format = request::value_format(request.value_format).map_err(naming)?;
    let listed = memory.lists.reserve(kept).map_err(|full| naming(status::memory_limit(&what, &full)))?;
    let watched = WatchRequest { workspace, types, resume_token: request.resume_token };
    // The server's limit applies until the state has been sent. After that only the client's deadline does.
    let deadline = call.deadline_within(limits.read_timeout);
    Ok(ResponseStream::spawn(None, ended, &memory.answers, move |responses| async move {
        let _listed = listed;
        let failed = |e: LoadError| status::from_load_error(&e, &what, Some(&named), &metrics);
        let sender = Sender { call: call.clone(), conversions, format, responses };
        let work = sender.send_events(changelog, watched, deadline, failed);
        call.until_deadline("it watched", work).await.map_err(|status| status::naming(&status, &what, &named))
    }))
}

/// A watch has no end of its own.
fn ended() -> Status {
    status::internal_fault("changes that follow are not delivered")
}

/// Sends the events of a watch.
struct Sender {
    call: Call,
    conversions: Conversions,
    format: v1::ValueFormat,
    responses: ResponseSender<v1::WatchResponse>,
}

fn message(event: Event) -> v1::WatchResponse {
    v1::WatchResponse { event: Some(event) }
}

impl Sender {
    async fn send_events(
        self,
        changelog: Changelog,
        request: WatchRequest,
        deadline: Instant,
        failed: impl Fn(LoadError) -> Status,
    ) -> Result<(), Status> {
        let replay = self.call.span.replay();
        let mut watch = changelog.watch(request, self.call.peer, deadline).await.map_err(|error| {
            let status = failed(error);
            replay.failed(|| status::reason(&status));
            status
        })?;
        let partition = watch.partition().number();
        self.call.stats.set_partition(Some(partition));
        let (mut replay, mut is_synced) = (Some(replay), false);
        while let Some(event) = watch.next().await {
            match event.map_err(&failed)? {
                WatchEvent::State(load) => {
                    if let Some(replay) = replay.take() {
                        replay.replayed(partition, load.snapshot.end.counts.read, load.is_shared());
                    }
                    taken_by(deadline, self.state(load)).await?;
                    is_synced = true;
                }
                WatchEvent::Batch { partition, records } if is_synced => self.batch(partition, &records, false).await?,
                WatchEvent::Batch { partition, records } => {
                    taken_by(deadline, self.batch(partition, &records, false)).await?;
                }
                WatchEvent::Synced(snapshot) => {
                    if let Some(replay) = replay.take() {
                        replay.replayed(partition, snapshot.end.counts.read, false);
                    }
                    self.call.stats.add_records(snapshot.end.counts.read);
                    taken_by(deadline, self.synced(snapshot)).await?;
                    is_synced = true;
                }
                WatchEvent::Bookmark(resume_token) => {
                    self.responses.send(message(Event::Bookmark(v1::Bookmark { resume_token }))).await?;
                }
            }
        }
        Err(ended())
    }

    /// Sends the state, and holds its replay permit and its memory until the transport has taken it.
    async fn state(&self, load: Load) -> Result<(), Status> {
        self.call.stats.add_records(load.snapshot.end.counts.read);
        self.batch(load.partition, load.records(), load.is_shared()).await?;
        self.synced(load.snapshot.clone()).await
    }

    /// Waits until the transport has taken it, because a replay permit is given back then.
    async fn synced(&self, snapshot: Snapshot) -> Result<(), Status> {
        let synced = v1::Synced { snapshot: Some(response::snapshot(snapshot)) };
        self.responses.send(message(Event::Synced(synced))).await?;
        self.responses.flushed().await
    }

    async fn batch(&self, partition: Partition, records: &[Record], shared: bool) -> Result<(), Status> {
        let batches = self.conversions.batches(partition, records, self.format, shared, None);
        self.responses.send_batches(batches, &self.call.stats, |batch| message(Event::Batch(batch))).await
    }
}
