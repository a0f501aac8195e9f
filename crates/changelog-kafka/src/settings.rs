//! The configuration of librdkafka's clients: fixed values over the user's properties over our defaults.
//!
//! Promises that a property that would break a promise is rejected by name, and that no secret value is shown.

use std::time::Duration;

use changelog_core::{
    model::{MAX_HEADER_BYTES, MAX_HEADERS, MAX_KEY_BYTES, PartitionCount},
    rule::{Rule, holds},
};
use rdkafka::{ClientConfig, client::Client, error::KafkaError, types::RDKafkaType};

use super::client_context::Context;

/// The settings of the Kafka store.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The bootstrap brokers, host:port, separated by commas.
    pub brokers: String,
    /// The topic's name.
    pub topic: String,
    /// The consumer group id, for ACLs and quotas only.
    pub group_id: String,
    /// The partition count that the deployment expects. A topic with another count is not served. `None` = any count.
    pub expected_partitions: Option<PartitionCount>,
    /// The user's librdkafka properties, by name.
    pub properties: Vec<(String, String)>,
    /// The number of producers.
    pub producers: usize,
    /// How long a write may wait for its acknowledgement (message.timeout.ms).
    pub write_timeout: Duration,
    /// The replication factor with which to create the topic if it does not exist; `None` = it is not created.
    pub create_topic: Option<i32>,
    /// How long a load waits for an open transaction.
    pub open_transaction_wait: Duration,
    /// How long a replay may make no progress.
    pub no_progress: Duration,
    /// How much one consumer reads ahead, in bytes.
    pub read_ahead_bytes: usize,
    /// How much memory the queued writes of all producers may take, in bytes. Each producer has an equal part. A write
    /// counts its key, value and headers, and 1,024 bytes more.
    pub queue_bytes: usize,
}

/// A librdkafka property that is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Kafka property {name}: {shown}{reason}")]
pub struct PropertyError {
    name: String,
    shown: String,
    reason: String,
}

impl PropertyError {
    fn new(name: &str, value: Option<&str>, reason: impl Into<String>) -> Self {
        let shown = value.filter(|_| !is_secret(name)).map(|v| format!("{v:?}: ")).unwrap_or_default();
        Self { name: name.to_owned(), shown, reason: reason.into() }
    }
}

impl PropertyError {
    /// librdkafka can't create a client though each property is valid.
    pub(super) fn client(settings: &Settings, error: &dyn std::fmt::Display) -> Self {
        Self::new("bootstrap.servers", Some(&settings.brokers), format!("no client can be made: {error}"))
    }
}

/// Properties that would break a promise, with the reason. Aliases are included. Source: librdkafka's CONFIGURATION.md.
const REFUSED: [(&str, &str); 33] = [
    ("bootstrap.servers", "it is set by --brokers"),
    ("metadata.broker.list", "it is set by --brokers"),
    ("group.id", "it is set by --group-id"),
    ("group.instance.id", "nothing joins a group here"),
    ("group.protocol", "nothing joins a group here"),
    ("acks", "it is all: an acknowledged write is durable"),
    ("request.required.acks", "it is all: an acknowledged write is durable"),
    ("enable.idempotence", "it is true: a retry must neither double nor reorder writes"),
    ("enable.gapless.guarantee", "it would stop a producer for good at the first failed write"),
    ("max.in.flight", "it is 5: order needs at most that"),
    ("max.in.flight.requests.per.connection", "it is 5: order needs at most that"),
    ("message.timeout.ms", "it is set by --write-timeout"),
    ("delivery.timeout.ms", "it is set by --write-timeout"),
    ("message.max.bytes", "it follows the topic's max.message.bytes"),
    ("transactional.id", "writes are not transactions"),
    ("partitioner", "the partition is murmur2 of the workspace ID, and is given with each record"),
    ("allow.auto.create.topics", "it is false: a misspelt topic must not come into being"),
    ("isolation.level", "it is read_committed: what was aborted must not be loaded"),
    ("auto.offset.reset", "it is error: a load must not jump over what it can't read"),
    ("topic.auto.offset.reset", "it is error: a load must not jump over what it can't read"),
    ("enable.auto.commit", "it is false: nothing commits"),
    ("auto.commit.enable", "it is false: nothing commits"),
    ("enable.auto.offset.store", "it is false: nothing commits"),
    ("enable.partition.eof", "it is true: it tells a load its end"),
    ("partition.assignment.strategy", "nothing subscribes"),
    ("client.rack", "loads are read from leaders: a follower may say its end too early"),
    ("log.queue", "librdkafka's log lines go to ours"),
    ("test.mock.num.brokers", "it would write to a pretended cluster in memory"),
    ("test.mock.broker.rtt", "it is for tests of librdkafka itself"),
    ("plugin.library.paths", "it loads code"),
    ("ssl.engine.location", "it loads code"),
    ("ssl.engine.id", "it loads code"),
    ("ssl.providers", "it loads code"),
];

/// Properties whose values must not be shown: librdkafka's own list (rdkafka_conf.c, sensitive), and ours.
const SECRETS: [&str; 17] = [
    "sasl.password",
    "sasl.username",
    "ssl.key.password",
    "ssl.key.location",
    "ssl.key.pem",
    "ssl.ca.pem",
    "ssl_key",
    "ssl.keystore.password",
    "ssl.truststore.password",
    "sasl.oauthbearer.config",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.assertion.private.key.file",
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.jaas.config",
    "sasl.kerberos.kinit.cmd",
];

/// Whether a property's value must not be shown.
pub fn is_secret(name: &str) -> bool {
    let guess = ["password", "secret", "passphrase", "token"];
    SECRETS.contains(&name) || guess.iter().any(|g| name.contains(g)) && !name.contains("endpoint")
}

/// Parses name=value lines. Blank lines and lines that begin with `#` or `!` are skipped, as in a Java properties file.
pub fn parse_properties(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        // The error never quotes the line, because it may hold a secret.
        let wrong = || format!("line {}: must be name=value", i + 1);
        let (name, value) = line.split_once('=').ok_or_else(wrong)?;
        if name.trim().is_empty() {
            return Err(wrong());
        }
        found.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    Ok(found)
}

/// The client that a configuration is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The long-lived client that watches the topic and queries offsets.
    Admin,
    /// A producer of the pool.
    Producer {
        /// The topic's max.message.bytes.
        max_message_bytes: usize,
    },
    /// The consumer of one replay.
    Consumer {
        /// How much it may read ahead, in KiB.
        queue_kib: usize,
    },
}

/// The most bytes of a record in addition to its value: key, headers, and the framing of both and of the batch.
///
/// The framing takes 61 bytes, and some for each varint.
pub const RECORD_OVERHEAD: usize = MAX_KEY_BYTES + MAX_HEADER_BYTES + MAX_HEADERS * 10 + 256;

impl Settings {
    /// Settings with the documented defaults.
    pub fn new(brokers: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            topic: topic.into(),
            group_id: "workspace-changelog-consumer".to_owned(),
            expected_partitions: None,
            properties: Vec::new(),
            producers: 2,
            write_timeout: Duration::from_secs(10),
            create_topic: None,
            open_transaction_wait: Duration::from_secs(5),
            no_progress: Duration::from_secs(10),
            read_ahead_bytes: 16 * 1024 * 1024,
            queue_bytes: 256 * 1024 * 1024,
        }
    }

    /// How many writes and bytes one producer may have queued (queue.buffering.max.messages, where 0 is no limit, and
    /// queue.buffering.max.kbytes).
    pub(super) fn queue_limits(&self) -> (u64, usize) {
        let config = self.config(Role::Producer { max_message_bytes: 1 });
        let number =
            |name: &str| config.get(name).and_then(|value| value.trim().parse::<u64>().ok()).filter(|n| *n > 0);
        let bytes = number("queue.buffering.max.kbytes").and_then(|kib| usize::try_from(kib.saturating_mul(1024)).ok());
        (number("queue.buffering.max.messages").unwrap_or(u64::MAX), bytes.unwrap_or(usize::MAX))
    }

    /// Rejects settings that are wrong without asking a broker.
    pub fn check(&self) -> Result<(), PropertyError> {
        self.check_own()?;
        for (name, value) in &self.properties {
            if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| refused == name) {
                return Err(PropertyError::new(name, None, format!("is refused: {reason}")));
            }
            let mut alone = ClientConfig::new();
            alone.set(name, value);
            if let Err(error) = alone.create_native_config() {
                let reason = match error {
                    KafkaError::ClientConfig(_, text, _, _) => text,
                    other => other.to_string(),
                };
                let reason = if is_secret(name) { "is not a valid value".to_owned() } else { reason };
                return Err(PropertyError::new(name, Some(value), reason));
            }
        }
        // librdkafka finds conflicts between properties, and certificates that can't be read, when it creates a client.
        // The client has no brokers, so it connects to none.
        self.check_client(Role::Admin, RDKafkaType::RD_KAFKA_PRODUCER)?;
        self.check_client(Role::Producer { max_message_bytes: 1_000_000 }, RDKafkaType::RD_KAFKA_PRODUCER)?;
        self.check_client(Role::Consumer { queue_kib: 1_024 }, RDKafkaType::RD_KAFKA_CONSUMER)
    }

    fn check_own(&self) -> Result<(), PropertyError> {
        const MAX_TOPIC: usize = 249;
        let wrong = |name: &str, value: &str, reason: &str| Err(PropertyError::new(name, Some(value), reason));
        // Kafka's rule (org.apache.kafka.common.internals.Topic).
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if self.brokers.split(',').all(|b| b.trim().is_empty()) {
            return wrong("bootstrap.servers", &self.brokers, "no broker is named");
        }
        if self.topic.is_empty() || self.topic.len() > MAX_TOPIC || !self.topic.chars().all(legal) {
            return wrong("topic", &self.topic, "must be 1 to 249 letters, digits, dots, underscores and hyphens");
        }
        if matches!(&*self.topic, "." | "..") {
            return wrong("topic", &self.topic, "is no name that Kafka takes");
        }
        if self.group_id.trim().is_empty() {
            return wrong("group.id", &self.group_id, "must not be empty: librdkafka assigns nothing without one");
        }
        // For librdkafka 0 is no limit, and the value is an int of milliseconds.
        if !(1..=i32::MAX as u128).contains(&self.write_timeout.as_millis()) {
            let shown = format!("{:?}", self.write_timeout);
            return wrong("message.timeout.ms", &shown, "must be from 1 ms to some 24 days");
        }
        Ok(())
    }

    fn check_client(&self, role: Role, kind: RDKafkaType) -> Result<(), PropertyError> {
        let mut config = self.config(role);
        config.remove("bootstrap.servers");
        let made =
            config.create_native_config().and_then(|native| Client::new(&config, native, kind, Context::default()));
        match made {
            Ok(_) => Ok(()),
            Err(KafkaError::ClientConfig(_, text, name, _)) => Err(PropertyError::new(&name, None, text)),
            Err(other) => {
                let text = match other {
                    KafkaError::ClientCreation(text) => text,
                    other => other.to_string(),
                };
                // The text may name the property.
                let named = self.properties.iter().map(|(name, _)| name).find(|name| text.contains(&***name));
                Err(PropertyError::new(named.map_or("settings", |n| &**n), None, text))
            }
        }
    }

    /// The configuration of one client.
    pub fn config(&self, role: Role) -> ClientConfig {
        let mut config = ClientConfig::new();
        let mut set = |pairs: &[(&str, &str)]| {
            for (name, value) in pairs {
                config.set(*name, *value);
            }
        };
        // Defaults that the user's properties may change.
        set(&[
            ("client.id", "changelogd"),
            ("socket.nagle.disable", "true"),
            ("reconnect.backoff.ms", "50"),
            ("reconnect.backoff.max.ms", "1000"),
            ("retry.backoff.ms", "50"),
            // A frozen leader does not answer that it is no longer the leader. Metadata of other brokers shows it.
            ("topic.metadata.refresh.interval.ms", if matches!(role, Role::Consumer { .. }) { "2000" } else { "5000" }),
            ("log.connection.close", "false"),
            // The bundled OpenSSL has no certificates. With `probe` librdkafka looks where distributions keep them.
            ("ssl.ca.location", "probe"),
        ]);
        match role {
            Role::Admin => {}
            Role::Producer { .. } => set(&[
                ("compression.type", "snappy"),
                // A lone write must not wait. Under load, batches form while requests are in flight.
                ("linger.ms", "0"),
                ("queue.buffering.max.messages", "100000"),
                ("queue.buffering.max.kbytes", "131072"),
            ]),
            Role::Consumer { .. } => set(&[
                // An end-of-partition event needs one more fetch, which the broker holds for this time.
                ("fetch.wait.max.ms", "5"),
                ("fetch.queue.backoff.ms", "5"),
                ("fetch.error.backoff.ms", "50"),
                ("check.crcs", "true"),
                ("fetch.message.max.bytes", "4194304"),
            ]),
        }
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        // Fixed values, which the promises depend on.
        config.set("bootstrap.servers", &self.brokers).set("allow.auto.create.topics", "false");
        match role {
            Role::Admin => {}
            Role::Producer { max_message_bytes } => {
                let timeout = self.write_timeout.as_millis().to_string();
                config
                    .set("acks", "all")
                    .set("enable.idempotence", "true")
                    .set("max.in.flight.requests.per.connection", "5")
                    .set("message.timeout.ms", timeout)
                    .set("message.max.bytes", max_message_bytes.clamp(1_000, 1_000_000_000).to_string())
                    // If the broker rejects a batch as too large, every write in it fails.
                    .set("batch.size", max_message_bytes.clamp(1, 1_000_000).to_string());
            }
            Role::Consumer { queue_kib } => {
                config
                    .set("group.id", &self.group_id)
                    .set("isolation.level", "read_committed")
                    .set("auto.offset.reset", if holds(Rule::LogGapIsError) { "error" } else { "earliest" })
                    .set("enable.auto.commit", "false")
                    .set("enable.auto.offset.store", "false")
                    .set("enable.partition.eof", "true")
                    .set("queued.max.messages.kbytes", queue_kib.max(1).to_string());
            }
        }
        config
    }
}

#[cfg(test)]
mod tests;
