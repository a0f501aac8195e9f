//! F1 and F2: all brokers are down.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use changelogd::proto::v1;
use tonic::Code;

use crate::{
    fault::{Fault, Stage, WRITE_TIMEOUT},
    kafka::BROKERS,
    sidecar::{limited, raw, reason, said},
};

use super::Tally;

fn kill_all(stage: &mut Stage<'_>) {
    stage.blocking(|cluster| BROKERS.iter().for_each(|id| cluster.kill(*id)));
}

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
        let (mut told, mut slowest) = (Tally::default(), Duration::ZERO);
        let mut i = 0;
        // At least two for each sidecar: one that waits for its deadline, and one when that is known.
        while i < 4 || Instant::now() < stage.until() {
            let mut client = stage.sidecars[i % stage.sidecars.len()].client();
            let request =
                v1::SetRequest { changelog_id: format!("probe-{i}/t/e"), value: raw("1"), ..Default::default() };
            let asked = Instant::now();
            let answer = client.set(limited(request, WRITE_TIMEOUT + 2)).await;
            slowest = slowest.max(asked.elapsed());
            let Err(status) = answer else { return Err("a write was acknowledged while no broker ran".to_owned()) };
            let unknown = reason(&status).as_deref() == Some("OUTCOME_UNKNOWN");
            if !(status.code() == Code::Unavailable && reason(&status).is_some() || unknown) {
                return Err(format!("a write was told {}: {}", said(&status), status.message()));
            }
            told.add(&said(&status));
            i += 1;
        }
        if slowest > Duration::from_secs(WRITE_TIMEOUT + 1) {
            return Err(format!("a write with a write timeout of {WRITE_TIMEOUT} s was answered after {slowest:?}"));
        }
        Ok(format!("{told}; the slowest after {:.1} s", slowest.as_secs_f64()))
    }
}

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
        let (mut told, mut slowest) = (Tally::default(), Duration::ZERO);
        let mut i = 0;
        while i < 4 || Instant::now() < stage.until() {
            let sidecar = &stage.sidecars[i % stage.sidecars.len()];
            let request = v1::LoadWorkspaceRequest { workspace_id: format!("probe-{i}"), ..Default::default() };
            let asked = Instant::now();
            let answer = crate::clients::load(&mut sidecar.client(), request).await;
            slowest = slowest.max(asked.elapsed());
            let Err(status) = answer else { return Err("a load was answered while no broker ran".to_owned()) };
            if status.code() != Code::Unavailable || reason(&status).is_none() {
                return Err(format!("a load was told {}: {}", said(&status), status.message()));
            }
            told.add(&said(&status));
            if sidecar.http("/livez").await?.0 != 200 {
                return Err("/livez is not 200".to_owned());
            }
            i += 1;
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
