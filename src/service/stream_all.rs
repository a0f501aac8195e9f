//! `StreamAll`.

use std::sync::Arc;

use changelog_core::{
    changelog::{Changelog, Content, LoadError, StreamEvent, StreamRequest},
    model::WorkspaceId,
};
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Status};

use super::{
    call::{Call, CallLimits},
    request, response,
    response_stream::{ResponseSender, ResponseStream},
    status,
};
use crate::{
    metrics::Metrics,
    proto::v1::{self, stream_all_response::Event},
};

pub fn stream_all(
    changelog: Changelog,
    limits: &CallLimits,
    metrics: Arc<Metrics>,
    request: Request<v1::StreamAllRequest>,
) -> Result<ResponseStream<v1::StreamAllResponse>, Status> {
    let (call, request) = Call::from_request(request);
    let format = request::value_format(request.value_format)?;
    let mut workspaces = Vec::new();
    for (i, id) in request.workspace_ids.iter().enumerate() {
        let workspace = WorkspaceId::parse(id);
        workspaces.push(workspace.map_err(|e| status::bad_workspace(&e, &format!("workspace_ids[{i}]")))?);
    }
    workspaces.sort();
    workspaces.dedup();
    let stream_request = StreamRequest {
        partitions: request.partitions,
        workspaces,
        types: request::entity_types(request.entity_types)?,
        content: request::content(request.content)?,
        resume_token: request.resume_token,
        follow: request.follow,
    };
    // A following stream has only the deadline of its client. The server's limit applies until the end offsets.
    let deadline = call.deadline_within(limits.read_timeout);
    let follow = stream_request.follow;
    Ok(ResponseStream::spawn((!follow).then_some(deadline), limits.client_stall_timeout, move |responses| async move {
        let work = send_events(&changelog, stream_request, deadline, format, responses, &call, &metrics);
        match call.deadline.filter(|_| follow) {
            None => work.await,
            Some(end) => timeout_at(end, work).await.unwrap_or_else(|_| {
                Err(status::deadline_exceeded("the call's deadline passed while it followed".to_owned()))
            }),
        }
    }))
}

async fn send_events(
    changelog: &Changelog,
    stream_request: StreamRequest,
    deadline: Instant,
    format: v1::ValueFormat,
    responses: ResponseSender<v1::StreamAllResponse>,
    call: &Call,
    metrics: &Metrics,
) -> Result<(), Status> {
    let what = match stream_request.content {
        Content::Records => "stream records",
        Content::Latest => "stream latest values",
    };
    let failed = |e: LoadError| status::from_load_error(&e, what, metrics);
    let mut stream = changelog.stream(stream_request, call.peer, deadline).await.map_err(failed)?;
    while let Some(event) = stream.next().await {
        let send = |event| responses.send(v1::StreamAllResponse { event: Some(event) });
        match event.map_err(failed)? {
            StreamEvent::Batch { partition, records } => {
                for (entries, batch) in response::batches(partition, &records, format, false) {
                    call.stats.add_entries(entries);
                    send(Event::Batch(batch)).await?;
                }
            }
            StreamEvent::Snapshot(snapshot) => {
                call.stats.add_records(snapshot.end.counts.read);
                send(Event::Snapshot(response::snapshot(snapshot))).await?;
            }
            StreamEvent::Bookmark(resume_token) => {
                send(Event::Bookmark(v1::Bookmark { resume_token })).await?;
            }
        }
    }
    let flushed = responses.flushed().await;
    // The stream holds its permits until the transport has taken the last message.
    drop(stream);
    flushed
}
