//! The reasons of writes that failed, as statuses and metrics name them.

use super::error::WriteError;

impl WriteError {
    /// The reason of a record that may have been written.
    pub const OUTCOME_UNKNOWN: &str = "OUTCOME_UNKNOWN";

    /// All reasons of records that were not written.
    pub const REASONS: [&str; 17] = [
        "TOPIC_NOT_FOUND",
        "TOPIC_NOT_COMPACTED",
        "PARTITION_COUNT_CHANGED",
        "TOPIC_RECREATED",
        "NOT_AUTHORIZED_BY_BROKER",
        "PRODUCER_QUEUE_FULL",
        "VALUE_TOO_LARGE",
        "BROKERS_UNREACHABLE",
        "NOT_ENOUGH_REPLICAS",
        "CLOCK_SKEW",
        "DRAINING",
        "OUT_OF_FILES",
        "DISK_FULL",
        "STORE_READ_ONLY",
        "STORE_CORRUPT",
        "STORE_GONE",
        "INTERNAL_FAULT",
    ];

    /// The reason of a status. Stable, in UPPER_SNAKE.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Topic(problem) => problem.reason(),
            Self::QueueFull { .. } => "PRODUCER_QUEUE_FULL",
            Self::TooLarge { .. } => "VALUE_TOO_LARGE",
            Self::Unreachable { .. } => "BROKERS_UNREACHABLE",
            Self::NotEnoughReplicas { .. } => "NOT_ENOUGH_REPLICAS",
            Self::ClockSkew { .. } => "CLOCK_SKEW",
            Self::Draining => "DRAINING",
            Self::OutOfFiles { .. } => "OUT_OF_FILES",
            Self::DiskFull { .. } => "DISK_FULL",
            Self::ReadOnly { .. } => "STORE_READ_ONLY",
            Self::Corrupt(_) => "STORE_CORRUPT",
            Self::StoreGone(_) => "STORE_GONE",
            Self::Fault { .. } => "INTERNAL_FAULT",
            Self::OutcomeUnknown { .. } => Self::OUTCOME_UNKNOWN,
        }
    }
}
