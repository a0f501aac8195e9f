//! The settings of `changelogd serve`.

use std::{path::PathBuf, time::Duration};

use changelog_core::model::ValueMode;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::{
    Origin, UsageError, cgroup, format_duration,
    kafka::KafkaArgs,
    memory::{MIN_REPLAY_MEMORY, MemoryNeeds, MemoryParts, default_limit},
    parse_duration, whole_number,
};
use crate::{
    address::Address,
    open_files,
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

/// Serves the API: on an embedded store, or on Kafka where brokers are given.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "A DURATION is a whole number and a unit: ms, s, m, h or d, such as 10s.\n\
                        Each flag --some-flag is also the variable CHANGELOGD_SOME_FLAG. A flag wins over it.")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct ServeArgs {
    /// Where the API listens: host:port, or unix:/path.
    ///
    /// Port 0 takes a free port. localhost listens on both loopbacks, 127.0.0.1 and ::1, with the same port. `[::]` is
    /// all addresses of IPv6 and IPv4, and works without IPv6.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051", help_heading = "Listen")]
    #[arg(value_parser = OsStringValueParser::new().try_map(|text| Address::parse(&text)))]
    pub listen: Address,
    /// Where metrics and health are served over HTTP: host:port, or off.
    ///
    /// The paths are /metrics, /livez and /readyz.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9650", value_parser = parse_optional_address)]
    #[arg(help_heading = "Listen")]
    pub admin_listen: OptionalAddress,
    /// Where gRPC health is served, and nothing else, for probes: host:port, or off.
    #[arg(long, value_name = "ADDRESS", default_value = "off", value_parser = parse_optional_address)]
    #[arg(help_heading = "Listen")]
    pub health_listen: OptionalAddress,
    /// Allow --listen on an address that other machines reach, without TLS and without authentication.
    ///
    /// By default such an address is refused.
    #[arg(long, help_heading = "Listen")]
    pub insecure_listen: bool,
    /// Where the changelog is kept.
    ///
    /// By default kafka if --brokers is given, else embedded.
    #[arg(long, value_enum, help_heading = "Store")]
    pub store: Option<StoreChoice>,
    /// The embedded store's directory, created if it is missing.
    #[arg(long, value_name = "DIR", default_value = "./changelogd-data", help_heading = "Store")]
    pub data_dir: PathBuf,
    /// What the files of the embedded store may occupy on the disk, in bytes, from 268435456.
    ///
    /// A write that could exceed it fails with RESOURCE_EXHAUSTED, DISK_FULL. Set it to less than what the volume has,
    /// and to at most 15/16 of the sizeLimit of an emptyDir: the kubelet ends a pod that exceeds that. By default there
    /// is no limit.
    #[arg(long, value_name = "BYTES", value_parser = parse_data_limit, help_heading = "Store")]
    pub data_limit: Option<u64>,
    /// How long the embedded store keeps a tombstone after its write, from 0ms.
    ///
    /// The memory store keeps every tombstone. On both, half of this time limits the age of a resume token and the lag
    /// of a stream that follows. Below 1 s such a stream fails with RETENTION_TOO_SHORT. A Kafka topic has its own
    /// delete.retention.ms.
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration, help_heading = "Store")]
    pub delete_retention: Duration,
    /// What values must be.
    #[arg(long, value_enum, default_value = "json", help_heading = "Store")]
    pub values: ValuesChoice,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub kafka: KafkaArgs,
    /// Create the topic if it is missing, as `changelogd topic ensure` does.
    ///
    /// By default calls fail until the topic exists.
    #[arg(long, help_heading = "Kafka")]
    pub create_topic: bool,
    /// Copies of each partition with --create-topic, from 1 to 32.
    ///
    /// The topic is created once the cluster has this many brokers. Until then calls fail.
    #[arg(long, value_name = "COUNT", default_value = "3", value_parser = whole_number::<u8>(1, 32))]
    #[arg(help_heading = "Kafka")]
    pub create_topic_replication_factor: u8,
    /// Kafka producers, from 1 to 64.
    ///
    /// All writes of a workspace go through the same producer.
    #[arg(long, value_name = "COUNT", default_value = "2", value_parser = whole_number::<u16>(1, 64))]
    #[arg(help_heading = "Kafka")]
    pub producers: u16,
    /// The largest value, in bytes, from 1 to 64000000.
    ///
    /// The topic's max.message.bytes can lower it.
    #[arg(long, value_name = "BYTES", default_value = "1000000", help_heading = "Limits")]
    #[arg(value_parser = whole_number::<u32>(1, 64_000_000))]
    pub max_value_bytes: u32,
    /// The longest wait of a write for its acknowledgement, from 1ms.
    ///
    /// On Kafka this is message.timeout.ms.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_positive, help_heading = "Limits")]
    pub write_timeout: Duration,
    /// The longest time that a load, get or stream may take, from 1ms.
    ///
    /// A client's shorter deadline wins.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_positive, help_heading = "Limits")]
    pub read_timeout: Duration,
    /// The longest time that a client may take nothing of an answer that waits for it, from 1ms.
    ///
    /// After it the stream is reset (RST_STREAM). gRPC clients report that as CANCELLED.
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = parse_positive, help_heading = "Limits")]
    pub client_stall_timeout: Duration,
    /// The connections that the API port may have at the same time, from 1 to 65536.
    ///
    /// At the limit a new connection takes the place of the one that has had no call for the longest time. By default
    /// the smaller of two numbers, but at least 64 and at most 65536: half of the limit on open files, and
    /// --memory-limit divided by 204800. A larger number than the default is lowered to it, with a warning in the log.
    #[arg(long, value_name = "COUNT", value_parser = whole_number::<u32>(1, 65_536))]
    #[arg(help_heading = "Limits")]
    pub max_connections: Option<u32>,
    /// The longest time that a connection may be open without a call, from 1ms.
    ///
    /// Calls of health and reflection do not count. After it the connection is closed with GOAWAY.
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = parse_positive, help_heading = "Limits")]
    pub connection_idle_timeout: Duration,
    /// The replays that may run at the same time, from 1 to 1024: loads, gets and streams.
    ///
    /// Others wait for --replay-queue-timeout, then fail with RESOURCE_EXHAUSTED.
    #[arg(long, value_name = "COUNT", default_value = "16", value_parser = whole_number::<u16>(1, 1024))]
    #[arg(help_heading = "Limits")]
    pub max_replays: u16,
    /// The replays of one client that may run at the same time, from 1 to 1024.
    ///
    /// A client is an IP address; on loopback and on Unix sockets it is a connection. By default three quarters of
    /// --max-replays.
    #[arg(long, value_name = "COUNT", value_parser = whole_number::<u16>(1, 1024), help_heading = "Limits")]
    pub max_replays_per_client: Option<u16>,
    /// Whether loads that wait for the same partition of a Kafka topic share one replay of it.
    ///
    /// With false each load has its own replay.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 1, action = clap::ArgAction::Set)]
    #[arg(help_heading = "Limits")]
    pub share_replays: bool,
    /// The longest wait of a replay for a permit, from 0ms.
    ///
    /// With 0ms a replay above --max-replays fails at once.
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = parse_duration, help_heading = "Limits")]
    pub replay_queue_timeout: Duration,
    /// The streams and watches that may follow at the same time, from 1 to 1024.
    ///
    /// One client may have three quarters of them. They are fewer if --replay-memory has no room for what they read
    /// ahead.
    #[arg(long, value_name = "COUNT", default_value = "64", value_parser = whole_number::<u16>(1, 1024))]
    #[arg(help_heading = "Limits")]
    pub max_following_streams: u16,
    /// The memory that requests, answers, replays and queues of writes together may hold, in bytes, from 1.
    ///
    /// A call that does not fit fails with RESOURCE_EXHAUSTED. By default 60 % of the control group's memory limit, or
    /// 1073741824 without one. It must have room for requests, answers and writes of --max-value-bytes.
    #[arg(long, value_name = "BYTES", value_parser = parse_some_bytes, help_heading = "Limits")]
    pub memory_limit: Option<u64>,
    /// The part of --memory-limit that all replays together may hold until their streams end, in bytes, from 2097152.
    ///
    /// A replay that needs more fails with RESOURCE_EXHAUSTED. By default about three eighths of --memory-limit.
    #[arg(long, value_name = "BYTES", value_parser = parse_replay_memory, help_heading = "Limits")]
    pub replay_memory: Option<u64>,
    /// The memory that the folded state of one load may hold, in bytes, from 1.
    ///
    /// A load that needs more fails with RESOURCE_EXHAUSTED. By default 536870912, or --replay-memory if that is less.
    #[arg(long, value_name = "BYTES", value_parser = parse_some_bytes, help_heading = "Limits")]
    pub max_load_memory: Option<u64>,
    /// How long a stop goes on to serve everything after readiness has turned off, from 0ms.
    ///
    /// Set it to the time that clients need to see that the process is not ready.
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = parse_duration, help_heading = "Limits")]
    pub drain_delay: Duration,
    /// The longest wait of a stop for open calls and accepted writes, from 0ms. It begins after --drain-delay.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = parse_duration, help_heading = "Limits")]
    pub drain_timeout: Duration,
    /// Which log lines are written: a level, or target=level pairs, separated by commas.
    #[arg(long, value_name = "FILTER", default_value = "info,fjall=warn,lsm_tree=warn", value_parser = checked_filter)]
    #[arg(help_heading = "Logging")]
    pub log: String,
    /// The format of the log lines.
    ///
    /// By default text on a terminal, else json.
    #[arg(long, value_enum, help_heading = "Logging")]
    pub log_format: Option<LogFormat>,
    /// Put the W3C trace context into the headers of records, which are stored.
    ///
    /// A `traceparent` that the client sent in the headers stays. It needs OTEL_EXPORTER_OTLP_ENDPOINT,
    /// and does nothing while OTEL_SDK_DISABLED or OTEL_TRACES_EXPORTER turns traces off. By default
    /// records have the client's headers only.
    #[arg(long, help_heading = "Logging")]
    pub trace_context_in_records: bool,
}

/// The default of --max-load-memory, if --replay-memory is not less.
const DEFAULT_LOAD_MEMORY: u64 = 512 * 1024 * 1024;
/// The least and the greatest number of bytes that one replay reads ahead. Less is too little for the network, and more
/// does not help.
const READ_AHEAD: (u64, u64) = (1024 * 1024, 16 * 1024 * 1024);

/// The least limit with which the embedded store works. Its crate says why, and a build may lack it.
pub const MIN_DATA_LIMIT: u64 = 256 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionalAddress(pub Option<Address>);

fn parse_optional_address(text: &str) -> Result<OptionalAddress, String> {
    match text {
        "off" => Ok(OptionalAddress(None)),
        text => match text.parse()? {
            Address::Unix(_) => Err("must be host:port, or off".to_owned()),
            tcp @ (Address::Tcp(_) | Address::Localhost(_)) => Ok(OptionalAddress(Some(tcp))),
        },
    }
}

fn parse_positive(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be at least 1ms".to_owned()),
        some => Ok(some),
    }
}

// The ranges of clap end in u64::MAX, and its errors show that number.
fn parse_bytes(text: &str, least: u64) -> Result<u64, String> {
    let bytes = text.parse().ok().filter(|b| *b >= least);
    bytes.ok_or_else(|| format!("must be a whole number, {least} or more"))
}

fn parse_replay_memory(text: &str) -> Result<u64, String> {
    parse_bytes(text, MIN_REPLAY_MEMORY)
}

fn parse_data_limit(text: &str) -> Result<u64, String> {
    parse_bytes(text, MIN_DATA_LIMIT)
}

fn parse_some_bytes(text: &str) -> Result<u64, String> {
    parse_bytes(text, 1)
}

fn checked_filter(text: &str) -> Result<String, String> {
    parse_filter(text).map(|_| text.to_owned()).map_err(|e| e.to_string())
}

/// A setting as `changelogd config` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The flag, without dashes.
    pub name: &'static str,
    /// The value in effect, with secrets redacted.
    pub value: String,
    pub origin: Origin,
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

    /// Connections of the API port, in effect.
    pub fn max_connections(&self) -> usize {
        let possible = open_files::max_connections(open_files::limit(), self.memory_limit());
        self.max_connections.map_or(possible, |wanted| possible.min(wanted as usize))
    }

    /// Replays of one client at the same time, in effect.
    pub fn max_replays_per_client(&self) -> u16 {
        let three_quarters = u32::from(self.max_replays) * 3 / 4;
        self.max_replays_per_client.unwrap_or_else(|| u16::try_from(three_quarters).unwrap_or(u16::MAX).max(1))
    }

    /// The memory limit, in effect.
    pub fn memory_limit(&self) -> u64 {
        self.memory_limit.unwrap_or_else(|| default_limit(cgroup::memory_limit()))
    }

    /// How the memory limit is divided, or why it can't be.
    pub fn memory(&self) -> Result<MemoryParts, UsageError> {
        let needs = MemoryNeeds {
            replays: self.replay_memory,
            max_value_bytes: self.max_value_bytes.into(),
            producers: if self.store() == StoreChoice::Kafka { self.producers.into() } else { 1 },
        };
        MemoryParts::of(self.memory_limit(), needs)
    }

    /// Bytes that all replays together may hold, in effect.
    pub fn replay_memory(&self) -> u64 {
        self.replay_memory.unwrap_or_else(|| self.memory().map_or(MIN_REPLAY_MEMORY, |parts| parts.replays))
    }

    /// Bytes that the fold of one load may hold, in effect.
    pub fn max_load_memory(&self) -> u64 {
        self.max_load_memory.unwrap_or_else(|| self.replay_memory().min(DEFAULT_LOAD_MEMORY))
    }

    /// Bytes that one replay, or one stream that follows, reads ahead. Half of the replay memory is for reading
    /// ahead, and half is for folding.
    pub fn read_ahead(&self) -> u64 {
        let readers = u64::from(self.max_replays) + u64::from(self.max_following_streams);
        (self.replay_memory() / 2 / readers).clamp(READ_AHEAD.0, READ_AHEAD.1)
    }

    /// Streams that may follow, in effect: what they read ahead must leave half of the replay memory to loads.
    pub fn max_following_streams(&self) -> u16 {
        let room = self.replay_memory() / 2 / self.read_ahead();
        self.max_following_streams.min(u16::try_from(room).unwrap_or(u16::MAX).max(1))
    }

    /// Refuses settings that contradict each other.
    pub fn check(&self) -> Result<(), UsageError> {
        if !self.listen.is_local() && !self.insecure_listen {
            return Err(UsageError::value(
                "--listen",
                &self.listen.to_string(),
                "is reachable from other machines, and this version has neither TLS nor authentication: listen on \
                 loopback or unix:/path, or accept that with --insecure-listen",
            ));
        }
        if self.create_topic && self.store() != StoreChoice::Kafka {
            return Err(UsageError::value("--create-topic", "true", "needs the Kafka store (--brokers)"));
        }
        self.memory().map(drop)
    }

    /// Every setting in effect, in the order of the help.
    ///
    /// `property` shows a property of librdkafka without its value if that is secret.
    pub fn settings(&self, origin: impl Fn(&str) -> Origin, property: impl Fn(&str, &str) -> String) -> Vec<Setting> {
        let optional = |a: &OptionalAddress| a.0.as_ref().map_or("off".to_owned(), Address::to_string);
        let choice = |c: &dyn std::fmt::Debug| format!("{c:?}").to_lowercase();
        let properties = self.kafka.kafka_property.iter().flat_map(|properties| &properties.0);
        let properties: Vec<_> = properties.map(|(name, value)| property(name, value)).collect();
        let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string()).unwrap_or_default();
        let list = [
            ("listen", self.listen.to_string()),
            ("admin-listen", optional(&self.admin_listen)),
            ("health-listen", optional(&self.health_listen)),
            ("insecure-listen", self.insecure_listen.to_string()),
            ("store", choice(&self.store())),
            ("data-dir", self.data_dir.display().to_string()),
            ("data-limit", self.data_limit.map(|limit| limit.to_string()).unwrap_or_default()),
            ("delete-retention", format_duration(self.delete_retention)),
            ("values", choice(&self.values)),
            ("partitions", self.kafka.partitions.map(|p| p.to_string()).unwrap_or_default()),
            (
                "brokers",
                if self.store() == StoreChoice::Kafka { self.kafka.brokers().to_owned() } else { String::new() },
            ),
            ("topic", self.kafka.topic.clone()),
            ("group-id", self.kafka.group_id.clone()),
            ("kafka-property", properties.join("\n")),
            ("kafka-properties-file", path(&self.kafka.kafka_properties_file)),
            ("kafka-oauth-token-file", path(&self.kafka.kafka_oauth_token_file)),
            ("create-topic", self.create_topic.to_string()),
            ("create-topic-replication-factor", self.create_topic_replication_factor.to_string()),
            ("producers", self.producers.to_string()),
            ("max-value-bytes", self.max_value_bytes.to_string()),
            ("write-timeout", format_duration(self.write_timeout)),
            ("read-timeout", format_duration(self.read_timeout)),
            ("client-stall-timeout", format_duration(self.client_stall_timeout)),
            ("max-connections", self.max_connections().to_string()),
            ("connection-idle-timeout", format_duration(self.connection_idle_timeout)),
            ("max-replays", self.max_replays.to_string()),
            ("max-replays-per-client", self.max_replays_per_client().to_string()),
            ("share-replays", self.share_replays.to_string()),
            ("replay-queue-timeout", format_duration(self.replay_queue_timeout)),
            ("max-following-streams", self.max_following_streams().to_string()),
            ("memory-limit", self.memory_limit().to_string()),
            ("replay-memory", self.replay_memory().to_string()),
            ("max-load-memory", self.max_load_memory().to_string()),
            ("drain-delay", format_duration(self.drain_delay)),
            ("drain-timeout", format_duration(self.drain_timeout)),
            ("log", self.log.clone()),
            ("log-format", self.log_format.map_or("auto".to_owned(), |f| choice(&f))),
            ("trace-context-in-records", self.trace_context_in_records.to_string()),
        ];
        list.into_iter().map(|(name, value)| Setting { name, value, origin: origin(name) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_memory_size_names_the_least_size_and_no_greatest() {
        type Parse = fn(&str) -> Result<u64, String>;
        let parsers: [(Parse, u64); 3] =
            [(parse_replay_memory, 2_097_152), (parse_some_bytes, 1), (parse_data_limit, 268_435_456)];
        for (parse, least) in parsers {
            let refusal = format!("must be a whole number, {least} or more");
            for bad in [(least - 1).to_string(), "-1".to_owned(), "x".to_owned(), "18446744073709551616".to_owned()] {
                assert_eq!(parse(&bad), Err(refusal.clone()), "{bad}");
            }
            for good in [least, u64::MAX] {
                assert_eq!(parse(&good.to_string()), Ok(good));
            }
        }
    }
}
