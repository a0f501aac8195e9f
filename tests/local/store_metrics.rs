//! The metrics of a process and of its store move: readiness, the Kafka clients, the files of the embedded store.

use std::{
    fs,
    time::{Duration, Instant},
};

use changelogd::proto::v1;
use tempfile::TempDir;

use crate::{
    container::in_container,
    contract::{
        moving::{Before, Scrape},
        server::{PATIENCE, TestServer, connect, directory, raw, reason},
        unread_stderr::UnreadServer,
    },
    memory_limit::MIB,
    metrics::kafka,
    servers,
};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/changelog-kafka/tests/fixtures/tls");

fn set(key: &str, value: &str) -> v1::SetRequest {
    v1::SetRequest { changelog_id: key.to_owned(), value: raw(value), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_their_round_trips_and_the_partitions_are_shown() {
    let (_kafka, server) = kafka(300, &[]).await;
    let other = servers::memory().await.ready().await;
    let without = Before::of_other(&other, &server).await;
    server.set("ws/t/a", "1").await;
    without.moves("changelogd_kafka_brokers").await;
    without.moves("changelogd_kafka_brokers_up").await;
    without.moves("changelogd_kafka_round_trips_total").await;
    without.moves("changelogd_kafka_round_trip_seconds_total").await;
    without.moves("changelogd_kafka_round_trip_p99_seconds").await;
    without.moves("changelogd_kafka_producer_queue_messages_limit").await;
    without.moves("changelogd_kafka_producer_queue_limit_bytes").await;
    without.moves("changelogd_write_queue_writes_limit").await;
    without.moves("changelogd_write_queue_limit_bytes").await;
    without.moves("changelogd_kafka_partitions").await;
    without.moves("changelogd_kafka_partitions_without_series").await;
    assert!((Scrape::of(&server.admin).await.sum("changelogd_kafka_partitions_without_series") - 44.0).abs() < 1e-9);
    without.moves_or_begins("changelogd_kafka_partition_end_offset").await;
    let before = Before::of(&server).await;
    // One that has a series: each of a hundred workspaces would have to be in another partition.
    for i in 0..20 {
        server.set(&format!("w{i}/t/a"), "1").await;
    }
    before.moves("changelogd_kafka_partition_end_offset").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_broker_is_why_the_process_is_not_ready_and_fills_the_queue() {
    let (kafka, server) = kafka(
        1,
        &[
            "--kafka-property=socket.timeout.ms=2000",
            "--kafka-property=topic.metadata.refresh.interval.ms=500",
            "--write-timeout=60s",
        ],
    )
    .await;
    server.set("ws/t/a", "1").await;
    let before = Before::of(&server).await;
    before.until("a connection", |now| now.sum("changelogd_kafka_brokers_up") >= 1.0).await;
    // It takes requests and does not answer, so these time out and are sent again.
    kafka.pause(true);
    let writes: Vec<_> = (0..20)
        .map(|i| {
            let mut client = server.client.clone();
            tokio::spawn(async move { client.set(set(&format!("ws/t/{i}"), "12")).await.map(drop) })
        })
        .collect();
    before.moves("changelogd_write_queue_writes").await;
    before.moves("changelogd_write_queue_bytes").await;
    before.moves("changelogd_write_queue_fullest_ratio").await;
    before.moves("changelogd_kafka_producer_queue_messages").await;
    before.moves("changelogd_kafka_producer_queue_bytes").await;
    before.moves("changelogd_ready").await;
    before.moves("changelogd_topic_state").await;
    let now = Scrape::of(&server.admin).await;
    let state = "changelogd_topic_state{state=\"unreachable\",reason=\"BROKERS_UNREACHABLE\"}";
    assert!((now.value(state) - 1.0).abs() < 1e-9 && (now.sum("changelogd_topic_state") - 1.0).abs() < 1e-9);
    before.moves("changelogd_kafka_request_timeouts_total").await;
    before.moves("changelogd_kafka_request_retries_total").await;
    kafka.pause(false);
    for write in writes {
        write.await.unwrap().unwrap();
    }
}

/// A write is refused by the queue of its own producer, so the sum of all queues may be far from its limit.
/// Covers C83.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_of_a_busy_workspace_is_shown_as_full_while_the_others_are_empty() {
    let (kafka, mut server) = kafka(1, &["--producers=4", "--memory-limit=67108864", "--write-timeout=60s"]).await;
    server.set("ws/t/a", "1").await;
    kafka.pause(true);
    let value = format!("\"{}\"", "x".repeat(100_000));
    let refused = loop {
        let write = v1::SetRequest { ack: v1::Ack::Buffered.into(), ..set("ws/t/a", &value) };
        if let Err(status) = server.client.set(write).await {
            break status;
        }
    };
    assert_eq!(reason(&refused), "PRODUCER_QUEUE_FULL");
    let now = Scrape::of(&server.admin).await;
    let (fullest, bytes) = ("changelogd_write_queue_fullest_ratio", "changelogd_write_queue_bytes");
    assert!((0.9..=1.0).contains(&now.value(fullest)), "{}", now.value(fullest));
    assert!(now.value(bytes) / now.value("changelogd_write_queue_limit_bytes") < 0.3);
    kafka.pause(false);
    Before::of(&server).await.until("it is empty again", |now| now.value(fullest) < 0.01).await;
}

/// Covers C83.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_there_before_a_broker_answers() {
    let brokers = ["--brokers=127.0.0.1:1", "--topic=t"].map(str::to_owned);
    let server = TestServer::process(brokers.to_vec()).await;
    let now = Scrape::of(&server.admin).await;
    for limit in ["write_queue_limit_bytes", "write_queue_writes_limit", "kafka_producer_queue_limit_bytes"] {
        assert!(now.value(&format!("changelogd_{limit}")) > 0.0, "{limit}");
    }
    assert!(now.value("changelogd_kafka_producer_queue_messages_limit") > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loads_that_share_a_replay_are_counted() {
    let (_kafka, server) = kafka(1, &[]).await;
    let before = Before::of(&server).await;
    let started = Instant::now();
    let mut shared = 0.0;
    while shared < 1.0 {
        assert!(started.elapsed() < PATIENCE, "loads share a replay");
        let loads = (0..8).map(|_| server.load("ws"));
        futures_util::future::join_all(loads).await;
        shared = Scrape::of(&server.admin).await.sum("changelogd_loads_coalesced_total");
    }
    before.moves("changelogd_loads_coalesced_total").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_tokens_and_replaced_settings_are_shown() {
    let (_kafka, other) = kafka(1, &[]).await;
    let directory = TempDir::new().unwrap();
    let (properties, token) = (directory.path().join("properties"), directory.path().join("token"));
    let tls = format!(
        "ssl.ca.location={FIXTURES}/certificate.pem\nssl.certificate.location={FIXTURES}/certificate.pem\n\
         ssl.key.location={FIXTURES}/key.pem\n"
    );
    // No broker reads them without TLS, so the mock cluster takes them.
    fs::write(&properties, &tls).unwrap();
    let flag = format!("--kafka-properties-file={}", properties.display());
    let (_kafka, server) = kafka(1, &[&flag]).await;
    Before::of_other(&other, &server).await.moves("changelogd_kafka_certificate_expiration_timestamp_seconds").await;
    let expires = Scrape::of(&server.admin).await.sum("changelogd_kafka_certificate_expiration_timestamp_seconds");
    assert!(expires.is_finite() && expires > 2.0 * 1.7e9, "{expires}");
    let before = Before::of(&server).await;
    fs::write(&properties, format!("{tls}client.id=another\n")).unwrap();
    before.moves("changelogd_kafka_settings_replaced_total").await;

    fs::write(&token, "no token at all\n").unwrap();
    let sasl = ["security.protocol=sasl_plaintext", "sasl.mechanism=OAUTHBEARER"];
    let flags = sasl.map(|property| format!("--kafka-property={property}"));
    let arguments = flags.into_iter().chain([
        "--brokers=127.0.0.1:1".to_owned(),
        "--topic=t".to_owned(),
        format!("--kafka-oauth-token-file={}", token.display()),
    ]);
    let server = TestServer::in_process(arguments.collect()).await;
    let without = Before::of_other(&other, &server).await;
    without.moves("changelogd_kafka_token_requests_total").await;
    without.moves("changelogd_kafka_token_failures_total").await;
}

/// Covers C83.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_the_embedded_store_are_measured() {
    let (_keep, path) = directory();
    let data = format!("--data-dir={}", path.display());
    let server = TestServer::process(vec![data, "--data-limit=536870912".to_owned()]).await.ready().await;
    let other = servers::memory().await.ready().await;
    let without = Before::of_other(&other, &server).await;
    without.moves("changelogd_store_limit_bytes").await;
    without.moves("changelogd_store_needed_bytes").await;
    without.moves("changelogd_store_filesystem_size_bytes").await;
    without.moves("changelogd_store_filesystem_free_bytes").await;
    without.moves("changelogd_store_state").await;
    let before = Before::of(&server).await;
    server.set("ws/t/a", &format!("\"{}\"", "x".repeat(500_000))).await;
    before.moves("changelogd_store_commit_seconds").await;
    before.moves("changelogd_store_bytes").await;
    let now = Scrape::of(&server.admin).await;
    assert!(now.value("changelogd_store_needed_bytes") > now.value("changelogd_store_bytes"));
    fs::rename(&path, path.with_extension("moved")).unwrap();
    let gone = "changelogd_store_state{state=\"gone\"}";
    before.until("the directory is gone", |now| (now.value(gone) - 1.0).abs() < 1e-9).await;
    before.until("the topic", |now| (now.sum("changelogd_topic_state") - 1.0).abs() < 1e-9).await;
    let state = "changelogd_topic_state{state=\"failed\",reason=\"STORE_GONE\"}";
    assert!((Scrape::of(&server.admin).await.value(state) - 1.0).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_linux_says_of_the_process_moves() {
    let arguments = || vec!["--store=memory".to_owned()];
    let server = TestServer::process(arguments()).await.ready().await;
    let before = Before::of(&server).await;
    let mut clients = Vec::new();
    for i in 0..20 {
        server.set(&format!("ws/t/{i}"), &format!("\"{}\"", "x".repeat(200_000))).await;
        clients.push(connect(&server.api).await);
    }
    before.moves("process_cpu_seconds_total").await;
    before.moves("process_resident_memory_bytes").await;
    before.moves("process_virtual_memory_bytes").await;
    before.moves("process_open_fds").await;
    // Its blocking threads end after a while, and those that write logs stay.
    let other = TestServer::process_with_open_files(900, vec![format!("--data-dir={}", directory().1.display())]).await;
    let differs = Before::of_other(&other, &server).await;
    differs.moves("process_threads").await;
    differs.moves("process_max_fds").await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let later = TestServer::process(arguments()).await;
    Before::of_other(&later, &server).await.moves("process_start_time_seconds").await;
}

/// The resident memory of the process is compared with it. A later change has no effect on what the process takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_limit_of_the_container_is_that_of_the_start() {
    const CONTAINER: i64 = 256 * MIB;
    let limit = "changelogd_memory_container_limit_bytes";
    let (mut inside, group) = in_container(CONTAINER, vec!["--store=memory".to_owned()]).await;
    let Some(group) = group else { return };
    let outside = TestServer::process(vec!["--store=memory".to_owned()]).await.ready().await;
    Before::of_other(&outside, &inside).await.moves("changelogd_memory_container_limit_bytes").await;
    assert!((Scrape::of(&inside.admin).await.value(limit) - CONTAINER as f64).abs() < 1e-9);
    assert!(group.set(&(2 * CONTAINER).to_string()));
    assert!((Scrape::of(&inside.admin).await.value(limit) - CONTAINER as f64).abs() < 1e-9);
    inside.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_is_shown_from_the_signal_on() {
    let arguments = vec!["--store=memory".to_owned(), "--drain-delay=20s".to_owned()];
    let server = TestServer::process(arguments).await.ready().await;
    let before = Before::of(&server).await;
    server.signal("TERM");
    before.moves("changelogd_draining").await;
    before.moves("changelogd_ready").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_stderr_does_not_take_are_counted() {
    let server = UnreadServer::start().await;
    let (admin, api) = (&*server.admin, &*server.api);
    let before = Before::at(admin).await;
    let client = connect(api).await;
    let started = Instant::now();
    while Scrape::of(admin).await.sum("changelogd_log_lines_lost_total") < 1.0 {
        assert!(started.elapsed() < PATIENCE, "the pipe is full");
        for i in 0..200 {
            client.clone().set(set(&format!("ws/t/{i}"), "1")).await.unwrap();
        }
    }
    before.moves("changelogd_log_lines_lost_total").await;
}
