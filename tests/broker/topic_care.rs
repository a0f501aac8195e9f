//! A wrong environment does not end the process. It answers with the documented status, and recovers without a restart
//! when the environment is fixed. Only a changed identity of the topic needs a restart.

use std::time::Instant;

use changelogd::proto::v1;
use changelogd_testkit::{Isolation, shared_broker, shared_oracle, unique_topic};
use tonic::{Code, Status};

use crate::{
    contract::server::{PATIENCE, TestServer, raw, reason},
    servers::{COMPACTED, topic},
};

fn arguments(topic: &str, more: &[&str]) -> Vec<String> {
    let fixed = [format!("--brokers={}", shared_broker().bootstrap()), format!("--topic={topic}")];
    fixed.into_iter().chain(more.iter().map(|m| (*m).to_owned())).collect()
}

pub async fn set(server: &TestServer) -> Result<(), Status> {
    let request = v1::SetRequest { changelog_id: "ws/t/a".to_owned(), value: raw("1"), ..Default::default() };
    server.client.clone().set(request).await.map(drop)
}

pub async fn load(server: &TestServer) -> Result<(), Status> {
    let request = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
    server.try_load(request).await.map(drop)
}

/// Loads and writes are refused so, readiness is off and says why, liveness is on.
async fn refused(server: &TestServer, why: &str) {
    let started = Instant::now();
    loop {
        let (write, read) = (set(server).await, load(server).await);
        let found = [&write, &read].map(|r| r.as_ref().err().map(|s| (s.code(), reason(s))));
        let wanted = Some((Code::FailedPrecondition, why.to_owned()));
        if found.iter().all(|f| *f == wanted) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{why}: {found:?}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(server.http("/readyz").await.0, 503);
    assert_eq!(server.http("/livez").await.0, 200);
    let findings = server.describe("").await.findings;
    assert!(findings.iter().any(|f| f.severity() == v1::Severity::Error), "{findings:?}");
}

async fn noticed(server: &TestServer, code: &str) -> bool {
    server.describe("").await.findings.iter().any(|f| f.code == code)
}

async fn served(server: TestServer) -> TestServer {
    let server = server.ready().await;
    set(&server).await.unwrap();
    load(&server).await.unwrap();
    server
}

/// Covers C35, C51, R17, R33, K10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_is_not_created_and_is_served_once_it_exists() {
    let topic = unique_topic("missing");
    let server = TestServer::process(arguments(&topic, &["--partitions=3"])).await;
    refused(&server, "TOPIC_NOT_FOUND").await;
    let started = Instant::now();
    assert_eq!(reason(&set(&server).await.unwrap_err()), "TOPIC_NOT_FOUND");
    assert!(started.elapsed() < std::time::Duration::from_secs(1), "said at once: {:?}", started.elapsed());
    let bootstrap = shared_broker().bootstrap();
    assert!(
        !shared_oracle().topics(bootstrap).unwrap().contains(&topic),
        "the broker would create it; we must not ask"
    );
    shared_oracle().create(bootstrap, &topic, 3, 1, &COMPACTED).unwrap();
    served(server).await;
}

/// Covers C66, K10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn create_topic_uses_the_documented_configuration() {
    let topic = unique_topic("created");
    served(
        TestServer::process(arguments(
            &topic,
            &["--partitions=4", "--create-topic", "--create-topic-replication-factor=1"],
        ))
        .await,
    )
    .await;
    let described = shared_oracle().describe(shared_broker().bootstrap(), &topic).unwrap();
    assert_eq!(described.partitions.len(), 4);
    for (name, value) in
        [("cleanup.policy", "compact"), ("compression.type", "snappy"), ("min.compaction.lag.ms", "60000")]
    {
        assert_eq!(described.configs.get(name).map(String::as_str), Some(value), "{name}");
    }
}

/// Covers C35, C51, R12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_not_exactly_compacted_is_refused() {
    for policy in ["delete", "compact,delete"] {
        let topic = unique_topic("policy");
        let configs = [("cleanup.policy", policy)];
        shared_oracle().create(shared_broker().bootstrap(), &topic, 2, 1, &configs).unwrap();
        let server = TestServer::process(arguments(&topic, &["--partitions=2"])).await;
        refused(&server, "TOPIC_NOT_COMPACTED").await;
    }
}

/// Covers C51, R12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_cleanup_policy_is_refused_and_its_correction_needs_no_restart() {
    let (topic, args) = topic(2);
    let mut server = served(TestServer::process(args).await).await;
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    for policy in ["compact,delete", "delete"] {
        oracle.config(bootstrap, &topic, &[("cleanup.policy", policy)]).unwrap();
        let changed = Instant::now();
        refused(&server, "TOPIC_NOT_COMPACTED").await;
        println!("{policy}: refused {:?} after the change", changed.elapsed());
        // A second until the topic is described again, and some time for the machine.
        assert!(changed.elapsed() < std::time::Duration::from_secs(5), "{:?}", changed.elapsed());
        oracle.config(bootstrap, &topic, &[("cleanup.policy", "compact")]).unwrap();
        server = served(server).await;
    }
    assert!(!noticed(&server, "SHORT_DELETE_RETENTION").await);
    oracle.config(bootstrap, &topic, &[("delete.retention.ms", "60000")]).unwrap();
    let changed = Instant::now();
    while !noticed(&server, "SHORT_DELETE_RETENTION").await {
        assert!(changed.elapsed() < PATIENCE, "what is noticed is as fresh as the policy");
    }
    served(server).await;
}

/// Covers C51, R16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_count_other_than_expected_is_refused() {
    let (topic, _) = topic(3);
    let server = TestServer::process(arguments(&topic, &["--partitions=10"])).await;
    refused(&server, "PARTITION_COUNT_CHANGED").await;
    let message = set(&server).await.unwrap_err().message().to_owned();
    assert!(message.contains('3') && message.contains("10"), "both counts are named: {message}");
}

/// Covers C52, R15, R16, F15, F16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_grows_or_is_recreated_is_refused_until_a_restart() {
    let (grown, args) = topic(2);
    let mut server = served(TestServer::process(args).await).await;
    let bootstrap = shared_broker().bootstrap();
    shared_oracle().add_partitions(bootstrap, &grown, 3).unwrap();
    refused(&server, "PARTITION_COUNT_CHANGED").await;
    server.arguments = arguments(&grown, &["--partitions=3"]);
    server.restart().await;
    served(server).await;

    let (recreated, args) = topic(2);
    let mut server = served(TestServer::process(args).await).await;
    shared_oracle().delete(bootstrap, &recreated).unwrap();
    shared_oracle().create(bootstrap, &recreated, 2, 1, &COMPACTED).unwrap();
    refused(&server, "TOPIC_RECREATED").await;
    server.restart().await;
    served(server).await;
}

/// Covers C9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_expected_partition_count_there_is_a_finding() {
    let (topic, _) = topic(3);
    let server = TestServer::process(arguments(&topic, &[])).await.ready().await;
    let findings = server.describe("").await.findings;
    assert!(
        findings.iter().any(|f| f.severity() == v1::Severity::Warning && f.message.contains("--partitions")),
        "{findings:?}"
    );
}

/// Covers C51, K4, F1, F2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreachable_brokers_leave_the_process_serving() {
    // A port that no process listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = TestServer::process(vec![format!("--brokers=127.0.0.1:{port}"), "--partitions=3".to_owned()]).await;
    for result in [set(&server).await, load(&server).await] {
        let status = result.unwrap_err();
        assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "BROKERS_UNREACHABLE"), "{status:?}");
    }
    assert_eq!(server.http("/readyz").await.0, 503);
    assert_eq!(server.http("/livez").await.0, 200);
}

/// Covers R3, R4, F8, F9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_is_an_error_and_loads_are_whole_after_it() {
    let (topic, args) = topic(1);
    let server = TestServer::process(args).await.ready().await;
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    set(&server).await.unwrap();
    for end in ["commit", "abort"] {
        let id = unique_topic("txn");
        oracle.txn_begin(bootstrap, &id).unwrap();
        oracle.txn_send(&id, &topic, 0, Some(b"ws/t/in-transaction"), Some(b"1")).unwrap();
        server.set("ws/t/after", "2").await;
        let status = load(&server).await.unwrap_err();
        assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "OPEN_TRANSACTION"), "{status:?}");
        match end {
            "commit" => oracle.txn_commit(&id).unwrap(),
            _ => oracle.txn_abort(&id).unwrap(),
        }
        // The last offset is now a marker, which no reader ever gets.
        let loaded = server.load("ws").await;
        assert_eq!(loaded.entries.len(), 3);
    }
    let dump = oracle.dump(bootstrap, &topic, Isolation::ReadCommitted).unwrap();
    assert!(dump.ranges[0].1 > dump.records.last().unwrap().offset + 1, "the tail is invisible");
}
