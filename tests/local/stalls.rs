//! Clients that do not take what the server sends: their calls end, and nobody else waits.

use std::time::{Duration, Instant};

use bytes::Bytes;
use changelogd::proto::v1;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::contract::server::{PATIENCE, TestServer, connect, raw, reason};

async fn server() -> TestServer {
    TestServer::process(vec!["--store=memory".to_owned(), "--client-stall-timeout=1s".to_owned()]).await.ready().await
}

async fn calls(server: &TestServer, rpc: &str, code: &str) -> i64 {
    let (_, text) = server.http("/metrics").await;
    let name = format!("changelogd_rpc_calls_total{{rpc=\"{rpc}\",code=\"{code}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

async fn until_reset(server: &TestServer, rpc: &str, count: i64) {
    let started = Instant::now();
    while calls(server, rpc, "DEADLINE_EXCEEDED").await < count {
        assert!(started.elapsed() < PATIENCE, "{rpc}: the stream is reset");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Covers S17.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_reads_no_verdicts_is_reset_and_other_calls_of_its_connection_go_on() {
    let server = server().await;
    let mut client = connect(&server.api).await;
    let (messages, stream) = mpsc::channel(1);
    let mut verdicts = client.write(ReceiverStream::new(stream)).await.unwrap().into_inner();
    let writing = tokio::spawn(async move {
        for message in 0..2_000_u64 {
            let mutation = |n: u64| v1::Mutation {
                id: message * 100 + n,
                changelog_id: format!("ws/t/{n}"),
                change: Some(v1::mutation::Change::Raw("1".into())),
                ..Default::default()
            };
            let mutations = (0..100).map(mutation).collect();
            if messages.send(v1::WriteRequest { mutations }).await.is_err() {
                return message;
            }
        }
        panic!("it should have been stopped");
    });
    let others = tokio::spawn({
        let mut client = client.clone();
        async move {
            let started = Instant::now();
            while started.elapsed() < Duration::from_secs(3) {
                let request =
                    v1::SetRequest { changelog_id: "ws/t/a".to_owned(), value: raw("1"), ..Default::default() };
                client.set(request).await.unwrap();
            }
        }
    });
    tokio::time::timeout(PATIENCE, writing).await.expect("the stream is reset").unwrap();
    others.await.unwrap();
    let status = loop {
        match verdicts.message().await {
            Ok(message) => assert!(message.is_some(), "what was cut does not pass for whole"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), &*reason(&status)), (Code::Cancelled, ""), "{status:?}");
    assert_eq!(calls(&server, "Write", "DEADLINE_EXCEEDED").await, 1);
}

/// A request whose answer is not read, on a connection with this window. Returns what keeps it open.
async fn unread(api: &str, rpc: &str, message: &impl Message, window: u32) -> impl Sized {
    let stream = TcpStream::connect(api).await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let encoded = message.encode_to_vec();
    let frame = [&[0][..], &u32::try_from(encoded.len()).unwrap().to_be_bytes(), &encoded].concat();
    let frames = futures_util::stream::iter([Ok::<_, tonic::Status>(http_body::Frame::data(Bytes::from(frame)))]);
    let request = http::Request::post(format!("http://{api}/changelog.v1.ChangelogService/{rpc}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(StreamBody::new(frames).boxed())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    (sender, connection, response)
}

/// Covers S17.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_its_client_does_not_take_is_reset_whatever_the_window() {
    let server = server().await;
    let value = format!("\"{}\"", "x".repeat(900_000));
    server.set("ws/t/large", &value).await;
    let get = v1::GetRequest { changelog_id: "ws/t/large".to_owned(), ..Default::default() };
    let load = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
    let stream = v1::StreamAllRequest { follow: true, ..Default::default() };
    let windows = [0, 1, 9, 16_384, 65_535, 899_000];
    for (number, window) in windows.into_iter().enumerate() {
        let held = (
            unread(&server.api, "Get", &get, window).await,
            unread(&server.api, "LoadWorkspace", &load, window).await,
            unread(&server.api, "StreamAll", &stream, window).await,
        );
        for rpc in ["Get", "LoadWorkspace", "StreamAll"] {
            until_reset(&server, rpc, number as i64 + 1).await;
        }
        drop(held);
    }
    assert_eq!(server.metric("changelogd_replays_running").await, 0);
    assert_eq!(server.metric("changelogd_following_streams").await, 0);
}

/// Covers B27.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_not_grpc_is_answered_with_its_http_status() {
    let server = server().await;
    for (method, content_type, status) in [
        ("POST", Some("text/plain"), 415),
        ("POST", Some("application/json"), 415),
        ("POST", Some("application/grpc-web+proto"), 415),
        ("POST", None, 415),
        ("GET", Some("application/grpc"), 405),
        ("POST", Some("application/grpc+proto"), 200),
    ] {
        for path in ["/changelog.v1.ChangelogService/Describe", "/grpc.health.v1.Health/Check", "/nothing/Here"] {
            let stream = TcpStream::connect(&server.api).await.unwrap();
            let io = TokioIo::new(stream);
            let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
            let (mut sender, connection) = handshake.await.unwrap();
            tokio::spawn(connection);
            let mut request = http::Request::builder().method(method).uri(format!("http://{}{path}", server.api));
            if let Some(content_type) = content_type {
                request = request.header("content-type", content_type);
            }
            let body = http_body_util::Full::new(Bytes::from_static(&[0; 5]));
            let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
            assert_eq!(response.status(), status, "{method} {content_type:?} {path}");
        }
    }
}
