//! The servers that this binary runs the contract suite on.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
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

use rdkafka::mocking::MockCluster;

use crate::contract::server::{TestServer, directory};

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

/// librdkafka's mock cluster. It runs on a thread of this process and ends with this value.
pub struct MockKafka {
    pub brokers: String,
    power: Sender<(bool, Sender<()>)>,
}

impl MockKafka {
    pub fn start(partitions: i32) -> Self {
        let (told, brokers) = channel();
        let (power, switched) = channel::<(bool, Sender<()>)>();
        // The cluster can't move to another thread than the one that made it.
        std::thread::spawn(move || {
            let cluster = MockCluster::new(1).expect("a mock cluster");
            cluster.create_topic("t", partitions, 1).expect("a topic");
            told.send(cluster.bootstrap_servers()).expect("the caller waits");
            // Returns when the sender is dropped.
            while let Ok((on, done)) = switched.recv() {
                if on { cluster.broker_up(1) } else { cluster.broker_down(1) }.expect("switched");
                done.send(()).expect("the caller waits for the switch");
            }
        });
        Self { brokers: brokers.recv().expect("a mock cluster"), power }
    }

    /// Turns the only broker off or on. Returns when that has happened.
    pub fn switch(&self, on: bool) {
        let (done, switched) = channel();
        self.power.send((on, done)).expect("the cluster is there");
        switched.recv().expect("switched");
    }

    pub fn arguments(&self, partitions: i32) -> Vec<String> {
        vec![format!("--brokers={}", self.brokers), "--topic=t".to_owned(), format!("--partitions={partitions}")]
    }
}

pub async fn mock_kafka() -> TestServer {
    let kafka = MockKafka::start(10);
    TestServer::in_process(kafka.arguments(10)).await.durable().without_id().keeping(Box::new(kafka))
}
