//! The process in a container with little memory: it refuses calls, and is not killed.

use std::time::{Duration, Instant};

use changelogd::proto::v1;
use changelogd_testkit::skipped;
use http_body_util::{BodyExt, StreamBody};
use tokio::task::JoinSet;
use tonic::Code;

use crate::{
    contract::server::{PATIENCE, TestServer, directory, raw, reason},
    control_group::ControlGroup,
    memory_limit::{MIB, connection, framed, limit, peak_memory, request, status_of, used},
    mock_cluster::MockKafka,
};

/// The binary in a control group of so many bytes. Where none can be made, only the limit of the process is set.
pub async fn in_container(bytes: i64, mut arguments: Vec<String>) -> (TestServer, Option<ControlGroup>) {
    let group = ControlGroup::of_memory(bytes);
    let server = match &group {
        Some(group) => TestServer::spawn(group.command(), arguments).await,
        None => {
            skipped(&format!("no control group can be made, so only the peak is compared with {bytes} bytes"));
            arguments.push(format!("--memory-limit={}", bytes / 10 * 6));
            TestServer::process(arguments).await
        }
    };
    (server.ready().await, group)
}

/// Brokers that do not answer, in a container of 256 MiB. Where no control group can be made, the peak is compared.
/// Covers S19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_of_writes_fill_up_and_the_process_is_not_killed() {
    const CONTAINER: i64 = 256 * MIB;
    let kafka = MockKafka::start(10);
    let (mut server, _group) =
        in_container(CONTAINER, [kafka.arguments(10), vec!["--write-timeout=300s".to_owned()]].concat()).await;
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
                    // So many large requests may have no room themselves.
                    Err(status) if reason(&status) == "MEMORY_LIMIT" => {}
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

/// Streams of deletions, whose keys are in three places of the store. Clients that take verdicts, and clients
/// that do not.
/// Covers S19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_store_under_load_stays_within_its_container() {
    const CONTAINER: i64 = 256 * MIB;
    let (_keep, path) = directory();
    let arguments = vec![format!("--data-dir={}", path.display()), "--client-stall-timeout=60s".to_owned()];
    let (server, _group) = in_container(CONTAINER, arguments).await;
    for takes_verdicts in [true, false] {
        let mut streams = JoinSet::new();
        for stream in 0..10 {
            let messages = (0..200).map(move |message| {
                let mutation = |n: usize| v1::Mutation {
                    changelog_id: format!("w{stream}/t/{}-{message}-{n:0>150}", "k".repeat(50)),
                    change: Some(v1::mutation::Change::Deletion(v1::Deletion {})),
                    ..Default::default()
                };
                v1::WriteRequest { mutations: (0..250).map(mutation).collect() }
            });
            let window = if takes_verdicts { None } else { Some(0) };
            let api = server.api.clone();
            streams.spawn(async move {
                let frames = messages.map(|m| Ok(http_body::Frame::data(framed(&m))));
                let body = StreamBody::new(tokio_stream::iter(frames)).boxed();
                let mut sender = connection(&api, window).await;
                let mut request = request(&api, "Write", body);
                request.headers_mut().remove("grpc-encoding");
                let response = sender.send_request(request).await.unwrap();
                status_of(response).await
            });
        }
        let started = Instant::now();
        while !streams.is_empty() && (takes_verdicts || started.elapsed() < Duration::from_secs(5)) {
            let ended = tokio::time::timeout(Duration::from_secs(1), streams.join_next()).await;
            if let Ok(Some(status)) = ended {
                assert_eq!(status.unwrap().code(), Code::Ok);
            }
            assert!(started.elapsed() < 4 * PATIENCE, "{} streams are open", streams.len());
        }
        let peak = peak_memory(server.pid());
        println!("verdicts taken: {takes_verdicts}: peak {} MiB", peak / MIB as u64);
        assert!(peak < CONTAINER as u64, "{peak}");
    }
    // The streams have ended, and what they have queued is still being written.
    let started = Instant::now();
    loop {
        let request = v1::SetRequest { changelog_id: "ws/t/a".to_owned(), value: raw("1"), ..Default::default() };
        match server.client.clone().set(request).await {
            Ok(_) => break,
            // On a slow disk the write may also wait in the queue for longer than it may take.
            Err(status) => {
                assert!(matches!(&*reason(&status), "PRODUCER_QUEUE_FULL" | "OUTCOME_UNKNOWN"), "{status:?}");
            }
        }
        assert!(started.elapsed() < 2 * PATIENCE, "the queue is written");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
