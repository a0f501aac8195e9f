//! The topic of a log, and whether it is served.

use std::{sync::Arc, time::Duration};

use super::error::{StoreFailure, TopicProblem};
use crate::{
    model::PartitionCount,
    rule::{Rule, holds},
};

/// The topic that is served. Once it is known, it does not change while the process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// The name of the topic; for the embedded store, of the data directory.
    pub name: String,
    /// The topic id in Kafka's base64 form; for other stores, the id of the store.
    pub id: String,
    /// The partition count that the log has.
    pub partition_count: PartitionCount,
    /// The largest value that fits next to the longest key and headers, in bytes; `None` if there is no limit or it is
    /// not known.
    pub max_value_bytes: Option<usize>,
    /// How long tombstones are kept (delete.retention.ms).
    pub delete_retention: Duration,
}

impl Topic {
    /// Rejects a topic that is not this one, for which a request was made.
    ///
    /// # Errors
    /// With what differs: the topic id, or the partition count.
    pub fn check_same(&self, found: &Self) -> Result<(), TopicProblem> {
        let topic = self.name.clone();
        if self.id != found.id && holds(Rule::RecreatedTopicIsError) {
            return Err(TopicProblem::Recreated { topic, was: self.id.clone(), now: found.id.clone() });
        }
        if self.partition_count != found.partition_count && holds(Rule::GrownTopicIsError) {
            let (expected, actual) = (self.partition_count.get(), found.partition_count.get());
            return Err(TopicProblem::PartitionCountChanged { topic, expected, actual });
        }
        Ok(())
    }
}

/// Whether writes and loads are possible, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicState {
    /// The brokers can't be reached, or were not reached yet.
    Unreachable {
        /// The error.
        cause: String,
        /// The topic that was served before; `None` if none was.
        topic: Option<Arc<Topic>>,
    },
    /// The topic is served.
    Ready(Arc<Topic>),
    /// The topic is refused. The state can change again, unless another topic has taken its place.
    Invalid(TopicProblem),
    /// The store failed. The state is final until the store is opened again.
    Failed(StoreFailure),
}
