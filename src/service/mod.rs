//! `ChangelogService`: parses requests, calls the changelog, and puts results into messages.
//!
//! Promises: after `request.rs` there are only valid types. `status.rs` is the only place where an error becomes a
//! status.
//! Does not: decide what the changelog does, or know which store is below.

mod call;
mod json;
mod request;
mod response;
mod response_stream;
mod status;
mod write;

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::Stream;
use prost::Message;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

pub use call::{Call, CallStats, Peer};
pub use status::request_too_slow;

use crate::{
    changelog::{Ack, Changelog, Content, LoadError, StreamEvent, StreamRequest},
    log::{Appended, NewRecord, WriteError},
    metrics::Metrics,
    model::{Escaped, Key, MAX_HEADER_BYTES, MAX_HEADERS, MAX_KEY_BYTES},
    proto::{
        self,
        v1::{self, changelog_service_server::ChangelogService},
    },
};
use response_stream::{ResponseSender, ResponseStream};
use write::Writing;

/// Bytes of failures in one response to `Flush`. Less than 4 MiB, the default limit of clients.
const MAX_FAILURE_BYTES: usize = 3 * 1024 * 1024;

/// Limits on calls.
#[derive(Debug, Clone, Copy)]
pub struct CallLimits {
    /// The longest time for a load, get or stream. A shorter deadline of the client wins.
    pub read_timeout: Duration,
    /// The longest time for a write. A shorter deadline of the client wins. Longer than the log's own limit, because
    /// the log may still report that nothing was written.
    pub write_timeout: Duration,
    /// The longest time that a client may receive nothing although messages wait for it.
    pub client_stall_timeout: Duration,
    /// The largest request message, in bytes.
    pub max_request_bytes: usize,
}

/// Implements the service on a changelog.
#[derive(Debug, Clone)]
pub struct Service {
    changelog: Changelog,
    limits: CallLimits,
    metrics: Arc<Metrics>,
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    pub fn new(changelog: Changelog, limits: CallLimits, metrics: Arc<Metrics>) -> Self {
        Self { changelog, limits, metrics }
    }

    fn read_deadline(&self, call: &Call) -> Instant {
        let cap = Instant::now() + self.limits.read_timeout;
        call.deadline.map_or(cap, |deadline| deadline.min(cap))
    }

    /// The status of a failed read. Counts reads that were aborted because the log changed.
    fn read_failed(metrics: &Metrics, error: &LoadError, what: &str) -> Status {
        if let Some(reason) = status::aborted_reason(error) {
            metrics.replay_aborted(reason);
        }
        status::from_load_error(error, what)
    }

    /// Writes a record. `what` names the write in errors.
    async fn apply(
        &self,
        call: &Call,
        what: &str,
        record: Result<NewRecord, WriteError>,
        ack: Ack,
    ) -> Result<Option<Appended>, Status> {
        let cap = Instant::now() + self.limits.write_timeout;
        let deadline = call.deadline.map_or(cap, |deadline| deadline.min(cap));
        let written = match record {
            Ok(record) => self.changelog.write(record, ack, Some(deadline)).await,
            Err(error) => Err(error),
        };
        let written = written.map_err(|e| status::from_write_error(&e, what))?;
        if let Some(written) = &written {
            call.stats.set_partition(written.position.partition.number());
        }
        Ok(written)
    }
}

#[tonic::async_trait]
impl ChangelogService for Service {
    async fn set(&self, request: Request<v1::SetRequest>) -> Result<Response<v1::SetResponse>, Status> {
        let call = Call::from_request(request.extensions());
        let request = request.into_inner();
        let key = request::key(&request.workspace_id, &request.changelog_id)?;
        let ack = request::ack(request.ack)?;
        let headers = request::headers(request.headers)?;
        let target = self.changelog.write_target();
        let rules = target.value_rules();
        let value = match request.value {
            Some(v1::set_request::Value::Raw(raw)) => request::raw(raw, rules)?,
            Some(v1::set_request::Value::Json(json)) => request::json_value(&json, rules)?,
            None => return Err(status::bad_argument("value", "a value is required: raw or json")),
        };
        let what = format!("set {}", Escaped(key.as_str()));
        let written = self.apply(&call, &what, target.record(key, Some(value), headers), ack).await?;
        Ok(Response::new(v1::SetResponse {
            position: written.as_ref().map(response::position),
            timestamp: written.and_then(|w| w.timestamp).map(proto::timestamp),
        }))
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
        let call = Call::from_request(request.extensions());
        let request = request.into_inner();
        let key = request::key(&request.workspace_id, &request.changelog_id)?;
        let ack = request::ack(request.ack)?;
        let headers = request::headers(request.headers)?;
        let what = format!("delete {}", Escaped(key.as_str()));
        let record = self.changelog.write_target().record(key, None, headers);
        let written = self.apply(&call, &what, record, ack).await?;
        Ok(Response::new(v1::DeleteResponse {
            position: written.as_ref().map(response::position),
            timestamp: written.and_then(|w| w.timestamp).map(proto::timestamp),
        }))
    }

    async fn flush(&self, request: Request<v1::FlushRequest>) -> Result<Response<v1::FlushResponse>, Status> {
        let call = Call::from_request(request.extensions());
        let request = request.into_inner();
        let end = Instant::now() + request::flush_timeout(request.timeout_ms);
        let flushed = self.changelog.flush(request.failures_after, call.deadline.map_or(end, |d| d.min(end))).await;
        let mut response = v1::FlushResponse {
            remaining: flushed.remaining,
            failures: Vec::new(),
            last_failure: request.failures_after.min(flushed.newest),
            failures_omitted: flushed.omitted,
        };
        let mut bytes = 0;
        for failed in flushed.failures {
            let what = format!("buffered write of {}", Escaped(failed.key.as_str()));
            let status = response::rpc_status(&status::from_write_error(&failed.error, &what));
            let failure = v1::WriteFailure { id: failed.id, key: failed.key.as_str().to_owned(), status: Some(status) };
            bytes += failure.encoded_len() + 6;
            if bytes > MAX_FAILURE_BYTES {
                break;
            }
            response.last_failure = failure.id;
            response.failures.push(failure);
        }
        Ok(Response::new(response))
    }

    type LoadWorkspaceStream = Events<v1::LoadWorkspaceResponse>;

    async fn load_workspace(
        &self,
        request: Request<v1::LoadWorkspaceRequest>,
    ) -> Result<Response<Self::LoadWorkspaceStream>, Status> {
        let call = Call::from_request(request.extensions());
        let request = request.into_inner();
        let workspace = request::workspace(&request.workspace_id, "workspace_id")?;
        let types = request::entity_types(request.entity_types)?;
        let format = request::value_format(request.value_format)?;
        let deadline = self.read_deadline(&call);
        let (changelog, metrics) = (self.changelog.clone(), self.metrics.clone());
        let stream = ResponseStream::spawn(deadline, self.limits.client_stall_timeout, |responses| async move {
            let what = format!("load {}", Escaped(workspace.as_str()));
            let load = changelog.load(workspace, types, call.peer, deadline).await;
            let load = load.map_err(|e| Self::read_failed(&metrics, &e, &what))?;
            call.stats.set_partition(load.partition.number());
            call.stats.add_records(load.snapshot.end.counts.read);
            let send = |event| responses.send(v1::LoadWorkspaceResponse { event: Some(event) });
            for (entries, batch) in response::batches(load.partition, load.records(), format, load.is_shared()) {
                call.stats.add_entries(entries);
                send(v1::load_workspace_response::Event::Batch(batch)).await?;
            }
            let snapshot = response::snapshot(load.snapshot.clone());
            send(v1::load_workspace_response::Event::Snapshot(snapshot)).await?;
            let flushed = responses.flushed().await;
            drop(load);
            flushed
        });
        Ok(Response::new(Box::pin(stream)))
    }

    type StreamAllStream = Events<v1::StreamAllResponse>;

    async fn stream_all(
        &self,
        request: Request<v1::StreamAllRequest>,
    ) -> Result<Response<Self::StreamAllStream>, Status> {
        let call = Call::from_request(request.extensions());
        let request = request.into_inner();
        let format = request::value_format(request.value_format)?;
        let mut workspaces = Vec::new();
        for (i, id) in request.workspace_ids.iter().enumerate() {
            workspaces.push(request::workspace(id, &format!("workspace_ids[{i}]"))?);
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
        let deadline = self.read_deadline(&call);
        let (changelog, metrics) = (self.changelog.clone(), self.metrics.clone());
        let follow = stream_request.follow;
        let stream = ResponseStream::spawn(deadline, self.limits.client_stall_timeout, move |responses| async move {
            let work = stream_events(changelog, &metrics, stream_request, deadline, format, responses, &call);
            match call.deadline.filter(|_| follow) {
                None => work.await,
                Some(end) => tokio::time::timeout_at(end, work).await.unwrap_or_else(|_| {
                    Err(status::deadline_exceeded("the call's deadline passed while it followed".to_owned()))
                }),
            }
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        let call = Call::from_request(request.extensions());
        let request = request.into_inner();
        let workspace = match &*request.workspace_id {
            "" => None,
            id => Some(request::workspace(id, "workspace_id")?),
        };
        let found = tokio::time::timeout_at(self.read_deadline(&call), self.changelog.describe()).await;
        let late =
            |_| status::deadline_exceeded("describe: the deadline passed before the log had answered".to_owned());
        let mut found = found.map_err(late)?;
        found.findings.sort_by_key(|f| f.severity);
        let count = found.topic.as_ref().map(|t| t.partition_count);
        let home = count.zip(workspace).map(|(count, w)| count.of_workspace(w.as_str().as_bytes()).number());
        let limits = self.changelog.limits();
        let u32_of = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Response::new(v1::DescribeResponse {
            store: response::store(self.changelog.kind()).into(),
            topic: found.name,
            topic_id: found.topic.map(|t| t.id.clone()).unwrap_or_default(),
            partition_count: count.map_or(0, crate::model::PartitionCount::get),
            hash: "murmur2".to_owned(),
            partitions: found.partitions.iter().map(response::partition_info).collect(),
            findings: found.findings.iter().map(response::finding).collect(),
            limits: Some(v1::Limits {
                max_key_bytes: u32_of(MAX_KEY_BYTES),
                max_value_bytes: u32_of(self.changelog.value_rules().max_bytes),
                max_headers: u32_of(MAX_HEADERS),
                max_header_bytes: u32_of(MAX_HEADER_BYTES),
                max_request_bytes: u32_of(self.limits.max_request_bytes),
                max_replays: u32_of(limits.max_replays),
            }),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            workspace_partition: home,
        }))
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let call = Call::from_request(request.extensions());
        let request = request.into_inner();
        let key: Key = request::key(&request.workspace_id, &request.changelog_id)?;
        let format = request::value_format(request.value_format)?;
        let shown = Escaped(key.as_str()).to_string();
        let found = self.changelog.get(key, call.peer, self.read_deadline(&call)).await;
        let found = found.map_err(|e| Self::read_failed(&self.metrics, &e, &format!("get {shown}")))?;
        call.stats.set_partition(found.partition.number());
        call.stats.add_records(found.end.counts.read);
        let record = found.record.ok_or_else(|| status::key_not_found(&shown))?;
        call.stats.add_entries(1);
        Ok(Response::new(v1::GetResponse { entry: Some(response::entry(found.partition, record, format)) }))
    }

    type WriteStream = Events<v1::WriteResponse>;

    async fn write(
        &self,
        request: Request<Streaming<v1::WriteRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let call = Call::from_request(request.extensions());
        let (changelog, queue_full_timeout) = (self.changelog.clone(), self.limits.write_timeout);
        let messages = request.into_inner();
        // A stream of mutations may last forever. It has only the deadline of its client.
        let stream =
            ResponseStream::spawn(Instant::now(), self.limits.client_stall_timeout, move |responses| async move {
                let work = Writing::new(changelog, responses.without_deadline(), queue_full_timeout).run(messages);
                match call.deadline {
                    None => work.await,
                    Some(end) => tokio::time::timeout_at(end, work).await.unwrap_or_else(|_| {
                        let cause = "the call's deadline passed; mutations without a verdict may be written".to_owned();
                        Err(status::from_write_error(&WriteError::OutcomeUnknown { by_time: true, cause }, "write"))
                    }),
                }
            });
        Ok(Response::new(Box::pin(stream)))
    }

    type WatchStream = Events<v1::WatchResponse>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(status::not_implemented("Watch"))
    }
}

async fn stream_events(
    changelog: Changelog,
    metrics: &Metrics,
    stream_request: StreamRequest,
    deadline: Instant,
    format: v1::ValueFormat,
    responses: ResponseSender<v1::StreamAllResponse>,
    call: &Call,
) -> Result<(), Status> {
    use v1::stream_all_response::Event;

    let what = match stream_request.content {
        Content::Records => "stream records",
        Content::Latest => "stream latest values",
    };
    let failed = |e: LoadError| Service::read_failed(metrics, &e, what);
    let responses = if stream_request.follow { responses.without_deadline() } else { responses };
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
    drop(stream);
    flushed
}
