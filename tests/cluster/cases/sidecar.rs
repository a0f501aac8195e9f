//! Charts that depend on this one.

use std::time::Duration;

use super::super::{
    kafka,
    kubectl::{kubectl, objects},
    report::Seen,
    stage::{Release, Stage, dependent, exec, no_restart},
};

/// What the case's chart is called, and the prefix of the values of changelogd in it.
const ORDERS: &str = "tests/cluster/charts/orders";
pub const PREFIX: &str = "changelogd.";
pub const ONCE: [&str; 2] = ["/usr/local/bin/application", "once"];

/// A release of the case's own application.
pub async fn orders(case: &str) -> Result<Release<'_>, String> {
    Ok(Release { namespace: case, name: "orders", chart: dependent(ORDERS).await?, prefixes: &[PREFIX] })
}

pub async fn install(case: &str, values: &[String]) -> Result<Duration, String> {
    orders(case).await?.install(&values.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// Values of a sidecar on Kafka.
pub async fn on_kafka(stage: &Stage) -> Result<Vec<String>, String> {
    Ok(kafka::values(PREFIX, &stage.kafka().await?.address, &kafka::topic()))
}

pub async fn both_modes(stage: &Stage) -> Seen {
    const CASE: &str = "sidecar";
    let mut seen = Vec::new();
    for mode in ["native", "classic"] {
        for store in ["embedded", "kafka"] {
            let mut values = if store == "kafka" { on_kafka(stage).await? } else { Vec::new() };
            values.push(format!("changelogd.sidecar.type={mode}"));
            let took = install(CASE, &values).await?;
            exec(CASE, "deployment/orders", "orders", &ONCE).await?;
            no_restart(CASE).await?;
            orders(CASE).await?.uninstall().await?;
            seen.push(format!("{mode}, {store}: ready after {:.1} s", took.as_secs_f64()));
        }
    }
    Ok(seen.join("; "))
}

pub async fn socket(_: &Stage) -> Seen {
    const CASE: &str = "socket";
    let mut seen = Vec::new();
    for mode in ["native", "classic"] {
        let values = ["changelogd.api.socket=true".to_owned(), format!("changelogd.sidecar.type={mode}")];
        let took = install(CASE, &values).await?;
        exec(CASE, "deployment/orders", "orders", &ONCE).await?;
        orders(CASE).await?.uninstall().await?;
        seen.push(format!("{mode}: ready after {:.1} s", took.as_secs_f64()));
    }
    // The user of OpenShift is not in the image. The socket's folder belongs to the group of the pod.
    let group = "podSecurityContext.fsGroup=1000700000";
    let user = ["podSecurityContext.runAsUser=1000700000", "podSecurityContext.runAsGroup=0", group].map(str::to_owned);
    let own = ["changelogd.securityContext.runAsUser=1000700000", "changelogd.securityContext.runAsGroup=0"];
    let values = [vec!["changelogd.api.socket=true".to_owned()], user.to_vec(), own.map(str::to_owned).to_vec()];
    install(CASE, &values.concat()).await?;
    exec(CASE, "deployment/orders", "orders", &ONCE).await?;
    no_restart(CASE).await?;
    Ok(format!("{}; also as user 1000700000 with group 0", seen.join("; ")))
}

pub async fn two_aliases(stage: &Stage) -> Seen {
    const CASE: &str = "aliases";
    let chart = dependent("tests/chart/two").await?;
    let release = Release { namespace: CASE, name: "two", chart, prefixes: &["ordersState.", "prices."] };
    let values = kafka::values("ordersState.", &stage.kafka().await?.address, &kafka::topic());
    // Its init container `migrate` uses the first sidecar, before the application starts.
    release.install(&values.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    for variable in ["ORDERS_ADDR", "PRICES_ADDR"] {
        exec(CASE, "pod/two-shop", "shop", &[ONCE.as_slice(), &["--variable", variable]].concat()).await?;
    }
    no_restart(CASE).await?;
    Ok("the application writes to both: one on Kafka, one on the embedded store behind a socket".to_owned())
}

pub async fn switched_off(_: &Stage) -> Seen {
    const CASE: &str = "switched-off";
    install(CASE, &["changelogd.enabled=false".to_owned()]).await?;
    let pods = objects(CASE, &["pods"]).await?;
    let pod = &pods["items"][0]["spec"];
    let containers = pod["containers"].as_array().map_or(0, Vec::len);
    if containers != 1 || !pod["initContainers"].is_null() {
        return Err(format!("the pod has other containers: {pod}"));
    }
    Ok("the pod has the application alone".to_owned())
}

pub async fn job(_: &Stage) -> Seen {
    const CASE: &str = "job";
    let took = install(CASE, &["job=true".to_owned(), "args={once}".to_owned()]).await?;
    let job = objects(CASE, &["job", "orders"]).await?;
    if job["status"]["succeeded"] != 1 {
        return Err(format!("the Job has not succeeded: {}", job["status"]));
    }
    let log = kubectl(&["--namespace", CASE, "logs", "job/orders", "--container=orders"]).await?;
    Ok(format!("complete after {:.1} s; it has loaded {}", took.as_secs_f64(), log.trim()))
}
