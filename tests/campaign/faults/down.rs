//! F1 and F2: all brokers are down.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use changelogd_testkit::BROKERS;
use futures_util::future::join_all;
use tonic::Code;

use crate::{
    clients::READ,
    fault::{Fault, Stage, WRITE_TIMEOUT},
    sidecar::{reason, said},
};

use super::calls::{Tally, not_acknowledged, timed_load, timed_set};

fn kill_all(stage: &mut Stage<'_>) {
    stage.blocking(|cluster| BROKERS.iter().for_each(|id| cluster.kill(*id)));
}

/// Covers F1.
pub struct Writes;

#[async_trait]
impl Fault for Writes {
    fn id(&self) -> &'static str {
        "F1"
    }

    fn title(&self) -> &'static str {
        "all brokers are killed; writes"
    }

    fn expected(&self) -> &'static str {
        "UNAVAILABLE (nothing written) or OUTCOME_UNKNOWN, by the write's deadline; recovers unaided"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        kill_all(stage);
        let (mut told, mut slowest, mut round) = (Tally::default(), Duration::ZERO, 0);
        // At least two writes: one waits for its deadline, and one comes when the brokers are known to be down.
        while round < 2 || Instant::now() < stage.until() {
            let probes = stage.sidecars.iter().map(|s| timed_set(s.client(), format!("probe-{round}/t/e"), "1"));
            for (answer, took) in join_all(probes).await {
                slowest = slowest.max(took);
                let Err(status) = answer else { return Err("a write was acknowledged while no broker ran".to_owned()) };
                not_acknowledged(&status)?;
                told.add(&said(&status));
            }
            round += 1;
        }
        // librdkafka looks each second for writes whose time is over.
        if slowest > Duration::from_secs(WRITE_TIMEOUT + 2) {
            return Err(format!("a write with a write timeout of {WRITE_TIMEOUT} s was answered after {slowest:?}"));
        }
        Ok(format!("{told}; the slowest after {:.1} s", slowest.as_secs_f64()))
    }
}

/// Covers K4, F2.
pub struct Loads;

#[async_trait]
impl Fault for Loads {
    fn id(&self) -> &'static str {
        "F2"
    }

    fn title(&self) -> &'static str {
        "all brokers are killed; loads"
    }

    fn expected(&self) -> &'static str {
        "UNAVAILABLE in less than 5 s; /livez 200, /readyz 503"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        kill_all(stage);
        let (mut told, mut slowest, mut round) = (Tally::default(), Duration::ZERO, 0);
        while round < 2 || Instant::now() < stage.until() {
            let probes = stage.sidecars.iter().map(|s| timed_load(s.client(), format!("probe-{round}"), READ));
            for (answer, took) in join_all(probes).await {
                slowest = slowest.max(took);
                let Err(status) = answer else { return Err("a load was answered while no broker ran".to_owned()) };
                if status.code() != Code::Unavailable || reason(&status).is_none() {
                    return Err(format!("a load was answered {}: {}", said(&status), status.message()));
                }
                told.add(&said(&status));
            }
            for sidecar in &*stage.sidecars {
                let (code, body) = sidecar.http("/livez").await?;
                if code != 200 {
                    return Err(format!("/livez is {code}: {body}"));
                }
            }
            round += 1;
        }
        for sidecar in &*stage.sidecars {
            let (code, body) = sidecar.http("/readyz").await?;
            if code != 503 {
                return Err(format!("/readyz is {code}: {body}"));
            }
        }
        if slowest >= Duration::from_secs(5) {
            return Err(format!("a load was answered after {slowest:?}"));
        }
        Ok(format!("{told}; the slowest after {:.1} s; live, not ready", slowest.as_secs_f64()))
    }
}
