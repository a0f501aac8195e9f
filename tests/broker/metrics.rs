//! Metrics that only a real broker moves.

use changelogd_testkit::{shared_broker, shared_oracle, unique_topic};

use crate::{
    contract::{
        moving::{Before, Scrape},
        server::TestServer,
    },
    kit::created,
};

fn arguments(topic: &str, more: &[&str]) -> Vec<String> {
    let own = [format!("--brokers={}", shared_broker().bootstrap()), format!("--topic={topic}")];
    own.into_iter().chain(more.iter().map(|flag| (*flag).to_owned())).collect()
}

/// Covers C83.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_and_a_low_watermark_are_shown_for_their_partition() {
    let topic = created(1, &[]);
    let server = TestServer::process(arguments(&topic, &[])).await.ready().await;
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    server.set("ws/t/a", "1").await;
    let end = "changelogd_kafka_partition_end_offset";
    Before::of(&server).await.until(end, |now| now.sum(end) >= 1.0).await;
    let before = Before::of(&server).await;
    let id = unique_topic("txn");
    oracle.txn_begin(bootstrap, &id).unwrap();
    oracle.txn_send(&id, &topic, 0, Some(b"ws/t/in-transaction"), Some(b"1")).unwrap();
    server.set("ws/t/b", "1").await;
    // From the second query on that sees it.
    before.moves("changelogd_kafka_partition_open_transaction_seconds").await;
    oracle.txn_commit(&id).unwrap();
    let seconds = "changelogd_kafka_partition_open_transaction_seconds{partition=\"0\"}";
    before.until("it has ended", |now| now.value(seconds) < 1e-9).await;

    // Kafka deletes no records of a topic that is compacted only.
    oracle.config(bootstrap, &topic, &[("cleanup.policy", "compact,delete")]).unwrap();
    oracle.delete_records(bootstrap, &topic, 0, 1).unwrap();
    oracle.config(bootstrap, &topic, &[("cleanup.policy", "compact")]).unwrap();
    before.moves("changelogd_kafka_partition_low_offset").await;

    // What is not known any more is no transaction that stays open.
    let id = unique_topic("txn");
    oracle.txn_begin(bootstrap, &id).unwrap();
    oracle.txn_send(&id, &topic, 0, Some(b"ws/t/in-transaction"), Some(b"2")).unwrap();
    Before::of(&server).await.until("it is open again", |now| now.value(seconds) > 0.0).await;
    oracle.delete(bootstrap, &topic).unwrap();
    Before::of(&server).await.until("nothing is known", |now| now.value(seconds) < 1e-9).await;
    let now = Scrape::of(&server.admin).await;
    assert!(now.value("changelogd_ready") < 1e-9, "while the topic is served, a transaction may end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_of_the_brokers_is_shown_as_throttling() {
    let topic = created(1, &[]);
    let client_id = format!("--kafka-property=client.id={topic}");
    let more = [&*client_id, "--kafka-property=statistics.interval.ms=200", "--producers=1", "--write-timeout=30s"];
    let server = TestServer::process(arguments(&topic, &more)).await.ready().await;
    shared_oracle().quota(shared_broker().bootstrap(), &topic, "producer_byte_rate", 10_000).unwrap();
    let before = Before::of(&server).await;
    let value = format!("\"{}\"", "x".repeat(100_000));
    let throttled = "changelogd_kafka_throttle_seconds_total";
    let mut i = 0;
    while Scrape::of(&server.admin).await.sum(throttled) < 1e-9 {
        i += 1;
        assert!(i < 200, "the quota is in effect");
        server.set(&format!("ws/t/{i}"), &value).await;
    }
    before.moves("changelogd_kafka_throttle_seconds_total").await;
}
