//! `changelogd topic ensure` and `changelogd topic describe`, and the admin client of the Kafka store.
//!
//! Promises that an existing topic's partition count is never changed, and its configuration only with `--alter`.

use std::time::Duration;

use rdkafka::{
    admin::{AdminClient, AdminOptions, AlterConfig, ConfigEntry, NewTopic, ResourceSpecifier, TopicReplication},
    config::FromClientConfigAndContext,
    error::{KafkaError, RDKafkaErrorCode as Code},
};
use serde::Serialize;

use super::{
    client_context::Context,
    ffi::{self, NativeError, OffsetSpec},
    settings::{Role, Settings},
    timeouts::{ADMIN_QUERY, CONFIG_WAIT, CREATE_TOPIC_WAIT, TOPIC_QUERY},
};
use crate::model::PartitionCount;

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

    fn configs(&self) -> Vec<(String, String)> {
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
fn with_cause(error: NativeError, admin: &AdminClient<Context>) -> AdminError {
    ffi::poll_logs(admin);
    match admin.inner().context().take_last_failure() {
        Some(cause) if error.code == Code::OperationTimedOut => AdminError::Unreachable(cause),
        _ => error.into(),
    }
}

/// The result of [`ensure`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EnsureReport {
    /// The topic.
    pub topic: String,
    /// The topic did not exist and was created.
    pub created: bool,
    /// The topic's configuration was changed.
    pub altered: bool,
    /// The number of partitions.
    pub partitions: i32,
    /// Differences from the spec, and notes.
    pub notes: Vec<String>,
}

/// The long-lived client that watches the topic and queries offsets.
pub(super) fn client(settings: &Settings) -> Result<AdminClient<Context>, KafkaError> {
    let admin = AdminClient::from_config_and_context(&settings.config(Role::Admin), Context::default())?;
    ffi::redirect_logs(admin.inner());
    Ok(admin)
}

/// Creates a topic with the documented configuration. Returns a text for the log.
pub(super) async fn create(admin: &AdminClient<Context>, topic: &str, spec: &TopicSpec) -> Result<String, AdminError> {
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
pub(super) async fn read_config(admin: &AdminClient<Context>, topic: &str) -> Result<Vec<ConfigEntry>, String> {
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

/// Creates the topic if it does not exist, and compares an existing one with the spec. Idempotent.
pub async fn ensure(settings: &Settings, spec: &TopicSpec) -> Result<EnsureReport, AdminError> {
    let admin = client(settings)?;
    let name = &settings.topic;
    let mut report = EnsureReport {
        topic: name.clone(),
        created: false,
        altered: false,
        partitions: spec.partitions,
        notes: Vec::new(),
    };
    match ffi::describe_topic(&admin, name, None, ADMIN_QUERY) {
        Err(error) if matches!(error.code, Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
            report.notes.push(create(&admin, name, spec).await?);
            report.created = true;
            return Ok(report);
        }
        Err(error) => return Err(with_cause(error, &admin)),
        Ok(described) if described.partitions.len() != spec.partitions as usize => {
            let actual = described.partitions.len();
            return Err(AdminError::PartitionCount { topic: name.clone(), actual, wanted: spec.partitions });
        }
        Ok(_) => {}
    }
    let entries = read_config(&admin, name).await.map_err(AdminError::Refused)?;
    let mut different = Vec::new();
    for (config, wanted) in spec.configs() {
        let actual = entries.iter().find(|e| e.name == config).and_then(|e| e.value.clone()).unwrap_or_default();
        if actual != wanted {
            report.notes.push(format!("{config} is {actual}, wanted is {wanted}"));
            different.push((config, wanted));
        }
    }
    if !different.is_empty() && spec.alter {
        // AlterConfigs replaces all values of the topic, so the values that are set already are sent again.
        let kept: Vec<(String, String)> = entries
            .iter()
            .filter(|e| matches!(e.source, rdkafka::admin::ConfigSource::DynamicTopic))
            .filter(|e| !different.iter().any(|(name, _)| *name == e.name))
            .filter_map(|e| Some((e.name.clone(), e.value.clone()?)))
            .collect();
        let mut alter = AlterConfig::new(ResourceSpecifier::Topic(name));
        for (config, value) in kept.iter().chain(&different) {
            alter = alter.set(config, value);
        }
        let options = AdminOptions::new().request_timeout(Some(ADMIN_QUERY));
        match admin.alter_configs(&[alter], &options).await?.pop() {
            Some(Err((_, code))) => {
                return Err(AdminError::Refused(format!("the configuration can't be changed: {code}")));
            }
            _ => report.altered = true,
        }
    } else if !different.is_empty() {
        report.notes.push("nothing was changed: --alter changes the configuration".to_owned());
    }
    Ok(report)
}

/// A partition in a [`TopicReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionReport {
    /// The partition's number.
    pub partition: i32,
    /// The leader's broker id; -1 = none.
    pub leader: i32,
    /// Broker ids.
    pub replicas: Vec<i32>,
    /// Broker ids of the replicas in sync.
    pub isr: Vec<i32>,
    /// The low watermark; `None` = not known.
    pub low_offset: Option<i64>,
    /// The last stable offset; `None` = not known.
    pub last_stable_offset: Option<i64>,
    /// The high watermark; `None` = not known.
    pub high_offset: Option<i64>,
}

/// The result of [`describe`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TopicReport {
    /// Its name.
    pub topic: String,
    /// The topic id in Kafka's base64 form.
    pub id: String,
    /// Sorted by number.
    pub partitions: Vec<PartitionReport>,
    /// Configuration values by name.
    pub configs: Vec<(String, String)>,
}

/// Describes the topic, its offsets and its configuration.
pub async fn describe(settings: &Settings) -> Result<TopicReport, AdminError> {
    const SHOWN: [&str; 9] = [
        "cleanup.policy",
        "compression.type",
        "delete.retention.ms",
        "max.message.bytes",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "min.insync.replicas",
        "segment.ms",
        "unclean.leader.election.enable",
    ];
    let admin = client(settings)?;
    let described =
        ffi::describe_topic(&admin, &settings.topic, None, ADMIN_QUERY).map_err(|error| match error.code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic => AdminError::NotFound(settings.topic.clone()),
            _ => with_cause(error, &admin),
        })?;
    let numbers: Vec<_> = described.partitions.iter().map(|p| p.partition).collect();
    let specs = [OffsetSpec::Low, OffsetSpec::LastStable, OffsetSpec::High];
    let [low, last_stable, high] = ffi::list_offsets(&admin, &settings.topic, &numbers, specs, ADMIN_QUERY)?;
    let at = |list: &[ffi::PartitionOffset], p: i32| {
        list.iter().find(|(number, _)| *number == p).and_then(|(_, offset)| offset.ok())
    };
    let entries = read_config(&admin, &settings.topic).await.map_err(AdminError::Refused)?;
    Ok(TopicReport {
        topic: settings.topic.clone(),
        id: described.id,
        partitions: described
            .partitions
            .into_iter()
            .map(|p| PartitionReport {
                partition: p.partition,
                leader: p.leader,
                low_offset: at(&low, p.partition),
                last_stable_offset: at(&last_stable, p.partition),
                high_offset: at(&high, p.partition),
                replicas: p.replicas,
                isr: p.isr,
            })
            .collect(),
        configs: entries
            .into_iter()
            .filter(|e| SHOWN.contains(&&*e.name))
            .filter_map(|e| Some((e.name, e.value?)))
            .collect(),
    })
}
