//! The servers that this binary runs the contract suite on, each with a topic of its own.

use changelogd_testkit::{shared_broker, shared_oracle, unique_topic};

use crate::contract::server::TestServer;

pub const COMPACTED: [(&str, &str); 2] = [("cleanup.policy", "compact"), ("compression.type", "snappy")];

/// A topic, and the arguments to serve it.
pub fn topic(partitions: i32) -> (String, Vec<String>) {
    let topic = unique_topic("changelog");
    let bootstrap = shared_broker().bootstrap();
    shared_oracle().create(bootstrap, &topic, partitions, 1, &COMPACTED).expect("the topic is created");
    let arguments =
        vec![format!("--brokers={bootstrap}"), format!("--topic={topic}"), format!("--partitions={partitions}")];
    (topic, arguments)
}

fn with_foreign_writer(server: TestServer, topic: String) -> TestServer {
    server.durable().with_foreign(Box::new(move |partition, key, value| {
        let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
        let policy = |p| oracle.config(bootstrap, &topic, &[("cleanup.policy", p)]).expect("the policy is set");
        // A compacted topic accepts no record without a key. Such records were written before the topic got its policy.
        if key.is_none() {
            policy("delete");
        }
        oracle
            .produce(bootstrap, &topic, Some(partition), key.as_deref(), value.as_deref(), &[("x", None)])
            .expect("a foreign record is written");
        if key.is_none() {
            policy("compact");
        }
    }))
}

pub async fn real() -> TestServer {
    let (topic, arguments) = topic(10);
    with_foreign_writer(TestServer::in_process(arguments).await, topic)
}

pub async fn real_process() -> TestServer {
    let (topic, arguments) = topic(10);
    with_foreign_writer(TestServer::process(arguments).await, topic)
}
