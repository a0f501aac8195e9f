//! What a topic is created with, and the requests that the topic's watcher makes too.

use std::collections::{BTreeMap, BTreeSet};

use changelog_core::model::PartitionCount;
use rdkafka::{
    admin::{AdminOptions, ConfigEntry, ResourceSpecifier},
    error::{KafkaError, RDKafkaErrorCode as Code},
};

use crate::{
    clients::Admin,
    ffi::{self, NativeError},
    timeouts::{ADMIN_QUERY, CONFIG_WAIT, CREATE_TOPIC_WAIT, TOPIC_QUERY},
};

/// The topic that `ensure` creates or compares with.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    /// The number of partitions.
    pub partitions: i32,
    /// Replicas of each partition; `None` = 3, or the number of brokers if that is smaller.
    pub replication_factor: Option<i32>,
    /// Configuration values by name, in addition to those in [`DOCUMENTED`], or instead.
    pub configs: BTreeMap<String, String>,
    /// Names of [`DOCUMENTED`] that are left to the brokers.
    pub without: BTreeSet<String>,
    /// Whether to change an existing topic's configuration. Its partition count is never changed.
    pub alter: bool,
}

/// The documented configuration of a topic. The last one is for topics with three replicas or more.
pub const DOCUMENTED: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("compression.type", "snappy"),
    ("min.compaction.lag.ms", "60000"),
    (MIN_INSYNC_REPLICAS, "2"),
];
const MIN_INSYNC_REPLICAS: &str = "min.insync.replicas";
/// With fewer, a topic whose writes need two replicas in sync takes none while one is lost.
pub const REPLICAS_FOR_TWO_IN_SYNC: usize = 3;
const DEFAULT_REPLICAS: i32 = 3;

impl TopicSpec {
    /// The documented defaults. `partitions`: `None` = 10.
    pub fn new(partitions: Option<PartitionCount>) -> Self {
        Self {
            partitions: partitions.map_or(10, PartitionCount::get),
            replication_factor: None,
            configs: BTreeMap::new(),
            without: BTreeSet::new(),
            alter: false,
        }
    }

    /// Configuration values by name, for this number of replicas.
    pub fn configs(&self, replicas: usize) -> Vec<(String, String)> {
        let documented = DOCUMENTED.iter().filter(|(name, _)| {
            let fits = *name != MIN_INSYNC_REPLICAS || replicas >= REPLICAS_FOR_TWO_IN_SYNC;
            fits && !self.without.contains(*name) && !self.configs.contains_key(*name)
        });
        let documented = documented.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        documented.chain(self.configs.clone()).collect()
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
    /// The cluster has fewer brokers than a partition is to have replicas. Nothing was created.
    #[error("{there} of {wanted} brokers are there")]
    TooFewBrokers {
        /// How many the cluster has.
        there: usize,
        /// The replication factor.
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
pub fn with_cause(error: NativeError, admin: &Admin) -> AdminError {
    ffi::poll_logs(admin);
    match admin.inner().context().take_last_failure() {
        Some(cause) if error.code == Code::OperationTimedOut => AdminError::Unreachable(cause),
        _ => error.into(),
    }
}

/// Creates a topic as the spec says, unless there are too few brokers. Returns a text for the log. Blocks.
pub fn create(admin: &Admin, topic: &str, spec: &TopicSpec) -> Result<String, AdminError> {
    let there = ffi::broker_count(admin, ADMIN_QUERY).map_err(|error| with_cause(error, admin))?;
    let brokers = i32::try_from(there).unwrap_or(i32::MAX);
    let (replicas, note) = match spec.replication_factor {
        Some(wanted) if wanted > brokers => return Err(AdminError::TooFewBrokers { there, wanted }),
        Some(wanted) => (wanted, String::new()),
        None if brokers < DEFAULT_REPLICAS => {
            let factor = brokers.max(1);
            let note = format!(
                "; only {there} broker(s) are there, so the replication factor is {factor} instead of \
                 {DEFAULT_REPLICAS}"
            );
            (factor, note)
        }
        None => (DEFAULT_REPLICAS, String::new()),
    };
    let configs = spec.configs(usize::try_from(replicas).unwrap_or(0));
    let what = match ffi::create_topic(admin, topic, spec.partitions, replicas, &configs, CREATE_TOPIC_WAIT) {
        Ok(()) => "created",
        // Another process was faster.
        Err(error) if error.code == Code::TopicAlreadyExists => "was created by another process just now",
        Err(error) => return Err(with_cause(error, admin)),
    };
    Ok(format!("topic {topic:?} {what}: {} partitions{note}", spec.partitions))
}

/// The topic's configuration. The error is a text for a log or a finding.
pub async fn read_config(admin: &Admin, topic: &str) -> Result<Vec<ConfigEntry>, String> {
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
