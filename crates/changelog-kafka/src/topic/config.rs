//! The part of the topic's configuration that changelogd relies on.

use std::time::Duration;

use changelog_core::log::{ClockRange, WriteError};
use rdkafka::admin::ConfigEntry;

use crate::settings::RECORD_OVERHEAD;

/// Kafka's default of message.timestamp.after.max.ms, from 4.0 on.
const HOUR_MS: i64 = 3_600_000;
const TIMESTAMP_BEFORE: &str = "message.timestamp.before.max.ms";
const TIMESTAMP_AFTER: &str = "message.timestamp.after.max.ms";
/// Both of them before Kafka 3.6. Until 4.0 it applies where one of them is not set.
const TIMESTAMP_DIFFERENCE: &str = "message.timestamp.difference.max.ms";

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
    /// How far a record's timestamp may be behind the broker's clock.
    pub timestamp_before: TimestampLimit,
    /// How far it may be ahead.
    pub timestamp_after: TimestampLimit,
    /// Why the configuration is not known.
    pub cause: String,
}

/// How far a record's timestamp may be from the broker's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampLimit {
    pub millis: i64,
    /// The property of the topic that says so.
    pub property: &'static str,
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
            timestamp_before: TimestampLimit { millis: i64::MAX, property: TIMESTAMP_BEFORE },
            timestamp_after: TimestampLimit { millis: HOUR_MS, property: TIMESTAMP_AFTER },
            cause,
        }
    }

    fn read(entries: &[ConfigEntry]) -> Self {
        let value = |name: &str| entries.iter().find(|e| e.name == name).and_then(|e| e.value.clone());
        let number = |name: &str, default: i64| value(name).and_then(|v| v.parse().ok()).unwrap_or(default);
        let timestamp_limit = |property, default| {
            // Brokers that have both answer with the own value of each, which is the largest number if it is not set.
            let set = value(property).and_then(|v| v.parse().ok()).filter(|millis| *millis != i64::MAX);
            let difference = value(TIMESTAMP_DIFFERENCE).and_then(|v| v.parse().ok());
            match (set, difference) {
                (None, Some(millis)) => TimestampLimit { millis, property: TIMESTAMP_DIFFERENCE },
                (Some(millis), _) => TimestampLimit { millis, property },
                (None, None) => TimestampLimit { millis: number(property, default), property },
            }
        };
        let millis = |name: &str, default| Duration::from_millis(u64::try_from(number(name, default)).unwrap_or(0));
        Self {
            known: true,
            cleanup_policy: value("cleanup.policy").unwrap_or_default(),
            min_compaction_lag: millis("min.compaction.lag.ms", 0),
            delete_retention: millis("delete.retention.ms", 86_400_000),
            max_message_bytes: usize::try_from(number("max.message.bytes", 1_048_588)).unwrap_or(0),
            min_insync_replicas: number("min.insync.replicas", 1),
            unclean_election: value("unclean.leader.election.enable").is_some_and(|v| v == "true"),
            timestamp_before: timestamp_limit(TIMESTAMP_BEFORE, i64::MAX),
            timestamp_after: timestamp_limit(TIMESTAMP_AFTER, HOUR_MS),
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
        let (before, after) = (self.timestamp_before, self.timestamp_after);
        let cause = format!(
            "{error}: this machine's clock is at {now}, and the topic takes records from {} ms before the broker's \
             clock ({}) to {} ms after it ({})",
            before.millis, before.property, after.millis, after.property
        );
        WriteError::ClockSkew { cause, clock: ClockRange { now, before_ms: before.millis, after_ms: after.millis } }
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

    fn entry(name: &str, value: &str) -> ConfigEntry {
        ConfigEntry {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            source: rdkafka::admin::ConfigSource::DynamicTopic,
            is_read_only: false,
            is_default: false,
            is_sensitive: false,
        }
    }

    /// Covers R50.
    #[test]
    fn the_range_of_timestamps_is_that_of_the_broker_s_version() {
        let range = |entries: &[(&str, i64)]| {
            let entries: Vec<_> = entries.iter().map(|(name, value)| entry(name, &value.to_string())).collect();
            let config = TopicConfig::read(&entries);
            [config.timestamp_before, config.timestamp_after].map(|limit| (limit.millis, limit.property))
        };
        let (before, after, difference) = (TIMESTAMP_BEFORE, TIMESTAMP_AFTER, TIMESTAMP_DIFFERENCE);
        let older = [(difference, 7_000)];
        assert_eq!(range(&older), [(7_000, difference), (7_000, difference)], "before 3.6");
        let unset = [(before, i64::MAX), (after, i64::MAX), (difference, i64::MAX)];
        assert_eq!(range(&unset).map(|(millis, _)| millis), [i64::MAX; 2], "3.6 to 3.9, nothing set");
        let one_set = [(before, 5_000), (after, i64::MAX), (difference, 7_000)];
        assert_eq!(range(&one_set), [(5_000, before), (7_000, difference)], "3.6 to 3.9");
        let newer = [(before, i64::MAX), (after, HOUR_MS)];
        assert_eq!(range(&newer), [(i64::MAX, before), (HOUR_MS, after)], "from 4.0 on");
    }

    /// Covers R12.
    #[test]
    fn the_topic_configuration_is_read_as_kafka_writes_it() {
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
            timestamp_before: TimestampLimit { millis: 5_000, property: TIMESTAMP_BEFORE },
            timestamp_after: TimestampLimit { millis: 6_000, property: TIMESTAMP_AFTER },
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
