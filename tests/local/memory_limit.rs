//! The memory limit: requests from their announced length, answers until they are taken, lists, and queues of writes.

use std::{
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use bytes::Bytes;
use changelogd::proto::v1;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{process::Command, sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    bounds::peak_kib,
    contract::server::{PATIENCE, TestServer, binary, field, raw, reason},
    servers::MockKafka,
};

const MIB: i64 = 1024 * 1024;
const LIMIT: i64 = 96 * MIB;

type Body = BoxBody<Bytes, std::convert::Infallible>;

async fn server(more: &[&str]) -> TestServer {
    let mut arguments = vec!["--store=memory".to_owned(), format!("--memory-limit={LIMIT}")];
    arguments.extend(more.iter().map(|a| (*a).to_owned()));
    TestServer::process(arguments).await.ready().await
}

async fn connection(api: &str, window: Option<u32>) -> SendRequest<Body> {
    let stream = tokio::net::TcpStream::connect(api).await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    if let Some(window) = window {
        builder.initial_stream_window_size(window);
    }
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(api: &str, rpc: &str, body: Body) -> http::Request<Body> {
    http::Request::post(format!("http://{api}/changelog.v1.ChangelogService/{rpc}"))
        .header("content-type", "application/grpc")
        .header("grpc-encoding", "gzip")
        .header("te", "trailers")
        .body(body)
        .unwrap()
}

fn framed(message: &impl Message) -> Bytes {
    let encoded = message.encode_to_vec();
    [&[0][..], &u32::try_from(encoded.len()).unwrap().to_be_bytes(), &encoded].concat().into()
}

fn peak_memory(pid: u32) -> u64 {
    peak_kib(pid) * 1024
}

async fn used(server: &TestServer, part: &str) -> i64 {
    server.metric(&format!("changelogd_memory_bytes{{part=\"{part}\"}}")).await
}

async fn limit(server: &TestServer, part: &str) -> i64 {
    server.metric(&format!("changelogd_memory_limit_bytes{{part=\"{part}\"}}")).await
}

async fn until(server: &TestServer, part: &str, reached: impl Fn(i64) -> bool) {
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

/// The status of an answer, once it has ended.
async fn status_of(response: http::Response<hyper::body::Incoming>) -> Status {
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let collected = response.into_body().collect().await;
    let trailers = collected.ok().and_then(|body| body.trailers().cloned()).unwrap_or_default();
    Status::from_header_map(&trailers).unwrap_or_else(|| Status::unknown("it was cut"))
}

fn assert_no_room(status: &Status) {
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
        ("LoadWorkspace", 1, 10, 0),
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
        let message = if compressed == 1 { 6_065_536 } else { i64::from(announced) };
        // A stream may leave some bytes unread.
        let unread = if rpc == "Write" { 256 * 1024 } else { 0 };
        let each = message + unread;
        let fit = (room - 4 * MIB) / each;
        assert!(fit > 0 && (fit as usize) < CONNECTIONS * CALLS, "{rpc}: {fit}");
        for _ in 0..CONNECTIONS * CALLS - fit as usize {
            let status = tokio::time::timeout(PATIENCE, calls.join_next()).await.expect("refused in time");
            assert_no_room(&status.unwrap().unwrap());
        }
        assert_eq!(used(&server, "requests").await, fit * each, "{rpc}");
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

/// A memory control group of 256 MiB, version 1 or 2. `None` if none can be made.
struct ControlGroup(PathBuf);

impl ControlGroup {
    fn new(bytes: i64) -> Option<Self> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
            let (root, file) = match controllers {
                "" => ("/sys/fs/cgroup", "memory.max"),
                some if some.split(',').any(|c| c == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
                _ => continue,
            };
            let group = PathBuf::from(root).join(path).join(format!("changelogd-test-{}", std::process::id()));
            if std::fs::create_dir(&group).is_ok() {
                let made = Self(group);
                if made.0.join(file).exists() && std::fs::write(made.0.join(file), bytes.to_string()).is_ok() {
                    return Some(made);
                }
            }
        }
        None
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Brokers that do not answer, in a container of 256 MiB. Where no control group can be made, the peak is compared.
/// Covers S19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_of_writes_fill_up_and_the_process_is_not_killed() {
    const CONTAINER: i64 = 256 * MIB;
    let kafka = MockKafka::start(10);
    let group = ControlGroup::new(CONTAINER);
    let mut arguments = kafka.arguments(10);
    arguments.push("--write-timeout=300s".to_owned());
    let mut server = match &group {
        Some(ControlGroup(path)) => {
            println!("in the control group {}", path.display());
            let mut shell = Command::new("sh");
            let script = format!("echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"", path.display());
            shell.arg("-c").arg(script).arg(binary()).stdin(Stdio::null());
            TestServer::spawn(shell, arguments).await
        }
        None => {
            println!("no control group can be made here: the peak is compared with {CONTAINER} bytes");
            arguments.push(format!("--memory-limit={}", CONTAINER / 10 * 6));
            TestServer::process(arguments).await
        }
    }
    .ready()
    .await;
    let room = limit(&server, "queues").await;
    assert!(room < CONTAINER / 4, "the limit is that of the group: {room}");
    server.set("ws/t/first", "1").await;
    for bytes in [1, 100, 1_000, 900_000] {
        kafka.switch(false);
        let (mut accepted, mut full) = (0, 0);
        let mut calls = JoinSet::new();
        for n in 0..60_000 {
            if full > 500 {
                break;
            }
            let request = v1::SetRequest {
                changelog_id: format!("w{n}/t/{bytes}-{n}"),
                value: raw(&"1".repeat(bytes)),
                ack: v1::Ack::Buffered.into(),
                ..Default::default()
            };
            let mut client = server.client.clone();
            calls.spawn(async move { client.set(request).await });
            if calls.len() >= 32 {
                match calls.join_next().await.unwrap().unwrap() {
                    Ok(_) => accepted += 1,
                    Err(status) => {
                        assert_eq!(reason(&status), "PRODUCER_QUEUE_FULL", "{status:?}");
                        full += 1;
                    }
                }
            }
        }
        while let Some(answer) = calls.join_next().await {
            accepted += i64::from(answer.unwrap().is_ok());
        }
        assert!(full > 0 && accepted > 10, "{bytes}: {accepted} accepted, {full} refused");
        let queued = used(&server, "queues").await;
        assert!(queued <= room && queued > room / 2, "{bytes}: {queued} of {room}");
        kafka.switch(true);
        let started = Instant::now();
        loop {
            let request = v1::FlushRequest { timeout_ms: 20_000, ..Default::default() };
            let flushed = server.client.clone().flush(request).await.unwrap().into_inner();
            assert!(flushed.failures.is_empty(), "{bytes}: {:?}", flushed.failures[0]);
            if flushed.remaining == 0 {
                break;
            }
            assert!(started.elapsed() < 2 * PATIENCE, "{bytes}: {flushed:?}");
        }
        println!("{bytes}: {accepted} accepted, peak {} MiB", peak_memory(server.pid()) / MIB as u64);
    }
    let peak = peak_memory(server.pid());
    assert!(peak < CONTAINER as u64, "{peak}");
    server.stop().await;
}
