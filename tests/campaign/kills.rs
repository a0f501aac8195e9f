//! SIGKILL of the sidecar during writes, again and again. No acknowledged write may be lost, on the embedded store and
//! on Kafka.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use changelogd::proto::v1;
use changelogd_testkit::Cluster;
use tokio::{task::JoinSet, time::sleep};

use super::{
    fault::{PARTITIONS, arguments, create},
    report::Report,
    sidecar::{Sidecar, client, limited, raw},
};

const WRITERS: u64 = 8;
const KEYS: u64 = 40;
/// Acknowledged writes of a round before its kill.
const A_ROUND: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(60);

/// The last acknowledged value per key. Each key has one writer, whose values increase.
type Acknowledged = Arc<Mutex<Tally>>;

#[derive(Default)]
struct Tally {
    writes: u64,
    last: HashMap<String, u64>,
}

fn lock(tally: &Acknowledged) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The result of a loop.
struct Loop {
    store: &'static str,
    kills: u64,
    acknowledged: u64,
    lost: Vec<String>,
    took: Duration,
}

/// Both loops, as a section of the report.
/// Covers C40, R34, K5, F21, F22.
pub async fn run(cluster: &Cluster, rounds: u64, keep: &Path, report: &mut Report) {
    let mut text = String::from(
        "| store | SIGKILLs | acknowledged writes | acknowledged writes lost | took |\n|---|---:|---:|---:|---:|\n",
    );
    let data = tempfile::tempdir().expect("a directory");
    let embedded = vec![format!("--data-dir={}", data.path().join("data").display())];
    let topic = tokio::task::block_in_place(|| create(cluster, PARTITIONS, &[]));
    let kafka = topic.map(|topic| arguments(cluster, &topic, PARTITIONS));
    for (store, arguments) in [("embedded", Ok(embedded)), ("Kafka", kafka)] {
        let done = match arguments {
            Ok(arguments) => kill_often(store, arguments, rounds, &keep.join(format!("kills-{store}.log"))).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(done) => {
                println!(
                    "{} SIGKILLs on {store}: {} acknowledged, {} lost",
                    done.kills,
                    done.acknowledged,
                    done.lost.len()
                );
                let _ = writeln!(
                    text,
                    "| {} | {} | {} | {} | {:.0} s |",
                    done.store,
                    done.kills,
                    done.acknowledged,
                    done.lost.len(),
                    done.took.as_secs_f64()
                );
                done.lost.iter().take(5).for_each(|lost| report.failure(format!("SIGKILL, {store}: {lost}")));
            }
            Err(error) => report.failure(format!("SIGKILL, {store}: {error}")),
        }
    }
    report.section("SIGKILL under write load", &text);
}

async fn kill_often(store: &'static str, arguments: Vec<String>, rounds: u64, log: &Path) -> Result<Loop, String> {
    let begun = Instant::now();
    let mut sidecar = Sidecar::start(log, arguments).await?;
    sidecar.answers(PATIENCE).await?;
    let tally = Acknowledged::default();
    let mut lost = Vec::new();
    for round in 0..rounds {
        let before = lock(&tally).writes;
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            writers.spawn(write_until_refused(sidecar.api.clone(), writer, round, tally.clone()));
        }
        let started = Instant::now();
        while lock(&tally).writes < before + A_ROUND {
            if started.elapsed() > PATIENCE {
                return Err(format!("round {round}: no {A_ROUND} writes are acknowledged within {PATIENCE:?}"));
            }
            sleep(Duration::from_millis(1)).await;
        }
        sidecar.kill().await;
        while writers.join_next().await.is_some() {}
        sidecar.restart().await?;
        sidecar.answers(PATIENCE).await?;
        missing(&sidecar, round, &tally, &mut lost).await?;
    }
    let acknowledged = lock(&tally).writes;
    Ok(Loop { store, kills: rounds, acknowledged, lost, took: begun.elapsed() })
}

async fn write_until_refused(api: String, writer: u64, round: u64, tally: Acknowledged) {
    let mut client = client(&api);
    for n in 0.. {
        let (key, value) = (format!("kill-{writer}/t/{}", n % KEYS), round * 1_000_000 + n);
        let value_text = value.to_string();
        let set = v1::SetRequest { changelog_id: key.clone(), value: raw(&value_text), ..Default::default() };
        if client.set(limited(set, 10)).await.is_err() {
            return;
        }
        let mut tally = lock(&tally);
        tally.writes += 1;
        tally.last.insert(key, value);
    }
}

/// The acknowledged writes that are missing. A write in flight at the kill may have been written after them.
async fn missing(sidecar: &Sidecar, round: u64, tally: &Acknowledged, lost: &mut Vec<String>) -> Result<(), String> {
    use v1::load_workspace_response::Event;
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for writer in 0..WRITERS {
        let request = v1::LoadWorkspaceRequest { workspace_id: format!("kill-{writer}"), ..Default::default() };
        let stream = sidecar.client().load_workspace(limited(request, 30)).await;
        let mut stream = stream.map_err(|status| format!("round {round}: {status:?}"))?.into_inner();
        while let Some(message) = stream.message().await.map_err(|status| format!("round {round}: {status:?}"))? {
            if let Some(Event::Batch(batch)) = message.event {
                for entry in batch.entries {
                    if let Some(v1::entry::Value::Raw(raw)) = &entry.value {
                        let value = std::str::from_utf8(raw).ok().and_then(|text| text.parse().ok());
                        found.insert(entry.key, value.ok_or("a value that no client wrote")?);
                    }
                }
            }
        }
    }
    for (key, value) in &lock(tally).last {
        let there = found.get(key);
        if there.is_none_or(|there| there < value) {
            lost.push(format!("round {round}: {key} was acknowledged as {value}, there is {there:?}"));
        }
    }
    Ok(())
}
