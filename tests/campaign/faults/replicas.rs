//! F7 and F19: too few replicas are in sync; the group coordinator is away.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use changelogd_testkit::shared_oracle;
use futures_util::future::join_all;
use tokio::time::sleep;
use tonic::Code;

use crate::{
    fault::{Fault, PARTITIONS, Stage, WRITE_TIMEOUT},
    sidecar::{reason, said},
};

use super::calls::{Tally, a_workspace_in_each, not_acknowledged, timed_load, timed_set};

/// Covers C40, R25, F7.
pub struct Few;

#[async_trait]
impl Fault for Few {
    fn id(&self) -> &'static str {
        "F7"
    }

    fn title(&self) -> &'static str {
        "two of three brokers are killed: fewer in sync than min.insync.replicas"
    }

    fn expected(&self) -> &'static str {
        "UNAVAILABLE or OUTCOME_UNKNOWN, by what became of the record; nothing acknowledged"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let workspaces = a_workspace_in_each(&stage.sidecars[0].client(), PARTITIONS).await?;
        let topic = stage.topic.to_owned();
        stage.blocking(|cluster| [2, 3].iter().for_each(|id| cluster.kill(*id)));
        let killed = Instant::now();
        while stage.blocking(|cluster| cluster.in_sync(&topic)).iter().any(|count| *count >= 2) {
            if killed.elapsed() > Duration::from_secs(60) {
                return Err("the killed brokers stay in sync".to_owned());
            }
            sleep(Duration::from_millis(200)).await;
        }
        let (mut told, mut slowest) = (Tally::default(), Duration::ZERO);
        for round in 0..2 {
            let probes = workspaces.iter().flat_map(|w| stage.sidecars.iter().map(move |s| (w, s)));
            let probes = probes.map(|(w, s)| timed_set(s.client(), format!("{w}/t/{round}"), "1"));
            for (answer, took) in join_all(probes).await {
                slowest = slowest.max(took);
                let Err(status) = answer else {
                    return Err("a write was acknowledged by one replica of two".to_owned());
                };
                not_acknowledged(&status)?;
                told.add(&said(&status));
            }
        }
        if slowest > Duration::from_secs(WRITE_TIMEOUT + 2) {
            return Err(format!("a write was answered after {slowest:?}"));
        }
        Ok(format!("{told}; the slowest after {:.1} s", slowest.as_secs_f64()))
    }
}

/// Covers R20, F19.
pub struct NoCoordinator;

#[async_trait]
impl Fault for NoCoordinator {
    fn id(&self) -> &'static str {
        "F19"
    }

    fn title(&self) -> &'static str {
        "the group coordinator's broker is frozen"
    }

    fn expected(&self) -> &'static str {
        "loads work; the process stays live (dropped consumers block no other task)"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let client = stage.sidecars[0].client();
        let workspaces = a_workspace_in_each(&client, PARTITIONS).await?;
        // The topic has one replica, so no other broker takes it over.
        let offsets = "__consumer_offsets";
        let direct = stage.cluster.direct();
        let topics = stage.blocking(|_| shared_oracle().topics(&direct)).map_err(|e| e.to_string())?;
        let coordinator = if topics.contains(offsets) {
            stage.blocking(|cluster| cluster.leader_of(offsets, 0))
        } else {
            stage.blocking(|_| {
                let configs = [("cleanup.policy", "compact")];
                shared_oracle().create(&direct, offsets, 1, 1, &configs).map_err(|e| e.to_string())
            })?;
            stage.blocking(|cluster| cluster.leader_of(offsets, 0))
        };
        stage.blocking(|cluster| cluster.pause(coordinator));
        // The frozen broker leads other partitions, too: wait until they have new leaders, and no longer.
        let paused = Instant::now();
        let topic = stage.topic.to_owned();
        for partition in 0..PARTITIONS {
            while [coordinator, -1].contains(&stage.blocking(|cluster| cluster.leader_of(&topic, partition))) {
                if paused.elapsed() > Duration::from_secs(60) {
                    return Err("the frozen broker goes on to lead".to_owned());
                }
                sleep(Duration::from_millis(200)).await;
            }
        }
        let (mut slowest, mut live, mut failed) = (Duration::ZERO, Duration::ZERO, Tally::default());
        let rounds = if stage.short { 8 } else { 25 };
        for round in 0..rounds {
            let probes = workspaces.iter().map(|w| timed_load(client.clone(), w.clone(), 15));
            let asked = Instant::now();
            let health = async { (stage.sidecars[0].http("/livez").await, asked.elapsed()) };
            let (loads, (health, took)) = tokio::join!(join_all(probes), health);
            if health?.0 != 200 {
                return Err("/livez is not 200".to_owned());
            }
            live = live.max(took);
            for (answer, took) in loads {
                slowest = slowest.max(took);
                match answer {
                    Ok(_) => {}
                    // The sidecar sees the new leaders a moment later.
                    Err(status) if round == 0 && status.code() == Code::Unavailable && reason(&status).is_some() => {
                        failed.add(&said(&status));
                    }
                    Err(status) => return Err(format!("a load was answered {}: {}", said(&status), status.message())),
                }
            }
        }
        let seen = format!(
            "{} loads, the slowest after {:.1} s; /livez after at most {:.2} s {failed}",
            rounds * PARTITIONS,
            slowest.as_secs_f64(),
            live.as_secs_f64()
        );
        if live > Duration::from_secs(2) { Err(seen) } else { Ok(seen) }
    }
}
