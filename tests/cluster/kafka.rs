//! A real Kafka outside of the pods, on the address of the node.

use changelogd_testkit::{Broker, unique_topic};
use tokio::{sync::Mutex, task::block_in_place};

use super::node::ADDRESS;

pub struct Kafka {
    broker: Mutex<Broker>,
    /// `host:port`, as pods reach it.
    pub address: String,
}

impl Kafka {
    pub async fn start() -> Result<Self, String> {
        // The listener of the node stands next to the one of tests. Clients are given the address that they asked.
        let listeners =
            format!("PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller}},NODE://{ADDRESS}:{PORT}");
        let advertised = format!("PLAINTEXT://127.0.0.1:{{port}},NODE://{ADDRESS}:{PORT}");
        let properties = [
            ("listeners", listeners.as_str()),
            ("advertised.listeners", &advertised),
            ("listener.security.protocol.map", "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,NODE:PLAINTEXT"),
        ];
        let broker = block_in_place(|| Broker::start_with(&properties));
        Ok(Self { broker: Mutex::new(broker), address: format!("{ADDRESS}:{PORT}") })
    }

    /// For clients outside of the pods.
    pub async fn bootstrap(&self) -> String {
        self.broker.lock().await.bootstrap().to_owned()
    }

    pub async fn stop(&self) {
        let mut broker = self.broker.lock().await;
        block_in_place(|| broker.stop());
    }

    pub async fn restart(&self) {
        let mut broker = self.broker.lock().await;
        block_in_place(|| broker.restart());
    }
}

/// The network namespace is of this run only, so no other program has it.
const PORT: u16 = 9092;

/// A topic of its own.
pub fn topic() -> String {
    unique_topic("cluster")
}

/// The values of a sidecar or a server on Kafka, each behind the prefix. The topic is created.
pub fn values(prefix: &str, address: &str, topic: &str) -> Vec<String> {
    let values = [
        format!("kafka.brokers={{{address}}}"),
        format!("topic.name={topic}"),
        "topic.partitions=4".to_owned(),
        "topic.create=true".to_owned(),
        "topic.replicationFactor=1".to_owned(),
    ];
    values.map(|value| format!("{prefix}{value}")).to_vec()
}
