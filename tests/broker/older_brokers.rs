//! Brokers that lack what newer ones have.

use std::{sync::OnceLock, time::Instant};

use changelogd::proto::v1;
use changelogd_testkit::{OlderBrokers, Release, expected_kafka, shared_oracle, unique_topic};
use tonic::{Code, Status};

use crate::{
    contract::server::{PATIENCE, Streamed, TestServer, reason},
    servers::COMPACTED,
    topic_command::{config, topic_command_on},
};

const RELEASES: [Release; 3] = [Release::KAFKA_2_1, Release::KAFKA_2_7, Release::KAFKA_2_8];

fn brokers() -> &'static OlderBrokers {
    static BROKERS: OnceLock<OlderBrokers> = OnceLock::new();
    BROKERS.get_or_init(|| OlderBrokers::start(RELEASES))
}

/// A new topic, and the arguments to serve it by a broker that looks like this release.
fn topic(release: Release, partitions: i32) -> (String, Vec<String>) {
    let topic = unique_topic("older");
    shared_oracle().create(brokers().broker.bootstrap(), &topic, partitions, 1, &COMPACTED).expect("it is created");
    let brokers = format!("--brokers={}", brokers().bootstrap(release));
    let arguments = vec![brokers, format!("--topic={topic}"), format!("--partitions={partitions}")];
    (topic, arguments)
}

/// For the contract suite.
pub async fn like_kafka_2_1() -> TestServer {
    let (_, arguments) = tokio::task::spawn_blocking(|| topic(Release::KAFKA_2_1, 10)).await.expect("a topic");
    TestServer::in_process(arguments).await.durable().without_id()
}

async fn served(release: Release) -> (TestServer, Vec<String>) {
    let (_, arguments) = tokio::task::spawn_blocking(move || topic(release, 3)).await.expect("a topic");
    let server = TestServer::in_process(arguments).await.ready().await;
    server.set("ws/t/a", "1").await;
    assert_eq!(server.load("ws").await.entries.len(), 1, "Kafka {release:?}");
    let codes = server.describe("").await.findings.into_iter().map(|f| f.code).collect();
    (server, codes)
}

fn records(resume_token: bytes::Bytes) -> v1::StreamAllRequest {
    v1::StreamAllRequest { content: v1::Content::Records.into(), resume_token, ..Default::default() }
}

/// Metadata has topic ids from version 10 on (KIP-516, Kafka 2.8).
/// Covers R15.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_without_topic_ids_is_served_under_a_warning() {
    for release in [Release::KAFKA_2_1, Release::KAFKA_2_7] {
        let (server, codes) = served(release).await;
        assert_eq!(server.describe("").await.topic_id, "");
        assert!(codes.iter().any(|code| code == "TOPIC_ID_UNKNOWN"), "{release:?}: {codes:?}");
    }
}

/// Covers R15.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_with_the_first_topic_ids_is_served_without_that_warning() {
    let (server, codes) = served(Release::KAFKA_2_8).await;
    assert_eq!(server.describe("").await.topic_id.len(), 22);
    assert!(!codes.iter().any(|code| code == "TOPIC_ID_UNKNOWN"), "{codes:?}");
}

/// Resumed reads send the leader epoch that they know. Such a broker gives none that librdkafka relies on.
/// Covers C49.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_resumes_on_a_broker_without_reliable_leader_epochs() {
    let (server, _) = served(Release::KAFKA_2_1).await;
    let first = server.stream(records(Default::default())).await.expect("a stream");
    let resumed = records(first.token());
    assert_eq!(server.stream(resumed.clone()).await.expect("resumed at the end").entries.len(), 0);
    server.set("ws/t/b", "2").await;
    assert_eq!(server.stream(resumed).await.expect("resumed").entries.len(), 1);
}

/// The log loses its newest records, and grows again beyond a token. Only the leader epoch of the token shows that.
/// Clients rely on leader epochs from Metadata 9 on (Kafka 2.4), so before that the limit is as documented. So it is on
/// brokers of 3.9: the epoch of a partition with one replica is the same after a crash.
/// Covers R14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_cut_and_has_grown_again_is_noticed_from_kafka_2_4_on() {
    let (old, new) = (Release::KAFKA_2_1, Release::KAFKA_2_7);
    let raises_epoch = expected_kafka().starts_with("4.");
    let mut own = tokio::task::spawn_blocking(move || OlderBrokers::start([old, new])).await.expect("brokers");
    let (topic, oracle, direct) = (unique_topic("cut"), shared_oracle(), own.broker.bootstrap().to_owned());
    oracle.create(&direct, &topic, 1, 1, &COMPACTED).expect("the topic is created");
    let write = |keys: &[&str]| {
        for key in keys {
            oracle.produce(&direct, &topic, Some(0), Some(key.as_bytes()), Some(b"1"), &[]).expect("written");
        }
    };
    write(&["ws/t/a", "ws/t/b"]);
    let segment = own.broker.first_segment(&topic, 0);
    let kept = std::fs::metadata(&segment).expect("a segment").len();
    write(&["ws/t/c", "ws/t/d"]);

    let mut servers = Vec::new();
    for release in [old, new] {
        let brokers = format!("--brokers={}", own.bootstrap(release));
        let arguments = vec![brokers, format!("--topic={topic}"), "--partitions=1".to_owned()];
        let server = TestServer::in_process(arguments).await.ready().await;
        let read = server.stream(records(Default::default())).await.expect("a stream");
        assert_eq!(read.entries.len(), 4);
        let token = read.token();
        servers.push((server, token));
    }

    own.broker.kill();
    std::fs::File::options().write(true).open(&segment).expect("a segment").set_len(kept).expect("it is cut");
    let own = tokio::task::spawn_blocking(move || {
        own.broker.restart();
        own
    });
    let _own = own.await.expect("the broker starts again");
    write(&["ws/t/e", "ws/t/f", "ws/t/g"]);

    let mut answers = Vec::new();
    for (server, token) in &servers {
        let began = Instant::now();
        answers.push(loop {
            match server.stream(records(token.clone())).await {
                Err(status) if status.code() == Code::Unavailable => assert!(began.elapsed() < PATIENCE, "{status:?}"),
                answer => break answer,
            }
        });
    }
    let passed_over = |answer: Result<Streamed, Status>| {
        let read = answer.expect("resumed");
        assert_eq!(read.entries.iter().map(|e| &*e.key).collect::<Vec<_>>(), ["ws/t/g"], "e and f are passed over");
    };
    let newer = answers.pop().expect("two answers");
    if raises_epoch {
        let noticed = newer.map(|read| read.entries).expect_err("like Kafka 2.7");
        assert_eq!((noticed.code(), &*reason(&noticed)), (Code::OutOfRange, "RESYNC_REQUIRED"), "{noticed:?}");
    } else {
        passed_over(newer);
    }
    passed_over(answers.pop().expect("two answers"));
}

/// IncrementalAlterConfigs is there from Kafka 2.3 on (KIP-339). The older AlterConfigs would reset other values.
/// Covers C66.
#[test]
fn a_topic_is_created_and_compared_on_old_brokers_and_altered_from_2_3_on() {
    for release in RELEASES {
        let (topic, bootstrap) = (unique_topic("older-ensure"), brokers().bootstrap(release));
        let ensure = ["ensure", "--partitions=2", "--segment=1h"];
        let (code, said, error) = topic_command_on(bootstrap, &topic, &ensure);
        assert_eq!((code, &said["created"]), (Some(0), &true.into()), "{release:?}: {error}");
        let (code, said, error) = topic_command_on(bootstrap, &topic, &ensure);
        assert_eq!((code, &said["notes"]), (Some(0), &serde_json::json!([])), "{release:?}: {error}");
        let (code, said, error) =
            topic_command_on(bootstrap, &topic, &["ensure", "--partitions=2", "--segment=2h", "--alter"]);
        let segment = config(brokers().broker.bootstrap(), &topic, "segment.ms");
        if release.name == Release::KAFKA_2_1.name {
            assert_eq!(code, Some(1), "{release:?}: {said}");
            assert!(error.contains("requires broker version >= 2.3.0"), "{error}");
            assert_eq!(segment.as_deref(), Some("3600000"));
        } else {
            assert_eq!((code, &said["altered"]), (Some(0), &true.into()), "{release:?}: {error}");
            assert_eq!(segment.as_deref(), Some("7200000"));
        }
    }
}
