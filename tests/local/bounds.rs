//! Bounds for many readers: permits and memory are limited for the process and for a peer. They are returned when a
//! client ends, vanishes, or reads nothing.

use std::time::{Duration, Instant};

use changelogd::proto::v1;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::contract::{
    server::{Client, PATIENCE, TestServer, connect, directory, raw, reason},
    watches,
    watching::Watching,
};

/// More than the buffers between a store and a client that reads nothing, which hold a few MiB.
const ENTRIES: usize = 160;
const VALUE: usize = 100_000;

async fn filled(server: &TestServer) {
    let value = format!("\"{}\"", "x".repeat(VALUE));
    for i in 0..ENTRIES {
        let request = v1::SetRequest {
            changelog_id: format!("ws/t/{i}"),
            value: raw(&value),
            ack: v1::Ack::Buffered.into(),
            ..Default::default()
        };
        server.client.clone().set(request).await.unwrap();
    }
    let flushed = server.client.clone().flush(v1::FlushRequest::default()).await.unwrap().into_inner();
    assert_eq!((flushed.remaining, flushed.failures.len()), (0, 0));
}

async fn embedded(more: &[&str]) -> TestServer {
    let (keep, path) = directory();
    let data = format!("--data-dir={}", path.display());
    let arguments = std::iter::once(&*data).chain(more.iter().copied()).map(str::to_owned).collect();
    let server = TestServer::in_process(arguments).await.ready().await.keeping(Box::new(keep));
    filled(&server).await;
    server
}

fn load_request() -> v1::LoadWorkspaceRequest {
    v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() }
}

async fn load(client: &mut Client) -> Result<usize, Status> {
    let mut stream = client.load_workspace(load_request()).await?.into_inner();
    let (mut entries, mut whole) = (0, false);
    while let Some(message) = stream.message().await? {
        match message.event.unwrap() {
            v1::load_workspace_response::Event::Batch(batch) => entries += batch.entries.len(),
            v1::load_workspace_response::Event::Snapshot(_) => whole = true,
        }
    }
    assert!(whole, "OK without a Snapshot");
    Ok(entries)
}

async fn stream_latest(client: &mut Client) -> Result<usize, Status> {
    let request = v1::StreamAllRequest { content: v1::Content::Latest.into(), ..Default::default() };
    let mut stream = client.stream_all(request).await?.into_inner();
    let (mut entries, mut snapshots) = (0, 0);
    while let Some(message) = stream.message().await? {
        match message.event.unwrap() {
            v1::stream_all_response::Event::Batch(batch) => entries += batch.entries.len(),
            v1::stream_all_response::Event::Snapshot(_) => snapshots += 1,
            v1::stream_all_response::Event::Bookmark(_) => panic!("a bookmark without follow"),
        }
    }
    assert_eq!(snapshots, 10, "OK without all Snapshots");
    Ok(entries)
}

/// A load that has begun and whose answer is not read.
async fn begun(client: &mut Client) -> Streaming<v1::LoadWorkspaceResponse> {
    let mut stream = client.load_workspace(load_request()).await.unwrap().into_inner();
    assert!(stream.message().await.unwrap().is_some());
    stream
}

fn is_refusal(status: &Status, reasons: &[&str]) {
    let found = reason(status);
    assert!(status.code() == Code::ResourceExhausted && reasons.contains(&&*found), "{status:?}");
    assert!(status.get_error_details().retry_info().is_some_and(|i| i.retry_delay.is_some()), "{status:?}");
}

/// Everything is returned within the promised time.
async fn given_back(server: &TestServer, within: Duration) {
    let started = Instant::now();
    loop {
        let held = (
            server.metric("changelogd_replays_running").await,
            server.metric("changelogd_memory_bytes{part=\"replays\"}").await,
            server.metric("changelogd_following_streams").await,
        );
        if held == (0, 0, 0) {
            return;
        }
        assert!(started.elapsed() < within, "still held: {held:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("Linux says it");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How far the peak has risen. Linux gives it inexactly (proc_pid_status(5)): it may also fall by a few pages.
pub fn grown_kib(pid: u32, before: u64) -> u64 {
    peak_kib(pid).saturating_sub(before)
}

/// Covers C57, R21, S4, K6, F25.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_readers_are_served_or_refused_in_bounded_memory() {
    const BUDGET_KIB: u64 = 64 * 1024;
    let (keep, path) = directory();
    let arguments = vec![
        format!("--data-dir={}", path.display()),
        format!("--replay-memory={}", BUDGET_KIB * 1024),
        "--max-replays=8".to_owned(),
        "--replay-queue-timeout=300ms".to_owned(),
    ];
    let server = TestServer::process(arguments).await.ready().await.keeping(Box::new(keep));
    filled(&server).await;
    // Call each once before, so that the cost of a first call is not measured.
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(connect(&server.api).await);
    }
    assert_eq!(load(&mut clients[0]).await.unwrap(), ENTRIES);
    assert_eq!(stream_latest(&mut clients[1]).await.unwrap(), ENTRIES);
    given_back(&server, PATIENCE).await;
    let before = peak_kib(server.pid());

    let mut calls = Vec::new();
    for i in 0..1000 {
        let mut client = clients[i % clients.len()].clone();
        calls.push(tokio::spawn(async move {
            if i % 2 == 0 { load(&mut client).await } else { stream_latest(&mut client).await }
        }));
    }
    let (mut served, mut refused) = (0, 0);
    for call in calls {
        match call.await.unwrap() {
            Ok(entries) => {
                assert_eq!(entries, ENTRIES);
                served += 1;
            }
            Err(status) => {
                is_refusal(&status, &["TOO_MANY_REPLAYS", "REPLAY_TOO_LARGE"]);
                refused += 1;
            }
        }
    }
    assert!(served > 0 && refused > 0, "{served} served, {refused} refused");
    let grown = grown_kib(server.pid(), before);
    // Not in the budget: answers that wait for the transport, a few batches of 64 KiB per replay, and the memory of the
    // allocator itself.
    assert!(grown < 2 * BUDGET_KIB, "{grown} KiB more at the peak, where replays may hold {BUDGET_KIB} KiB");

    given_back(&server, PATIENCE).await;
    for client in &mut clients {
        assert_eq!(load(client).await.unwrap(), ENTRIES, "fair afterwards");
    }
}

/// Covers C57, S4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_cannot_starve_others() {
    let server = embedded(&["--max-replays=4", "--replay-queue-timeout=5s"]).await;
    let mut greedy = connect(&server.api).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(begun(&mut greedy).await);
    }
    assert_eq!(server.metric("changelogd_replays_running").await, 3);
    let mut more = Vec::new();
    for _ in 0..60 {
        let mut greedy = greedy.clone();
        more.push(tokio::spawn(async move { load(&mut greedy).await }));
    }
    // While those wait for their own share, other clients do not wait behind them.
    for _ in 0..3 {
        let mut modest = connect(&server.api).await;
        assert_eq!(load(&mut modest).await.unwrap(), ENTRIES);
    }
    for call in more {
        let status = call.await.unwrap().unwrap_err();
        is_refusal(&status, &["TOO_MANY_REPLAYS"]);
        assert!(status.message().contains("--max-replays-per-client"), "{status:?}");
    }
    drop(held);
    assert_eq!(load(&mut greedy).await.unwrap(), ENTRIES, "its turn");
}

/// Covers C57, R21.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_does_not_fit_the_replay_memory_is_refused_by_name() {
    let server = embedded(&["--replay-memory=8388608", "--max-load-memory=1000000000"]).await;
    let status = load(&mut server.client.clone()).await.unwrap_err();
    is_refusal(&status, &["REPLAY_TOO_LARGE"]);
    assert!(status.message().contains("--replay-memory"), "{status:?}");
    given_back(&server, Duration::from_secs(2)).await;
}

/// Covers R24, F24.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permits_and_memory_are_returned_within_two_seconds_of_a_client_s_end() {
    let server = embedded(&[]).await;
    let mut client = connect(&server.api).await;
    let (first, second) = (begun(&mut client).await, begun(&mut client).await);
    let follow = v1::StreamAllRequest { follow: true, ..Default::default() };
    let follow = client.stream_all(follow).await.unwrap().into_inner();
    let started = Instant::now();
    while server.metric("changelogd_following_streams").await != 1 {
        assert!(started.elapsed() < PATIENCE, "it follows");
    }
    assert_eq!(server.metric("changelogd_replays_running").await, 3);
    assert!(server.metric("changelogd_memory_bytes{part=\"replays\"}").await > (2 * ENTRIES * VALUE) as i64);
    // A stream is cancelled.
    drop(first);
    let started = Instant::now();
    while server.metric("changelogd_replays_running").await != 2 {
        assert!(started.elapsed() < Duration::from_secs(2), "a cancelled stream gives its turn back");
    }
    // The connection ends, and with it the calls that are open on it.
    drop((second, follow, client));
    given_back(&server, Duration::from_secs(2)).await;
}

/// Covers S4, F24.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_reading_is_cut_and_its_permit_is_returned() {
    let server = embedded(&["--client-stall-timeout=300ms"]).await;
    let mut client = connect(&server.api).await;
    let mut stream = begun(&mut client).await;
    given_back(&server, PATIENCE).await;
    let status = loop {
        match stream.message().await {
            Ok(message) => assert!(message.is_some(), "what was cut does not pass for whole"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), &*reason(&status)), (Code::Cancelled, ""), "the stream is reset: {status:?}");
}

/// Covers C71.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_holds_a_place_of_the_streams_that_follow_until_it_ends() {
    let arguments = ["--store=memory", "--max-following-streams=1"].map(str::to_owned).to_vec();
    let server = TestServer::in_process(arguments).await.ready().await;
    server.set("ws/t/1", "1").await;
    let mut first = Watching::start(&server, watches::of("ws")).await;
    first.synced().await;
    let open = async || {
        let mut events = server.client.clone().watch(watches::of("other")).await?.into_inner();
        events.message().await
    };
    let refused = open().await.expect_err("no place is left");
    assert_eq!((refused.code(), &*reason(&refused)), (Code::ResourceExhausted, "TOO_MANY_FOLLOWS"), "{refused:?}");
    assert!(refused.get_details_retry_info().and_then(|info| info.retry_delay).is_some(), "{refused:?}");
    assert_eq!(load(&mut server.client.clone()).await.unwrap(), 1, "a load needs no place");
    server.set("ws/t/1", "2").await;
    assert_eq!(first.until(|_| true).await.len(), 1, "the first watch goes on");
    drop(first);
    let started = Instant::now();
    while let Err(refused) = open().await {
        assert_eq!(reason(&refused), "TOO_MANY_FOLLOWS");
        assert!(started.elapsed() < PATIENCE, "the place comes back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
