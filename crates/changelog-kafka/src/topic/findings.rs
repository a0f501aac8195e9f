//! Facts about the topic that an operator should know.

use std::collections::BTreeMap;

use changelog_core::{
    log::{Counts, DELETE_RETENTION_PROPERTY, Finding, Severity, TopicState, short_retention},
    model::Partition,
};

use super::{config::TopicConfig, evaluate::ServedIdentity, leaders::LeaderHistory};
use crate::{admin::REPLICAS_FOR_TWO_IN_SYNC, settings::Settings};

/// By partition: foreign and misplaced records of the last replay of the whole partition, and of what was followed
/// since.
#[derive(Debug, Default)]
pub struct ForeignCounts(BTreeMap<i32, (u64, u64)>);

impl ForeignCounts {
    /// Adds what a replay found in a partition. Counts of a whole partition replace the earlier ones.
    pub fn add(&mut self, partition: Partition, counts: Counts, whole_partition: bool) {
        let number = partition.number();
        if whole_partition {
            self.0.insert(number, (counts.skipped, counts.misplaced));
        } else if counts.skipped + counts.misplaced > 0 {
            let (skipped, misplaced) = self.0.entry(number).or_default();
            *skipped += counts.skipped;
            *misplaced += counts.misplaced;
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let (skipped, misplaced) = self.0.values().fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
        let at = |of: fn(&(u64, u64)) -> u64| {
            let partitions = self.0.iter().filter(|(_, counts)| of(counts) > 0).map(|(p, _)| p.to_string());
            partitions.collect::<Vec<_>>().join(", ")
        };
        if skipped > 0 {
            let message = format!(
                "{skipped} records without a key, or with one outside the grammar, were skipped in partitions {}: \
                 another writer uses this topic",
                at(|counts| counts.0)
            );
            findings.push(warning("FOREIGN_RECORDS", message));
        }
        if misplaced > 0 {
            let message = format!(
                "{misplaced} records of workspaces that belong to other partitions were skipped in partitions {}: \
                 a writer uses another partitioner, or the topic had another partition count",
                at(|counts| counts.1)
            );
            findings.push(warning("MISPLACED_RECORDS", message));
        }
        findings
    }
}

/// All findings. The configuration and the leaders are those of the last queries.
pub fn findings(
    settings: &Settings,
    state: &TopicState,
    served: Option<&ServedIdentity>,
    foreign: &ForeignCounts,
    config: Option<&TopicConfig>,
    leaders: &LeaderHistory,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(state_finding(state));
    if settings.expected_partitions.is_none() {
        let message = "no partition count is expected: set --partitions, so that a topic that grew, and so \
                       re-homes workspaces, is refused and not loaded from the wrong partitions";
        findings.push(warning("PARTITIONS_NOT_EXPECTED", message.to_owned()));
    }
    if served.is_some_and(|served| served.id.is_empty()) {
        let message = "the brokers return no topic id (they are older than Kafka 2.8, or there is no controller): a \
                       topic that is deleted and created again can't be noticed";
        findings.push(warning("TOPIC_ID_UNKNOWN", message.to_owned()));
    }
    findings.extend(foreign.findings());
    let (Some(config), Some(described)) = (config, leaders.described()) else { return findings };
    if !config.known {
        let message = format!(
            "the topic's configuration can't be read ({}); the last known values or Kafka's defaults are assumed",
            config.cause
        );
        findings.push(warning("TOPIC_CONFIG_UNKNOWN", message));
        return findings;
    }
    let replicas = described.partitions.iter().map(|p| p.replicas.len()).min().unwrap_or_default();
    findings.extend(config_findings(config, replicas));
    findings
}

/// The brokers reject the timestamps of this process.
pub fn clock_skew(cause: &str) -> Finding {
    let message = format!(
        "{cause}. Writes are refused: the clock of this machine or of the brokers is wrong, or these values are too \
         small"
    );
    Finding { severity: Severity::Error, code: "CLOCK_SKEW", message }
}

fn state_finding(state: &TopicState) -> Option<Finding> {
    let (code, message) = match state {
        TopicState::Ready(_) => return None,
        TopicState::Unreachable { cause, .. } => ("BROKERS_UNREACHABLE", cause.clone()),
        TopicState::Invalid(problem) => (problem.reason(), problem.to_string()),
        TopicState::Failed(failure) => ("STORE_READ_ONLY", failure.to_string()),
    };
    Some(Finding { severity: Severity::Error, code, message })
}

/// Settings of the topic that endanger a promise.
fn config_findings(config: &TopicConfig, replicas: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    if replicas >= REPLICAS_FOR_TWO_IN_SYNC && config.min_insync_replicas < 2 {
        let message = "min.insync.replicas is 1: acks=all is then the leader's word alone; set it to 2";
        findings.push(warning("MIN_INSYNC_REPLICAS", message.to_owned()));
    }
    if config.unclean_election {
        let message = "unclean.leader.election.enable is true: acknowledged records can be lost with a leader";
        findings.push(warning("UNCLEAN_ELECTION", message.to_owned()));
    }
    findings.extend(short_retention(
        config.delete_retention,
        DELETE_RETENTION_PROPERTY,
        "a load or a stream that reads",
    ));
    if config.min_compaction_lag.is_zero() {
        let message = "min.compaction.lag.ms is 0: a load under heavy writing may have to read its end again";
        let (severity, code) = (Severity::Info, "NO_COMPACTION_LAG");
        findings.push(Finding { severity, code, message: message.to_owned() });
    }
    findings
}

fn warning(code: &'static str, message: String) -> Finding {
    Finding { severity: Severity::Warning, code, message }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Covers R12.
    #[test]
    fn settings_that_endanger_a_promise_are_findings() {
        let good = TopicConfig {
            min_insync_replicas: 2,
            min_compaction_lag: Duration::from_secs(60),
            ..TopicConfig::assumed(String::new())
        };
        let found = |replicas: usize, change: fn(&mut TopicConfig)| {
            let mut config = good.clone();
            change(&mut config);
            config_findings(&config, replicas).iter().map(|f| f.code).collect::<Vec<_>>()
        };
        assert_eq!(found(3, |_| {}), [""; 0]);
        assert_eq!(found(3, |c| c.min_insync_replicas = 1), ["MIN_INSYNC_REPLICAS"]);
        assert_eq!(found(2, |c| c.min_insync_replicas = 1), [""; 0], "two copies must live with one of them lost");
        assert_eq!(found(3, |c| c.unclean_election = true), ["UNCLEAN_ELECTION"]);
        assert_eq!(found(3, |c| c.min_compaction_lag = Duration::ZERO), ["NO_COMPACTION_LAG"]);
        assert_eq!(found(3, |c| c.delete_retention = Duration::from_secs(599)), ["SHORT_DELETE_RETENTION"]);
        assert_eq!(found(3, |c| c.delete_retention = Duration::from_secs(600)), [""; 0]);
        let severity = |delete_retention| {
            let config = TopicConfig { delete_retention, ..good.clone() };
            config_findings(&config, 3).pop().map(|found| (found.severity, found.message))
        };
        assert_eq!(severity(Duration::from_secs(1)).unwrap().0, Severity::Warning);
        let (severity, message) = severity(Duration::from_millis(999)).unwrap();
        assert_eq!(severity, Severity::Error, "most loads are refused");
        for part in ["delete.retention.ms is 999 ms", "RETENTION_TOO_SHORT", "raise it"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
