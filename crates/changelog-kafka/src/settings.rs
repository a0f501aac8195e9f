//! The configuration of librdkafka's clients: fixed values over the user's properties over our defaults.
//!
//! Promises that a property that would break a promise is rejected by name, and that no secret value is shown.

mod brokers;
mod encryption;
mod error;
mod expiry;
mod files;
mod fingerprint;
#[cfg(test)]
mod fuzz;
mod held;
mod loaded;
mod names;
mod oauth;
mod path;
mod pem;
mod properties;
mod secrets;
mod source;
mod value_files;

use std::{fmt, path::PathBuf, time::Duration};

use changelog_core::{
    model::{MAX_HEADER_BYTES, MAX_HEADERS, MAX_KEY_BYTES, PartitionCount},
    rule::{Rule, holds},
};
use rdkafka::{ClientConfig, client::Client, error::KafkaError, types::RDKafkaType};

pub use self::{
    brokers::{Brokers, BrokersError},
    error::PropertyError,
    oauth::{OidcSettings, TokenEndpoint, TokenSettings, TokenSource, TrustedCertificates},
    path::shown_path,
    properties::{PropertiesError, parse_properties},
    secrets::{is_secret, shown_name, shown_property, shown_text},
    source::{PropertiesFile, PropertiesFileError},
    value_files::Properties,
};
pub(super) use self::{
    expiry::Expirations,
    fingerprint::Fingerprint,
    held::HeldFiles,
    loaded::{Loaded, WatchedFiles},
    path::quoted_path,
};
use self::{
    files::Effective,
    names::{DEFAULT_MECHANISM, Property, is_same_property},
    secrets::{REDACTED, has_other_property, is_properties, shown_value},
};
use super::client_context::Context;

/// The settings of the Kafka store.
#[derive(Clone)]
pub struct Settings {
    /// The bootstrap brokers, host:port, separated by commas. Without a port it is 9092.
    pub brokers: String,
    /// The topic's name.
    pub topic: String,
    /// The consumer group id, for ACLs and quotas only.
    pub group_id: String,
    /// The partition count that the deployment expects. A topic with another count is not served. `None` = any count.
    pub expected_partitions: Option<PartitionCount>,
    /// The user's librdkafka properties, by name. A name may have any case. Of two values of a property, the later one
    /// counts.
    pub properties: Properties,
    /// More properties. `properties` win over them. The log reads the file again when it changes.
    pub properties_file: Option<PropertiesFile>,
    /// A file with the token of SASL OAUTHBEARER (--kafka-oauth-token-file).
    pub oauth_token_file: Option<PathBuf>,
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

impl PropertyError {
    /// librdkafka can't create a client though each property is valid.
    pub(super) fn client(settings: &Settings, error: &dyn std::fmt::Display) -> Self {
        Self::of_setting("bootstrap.servers", &settings.brokers, format!("no client can be made: {error}"))
    }
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

/// Without the values of secret properties.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self.all_given().map(|(name, value)| shown_property(name, value)).collect();
        f.debug_struct("Settings")
            .field("brokers", &self.brokers.parse::<Brokers>().map_or(REDACTED.to_owned(), |b| b.to_string()))
            .field("topic", &shown_text(&self.topic).unwrap_or(REDACTED))
            .field("properties", &shown)
            .finish_non_exhaustive()
    }
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
            properties: Properties::default(),
            properties_file: None,
            oauth_token_file: None,
            producers: 2,
            write_timeout: Duration::from_secs(10),
            create_topic: None,
            open_transaction_wait: Duration::from_secs(5),
            no_progress: Duration::from_secs(10),
            read_ahead_bytes: 16 * 1024 * 1024,
            queue_bytes: 256 * 1024 * 1024,
        }
    }

    /// Whether both have the same properties. Of the other settings none changes while the process runs.
    pub(super) fn has_same_properties(&self, other: &Self) -> bool {
        self.all_properties().eq(other.all_properties())
    }

    /// Whether the properties file has a property.
    pub(super) fn has_properties_in_file(&self) -> bool {
        self.properties_file.as_ref().is_some_and(|file| !file.properties().is_empty())
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
        for ((property, name, value), (_, given)) in self.known_properties()?.into_iter().zip(self.all_given()) {
            if !property.is_ours() {
                check_alone(property, name, value, Some(value).filter(|value| value == given))?;
            }
        }
        let effective = self.effective();
        check_mechanism(&effective)?;
        files::check(&effective)?;
        self.token()?;
        // librdkafka finds conflicts between properties, and certificates that can't be read, when it creates a client.
        // The client has no brokers, so it connects to none.
        self.check_client(Role::Admin, RDKafkaType::RD_KAFKA_PRODUCER)?;
        self.check_client(Role::Producer { max_message_bytes: 1_000_000 }, RDKafkaType::RD_KAFKA_PRODUCER)?;
        self.check_client(Role::Consumer { queue_kib: 1_024 }, RDKafkaType::RD_KAFKA_CONSUMER)
    }

    /// Where the token of SASL OAUTHBEARER comes from; `None` without OAUTHBEARER, or if librdkafka makes the token.
    pub(super) fn token(&self) -> Result<Option<TokenSettings>, PropertyError> {
        oauth::token_settings(&self.effective(), self.oauth_token_file.as_deref())
    }

    /// The user's properties, if each is known and may be set.
    fn known_properties(&self) -> Result<Vec<(Property, &str, &str)>, PropertyError> {
        let known = |(at, (name, value)): (usize, &'_ (String, String))| {
            let property = Property::named(name).ok_or_else(|| self.unknown(at))?;
            if has_other_property(name, value) {
                return Err(PropertyError::new(name, None, "has several properties: write one a line"));
            }
            match property.refused(value) {
                Some(reason) => Err(PropertyError::new(name, None, reason)),
                None => Ok(property),
            }
        };
        let properties = self.all_properties().enumerate();
        properties.map(|it| Ok((known(it)?, &*it.1.0, &*it.1.1))).collect()
    }

    /// The user's properties that may be set, by the name that is given to librdkafka.
    fn effective(&self) -> Effective<'_> {
        let allowed = |(name, value): &'_ (String, String)| {
            Property::named(name).filter(|property| property.refused(value).is_none()).map(Property::name)
        };
        self.all_properties().filter_map(|property| Some((allowed(property)?, &*property.1))).collect()
    }

    /// The user's properties: first those of the file, because of two values the later one counts.
    fn all_properties(&self) -> impl Iterator<Item = &(String, String)> {
        self.properties_file.iter().flat_map(PropertiesFile::properties).chain(self.properties.values())
    }

    /// As [`Self::all_properties`], with the values as they were given.
    fn all_given(&self) -> impl Iterator<Item = &(String, String)> {
        self.properties_file.iter().flat_map(PropertiesFile::given).chain(self.properties.given())
    }

    /// The properties of the file that are in effect, with the values as they were given.
    pub fn properties_of_file(&self) -> Vec<&(String, String)> {
        let all: Vec<_> = self.all_given().collect();
        let of_file = all.len() - self.properties.values().len();
        let is_last = |at: usize| !all[at + 1..].iter().any(|later| is_same_property(&later.0, &all[at].0));
        (0..of_file).filter(|at| is_last(*at)).map(|at| all[at]).collect()
    }

    /// The error for an unknown property, by its place in the list.
    fn unknown(&self, at: usize) -> PropertyError {
        let name = self.all_properties().nth(at).map_or("", |(name, _)| name);
        let nearest = Property::nearest(name).map(|nearest| format!("; the nearest is {nearest}")).unwrap_or_default();
        let place = format!("property {} of {}", at + 1, self.all_properties().count());
        let before = at.checked_sub(1).and_then(|before| self.all_properties().nth(before));
        let before = before.filter(|(_, value)| value.is_empty());
        let before = before.map_or("", |_| "; the one before it has no value, which must stand on the same line");
        PropertyError::new(name, None, format!("librdkafka has no such property ({place}){nearest}{before}"))
    }

    fn check_own(&self) -> Result<(), PropertyError> {
        const MAX_TOPIC: usize = 249;
        let wrong = |name: &str, value: &str, reason: &str| Err(PropertyError::of_setting(name, value, reason));
        // Kafka's rule (org.apache.kafka.common.internals.Topic).
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Err(error) = self.brokers.parse::<Brokers>() {
            return Err(PropertyError::new("bootstrap.servers", None, error.to_string()));
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
        if self.group_id.contains(char::is_control) {
            return wrong("group.id", &self.group_id, "must not have control characters, such as a line break");
        }
        if is_properties(&self.group_id) {
            return wrong("group.id", &self.group_id, "has a property in it");
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
                let explained = files::explained(&text, &self.effective());
                let named = || match Property::in_message(&text) {
                    Some(name) => PropertyError::new(name, None, &*text),
                    None => PropertyError::of_client(&text),
                };
                Err(explained.unwrap_or_else(named))
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
                // For metrics. Scrapers come every 15 to 60 s.
                ("statistics.interval.ms", "10000"),
            ]),
            Role::Consumer { .. } => set(&[
                // An end-of-partition event needs one more fetch, which the broker holds for this time.
                ("fetch.wait.max.ms", "5"),
                ("fetch.queue.backoff.ms", "5"),
                ("fetch.error.backoff.ms", "50"),
                ("fetch.message.max.bytes", "4194304"),
            ]),
        }
        for (name, value) in self.effective() {
            if !Property::named(name).is_some_and(Property::is_ours) {
                config.set(name, value);
            }
        }
        // Fixed values, which the promises depend on.
        let brokers = self.brokers.parse::<Brokers>().map_or_else(|_| self.brokers.clone(), |b| b.to_string());
        config.set("bootstrap.servers", brokers).set("allow.auto.create.topics", "false");
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
                    .set("check.crcs", "true")
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

/// Checks a value that no other one contradicts. An error shows `shown` at most.
fn check_alone(property: Property, name: &str, value: &str, shown: Option<&str>) -> Result<(), PropertyError> {
    let mut alone = ClientConfig::new();
    alone.set(property.name(), value);
    let reason = match alone.create_native_config() {
        Ok(native) => match native.get(property.name()).ok().and_then(|read| misread(value, &read)) {
            None => return Ok(()),
            Some(reason) => reason,
        },
        Err(KafkaError::ClientConfig(_, text, _, _)) => text.trim_end().to_owned(),
        Err(other) => other.to_string(),
    };
    // librdkafka's text has the value.
    let is_shown = shown.is_some() && shown_value(name, value).is_some_and(|shown| shown == value);
    let reason = if is_shown { reason } else { "is not a valid value".to_owned() };
    Err(PropertyError::new(name, shown, reason))
}

/// What librdkafka has read, if that is another number than the value says: it ignores what stands behind the digits,
/// and drops the high bits of a number that is too large.
fn misread(value: &str, read: &str) -> Option<String> {
    let number = |text: &str| text.trim().parse::<f64>().ok();
    let is_other = value.trim() != read && number(read).is_some() && number(value) != number(read);
    is_other.then(|| format!("is no number that librdkafka can read: it takes {read}"))
}

/// SASL without a mechanism is GSSAPI, which this build lacks.
fn check_mechanism(effective: &Effective<'_>) -> Result<(), PropertyError> {
    let has_sasl = oauth::has_sasl(effective);
    let lacking = Property::named("sasl.mechanism").and_then(|property| property.refused(DEFAULT_MECHANISM));
    match lacking.filter(|_| has_sasl && !effective.contains_key("sasl.mechanism")) {
        Some(reason) => Err(PropertyError::new("sasl.mechanism", None, format!("is not set; its default {reason}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
