//! `changelogd topic`, and `serve --create-topic`.

use std::{process::Command, time::Instant};

use changelogd_testkit::{Broker, Cluster, shared_broker, shared_oracle, unique_topic};

use crate::contract::server::{PATIENCE, TestServer, binary};

/// Returns exit status, standard output as JSON, and standard error.
pub fn topic_command_on(bootstrap: &str, topic: &str, arguments: &[&str]) -> (Option<i32>, serde_json::Value, String) {
    let output = Command::new(binary())
        .arg("topic")
        .args(arguments)
        .args(["--brokers", bootstrap, "--topic", topic])
        .env_clear()
        .output()
        .expect("the binary runs");
    let said = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), said, String::from_utf8_lossy(&output.stderr).into_owned())
}

fn topic_command(topic: &str, arguments: &[&str]) -> (Option<i32>, serde_json::Value, String) {
    topic_command_on(shared_broker().bootstrap(), topic, arguments)
}

pub fn config(bootstrap: &str, topic: &str, name: &str) -> Option<String> {
    shared_oracle().describe(bootstrap, topic).unwrap().configs.get(name).cloned()
}

/// Covers C66, K10.
#[test]
fn topic_ensure_is_idempotent_and_never_changes_the_partition_count() {
    let (topic, bootstrap) = (unique_topic("ensured"), shared_broker().bootstrap());
    let (code, said, _) = topic_command(&topic, &["describe"]);
    assert_eq!(code, Some(1), "{said}");
    let ensure = ["ensure", "--partitions=6", "--delete-retention=2h"];
    let (code, said, error) = topic_command(&topic, &ensure);
    assert_eq!((code, &said["created"]), (Some(0), &true.into()), "{error}");
    assert!(said["notes"].to_string().contains("replication factor is 1 instead of 3"), "said aloud: {said}");
    let before = shared_oracle().describe(bootstrap, &topic).unwrap();
    assert_eq!(before.configs.get("delete.retention.ms").map(String::as_str), Some("7200000"));

    let (code, said, error) = topic_command(&topic, &ensure);
    assert_eq!((code, &said["created"], &said["altered"]), (Some(0), &false.into(), &false.into()), "{error}");
    shared_oracle().config(bootstrap, &topic, &[("min.compaction.lag.ms", "5"), ("segment.ms", "123456")]).unwrap();
    let (code, said, _) = topic_command(&topic, &ensure);
    assert_eq!((code, &said["altered"]), (Some(0), &false.into()));
    assert!(said["notes"].to_string().contains("min.compaction.lag.ms is 5, wanted is 60000"), "{said}");
    let config = |name: &str| config(bootstrap, &topic, name);
    assert_eq!(config("min.compaction.lag.ms").as_deref(), Some("5"), "nothing is altered unasked");

    let (code, said, _) = topic_command(&topic, &[&ensure[..], &["--alter"]].concat());
    assert_eq!((code, &said["altered"]), (Some(0), &true.into()));
    assert_eq!(config("min.compaction.lag.ms").as_deref(), Some("60000"));
    assert_eq!(config("segment.ms").as_deref(), Some("123456"), "what was not asked about stays");

    let (code, _, error) = topic_command(&topic, &["ensure", "--partitions=7", "--alter"]);
    assert!(code == Some(1) && error.contains('6') && error.contains('7'), "{error}");
    let (code, said, _) = topic_command(&topic, &["describe"]);
    assert_eq!((code, said["partitions"].as_array().map(Vec::len)), (Some(0), Some(6)));
    assert_eq!(said["id"], before.id);
}

/// Covers C66.
#[test]
fn a_broker_that_rejects_a_value_is_quoted_and_the_value_can_be_left_out_or_changed() {
    let policy = "oracle.RejectsCompression";
    let broker =
        Broker::start_with(&[("create.topic.policy.class.name", policy), ("alter.config.policy.class.name", policy)]);
    let (topic, bootstrap) = (unique_topic("policy"), broker.bootstrap());
    let (code, _, error) = topic_command_on(bootstrap, &topic, &["ensure", "--partitions=1"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("this cluster chooses compression.type itself"), "the broker's text: {error}");
    assert!(!shared_oracle().topics(bootstrap).unwrap().contains(&topic));

    let ensure = ["ensure", "--partitions=1", "--without=compression.type", "--config=segment.bytes=1048576"];
    let (code, said, error) = topic_command_on(bootstrap, &topic, &ensure);
    assert_eq!((code, &said["created"]), (Some(0), &true.into()), "{error}");
    assert_eq!(config(bootstrap, &topic, "segment.bytes").as_deref(), Some("1048576"));
    assert_eq!(config(bootstrap, &topic, "compression.type").as_deref(), Some("producer"), "Kafka's default");
    let (code, said, error) = topic_command_on(bootstrap, &topic, &ensure);
    assert_eq!((code, &said["notes"]), (Some(0), &serde_json::json!([])), "{error}");

    let alter = ["ensure", "--partitions=1", "--config=compression.type=lz4", "--alter"];
    let (code, _, error) = topic_command_on(bootstrap, &topic, &alter);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("this cluster chooses compression.type itself"), "the broker's text: {error}");
}

/// Covers C66.
#[test]
fn values_that_contradict_each_other_are_refused_before_a_broker_is_asked() {
    for (arguments, named) in [
        (&["--config=cleanup.policy=delete"][..], "must be compact"),
        (&["--config=Segment.ms=1"], "NAME=VALUE"),
        (&["--config=segment.ms"], "NAME=VALUE"),
        (&["--without=segment.ms"], "must be one of cleanup.policy, compression.type"),
        (&["--config=segment.ms=1", "--segment=1s"], "segment.ms is given twice"),
        (&["--config=compression.type=lz4", "--without=compression.type"], "left out by --without"),
    ] {
        let (code, _, error) = topic_command("never", &[&["ensure"], arguments].concat());
        assert!(code == Some(64) && error.contains(named), "{arguments:?}: {code:?} {error}");
    }
}

/// Covers C66.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_come_with_two_in_sync_and_wait_for_three_brokers() {
    let mut cluster = tokio::task::spawn_blocking(Cluster::start).await.expect("a cluster");
    let (topic, bootstrap) = (unique_topic("three"), cluster.direct());
    let (code, _, error) = topic_command_on(&bootstrap, &topic, &["ensure", "--replication-factor=4"]);
    assert!(code == Some(1) && error.contains("3 of 4 brokers are there"), "{code:?} {error}");
    assert!(!shared_oracle().topics(&bootstrap).unwrap().contains(&topic));
    let (code, said, error) = topic_command_on(&bootstrap, &topic, &["ensure", "--partitions=2"]);
    assert_eq!((code, &said["created"]), (Some(0), &true.into()), "{error}");
    assert_eq!(config(&bootstrap, &topic, "min.insync.replicas").as_deref(), Some("2"));
    let arguments = |topic: &str| vec![format!("--brokers={bootstrap}"), format!("--topic={topic}")];
    let server =
        TestServer::process([arguments(&topic), vec!["--partitions=2".to_owned()]].concat()).await.ready().await;
    let findings = server.describe("").await.findings;
    assert_eq!(findings, [], "nothing is wrong with a topic of our own command");

    let late = unique_topic("late");
    cluster.stop(3);
    let more = vec!["--partitions=2".to_owned(), "--create-topic".to_owned()];
    let server = TestServer::process([arguments(&late), more].concat()).await;
    let started = Instant::now();
    loop {
        let (status, text) = server.http("/readyz").await;
        if status == 503 && text.contains("2 of 3 brokers are there") {
            break;
        }
        assert!(status == 503 && started.elapsed() < PATIENCE, "{status} {text}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    cluster.restart(3);
    let server = server.ready().await;
    server.set("ws/t/a", "1").await;
    assert_eq!(config(&bootstrap, &late, "min.insync.replicas").as_deref(), Some("2"));
}
