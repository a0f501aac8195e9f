//! The settings that `serve` and `topic` share: how to reach a topic.
//!
//! The crate of the Kafka store parses brokers and properties. A build without it takes any text, and never uses it.

use std::{fmt, path::PathBuf};

use changelog_core::model::PartitionCount;

/// How to reach a topic.
#[derive(Debug, Clone, clap::Args)]
pub struct KafkaArgs {
    /// The Kafka brokers to contact first: host:port, separated by commas.
    ///
    /// An IPv6 address stands in brackets. The port is 9092 if it is left out. By default none; --store kafka then
    /// takes localhost:9092. Also KAFKA_BROKERS.
    #[arg(long, value_name = "LIST", value_parser = parse_brokers, help_heading = "Kafka")]
    pub brokers: Option<String>,
    /// The changelog's topic.
    ///
    /// Also KAFKA_CHANGELOG_TOPIC.
    #[arg(long, value_name = "NAME", default_value = "workspace-changelog", help_heading = "Kafka")]
    pub topic: String,
    /// The client group id, for ACLs and quotas only: nothing subscribes, nothing commits.
    ///
    /// Also KAFKA_CHANGELOG_GROUP_ID.
    #[arg(long, value_name = "ID", default_value = "workspace-changelog-consumer", help_heading = "Kafka")]
    pub group_id: String,
    /// A librdkafka property (TLS, SASL, tuning).
    ///
    /// The flag can be repeated; its variable is a text as in --kafka-properties-file. A property that would break a
    /// promise, or that librdkafka does not have, is refused. ${directory:DIR:FILE} in a value stands for what that
    /// file has. By default none.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_property, help_heading = "Kafka")]
    pub kafka_property: Vec<KafkaProperties>,
    /// A file of librdkafka properties, one name=value a line: the place for secrets.
    ///
    /// A backslash at the end continues a line; two stand for one. A PEM value may go on to its -----END line. At most
    /// 1048576 bytes. --kafka-property wins over the file. It is read again when it changes, or a file that it names.
    /// By default none.
    #[arg(long, value_name = "FILE", help_heading = "Kafka")]
    pub kafka_properties_file: Option<PathBuf>,
    /// A file with the token for SASL OAUTHBEARER, which another process writes and renews.
    ///
    /// It is read again when it changes. It needs security.protocol=SASL_SSL and sasl.mechanism=OAUTHBEARER. The file
    /// may come later: until then changelogd is not ready. By default none: with OAUTHBEARER, the properties then name
    /// an identity provider (sasl.oauthbearer.method=oidc).
    #[arg(long, value_name = "FILE", help_heading = "Kafka")]
    pub kafka_oauth_token_file: Option<PathBuf>,
    /// The partition count of the topic or of the data directory, from 1 to 100000.
    ///
    /// One that exists with another count is refused. By default any count is accepted, and a new one gets 10.
    #[arg(long, value_name = "COUNT", value_parser = parse_partitions, help_heading = "Store")]
    pub partitions: Option<PartitionCount>,
}

impl KafkaArgs {
    /// The brokers to contact first, in effect.
    pub fn brokers(&self) -> &str {
        self.brokers.as_deref().unwrap_or("localhost:9092")
    }
}

/// The properties of one flag, or of the variable. A value may be secret, so the debug output has none.
#[derive(Clone)]
pub struct KafkaProperties(pub Vec<(String, String)>);

impl fmt::Debug for KafkaProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KafkaProperties({})", self.0.len())
    }
}

/// Whether a text may be shown in an error. A property of Kafka may stand in the place of any value, and an address
/// with a user has a password, too.
#[cfg(feature = "kafka")]
pub fn may_be_shown(text: &str) -> bool {
    !text.contains('@') && changelog_kafka::shown_text(text).is_some()
}

/// A build without the Kafka store does not know the names of properties. So it shows words, numbers, and addresses.
#[cfg(not(feature = "kafka"))]
pub fn may_be_shown(text: &str) -> bool {
    let has_other_colon = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u32>().is_err());
    !text.contains(['@', '=']) && !text.contains(char::is_whitespace) && !has_other_colon
}

/// Whether this is the name of a property. Another word may be a password.
#[cfg(feature = "kafka")]
pub fn is_property_name(text: &str) -> bool {
    changelog_kafka::shown_name(text).is_some()
}

#[cfg(not(feature = "kafka"))]
pub fn is_property_name(_: &str) -> bool {
    false
}

#[cfg(feature = "kafka")]
fn parse_brokers(text: &str) -> Result<String, String> {
    text.parse::<changelog_kafka::Brokers>().map(|brokers| brokers.to_string()).map_err(|e| e.to_string())
}

#[cfg(not(feature = "kafka"))]
fn parse_brokers(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("no broker is named".to_owned()) } else { Ok(text.trim().to_owned()) }
}

fn parse_property(text: &str) -> Result<KafkaProperties, String> {
    let properties = parse_properties(text)?;
    // A comment only, or a blank, sets nothing.
    if properties.is_empty() { Err("must be NAME=VALUE".to_owned()) } else { Ok(KafkaProperties(properties)) }
}

#[cfg(feature = "kafka")]
fn parse_properties(text: &str) -> Result<Vec<(String, String)>, String> {
    changelog_kafka::parse_properties(text).map_err(|e| e.to_string())
}

#[cfg(not(feature = "kafka"))]
fn parse_properties(text: &str) -> Result<Vec<(String, String)>, String> {
    Ok(vec![text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or("must be NAME=VALUE")?])
}

fn parse_partitions(text: &str) -> Result<PartitionCount, String> {
    let count = text.parse().ok().and_then(PartitionCount::new).filter(|c| c.get() <= 100_000);
    count.ok_or_else(|| "must be a whole number from 1 to 100000".to_owned())
}
