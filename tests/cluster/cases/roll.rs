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
/// Calls without a reason that are known to happen in each pod whose application does not stop in time: one for each of
/// its tasks. The server closes a connection that has no call, and a call may begin on it at that moment. The next call
/// of the task finds another connection, or none.
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
    for (delay_s, linger_ms) in [(0, 0), (0, 1_000), (2, 0), (5, 0), (2, 1_000), (2, 6_000)] {
        let values = [
            "changelogd.sidecar.type=classic".to_owned(),
            format!("changelogd.drainDelay={delay_s}s"),
            // With the longest delay, both fit into the grace period.
            "changelogd.drainTimeout=15s".to_owned(),
            format!("args={{write,--wait,--linger-ms={linger_ms},/results}}"),
        ];
        let folder = format!("{CASE}-{delay_s}s-{linger_ms}");
        let rolled = roll(CASE, &folder, stage, &values, ROLLS_OF_A_DELAY).await?;
        orders(CASE).await?.uninstall().await?;
        let failed = rolled.failed();
        as_documented(delay_s, linger_ms, &failed, rolled.pods)?;
        let stops = if linger_ms == 0 { "at SIGTERM".to_owned() } else { format!("{linger_ms} ms after SIGTERM") };
        let (pods, written) = (rolled.pods, rolled.acknowledged());
        seen.push(format!("{delay_s}s, stops {stops}: {written} writes, {} in {pods} pods", shown(&failed)));
    }
    Ok(seen.join("; "))
}

/// Whether the failed calls are those that docs/kubernetes.md says, if an application goes on so long after SIGTERM.
fn as_documented(delay_s: u64, linger_ms: u64, failed: &BTreeMap<String, u64>, pods: usize) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("drainDelay {delay_s}s, stops after {linger_ms} ms: {what}: {failed:?}"));
    if linger_ms < delay_s * 1_000 {
        return if failed.is_empty() { Ok(()) } else { wrong("calls failed") };
    }
    let draining = failed.get("Unavailable DRAINING").copied().unwrap_or_default();
    // The kubelet stops both containers on its own, so the application may get its SIGTERM when the server has ended.
    let no_listener = failed.iter().filter(|(kind, _)| kind.contains("Connection refused"));
    let others = failed.values().sum::<u64>() - draining - no_listener.map(|(_, count)| count).sum::<u64>();
    if linger_ms > 0 && draining == 0 {
        return wrong("no call was refused with DRAINING");
    }
    if others > CUT_IN_A_POD * pods as u64 { wrong("more calls without DRAINING than are cut") } else { Ok(()) }
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

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: &str = "Unavailable: operation was canceled: connection closed";
    const NO_LISTENER: &str = "Unavailable: tcp connect error: Connection refused (os error 111)";

    fn judged<const N: usize>(delay_s: u64, linger_ms: u64, failed: [(&str, u64); N]) -> bool {
        let failed = failed.map(|(kind, count)| (kind.to_owned(), count)).into();
        as_documented(delay_s, linger_ms, &failed, 2).is_ok()
    }

    #[test]
    fn no_call_of_an_application_that_stops_in_time_may_fail() {
        for (delay_s, linger_ms) in [(2, 0), (5, 0), (2, 1_000)] {
            assert!(judged(delay_s, linger_ms, []));
            assert!(!judged(delay_s, linger_ms, [("Unavailable DRAINING", 1)]));
        }
    }

    #[test]
    fn without_a_delay_calls_are_refused_and_a_few_are_cut() {
        assert!(judged(0, 0, []));
        assert!(judged(0, 0, [("Unavailable DRAINING", 9), (CUT, 8)]));
        assert!(!judged(0, 0, [("Unavailable DRAINING", 9), (CUT, 9)]));
        assert!(judged(0, 0, [(NO_LISTENER, 9)]));
        assert!(!judged(0, 0, [("Unknown", 9)]));
    }

    #[test]
    fn an_application_that_does_not_stop_is_refused_and_then_finds_no_listener() {
        assert!(judged(2, 6_000, [("Unavailable DRAINING", 900), (CUT, 2), (NO_LISTENER, 16_000)]));
        assert!(!judged(2, 6_000, [(NO_LISTENER, 16_000)]));
        assert!(!judged(0, 1_000, [(NO_LISTENER, 9)]), "the drain refuses from SIGTERM on");
        assert!(!judged(2, 6_000, [("Unavailable DRAINING", 900), (CUT, 9)]));
    }
}
