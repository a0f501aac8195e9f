//! Why the process is ready, or is not.

use changelog_core::{log::TopicState, metrics::Series};
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

/// Each state with its reasons. The reasons are those of statuses.
const STATES: [[&str; 2]; 12] = [
    ["starting", "STARTING"],
    ["ready", "OK"],
    ["unreachable", "BROKERS_UNREACHABLE"],
    ["invalid", "TOPIC_NOT_FOUND"],
    ["invalid", "TOPIC_NOT_COMPACTED"],
    ["invalid", "PARTITION_COUNT_CHANGED"],
    ["invalid", "TOPIC_RECREATED"],
    ["invalid", "NOT_AUTHORIZED_BY_BROKER"],
    ["failed", "STORE_READ_ONLY"],
    ["failed", "STORE_CORRUPT"],
    ["failed", "STORE_GONE"],
    ["failed", "INTERNAL_FAULT"],
];

/// `None` before the store is open.
fn values(state: Option<&TopicState>) -> [&'static str; 2] {
    match state {
        None => STATES[0],
        Some(TopicState::Ready(_)) => STATES[1],
        Some(TopicState::Unreachable { .. }) => STATES[2],
        Some(TopicState::Invalid(problem)) => ["invalid", problem.reason()],
        Some(TopicState::Failed(failure)) => ["failed", failure.reason()],
    }
}

#[derive(Debug)]
pub struct TopicStates(Series<Gauge, 2>);

impl TopicStates {
    pub fn new() -> Self {
        let states =
            Self(Series::new(STATES.map(|[state, reason]| [("state", state), ("reason", reason)]), Gauge::default));
        states.set(None);
        states
    }

    pub fn register(&self, registry: &mut Registry) {
        self.0.register(
            registry,
            "topic_state",
            "1 for the state of the topic that holds, and its reason: starting, ready, unreachable, invalid or failed",
        );
    }

    /// `None` before the store is open.
    pub fn set(&self, state: Option<&TopicState>) {
        self.0.set_only(values(state));
    }
}

#[cfg(test)]
mod tests {
    use changelog_core::log::{Corrupt, StoreFailure, TopicProblem};

    use super::*;

    #[test]
    fn each_state_has_its_series() {
        let text = String::new;
        let topic = text();
        let states = TopicStates::new();
        for state in [
            TopicState::Unreachable { cause: text(), topic: None },
            TopicState::Invalid(TopicProblem::NotFound { topic: topic.clone() }),
            TopicState::Invalid(TopicProblem::NotCompacted { topic: topic.clone(), policy: text() }),
            TopicState::Invalid(TopicProblem::PartitionCountMismatch { topic: topic.clone(), expected: 1, actual: 2 }),
            TopicState::Invalid(TopicProblem::Recreated { topic, was: text(), now: text() }),
            TopicState::Invalid(TopicProblem::NotAuthorized { what: text(), cause: text() }),
            TopicState::Failed(StoreFailure::ReadOnly { cause: text() }),
            TopicState::Failed(StoreFailure::Corrupt(Corrupt { detail: text() })),
            TopicState::Failed(StoreFailure::Fault { cause: text() }),
        ] {
            states.set(Some(&state));
            assert_eq!(states.0.get(values(Some(&state))).map(Gauge::get), Some(1), "{state:?}");
            assert_eq!(states.0.members().iter().map(|(_, gauge)| gauge.get()).sum::<i64>(), 1);
        }
    }
}
