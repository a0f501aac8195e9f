//! The servers that this binary runs the contract suite on.

use std::{
    convert::Infallible,
    future::{Future, ready},
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
use http_body_util::{BodyExt, Full};
use hyper::{client::conn::http2::SendRequest, service::service_fn};
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

/// A server of gRPC that answers each call with these bytes as its message, and with OK. Returns its address.
pub async fn answering(message: &[u8]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let frame = bytes::Bytes::from(frame.clone());
            let answer = move |_| {
                let trailers = http::HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), 0.into())]);
                let body = Full::new(frame.clone()).with_trailers(ready(Some(Ok::<_, Infallible>(trailers))));
                let head = http::Response::builder().header("content-type", "application/grpc");
                ready(Ok::<_, Infallible>(head.body(body).unwrap()))
            };
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service_fn(answer)));
        }
    });
    address
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
