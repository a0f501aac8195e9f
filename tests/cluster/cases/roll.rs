//! Rolling restarts while applications write.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::{
        kubectl::{kubectl, objects},
        report::Seen,
        results::{Outcome, folder, nothing_lost, outcomes, sum},
        stage::{Stage, no_restart, until},
    },
    sidecar::{install, on_kafka, orders},
};

/// The pods that are replaced have ended: the grace period and more.
const ENDED_WITHIN: Duration = Duration::from_secs(60);
/// Restarts for each value of the drain delay.
const ROLLS_OF_A_DELAY: u32 = 3;
/// Calls without a reason that are known to happen in each pod whose application does not stop in time.
const CUT_IN_A_POD: u64 = 4;
const REPLICAS: usize = 2;

pub async fn native(stage: &Stage) -> Seen {
    // The first call of the application must succeed: the sidecar has started before.
    no_call_fails("roll-native", stage, "native", "args={write,/results}").await
}

pub async fn classic(stage: &Stage) -> Seen {
    no_call_fails("roll-classic", stage, "classic", "args={write,--wait,/results}").await
}

async fn no_call_fails(case: &str, stage: &Stage, mode: &str, arguments: &str) -> Seen {
    let values = [format!("changelogd.sidecar.type={mode}"), arguments.to_owned()];
    let rolled = roll(case, case, stage, &values, stage.rolls).await?;
    let failed = rolled.failed();
    if !failed.is_empty() {
        return Err(format!("calls failed: {failed:?}"));
    }
    Ok(format!(
        "{} restarts of {REPLICAS} pods: {} writes, 0 failed, 0 of {} entities lost",
        stage.rolls,
        rolled.acknowledged(),
        rolled.entities
    ))
}

pub async fn delays(stage: &Stage) -> Seen {
    const CASE: &str = "drain-delay";
    let mut seen = Vec::new();
    for (delay, linger_ms) in [("0s", 0), ("2s", 0), ("5s", 0), ("2s", 1_000), ("2s", 6_000)] {
        let values = [
            "changelogd.sidecar.type=classic".to_owned(),
            format!("changelogd.drainDelay={delay}"),
            // With the longest delay, both fit into the grace period.
            "changelogd.drainTimeout=15s".to_owned(),
            format!("args={{write,--wait,--linger-ms={linger_ms},/results}}"),
        ];
        let folder = format!("{CASE}-{delay}-{linger_ms}");
        let rolled = roll(CASE, &folder, stage, &values, ROLLS_OF_A_DELAY).await?;
        orders(CASE).await?.uninstall().await?;
        let failed = rolled.failed();
        // The default, with an application that stops within it.
        if delay == "2s" && linger_ms <= 1_000 && !failed.is_empty() {
            return Err(format!("with {delay}, calls failed: {failed:?}"));
        }
        let draining = failed.get("Unavailable DRAINING").copied().unwrap_or_default();
        if linger_ms > 5_000 {
            // After its end there is no listener. Just before, a connection may be closed under a call that has begun.
            let ended = failed.iter().filter(|(kind, _)| kind.contains("Connection refused"));
            let others = failed.values().sum::<u64>() - draining - ended.map(|(_, count)| count).sum::<u64>();
            if draining == 0 || others > CUT_IN_A_POD * rolled.pods as u64 {
                return Err(format!("failed calls without DRAINING: {failed:?}"));
            }
        }
        let stops = if linger_ms == 0 { "at SIGTERM".to_owned() } else { format!("{linger_ms} ms after SIGTERM") };
        let (pods, written) = (rolled.pods, rolled.acknowledged());
        seen.push(format!("{delay}, stops {stops}: {written} writes, {} in {pods} pods", shown(&failed)));
    }
    Ok(seen.join("; "))
}

fn shown(failed: &BTreeMap<String, u64>) -> String {
    let count: u64 = failed.values().sum();
    if count == 0 {
        return "0 failed".to_owned();
    }
    let kinds: Vec<_> = failed.iter().map(|(kind, count)| format!("{kind} × {count}")).collect();
    format!("{count} failed ({})", kinds.join(", "))
}

struct Rolled {
    /// That were replaced.
    pods: usize,
    answers: BTreeMap<String, u64>,
    /// With an acknowledged write.
    entities: usize,
}

impl Rolled {
    fn failed(&self) -> BTreeMap<String, u64> {
        self.answers.iter().filter(|(kind, _)| *kind != "ok").map(|(kind, count)| (kind.clone(), *count)).collect()
    }

    fn acknowledged(&self) -> u64 {
        self.answers.get("ok").copied().unwrap_or_default()
    }
}

/// Installs, restarts this number of times, waits for the last replaced pod, and loads the acknowledged writes.
async fn roll(case: &str, results: &str, stage: &Stage, values: &[String], times: u32) -> Result<Rolled, String> {
    let mut all = on_kafka(stage).await?;
    all.push(format!("results={}", folder(results)?.display()));
    all.push(format!("replicas={REPLICAS}"));
    // The topic is there before the first pod.
    all.extend(["changelogd.topic.create=false", "changelogd.topic.job.enabled=true"].map(str::to_owned));
    all.extend_from_slice(values);
    install(case, &all).await?;
    let rollout = async |verb: &str, flags: &[&str]| {
        let arguments = ["--namespace", case, "rollout", verb, "deployment/orders"];
        kubectl(&[arguments.as_slice(), flags].concat()).await
    };
    for _ in 0..times {
        rollout("restart", &[]).await?;
        rollout("status", &["--timeout=120s"]).await?;
    }
    let running = async || {
        let pods = objects(case, &["pods"]).await?;
        let names = pods["items"].as_array().into_iter().flatten().filter_map(|pod| pod["metadata"]["name"].as_str());
        Ok::<_, String>(names.map(str::to_owned).collect::<Vec<_>>())
    };
    let only_new = async || running().await.is_ok_and(|pods| pods.len() == REPLICAS);
    until(ENDED_WITHIN, "the replaced pods have ended", only_new).await?;
    no_restart(case).await?;
    let (running, outcomes) = (running().await?, outcomes(results)?);
    let ended: BTreeMap<_, _> = outcomes.iter().filter(|(pod, _)| !running.contains(pod)).collect();
    if let Some((pod, _)) = ended.iter().find(|(_, outcome)| !outcome.has_ended) {
        return Err(format!("{pod} was killed before its application had ended"));
    }
    let expected = times as usize * REPLICAS;
    if ended.len() != expected {
        return Err(format!("{} pods have left a result, and {expected} were replaced", ended.len()));
    }
    let answers = |outcome: &Outcome| [outcome.before.clone(), outcome.after.clone()];
    let answers: Vec<_> = outcomes.values().flat_map(answers).collect();
    let entities = nothing_lost(case, "deployment/orders", &outcomes).await?;
    Ok(Rolled { pods: ended.len(), answers: sum(answers.iter()), entities })
}
