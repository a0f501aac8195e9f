//! The servers that this binary runs the contract suite on.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use changelog_core::{
    log::MemoryLog,
    model::{Partition, PartitionCount},
};
use changelogd::proto::v1::changelog_service_client::ChangelogServiceClient;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::{
    contract::server::{TestServer, directory},
    mock_cluster::MockKafka,
};

/// A client without a deadline of its own, unlike tonic's client. Only the server ends its calls.
pub async fn raw_client(api: &str) -> ChangelogServiceClient<RawChannel> {
    let stream = tokio::net::TcpStream::connect(api).await.expect("it listens");
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    ChangelogServiceClient::with_origin(RawChannel(sender), format!("http://{api}").parse().unwrap())
}

#[derive(Clone)]
pub struct RawChannel(SendRequest<tonic::body::Body>);

impl tower::Service<http::Request<tonic::body::Body>> for RawChannel {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

pub async fn memory() -> TestServer {
    let log = MemoryLog::new(PartitionCount::new(10).unwrap(), Duration::from_secs(86_400));
    let foreign = {
        let log = log.clone();
        Box::new(move |partition, key, value| {
            log.append_foreign(Partition::new(partition).unwrap(), key, value);
        })
    };
    TestServer::on_log(Arc::new(log), vec!["--store=memory".to_owned()]).await.with_foreign(foreign)
}

pub async fn embedded() -> TestServer {
    let (keep, path) = directory();
    TestServer::in_process(vec![format!("--data-dir={}", path.display())]).await.keeping(Box::new(keep)).durable()
}

pub async fn embedded_process() -> TestServer {
    let (keep, path) = directory();
    TestServer::process(vec![format!("--data-dir={}", path.display())]).await.keeping(Box::new(keep)).durable()
}

pub async fn mock_kafka() -> TestServer {
    let kafka = MockKafka::start(10);
    TestServer::in_process(kafka.arguments(10)).await.durable().without_id().keeping(Box::new(kafka))
}
