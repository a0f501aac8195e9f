//! What a write needs to know of the topic.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    changelog::Changelog,
    log::{NewRecord, Topic, TopicState, WriteError},
    model::{Headers, Key, ValueRules},
};

/// The topic and the rules for values, as they were when a write began. Both come from one read of the topic's state.
#[derive(Debug, Clone)]
pub struct WriteTarget {
    /// `Err` if writes are refused.
    topic: Result<Arc<Topic>, WriteError>,
    value_rules: ValueRules,
}

/// A record in the partition of its workspace. Only [`WriteTarget::record`] makes one.
#[derive(Debug, Clone)]
pub struct PreparedRecord(pub(super) NewRecord);

impl PreparedRecord {
    /// The key of the record.
    pub fn key(&self) -> &Key {
        &self.0.key
    }
}

impl WriteTarget {
    /// The rules for values; see [`Changelog::value_rules`]. [`WriteTarget::record`] does not check them.
    pub fn value_rules(&self) -> &ValueRules {
        &self.value_rules
    }

    /// A record in the partition of its workspace. The value `None` deletes the entity. An error means that writes are
    /// refused.
    pub fn record(&self, key: Key, value: Option<Bytes>, headers: Headers) -> Result<PreparedRecord, WriteError> {
        let topic = self.topic.as_ref().map_err(WriteError::clone)?;
        let partition = topic.partition_count.of_workspace(key.workspace_bytes());
        Ok(PreparedRecord(NewRecord { partition, key, value, headers }))
    }
}

impl Changelog {
    /// Reads the state of the topic, and whether this process is draining. Read it again for each write: it changes.
    pub fn write_target(&self) -> WriteTarget {
        let mut value_rules = self.limits.values;
        let topic = match &*self.log.topic_state().borrow() {
            // A topic that was known once stays known while the brokers are unreachable.
            TopicState::Ready(topic) | TopicState::Unreachable { topic: Some(topic), .. } => {
                if let Some(limit) = topic.max_value_bytes {
                    value_rules.max_bytes = value_rules.max_bytes.min(limit);
                }
                Ok(topic.clone())
            }
            TopicState::Unreachable { cause, topic: None } => Err(WriteError::Unreachable { cause: cause.clone() }),
            TopicState::Invalid(problem) => Err(problem.clone().into()),
            TopicState::Failed(failure) => Err(failure.clone().into()),
        };
        let topic = if self.draining.is_cancelled() { Err(WriteError::Draining) } else { topic };
        WriteTarget { topic, value_rules }
    }
}
