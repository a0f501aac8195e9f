//! `ChangelogService`: parses requests, calls the changelog, and puts results into messages. Each RPC has a file with
//! its name.
//!
//! Promises: after parsing there are only valid types. `status.rs` is the only place where an error of the changelog
//! becomes a status.
//! Does not: decide what the changelog does, or know which store is below.

mod call;
mod conversion;
mod describe;
mod facts;
mod flush;
#[cfg(test)]
mod fuzz;
mod get;
mod json_from_value;
mod load_workspace;
mod request;
mod response;
mod response_stream;
mod set_delete;
mod status;
mod stream_all;
mod value_from_json;
mod watch;
mod write;
mod write_window;

use std::sync::Arc;

use changelog_core::changelog::Changelog;
use prost::Message;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

pub use call::{AnswerMemory, Call, CallLimits, CallStats, Kept, Peer, RequestBytes, RequestMemory};
pub use status::{
    bad_argument, connection_displaced, draining, encoding_unsupported, fault_of_write, internal_fault, memory_limit,
    message_too_large, message_too_slow, name_unknown, no_room_for_message, not_framed, not_implemented,
    request_malformed, request_too_slow, starting, too_many_probes, unknown_method,
};

use crate::{
    memory::CallMemory,
    metrics::Metrics,
    proto::v1::{self, changelog_service_server::ChangelogService},
};
use conversion::Conversions;
use response_stream::ResponseStream;

/// Implements the service on a changelog.
#[derive(Debug, Clone)]
pub struct Service {
    changelog: Changelog,
    limits: CallLimits,
    metrics: Arc<Metrics>,
    tasks: TaskTracker,
    memory: CallMemory,
    conversions: Conversions,
}

impl Service {
    /// `tasks` gets the tasks that a call may leave behind: they wait for the outcomes of accepted writes.
    pub fn new(
        changelog: Changelog,
        limits: CallLimits,
        memory: CallMemory,
        metrics: Arc<Metrics>,
        tasks: TaskTracker,
    ) -> Self {
        let conversions = Conversions::new(memory.conversions.clone());
        Self { changelog, limits, metrics, tasks, memory, conversions }
    }

    /// An answer that reserves its bytes until they are written to the client's socket.
    fn held<T: Message>(&self, what: &str, answer: T) -> Result<Response<T>, Status> {
        let reserved = self.memory.answers.reserve(answer.encoded_len() as u64);
        let reserved = reserved.map_err(|full| status::memory_limit(what, &full))?;
        Ok(AnswerMemory::of_message(answer, reserved))
    }
}

#[tonic::async_trait]
impl ChangelogService for Service {
    async fn set(&self, request: Request<v1::SetRequest>) -> Result<Response<v1::SetResponse>, Status> {
        set_delete::set(&self.changelog, &self.limits, &self.conversions, request).await.map(Response::new)
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
        set_delete::delete(&self.changelog, &self.limits, request).await.map(Response::new)
    }

    async fn flush(&self, request: Request<v1::FlushRequest>) -> Result<Response<v1::FlushResponse>, Status> {
        let answer = flush::flush(&self.changelog, request).await?;
        self.held("flush", answer)
    }

    type LoadWorkspaceStream = ResponseStream<v1::LoadWorkspaceResponse>;

    async fn load_workspace(
        &self,
        request: Request<v1::LoadWorkspaceRequest>,
    ) -> Result<Response<Self::LoadWorkspaceStream>, Status> {
        let (changelog, metrics) = (self.changelog.clone(), self.metrics.clone());
        let conversions = self.conversions.clone();
        let memory = &self.memory;
        load_workspace::load_workspace(changelog, &self.limits, memory, metrics, conversions, request)
            .map(ResponseStream::into_response)
    }

    type StreamAllStream = ResponseStream<v1::StreamAllResponse>;

    async fn stream_all(
        &self,
        request: Request<v1::StreamAllRequest>,
    ) -> Result<Response<Self::StreamAllStream>, Status> {
        let (changelog, metrics) = (self.changelog.clone(), self.metrics.clone());
        let conversions = self.conversions.clone();
        stream_all::stream_all(changelog, &self.limits, &self.memory, metrics, conversions, request)
            .map(ResponseStream::into_response)
    }

    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        let answer = describe::describe(&self.changelog, &self.limits, request).await?;
        self.held("describe", answer)
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        let (entry, memory) =
            get::get(&self.changelog, &self.limits, &self.memory, &self.metrics, &self.conversions, request).await?;
        Ok(AnswerMemory::of_message(v1::GetResponse { entry: Some(entry) }, memory))
    }

    type WriteStream = ResponseStream<v1::WriteResponse>;

    async fn write(
        &self,
        request: Request<Streaming<v1::WriteRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let (changelog, tasks, conversions) = (self.changelog.clone(), self.tasks.clone(), self.conversions.clone());
        let metrics = self.metrics.clone();
        let stream = write::write(changelog, &self.limits, &self.memory, metrics, tasks, conversions, request);
        Ok(stream.into_response())
    }

    type WatchStream = ResponseStream<v1::WatchResponse>;

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (changelog, metrics) = (self.changelog.clone(), self.metrics.clone());
        let conversions = self.conversions.clone();
        watch::watch(changelog, &self.limits, &self.memory, metrics, conversions, request)
            .map(ResponseStream::into_response)
    }
}
