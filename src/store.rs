//! Opens the log that the configuration names. With `commands`, this is the only code that knows the stores. The forms
//! of brokers and properties are parsed in `config/kafka.rs`, with the flags.
//!
//! The features `kafka` and `embedded` choose which stores a build has. Flags of a store that is missing stay, and its
//! choice is a usage error.

use std::sync::Arc;

use changelog_core::{
    log::{Log, MemoryLog},
    model::PartitionCount,
};
#[cfg(feature = "embedded")]
use changelog_embedded::EmbeddedLog;
#[cfg(feature = "kafka")]
use changelog_kafka::KafkaLog;
use prometheus_client::registry::Registry;

#[cfg(feature = "kafka")]
use crate::config::KafkaArgs;
use crate::config::{ServeArgs, StoreChoice, UsageError};
#[cfg(feature = "embedded")]
use crate::open_files;

/// Partitions of a memory log without --partitions.
const DEFAULT_PARTITIONS: i64 = 10;

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The configuration can never work.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The directory of the embedded store can't be used.
    #[cfg(feature = "embedded")]
    #[error(transparent)]
    Embedded(changelog_embedded::OpenError),
}

#[cfg(feature = "embedded")]
impl From<changelog_embedded::OpenError> for StoreError {
    fn from(error: changelog_embedded::OpenError) -> Self {
        match error {
            changelog_embedded::OpenError::Format { .. } => Self::Usage(UsageError(error.to_string())),
            error => Self::Embedded(error),
        }
    }
}

/// The metrics of all stores, also of those that are not open, so that a query of a dashboard has an answer.
#[derive(Debug, Default)]
pub struct StoreMetrics {
    #[cfg(feature = "kafka")]
    kafka: changelog_kafka::Metrics,
    #[cfg(feature = "embedded")]
    embedded: changelog_embedded::Metrics,
}

impl StoreMetrics {
    pub fn register(&self, registry: &mut Registry) {
        #[cfg(feature = "kafka")]
        self.kafka.register(registry);
        #[cfg(feature = "embedded")]
        self.embedded.register(registry);
        #[cfg(not(any(feature = "kafka", feature = "embedded")))]
        let _ = registry;
    }
}

/// The libraries in C that the stores of this build are linked with, and their versions.
pub fn libraries() -> [(&'static str, String); 2] {
    #[cfg(feature = "kafka")]
    let [librdkafka, openssl] = changelog_kafka::library_versions();
    #[cfg(not(feature = "kafka"))]
    let [librdkafka, openssl] = ["none", "none"].map(str::to_owned);
    [("librdkafka", librdkafka), ("openssl", openssl)]
}

/// Opens the log. Does not wait for brokers, and blocks while an embedded store is opened.
#[cfg_attr(not(any(feature = "kafka", feature = "embedded")), allow(unused_variables))]
pub fn open_log(args: &ServeArgs, metrics: &StoreMetrics) -> Result<Arc<dyn Log>, StoreError> {
    match args.store() {
        StoreChoice::Memory => {
            let default = PartitionCount::new(DEFAULT_PARTITIONS);
            let count = args.kafka.partitions.or(default).ok_or_else(|| UsageError("no partitions".to_owned()))?;
            Ok(Arc::new(MemoryLog::new(count, args.delete_retention)))
        }
        #[cfg(feature = "embedded")]
        StoreChoice::Embedded => {
            let memory = args.memory()?;
            let settings = changelog_embedded::Settings {
                partition_count: args.kafka.partitions,
                delete_retention: args.delete_retention,
                sort_bytes: saturating_usize(args.read_ahead()),
                queue_bytes: saturating_usize(memory.queues),
                write_buffer_bytes: memory.queues / 2,
                cache_bytes: (memory.limit / 32).min(32 * 1024 * 1024),
                cached_files: open_files::cached_files(open_files::limit()),
                data_limit: args.data_limit,
                metrics: metrics.embedded.clone(),
                ..changelog_embedded::Settings::new(&args.data_dir)
            };
            Ok(Arc::new(EmbeddedLog::open(settings)?))
        }
        #[cfg(not(feature = "embedded"))]
        StoreChoice::Embedded => {
            Err(UsageError("this build has no embedded store: --store or --brokers must name another".to_owned())
                .into())
        }
        #[cfg(feature = "kafka")]
        StoreChoice::Kafka => {
            let settings = settings_of_serve(args)?;
            let log = KafkaLog::start(settings, metrics.kafka.clone()).map_err(|e| UsageError(e.to_string()))?;
            Ok(Arc::new(log))
        }
        #[cfg(not(feature = "kafka"))]
        StoreChoice::Kafka => Err(no_kafka().into()),
    }
}

#[cfg(not(feature = "kafka"))]
fn no_kafka() -> UsageError {
    UsageError("--store kafka: this build has no Kafka store".to_owned())
}

#[cfg(feature = "kafka")]
fn settings_of_serve(args: &ServeArgs) -> Result<changelog_kafka::Settings, UsageError> {
    Ok(changelog_kafka::Settings {
        producers: args.producers.into(),
        write_timeout: args.write_timeout,
        create_topic: args.create_topic.then(|| args.create_topic_replication_factor.into()),
        read_ahead_bytes: saturating_usize(args.read_ahead()),
        queue_bytes: saturating_usize(args.memory()?.queues),
        ..kafka_settings(&args.kafka)?
    })
}

/// Refuses the Kafka settings that [`open_log`] would refuse, and returns the properties of the file that are in
/// effect, as they may be shown. Connects to no broker.
#[cfg(feature = "kafka")]
pub fn checked_properties_of_file(args: &ServeArgs) -> Result<Vec<String>, UsageError> {
    if args.store() != StoreChoice::Kafka {
        return Ok(Vec::new());
    }
    let settings = settings_of_serve(args)?;
    settings.check().map_err(|e| UsageError(e.to_string()))?;
    let of_file = settings.properties_of_file().into_iter();
    Ok(of_file.map(|(name, value)| shown_property(name, value)).collect())
}

#[cfg(not(feature = "kafka"))]
pub fn checked_properties_of_file(args: &ServeArgs) -> Result<Vec<String>, UsageError> {
    if args.store() == StoreChoice::Kafka { Err(no_kafka()) } else { Ok(Vec::new()) }
}

/// What a flag of Kafka is set to, if it may be shown. A text of properties can stand there by mistake.
#[cfg(feature = "kafka")]
pub fn shown_setting<'a>(name: &str, value: &'a str) -> &'a str {
    let is_shown = match name {
        "kafka-properties-file" | "kafka-oauth-token-file" => changelog_kafka::shown_path(value).is_some(),
        "data-dir" | "topic" | "group-id" => changelog_kafka::shown_text(value).is_some(),
        _ => true,
    };
    if is_shown { value } else { REDACTED }
}

#[cfg(not(feature = "kafka"))]
pub fn shown_setting<'a>(name: &str, value: &'a str) -> &'a str {
    let is_path = matches!(name, "kafka-properties-file" | "kafka-oauth-token-file");
    if is_path && !value.is_empty() { REDACTED } else { value }
}

const REDACTED: &str = "[redacted]";

/// How far [`open_log`] is in another thread.
#[derive(Debug)]
pub struct OpenProgress {
    #[cfg(feature = "embedded")]
    journals: Option<changelog_embedded::JournalProgress>,
}

impl OpenProgress {
    /// Reads the data directory, so it blocks.
    #[cfg_attr(not(feature = "embedded"), allow(unused_variables))]
    pub fn new(args: &ServeArgs) -> Self {
        Self {
            #[cfg(feature = "embedded")]
            journals: (args.store() == StoreChoice::Embedded)
                .then(|| changelog_embedded::JournalProgress::new(&args.data_dir)),
        }
    }

    /// `None` if it is not known. Blocks for a short time.
    pub fn shown(&mut self) -> Option<String> {
        #[cfg(feature = "embedded")]
        if let Some(journals) = self.journals.as_mut().filter(|journals| journals.total_bytes() > 0) {
            return Some(format!("{} of {} journal bytes are read", journals.read_bytes(), journals.total_bytes()));
        }
        None
    }
}

/// A librdkafka property as it may be shown.
#[cfg(feature = "kafka")]
pub fn shown_property(name: &str, value: &str) -> String {
    changelog_kafka::shown_property(name, value)
}

/// A build without the Kafka store does not know which properties are secret.
#[cfg(not(feature = "kafka"))]
pub fn shown_property(_: &str, _: &str) -> String {
    REDACTED.to_owned()
}

/// The Kafka settings from flags, environment and properties file. They are not checked yet.
#[cfg(feature = "kafka")]
pub fn kafka_settings(args: &KafkaArgs) -> Result<changelog_kafka::Settings, UsageError> {
    let mut settings = changelog_kafka::Settings::new(args.brokers(), &args.topic);
    settings.group_id.clone_from(&args.group_id);
    settings.expected_partitions = args.partitions;
    let file = args.kafka_properties_file.as_ref().map(changelog_kafka::PropertiesFile::read);
    settings.properties_file = file.transpose().map_err(|e| UsageError(e.to_string()))?;
    settings.oauth_token_file.clone_from(&args.kafka_oauth_token_file);
    // Flags win over the file.
    let properties = args.kafka_property.iter().flat_map(|properties| properties.0.clone()).collect();
    settings.properties = changelog_kafka::Properties::read(properties).map_err(|e| UsageError(e.to_string()))?;
    Ok(settings)
}

/// A number of bytes; the largest `usize` if it is larger.
pub fn saturating_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(all(test, feature = "kafka"))]
mod tests {
    use changelog_kafka::Metrics;
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn counters_of_the_kafka_store_are_rendered_as_metrics() {
        let (mut registry, metrics) = (Registry::with_prefix("changelogd"), Metrics::default());
        metrics.register(&mut registry);
        metrics.producers_replaced.inc();
        metrics.token_requests.inc();
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "changelogd_kafka_producers_replaced_total 1",
            "changelogd_kafka_settings_replaced_total 0",
            "changelogd_kafka_token_requests_total 1",
            "changelogd_kafka_token_failures_total 0",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}

#[cfg(all(test, feature = "embedded"))]
mod tests_of_the_embedded_store {
    #[test]
    fn the_least_data_limit_is_that_of_the_embedded_store() {
        assert_eq!(crate::config::MIN_DATA_LIMIT, changelog_embedded::MIN_DATA_LIMIT);
    }
}

#[cfg(all(test, not(any(feature = "kafka", feature = "embedded"))))]
mod tests_without_stores {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    #[test]
    fn a_store_that_the_build_lacks_is_a_usage_error() {
        let flags: [&[&str]; 4] = [&["--store=kafka"], &["--brokers=127.0.0.1:9"], &["--store=embedded"], &[]];
        for flags in flags {
            let command = ServeArgs::augment_args(clap::Command::new("serve"));
            let matches = command.get_matches_from([&["serve"], flags].concat());
            let args = ServeArgs::from_arg_matches(&matches).unwrap();
            let error = open_log(&args, &StoreMetrics::default()).map(drop).unwrap_err();
            assert!(matches!(error, StoreError::Usage(_)), "{flags:?}: {error}");
            assert!(error.to_string().contains("this build has no"), "{flags:?}: {error}");
        }
    }
}
