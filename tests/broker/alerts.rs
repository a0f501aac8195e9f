//! Each alert of the chart fires when its event happens to a live server. Each arm of its expression has a series, and
//! each query of the dashboard has an answer.

use std::{
    collections::BTreeSet,
    fs,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use changelog_core::{
    log::{Counts, MemoryLog, MoveCause, PartitionEnd, ReadError, Replay, ReplayEvent, WriteError},
    model::PartitionCount,
    testing::FakeLog,
};
use changelogd::proto::v1;
use changelogd_testkit::{
    guarded::{Guarded, PASSWORD},
    shared_broker, shared_oracle, unique_topic,
};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
};

use crate::{
    contract::{
        moving::Scrape,
        server::{Client, PATIENCE, TestServer, connect, directory, raw},
        unread_stderr::UnreadServer,
    },
    kit::created,
    prometheus::{Prometheus, chart_file, command},
    promql,
    servers::COMPACTED,
};

/// How long all alerts may take. Some need the second query of offsets, ten seconds after the first.
const ALL_ALERTS: Duration = Duration::from_secs(90);

/// The rules of the chart, with times that fit into a test. Their conditions stay.
fn fast_rules() -> String {
    let mut fast = String::new();
    for line in chart_file("rules.yaml").lines() {
        let line = if line.trim_start().starts_with("for: ") { "        for: 2s".to_owned() } else { line.to_owned() };
        let line = line.replace("[30m]", "[30s]").replace("[15m]", "[30s]").replace("[5m]", "[30s]");
        fast += &line.replace("_transaction_seconds > 60", "_transaction_seconds > 5");
        fast.push('\n');
    }
    fast
}

fn alerts() -> BTreeSet<String> {
    chart_file("rules.yaml")
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .map(str::to_owned)
        .collect()
}

/// The queries of the dashboard, for all pods.
fn queries() -> Vec<String> {
    let dashboard: serde_json::Value = serde_json::from_str(&chart_file("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let expressions = targets.map(|target| target["expr"].as_str().unwrap().to_owned());
    let filled = expressions
        .map(|it| ["$namespace", "$pod", "$container"].into_iter().fold(it, |it, name| it.replace(name, ".*")));
    filled.map(|it| it.replace("$__rate_interval", "30s")).collect()
}

fn memory_log() -> MemoryLog {
    MemoryLog::new(PartitionCount::new(1).unwrap(), Duration::from_secs(86_400))
}

async fn on(log: FakeLog, more: &[String]) -> TestServer {
    TestServer::on_log(Arc::new(log), [&["--store=memory".to_owned()], more].concat()).await
}

fn set(key: &str, value: &str, ack: v1::Ack) -> v1::SetRequest {
    v1::SetRequest { changelog_id: key.to_owned(), value: raw(value), ack: ack.into(), ..Default::default() }
}

/// Calls until the tasks are dropped.
fn again<F>(tasks: &mut JoinSet<()>, call: impl Fn(usize) -> F + Send + 'static)
where
    F: Future<Output = ()> + Send,
{
    tasks.spawn(async move {
        for i in 0.. {
            call(i).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
}

async fn load(mut client: Client) {
    let request = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
    if let Ok(answer) = client.load_workspace(request).await {
        let mut stream = answer.into_inner();
        while let Ok(Some(_)) = stream.message().await {}
    }
}

fn brokers(topic: &str, more: &[&str]) -> Vec<String> {
    let own = [format!("--brokers={}", shared_broker().bootstrap()), format!("--topic={topic}")];
    own.into_iter().chain(more.iter().map(|flag| (*flag).to_owned())).collect()
}

/// A server whose brokers give it the right to read alone, and another one that trusts a certificate of ten days.
async fn guarded_servers(guarded: &Guarded) -> [TestServer; 2] {
    let (oracle, bootstrap) = (shared_oracle(), guarded.broker.bootstrap());
    let topics = ["reader", "trusting"].map(unique_topic);
    for topic in &topics {
        oracle.create(bootstrap, topic, 1, 1, &COMPACTED).unwrap();
    }
    oracle.allow(bootstrap, &topics[0], "service", "read,describe,describe_configs").unwrap();
    let reader = TestServer::process(guarded.with_sasl(&topics[0], PASSWORD)).await;
    let trusting = TestServer::process(guarded.with_tls(&guarded.tls, &topics[1], "good")).await;
    [reader, trusting]
}

/// Streams with long lists, until these fill their part of the memory limit.
async fn fill_lists(server: &TestServer, tasks: &mut JoinSet<()>) {
    let part = |name: &str| format!("changelogd_memory_{name}{{part=\"lists\"}}");
    let (started, mut entries) = (Instant::now(), 10_000);
    loop {
        let now = Scrape::of(&server.admin).await;
        let (used, limit) = (now.value(&part("bytes")), now.value(&part("limit_bytes")));
        if used > 0.95 * limit {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{used} of {limit}");
        if limit - used < 4.0 * 1024.0 * 1024.0 {
            entries = 500;
        }
        let workspace_ids = (0..entries).map(|i| format!("{i:0>240}")).collect();
        let request = v1::StreamAllRequest { workspace_ids, ..Default::default() };
        let mut client = connect(&server.api).await;
        tasks.spawn(async move {
            if let Ok(answer) = client.stream_all(request).await {
                let mut stream = answer.into_inner();
                while let Ok(Some(_)) = stream.message().await {}
            }
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The address of an admin port whose process starts again and again.
async fn restarting(tasks: &mut JoinSet<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut server = TestServer::process(vec!["--store=memory".to_owned()]).await;
    let admin = Arc::new(Mutex::new(server.admin.clone()));
    let of_relay = admin.clone();
    tasks.spawn(async move {
        while let Ok((mut scraper, _)) = listener.accept().await {
            let admin = of_relay.lock().unwrap().clone();
            if let Ok(mut port) = TcpStream::connect(admin).await {
                let _ = copy_bidirectional(&mut scraper, &mut port).await;
            }
        }
    });
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(3)).await;
            server.kill_and_restart().await;
            *admin.lock().unwrap() = server.admin.clone();
        }
    });
    address
}

/// An alert fires if one of its arms has a series. Here each of them has one, whatever it is compared with.
async fn has_all_series(prometheus: &Prometheus, of: &str, expression: &str) {
    let arms = promql::arms(expression);
    assert!(!arms.is_empty(), "{of}: {expression}");
    for asked in arms.into_iter().chain(promql::values(expression)) {
        has_series(prometheus, of, &asked).await;
    }
}

async fn has_series(prometheus: &Prometheus, of: &str, asked: &str) {
    let started = Instant::now();
    while prometheus.query(asked).await.is_empty() {
        if started.elapsed() > PATIENCE {
            let mut absent = Vec::new();
            for metric in promql::metrics(asked) {
                if prometheus.query(metric).await.is_empty() {
                    absent.push(metric);
                }
            }
            panic!("{of}: no series: {asked}; these metrics are absent: {absent:?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_alert_fires_and_each_query_of_the_dashboard_has_an_answer() {
    let (mut tasks, oracle, bootstrap) = (JoinSet::new(), shared_oracle(), shared_broker().bootstrap());
    let guarded = Guarded::start();
    let [reader, trusting] = guarded_servers(&guarded).await;

    let topic = created(1, &[]);
    let statistics = "--kafka-property=statistics.interval.ms=1000";
    let flags = ["--max-replays=1", "--replay-queue-timeout=0ms", statistics];
    let transaction = TestServer::process(brokers(&topic, &flags)).await.ready().await;
    transaction.set("ws/t/a", "1").await;
    transaction.load("ws").await;
    let id = unique_topic("txn");
    oracle.txn_begin(bootstrap, &id).unwrap();
    oracle.txn_send(&id, &topic, 0, Some(b"ws/t/in-transaction"), Some(b"1")).unwrap();
    transaction.set("ws/t/b", "1").await;
    for _ in 0..2 {
        let client = transaction.client.clone();
        again(&mut tasks, move |_| load(client.clone()));
    }

    let slow_topic = created(1, &[]);
    oracle.quota(bootstrap, &slow_topic, "producer_byte_rate", 1_000).unwrap();
    let client_id = format!("--kafka-property=client.id={slow_topic}");
    // One workspace uses one of the two producers.
    let flags = [&*client_id, "--kafka-property=queue.buffering.max.messages=10", "--write-timeout=2m"];
    let slow = TestServer::process(brokers(&slow_topic, &[&flags[..], &[statistics]].concat())).await.ready().await;
    let value = format!("\"{}\"", "x".repeat(50_000));
    let client = slow.client.clone();
    again(&mut tasks, move |i| {
        let (mut client, request) = (client.clone(), set(&format!("ws/t/{i}"), &value, v1::Ack::Buffered));
        async move { drop(client.set(request).await) }
    });

    let down = TestServer::process(vec!["--brokers=127.0.0.1:1".to_owned(), "--topic=t".to_owned()]).await;

    let files = TempDir::new().unwrap();
    let token = files.path().join("token");
    fs::write(&token, "no token at all\n").unwrap();
    let without_token = TestServer::process(vec![
        "--brokers=127.0.0.1:1".to_owned(),
        "--topic=t".to_owned(),
        "--kafka-property=security.protocol=sasl_plaintext".to_owned(),
        "--kafka-property=sasl.mechanism=OAUTHBEARER".to_owned(),
        format!("--kafka-oauth-token-file={}", token.display()),
    ])
    .await;

    let (_keep_gone, gone_path) = directory();
    let gone = TestServer::process(vec![format!("--data-dir={}", gone_path.display())]).await.ready().await;
    fs::rename(&gone_path, gone_path.with_extension("moved")).unwrap();

    let (_keep_full, full_path) = directory();
    let data = format!("--data-dir={}", full_path.display());
    let full = TestServer::process(vec![data, "--data-limit=268435456".to_owned()]).await.ready().await;
    // Small sets find room where large ones do not.
    for (size, name) in [(900_000, "large"), (1, "small")] {
        let (client, value) = (full.client.clone(), format!("\"{}\"", "x".repeat(size)));
        again(&mut tasks, move |i| {
            let (mut client, request) = (client.clone(), set(&format!("ws/{name}/{i}"), &value, v1::Ack::Durable));
            async move { drop(client.set(request).await) }
        });
    }

    let aborting = FakeLog::new(memory_log()).on_replay(|_, request| async move {
        let cause = MoveCause::TooSlow { read_ms: 1, retention_ms: 1, setting: "a setting" };
        Err::<Replay, _>(ReadError::Moved { partition: request.partitions[0].0, cause })
    });
    let aborting = on(aborting, &[]).await;
    let client = aborting.client.clone();
    again(&mut tasks, move |_| load(client.clone()));

    let failing = FakeLog::new(memory_log()).on_append(|_, _| {
        let (sender, pending) = oneshot::channel();
        let _ = sender.send(Err(WriteError::Unreachable { cause: "a test".to_owned() }));
        Ok(pending)
    });
    let failing = on(failing, &[]).await;
    failing.client.clone().set(set("ws/t/a", "1", v1::Ack::Buffered)).await.unwrap();

    let behind = FakeLog::new(memory_log()).on_replay(|_, request| async move {
        let (events, replay) = Replay::channel();
        let (partition, counts) = (request.partitions[0].0, Counts::default());
        let at_end = SystemTime::now() - Duration::from_secs(600);
        let end = PartitionEnd::without_epoch(partition, 0..0, counts, at_end);
        events.send(Ok(ReplayEvent::End(end))).await.unwrap();
        tokio::spawn(async move { events.closed().await });
        Ok(replay)
    });
    let behind = on(behind, &[]).await;
    let request = v1::StreamAllRequest { follow: true, ..Default::default() };
    let mut follower = behind.client.clone().stream_all(request).await.unwrap().into_inner();
    follower.message().await.unwrap();

    let crowded = on(FakeLog::new(memory_log()), &["--max-connections=64".to_owned()]).await;
    let mut connections = Vec::new();
    for _ in 0..61 {
        connections.push(connect(&crowded.api).await);
    }

    let stuck = FakeLog::new(memory_log()).on_replay(|_, _| std::future::pending::<Result<Replay, ReadError>>());
    let flags = ["--memory-limit=268435456", "--max-replays=64", "--max-replays-per-client=64"].map(str::to_owned);
    let lists = on(stuck, &flags).await;
    fill_lists(&lists, &mut tasks).await;

    let verbose = UnreadServer::start().await;
    let restarting = restarting(&mut tasks).await;

    let targets = [
        ("reader", &*reader.admin),
        ("trusting", &trusting.admin),
        ("transaction", &transaction.admin),
        ("slow", &slow.admin),
        ("down", &down.admin),
        ("without-token", &without_token.admin),
        ("gone", &gone.admin),
        ("full", &full.admin),
        ("aborting", &aborting.admin),
        ("failing", &failing.admin),
        ("behind", &behind.admin),
        ("crowded", &crowded.admin),
        ("lists", &lists.admin),
        ("verbose", &verbose.admin),
        ("restarting", &restarting),
    ];
    let prometheus = Prometheus::start(&fast_rules(), &targets).await;
    // Each call is some lines of its log.
    let client = connect(&verbose.api).await;
    again(&mut tasks, move |_| {
        let mut client = client.clone();
        async move {
            for i in 0..200 {
                drop(client.set(set(&format!("ws/t/{i}"), "1", v1::Ack::Durable)).await);
            }
        }
    });
    let (started, mut left) = (Instant::now(), alerts());
    while !left.is_empty() {
        for fired in prometheus.firing().await {
            if left.remove(&fired) {
                println!("{fired} after {} s", started.elapsed().as_secs());
            }
        }
        assert!(started.elapsed() < ALL_ALERTS, "these do not fire: {left:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let rules = prometheus.rules().await;
    assert_eq!(rules.len(), alerts().len(), "{rules:?}");
    for (alert, expression) in rules {
        has_all_series(&prometheus, &alert, &expression).await;
    }
    let queries = queries();
    assert!(queries.len() > 30, "{queries:?}");
    for query in queries {
        has_series(&prometheus, "the dashboard", &query).await;
        has_all_series(&prometheus, "the dashboard", &query).await;
    }
    drop((follower, connections));
    oracle.txn_abort(&id).unwrap();
}

/// The samples, names and help texts are as Prometheus wants them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promtool_has_nothing_to_say_of_the_metrics_of_both_stores() {
    let (_keep, path) = directory();
    let embedded = TestServer::process(vec![format!("--data-dir={}", path.display())]).await.ready().await;
    let kafka = TestServer::process(brokers(&created(2, &[]), &[])).await.ready().await;
    for server in [embedded, kafka] {
        server.set("ws/t/a", "1").await;
        server.load("ws").await;
        let (status, text) = server.http("/metrics").await;
        assert_eq!(status, 200);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, text).unwrap();
        let output =
            command("promtool").args(["check", "metrics"]).stdin(file.reopen().unwrap()).output().await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
    }
}
