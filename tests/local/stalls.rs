//! Clients that do not take what the server sends: their calls end, and other clients do not wait.

use std::time::{Duration, Instant};

use bytes::Bytes;
use changelogd::proto::v1;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    contract::{
        server::{PATIENCE, TestServer, connect, handled, raw, reason},
        watching::Watching,
    },
    http2::{DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, frame, framed, head_of},
};

async fn server() -> TestServer {
    TestServer::process(vec!["--store=memory".to_owned(), "--client-stall-timeout=1s".to_owned()]).await.ready().await
}

async fn calls(server: &TestServer, rpc: &str, code: &str) -> i64 {
    let (_, text) = server.http("/metrics").await;
    let name = handled(rpc, code) + " ";
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

async fn until_reset(server: &TestServer, rpc: &str, count: i64) {
    let started = Instant::now();
    while calls(server, rpc, "DeadlineExceeded").await < count {
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
    assert_eq!(calls(&server, "Write", "DeadlineExceeded").await, 1);
}

/// An open connection, and the response on it.
type Open = (
    hyper::client::conn::http2::SendRequest<http_body_util::combinators::BoxBody<Bytes, tonic::Status>>,
    tokio::task::JoinHandle<hyper::Result<()>>,
    http::Response<hyper::body::Incoming>,
);

/// A request on a connection with this window. Its answer is not read yet.
pub async fn asked(api: &str, rpc: &str, message: &impl Message, window: u32) -> Open {
    let stream = TcpStream::connect(api).await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let body =
        StreamBody::new(futures_util::stream::iter([Ok(http_body::Frame::data(framed(message).into()))])).boxed();
    let request = http::Request::post(format!("http://{api}/changelog.v1.ChangelogService/{rpc}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    (sender, connection, response)
}

fn get(key: &str) -> v1::GetRequest {
    v1::GetRequest { changelog_id: key.to_owned(), ..Default::default() }
}

/// Covers S17.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_its_client_does_not_take_is_reset_whatever_the_window() {
    let server = server().await;
    server.set("large/t/1", &format!("\"{}\"", "x".repeat(900_000))).await;
    server.set("small/t/1", &format!("\"{}\"", "x".repeat(700))).await;
    // Of this answer a part of 16 KiB leaves 50 bytes. Its lengths have two or three bytes, so one step is too few.
    let (mut value, mut answer) = (16_000, 0);
    for _ in 0..4 {
        server.set("parts/t/1", &format!("\"{}\"", "x".repeat(value))).await;
        answer = framed(&server.client.clone().get(get("parts/t/1")).await.unwrap().into_inner()).len();
        value = value + 16_434 - answer;
    }
    assert_eq!(answer, 16_434);
    let cases =
        [("large", &[0, 1, 9, 16_384, 65_535, 899_000][..]), ("parts", &[16_385]), ("small", &[0, 1, 10, 200, 600])];
    let mut resets = 0;
    for (workspace, windows) in cases {
        let load = v1::LoadWorkspaceRequest { workspace_id: workspace.to_owned(), ..Default::default() };
        let workspace_ids = vec![workspace.to_owned()];
        let stream = v1::StreamAllRequest { follow: true, workspace_ids, ..Default::default() };
        let watch = v1::WatchRequest { workspace_id: workspace.to_owned(), ..Default::default() };
        for window in windows {
            let held = [
                asked(&server.api, "Get", &get(&format!("{workspace}/t/1")), *window).await,
                asked(&server.api, "LoadWorkspace", &load, *window).await,
                asked(&server.api, "StreamAll", &stream, *window).await,
                asked(&server.api, "Watch", &watch, *window).await,
            ];
            resets += 1;
            for rpc in ["Get", "LoadWorkspace", "StreamAll", "Watch"] {
                until_reset(&server, rpc, resets).await;
            }
            for (.., response) in held {
                let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await.expect("it ends");
                assert!(body.is_err(), "{workspace}, window {window}: the client is told");
            }
        }
    }
    assert_eq!(server.metric("changelogd_replays_running").await, 0);
    assert_eq!(server.metric("changelogd_following_streams").await, 0);
}

/// The changes of a watch that is not read, more than any buffer holds. Another watch gets them.
/// Covers S17, C71.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_whose_changes_are_not_taken_is_reset_and_delays_no_other() {
    let server = server().await;
    let watch = v1::WatchRequest { workspace_id: "ws".to_owned(), ..Default::default() };
    let (_sender, _connection, stalled) = asked(&server.api, "Watch", &watch, 65_535).await;
    let mut taken = Watching::start(&server, watch).await;
    taken.synced().await;
    for n in 0..20 {
        server.set(&format!("ws/t/{n}"), &format!("\"{}\"", "x".repeat(500_000))).await;
        taken.until(|entry| entry.key == format!("ws/t/{n}")).await;
    }
    until_reset(&server, "Watch", 1).await;
    let body = tokio::time::timeout(PATIENCE, stalled.into_body().collect()).await.expect("it ends");
    assert!(body.is_err(), "the client is told");
    server.set("ws/t/last", "1").await;
    taken.until(|entry| entry.key == "ws/t/last").await;
    assert_eq!(server.metric("changelogd_following_streams").await, 1);
}

/// Covers S17.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_slowly_and_steadily_gets_the_whole_answer() {
    let server = server().await;
    server.set("ws/t/large", &format!("\"{}\"", "x".repeat(900_000))).await;
    let (_sender, _connection, response) = asked(&server.api, "Get", &get("ws/t/large"), 65_535).await;
    let (mut body, started, mut bytes) = (response.into_body(), Instant::now(), 0);
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.expect("it is not reset").into_data() {
            bytes += data.len();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!(bytes > 900_000 && started.elapsed() > Duration::from_secs(2), "{bytes} in {:?}", started.elapsed());
}

/// A window without a limit, and a socket that is not read: the answers are in buffers, and their calls have ended.
/// Covers S17.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_socket_is_not_read_is_closed() {
    let server = server().await;
    server.set("ws/t/large", &format!("\"{}\"", "x".repeat(300_000))).await;
    let mut connection = TcpStream::connect(&server.api).await.unwrap();
    let largest = 0x7fff_ffff_u32;
    let settings = [&4_u16.to_be_bytes()[..], &largest.to_be_bytes()].concat();
    let window = (largest - 65_535).to_be_bytes();
    connection
        .write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &settings), &frame(WINDOW_UPDATE, 0, 0, &window)].concat())
        .await
        .unwrap();
    for call in 0..100 {
        let stream = 2 * call + 1;
        let head = frame(HEADERS, END_HEADERS, stream, &head_of("Get"));
        let data = frame(DATA, END_STREAM, stream, &framed(&get("ws/t/large")));
        connection.write_all(&[head, data].concat()).await.unwrap();
    }
    let started = Instant::now();
    while server.metric("changelogd_connections_ended_total{port=\"api\",reason=\"not_reading\"}").await < 1 {
        assert!(started.elapsed() < PATIENCE, "it is closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    server.set("ws/t/a", "1").await;
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
