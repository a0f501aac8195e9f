//! Kafka is unreachable for a while.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    super::{
        kafka,
        report::Seen,
        stage::{READY_WITHIN, Stage, ask, exec, no_restart, pods, standalone, until},
    },
    install::works,
    sidecar::{install, on_kafka},
};

const DOWN: Duration = Duration::from_secs(120);
/// As docs/operations.md says when readiness is off. The probe runs each 5 seconds and fails the third time.
const NOT_READY_WITHIN: Duration = Duration::from_secs(60);
const WATCHED_EACH: Duration = Duration::from_secs(2);

/// A server with its own readiness probe, and an application with a sidecar, which has none.
pub async fn kafka_down(stage: &Stage) -> Seen {
    const CASE: &str = "kafka-down";
    let kafka = stage.kafka().await?;
    let values = kafka::values("", &kafka.address, &kafka::topic());
    standalone(CASE).install(&values.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    works(CASE, "deployment/changelogd").await?;
    install(CASE, &on_kafka(stage).await?).await?;
    let probe = pods(CASE).await?.iter().find_map(|pod| probe(pod, "changelogd"));
    let probe = probe.ok_or("the server has no readiness probe")?;

    kafka.stop().await;
    let (began, up_again) = (Instant::now(), Instant::now() + DOWN);
    // The service `readiness` is off without brokers. `serving` stays on, because the topic was valid once.
    let expected_ready = probe == "serving";
    let mut off_after = None;
    while Instant::now() < up_again {
        let all = pods(CASE).await?;
        if !is_ready(&all, "orders") {
            return Err("the application's pod is not ready".to_owned());
        }
        if !is_ready(&all, "changelogd") && off_after.is_none() {
            off_after = Some(began.elapsed());
        }
        sleep(WATCHED_EACH).await;
    }
    sleep_until(up_again).await;
    // Long enough to ask for the reason, too.
    let waited = ask(CASE, "deployment/changelogd", &["wait", "--timeout", "10s"]).await;
    let why = waited.err().ok_or("changelogd says that it is ready without Kafka")?;
    kafka.restart().await;
    match (expected_ready, off_after) {
        (true, Some(after)) => return Err(format!("`serving` is off after {:.0} s", after.as_secs_f64())),
        (false, after) if after.is_none_or(|after| after > NOT_READY_WITHIN) => {
            return Err(format!("the server's pod is not ready after: {after:?}"));
        }
        _ => {}
    }
    let again = async || pods(CASE).await.is_ok_and(|all| is_ready(&all, "changelogd"));
    let back = until(READY_WITHIN, "the server's pod is ready again", again).await?;
    until(READY_WITHIN, "writes succeed again", async || works(CASE, "deployment/changelogd").await.is_ok()).await?;
    exec(CASE, "deployment/orders", "orders", &["/usr/local/bin/application", "once"]).await?;
    no_restart(CASE).await?;
    if !why.contains("BROKERS_UNREACHABLE") {
        return Err(format!("`changelogd wait` does not name the reason: {why}"));
    }
    let off = off_after.map_or("ready all the time".to_owned(), |after| {
        format!("not ready after {:.0} s, ready {:.0} s after Kafka was back", after.as_secs_f64(), back.as_secs_f64())
    });
    Ok(format!(
        "no restart; the server, whose probe asks for `{probe}`, was {off}; the pod with a sidecar stayed ready"
    ))
}

/// The service that the readiness probe asks for.
fn probe(pod: &Value, name: &str) -> Option<String> {
    let containers = pod["spec"]["containers"].as_array()?;
    let container = containers.iter().find(|container| container["name"] == name)?;
    Some(container["readinessProbe"]["grpc"]["service"].as_str()?.to_owned())
}

/// Whether the pod whose name begins so is ready.
fn is_ready(pods: &[Value], name: &str) -> bool {
    let pod = pods.iter().find(|pod| pod["metadata"]["name"].as_str().is_some_and(|text| text.starts_with(name)));
    let conditions = pod.and_then(|pod| pod["status"]["conditions"].as_array());
    conditions.is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"))
}
