//! The admin client of the Kafka store, and the requests that the topic's watcher makes too.

use std::time::Duration;

use changelog_core::model::PartitionCount;
use rdkafka::{
    admin::{AdminClient, AdminOptions, ConfigEntry, NewTopic, ResourceSpecifier, TopicReplication},
    config::FromClientConfigAndContext,
    error::{KafkaError, RDKafkaErrorCode as Code},
};

use crate::{
    client_context::Context,
    ffi::{self, NativeError},
    settings::{Role, Settings},
    timeouts::{ADMIN_QUERY, CONFIG_WAIT, CREATE_TOPIC_WAIT, TOPIC_QUERY},
};

/// The topic that `ensure` creates or compares with.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    /// The number of partitions.
    pub partitions: i32,
    /// Replicas of each partition; `None` = 3, or the number of brokers if that is smaller.
    pub replication_factor: Option<i32>,
    /// segment.ms; `None` = not set.
    pub segment: Option<Duration>,
    /// delete.retention.ms; `None` = not set.
    pub delete_retention: Option<Duration>,
    /// Whether to change an existing topic's configuration. Its partition count is never changed.
    pub alter: bool,
}

impl TopicSpec {
    /// The documented defaults. `partitions`: `None` = 10.
    pub fn new(partitions: Option<PartitionCount>) -> Self {
        Self {
            partitions: partitions.map_or(10, PartitionCount::get),
            replication_factor: None,
            segment: None,
            delete_retention: None,
            alter: false,
        }
    }

    /// Configuration values by name.
    pub fn configs(&self) -> Vec<(String, String)> {
        let mut configs = vec![
            ("cleanup.policy".to_owned(), "compact".to_owned()),
            ("compression.type".to_owned(), "snappy".to_owned()),
            ("min.compaction.lag.ms".to_owned(), "60000".to_owned()),
        ];
        for (name, value) in [("segment.ms", self.segment), ("delete.retention.ms", self.delete_retention)] {
            configs.extend(value.map(|v| (name.to_owned(), v.as_millis().to_string())));
        }
        configs
    }
}

/// Why a topic command failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// No broker answered.
    #[error("the brokers can't be reached: {0}")]
    Unreachable(String),
    /// The brokers rejected the request.
    #[error("{0}")]
    Refused(String),
    /// The topic exists with another partition count. No flag changes it, because workspaces would belong to other
    /// partitions.
    #[error("topic {topic:?} has {actual} partitions where {wanted} are wanted; a partition count is never changed")]
    PartitionCount {
        /// Its name.
        topic: String,
        /// The topic's partition count.
        actual: usize,
        /// The partition count of the spec.
        wanted: i32,
    },
    /// The topic does not exist.
    #[error("topic {0:?} does not exist; create it with `changelogd topic ensure`")]
    NotFound(String),
}

impl From<NativeError> for AdminError {
    fn from(error: NativeError) -> Self {
        match error.code {
            Code::OperationTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve => {
                Self::Unreachable(error.to_string())
            }
            _ => Self::Refused(error.to_string()),
        }
    }
}

impl From<KafkaError> for AdminError {
    fn from(error: KafkaError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// An admin call's error says only that it timed out. The connection's failure names the cause.
pub fn with_cause(error: NativeError, admin: &AdminClient<Context>) -> AdminError {
    ffi::poll_logs(admin);
    match admin.inner().context().take_last_failure() {
        Some(cause) if error.code == Code::OperationTimedOut => AdminError::Unreachable(cause),
        _ => error.into(),
    }
}

/// The long-lived client that watches the topic and queries offsets.
pub fn client(settings: &Settings) -> Result<AdminClient<Context>, KafkaError> {
    let admin = AdminClient::from_config_and_context(&settings.config(Role::Admin), Context::default())?;
    ffi::redirect_logs(admin.inner());
    Ok(admin)
}

/// Creates a topic with the documented configuration. Returns a text for the log.
pub async fn create(admin: &AdminClient<Context>, topic: &str, spec: &TopicSpec) -> Result<String, AdminError> {
    let (replicas, note) = match spec.replication_factor {
        Some(factor) => (factor, String::new()),
        None => {
            let metadata = admin.inner().fetch_metadata(None, ADMIN_QUERY);
            let brokers = metadata.map_err(|e| AdminError::Unreachable(e.to_string()))?.brokers().len();
            let factor = i32::try_from(brokers).unwrap_or(3).clamp(1, 3);
            let note = if factor < 3 {
                format!("; only {brokers} broker(s) are there, so the replication factor is {factor} instead of 3")
            } else {
                String::new()
            };
            (factor, note)
        }
    };
    let created = create_topic(admin, topic, spec.partitions, replicas, &spec.configs()).await?;
    let what = if created { "created" } else { "was created by another process just now" };
    Ok(format!("topic {topic:?} {what}: {} partitions{note}", spec.partitions))
}

/// The topic's configuration. The error is a text for a log or a finding.
pub async fn read_config(admin: &AdminClient<Context>, topic: &str) -> Result<Vec<ConfigEntry>, String> {
    let options = AdminOptions::new().request_timeout(Some(TOPIC_QUERY));
    let resource = ResourceSpecifier::Topic(topic);
    let answer = tokio::time::timeout(CONFIG_WAIT, admin.describe_configs(&[resource], &options)).await;
    match answer {
        Err(_) => Err("no answer in time".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(mut results)) => match results.pop() {
            Some(Ok(resource)) => Ok(resource.entries),
            Some(Err(code)) => Err(code.to_string()),
            None => Err("the answer is empty".to_owned()),
        },
    }
}

/// Creates a topic. Returns false if it exists already, for example because another process was faster.
async fn create_topic(
    admin: &AdminClient<Context>,
    topic: &str,
    partitions: i32,
    replicas: i32,
    configs: &[(String, String)],
) -> Result<bool, KafkaError> {
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas));
    for (name, value) in configs {
        new = new.set(name, value);
    }
    let wait = Some(CREATE_TOPIC_WAIT);
    let options = AdminOptions::new().request_timeout(wait).operation_timeout(wait);
    let results = admin.create_topics([&new], &options).await?;
    match results.into_iter().next() {
        Some(Ok(_)) => Ok(true),
        Some(Err((_, Code::TopicAlreadyExists))) => Ok(false),
        Some(Err((_, code))) => Err(KafkaError::AdminOp(code)),
        None => Err(KafkaError::AdminOpCreation("the answer is empty".to_owned())),
    }
}
