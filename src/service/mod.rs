//! `ChangelogService`: a request is parsed, the changelog is asked, the answer is put into messages. Decides nothing else.

mod call;
mod json;
mod request;
mod response;
mod status;
mod stream;
mod write;

use std::{pin::Pin, time::Duration};

use futures_util::Stream;
use prost::Message;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

pub use call::{Call, Facts, Peer};
pub use status::request_too_slow;

use crate::{
    changelog::{Ack, Change, Changelog, Content, LoadError, StreamEvent, StreamRequest, Written},
    log::WriteError,
    model::{Key, MAX_HEADER_BYTES, MAX_HEADERS, MAX_KEY_BYTES, Shown},
    proto::{
        self,
        v1::{self, changelog_service_server::ChangelogService},
    },
};
use stream::{Answer, Feed};
use write::Writing;

/// Bytes of failures that one Flush answers with: below the 4 MiB that clients take by default.
const MAX_FAILURE_BYTES: usize = 3 * 1024 * 1024;

/// Bounds on calls.
#[derive(Debug, Clone, Copy)]
pub struct CallLimits {
    /// The longest that a load, get or stream may take; a client's shorter deadline wins.
    pub read_timeout: Duration,
    /// The longest that a write may take; as above. More than what the log itself allows: its own verdict may be that nothing
    /// was written.
    pub write_timeout: Duration,
    /// The longest that a reader may take nothing.
    pub stall_timeout: Duration,
    /// The largest request message, in bytes.
    pub max_request_bytes: usize,
}

/// The service over a changelog.
#[derive(Debug, Clone)]
pub struct Service {
    changelog: Changelog,
    limits: CallLimits,
}

type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Service {
    /// The service.
    pub fn new(changelog: Changelog, limits: CallLimits) -> Self {
        Self { changelog, limits }
    }

    fn read_deadline(&self, call: &Call) -> Instant {
        let cap = Instant::now() + self.limits.read_timeout;
        call.deadline.map_or(cap, |deadline| deadline.min(cap))
    }

    /// The status of a read that failed; one that the log moved under is counted.
    fn read_failed(changelog: &Changelog, error: &LoadError, what: &str) -> Status {
        if let Some(reason) = status::aborted_reason(error) {
            changelog.metrics().replay_aborted(reason);
        }
        status::of_read(error, what)
    }

    async fn apply(&self, call: &Call, verb: &str, change: Change, ack: Ack) -> Result<Option<Written>, Status> {
        let what = format!("{verb} {}", Shown(change.key.as_str()));
        let cap = Instant::now() + self.limits.write_timeout;
        let deadline = call.deadline.map_or(cap, |deadline| deadline.min(cap));
        let written = self.changelog.write(change, ack, Some(deadline)).await;
        let written = written.map_err(|e| status::of_write(&e, &what))?;
        if let Some(written) = &written {
            call.facts.set_partition(written.position.partition.number());
        }
        Ok(written)
    }
}

#[tonic::async_trait]
impl ChangelogService for Service {
    async fn set(&self, request: Request<v1::SetRequest>) -> Result<Response<v1::SetResponse>, Status> {
        let call = Call::of(request.extensions());
        let request = request.into_inner();
        let key = request::key(&request.workspace_id, &request.changelog_id)?;
        let ack = request::ack(request.ack)?;
        let headers = request::headers(request.headers)?;
        let rules = self.changelog.value_rules();
        let value = match request.value {
            Some(v1::set_request::Value::Raw(raw)) => request::raw(raw, &rules)?,
            Some(v1::set_request::Value::Json(json)) => request::json_value(&json, &rules)?,
            None => return Err(status::bad_argument("value", "a value is required: raw or json")),
        };
        let written = self.apply(&call, "set", Change { key, value: Some(value), headers }, ack).await?;
        Ok(Response::new(v1::SetResponse {
            position: written.as_ref().map(response::position),
            timestamp: written.and_then(|w| w.timestamp).map(proto::timestamp),
        }))
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
        let call = Call::of(request.extensions());
        let request = request.into_inner();
        let key = request::key(&request.workspace_id, &request.changelog_id)?;
        let ack = request::ack(request.ack)?;
        let headers = request::headers(request.headers)?;
        let written = self.apply(&call, "delete", Change { key, value: None, headers }, ack).await?;
        Ok(Response::new(v1::DeleteResponse {
            position: written.as_ref().map(response::position),
            timestamp: written.and_then(|w| w.timestamp).map(proto::timestamp),
        }))
    }

    async fn flush(&self, request: Request<v1::FlushRequest>) -> Result<Response<v1::FlushResponse>, Status> {
        let call = Call::of(request.extensions());
        let request = request.into_inner();
        let end = Instant::now() + request::flush_timeout(request.timeout_ms);
        let flushed = self.changelog.flush(request.failures_after, call.deadline.map_or(end, |d| d.min(end))).await;
        let mut answer = v1::FlushResponse {
            remaining: flushed.remaining,
            failures: Vec::new(),
            last_failure: request.failures_after.min(flushed.newest),
            failures_omitted: flushed.omitted,
        };
        let mut bytes = 0;
        for failed in flushed.failures {
            let what = format!("buffered write of {}", Shown(failed.key.as_str()));
            let status = response::rpc_status(&status::of_write(&failed.error, &what));
            let failure = v1::WriteFailure { id: failed.id, key: failed.key.as_str().to_owned(), status: Some(status) };
            bytes += failure.encoded_len() + 6;
            if bytes > MAX_FAILURE_BYTES {
                break;
            }
            answer.last_failure = failure.id;
            answer.failures.push(failure);
        }
        Ok(Response::new(answer))
    }

    type LoadWorkspaceStream = Events<v1::LoadWorkspaceResponse>;

    async fn load_workspace(
        &self,
        request: Request<v1::LoadWorkspaceRequest>,
    ) -> Result<Response<Self::LoadWorkspaceStream>, Status> {
        let call = Call::of(request.extensions());
        let request = request.into_inner();
        let workspace = request::workspace(&request.workspace_id, "workspace_id")?;
        let types = request::entity_types(request.entity_types)?;
        let format = request::value_format(request.value_format)?;
        let deadline = self.read_deadline(&call);
        let changelog = self.changelog.clone();
        let answer = Answer::spawn(deadline, self.limits.stall_timeout, |feed| async move {
            let what = format!("load {}", Shown(workspace.as_str()));
            let load = changelog.load(workspace, types, call.peer, deadline).await;
            let load = load.map_err(|e| Self::read_failed(&changelog, &e, &what))?;
            call.facts.set_partition(load.partition.number());
            call.facts.add_records(load.summary.end.counts.read);
            let send = |event| feed.send(v1::LoadWorkspaceResponse { event: Some(event) });
            for (entries, batch) in response::batches(load.partition, load.records(), format, load.is_shared()) {
                call.facts.add_entries(entries);
                send(v1::load_workspace_response::Event::Batch(batch)).await?;
            }
            let snapshot = response::snapshot(load.summary.clone());
            send(v1::load_workspace_response::Event::Snapshot(snapshot)).await?;
            let taken = feed.taken().await;
            drop(load);
            taken
        });
        Ok(Response::new(Box::pin(answer)))
    }

    type StreamAllStream = Events<v1::StreamAllResponse>;

    async fn stream_all(
        &self,
        request: Request<v1::StreamAllRequest>,
    ) -> Result<Response<Self::StreamAllStream>, Status> {
        let call = Call::of(request.extensions());
        let request = request.into_inner();
        let format = request::value_format(request.value_format)?;
        let mut workspaces = Vec::new();
        for (i, id) in request.workspace_ids.iter().enumerate() {
            workspaces.push(request::workspace(id, &format!("workspace_ids[{i}]"))?);
        }
        workspaces.sort();
        workspaces.dedup();
        let wanted = StreamRequest {
            partitions: request.partitions,
            workspaces,
            types: request::entity_types(request.entity_types)?,
            content: request::content(request.content)?,
            resume_token: request.resume_token,
            follow: request.follow,
        };
        // A follower's deadline is its client's alone; the server's cap holds until the ends are reached.
        let deadline = self.read_deadline(&call);
        let (changelog, follow) = (self.changelog.clone(), wanted.follow);
        let answer = Answer::spawn(deadline, self.limits.stall_timeout, move |feed| async move {
            let work = stream_events(changelog, wanted, deadline, format, feed, &call);
            match call.deadline.filter(|_| follow) {
                None => work.await,
                Some(end) => tokio::time::timeout_at(end, work).await.unwrap_or_else(|_| {
                    Err(status::too_late("the call's deadline passed while it followed".to_owned()))
                }),
            }
        });
        Ok(Response::new(Box::pin(answer)))
    }

    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        let call = Call::of(request.extensions());
        let request = request.into_inner();
        let workspace = match &*request.workspace_id {
            "" => None,
            id => Some(request::workspace(id, "workspace_id")?),
        };
        let found = tokio::time::timeout_at(self.read_deadline(&call), self.changelog.describe()).await;
        let late = |_| status::too_late("describe: the deadline passed before the log had answered".to_owned());
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
        let call = Call::of(request.extensions());
        let request = request.into_inner();
        let key: Key = request::key(&request.workspace_id, &request.changelog_id)?;
        let format = request::value_format(request.value_format)?;
        let shown = Shown(key.as_str()).to_string();
        let found = self.changelog.get(key, call.peer, self.read_deadline(&call)).await;
        let found = found.map_err(|e| Self::read_failed(&self.changelog, &e, &format!("get {shown}")))?;
        call.facts.set_partition(found.partition.number());
        call.facts.add_records(found.end.counts.read);
        let record = found.record.ok_or_else(|| status::key_not_found(&shown))?;
        call.facts.add_entries(1);
        Ok(Response::new(v1::GetResponse { entry: Some(response::entry(found.partition, record, format)) }))
    }

    type WriteStream = Events<v1::WriteResponse>;

    async fn write(
        &self,
        request: Request<Streaming<v1::WriteRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let call = Call::of(request.extensions());
        let (changelog, patience) = (self.changelog.clone(), self.limits.write_timeout);
        let messages = request.into_inner();
        // A writer may write for ever: its deadline is its client's alone.
        let answer = Answer::spawn(Instant::now(), self.limits.stall_timeout, move |feed| async move {
            let work = Writing::new(changelog, feed.without_deadline(), patience).run(messages);
            match call.deadline {
                None => work.await,
                Some(end) => tokio::time::timeout_at(end, work).await.unwrap_or_else(|_| {
                    let cause = "the call's deadline passed; mutations without a verdict may be written".to_owned();
                    Err(status::of_write(&WriteError::OutcomeUnknown { by_time: true, cause }, "write"))
                }),
            }
        });
        Ok(Response::new(Box::pin(answer)))
    }

    type WatchStream = Events<v1::WatchResponse>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(status::not_implemented("Watch"))
    }
}

async fn stream_events(
    changelog: Changelog,
    wanted: StreamRequest,
    deadline: Instant,
    format: v1::ValueFormat,
    feed: Feed<v1::StreamAllResponse>,
    call: &Call,
) -> Result<(), Status> {
    use v1::stream_all_response::Event;

    let what = match wanted.content {
        Content::Records => "stream records",
        Content::Latest => "stream latest values",
    };
    let failed = |e: LoadError| Service::read_failed(&changelog, &e, what);
    let feed = if wanted.follow { feed.without_deadline() } else { feed };
    let mut streaming = changelog.stream(wanted, call.peer, deadline).await.map_err(failed)?;
    while let Some(event) = streaming.next().await {
        let send = |event| feed.send(v1::StreamAllResponse { event: Some(event) });
        match event.map_err(failed)? {
            StreamEvent::Batch { partition, records } => {
                for (entries, batch) in response::batches(partition, &records, format, false) {
                    call.facts.add_entries(entries);
                    send(Event::Batch(batch)).await?;
                }
            }
            StreamEvent::Snapshot(summary) => {
                call.facts.add_records(summary.end.counts.read);
                send(Event::Snapshot(response::snapshot(summary))).await?;
            }
            StreamEvent::Bookmark(resume_token) => {
                send(Event::Bookmark(v1::Bookmark { resume_token })).await?;
            }
        }
    }
    let taken = feed.taken().await;
    drop(streaming);
    taken
}
