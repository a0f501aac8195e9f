//! The settings of `changelogd serve`.

use std::{path::PathBuf, time::Duration};

use super::{Origin, UsageError, format_duration, memory::memory_limit, parse_duration};
use crate::{
    model::{PartitionCount, ValueMode},
    server::Address,
    telemetry::{LogFormat, parse_filter},
};

/// Where the changelog is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum StoreChoice {
    /// On disk, in --data-dir.
    Embedded,
    /// In a topic of Apache Kafka.
    Kafka,
    /// In memory; gone with the process.
    Memory,
}

/// What values must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum ValuesChoice {
    /// JSON documents, stored byte for byte as sent.
    Json,
    /// Any bytes.
    Opaque,
}

impl From<ValuesChoice> for ValueMode {
    fn from(choice: ValuesChoice) -> Self {
        match choice {
            ValuesChoice::Json => Self::Json,
            ValuesChoice::Opaque => Self::Opaque,
        }
    }
}

/// How to reach a topic.
#[derive(Debug, Clone, clap::Args)]
pub struct KafkaArgs {
    /// Kafka brokers to begin with, host:port, separated by commas. Also KAFKA_BROKERS
    #[arg(long, value_name = "LIST")]
    pub brokers: Option<String>,
    /// The changelog's topic. Also KAFKA_CHANGELOG_TOPIC
    #[arg(long, value_name = "NAME", default_value = "workspace-changelog")]
    pub topic: String,
    /// The client group id, for ACLs and quotas only: nothing subscribes, nothing commits. Also KAFKA_CHANGELOG_GROUP_ID
    #[arg(long, value_name = "ID", default_value = "workspace-changelog-consumer")]
    pub group_id: String,
    /// A librdkafka property (TLS, SASL, tuning), may be repeated. What would break a promise is refused by name. In the
    /// environment: one a line
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_property)]
    pub kafka_property: Vec<(String, String)>,
    /// A file of librdkafka properties, name=value lines: the place for secrets
    #[arg(long, value_name = "FILE")]
    pub kafka_properties_file: Option<PathBuf>,
    /// The topic's partition count: the one that is expected of a topic that is there (another is a wrong topic), the one to
    /// create otherwise (10)
    #[arg(long, value_name = "COUNT", value_parser = parse_partitions)]
    pub partitions: Option<PartitionCount>,
}

/// Serves the API: on an embedded store, or on Kafka where brokers are given.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeArgs {
    /// Where the API listens: host:port (port 0 takes a free one), or unix:/path
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    pub listen: Address,
    /// Where metrics and health over HTTP listen: host:port, or off
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9650", value_parser = parse_optional_address)]
    pub admin_listen: OptionalAddress,
    /// A port with gRPC health only, for probes: host:port, or off
    #[arg(long, value_name = "ADDRESS", default_value = "off", value_parser = parse_optional_address)]
    pub health_listen: OptionalAddress,
    /// Let --listen be reachable from other machines without TLS and without authentication
    #[arg(long)]
    pub insecure_listen: bool,
    /// Where the changelog is kept; by default kafka if brokers are given, else embedded
    #[arg(long, value_enum)]
    pub store: Option<StoreChoice>,
    /// The embedded store's directory
    #[arg(long, value_name = "DIR", default_value = "./changelogd-data")]
    pub data_dir: PathBuf,
    /// Embedded store: how long a tombstone stays, from its write. Kafka has the topic's delete.retention.ms
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    pub delete_retention: Duration,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub kafka: KafkaArgs,
    /// Create the topic if it is missing, as `changelogd topic ensure` would
    #[arg(long)]
    pub create_topic: bool,
    /// Kafka producers; a workspace always goes through the same one
    #[arg(long, value_name = "COUNT", default_value = "2", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub producers: u16,
    /// What values must be
    #[arg(long, value_enum, default_value = "json")]
    pub values: ValuesChoice,
    /// The largest value, in bytes; lowered to what the topic's max.message.bytes leaves
    #[arg(long, value_name = "BYTES", default_value = "1000000", value_parser = clap::value_parser!(u32).range(1..=64_000_000))]
    pub max_value_bytes: u32,
    /// How long a write may wait for its acknowledgement (message.timeout.ms)
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_positive)]
    pub write_timeout: Duration,
    /// The longest that a load, get or stream may take; a client's shorter deadline wins
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_positive)]
    pub read_timeout: Duration,
    /// The longest that a reader of a stream may take nothing
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = parse_positive)]
    pub stall_timeout: Duration,
    /// Replays at a time; more wait for --replay-queue-wait, then are told RESOURCE_EXHAUSTED
    #[arg(long, value_name = "COUNT", default_value = "16", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub max_replays: u16,
    /// Of these, those of one client: told by its address, on loopback and Unix sockets by its connection; by default three
    /// quarters of --max-replays
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub max_replays_per_peer: Option<u16>,
    /// Loads that wait for the same partition of a Kafka topic share one replay of it; with `false` each has its own
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 1, action = clap::ArgAction::Set)]
    pub share_replays: bool,
    /// How long a replay waits for its turn
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration)]
    pub replay_queue_wait: Duration,
    /// Streams that follow at a time, three quarters of them of one client; fewer where --replay-budget has no room for what
    /// they read ahead
    #[arg(long, value_name = "COUNT", default_value = "64", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub max_follows: u16,
    /// Bytes that all replays together may hold in memory, until their streams end; more are told RESOURCE_EXHAUSTED. By
    /// default 536870912, or a quarter of the control group's memory limit if that is less
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(MIN_REPLAY_BUDGET..))]
    pub replay_budget: Option<u64>,
    /// Bytes that the folded state of one load may hold in memory; by default 536870912, or --replay-budget if that is less
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_load_bytes: Option<u64>,
    /// How long a stop waits for open calls and accepted writes
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = parse_duration)]
    pub drain_timeout: Duration,
    /// Which log lines: a level, or target=level pairs
    #[arg(long, value_name = "FILTER", default_value = "info,fjall=warn,lsm_tree=warn", value_parser = checked_filter)]
    pub log: String,
    /// How log lines look; by default text on a terminal, json otherwise
    #[arg(long, value_enum)]
    pub log_format: Option<LogFormat>,
}

/// What --replay-budget and --max-load-bytes are where nobody says otherwise.
const DEFAULT_REPLAY_BYTES: u64 = 512 * 1024 * 1024;
/// Below it not even one replay could read ahead.
const MIN_REPLAY_BUDGET: u64 = 2 * 1024 * 1024;
/// What one replay reads ahead: enough for the network at least, and no more than is of use.
const READ_AHEAD: (u64, u64) = (1024 * 1024, 16 * 1024 * 1024);

/// An address, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionalAddress(pub Option<Address>);

fn default_budget(memory_limit: Option<u64>) -> u64 {
    let quarter = memory_limit.map_or(u64::MAX, |limit| limit / 4);
    DEFAULT_REPLAY_BYTES.min(quarter).max(MIN_REPLAY_BUDGET)
}

fn parse_optional_address(text: &str) -> Result<OptionalAddress, String> {
    match text {
        "off" => Ok(OptionalAddress(None)),
        text => match text.parse()? {
            Address::Unix(_) => Err("must be host:port, or off".to_owned()),
            tcp @ Address::Tcp(_) => Ok(OptionalAddress(Some(tcp))),
        },
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

fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be more than nothing".to_owned()),
        some => Ok(some),
    }
}

fn checked_filter(text: &str) -> Result<String, String> {
    parse_filter(text).map(|_| text.to_owned()).map_err(|e| e.to_string())
}

/// A setting as `changelogd config` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The flag, without dashes.
    pub name: &'static str,
    /// In effect; secrets redacted.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

impl KafkaArgs {
    /// The brokers to begin with.
    pub fn brokers(&self) -> &str {
        self.brokers.as_deref().unwrap_or("localhost:9092")
    }
}

impl ServeArgs {
    /// The store in effect.
    pub fn store(&self) -> StoreChoice {
        match (self.store, &self.kafka.brokers) {
            (Some(choice), _) => choice,
            (None, Some(_)) => StoreChoice::Kafka,
            (None, None) => StoreChoice::Embedded,
        }
    }

    /// Replays of one peer at a time, in effect.
    pub fn max_replays_per_peer(&self) -> u16 {
        let three_quarters = u32::from(self.max_replays) * 3 / 4;
        self.max_replays_per_peer.unwrap_or_else(|| u16::try_from(three_quarters).unwrap_or(u16::MAX).max(1))
    }

    /// Bytes that all replays together may hold, in effect.
    pub fn replay_budget(&self) -> u64 {
        self.replay_budget.unwrap_or_else(|| default_budget(memory_limit()))
    }

    /// Bytes that the fold of one load may hold, in effect.
    pub fn max_load_bytes(&self) -> u64 {
        self.max_load_bytes.unwrap_or_else(|| self.replay_budget().min(DEFAULT_REPLAY_BYTES))
    }

    /// Bytes that one replay, or one stream that follows, reads ahead: half of the budget is for that, and half for folding.
    pub fn read_ahead(&self) -> u64 {
        let readers = u64::from(self.max_replays) + u64::from(self.max_follows);
        (self.replay_budget() / 2 / readers).clamp(READ_AHEAD.0, READ_AHEAD.1)
    }

    /// Streams that may follow, in effect: what they read ahead must leave half of the budget to loads.
    pub fn max_follows(&self) -> u16 {
        let room = self.replay_budget() / 2 / self.read_ahead();
        self.max_follows.min(u16::try_from(room).unwrap_or(u16::MAX).max(1))
    }

    /// What contradicts itself.
    pub fn check(&self) -> Result<(), UsageError> {
        if !self.listen.is_local() && !self.insecure_listen {
            return Err(UsageError::value(
                "--listen",
                &self.listen.to_string(),
                "is reachable from other machines, and this version has neither TLS nor authentication: listen on loopback or \
                 unix:/path, or accept that with --insecure-listen",
            ));
        }
        if self.create_topic && self.store() != StoreChoice::Kafka {
            return Err(UsageError::value("--create-topic", "true", "needs the Kafka store (--brokers)"));
        }
        Ok(())
    }

    /// Every setting in effect, in the order of the help.
    pub fn settings(&self, origin: impl Fn(&str) -> Origin, is_secret: impl Fn(&str) -> bool) -> Vec<Setting> {
        let optional = |a: &OptionalAddress| a.0.as_ref().map_or("off".to_owned(), Address::to_string);
        let choice = |c: &dyn std::fmt::Debug| format!("{c:?}").to_lowercase();
        let property = |(name, value): &(String, String)| {
            let shown = if is_secret(name) { "[redacted]" } else { value };
            format!("{name}={shown}")
        };
        let file = self.kafka.kafka_properties_file.as_ref();
        let list = [
            ("listen", self.listen.to_string()),
            ("admin-listen", optional(&self.admin_listen)),
            ("health-listen", optional(&self.health_listen)),
            ("insecure-listen", self.insecure_listen.to_string()),
            ("store", choice(&self.store())),
            ("data-dir", self.data_dir.display().to_string()),
            ("delete-retention", format_duration(self.delete_retention)),
            (
                "brokers",
                if self.store() == StoreChoice::Kafka { self.kafka.brokers().to_owned() } else { String::new() },
            ),
            ("topic", self.kafka.topic.clone()),
            ("group-id", self.kafka.group_id.clone()),
            ("kafka-property", self.kafka.kafka_property.iter().map(property).collect::<Vec<_>>().join("\n")),
            ("kafka-properties-file", file.map(|f| f.display().to_string()).unwrap_or_default()),
            ("partitions", self.kafka.partitions.map(|p| p.to_string()).unwrap_or_default()),
            ("create-topic", self.create_topic.to_string()),
            ("producers", self.producers.to_string()),
            ("values", choice(&self.values)),
            ("max-value-bytes", self.max_value_bytes.to_string()),
            ("write-timeout", format_duration(self.write_timeout)),
            ("read-timeout", format_duration(self.read_timeout)),
            ("stall-timeout", format_duration(self.stall_timeout)),
            ("max-replays", self.max_replays.to_string()),
            ("share-replays", self.share_replays.to_string()),
            ("max-replays-per-peer", self.max_replays_per_peer().to_string()),
            ("replay-queue-wait", format_duration(self.replay_queue_wait)),
            ("max-follows", self.max_follows().to_string()),
            ("replay-budget", self.replay_budget().to_string()),
            ("max-load-bytes", self.max_load_bytes().to_string()),
            ("drain-timeout", format_duration(self.drain_timeout)),
            ("log", self.log.clone()),
            ("log-format", self.log_format.map_or("auto".to_owned(), |f| choice(&f))),
        ];
        list.into_iter().map(|(name, value)| Setting { name, value, origin: origin(name) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k6_the_budget_is_a_quarter_of_the_memory_limit_where_that_is_less() {
        const MIB: u64 = 1024 * 1024;
        for (limit, budget) in [
            (None, 512 * MIB),
            (Some(64 * 1024 * MIB), 512 * MIB),
            (Some(256 * MIB), 64 * MIB),
            (Some(MIB), MIN_REPLAY_BUDGET),
        ] {
            assert_eq!(default_budget(limit), budget, "{limit:?}");
        }
    }
}
