//! Limits of disk and memory.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::Value;
use tokio::time::sleep;

use super::{
    super::{
        node::CONTROL_GROUP,
        report::Seen,
        stage::{Stage, exec, no_restart, pods},
    },
    sidecar::{install, on_kafka, orders},
};

const APPLICATION: &str = "/usr/local/bin/application";
/// The kubelet measures volumes and evicts within this time.
const EVICTED_WITHIN: Duration = Duration::from_secs(75);
/// About two a second. Most runs have several times as many.
const SUCCEEDED: u64 = 50;
const PRESSED_SECONDS: &str = "30";

pub async fn disk(_: &Stage) -> Seen {
    const CASE: &str = "disk";
    install(CASE, &["changelogd.data.sizeLimit=300Mi".to_owned()]).await?;
    let before = pods(CASE).await?;
    let filled = exec(CASE, "deployment/orders", "orders", &[APPLICATION, "fill"]).await?;
    let filled: Value = serde_json::from_str(&filled).map_err(|error| format!("{filled}: {error}"))?;
    let refused = filled["refused"].as_str().unwrap_or_default();
    if refused != "ResourceExhausted DISK_FULL" {
        return Err(format!("the write was refused with: {refused}"));
    }
    sleep(EVICTED_WITHIN).await;
    no_restart(CASE).await?;
    let after = pods(CASE).await?;
    if after.len() != 1 || after[0]["metadata"]["name"] != before[0]["metadata"]["name"] {
        return Err(format!("the pod was replaced: {}", Value::from(after)));
    }
    if after[0]["status"]["phase"] != "Running" {
        return Err(format!("the pod does not run: {}", after[0]["status"]));
    }
    let written = filled["written"].as_u64().unwrap_or_default() / 2;
    Ok(format!("limit 300 MiB: {refused} after {written} MiB; no eviction within {} s", EVICTED_WITHIN.as_secs()))
}

pub async fn memory(stage: &Stage) -> Seen {
    const CASE: &str = "memory";
    let (embedded, kafka) = (press(CASE, &[]).await, press(CASE, &on_kafka(stage).await?).await);
    let of = |store: &str, seen: &Seen| {
        let (Ok(text) | Err(text)) = seen;
        format!("**{store}**: {text}")
    };
    let text = [of("embedded", &embedded), of("kafka", &kafka)].join("; ");
    if embedded.is_ok() && kafka.is_ok() { Ok(text) } else { Err(text) }
}

async fn press(case: &str, values: &[String]) -> Seen {
    install(case, values).await?;
    let pressed = exec(case, "deployment/orders", "orders", &[APPLICATION, "press", PRESSED_SECONDS]).await;
    let (restarted, peak) = (no_restart(case).await, peak_memory(case).await);
    orders(case).await?.uninstall().await?;
    restarted?;
    let pressed = pressed?;
    let pressed: Value = serde_json::from_str(&pressed).map_err(|error| format!("{pressed}: {error}"))?;
    // If all calls but a few are refused, no limit was tried.
    for kind in ["writes", "loads"] {
        if pressed[kind]["ok"].as_u64().unwrap_or_default() < SUCCEEDED {
            return Err(format!("fewer than {SUCCEEDED} {kind} succeeded: {pressed}"));
        }
    }
    let (writes, loads) = (shown(&pressed["writes"]), shown(&pressed["loads"]));
    Ok(format!("no restart; writes: {writes}; loads: {loads}; most memory {} MiB", peak? / 1024 / 1024))
}

/// Answers by their kind.
fn shown(counts: &Value) -> String {
    let kinds = counts.as_object().into_iter().flatten();
    kinds.map(|(kind, count)| format!("{kind} × {count}")).collect::<Vec<_>>().join(", ")
}

/// The kernel's own figure, page cache included.
async fn peak_memory(case: &str) -> Result<u64, String> {
    let pods = pods(case).await?;
    let id = pods[0]["status"]["initContainerStatuses"][0]["containerID"].as_str().unwrap_or_default();
    let id = id.trim_start_matches("containerd://");
    let group = group(PathBuf::from("/sys/fs/cgroup/memory").join(CONTROL_GROUP), id);
    let group = group.or_else(|| group_of_version_2(id)).ok_or_else(|| format!("no control group of {id}"))?;
    let value = ["memory.max_usage_in_bytes", "memory.peak"]
        .into_iter()
        .find_map(|name| fs::read_to_string(group.join(name)).ok());
    let value = value.ok_or_else(|| format!("{} has no peak of memory", group.display()))?;
    value.trim().parse().map_err(|error| format!("{value:?}: {error}"))
}

fn group_of_version_2(id: &str) -> Option<PathBuf> {
    group(PathBuf::from("/sys/fs/cgroup").join(CONTROL_GROUP), id)
}

/// The folder of this name below another one.
fn group(folder: PathBuf, name: &str) -> Option<PathBuf> {
    if folder.ends_with(name) {
        return Some(folder);
    }
    let folders = fs::read_dir(&folder).ok()?.flatten().filter(|entry| entry.path().is_dir());
    folders.filter_map(|entry| group(entry.path(), name)).next()
}
