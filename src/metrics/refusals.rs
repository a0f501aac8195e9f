//! Calls and mutations that were answered with an error, by the reason of their `ErrorInfo`.

use changelog_core::metrics::Series;
use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// All reasons. A test compares them with those of `service/status.rs`.
const REASONS: [&str; 40] = [
    "ARGUMENT_INVALID",
    "BROKERS_UNREACHABLE",
    "CLOCK_SKEW",
    "DEADLINE",
    "DISK_FULL",
    "DRAINING",
    "ENCODING_UNSUPPORTED",
    "INTERNAL_FAULT",
    "KEY_INVALID",
    "KEY_NOT_FOUND",
    "LOG_MOVED",
    "LOG_TRUNCATED",
    "MEMORY_LIMIT",
    "MESSAGE_TOO_LARGE",
    "NAME_UNKNOWN",
    "NOT_AUTHORIZED_BY_BROKER",
    "NOT_ENOUGH_REPLICAS",
    "NOT_IMPLEMENTED",
    "OPEN_TRANSACTION",
    "OUTCOME_UNKNOWN",
    "OUT_OF_FILES",
    "PARTITION_COUNT_CHANGED",
    "PRODUCER_QUEUE_FULL",
    "REPLAY_TOO_LARGE",
    "REQUEST_MALFORMED",
    "RESYNC_REQUIRED",
    "RETENTION_TOO_SHORT",
    "STARTING",
    "STORE_CORRUPT",
    "STORE_GONE",
    "STORE_READ_ONLY",
    "TOKEN_INVALID",
    "TOO_MANY_FOLLOWS",
    "TOO_MANY_REPLAYS",
    "TOPIC_NOT_COMPACTED",
    "TOPIC_NOT_FOUND",
    "TOPIC_RECREATED",
    "UNKNOWN_METHOD",
    "VALUE_NOT_JSON",
    "VALUE_TOO_LARGE",
];

#[derive(Debug)]
pub struct Refusals(Series<Counter, 1>);

impl Refusals {
    pub fn new() -> Self {
        Self(Series::new(REASONS.map(|reason| [("reason", reason)]), Counter::default))
    }

    pub fn register(&self, registry: &mut Registry) {
        self.0.register(
            registry,
            "refusals",
            "Calls, and mutations of Write, that were answered with an error, by the reason of its ErrorInfo",
        );
    }

    pub fn count(&self, reason: &str) {
        if let Some(counter) = self.0.get([reason]) {
            counter.inc();
        }
    }
}
