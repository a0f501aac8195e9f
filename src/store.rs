//! Opens the log that the configuration names. With `app` and `commands`, this is the only code that knows the stores.

use std::sync::Arc;

use crate::{
    config::{KafkaArgs, ServeArgs, StoreChoice, UsageError},
    embedded::{self, EmbeddedLog},
    kafka::{self, KafkaLog},
    log::{Log, MemoryLog},
    metrics::Metrics,
    model::PartitionCount,
};

/// Partitions of a memory log without --partitions.
const DEFAULT_PARTITIONS: i64 = 10;

/// Why a store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The configuration can never work.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The directory of the embedded store can't be used.
    #[error(transparent)]
    Embedded(#[from] embedded::OpenError),
}

/// Opens the log. Does not wait for brokers.
pub fn open_log(args: &ServeArgs, metrics: &Metrics) -> Result<Arc<dyn Log>, StoreError> {
    match args.store() {
        StoreChoice::Memory => {
            let default = PartitionCount::new(DEFAULT_PARTITIONS);
            let count = args.kafka.partitions.or(default).ok_or_else(|| UsageError("no partitions".to_owned()))?;
            Ok(Arc::new(MemoryLog::new(count, args.delete_retention)))
        }
        StoreChoice::Embedded => {
            let settings = embedded::Settings {
                partition_count: args.kafka.partitions,
                delete_retention: args.delete_retention,
                sort_bytes: saturating_usize(args.read_ahead()),
                ..embedded::Settings::new(&args.data_dir)
            };
            Ok(Arc::new(EmbeddedLog::open(settings)?))
        }
        StoreChoice::Kafka => {
            let settings = kafka::Settings {
                producers: args.producers.into(),
                write_timeout: args.write_timeout,
                create_topic: args.create_topic,
                read_ahead_bytes: saturating_usize(args.read_ahead()),
                ..kafka_settings(&args.kafka)?
            };
            let log = KafkaLog::start(settings, metrics.kafka().clone()).map_err(|e| UsageError(e.to_string()))?;
            Ok(Arc::new(log))
        }
    }
}

/// The Kafka settings from flags, environment and properties file. They are not checked yet.
pub fn kafka_settings(args: &KafkaArgs) -> Result<kafka::Settings, UsageError> {
    let mut settings = kafka::Settings::new(args.brokers(), &args.topic);
    settings.group_id.clone_from(&args.group_id);
    settings.expected_partitions = args.partitions;
    if let Some(path) = &args.kafka_properties_file {
        let shown = path.display().to_string();
        let bad = |reason: String| UsageError::value("--kafka-properties-file", &shown, reason);
        let text = std::fs::read_to_string(path).map_err(|e| bad(e.to_string()))?;
        settings.properties = kafka::parse_properties(&text).map_err(bad)?;
    }
    // Flags win over the file.
    settings.properties.extend(args.kafka_property.iter().cloned());
    Ok(settings)
}

/// A number of bytes; the largest `usize` if it is larger.
pub fn saturating_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
