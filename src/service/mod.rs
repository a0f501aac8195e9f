//! `ChangelogService`: parses requests, calls the changelog, and puts results into messages. Each RPC has a file with
//! its name.
//!
//! Promises: after parsing there are only valid types. `status.rs` is the only place where an error of the changelog
//! becomes a status.
//! Does not: decide what the changelog does, or know which store is below.

mod call;
mod conversion;
mod describe;
mod flush;
#[cfg(test)]
mod fuzz;
mod get;
mod json;
mod load_workspace;
mod request;
mod response;
mod response_stream;
mod set_delete;
mod status;
mod stream_all;
mod write;

use std::sync::Arc;

use changelog_core::changelog::Changelog;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

pub use call::{Call, CallLimits, CallStats, Peer};
pub use status::{connection_displaced, draining, fault_of_write, internal_fault, request_too_slow, starting};

use crate::{
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
    conversions: Conversions,
}

impl Service {
    /// `tasks` gets the tasks that a call may leave behind: they wait for the outcomes of accepted writes.
    pub fn new(changelog: Changelog, limits: CallLimits, metrics: Arc<Metrics>, tasks: TaskTracker) -> Self {
        Self { changelog, limits, metrics, tasks, conversions: Conversions::default() }
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
        flush::flush(&self.changelog, request).await.map(Response::new)
    }

    type LoadWorkspaceStream = ResponseStream<v1::LoadWorkspaceResponse>;

    async fn load_workspace(
        &self,
        request: Request<v1::LoadWorkspaceRequest>,
    ) -> Result<Response<Self::LoadWorkspaceStream>, Status> {
        let (changelog, metrics) = (self.changelog.clone(), self.metrics.clone());
        let conversions = self.conversions.clone();
        load_workspace::load_workspace(changelog, &self.limits, metrics, conversions, request).map(Response::new)
    }

    type StreamAllStream = ResponseStream<v1::StreamAllResponse>;

    async fn stream_all(
        &self,
        request: Request<v1::StreamAllRequest>,
    ) -> Result<Response<Self::StreamAllStream>, Status> {
        let (changelog, metrics) = (self.changelog.clone(), self.metrics.clone());
        let conversions = self.conversions.clone();
        stream_all::stream_all(changelog, &self.limits, metrics, conversions, request).map(Response::new)
    }

    async fn describe(&self, request: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        describe::describe(&self.changelog, &self.limits, request).await.map(Response::new)
    }

    async fn get(&self, request: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        get::get(&self.changelog, &self.limits, &self.metrics, &self.conversions, request).await.map(Response::new)
    }

    type WriteStream = ResponseStream<v1::WriteResponse>;

    async fn write(
        &self,
        request: Request<Streaming<v1::WriteRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let (changelog, tasks, conversions) = (self.changelog.clone(), self.tasks.clone(), self.conversions.clone());
        Ok(Response::new(write::write(changelog, &self.limits, tasks, conversions, request)))
    }

    type WatchStream = ResponseStream<v1::WatchResponse>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(status::not_implemented("Watch"))
    }
}
