//! Decides from the answer of the brokers whether the topic is served. Queries nothing and remembers nothing.

use std::sync::Arc;

use changelog_core::{
    log::{Topic, TopicProblem, TopicState},
    model::PartitionCount,
    rule::{Rule, holds},
};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::config::TopicConfig;
use crate::{
    ffi::{DescribedTopic, NativeError},
    settings::Settings,
};

/// What identifies the topic that this process serves. A change of either is final.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedIdentity {
    /// Empty if the cluster returns no topic ids.
    pub id: String,
    pub partition_count: PartitionCount,
}

/// What an answer is compared with.
pub struct Evaluation<'a> {
    pub settings: &'a Settings,
    /// `None` until the topic is served for the first time.
    pub served: Option<&'a ServedIdentity>,
    /// The state before the answer.
    pub last: &'a TopicState,
}

impl Evaluation<'_> {
    /// Compares the id and the partition count. `Err` is the state of a topic that is not served because of them.
    pub fn check_identity(&self, described: &DescribedTopic) -> Result<PartitionCount, TopicState> {
        let topic = self.settings.topic.clone();
        let Some(count) = PartitionCount::new(described.partitions.len() as i64) else {
            return Err(self.unreachable(format!("topic {topic:?} is described without partitions")));
        };
        let expected = match self.served {
            Some(served) => {
                // Without an id, this may be the same topic or another one.
                if !served.id.is_empty() && described.id.is_empty() {
                    return Err(self.unreachable(format!("topic {topic:?} is described without its id")));
                }
                if !served.id.is_empty() && served.id != described.id && holds(Rule::RecreatedTopicIsError) {
                    let (was, now) = (served.id.clone(), described.id.clone());
                    return Err(TopicState::Invalid(TopicProblem::Recreated { topic, was, now }));
                }
                Some(served.partition_count)
            }
            None => self.settings.expected_partitions,
        };
        match expected {
            Some(expected) if expected != count && holds(Rule::GrownTopicIsError) => {
                let (expected, actual) = (expected.get(), count.get());
                Err(TopicState::Invalid(match self.served {
                    Some(_) => TopicProblem::PartitionCountChanged { topic, expected, actual },
                    None => TopicProblem::PartitionCountMismatch { topic, expected, actual },
                }))
            }
            _ => Ok(count),
        }
    }

    /// The state of a topic whose identity is right.
    pub fn evaluate(&self, id: &str, partition_count: PartitionCount, config: &TopicConfig) -> TopicState {
        let name = self.settings.topic.clone();
        if config.cleanup_policy != "compact" {
            let policy = config.cleanup_policy.clone();
            return TopicState::Invalid(TopicProblem::NotCompacted { topic: name, policy });
        }
        TopicState::Ready(Arc::new(Topic {
            name,
            // The id that was served first, in case the cluster returns an id only now.
            id: self.served.map_or(id, |served| &served.id).to_owned(),
            partition_count,
            max_value_bytes: Some(config.max_value_bytes()),
            delete_retention: config.delete_retention,
        }))
    }

    /// The state after a query that failed. `failed_connection` takes the text of the last connection that failed,
    /// because an admin call's error says only that it timed out. It is called only if no broker answered.
    pub fn evaluate_error(
        &self,
        error: &NativeError,
        failed_connection: impl FnOnce() -> Option<String>,
    ) -> TopicState {
        let topic = &self.settings.topic;
        if is_missing(error) {
            return TopicState::Invalid(TopicProblem::NotFound { topic: topic.clone() });
        }
        if matches!(error.code, Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) {
            let what = format!("describe topic {topic:?}");
            return TopicState::Invalid(TopicProblem::NotAuthorized { what, cause: error.text.clone() });
        }
        // The last cause stays, so that a query without a cause is no change of state.
        let cause = failed_connection().or_else(|| self.last_cause()).unwrap_or_else(|| error.to_string());
        self.unreachable(format!("brokers {}: {cause}", self.settings.brokers))
    }

    /// The brokers can't be reached. A topic that was served before still is.
    pub fn unreachable(&self, cause: String) -> TopicState {
        let topic = match self.last {
            TopicState::Ready(topic) => Some(topic.clone()),
            TopicState::Unreachable { topic, .. } => topic.clone(),
            TopicState::Invalid(_) | TopicState::Failed(_) => None,
        };
        TopicState::Unreachable { cause, topic }
    }

    fn last_cause(&self) -> Option<String> {
        match self.last {
            TopicState::Unreachable { cause, .. } => {
                cause.strip_prefix(&format!("brokers {}: ", self.settings.brokers)).map(str::to_owned)
            }
            _ => None,
        }
    }
}

/// Whether the error means that the topic does not exist.
pub fn is_missing(error: &NativeError) -> bool {
    matches!(error.code, Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownTopicId)
}

/// A changed id or partition count is final for this process.
pub fn is_final(state: &TopicState) -> bool {
    matches!(state, TopicState::Invalid(TopicProblem::Recreated { .. } | TopicProblem::PartitionCountChanged { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ffi::DescribedPartition;
    use changelog_core::log::StoreFailure;

    fn count(partitions: i64) -> PartitionCount {
        PartitionCount::new(partitions).unwrap()
    }

    fn described(id: &str, partitions: i32) -> DescribedTopic {
        let partition = |partition| DescribedPartition { partition, leader: 1, replicas: vec![1], isr: vec![1] };
        DescribedTopic { id: id.to_owned(), partitions: (0..partitions).map(partition).collect() }
    }

    fn not_queried() -> TopicState {
        TopicState::Unreachable { cause: "not queried".to_owned(), topic: None }
    }

    /// The state after a description, from `last`.
    fn state(
        settings: &Settings,
        served: Option<&ServedIdentity>,
        last: &TopicState,
        described: &DescribedTopic,
        config: &TopicConfig,
    ) -> TopicState {
        let evaluation = Evaluation { settings, served, last };
        match evaluation.check_identity(described) {
            Ok(count) => evaluation.evaluate(&described.id, count, config),
            Err(state) => state,
        }
    }

    fn assumed() -> TopicConfig {
        TopicConfig::assumed(String::new())
    }

    #[test]
    fn a_compacted_topic_with_the_expected_partitions_is_ready() {
        let settings = Settings { expected_partitions: Some(count(3)), ..Settings::new("b:9092", "t") };
        for expected in [Some(count(3)), None] {
            let settings = Settings { expected_partitions: expected, ..settings.clone() };
            let TopicState::Ready(topic) = state(&settings, None, &not_queried(), &described("one", 3), &assumed())
            else {
                panic!("not ready with {expected:?}")
            };
            let config = assumed();
            let expected = Topic {
                name: "t".to_owned(),
                id: "one".to_owned(),
                partition_count: count(3),
                max_value_bytes: Some(config.max_value_bytes()),
                delete_retention: config.delete_retention,
            };
            assert_eq!(*topic, expected);
        }
    }

    #[test]
    fn a_topic_that_is_not_only_compacted_is_invalid() {
        for policy in ["delete", "compact,delete", ""] {
            let config = TopicConfig { cleanup_policy: policy.to_owned(), ..assumed() };
            let settings = Settings::new("b:9092", "t");
            let found = state(&settings, None, &not_queried(), &described("one", 1), &config);
            let problem = TopicProblem::NotCompacted { topic: "t".to_owned(), policy: policy.to_owned() };
            assert_eq!(found, TopicState::Invalid(problem));
            assert!(!is_final(&found), "the policy can be fixed while the process runs");
        }
    }

    #[test]
    fn an_unexpected_partition_count_can_be_fixed_until_the_topic_is_served() {
        let settings = Settings { expected_partitions: Some(count(4)), ..Settings::new("b:9092", "t") };
        let topic = "t".to_owned();
        let mismatch = TopicProblem::PartitionCountMismatch { topic: topic.clone(), expected: 4, actual: 3 };
        let changed = TopicProblem::PartitionCountChanged { topic, expected: 2, actual: 3 };
        let found = state(&settings, None, &not_queried(), &described("one", 3), &assumed());
        assert_eq!((&found, is_final(&found)), (&TopicState::Invalid(mismatch), false));
        let served = ServedIdentity { id: "one".to_owned(), partition_count: count(2) };
        let found = state(&settings, Some(&served), &not_queried(), &described("one", 3), &assumed());
        assert_eq!((&found, is_final(&found)), (&TopicState::Invalid(changed), true));
    }

    #[test]
    fn a_recreated_topic_is_invalid_permanently() {
        let settings = Settings::new("b:9092", "t");
        let served = ServedIdentity { id: "one".to_owned(), partition_count: count(3) };
        // Its partition count differs too, but the id says more.
        for partitions in [3, 5] {
            let found = state(&settings, Some(&served), &not_queried(), &described("two", partitions), &assumed());
            let problem =
                TopicProblem::Recreated { topic: "t".to_owned(), was: "one".to_owned(), now: "two".to_owned() };
            assert_eq!((&found, is_final(&found)), (&TopicState::Invalid(problem), true));
        }
    }

    /// Covers R15.
    #[test]
    fn a_served_id_that_a_broker_does_not_return_is_no_other_topic_and_not_the_same_one() {
        let settings = Settings::new("b:9092", "t");
        let served = ServedIdentity { id: "one".to_owned(), partition_count: count(3) };
        let ready = state(&settings, None, &not_queried(), &described("one", 3), &assumed());
        let TopicState::Ready(topic) = &ready else { panic!("{ready:?}") };
        let found = state(&settings, Some(&served), &ready, &described("", 3), &assumed());
        let cause = "topic \"t\" is described without its id".to_owned();
        assert_eq!(found, TopicState::Unreachable { cause, topic: Some(topic.clone()) });
        assert_eq!(state(&settings, Some(&served), &found, &described("one", 3), &assumed()), ready);
    }

    #[test]
    fn an_id_that_is_known_only_later_does_not_change_the_topic() {
        let settings = Settings::new("b:9092", "t");
        let served = ServedIdentity { id: String::new(), partition_count: count(3) };
        match state(&settings, Some(&served), &not_queried(), &described("one", 3), &assumed()) {
            TopicState::Ready(topic) => assert_eq!(topic.id, ""),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_topic_without_partitions_is_unreachable_and_stays_known() {
        let settings = Settings::new("b:9092", "t");
        let ready = state(&settings, None, &not_queried(), &described("one", 3), &assumed());
        let TopicState::Ready(topic) = &ready else { panic!("{ready:?}") };
        let cause = "topic \"t\" is described without partitions".to_owned();
        let found = state(&settings, None, &ready, &described("one", 0), &assumed());
        assert_eq!(found, TopicState::Unreachable { cause: cause.clone(), topic: Some(topic.clone()) });
        // It is also known after the next failure, but not after a problem with the topic.
        let again = state(&settings, None, &found, &described("one", 0), &assumed());
        assert_eq!(again, found);
        for last in [
            TopicState::Invalid(TopicProblem::NotFound { topic: "t".to_owned() }),
            TopicState::Failed(StoreFailure::ReadOnly { cause: String::new() }),
        ] {
            let found = state(&settings, None, &last, &described("one", 0), &assumed());
            assert_eq!(found, TopicState::Unreachable { cause: cause.clone(), topic: None });
        }
    }

    #[test]
    fn an_error_of_a_query_names_its_cause() {
        let settings = Settings::new("b:9092", "t");
        let error = |code| NativeError { what: "DescribeTopics", code, text: "text".to_owned() };
        let after = |last: &TopicState, code, failure: Option<&str>| {
            let evaluation = Evaluation { settings: &settings, served: None, last };
            evaluation.evaluate_error(&error(code), || failure.map(str::to_owned))
        };
        for code in [Code::UnknownTopicOrPartition, Code::UnknownTopic, Code::UnknownTopicId] {
            let problem = TopicProblem::NotFound { topic: "t".to_owned() };
            assert_eq!(after(&not_queried(), code, None), TopicState::Invalid(problem));
            assert!(is_missing(&error(code)));
        }
        for code in [Code::TopicAuthorizationFailed, Code::ClusterAuthorizationFailed] {
            let (what, cause) = ("describe topic \"t\"".to_owned(), "text".to_owned());
            let problem = TopicProblem::NotAuthorized { what, cause };
            assert_eq!(after(&not_queried(), code, None), TopicState::Invalid(problem));
        }
        let unreachable =
            |cause: &str| TopicState::Unreachable { cause: format!("brokers b:9092: {cause}"), topic: None };
        let timed_out = Code::OperationTimedOut;
        let refused = after(&not_queried(), timed_out, Some("connection refused"));
        assert_eq!(refused, unreachable("connection refused"));
        assert_eq!(after(&refused, timed_out, None), refused, "a query without a cause is no change of state");
        let unknown = after(&not_queried(), timed_out, None);
        assert_eq!(unknown, unreachable(&error(timed_out).to_string()));
    }
}
