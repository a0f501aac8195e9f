//! `LoadWorkspace`.

use std::sync::Arc;

use changelog_core::{changelog::Changelog, model::Escaped};
use tonic::{Request, Status};

use super::{
    call::{Call, CallLimits},
    conversion::Conversions,
    facts, request, response,
    response_stream::ResponseStream,
    status,
};
use crate::{
    memory::{CallMemory, list_bytes},
    metrics::Metrics,
    proto::v1::{self, load_workspace_response::Event},
};

pub fn load_workspace(
    changelog: Changelog,
    limits: &CallLimits,
    memory: &CallMemory,
    metrics: Arc<Metrics>,
    conversions: Conversions,
    request: Request<v1::LoadWorkspaceRequest>,
) -> Result<ResponseStream<v1::LoadWorkspaceResponse>, Status> {
    let (call, request) = Call::from_message(request);
    let workspace = request::workspace(&request.workspace_id, "workspace_id")?;
    let what = format!("load {}", Escaped(workspace.as_str()));
    let named = facts::shown("workspace", workspace.as_str());
    let kept = list_bytes(&[&request.entity_types]);
    let naming = |status: Status| status::naming(&status, &what, &named);
    let types = request::entity_types(request.entity_types).map_err(naming)?;
    let format = request::value_format(request.value_format).map_err(naming)?;
    let listed = memory.lists.reserve(kept).map_err(|full| naming(status::memory_limit(&what, &full)))?;
    let deadline = call.deadline_within(limits.read_timeout);
    Ok(ResponseStream::spawn(
        deadline,
        || status::internal_fault("the load is not whole"),
        &memory.answers,
        move |responses| async move {
            let naming = |status: Status| status::naming(&status, &what, &named);
            let replay = call.span.replay();
            let load = changelog.load(workspace, types, call.peer, deadline).await;
            let load = load.map_err(|e| {
                let status = status::from_load_error(&e, &what, Some(&named), &metrics);
                replay.failed(|| status::reason(&status));
                status
            })?;
            replay.replayed(load.partition.number(), load.snapshot.end.counts.read, load.is_shared());
            drop(replay);
            call.stats.set_partition(Some(load.partition.number()));
            call.stats.add_records(load.snapshot.end.counts.read);
            let message = |event| v1::LoadWorkspaceResponse { event: Some(event) };
            let (records, shared) = (load.records(), load.is_shared());
            let batches = conversions.batches(load.partition, records, format, shared, Some(deadline));
            let sent = responses.send_batches(batches, &call.stats, |batch| message(Event::Batch(batch))).await;
            sent.map_err(naming)?;
            let snapshot = message(Event::Snapshot(response::snapshot(load.snapshot.clone())));
            responses.send(snapshot).await.map_err(naming)?;
            let flushed = responses.flushed().await.map_err(naming);
            drop(listed);
            // The load holds its replay permit until the transport has taken the last message.
            drop(load);
            flushed
        },
    ))
}
