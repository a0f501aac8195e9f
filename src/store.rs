//! Opens the log that the configuration names. With `commands`, this is the only code that knows the stores.
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
    Embedded(#[from] changelog_embedded::OpenError),
}

/// Opens the log, and registers the metrics of the stores. Does not wait for brokers.
pub fn open_log(args: &ServeArgs, registry: &mut Registry) -> Result<Arc<dyn Log>, StoreError> {
    // On every store, so that a query of a dashboard has an answer.
    #[cfg(feature = "kafka")]
    let kafka_metrics = changelog_kafka::Metrics::default();
    #[cfg(feature = "kafka")]
    kafka_metrics.register(registry);
    #[cfg(not(feature = "kafka"))]
    let _ = registry;
    match args.store() {
        StoreChoice::Memory => {
            let default = PartitionCount::new(DEFAULT_PARTITIONS);
            let count = args.kafka.partitions.or(default).ok_or_else(|| UsageError("no partitions".to_owned()))?;
            Ok(Arc::new(MemoryLog::new(count, args.delete_retention)))
        }
        #[cfg(feature = "embedded")]
        StoreChoice::Embedded => {
            let settings = changelog_embedded::Settings {
                partition_count: args.kafka.partitions,
                delete_retention: args.delete_retention,
                sort_bytes: saturating_usize(args.read_ahead()),
                cached_files: open_files::cached_files(open_files::limit()),
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
            let settings = changelog_kafka::Settings {
                producers: args.producers.into(),
                write_timeout: args.write_timeout,
                create_topic: args.create_topic,
                read_ahead_bytes: saturating_usize(args.read_ahead()),
                ..kafka_settings(&args.kafka)?
            };
            let log = KafkaLog::start(settings, kafka_metrics).map_err(|e| UsageError(e.to_string()))?;
            Ok(Arc::new(log))
        }
        #[cfg(not(feature = "kafka"))]
        StoreChoice::Kafka => Err(UsageError("--store kafka: this build has no Kafka store".to_owned()).into()),
    }
}

/// Whether the value of a librdkafka property must not be shown.
#[cfg(feature = "kafka")]
pub fn is_secret(property: &str) -> bool {
    changelog_kafka::is_secret(property)
}

/// A build without the Kafka store does not know which properties are secret.
#[cfg(not(feature = "kafka"))]
pub fn is_secret(_: &str) -> bool {
    true
}

/// The Kafka settings from flags, environment and properties file. They are not checked yet.
#[cfg(feature = "kafka")]
pub fn kafka_settings(args: &KafkaArgs) -> Result<changelog_kafka::Settings, UsageError> {
    let mut settings = changelog_kafka::Settings::new(args.brokers(), &args.topic);
    settings.group_id.clone_from(&args.group_id);
    settings.expected_partitions = args.partitions;
    if let Some(path) = &args.kafka_properties_file {
        let shown = path.display().to_string();
        let bad = |reason: String| UsageError::value("--kafka-properties-file", &shown, reason);
        let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        settings.properties = changelog_kafka::parse_properties(&text).map_err(bad)?;
    }
    // Flags win over the file.
    settings.properties.extend(args.kafka_property.iter().cloned());
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
    fn replaced_producers_are_rendered_as_metrics() {
        let (mut registry, metrics) = (Registry::with_prefix("changelogd"), Metrics::default());
        metrics.register(&mut registry);
        metrics.producers_replaced.inc();
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("changelogd_producers_replaced_total 1"), "{text}");
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
            let error = open_log(&args, &mut Registry::default()).map(drop).unwrap_err();
            assert!(matches!(error, StoreError::Usage(_)), "{flags:?}: {error}");
            assert!(error.to_string().contains("this build has no"), "{flags:?}: {error}");
        }
    }
}
