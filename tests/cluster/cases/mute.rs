//! Clients of the health port that send nothing.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{net::TcpStream, time::sleep};

use super::super::{
    report::Seen,
    stage::{Stage, no_restart, pods, standalone},
};

/// More than the port takes at a time.
const CONNECTIONS: u64 = 1_030;
/// Longer than the kubelet's liveness probe may fail.
const HELD: Duration = Duration::from_secs(75);
const PORT: u16 = 9651;

pub async fn connections(_: &Stage) -> Seen {
    const CASE: &str = "mute";
    standalone(CASE).install(&[]).await?;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).map_err(|error| error.to_string())?;
    let pods = pods(CASE).await?;
    let address = pods[0]["status"]["podIP"].as_str().ok_or("the pod has no address")?.to_owned();
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let connection = TcpStream::connect((address.as_str(), PORT)).await;
        open.push(connection.map_err(|error| format!("connection {}: {error}", open.len()))?);
    }
    sleep(HELD).await;
    no_restart(CASE).await?;
    is_ready(CASE).await?;
    Ok(format!("{} connections held for {} s: no restart, and the pod is ready", open.len(), HELD.as_secs()))
}

async fn is_ready(case: &str) -> Result<(), String> {
    let pods = pods(case).await?;
    let conditions = pods[0]["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let is_ready = conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True");
    if is_ready { Ok(()) } else { Err(format!("the pod is not ready: {conditions:?}")) }
}
