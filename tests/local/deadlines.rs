//! Every call ends at its client's deadline or at the server's limit, whichever comes first. The server ends it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use changelog_core::{
    log::{Log, MemoryLog, Replay},
    model::PartitionCount,
    testing::FakeLog,
};
use changelogd::proto::v1::{self, changelog_service_client::ChangelogServiceClient};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{Mutex, oneshot, watch},
};
use tonic::{Code, Request, Status};

use crate::{
    contract::server::{PATIENCE, TestServer, connect, raw, reason},
    servers::{RawChannel, raw_client},
};

/// A server on a log that never answers a write, a replay or a query.
async fn stuck(more: &[&str]) -> TestServer {
    let memory = MemoryLog::new(PartitionCount::new(2).unwrap(), Duration::from_secs(1000));
    // Senders are kept, because a dropped one would end the call.
    let (writes, replays) = (std::sync::Mutex::new(Vec::new()), std::sync::Mutex::new(Vec::new()));
    let log = FakeLog::new(memory)
        .on_append(move |_, _| {
            let (sender, pending) = oneshot::channel();
            writes.lock().unwrap().push(sender);
            Ok(pending)
        })
        .on_replay(move |_, _| {
            let (sender, replay) = Replay::channel();
            replays.lock().unwrap().push(sender);
            std::future::ready(Ok(replay))
        })
        .on_describe(|_| std::future::pending());
    let arguments = ["--store=memory", "--drain-timeout=0s"].iter().chain(more).map(|a| (*a).to_owned()).collect();
    TestServer::on_log(Arc::new(log), arguments).await.ready().await
}

/// One call of each method, with this deadline if there is one.
async fn every_call(
    client: &ChangelogServiceClient<RawChannel>,
    timeout: Option<&'static str>,
) -> Vec<(&'static str, Result<(), Status>)> {
    fn with<T>(message: T, timeout: Option<&'static str>) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(timeout) = timeout {
            request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        }
        request
    }
    async fn drained<T>(stream: Result<tonic::Response<tonic::Streaming<T>>, Status>) -> Result<(), Status> {
        let mut stream = stream?.into_inner();
        while stream.message().await?.is_some() {}
        Ok(())
    }
    let key = || "ws/t/1".to_owned();
    let set = v1::SetRequest { changelog_id: key(), value: raw("1"), ..Default::default() };
    let delete = v1::DeleteRequest { changelog_id: key(), ..Default::default() };
    let get = v1::GetRequest { changelog_id: key(), ..Default::default() };
    let load = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
    let latest = v1::StreamAllRequest { content: v1::Content::Latest.into(), ..Default::default() };
    let client = || client.clone();
    let (mut a, mut b, mut c, mut d, mut e, mut f) = (client(), client(), client(), client(), client(), client());
    let (set, delete, get, describe, load, stream) = tokio::join!(
        a.set(with(set, timeout)),
        b.delete(with(delete, timeout)),
        c.get(with(get, timeout)),
        d.describe(with(v1::DescribeRequest::default(), timeout)),
        async { drained(e.load_workspace(with(load, timeout)).await).await },
        async { drained(f.stream_all(with(latest, timeout)).await).await },
    );
    vec![
        ("Set", set.map(drop)),
        ("Delete", delete.map(drop)),
        ("Get", get.map(drop)),
        ("Describe", describe.map(drop)),
        ("LoadWorkspace", load),
        ("StreamAll", stream),
    ]
}

/// Checks that the server ended all of them. Returns how many writes were accepted.
fn all_are_ours(ended: Vec<(&'static str, Result<(), Status>)>) -> u64 {
    let mut accepted = 0;
    for (rpc, ended) in ended {
        let status = ended.expect_err(rpc);
        let is_write = matches!(rpc, "Set" | "Delete");
        // On a busy machine 100 ms may be over before a request has been read.
        let too_slow = status.message().contains("before the request had arrived; nothing was done");
        let expected = if is_write && !too_slow { "OUTCOME_UNKNOWN" } else { "DEADLINE" };
        accepted += u64::from(is_write && !too_slow);
        assert_eq!((status.code(), &*reason(&status)), (Code::DeadlineExceeded, expected), "{rpc}: {status:?}");
    }
    accepted
}

/// Covers C20, C55, S3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_ends_every_call_at_its_client_s_deadline() {
    let server = stuck(&[]).await;
    let client = raw_client(&server.api).await;
    let started = Instant::now();
    let accepted = all_are_ours(every_call(&client, Some("100m")).await);
    // The server's limits are minutes.
    assert!(started.elapsed() >= Duration::from_millis(100) && started.elapsed() < PATIENCE);

    // A flush is always OK. At the deadline it says how many writes are left.
    let mut request = Request::new(v1::FlushRequest { timeout_ms: 60_000, failures_after: 0 });
    request.metadata_mut().insert("grpc-timeout", "1S".parse().unwrap());
    let started = Instant::now();
    assert_eq!(client.clone().flush(request).await.unwrap().into_inner().remaining, accepted);
    assert!(started.elapsed() < PATIENCE);
    assert_eq!(server.metric("changelogd_replays_running").await, 0);
}

/// Covers S3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_ends_every_call_without_a_deadline_at_its_own_limit() {
    let server = stuck(&["--read-timeout=200ms", "--write-timeout=1ms"]).await;
    let accepted = all_are_ours(every_call(&raw_client(&server.api).await, None).await);
    assert_eq!(accepted, 2, "nothing but the cap ended them");
}

/// Covers S3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_following_stream_ends_at_its_client_s_deadline() {
    let server = TestServer::in_process(vec!["--store=memory".to_owned()]).await.ready().await;
    let mut request = Request::new(v1::StreamAllRequest { follow: true, ..Default::default() });
    request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let mut stream = raw_client(&server.api).await.stream_all(request).await.unwrap().into_inner();
    let status = loop {
        match stream.message().await {
            Ok(message) => assert!(message.is_some(), "a deadline is not an end"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), &*reason(&status)), (Code::DeadlineExceeded, "DEADLINE"), "{status:?}");
}

/// Covers S3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_never_arrives_whole_ends_at_its_deadline() {
    let server = stuck(&[]).await;
    let stream = TcpStream::connect(&server.api).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let handshake = hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io);
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    // The header of a message of 100 bytes, and its first byte.
    let begun = tonic::codegen::Bytes::from_static(&[0, 0, 0, 0, 100, 1]);
    let body = tonic::body::Body::new(http_body_util::StreamBody::new(futures_util::StreamExt::chain(
        futures_util::stream::iter([Ok::<_, Status>(http_body::Frame::data(begun))]),
        futures_util::stream::pending(),
    )));
    let request = http::Request::post(format!("http://{}/changelog.v1.ChangelogService/Set", server.api))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "100m")
        .body(body)
        .unwrap();
    let response = tokio::time::timeout(PATIENCE, sender.send_request(request)).await.expect("it ends").unwrap();
    let status = Status::from_header_map(response.headers()).expect("a status in the head");
    assert_eq!((status.code(), &*reason(&status)), (Code::DeadlineExceeded, "DEADLINE"), "{status:?}");
}

/// Passes bytes on until the cut. Then it drops the bytes from the server, and ends the client's connection.
async fn forwarder(to: String) -> (String, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (cut, mut told) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(to).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let back = tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        tokio::select! {
            _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
            _ = &mut told => {}
        }
        back.abort();
        let _ = back.await;
        let _ = to_server.shutdown().await;
    });
    (address, cut)
}

/// A memory log that delays writes and their answers while `gate` is locked, and counts them in `accepted`.
fn held_log(memory: MemoryLog, gate: Arc<Mutex<()>>, accepted: watch::Sender<usize>) -> FakeLog {
    FakeLog::new(memory).on_append(move |memory, record| {
        let (sender, pending) = oneshot::channel();
        let (memory, gate) = (memory.clone(), gate.clone());
        accepted.send_modify(|n| *n += 1);
        tokio::spawn(async move {
            drop(gate.lock().await);
            let written = memory.append(record).unwrap().await.unwrap();
            let _ = sender.send(written);
        });
        Ok(pending)
    })
}

/// Covers C56.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_gives_a_status_without_our_reason_and_the_write_may_be_there() {
    let memory = MemoryLog::new(PartitionCount::new(2).unwrap(), Duration::from_secs(1000));
    let (waiting, accepted) = (Arc::new(Mutex::new(())), watch::Sender::new(0));
    let (gate, mut seen) = (waiting.clone().lock_owned().await, accepted.subscribe());
    let log = Arc::new(held_log(memory, waiting, accepted));
    let server = TestServer::on_log(log, vec!["--store=memory".to_owned()]).await.ready().await;
    let (through, cut) = forwarder(server.api.clone()).await;
    let mut client = connect(&through).await;
    let request = v1::SetRequest { changelog_id: "ws/t/1".to_owned(), value: raw("1"), ..Default::default() };
    let call = tokio::spawn(async move { client.set(request).await });
    tokio::time::timeout(PATIENCE, seen.wait_for(|n| *n == 1)).await.expect("it arrived").unwrap();
    cut.send(()).unwrap();
    let status = tokio::time::timeout(PATIENCE, call).await.expect("it ends").unwrap().unwrap_err();
    assert_eq!(reason(&status), "", "no word of ours: the outcome is not known: {status:?}");
    assert_eq!(server.load("ws").await.entries.len(), 0);
    drop(gate);
    let started = Instant::now();
    while server.load("ws").await.entries.is_empty() {
        assert!(started.elapsed() < PATIENCE, "the write is applied, whatever answer its client got");
    }
}
