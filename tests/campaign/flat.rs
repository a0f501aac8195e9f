//! Thousands of loads leave nothing behind: memory, threads and files stay where they were (R23).

use std::{fmt::Write as _, fs, path::Path, time::Duration};

use changelogd::proto::v1;
use changelogd_testkit::{Cluster, settled};
use tokio::task::JoinSet;

use super::{
    fault::{PARTITIONS, arguments, create},
    report::Report,
    sidecar::{Client, Sidecar, limited, raw},
};

const ENTRIES: usize = 500;
const WIDE: usize = 16;

/// Makes `loads` loads one after another, then as many 16 at a time.
/// Covers R23.
pub async fn run(cluster: &Cluster, loads: usize, keep: &Path, report: &mut Report) {
    if let Err(error) = measure(cluster, loads, keep, report).await {
        report.failure(format!("flatness: {error}"));
    }
}

async fn measure(cluster: &Cluster, loads: usize, keep: &Path, report: &mut Report) -> Result<(), String> {
    let topic = tokio::task::block_in_place(|| create(cluster, PARTITIONS, &[]))?;
    let log = keep.join("flat.log");
    let sidecar = Sidecar::start(&log, arguments(cluster, &topic, PARTITIONS)).await?;
    sidecar.answers(Duration::from_secs(60)).await?;
    let mut client = sidecar.client();
    for i in 0..ENTRIES {
        let value = format!("\"{}\"", "x".repeat(200));
        let set = v1::SetRequest { changelog_id: format!("flat/t/{i}"), value: raw(&value), ..Default::default() };
        client.set(limited(set, 10)).await.map_err(|status| status.to_string())?;
    }
    // Memory grows for some thousand loads: each thread of a consumer may get an arena of the allocator.
    wide(&client, 3 * loads).await?;
    let threads_before = settled(|| sidecar.threads_and_files(), None).await;
    let before = rss_kib(&sidecar);
    for _ in 0..loads {
        load(&mut client).await?;
    }
    wide(&client, loads).await?;
    let threads = settled(|| sidecar.threads_and_files(), Some(threads_before)).await;
    let after = rss_kib(&sidecar);
    let growth = (after as f64 / before as f64 - 1.0) * 100.0;
    let mut text = String::from("| | before | after |\n|---|---:|---:|\n");
    let _ = writeln!(text, "| resident memory, KiB | {before} | {after} ({growth:+.1} %) |");
    let _ = writeln!(text, "| threads | {} | {} |", threads_before.0, threads.0);
    let _ = writeln!(text, "| open files | {} | {} |", threads_before.1, threads.1);
    let _ = writeln!(
        text,
        "\nAfter {} loads: {loads} loads of {ENTRIES} entries one after another, then {loads} more {WIDE} at a time.",
        3 * loads
    );
    println!("{loads} + {loads} loads: {growth:+.1} % memory, threads and files {threads_before:?} -> {threads:?}");
    report.section("Loads leave nothing behind", &text);
    if growth >= 10.0 {
        report.failure(format!("memory grew by {growth:.1} % over {} loads", 2 * loads));
    }
    if threads.0 > threads_before.0 + 2 || threads.1 > threads_before.1 + 4 {
        report.failure(format!("threads and files grew from {threads_before:?} to {threads:?}"));
    }
    Ok(())
}

async fn load(client: &mut Client) -> Result<(), String> {
    let request = v1::LoadWorkspaceRequest { workspace_id: "flat".to_owned(), ..Default::default() };
    let stream = client.load_workspace(limited(request, 30)).await.map_err(|status| status.to_string())?;
    let (mut stream, mut entries) = (stream.into_inner(), 0);
    while let Some(message) = stream.message().await.map_err(|status| status.to_string())? {
        if let Some(v1::load_workspace_response::Event::Batch(batch)) = message.event {
            entries += batch.entries.len();
        }
    }
    if entries == ENTRIES { Ok(()) } else { Err(format!("a load of {entries} entries instead of {ENTRIES}")) }
}

async fn wide(client: &Client, loads: usize) -> Result<(), String> {
    let mut running = JoinSet::new();
    for _ in 0..WIDE {
        let mut client = client.clone();
        running.spawn(async move {
            for _ in 0..loads / WIDE {
                // Sixteen replays run at a time in all. One connection's share is smaller, and loads above it wait.
                load(&mut client).await?;
            }
            Ok::<_, String>(())
        });
    }
    while let Some(done) = running.join_next().await {
        done.map_err(|error| error.to_string())??;
    }
    Ok(())
}

fn rss_kib(sidecar: &Sidecar) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", sidecar.pid())).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
}
