//! The settings that `serve` and `topic` share: how to reach a topic.

use std::path::PathBuf;

use changelog_core::model::PartitionCount;

/// How to reach a topic.
#[derive(Debug, Clone, clap::Args)]
pub struct KafkaArgs {
    /// The Kafka brokers to contact first: host:port, separated by commas.
    ///
    /// By default none; --store kafka then takes localhost:9092. Also KAFKA_BROKERS.
    #[arg(long, value_name = "LIST", help_heading = "Kafka")]
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
    /// The flag can be repeated; its variable holds one property a line. A property that would break a promise is
    /// refused. By default none.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_property, help_heading = "Kafka")]
    pub kafka_property: Vec<(String, String)>,
    /// A file of librdkafka properties, one name=value a line: the place for secrets.
    ///
    /// --kafka-property wins over the file. By default none.
    #[arg(long, value_name = "FILE", help_heading = "Kafka")]
    pub kafka_properties_file: Option<PathBuf>,
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

fn parse_property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    match name.trim() {
        "" => Err("must be NAME=VALUE".to_owned()),
        name => Ok((name.to_owned(), value.to_owned())),
    }
}

fn parse_partitions(text: &str) -> Result<PartitionCount, String> {
    let count = text.parse().ok().and_then(PartitionCount::new).filter(|c| c.get() <= 100_000);
    count.ok_or_else(|| "must be a whole number from 1 to 100000".to_owned())
}
