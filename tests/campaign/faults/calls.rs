//! Calls that several faults make, with the time until each answer.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use changelogd::proto::v1;
use changelogd_testkit::Random;
use futures_util::{StreamExt, stream};
use tokio::time::sleep;
use tonic::{Code, Status};

use crate::{
    clients::{self, State},
    fault::WRITE_TIMEOUT,
    sidecar::{Client, limited, raw, reason, said},
};

/// The number of times each answer was given.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    pub fn add(&mut self, answer: &str) {
        *self.0.entry(answer.to_owned()).or_default() += 1;
    }

    pub fn count(&self, answer: &str) -> u64 {
        self.0.get(answer).copied().unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|(answer, count)| format!("{answer} × {count}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// A durable write, and the time until its answer.
pub async fn timed_set(mut client: Client, key: String, value: &str) -> (Result<v1::Position, Status>, Duration) {
    let request = v1::SetRequest { changelog_id: key, value: raw(value), ..Default::default() };
    let asked = Instant::now();
    let answer = client.set(limited(request, WRITE_TIMEOUT + 4)).await;
    (answer.map(|a| a.into_inner().position.unwrap_or_default()), asked.elapsed())
}

/// A load that must be whole if it is OK, and the time until its answer.
pub async fn timed_load(mut client: Client, workspace: String, seconds: u64) -> (Result<State, Status>, Duration) {
    let request = v1::LoadWorkspaceRequest { workspace_id: workspace, ..Default::default() };
    let asked = Instant::now();
    let answer = clients::load(&mut client, request, seconds).await;
    let answer = answer.and_then(|(state, whole)| {
        if whole { Ok(state) } else { Err(Status::data_loss("the load ended as OK without its snapshot")) }
    });
    (answer, asked.elapsed())
}

/// A call that may come too early after a fault. It is repeated for half a minute while the answer says that a retry is
/// safe.
pub async fn retried<T, F: Future<Output = Result<T, Status>>>(
    what: &str,
    mut call: impl FnMut() -> F,
) -> Result<T, String> {
    let begun = Instant::now();
    loop {
        match call().await {
            Ok(answer) => return Ok(answer),
            Err(status) if status.code() == Code::Unavailable && begun.elapsed() < Duration::from_secs(30) => {
                sleep(Duration::from_millis(200)).await;
            }
            Err(status) => return Err(format!("{what} was answered {}: {}", said(&status), status.message())),
        }
    }
}

/// A load of one workspace, as [`retried`].
pub async fn retried_load(client: &Client, workspace: &str) -> Result<State, String> {
    let load = || async { timed_load(client.clone(), workspace.to_owned(), 15).await.0 };
    retried(&format!("the load of {workspace}"), load).await
}

/// The answers that a write may get that can't be acknowledged: nothing was written, or the outcome is unknown.
pub fn not_acknowledged(status: &Status) -> Result<(), String> {
    let why = reason(status);
    let unknown = why.as_deref() == Some("OUTCOME_UNKNOWN");
    if status.code() == Code::Unavailable && why.is_some() || unknown {
        Ok(())
    } else {
        Err(format!("a write was answered {}: {}", said(status), status.message()))
    }
}

/// This many keys of one workspace. Each value has about a kilobyte, and does not compress to much less than half.
pub async fn fill(client: &Client, workspace: &str, keys: usize) -> Result<(), String> {
    let mut random = Random::new(keys as u64);
    let writes = (0..keys).map(|i| {
        let value = format!("\"{}\"", (0..64).map(|_| format!("{:016x}", random.number())).collect::<String>());
        let (mut client, key) = (client.clone(), format!("{workspace}/t/{i}"));
        async move {
            let request = v1::SetRequest { changelog_id: key, value: raw(&value), ..Default::default() };
            client.set(limited(request, 30)).await.map_err(|status| format!("a fill was answered {}", said(&status)))
        }
    });
    let mut writes = stream::iter(writes).buffer_unordered(200);
    while let Some(written) = writes.next().await {
        written?;
    }
    Ok(())
}

/// One workspace for each partition.
pub async fn a_workspace_in_each(client: &Client, partitions: i32) -> Result<Vec<String>, String> {
    let mut found = BTreeMap::new();
    for i in 0..1_000 {
        let workspace_id = format!("probe-{i}");
        let request = v1::DescribeRequest { workspace_id: workspace_id.clone() };
        let answer = client.clone().describe(limited(request, 10)).await.map_err(|status| format!("{status:?}"))?;
        if let Some(partition) = answer.into_inner().workspace_partition {
            found.entry(partition).or_insert(workspace_id);
        }
        if found.len() == partitions as usize {
            return Ok(found.into_values().collect());
        }
    }
    Err("a thousand workspaces, and a partition without one".to_owned())
}
