//! A PodMonitor, by which a real Prometheus scrapes pods. The operator that reads it is not part of this cluster, so
//! the case turns its labels and port into targets, as the operator does.

use std::{fs, net::TcpListener, time::Duration};

use serde_json::{Value, json};
use tokio::process::Command;

use super::{
    super::{
        command::{output, target},
        kubectl::{apply, objects},
        process::Process,
        report::Seen,
        stage::{Stage, exec, pods, until},
    },
    sidecar::{install, orders},
};

const CASE: &str = "metrics";
const REPLICAS: usize = 2;
const SCRAPED_WITHIN: Duration = Duration::from_secs(30);

pub async fn scraped(_: &Stage) -> Seen {
    apply("default", &definition()).await?;
    let mut seen = Vec::new();
    for mode in ["native", "classic"] {
        let values = [
            "changelogd.admin.podListen=true",
            "changelogd.monitoring.podMonitor.enabled=true",
            &format!("changelogd.sidecar.type={mode}"),
            &format!("replicas={REPLICAS}"),
        ];
        install(CASE, &values.map(str::to_owned)).await?;
        let monitor = objects(CASE, &["podmonitors.monitoring.coreos.com"]).await?;
        let targets = targets(&monitor["items"][0]["spec"]).await?;
        if targets.len() != REPLICAS {
            return Err(format!("the labels of the PodMonitor select {} of {REPLICAS} pods", targets.len()));
        }
        for (pod, _) in &targets {
            exec(CASE, &format!("pod/{pod}"), "orders", &["/usr/local/bin/application", "once"]).await?;
        }
        let (prometheus, address) = prometheus(&targets)?;
        let found = found(prometheus, &address).await?;
        orders(CASE).await?.uninstall().await?;
        seen.push(format!("{mode}: {found}"));
    }
    Ok(seen.join("; "))
}

/// The resource of the Prometheus operator, without its schema: the checks of the chart have that.
fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "podmonitors.monitoring.coreos.com" },
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": { "kind": "PodMonitor", "plural": "podmonitors", "singular": "podmonitor" },
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            }],
        },
    })
}

/// The pods that a PodMonitor selects, each with the address of the port that it names.
async fn targets(monitor: &Value) -> Result<Vec<(String, String)>, String> {
    let labels = monitor["selector"]["matchLabels"].as_object().ok_or_else(|| format!("no labels: {monitor}"))?;
    let endpoint = &monitor["podMetricsEndpoints"][0];
    if labels.is_empty() || endpoint["path"] != "/metrics" {
        return Err(format!("it selects all pods, or another path: {monitor}"));
    }
    let mut found = Vec::new();
    for pod in pods(CASE).await? {
        if labels.iter().any(|(name, value)| pod["metadata"]["labels"][name] != *value) {
            continue;
        }
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let containers = |kind: &str| pod["spec"][kind].as_array().cloned().unwrap_or_default();
        let ports = [containers("containers"), containers("initContainers")].concat();
        let mut ports = ports.iter().flat_map(|container| container["ports"].as_array().into_iter().flatten());
        let port = ports.find(|port| port["name"] == endpoint["port"]).map(|port| &port["containerPort"]);
        let port = port.ok_or_else(|| format!("{name} has no port {}", endpoint["port"]))?;
        found.push((name.to_owned(), format!("{}:{port}", pod["status"]["podIP"].as_str().unwrap_or_default())));
    }
    Ok(found)
}

fn prometheus(targets: &[(String, String)]) -> Result<(Process, String), String> {
    let of = |(pod, address): &(String, String)| {
        let labels = json!({ "namespace": CASE, "pod": pod });
        json!({ "targets": [address], "labels": labels })
    };
    let jobs = [json!({ "job_name": CASE, "static_configs": targets.iter().map(of).collect::<Vec<_>>() })];
    let config = json!({ "global": { "scrape_interval": "1s", "scrape_timeout": "1s" }, "scrape_configs": jobs });
    let (folder, wrong) = (target("run/prometheus"), |error: std::io::Error| format!("prometheus: {error}"));
    fs::create_dir_all(&folder).map_err(wrong)?;
    // JSON is YAML.
    fs::write(folder.join("config.yaml"), config.to_string()).map_err(wrong)?;
    // It does not say which port it got, so it is given one that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).map_err(wrong)?.to_string();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", folder.join("config.yaml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join(&address).display()))
        .arg(format!("--web.listen-address={address}"));
    Ok((Process::start("prometheus", command)?, address))
}

/// Waits until Prometheus has scraped all of them, and stops it.
async fn found(mut prometheus: Process, address: &str) -> Result<String, String> {
    prometheus.until(async || query(address, "vector(1)").await.is_ok_and(|count| count == 1)).await?;
    let each = ["up == 1", "changelogd_ready == 1", "changelogd_writes_total{result=\"written\"} > 0"];
    for expression in each {
        let by_pod = format!("count by (pod) ({expression})");
        let is_so = async || query(address, &by_pod).await.is_ok_and(|count| count == REPLICAS);
        until(SCRAPED_WITHIN, &format!("{expression} in {REPLICAS} pods"), is_so).await?;
    }
    prometheus.stop().await?;
    Ok(format!("{REPLICAS} pods are up, ready and have written"))
}

/// How many series an expression has.
async fn query(address: &str, expression: &str) -> Result<usize, String> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--get", "--data-urlencode", &format!("query={expression}")]);
    curl.arg(format!("http://{address}/api/v1/query"));
    let text = output(curl).await?;
    let answer: Value = serde_json::from_str(&text).map_err(|error| format!("{text}: {error}"))?;
    Ok(answer["data"]["result"].as_array().map_or(0, Vec::len))
}
