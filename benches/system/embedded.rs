//! P9, P11: the embedded store, next to fjall alone and next to a server that does nothing. Also how soon a process
//! serves, and the size of the binary.

use std::{fs, path::Path, sync::Arc, time::Duration, time::Instant};

use changelogd::proto::v1;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use tokio::{task::block_in_place, time::sleep};

use super::{
    bench::{Bench, ms, settle},
    calls::{self, Until},
    data::{Entity, entities, workspace},
    empty::Empty,
    flat::memory,
    report::{Row, Verdict, cells_of},
    sidecar::{Client, Sidecar, binary, limited},
    stats::{Pairs, Samples},
    writes::InTurns,
};

/// Almost as many calls as a connection carries.
const FILLERS: usize = 120;
const LOAD: &str = "a prefix scan of fjall";
const SET: &str = "fjall, one insert with fsync";

/// fjall alone: a keyspace of keys and values, with the settings of the embedded store.
struct Engine {
    db: Database,
    latest: Keyspace,
}

impl Engine {
    fn open(directory: &Path) -> fjall::Result<Self> {
        let db = Database::builder(directory).manual_journal_persist(true).open()?;
        let latest = db.keyspace("latest", || KeyspaceCreateOptions::default().max_memtable_size(16 * 1024 * 1024))?;
        Ok(Self { db, latest })
    }

    /// The write is on disk when this returns.
    fn insert(&self, entities: &[Entity]) -> fjall::Result<()> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
        for entity in entities {
            batch.insert(&self.latest, entity.key.as_bytes(), &entity.value[..]);
        }
        batch.commit()
    }

    /// The milliseconds of reading all of a workspace, and the number of entries.
    fn scan(&self, workspace: &str) -> fjall::Result<(f64, usize)> {
        let started = Instant::now();
        let found = self.latest.prefix(format!("{workspace}/")).map(fjall::Guard::into_inner);
        let found = found.collect::<fjall::Result<Vec<_>>>()?;
        Ok((ms(started.elapsed()), found.len()))
    }
}

fn text(error: fjall::Error) -> String {
    format!("fjall: {error:?}")
}

/// Durable writes of all of them, each once.
pub async fn fill(client: &Client, entities: Vec<Entity>) -> Result<(), String> {
    calls::concurrent_sets(client, &Arc::new(entities), FILLERS, Until::Written).await.map(|_| ())
}

/// P9
pub async fn loads_and_sets(bench: &mut Bench) -> Result<(), String> {
    let records = bench.number(200_000, 20_000);
    let all: Vec<_> = entities(100, records, 1, 200).collect();
    let engine = Engine::open(&bench.directory().join("fjall")).map_err(text)?;
    for chunk in all.chunks(1_000) {
        engine.insert(chunk).map_err(text)?;
    }
    let sidecar = bench.embedded(&bench.directory().join("store")).await?;
    let client = sidecar.client();
    fill(&client, all).await?;
    // fjall merges tables for a while after that.
    sleep(Duration::from_secs(3)).await;

    let (each, entries) = (bench.number(50, 10), records / 100);
    let mut loads = InTurns::default();
    for round in 0..=bench.rounds {
        let ours = calls::loads(&client, &workspace(round), each, entries).await?;
        settle().await;
        let scan = || match engine.scan(&workspace(round)).map_err(text)? {
            (ms, found) if found == entries => Ok(ms),
            (_, found) => Err(format!("fjall has {found} entries where {entries} are to be")),
        };
        let reference = block_in_place(|| (0..each).map(|_| scan()).collect::<Result<Samples, String>>())?;
        if round > 0 {
            loads.push(ours, reference);
        }
    }
    let p50 = loads.ours.median();
    bench.report.row(Row {
        id: "P9",
        work: format!("embedded: LoadWorkspace, {entries} entries of {records}, p50 of {}", loads.ours.len()),
        ours: format!("{p50:.2} ms"),
        reference: format!("{:.2} ms, {LOAD}", loads.reference.median()),
        ratio: loads.medians.ratio().to_string(),
        target: "≤ 2 ms".to_owned(),
        verdict: Verdict::of(p50 <= 2.0),
    });
    let sets = sets_in_turns(bench, &client, &engine).await?;
    bench.report.row(sets.row("P9", "embedded: Set, durable, one after another, 200 bytes".to_owned(), SET, 0.3));
    let (ours, reference) = (&sets.ours, &sets.reference);
    bench.report.distribution(
        "set-latency-embedded",
        "Set, durable, embedded",
        &[("changelogd", ours), (SET, reference)],
    )?;
    let rows = [("LoadWorkspace", &loads.ours), (LOAD, &loads.reference), ("Set", ours), (SET, reference)];
    bench.report.section("P9, milliseconds", &cells_of(&rows));
    Ok(())
}

async fn sets_in_turns(bench: &Bench, client: &Client, engine: &Engine) -> Result<InTurns, String> {
    let entities: Vec<_> = entities(10, bench.number(1_000, 100), 1, 200).collect();
    let mut in_turns = InTurns::default();
    for round in 0..=bench.rounds {
        let ours = calls::sets(client, entities.clone()).await?;
        let insert = |entity: &Entity| {
            let started = Instant::now();
            engine.insert(std::slice::from_ref(entity)).map_err(text)?;
            Ok(ms(started.elapsed()))
        };
        let reference = block_in_place(|| entities.iter().map(insert).collect::<Result<Samples, String>>())?;
        if round > 0 {
            in_turns.push(ours, reference);
        }
    }
    Ok(in_turns)
}

/// P11
pub async fn start(bench: &mut Bench) -> Result<(), String> {
    let (mut starts, mut memories) = (Pairs::default(), Pairs::default());
    for round in 0..=bench.rounds {
        let store = format!("--data-dir={}", bench.directory().join(format!("empty-{round}")).display());
        let started = Instant::now();
        let sidecar = Sidecar::start(&[store]).await?;
        let describe = limited(v1::DescribeRequest::default(), 10);
        sidecar.client().describe(describe).await.map_err(|status| format!("describe: {status}"))?;
        let ours = ms(started.elapsed());

        let started = Instant::now();
        let empty = Empty::start().await?;
        let entity = entities(1, 1, 1, 200).collect();
        calls::sets(&empty.client(), entity).await?;
        let reference = ms(started.elapsed());

        sleep(Duration::from_secs(1)).await;
        if round > 0 {
            starts.push(ours, reference);
            memories.push(memory(sidecar.pid())?.0, memory(empty.pid())?.0);
        }
    }
    let row = |work: &str, pairs: &Pairs, unit: &str, most: f64| Row {
        id: "P11",
        work: work.to_owned(),
        ours: format!("{} {unit}", pairs.ours.spread()),
        reference: format!("{} {unit}, a gRPC server that does nothing", pairs.reference.spread()),
        ratio: pairs.ratio().to_string(),
        target: format!("≤ {most} {unit}"),
        verdict: Verdict::of(pairs.ours.median() <= most),
    };
    bench.report.row(row("embedded, empty: from its start to its first answer", &starts, "ms", 100.0));
    bench.report.row(row("embedded, empty: resident memory, idle", &memories, "MiB", 30.0));
    let size = |path: &Path| fs::metadata(path).map(|m| m.len() as f64 / 1024.0 / 1024.0).map_err(|e| e.to_string());
    let (ours, this) = (size(&binary())?, size(&std::env::current_exe().map_err(|e| e.to_string())?)?);
    bench.report.row(Row {
        id: "P11",
        work: "size of the binary".to_owned(),
        ours: format!("{ours:.1} MiB"),
        reference: format!("{this:.1} MiB, this benchmark"),
        ratio: format!("{:.2}", ours / this),
        target: "none".to_owned(),
        verdict: Verdict::Information,
    });
    Ok(())
}
