//! The binary as a process: configuration errors, logs, signals, SIGKILL.

use std::{
    collections::HashMap,
    process::{Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use changelogd::proto::v1;
use tokio::process::Command;

use crate::{
    contract::{
        server::{TestServer, binary, connect, directory, raw},
        statuses::facts,
    },
    mock_cluster::MockKafka,
    servers::embedded_process,
};

pub async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (Output, Duration) {
    let started = Instant::now();
    let child = Command::new(binary())
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(20), child).await.expect("it ends").unwrap();
    (output, started.elapsed())
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Covers C69, R45, S6, S11, B15, B24.
#[tokio::test]
async fn a_bad_configuration_is_exit_64_with_one_line_that_names_it() {
    /// Arguments, variables, and the text that the error line must contain.
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: [Case<'_>; 24] = [
        (&["serve", "--nope"], &[], &["--nope"]),
        (&["srve"], &[], &["srve"]),
        (&["serve", "--partitions", "0"], &[], &["--partitions", "\"0\""]),
        (&["serve"], &[("CHANGELOGD_PARTITIONS", "-3")], &["CHANGELOGD_PARTITIONS", "\"-3\""]),
        (&["serve", "--listen", "http://x"], &[], &["--listen", "http://x"]),
        (&["serve", "--listen", "0.0.0.0:0"], &[], &["--listen", "--insecure-listen"]),
        (&["serve", "--write-timeout", "10"], &[], &["--write-timeout", "unit"]),
        (&["serve", "--max-value-bytes", "0"], &[], &["--max-value-bytes"]),
        (&["serve", "--data-limit", "0"], &[], &["--data-limit", "268435456"]),
        (&["serve", "--data-limit", "268435455"], &[], &["--data-limit", "268435456"]),
        (&["serve", "--data-limit", "1Gi"], &[], &["--data-limit", "whole number"]),
        (&["serve", "--data-limit", ""], &[], &["--data-limit"]),
        (&["serve"], &[("CHANGELOGD_DATA_LIMIT", "-1")], &["CHANGELOGD_DATA_LIMIT", "whole number"]),
        (&["serve", "--store", "redis"], &[], &["--store", "redis"]),
        (&["serve", "--log", "a=b=c"], &[], &["--log"]),
        (&["serve", "--brokers", "b:1", "--kafka-property", "acks=1"], &[], &["acks"]),
        (&["serve", "--brokers", "b:1", "--kafka-property", "no.such=1"], &[], &["property 1 of 1"]),
        (&["serve", "--brokers", "b:1", "--kafka-property", "group.id=x"], &[], &["group.id", "--group-id"]),
        (&["serve"], &[("KAFKA_BROKERS", "b:1"), ("CHANGELOGD_KAFKA_PROPERTY", "linger.ms=no")], &["linger.ms"]),
        (&["serve", "--brokers", "b:1", "--kafka-properties-file", "/nonexistent"], &[], &["/nonexistent"]),
        (&["serve", "--create-topic"], &[], &["--create-topic"]),
        (
            &["serve", "--max-value-bytes", "64000000", "--memory-limit", "268435456"],
            &[],
            &["--memory-limit", "268435456", "--max-value-bytes 64000000"],
        ),
        (&["serve", "--replay-memory", "2000000000"], &[("CHANGELOGD_MEMORY_LIMIT", "1000000000")], &["2000000000"]),
        (&["serve", "--store=memory", "--memory-limit", "1"], &[], &["--memory-limit", "at least"]),
    ];
    let mut times = Vec::new();
    for (arguments, variables, parts) in cases {
        let (output, took) = run(arguments, variables).await;
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {line}");
        assert_eq!(line.lines().count(), 1, "{arguments:?}: {line}");
        for part in parts {
            assert!(line.contains(part), "{arguments:?}: {line}");
        }
        assert!(took < Duration::from_secs(5), "{arguments:?} took {took:?}");
        times.push(took);
    }
    // A busy machine delays some of them, and a wait of ours would delay all.
    times.sort();
    assert!(times[times.len() / 2] < Duration::from_secs(1), "{times:?}");
}

/// Covers C60, C61, C62, C64, C67, S12.
#[tokio::test]
async fn config_shows_the_source_of_each_value_and_no_secret() {
    let (output, _) = run(
        &["config", "--brokers", "b:1", "--kafka-property", "sasl.password=hunter2"],
        &[("KAFKA_CHANGELOG_TOPIC", "t1"), ("CHANGELOGD_WRITE_TIMEOUT", "3s")],
    )
    .await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    assert!(!lines.contains("hunter2"), "{lines}");
    let settings: HashMap<String, (String, String)> = lines
        .lines()
        .map(|l| serde_json::from_str::<serde_json::Value>(l).expect("JSON Lines in a pipe"))
        .map(|v| {
            let text = |k: &str| v[k].as_str().unwrap().to_owned();
            (text("setting"), (text("value"), text("source")))
        })
        .collect();
    let expect = |name: &str, value: &str, source: &str| {
        assert_eq!(settings[name], (value.to_owned(), source.to_owned()), "{name}");
    };
    expect("brokers", "b:1", "flag");
    expect("topic", "t1", "KAFKA_CHANGELOG_TOPIC");
    expect("write-timeout", "3s", "CHANGELOGD_WRITE_TIMEOUT");
    expect("listen", "127.0.0.1:50051", "default");
    expect("store", "kafka", "default");
    expect("kafka-property", "sasl.password=[redacted]", "flag");
}

/// Covers C69.
#[tokio::test]
async fn a_taken_port_fails_the_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (output, _) = run(&["serve", "--store=memory", "--listen", &address], &[]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&address));
}

/// Covers R35, F23.
#[tokio::test]
async fn a_second_process_on_the_directory_is_refused() {
    let server = embedded_process().await.ready().await;
    let directory = server.arguments[0].clone();
    let (output, _) = run(&["serve", "--listen=127.0.0.1:0", "--admin-listen=off", &directory], &[]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("another process"), "{}", text(&output.stderr));
    server.set("ws/t/a", "1").await;
}

/// Covers C10.
#[tokio::test]
async fn another_partition_count_or_a_foreign_directory_is_refused() {
    let (keep, path) = directory();
    let serve = |partitions: &str| {
        let arguments = vec![format!("--data-dir={}", path.display()), format!("--partitions={partitions}")];
        TestServer::process(arguments)
    };
    serve("4").await.stop().await;
    let data = format!("--data-dir={}", path.display());
    let refused = ["serve", "--listen=127.0.0.1:0", "--admin-listen=off", "--partitions=5", &data];
    let (output, _) = run(&refused, &[]).await;
    let line = text(&output.stderr);
    assert!(output.status.code() == Some(1) && line.contains('4') && line.contains('5'), "{line}");

    std::fs::write(keep.path().join("mine.txt"), "x").unwrap();
    let foreign = format!("--data-dir={}", keep.path().display());
    let (output, _) = run(&["serve", "--listen=127.0.0.1:0", "--admin-listen=off", &foreign], &[]).await;
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(keep.path().join("mine.txt").exists());
}

/// Covers R35.
#[tokio::test]
async fn a_store_of_another_format_is_refused_as_wrong_usage() {
    let (_keep, path) = directory();
    let data = format!("--data-dir={}", path.display());
    TestServer::process(vec![data.clone()]).await.stop().await;
    let marker = path.join("store");
    let text = std::fs::read_to_string(&marker).unwrap();
    // A later format may have changed everything else.
    for other in ["format 3\n", "format 99\nsomething else\n", "format next\n"] {
        std::fs::write(&marker, other).unwrap();
        let (output, _) = run(&["serve", "--listen=127.0.0.1:0", "--admin-listen=off", &data], &[]).await;
        let line = self::text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{line}");
        assert!(line.contains("format") && line.contains(path.to_str().unwrap()), "{line}");
    }
    std::fs::write(&marker, text).unwrap();
    TestServer::process(vec![data]).await.stop().await;
}

/// Rounds of SIGKILL during writes, 20 or CHANGELOGD_TEST_KILLS. After each, every acknowledged write is there.
/// Covers C40, R34, K5, F21, F22.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_by_sigkill() {
    let mut server = embedded_process().await.ready().await;
    let acknowledged: Arc<Mutex<HashMap<String, u64>>> = Arc::default();
    let rounds = std::env::var("CHANGELOGD_TEST_KILLS").map_or(20, |n| n.parse::<u64>().expect("a number of rounds"));
    for round in 0..rounds {
        let mut writers = Vec::new();
        for writer in 0..8_u64 {
            let (mut client, acknowledged) = (connect(&server.api).await, acknowledged.clone());
            writers.push(tokio::spawn(async move {
                for n in 0.. {
                    let key = format!("ws{writer}/t/{}", n % 50);
                    let value = round * 1_000_000 + n;
                    let request = v1::SetRequest {
                        changelog_id: key.clone(),
                        value: raw(&value.to_string()),
                        ..Default::default()
                    };
                    if client.set(request).await.is_err() {
                        return;
                    }
                    acknowledged.lock().unwrap().insert(key, value);
                }
            }));
        }
        // Kill only after many writes of this round have been acknowledged.
        let started = Instant::now();
        loop {
            let this_round = acknowledged.lock().unwrap().values().filter(|v| **v >= round * 1_000_000).count();
            if this_round > 100 {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(30), "writes are acknowledged");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill_and_restart().await;
        server = server.ready().await;
        for writer in writers {
            writer.await.unwrap();
        }
        let expected = acknowledged.lock().unwrap().clone();
        for writer in 0..8 {
            let found: HashMap<String, u64> = server
                .load(&format!("ws{writer}"))
                .await
                .texts()
                .into_iter()
                .map(|(k, v)| (k, v.parse().unwrap()))
                .collect();
            for (key, value) in expected.iter().filter(|(k, _)| k.starts_with(&format!("ws{writer}/"))) {
                // A write in flight at the kill may have been written after them.
                let found = found.get(key).copied();
                assert!(found >= Some(*value), "round {round}: {key} was acknowledged as {value}, found {found:?}");
            }
        }
    }
}

/// An accepted write, a refused one, and SIGTERM.
async fn call_and_stop(api: String, pid: String) {
    let mut client = connect(&api).await;
    let request = v1::SetRequest {
        changelog_id: "ws/t/planted-key".to_owned(),
        value: raw("\"planted-value\""),
        ..Default::default()
    };
    client.set(request.clone()).await.unwrap();
    client.set(v1::SetRequest { value: raw("planted-value"), ..request }).await.unwrap_err();
    let kill = std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(kill.success());
}

/// Covers C58, S12.
#[tokio::test]
async fn each_call_is_one_log_line_and_values_are_never_logged() {
    let (_keep, path) = directory();
    let mut child = Command::new(binary())
        .args(["serve", "--listen=127.0.0.1:0", "--admin-listen=off", "--log=trace,h2=info,hyper=info"])
        .arg(format!("--data-dir={}", path.display()))
        .env_clear()
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let pid = child.id().unwrap().to_string();
    let reading = tokio::spawn(async move {
        use tokio::io::{AsyncBufReadExt, BufReader};
        let mut lines = BufReader::new(&mut stderr).lines();
        let (mut all, mut calling) = (Vec::new(), None);
        while let Some(line) = lines.next_line().await.unwrap() {
            let line: serde_json::Value =
                serde_json::from_str(&line).expect("an object a line, when not on a terminal");
            if line["message"] == "serving" {
                // A task reads the lines, because a server whose lines are not read stops at a full pipe.
                calling = Some(tokio::spawn(call_and_stop(line["api"].as_str().unwrap().to_owned(), pid.clone())));
            }
            all.push(line);
        }
        calling.expect("it served").await.unwrap();
        all
    });
    let lines = tokio::time::timeout(Duration::from_secs(30), reading).await.expect("it stops").unwrap();
    assert!(child.wait().await.unwrap().success());
    let calls: Vec<_> = lines.iter().filter(|l| l["message"] == "call").collect();
    assert_eq!(calls.len(), 2, "{calls:#?}");
    // Successful calls are logged at debug only.
    assert_eq!((calls[0]["level"].as_str(), calls[1]["level"].as_str()), (Some("DEBUG"), Some("INFO")));
    assert_eq!((calls[0]["rpc"].as_str(), calls[0]["code"].as_str()), (Some("Set"), Some("OK")));
    assert!(calls[0]["partition"].is_i64() && calls[0]["duration_ms"].is_f64());
    assert_eq!(calls[1]["reason"], "VALUE_NOT_JSON");
    for line in &lines {
        let shown = line.to_string();
        assert!(!shown.contains("planted-value"), "{shown}");
        let above_debug = !matches!(line["level"].as_str(), Some("DEBUG" | "TRACE"));
        assert!(!(above_debug && shown.contains("planted-key")), "{shown}");
    }
}

/// Covers S6.
#[tokio::test]
async fn a_unix_socket_serves_and_is_removed() {
    let (keep, path) = directory();
    let socket = keep.path().join("api.sock");
    let mut server = TestServer::process(vec![
        format!("--data-dir={}", path.display()),
        format!("--listen=unix:{}", socket.display()),
    ])
    .await
    .ready()
    .await;
    server.set("ws/t/a", "1").await;
    assert_eq!(server.load("ws").await.entries.len(), 1);
    server.stop().await;
    assert!(!socket.exists());
}

/// Covers S6, S10, K4, C76.
#[tokio::test]
async fn the_health_port_serves_health_and_nothing_else() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server =
        TestServer::process(vec!["--store=memory".to_owned(), format!("--health-listen={port}")]).await.ready().await;
    let channel = tonic::transport::Channel::from_shared(format!("http://{port}")).unwrap().connect().await.unwrap();
    for service in ["", "liveness", "readiness", "serving"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        HealthClient::new(channel.clone()).check(request).await.unwrap();
    }
    let unknown = HealthCheckRequest { service: "another?".to_owned() };
    let status = HealthClient::new(channel).check(unknown).await.unwrap_err();
    assert_eq!(facts(&status, tonic::Code::NotFound, "NAME_UNKNOWN", "health")["name"], "another?");
    let status = connect(&port.to_string()).await.describe(v1::DescribeRequest::default()).await.unwrap_err();
    let path = &facts(&status, tonic::Code::Unimplemented, "UNKNOWN_METHOD", "the health port")["path"];
    assert_eq!(path, "/changelog.v1.ChangelogService/Describe");
    server.describe("").await;
}

/// Covers F23.
#[tokio::test]
async fn a_directory_that_cannot_be_written_is_refused_at_the_start() {
    // No user can make a directory there. Permissions would not stop root.
    let (output, _) =
        run(&["serve", "--listen=127.0.0.1:0", "--admin-listen=off", "--data-dir=/sys/changelogd"], &[]).await;
    let line = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{line}");
    assert!(line.contains("/sys/changelogd") && line.contains("can't be written"), "{line}");
}

/// Covers C69, R32, S5, F21.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undelivered_writes_are_named_at_shutdown_and_the_exit_status_is_1() {
    let (kafka, keep) = (MockKafka::start(3), tempfile::tempdir().unwrap());
    let log = keep.path().join("log");
    let mut child = Command::new(binary())
        .args(["serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json"])
        .args(["--log=info,changelogd=debug", "--write-timeout=60s", "--drain-timeout=1s"])
        .args(kafka.arguments(3))
        .env_clear()
        .stderr(std::fs::File::create(&log).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let lines = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&log).unwrap();
        text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect()
    };
    let started = Instant::now();
    let api = loop {
        let (mut lines, mut served) = (lines().into_iter(), lines().into_iter());
        let serving = lines.find(|l| l["message"] == "serving");
        if let (Some(serving), Some(_)) = (serving, served.find(|l| l["message"] == "the topic is served")) {
            break serving["api"].as_str().unwrap().to_owned();
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{:#?}", lines.collect::<Vec<_>>());
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let mut client = connect(&api).await;
    let set = |n: usize, ack: v1::Ack| v1::SetRequest {
        changelog_id: format!("ws{n}/t/\u{202e}{n}"),
        value: raw("1"),
        ack: ack.into(),
        ..Default::default()
    };
    client.set(set(0, v1::Ack::Durable)).await.unwrap();
    kafka.switch(false);
    for n in 0..150 {
        client.set(set(n, v1::Ack::Buffered)).await.unwrap();
    }
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = tokio::time::timeout(Duration::from_secs(30), child.wait()).await.expect("in time").unwrap();
    assert_eq!(status.code(), Some(1));
    let lines = lines();
    let total = lines.iter().find(|l| l["level"] == "ERROR").unwrap_or_else(|| panic!("{lines:#?}"));
    assert_eq!((total["writes"].as_u64(), total["partitions"].as_str()), (Some(150), Some("0,1,2")), "{total}");
    let named: Vec<_> = lines.iter().filter(|l| l["message"] == "an accepted write was not delivered").collect();
    assert_eq!(named.len(), 100);
    for line in named {
        let key = line["key"].as_str().unwrap();
        assert!(line["level"] == "DEBUG" && key.starts_with("\"ws") && key.is_ascii(), "{line}");
    }
}

/// Covers C69.
#[test]
fn help_that_nobody_reads_or_that_can_not_be_written_is_no_panic() {
    let help = |command: &[&str], to: Stdio| {
        let child = std::process::Command::new(binary()).args(command).stdout(to).stderr(Stdio::piped()).spawn();
        let output = child.unwrap().wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for command in [&["--help"][..], &["serve", "--help"], &["help"], &["--version"], &["set", "--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(help(command, writer.into()), (Some(0), String::new()), "{command:?}");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let (status, message) = help(command, full.into());
        assert_eq!((status, message.lines().count()), (Some(1), 1), "{command:?}: {message}");
        assert!(message.contains("output can't be written"), "{message}");
    }
}
