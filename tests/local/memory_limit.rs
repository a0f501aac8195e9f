//! The memory limit: requests from their announced length, answers until they are taken, and lists.

use std::time::{Duration, Instant};

use bytes::Bytes;
use changelogd::proto::v1;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    bounds::{grown_kib, peak_kib},
    contract::server::{PATIENCE, TestServer, field, reason},
    http2,
};

pub const MIB: i64 = 1024 * 1024;
const LIMIT: i64 = 100 * MIB;

pub type Body = BoxBody<Bytes, std::convert::Infallible>;

pub async fn server(more: &[&str]) -> TestServer {
    let mut arguments = vec!["--store=memory".to_owned(), format!("--memory-limit={LIMIT}")];
    arguments.extend(more.iter().map(|a| (*a).to_owned()));
    TestServer::process(arguments).await.ready().await
}

pub async fn connection(api: &str, window: Option<u32>) -> SendRequest<Body> {
    connection_and_socket(api, window).await.0
}

/// As [`connection`], with its socket, because dropping a call does not end one whose request is still being sent.
pub async fn connection_and_socket(api: &str, window: Option<u32>) -> (SendRequest<Body>, std::net::TcpStream) {
    let socket = tokio::net::TcpStream::connect(api).await.unwrap().into_std().unwrap();
    let stream = tokio::net::TcpStream::from_std(socket.try_clone().unwrap()).unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    if let Some(window) = window {
        builder.initial_stream_window_size(window);
    }
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    (sender, socket)
}

pub fn request(api: &str, rpc: &str, body: Body) -> http::Request<Body> {
    http::Request::post(format!("http://{api}/changelog.v1.ChangelogService/{rpc}"))
        .header("content-type", "application/grpc")
        .header("grpc-encoding", "gzip")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

pub fn framed(message: &impl Message) -> Bytes {
    http2::framed(message).into()
}

pub fn peak_memory(pid: u32) -> u64 {
    peak_kib(pid) * 1024
}

pub fn grown_memory(pid: u32, before: u64) -> u64 {
    grown_kib(pid, before / 1024) * 1024
}

pub async fn used(server: &TestServer, part: &str) -> i64 {
    server.metric(&format!("changelogd_memory_bytes{{part=\"{part}\"}}")).await
}

pub async fn limit(server: &TestServer, part: &str) -> i64 {
    server.metric(&format!("changelogd_memory_limit_bytes{{part=\"{part}\"}}")).await
}

pub async fn until(server: &TestServer, part: &str, reached: impl Fn(i64) -> bool) {
    let started = Instant::now();
    loop {
        let bytes = used(server, part).await;
        if reached(bytes) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{part}: {bytes}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a call counts besides its message, with three entries of metadata.
pub const CALL: i64 = 8 * 1024 + 3 * 128;

/// The status of an answer, once it has ended.
pub async fn status_of(response: http::Response<hyper::body::Incoming>) -> Status {
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let collected = response.into_body().collect().await;
    let trailers = collected.ok().and_then(|body| body.trailers().cloned()).unwrap_or_default();
    Status::from_header_map(&trailers).unwrap_or_else(|| Status::unknown("it was cut"))
}

pub fn assert_no_room(status: &Status) {
    assert_eq!((status.code(), &*reason(status)), (Code::ResourceExhausted, "MEMORY_LIMIT"), "{status:?}");
    assert!(status.get_error_details().retry_info().is_some_and(|r| r.retry_delay.is_some()), "{status:?}");
}

/// Calls whose messages do not arrive completely.
/// Covers S19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_count_from_their_announced_length_and_those_without_room_are_refused() {
    const CONNECTIONS: usize = 2;
    const CALLS: usize = 100;
    let server = server(&[]).await;
    let room = limit(&server, "requests").await;
    let before = peak_memory(server.pid());
    for (rpc, compressed, announced, sent) in [
        ("Write", 0, 4_194_300_u32, 4_194_290),
        ("Set", 0, 4_194_300, 4_194_290),
        ("Write", 1, 100_000, 99_990),
        ("StreamAll", 0, 6_000_000, 5),
        ("LoadWorkspace", 1, 7_000, 0),
        ("Get", 0, 200_000, 199_999),
    ] {
        let mut calls = JoinSet::new();
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            let sender = connection(&server.api, None).await;
            for _ in 0..CALLS {
                let (chunks, body) = mpsc::channel::<Result<http_body::Frame<Bytes>, std::convert::Infallible>>(1);
                let mut sender = sender.clone();
                let request = request(&server.api, rpc, StreamBody::new(ReceiverStream::new(body)).boxed());
                calls.spawn(async move {
                    sender.ready().await.unwrap();
                    status_of(sender.send_request(request).await.unwrap()).await
                });
                let held_open = chunks.clone();
                tokio::spawn(async move {
                    let prefix = [&[compressed][..], &announced.to_be_bytes()].concat();
                    let mut chunk = Bytes::from(prefix);
                    let mut left: usize = sent;
                    while chunks.send(Ok(http_body::Frame::data(chunk))).await.is_ok() && left > 0 {
                        chunk = Bytes::from(vec![0; left.min(64 * 1024)]);
                        left -= chunk.len();
                    }
                });
                held.push(held_open);
            }
        }
        // Those that fit wait for the rest of their message.
        let message = i64::from(announced) + if compressed == 1 { 6_065_536 } else { 0 };
        // A stream may leave some bytes unread.
        let unread = if rpc == "Write" { 256 * 1024 } else { 0 };
        let each = message + unread;
        let fit = (room - 4 * MIB) / (each + CALL);
        assert!(fit > 0 && (fit as usize) < CONNECTIONS * CALLS, "{rpc}: {fit}");
        let started = Instant::now();
        loop {
            while let Some(status) = calls.try_join_next() {
                assert_no_room(&status.unwrap());
            }
            let open = calls.len() as i64;
            if open <= fit && open >= fit - 1 && used(&server, "requests").await == open * (each + CALL) {
                break;
            }
            let used = used(&server, "requests").await;
            assert!(started.elapsed() < PATIENCE, "{rpc}: {open} open with {used} bytes, {fit} of {each} have room");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Small calls have a reserve.
        server.set("ws/t/a", "1").await;
        server.get("ws/t/a").await.unwrap();
        calls.abort_all();
        while calls.join_next().await.is_some() {}
        drop(held);
        until(&server, "requests", |bytes| bytes == 0).await;
    }
    let peak = peak_memory(server.pid());
    assert!(peak < before + LIMIT as u64, "{before} to {peak}");
}

/// Answers on connections without a window, so that the client takes nothing.
/// Covers S19, S17.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_not_taken_count_and_those_without_room_are_refused() {
    let server = server(&["--client-stall-timeout=60s", "--max-replays=64"]).await;
    let value = format!("[{}]", "1,".repeat(440_000) + "1");
    server.set("ws/t/large", &value).await;
    server.set("small/t/a", "1").await;
    let room = limit(&server, "answers").await;
    let before = peak_memory(server.pid());
    let key = "ws/t/large".to_owned();
    let get = v1::GetRequest { changelog_id: key, ..Default::default() };
    let load = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
    let follow = v1::StreamAllRequest { workspace_ids: vec!["ws".to_owned()], follow: true, ..Default::default() };
    let stream = v1::StreamAllRequest { workspace_ids: vec!["ws".to_owned()], ..Default::default() };
    let short = v1::GetRequest { changelog_id: "ws/t/large".to_owned(), ..Default::default() };
    // Unary answers do not wait for room.
    for message in [framed(&get), framed(&v1::GetRequest { value_format: v1::ValueFormat::Json.into(), ..short })] {
        let (mut senders, mut open, mut refused) = (Vec::new(), Vec::new(), 0);
        while refused < 5 {
            let mut sender = connection(&server.api, Some(0)).await;
            for _ in 0..20 {
                let request = request(&server.api, "Get", Full::new(message.clone()).boxed());
                let response = sender.send_request(request).await.unwrap();
                match Status::from_header_map(response.headers()) {
                    None => open.push(response),
                    Some(status) => {
                        assert_no_room(&status);
                        refused += 1;
                    }
                }
            }
            senders.push(sender);
        }
        let bytes = used(&server, "answers").await;
        assert!(bytes <= room && bytes > room / 2, "{bytes} of {room}, {} open", open.len());
        server.get("small/t/a").await.unwrap();
        drop((open, senders));
        until(&server, "answers", |bytes| bytes == 0).await;
    }
    for (rpc, message) in
        [("LoadWorkspace", framed(&load)), ("StreamAll", framed(&stream)), ("StreamAll", framed(&follow))]
    {
        let mut calls = JoinSet::new();
        for _ in 0..3 {
            let sender = connection(&server.api, Some(0)).await;
            for _ in 0..20 {
                let (mut sender, body) = (sender.clone(), Full::new(message.clone()).boxed());
                let request = request(&server.api, rpc, body);
                calls.spawn(async move { status_of(sender.send_request(request).await.unwrap()).await });
            }
        }
        until(&server, "answers", |bytes| bytes > 5 * MIB).await;
        let bytes = used(&server, "answers").await;
        assert!(bytes <= room, "{rpc}: {bytes} of {room}");
        calls.abort_all();
        while calls.join_next().await.is_some() {}
        until(&server, "answers", |bytes| bytes == 0).await;
    }
    server.get("small/t/a").await.unwrap();
    let peak = peak_memory(server.pid());
    assert!(peak < before + LIMIT as u64, "{before} to {peak}");
}

/// Covers S19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_of_requests_are_limited_and_what_streams_keep_of_them_counts() {
    let server = server(&[]).await;
    let mut client = server.client.clone();
    let many = |n: usize| (0..n).map(|i| format!("w{i}")).collect::<Vec<_>>();
    let stream = |f: &dyn Fn(&mut v1::StreamAllRequest)| {
        let mut request = v1::StreamAllRequest::default();
        f(&mut request);
        request
    };
    for (name, request) in [
        ("workspace_ids", stream(&|r| r.workspace_ids = many(10_001))),
        ("entity_types", stream(&|r| r.entity_types = many(10_001))),
        ("partitions", stream(&|r| r.partitions = vec![1; 10_001])),
        ("workspace_ids", stream(&|r| r.workspace_ids = vec!["w".to_owned(); 200_000])),
    ] {
        let status = client.stream_all(request).await.unwrap_err();
        assert_eq!((status.code(), field(&status).as_str()), (Code::InvalidArgument, name), "{status:?}");
        assert!(status.message().contains("10000"), "{status:?}");
    }
    let request =
        v1::LoadWorkspaceRequest { workspace_id: "w".to_owned(), entity_types: many(10_001), ..Default::default() };
    let status = client.load_workspace(request).await.unwrap_err();
    assert_eq!((status.code(), field(&status).as_str()), (Code::InvalidArgument, "entity_types"), "{status:?}");
    server.stream(stream(&|r| r.workspace_ids = many(10_000))).await.unwrap();

    let before = peak_memory(server.pid());
    let long = |i: usize| (0..10_000).map(|n| format!("{i:0>100}{n:0>155}")).collect::<Vec<_>>();
    let (mut open, mut refused) = (Vec::new(), 0);
    for i in 0..40 {
        let request = v1::StreamAllRequest { workspace_ids: long(i), follow: true, ..Default::default() };
        let mut client = server.client.clone();
        match client.stream_all(request).await {
            Ok(stream) => open.push(stream),
            Err(status) => {
                assert_no_room(&status);
                refused += 1;
            }
        }
    }
    let (bytes, room) = (used(&server, "lists").await, limit(&server, "lists").await);
    assert!(refused > 0 && !open.is_empty() && bytes <= room && bytes > 0, "{refused} refused, {bytes} of {room}");
    let peak = peak_memory(server.pid());
    assert!(peak < before + LIMIT as u64, "{before} to {peak}");
    drop(open);
    until(&server, "lists", |bytes| bytes == 0).await;
}

/// Lists whose entries have two bytes each, which take a hundred in memory.
/// Covers S19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_that_are_far_too_long_are_refused_before_they_are_decoded() {
    let server = server(&[]).await;
    let before = peak_memory(server.pid());
    let repeated = |entry: &[u8]| http2::framed_bytes(&entry.repeat(2_900_000 / entry.len() * 2));
    let nested = {
        // One mutation with many headers.
        let headers = [0x3a, 0].repeat(2_900_000);
        let mut encoded = vec![0x0a];
        prost::encoding::encode_varint(headers.len() as u64, &mut encoded);
        encoded.extend(headers);
        http2::framed_bytes(&encoded)
    };
    for (rpc, message) in [
        ("Write", repeated(&[0x0a, 0])),
        ("Write", nested),
        ("Set", repeated(&[0x2a, 0])),
        ("Delete", repeated(&[0x1a, 0])),
        ("StreamAll", repeated(&[0x12, 0])),
        ("StreamAll", repeated(&[0x08, 0])),
        ("StreamAll", repeated(&[0x1a, 1, b'a'])),
        ("LoadWorkspace", repeated(&[0x12, 0])),
    ] {
        for _ in 0..4 {
            let mut sender = connection(&server.api, None).await;
            let mut request = request(&server.api, rpc, Full::new(Bytes::from(message.clone())).boxed());
            request.headers_mut().remove("grpc-encoding");
            let status = status_of(sender.send_request(request).await.unwrap()).await;
            assert_eq!(
                (status.code(), &*reason(&status)),
                (Code::InvalidArgument, "ARGUMENT_INVALID"),
                "{rpc}: {status:?}"
            );
            assert!(!field(&status).is_empty(), "{status:?}");
        }
    }
    let peak = peak_memory(server.pid());
    assert!(peak < before + 32 * MIB as u64, "{before} to {peak}");
}

/// Calls that have only a head, and calls of health and reflection, whose messages no limit of the API counts.
/// Covers S19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_any_kind_count_while_they_are_open() {
    const SET: &str = "/changelog.v1.ChangelogService/Set";
    const CHECK: &str = "/grpc.health.v1.Health/Check";
    const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    const CALLS: i64 = 2_000;
    let health_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let server = server(&[&format!("--health-listen={health_port}")]).await;
    let before = peak_memory(server.pid());
    for (address, path, announced, part) in [
        (&server.api, SET, 0, Some("requests")),
        (&server.api, CHECK, 10_000_u32, Some("probes")),
        (&server.api, REFLECTION, 10_000, Some("probes")),
        // More than a call of health or reflection may have, so none waits for it.
        (&server.api, CHECK, 4_000_000, None),
        (&server.api, REFLECTION, 4_000_000, None),
        // The health port counts no calls: it takes few connections, with few calls each.
        (&health_port, CHECK, 10_000, None),
        (&health_port, CHECK, 4_000_000, None),
        (&server.api, CHECK, 0, Some("probes")),
    ] {
        // The health port takes small heads only.
        let entries = if *address == health_port { 20 } else { 200 };
        let (mut calls, mut bodies) = (JoinSet::new(), Vec::new());
        for _ in 0..20 {
            let sender = connection(address, None).await;
            for _ in 0..CALLS / 20 {
                let (chunks, body) = mpsc::channel::<Result<http_body::Frame<Bytes>, std::convert::Infallible>>(4);
                let mut request = http::Request::post(format!("http://{address}{path}"));
                for n in 0..entries {
                    request = request.header(format!("x-{n}"), "");
                }
                let request = request.header("content-type", "application/grpc").header("te", "trailers");
                let request = request.body(StreamBody::new(ReceiverStream::new(body)).boxed()).unwrap();
                let mut sender = sender.clone();
                calls.spawn(async move {
                    sender.ready().await.ok()?;
                    Some(status_of(sender.send_request(request).await.ok()?).await)
                });
                if announced > 0 {
                    let prefix = [&[0][..], &announced.to_be_bytes()].concat();
                    let _ = chunks.try_send(Ok(http_body::Frame::data(prefix.into())));
                    let begun = announced.min(60_000) as usize - 1;
                    let _ = chunks.try_send(Ok(http_body::Frame::data(vec![0; begun].into())));
                }
                bodies.push(chunks);
            }
        }
        if let Some(part) = part {
            // Those without room are answered, and the others wait for their messages.
            let each = 8 * 1024 + 128 * (entries + 2);
            let room = limit(&server, part).await;
            let (started, mut refused) = (Instant::now(), 0);
            loop {
                while let Some(status) = calls.try_join_next() {
                    assert_no_room(&status.unwrap().expect("an answer"));
                    refused += 1;
                }
                let (open, bytes) = (calls.len() as i64, used(&server, part).await);
                if refused > 0 && bytes == open * each && bytes > room - MIB {
                    break;
                }
                let seen = format!("{path}: {refused} refused, {open} open, {bytes} of {room}");
                assert!(bytes <= room && started.elapsed() < PATIENCE, "{seen}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        } else {
            tokio::time::timeout(Duration::from_millis(500), calls.join_next()).await.ok();
        }
        let peak = peak_memory(server.pid());
        assert!(peak < before + LIMIT as u64, "{path}: {before} to {peak}");
        calls.abort_all();
        while calls.join_next().await.is_some() {}
        drop(bodies);
        until(&server, "requests", |bytes| bytes == 0).await;
        until(&server, "probes", |bytes| bytes == 0).await;
    }
    server.set("ws/t/a", "1").await;
}
