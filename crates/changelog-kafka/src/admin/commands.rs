//! `changelogd topic ensure` and `changelogd topic describe`.
//!
//! Promises that an existing topic's partition count is never changed, and its configuration only with `--alter`.

use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode as Code;
use serde::Serialize;

use super::requests::{AdminError, TopicSpec, create, read_config, with_cause};
use crate::{
    clients::{Admin, Clients},
    ffi::{self, OffsetSpec},
    settings::{HeldFiles, Settings},
    timeouts::ADMIN_QUERY,
    token,
};

/// An admin client that can authenticate.
async fn connected(settings: &Settings) -> Result<Arc<Admin>, AdminError> {
    let clients = Arc::new(Clients::new(settings.clone(), HeldFiles::default())?);
    let unreachable = |failure| AdminError::Unreachable(format!("no token for the brokers: {failure}"));
    token::get_once(&clients).await.map_err(unreachable)?;
    Ok(clients.admin())
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

/// Creates the topic if it does not exist, and compares an existing one with the spec. Idempotent.
pub async fn ensure(settings: &Settings, spec: &TopicSpec) -> Result<EnsureReport, AdminError> {
    let admin = connected(settings).await?;
    let name = &settings.topic;
    let mut report = EnsureReport {
        topic: name.clone(),
        created: false,
        altered: false,
        partitions: spec.partitions,
        notes: Vec::new(),
    };
    let described = match ffi::describe_topic(&admin, name, None, ADMIN_QUERY) {
        Err(error) if matches!(error.code, Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
            report.notes.push(create(&admin, name, spec)?);
            report.created = true;
            return Ok(report);
        }
        Err(error) => return Err(with_cause(error, &admin)),
        Ok(described) => described,
    };
    if described.partitions.len() != spec.partitions as usize {
        let actual = described.partitions.len();
        return Err(AdminError::PartitionCount { topic: name.clone(), actual, wanted: spec.partitions });
    }
    let replicas = described.partitions.iter().map(|p| p.replicas.len()).min().unwrap_or_default();
    let entries = read_config(&admin, name).await.map_err(AdminError::Refused)?;
    let mut different = Vec::new();
    for (config, wanted) in spec.configs(replicas) {
        let actual = entries.iter().find(|e| e.name == config).and_then(|e| e.value.clone()).unwrap_or_default();
        if actual != wanted {
            report.notes.push(format!("{config} is {actual}, wanted is {wanted}"));
            different.push((config, wanted));
        }
    }
    if !different.is_empty() && spec.alter {
        ffi::alter_topic(&admin, name, &different, ADMIN_QUERY).map_err(|error| with_cause(error, &admin))?;
        report.altered = true;
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
    let admin = connected(settings).await?;
    let described =
        ffi::describe_topic(&admin, &settings.topic, None, ADMIN_QUERY).map_err(|error| match error.code {
            Code::UnknownTopicOrPartition | Code::UnknownTopic => AdminError::NotFound(settings.topic.clone()),
            _ => with_cause(error, &admin),
        })?;
    let numbers: Vec<_> = described.partitions.iter().map(|p| p.partition).collect();
    let specs = [OffsetSpec::Low, OffsetSpec::LastStable, OffsetSpec::High];
    let [low, last_stable, high] = ffi::list_offsets(&admin, &settings.topic, &numbers, specs, ADMIN_QUERY)?;
    let at = |list: &[ffi::PartitionOffset], p: i32| list.iter().find(|of| of.partition == p)?.offset.ok();
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
