//! The part of the topic's configuration that changelogd relies on.

use std::time::Duration;

use changelog_core::log::{ClockRange, WriteError};
use rdkafka::admin::ConfigEntry;

use crate::settings::RECORD_OVERHEAD;

/// Kafka's default of message.timestamp.after.max.ms.
const HOUR_MS: i64 = 3_600_000;

/// Read from the brokers, or assumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    /// False if the brokers did not return it (not authorized, or not supported). Then the last known values or Kafka's
    /// defaults are assumed.
    pub known: bool,
    pub cleanup_policy: String,
    pub min_compaction_lag: Duration,
    pub delete_retention: Duration,
    pub max_message_bytes: usize,
    pub min_insync_replicas: i64,
    pub unclean_election: bool,
    /// How far a record's timestamp may be behind the broker's clock, in milliseconds.
    pub timestamp_before: i64,
    /// How far it may be ahead.
    pub timestamp_after: i64,
    /// Why the configuration is not known.
    pub cause: String,
}

impl TopicConfig {
    /// Kafka's defaults, with cleanup.policy=compact.
    pub fn assumed(cause: String) -> Self {
        Self {
            known: false,
            cleanup_policy: "compact".to_owned(),
            min_compaction_lag: Duration::ZERO,
            delete_retention: Duration::from_secs(86_400),
            max_message_bytes: 1_048_588,
            min_insync_replicas: 1,
            unclean_election: false,
            timestamp_before: i64::MAX,
            timestamp_after: HOUR_MS,
            cause,
        }
    }

    fn read(entries: &[ConfigEntry]) -> Self {
        let value = |name: &str| entries.iter().find(|e| e.name == name).and_then(|e| e.value.clone());
        let number = |name: &str, default: i64| value(name).and_then(|v| v.parse().ok()).unwrap_or(default);
        let millis = |name: &str, default| Duration::from_millis(u64::try_from(number(name, default)).unwrap_or(0));
        Self {
            known: true,
            cleanup_policy: value("cleanup.policy").unwrap_or_default(),
            min_compaction_lag: millis("min.compaction.lag.ms", 0),
            delete_retention: millis("delete.retention.ms", 86_400_000),
            max_message_bytes: usize::try_from(number("max.message.bytes", 1_048_588)).unwrap_or(0),
            min_insync_replicas: number("min.insync.replicas", 1),
            unclean_election: value("unclean.leader.election.enable").is_some_and(|v| v == "true"),
            timestamp_before: number("message.timestamp.before.max.ms", i64::MAX),
            timestamp_after: number("message.timestamp.after.max.ms", HOUR_MS),
            cause: String::new(),
        }
    }

    /// The configuration after a query.
    pub fn after_query(answer: Result<Vec<ConfigEntry>, String>, last: Option<&Self>) -> Self {
        match (answer, last) {
            (Ok(entries), _) => Self::read(&entries),
            // The last known values stay: brokers that don't answer do not make a wrong policy right.
            (Err(cause), Some(last)) => Self { known: false, cause, ..last.clone() },
            (Err(cause), None) => Self::assumed(cause),
        }
    }

    /// Whether the state of the topic is the same with the other configuration.
    pub fn gives_same_state(&self, other: &Self) -> bool {
        let relevant = |c: &Self| (c.cleanup_policy.clone(), c.max_message_bytes, c.delete_retention);
        relevant(self) == relevant(other)
    }

    /// The error for a record whose timestamp a broker rejects.
    pub fn rejected_timestamp(&self, error: &str) -> WriteError {
        let now = format!("{:.3}", jiff::Timestamp::now());
        let (before_ms, after_ms) = (self.timestamp_before, self.timestamp_after);
        let cause = format!(
            "{error}: this machine's clock is at {now}, and the topic takes records from {before_ms} ms before the \
             broker's clock (message.timestamp.before.max.ms) to {after_ms} ms after it \
             (message.timestamp.after.max.ms)"
        );
        WriteError::ClockSkew { cause, clock: ClockRange { now, before_ms, after_ms } }
    }

    /// The largest value that fits together with the longest key and headers.
    pub fn max_value_bytes(&self) -> usize {
        self.max_message_bytes.saturating_sub(RECORD_OVERHEAD).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers C13, B9.
    #[test]
    fn a_topic_leaves_room_for_the_longest_key_and_headers() {
        let limit = |max_message_bytes| {
            TopicConfig { max_message_bytes, ..TopicConfig::assumed(String::new()) }.max_value_bytes()
        };
        assert_eq!(limit(500_000), 500_000 - RECORD_OVERHEAD);
        assert_eq!(limit(100), 1, "a topic that takes no record of ours");
    }

    /// Covers R12.
    #[test]
    fn the_topic_configuration_is_read_as_kafka_writes_it() {
        let entry = |name: &str, value: &str| ConfigEntry {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            source: rdkafka::admin::ConfigSource::DynamicTopic,
            is_read_only: false,
            is_default: false,
            is_sensitive: false,
        };
        let config = TopicConfig::read(&[
            entry("cleanup.policy", "compact,delete"),
            entry("min.compaction.lag.ms", "60000"),
            entry("delete.retention.ms", "1000"),
            entry("max.message.bytes", "2000000"),
            entry("min.insync.replicas", "2"),
            entry("unclean.leader.election.enable", "true"),
            entry("message.timestamp.before.max.ms", "5000"),
            entry("message.timestamp.after.max.ms", "6000"),
        ]);
        let expected = TopicConfig {
            known: true,
            cleanup_policy: "compact,delete".to_owned(),
            min_compaction_lag: Duration::from_secs(60),
            delete_retention: Duration::from_secs(1),
            max_message_bytes: 2_000_000,
            min_insync_replicas: 2,
            unclean_election: true,
            timestamp_before: 5_000,
            timestamp_after: 6_000,
            cause: String::new(),
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn a_configuration_that_cannot_be_read_again_keeps_its_last_values() {
        let last =
            TopicConfig { known: true, cleanup_policy: "delete".to_owned(), ..TopicConfig::assumed(String::new()) };
        let kept = TopicConfig::after_query(Err("no answer".to_owned()), Some(&last));
        assert_eq!(kept, TopicConfig { known: false, cause: "no answer".to_owned(), ..last.clone() });
        assert!(kept.gives_same_state(&last));
        let assumed = TopicConfig::after_query(Err("no answer".to_owned()), None);
        assert_eq!(assumed, TopicConfig::assumed("no answer".to_owned()));
        assert!(!assumed.gives_same_state(&last));
    }
}
