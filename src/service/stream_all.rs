//! `StreamAll`.

use std::sync::Arc;

use changelog_core::changelog::{Changelog, Content, LoadError, StreamEvent, StreamRequest};
use tokio::time::Instant;
use tonic::{Request, Status};

use super::{
    call::{Call, CallLimits},
    conversion::Conversions,
    request, response,
    response_stream::{ResponseSender, ResponseStream, taken_by},
    status,
};
use crate::{
    memory::{CallMemory, list_bytes},
    metrics::Metrics,
    proto::v1::{self, stream_all_response::Event},
};

pub fn stream_all(
    changelog: Changelog,
    limits: &CallLimits,
    memory: &CallMemory,
    metrics: Arc<Metrics>,
    conversions: Conversions,
    request: Request<v1::StreamAllRequest>,
) -> Result<ResponseStream<v1::StreamAllResponse>, Status> {
    let (call, request) = Call::from_message(request);
    let others = size_of_val(&*request.partitions) + request.resume_token.len();
    let kept = list_bytes(&[&request.workspace_ids, &request.entity_types]) + others as u64;
    let (stream_request, format) = request::stream(request)?;
    let listed = memory.lists.reserve(kept).map_err(|full| status::memory_limit("stream", &full))?;
    // A following stream has only the deadline of its client. The server's limit applies until the end offsets.
    let deadline = call.deadline_within(limits.read_timeout);
    let follow = stream_request.follow;
    let fault = || status::internal_fault("the stream is not complete");
    Ok(ResponseStream::spawn((!follow).then_some(deadline), fault, &memory.answers, move |responses| async move {
        let _listed = listed;
        let reader = Reader { changelog, call: call.clone(), metrics, conversions, deadline, format };
        let work = reader.send_events(stream_request, responses);
        if follow { call.until_deadline("it followed", work).await } else { work.await }
    }))
}

/// What a stream needs until its end.
struct Reader {
    changelog: Changelog,
    call: Call,
    metrics: Arc<Metrics>,
    conversions: Conversions,
    deadline: Instant,
    format: v1::ValueFormat,
}

impl Reader {
    async fn send_events(
        self,
        request: StreamRequest,
        responses: ResponseSender<v1::StreamAllResponse>,
    ) -> Result<(), Status> {
        let Self { changelog, call, metrics, conversions, deadline, format } = self;
        let what = match request.content {
            Content::Records => "stream records",
            Content::Latest => "stream latest values",
        };
        let deadline_of_values = (!request.follow).then_some(deadline);
        let failed = |e: LoadError| status::from_load_error(&e, what, None, &metrics);
        let mut stream = changelog.stream(request, call.peer, deadline).await.map_err(failed)?;
        while let Some(event) = stream.next().await {
            let message = |event| v1::StreamAllResponse { event: Some(event) };
            match event.map_err(failed)? {
                StreamEvent::Batch { partition, records } => {
                    let batches = conversions.batches(partition, &records, format, false, deadline_of_values);
                    let sending = responses.send_batches(batches, &call.stats, |batch| message(Event::Batch(batch)));
                    if stream.is_following() { sending.await } else { taken_by(deadline, sending).await }?;
                }
                StreamEvent::Snapshot(snapshot) => {
                    call.stats.add_records(snapshot.end.counts.read);
                    responses.send(message(Event::Snapshot(response::snapshot(snapshot)))).await?;
                }
                StreamEvent::Bookmark(resume_token) => {
                    responses.send(message(Event::Bookmark(v1::Bookmark { resume_token }))).await?;
                }
            }
        }
        let flushed = responses.flushed().await;
        // The stream holds its permits until the transport has taken the last message.
        drop(stream);
        flushed
    }
}
