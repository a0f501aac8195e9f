//! Each metric is moved by the event that it is there for. Those that need a real broker are in `tests/broker`.

use std::{
    collections::BTreeSet,
    future::pending,
    sync::Arc,
    time::{Duration, SystemTime},
};

use changelog_core::{
    log::{Counts, MemoryLog, MoveCause, PartitionEnd, ReadError, Replay, ReplayEvent, WriteError},
    model::PartitionCount,
    testing::FakeLog,
};
use changelogd::proto::v1;
use futures_util::{StreamExt, stream};
use tokio::sync::oneshot;
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    contract::{
        moving::{Before, Scrape, families_moved_in},
        server::{TestServer, http_get, raw},
    },
    mock_cluster::MockKafka,
    servers,
};

/// The sources with the tests of metrics.
const TESTS: [&str; 3] =
    [include_str!("metrics.rs"), include_str!("store_metrics.rs"), include_str!("../broker/metrics.rs")];

/// Families that no event of a running process moves, and where something else is asserted of them.
const NOT_MOVED: [(&str, &str, &str); 2] = [
    // A constant of the binary: the next test.
    ("changelogd_build_info", "async fn the_build_is_named()", include_str!("metrics.rs")),
    // A fatal error of a producer is injected, because brokers make none on demand.
    (
        "changelogd_kafka_producers_replaced_total",
        "metrics.producers_replaced",
        include_str!("../../crates/changelog-kafka/src/tests.rs"),
    ),
];

/// Gauges of something without a limit, or whose limit has another name.
const WITHOUT_LIMIT: [&str; 26] = [
    // A state, a time, or what Linux says.
    "changelogd_build_info",
    "changelogd_draining",
    "changelogd_ready",
    "changelogd_store_state",
    "changelogd_topic_state",
    "changelogd_follower_lag_seconds",
    "changelogd_kafka_certificate_expiration_timestamp_seconds",
    "changelogd_kafka_partition_open_transaction_seconds",
    "changelogd_kafka_round_trip_p99_seconds",
    // A part of 1.
    "changelogd_write_queue_fullest_ratio",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
    // Each is limited by that of streams and connections.
    "changelogd_calls_in_flight",
    "changelogd_following_streams_lagging",
    "changelogd_replays_waiting",
    // Facts of the cluster.
    "changelogd_kafka_brokers",
    "changelogd_kafka_brokers_up",
    "changelogd_kafka_partition_end_offset",
    "changelogd_kafka_partition_low_offset",
    "changelogd_kafka_partitions",
    "changelogd_kafka_partitions_without_series",
    // Their limits are changelogd_store_limit_bytes, changelogd_store_filesystem_size_bytes, process_max_fds and
    // changelogd_memory_container_limit_bytes.
    "changelogd_store_needed_bytes",
    "changelogd_store_filesystem_free_bytes",
    "process_open_fds",
    "process_resident_memory_bytes",
];

fn memory_log() -> MemoryLog {
    MemoryLog::new(PartitionCount::new(1).unwrap(), Duration::from_secs(86_400))
}

async fn on(log: FakeLog, more: &[&str]) -> TestServer {
    let arguments = [&["--store=memory"], more].concat().into_iter().map(str::to_owned).collect();
    TestServer::on_log(Arc::new(log), arguments).await.ready().await
}

/// On librdkafka's mock cluster, with statistics ten times a second.
pub async fn kafka(partitions: i32, more: &[&str]) -> (MockKafka, TestServer) {
    let kafka = MockKafka::start(partitions);
    let more = ["--kafka-property=statistics.interval.ms=100"].iter().chain(more).map(|flag| (*flag).to_owned());
    let arguments = kafka.arguments(partitions).into_iter().chain(more).collect();
    let server = TestServer::process(arguments).await.ready().await;
    (kafka, server)
}

fn set(key: &str, ack: v1::Ack) -> v1::SetRequest {
    v1::SetRequest { changelog_id: key.to_owned(), value: raw("1"), ack: ack.into(), ..Default::default() }
}

async fn write(server: &TestServer, key: &str) {
    let change = Some(v1::mutation::Change::Raw("1".into()));
    let mutation = v1::Mutation { id: 1, changelog_id: key.to_owned(), change, ..Default::default() };
    let messages = stream::iter([v1::WriteRequest { mutations: vec![mutation] }]);
    let answers = server.client.clone().write(messages).await.unwrap().into_inner();
    assert_eq!(answers.count().await, 1);
}

fn names(text: &str) -> BTreeSet<String> {
    text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned)).collect()
}

/// Covers C83.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_metric_has_a_test_that_moves_it_and_each_gauge_its_limit() {
    let (_kafka, server) = kafka(2, &[]).await;
    let partitions = "changelogd_kafka_partition_end_offset";
    Before::of(&server).await.until(partitions, |now| now.sum(partitions) >= 0.0).await;
    server.set("ws/t/a", "1").await;
    Before::of(&server).await.until(partitions, |now| now.sum(partitions) > 0.0).await;
    let (_, text) = http_get(&server.admin, "/metrics").await;
    let registered = names(&text);
    let mut moved: BTreeSet<_> = TESTS.into_iter().flat_map(families_moved_in).collect();
    for (name, asserted, source) in NOT_MOVED {
        // Once more than in the list itself, if that is in the same file.
        let own = usize::from(source.contains("const NOT_MOVED"));
        assert!(source.matches(asserted).count() > own, "{name}");
        moved.insert(name.to_owned());
    }
    let without_test: Vec<_> = registered.difference(&moved).collect();
    assert!(without_test.is_empty(), "no test moves {without_test:?}");
    let unknown: Vec<_> = moved.difference(&registered).collect();
    assert!(unknown.is_empty(), "there are no such metrics: {unknown:?}");

    let gauges = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" gauge"));
    for gauge in
        gauges.filter(|name| !name.contains("_limit") && !name.ends_with("_max_fds") && !name.ends_with("_size_bytes"))
    {
        let limit = match gauge.strip_suffix("_bytes") {
            Some(name) => format!("{name}_limit_bytes"),
            None => format!("{gauge}_limit"),
        };
        let is_free = WITHOUT_LIMIT.contains(&gauge);
        assert!(is_free != registered.contains(&limit), "{gauge} has its limit in {limit}, or a reason to have none");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_build_is_named() {
    let server = servers::memory().await;
    let (_, text) = server.http("/metrics").await;
    let line = text.lines().find(|line| line.starts_with("changelogd_build_info{")).expect("a line");
    let commit = option_env!("CHANGELOGD_COMMIT").unwrap_or("unknown");
    for label in [&*format!("version=\"{}\"", env!("CARGO_PKG_VERSION")), &format!("commit=\"{commit}\"")] {
        assert!(line.contains(label), "{line}");
    }
    let version = |name: &str| line.split(&format!("{name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
    for library in ["librdkafka", "openssl"] {
        let version = version(library).expect("a version");
        assert!(version.starts_with(|c: char| c.is_ascii_digit()) && version.contains('.'), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_writes_and_replays_are_counted_and_measured() {
    let server = servers::memory().await.ready().await;
    let before = Before::of(&server).await;
    server.set("ws/t/a", "1").await;
    write(&server, "ws/t/b").await;
    server.load("ws").await;
    server.get("ws/t/none").await.unwrap_err();
    before.moves("grpc_server_started_total").await;
    before.moves("grpc_server_handled_total").await;
    before.moves("grpc_server_handling_seconds").await;
    before.moves("changelogd_stream_duration_seconds").await;
    before.moves("changelogd_writes_total").await;
    before.moves("changelogd_write_duration_seconds").await;
    before.moves("changelogd_write_mutation_duration_seconds").await;
    before.moves("changelogd_replay_wait_seconds").await;
    before.moves("changelogd_replay_duration_seconds").await;
    before.moves("changelogd_replay_first_record_seconds").await;
    before.moves("changelogd_replay_bytes_total").await;
    before.moves("changelogd_replay_records_total").await;
    before.moves("changelogd_refusals_total").await;
    before.moves("changelogd_connections_ended_total").await;
    // Health is no call of the API, and its refusals count.
    let channel = Channel::from_shared(format!("http://{}", server.api)).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel);
    health.check(HealthCheckRequest { service: "bogus".to_owned() }).await.unwrap_err();
    let now = Scrape::of(&server.admin).await;
    assert!((now.value("changelogd_refusals_total{reason=\"KEY_NOT_FOUND\"}") - 1.0).abs() < 1e-9);
    assert!((now.value("changelogd_refusals_total{reason=\"NAME_UNKNOWN\"}") - 1.0).abs() < 1e-9);
    assert!((now.value("changelogd_writes_total{result=\"written\",reason=\"OK\"}") - 2.0).abs() < 1e-9);
    // Sixteen bytes of keys and values of the load, and as many of the get, which reads the partition or less.
    assert!(now.sum("changelogd_replay_bytes_total") >= 14.0);
    let other = crate::contract::server::connect(&server.api).await;
    before.moves("changelogd_connections").await;
    drop(other);
}

/// Covers C83.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_waits_and_is_limited_is_shown() {
    let (started, mut starts) = tokio::sync::mpsc::unbounded_channel();
    let stuck = FakeLog::new(memory_log()).on_replay(move |_, _| {
        let _ = started.send(());
        pending::<Result<Replay, ReadError>>()
    });
    let flags =
        ["--max-replays=2", "--max-replays-per-client=1", "--max-following-streams=3", "--replay-queue-timeout=20s"];
    let more = ["--memory-limit=536870912", "--max-connections=70"];
    let server = on(stuck, &[&flags[..], &more].concat()).await;
    let other = servers::memory().await.ready().await;
    let limits = Before::of_other(&other, &server).await;
    limits.moves("changelogd_replays_running_limit").await;
    limits.moves("changelogd_following_streams_limit").await;
    limits.moves("changelogd_memory_limit_bytes").await;
    limits.moves("changelogd_connections_limit").await;
    let before = Before::of(&server).await;
    let request = || v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
    let mut loads = Vec::new();
    for _ in 0..2 {
        let mut client = server.client.clone();
        loads.push(tokio::spawn(async move {
            drop(client.load_workspace(request()).await.unwrap().into_inner().next().await)
        }));
    }
    starts.recv().await.unwrap();
    before.moves("changelogd_replays_running").await;
    before.moves("changelogd_replays_waiting").await;
    before.moves("changelogd_calls_in_flight").await;
    before.moves("changelogd_memory_bytes").await;
    loads.iter().for_each(tokio::task::JoinHandle::abort);
    before.until("all calls end", |now| now.sum("changelogd_calls_in_flight") == 0.0).await;
}

/// The flags ask for more than fits. Some limits are then lowered.
/// Covers C83.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_help_of_a_limit_ends_with_a_flag_only_if_it_has_the_value_of_that_flag() {
    let flags = [("--max-replays", 1_024), ("--max-following-streams", 1_024), ("--max-connections", 65_536)];
    let given = flags.iter().map(|(name, value)| format!("{name}={value}"));
    let arguments = ["--store=memory", "--memory-limit=100000000"].map(str::to_owned).into_iter().chain(given);
    let server = TestServer::process(arguments.collect()).await.ready().await;
    let (_, text) = server.http("/metrics").await;
    let help = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' '));
    let of_flags = help.filter(|(name, _)| name.ends_with("_limit")).filter_map(|(name, help)| {
        let (_, value) = flags.iter().find(|(flag, _)| help.trim_end_matches('.').ends_with(flag))?;
        Some((name, *value))
    });
    let of_flags: Vec<_> = of_flags.collect();
    assert_eq!(of_flags, [("changelogd_replays_running_limit", 1_024)]);
    let now = Scrape::of(&server.admin).await;
    for (name, value) in of_flags {
        assert!((now.value(name) - f64::from(value)).abs() < 1e-9, "{name} is {}", now.value(name));
    }
    assert!(now.value("changelogd_following_streams_limit") < 1_024.0);
    assert!(now.value("changelogd_connections_limit{port=\"api\"}") < 65_536.0);
}

/// A replay that reaches its end, with these counts and from this time, and then follows without a word.
fn follows(counts: Counts, at_end: SystemTime) -> FakeLog {
    FakeLog::new(memory_log()).on_replay(move |_, request| async move {
        let (events, replay) = Replay::channel();
        let (partition, _) = request.partitions[0];
        let end = PartitionEnd::without_epoch(partition, 0..0, counts, at_end);
        events.send(Ok(ReplayEvent::End(end))).await.unwrap();
        tokio::spawn(async move { events.closed().await });
        Ok(replay)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_following_stream_that_is_behind_is_shown() {
    let counts = Counts { lossy_header_names: 1, ..Counts::default() };
    let server = on(follows(counts, SystemTime::now() - Duration::from_secs(60)), &[]).await;
    let before = Before::of(&server).await;
    let request = v1::StreamAllRequest { follow: true, ..Default::default() };
    let mut stream = server.client.clone().stream_all(request).await.unwrap().into_inner();
    stream.message().await.unwrap();
    before.moves("changelogd_following_streams").await;
    before.moves("changelogd_following_streams_lagging").await;
    before.moves("changelogd_follower_lag_seconds").await;
    before.moves("changelogd_replay_lossy_header_names_total").await;
    drop(stream);
    before.until("the stream ends", |now| now.sum("changelogd_following_streams") == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_that_the_log_aborts_are_counted() {
    let moved = |partition| {
        let cause = MoveCause::TooSlow { read_ms: 1, retention_ms: 1, setting: "a setting" };
        ReadError::Moved { partition, cause }
    };
    let log = FakeLog::new(memory_log())
        .on_replay(move |_, request| async move { Err::<Replay, _>(moved(request.partitions[0].0)) });
    let server = on(log, &[]).await;
    let before = Before::of(&server).await;
    let request = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
    server.try_load(request).await.unwrap_err();
    before.moves("changelogd_replays_aborted_total").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_of_buffered_writes_are_there_until_a_flush_returns_them() {
    const MORE_THAN_ARE_KEPT: usize = 10_020;
    let log = FakeLog::new(memory_log()).on_append(|_, _| {
        let (sender, pending) = oneshot::channel();
        let _ = sender.send(Err(WriteError::Unreachable { cause: "a test".to_owned() }));
        Ok(pending)
    });
    let server = on(log, &[]).await;
    Before::at_start(&server).moves("changelogd_buffered_failures_limit").await;
    let before = Before::of(&server).await;
    let buffered = |i: usize| {
        let mut client = server.client.clone();
        async move { client.set(set(&format!("ws/t/{i}"), v1::Ack::Buffered)).await.map(drop) }
    };
    buffered(0).await.unwrap();
    before.moves("changelogd_buffered_failures").await;
    let flush = || async { server.client.clone().flush(v1::FlushRequest::default()).await.unwrap().into_inner() };
    assert_eq!(flush().await.failures.len(), 1);
    before.until("they were returned", |now| now.sum("changelogd_buffered_failures") == 0.0).await;
    let results: Vec<_> = stream::iter(0..MORE_THAN_ARE_KEPT).map(buffered).buffer_unordered(64).collect().await;
    assert!(results.iter().all(Result::is_ok));
    before.moves("changelogd_buffered_failures_dropped_total").await;
}
