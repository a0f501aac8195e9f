//! P8: loads leave no memory, threads or files behind, and large loads stay within their memory limit. The kernel gives
//! the memory of the sidecar's process. The reference is the same process before the loads.

use std::{fs, time::Duration};

use changelogd::proto::v1;
use changelogd_testkit::settled;
use tokio::{task::JoinSet, time::sleep};

use super::{
    bench::{Bench, REPLAY_MEMORY, Topic, settle},
    calls,
    data::{entities, workspace},
    loads::raw_replay,
    report::{Row, Verdict},
    sidecar::Client,
};

const WIDE: usize = 16;
/// Entries of a workspace of the small topic.
const ENTRIES: usize = 100;
/// The numbers of threads and files of librdkafka and the runtime vary by this much from moment to moment.
const THREADS: usize = 2;
const FILES: usize = 4;

/// Resident memory now and at its peak, in MiB.
pub fn memory(pid: u32) -> Result<(f64, f64), String> {
    let file = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let kib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).ok_or(format!("{file} has no {name}"))
    };
    Ok((kib("VmRSS:")? / 1024.0, kib("VmHWM:")? / 1024.0))
}

/// P8
pub async fn run(bench: &mut Bench) -> Result<(), String> {
    let small = bench.small().await?;
    leaves_nothing(bench, &small).await?;
    let records = bench.number(490_000, 20_000);
    // Each key five times, so that the fold holds a fifth of the bytes read.
    let huge = bench.topic(1, entities(100, records, 5, 2_000)).await?;
    holds_little(bench, &huge).await
}

async fn leaves_nothing(bench: &mut Bench, topic: &Topic) -> Result<(), String> {
    let loads = bench.number(2_000, 160);
    let sidecar = bench.sidecar(topic, &[]).await?;
    // A connection's share of the replays is smaller than all of them, so there are two.
    let clients = [sidecar.client(), sidecar.client()];
    // Each arena of the allocator grows to the maximum that its threads need, which takes some thousand loads.
    wide(&clients, loads).await?;
    one_by_one_then_wide(&clients, loads).await?;
    let before = settled(|| sidecar.threads_and_files(), None).await;
    let (rss_before, _) = memory(sidecar.pid())?;
    one_by_one_then_wide(&clients, loads).await?;
    let after = settled(|| sidecar.threads_and_files(), Some(before)).await;
    let (rss_after, _) = memory(sidecar.pid())?;
    let growth = (rss_after / rss_before - 1.0) * 100.0;
    let work = format!("{loads} LoadWorkspace one after another, then {loads} more {WIDE} at a time");
    bench.report.row(Row {
        id: "P8",
        work: format!("{work}, after a warm-up of one and a half times as many: resident memory"),
        ours: format!("{rss_after:.1} MiB"),
        reference: format!("{rss_before:.1} MiB, warm, before"),
        ratio: format!("{growth:+.1} %"),
        target: "growth < 10 %".to_owned(),
        verdict: Verdict::of(growth < 10.0),
    });
    bench.report.row(Row {
        id: "P8",
        work: "the same: threads, open files".to_owned(),
        ours: format!("{}, {}", after.0, after.1),
        reference: format!("{}, {}, warm, before", before.0, before.1),
        ratio: String::new(),
        target: format!("no more (+{THREADS}, +{FILES} at one moment)"),
        verdict: Verdict::of(after.0 <= before.0 + THREADS && after.1 <= before.1 + FILES),
    });
    Ok(())
}

async fn one_by_one_then_wide(clients: &[Client], loads: usize) -> Result<(), String> {
    calls::loads(&clients[0], &workspace(0), loads, ENTRIES).await?;
    wide(clients, loads).await
}

/// Loads of both connections together.
async fn wide(clients: &[Client], loads: usize) -> Result<(), String> {
    let mut running = JoinSet::new();
    for i in 0..WIDE {
        let client = clients[i % clients.len()].clone();
        running.spawn(async move { calls::loads(&client, &workspace(i), loads / WIDE, ENTRIES).await });
    }
    while let Some(done) = running.join_next().await {
        done.map_err(|error| error.to_string())??;
    }
    Ok(())
}

/// A process of its own for each call, so that its peak is that call's.
async fn holds_little(bench: &mut Bench, topic: &Topic) -> Result<(), String> {
    let records = topic.records as usize;
    let limit = REPLAY_MEMORY as f64 / 1024.0 / 1024.0;
    let raw = raw_replay(bench, topic)?;
    for everything in [false, true] {
        let sidecar = bench.sidecar(topic, &[]).await?;
        let client = sidecar.client();
        sleep(Duration::from_secs(1)).await;
        let (idle, _) = memory(sidecar.pid())?;
        let (took, what, most) = if everything {
            let took = calls::stream_all(&client, v1::Content::Latest).await?.expect(records / 5)?;
            (took, format!("StreamAll, CONTENT_LATEST, {} entries", records / 5), limit)
        } else {
            let took = calls::load(&client, &workspace(42)).await?.expect(records / 500)?;
            (took, format!("LoadWorkspace, {} entries", records / 500), 100.0)
        };
        let (_, peak) = memory(sidecar.pid())?;
        bench.report.row(Row {
            id: "P8",
            work: format!(
                "{what} of a partition of {}, {took:.0} ms (raw replay {raw:.0} ms): peak memory",
                topic.shown()
            ),
            ours: format!("{peak:.1} MiB, {:.1} above idle", peak - idle),
            reference: format!("{idle:.1} MiB, idle"),
            ratio: format!("{:.2}", peak / idle),
            target: format!("< {most:.0} MiB above idle{}", if everything { ", --replay-memory" } else { "" }),
            verdict: Verdict::of(peak - idle < most),
        });
        settle().await;
    }
    Ok(())
}
