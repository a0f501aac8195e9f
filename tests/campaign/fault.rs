//! The trait of a fault, and the parts of the campaign that a fault may disturb.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use changelogd_testkit::{Cluster, Proxy, Random, shared_oracle, unique_topic};
use tokio::{task::block_in_place, time::sleep_until};

use super::{history::Recorder, sidecar::Sidecar};

/// Partitions of a history's topic.
pub const PARTITIONS: i32 = 4;
/// The sidecars' --write-timeout, in seconds.
pub const WRITE_TIMEOUT: u64 = 4;

/// One row of the report: a fault, injected while the clients of a history run.
#[async_trait]
pub trait Fault: Sync {
    /// The id, as in the rules: `F1`.
    fn id(&self) -> &'static str;

    fn title(&self) -> &'static str;

    /// The answer that the rules require.
    fn expected(&self) -> &'static str;

    /// Settings of the history's topic, in addition to the usual ones.
    fn topic_configs(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    /// Arguments of both sidecars, in addition to the usual ones.
    fn sidecar_arguments(&self) -> Vec<String> {
        Vec::new()
    }

    /// The reasons for which a watch of the clients' topic may have to start again, each with its cause. By default
    /// there are none: that log loses nothing, and its tombstones stay for a day.
    fn watches_may_start_again(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Called when the clients have run for a while. Injects the fault for about [`Stage::window`], checks the answers
    /// meanwhile, and heals it. What it leaves is healed after it: brokers are started, links pass again.
    ///
    /// Returns what was seen, or an error that says how that was not expected.
    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String>;
}

/// The parts that a fault may use.
pub struct Stage<'a> {
    pub cluster: &'a mut Cluster,
    /// The sidecars on the history's topic.
    pub sidecars: &'a mut [Sidecar],
    /// The proxies between some of the clients and each of the sidecars.
    pub client_proxies: &'a [Proxy],
    pub topic: &'a str,
    pub recorder: &'a Recorder,
    /// The duration of the fault.
    pub window: Duration,
    /// Whether numbers should be small.
    pub short: bool,
    pub random: Random,
    /// The directory in which logs and histories are kept if something is wrong.
    pub keep: PathBuf,
    pub(super) begun: Instant,
}

impl Stage<'_> {
    /// Runs calls that block: the cluster's methods, and the oracle's.
    pub fn blocking<T>(&mut self, what: impl FnOnce(&mut Cluster) -> T) -> T {
        block_in_place(|| what(self.cluster))
    }

    /// The broker that leads a partition of the history's topic.
    pub fn leader(&mut self, partition: i32) -> i32 {
        let topic = self.topic.to_owned();
        self.blocking(|cluster| cluster.leader_of(&topic, partition))
    }

    /// The time at which the fault should be healed.
    pub fn until(&self) -> Instant {
        self.begun + self.window
    }

    /// Waits until then.
    pub async fn hold(&self) {
        sleep_until(self.until().into()).await;
    }

    /// A topic of the fault's own, with three replicas. Two must acknowledge, unless the settings say otherwise.
    pub fn own_topic(&mut self, partitions: i32, configs: &[(&str, &str)]) -> Result<String, String> {
        self.blocking(|cluster| create(cluster, partitions, configs))
    }

    /// A sidecar of the fault's own. It answers when this returns.
    pub async fn own_sidecar(&mut self, topic: &str, partitions: i32, more: &[&str]) -> Result<Sidecar, String> {
        let mut arguments = arguments(self.cluster, topic, partitions);
        for argument in more {
            // A setting may be given only once.
            let name = argument.split('=').next().unwrap_or(argument);
            if name != "--kafka-property" {
                arguments.retain(|a| a.split('=').next() != Some(name));
            }
            arguments.push((*argument).to_owned());
        }
        let sidecar = Sidecar::start(&self.keep.join("own-sidecar.log"), arguments).await?;
        sidecar.answers(Duration::from_secs(30)).await?;
        Ok(sidecar)
    }
}

pub(super) fn create(cluster: &Cluster, partitions: i32, configs: &[(&str, &str)]) -> Result<String, String> {
    let topic = unique_topic("campaign");
    let usual = [("cleanup.policy", "compact"), ("min.insync.replicas", "2"), ("compression.type", "snappy")];
    let usual = usual.iter().filter(|(name, _)| configs.iter().all(|(other, _)| other != name));
    let configs: Vec<_> = usual.chain(configs).copied().collect();
    let created = shared_oracle().create(&cluster.direct(), &topic, partitions, 3, &configs);
    created.map_err(|error| format!("the topic was not created: {error}"))?;
    Ok(topic)
}

pub(super) fn arguments(cluster: &Cluster, topic: &str, partitions: i32) -> Vec<String> {
    vec![
        format!("--brokers={}", cluster.bootstrap()),
        format!("--topic={topic}"),
        format!("--partitions={partitions}"),
        format!("--write-timeout={WRITE_TIMEOUT}s"),
    ]
}
