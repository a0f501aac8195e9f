//! Resources that change in a running pod (in-place resize).

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::{
        kubectl::kubectl,
        report::Seen,
        results::{folder, nothing_lost, outcomes, sum},
        stage::{READY_WITHIN, Stage, no_restart, pods, standalone, until},
    },
    install::{has_value, works},
    sidecar::{install, on_kafka},
};

const MIB: u64 = 1024 * 1024;
/// A kubelet that is busy takes up to two minutes until it looks at the resize of a sidecar.
const RESIZED_WITHIN: Duration = Duration::from_secs(240);
/// The statuses of containers that are none of `initContainers`.
const OWN: &str = "containerStatuses";

/// The kubelet starts the container again for another memory limit, and not for another amount of CPU.
pub async fn standalone_pod(_: &Stage) -> Seen {
    const CASE: &str = "resize";
    const DEPLOYMENT: &str = "deployment/changelogd";
    standalone(CASE).install(&["admin.podListen=true"]).await?;
    works(CASE, DEPLOYMENT).await?;
    let before = container_limit(CASE).await?;
    resized(CASE, "containers", &json!({ "requests": { "cpu": "150m" } })).await?;
    let is_resized = async || status(CASE, OWN).await.is_ok_and(|it| it["resources"]["requests"]["cpu"] == "150m");
    until(READY_WITHIN, "the container has the CPU", is_resized).await?;
    no_restart(CASE).await?;
    resized(CASE, "containers", &more_memory()).await?;
    let took = restarted(CASE, OWN).await?;
    let after = container_limit(CASE).await?;
    if (before, after) != (256 * MIB, 320 * MIB) {
        return Err(format!("the process has read a limit of {before} bytes, and {after} after the resize"));
    }
    has_value(CASE, DEPLOYMENT).await?;
    Ok(format!(
        "more CPU: no restart; from 256 to 320 MiB: ready again after {:.1} s, with its data",
        took.as_secs_f64()
    ))
}

/// The sidecar drains, its application goes on, and nothing that was acknowledged is lost.
pub async fn native_sidecar(stage: &Stage) -> Seen {
    const CASE: &str = "resize-native";
    const DEPLOYMENT: &str = "deployment/orders";
    let mut values = on_kafka(stage).await?;
    values.push(format!("results={}", folder(CASE)?.display()));
    values.extend(["changelogd.sidecar.type=native", "args={write,/results}"].map(str::to_owned));
    install(CASE, &values).await?;
    resized(CASE, "initContainers", &more_memory()).await?;
    let took = restarted(CASE, "initContainerStatuses").await?;
    let writer = name(&pod(CASE).await?);
    // The application leaves its result when its pod is replaced.
    kubectl(&["--namespace", CASE, "rollout", "restart", DEPLOYMENT]).await?;
    kubectl(&["--namespace", CASE, "rollout", "status", DEPLOYMENT, "--timeout=120s"]).await?;
    let has_ended = async || outcomes(CASE).is_ok_and(|all| all.get(&writer).is_some_and(|of| of.has_ended));
    until(READY_WITHIN, "the application has left its result", has_ended).await?;
    let mut outcomes = outcomes(CASE)?;
    outcomes.retain(|pod, _| *pod == writer);
    let entities = nothing_lost(CASE, DEPLOYMENT, &outcomes).await?;
    let mut answers = sum(outcomes.values().flat_map(|outcome| [&outcome.before, &outcome.after]));
    let written = answers.remove("ok").unwrap_or_default();
    let failed: Vec<_> = answers.iter().map(|(kind, count)| format!("{kind} × {count}")).collect();
    Ok(format!(
        "from 256 to 320 MiB: ready again after {:.1} s; {written} writes, 0 of {entities} entities lost; failed: {}",
        took.as_secs_f64(),
        if failed.is_empty() { "none".to_owned() } else { failed.join(", ") }
    ))
}

fn more_memory() -> Value {
    json!({ "requests": { "memory": "320Mi" }, "limits": { "memory": "320Mi" } })
}

async fn resized(case: &str, list: &str, resources: &Value) -> Result<(), String> {
    let patch = json!({ "spec": { list: [{ "name": "changelogd", "resources": resources }] } }).to_string();
    let pod = name(&pod(case).await?);
    kubectl(&["--namespace", case, "patch", "pod", &pod, "--subresource=resize", "--patch", &patch]).await.map(drop)
}

/// Waits until the container was started again, and is ready.
async fn restarted(case: &str, list: &str) -> Result<Duration, String> {
    let is_restarted = async || status(case, list).await.is_ok_and(|it| it["restartCount"] == 1 && it["ready"] == true);
    until(RESIZED_WITHIN, "the container is ready again", is_restarted).await
}

async fn pod(case: &str) -> Result<Value, String> {
    pods(case).await?.into_iter().next().ok_or_else(|| "there is no pod".to_owned())
}

fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Of the only container in a list of statuses.
async fn status(case: &str, list: &str) -> Result<Value, String> {
    Ok(pod(case).await?["status"][list][0].clone())
}

/// What the process says of the memory limit of its container, in bytes.
async fn container_limit(case: &str) -> Result<u64, String> {
    const METRIC: &str = "changelogd_memory_container_limit_bytes ";
    let pod = name(&pod(case).await?);
    let path = format!("/api/v1/namespaces/{case}/pods/{pod}:9650/proxy/metrics");
    let metrics = kubectl(&["get", "--raw", &path]).await?;
    let value = metrics.lines().find_map(|line| line.strip_prefix(METRIC)).ok_or("there is no such metric")?;
    value.parse::<f64>().map(|bytes| bytes as u64).map_err(|error| format!("{value}: {error}"))
}
