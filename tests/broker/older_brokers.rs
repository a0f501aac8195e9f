//! Brokers that lack what newer ones have.

use changelogd_testkit::{OlderBroker, shared_oracle, unique_topic};

use crate::{contract::server::TestServer, servers::COMPACTED};

const METADATA: i16 = 3;

/// Metadata has topic ids from version 10 on (KIP-516, Kafka 2.8).
/// Covers R15.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_without_topic_ids_is_served_under_a_warning() {
    let older = tokio::task::spawn_blocking(|| OlderBroker::start(&[(METADATA, 9)])).await.expect("a broker");
    let topic = unique_topic("older");
    shared_oracle().create(older.broker.bootstrap(), &topic, 3, 1, &COMPACTED).expect("the topic is created");
    let arguments =
        vec![format!("--brokers={}", older.bootstrap()), format!("--topic={topic}"), "--partitions=3".to_owned()];
    let server = TestServer::in_process(arguments).await.ready().await;
    server.set("ws/t/a", "1").await;
    assert_eq!(server.load("ws").await.entries.len(), 1);
    let described = server.describe("").await;
    assert_eq!(described.topic_id, "");
    let codes: Vec<_> = described.findings.iter().map(|f| &*f.code).collect();
    assert!(codes.contains(&"TOPIC_ID_UNKNOWN"), "{codes:?}");
}
