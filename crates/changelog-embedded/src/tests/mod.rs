//! Tests of behaviour that only the embedded store has. The contract suite tests what every log must do.

mod close;
mod compaction;
mod copies;
mod damage;
mod directory;
mod engine_fails;
mod faults;
mod follow;
mod format;
mod fuzz;
mod gone;
mod kinds;
mod layout;
mod limit;
mod purge;
mod reads;
mod room;
mod writes;

use std::{io::ErrorKind, path::PathBuf, time::Duration};

use std::{collections::HashSet, fs};

use changelog_core::{
    log::{Appended, Follow, MoveCause, ReplayEvent, Selection, StartAt},
    model::{Header, Headers, Key, Record, WorkspaceId},
};
use parking_lot::Condvar;
use tempfile::TempDir;

use super::*;

const HOUR: i64 = 3_600_000;

fn settings(dir: &TempDir) -> Settings {
    Settings { partition_count: PartitionCount::new(4), ..Settings::new(dir.path()) }
}

fn open(dir: &TempDir) -> EmbeddedLog {
    EmbeddedLog::open(settings(dir)).expect("the store opens")
}

fn open_at(dir: &TempDir, now: i64) -> EmbeddedLog {
    EmbeddedLog::open_at(&settings(dir), Arc::new(move || now)).expect("the store opens")
}

fn open_store(dir: &Path) -> store::Opened {
    let engine = EngineSettings { cached_files: 256, max_journal_bytes: max_journal_bytes(None), cache_bytes: 1 << 20 };
    store::open(dir, None, PartitionCount::new(4).unwrap(), engine).expect("the store opens")
}

fn soon() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

/// A clock that blocks the writer until the gate is opened.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn clock(gate: &Arc<Self>) -> Clock {
        let gate = gate.clone();
        Arc::new(move || {
            gate.1.wait_while(&mut gate.0.lock(), |open| !*open);
            wall_clock()
        })
    }

    fn open(&self) {
        *self.0.lock() = true;
        self.1.notify_all();
    }
}

fn record(log: &EmbeddedLog, key: &str, value: Option<&str>) -> NewRecord {
    let key = Key::parse(key).unwrap();
    let partition = log.state.topic.partition_count.of_workspace(key.workspace_bytes());
    let value = value.map(|v| bytes::Bytes::copy_from_slice(v.as_bytes()));
    NewRecord { partition, key, value, headers: Headers::default() }
}

async fn put(log: &EmbeddedLog, key: &str, value: Option<&str>) -> Appended {
    log.append(record(log, key, value)).expect("accepted").await.expect("answered").expect("written")
}

async fn replay(log: &EmbeddedLog, selection: Selection, start: StartAt) -> Result<Vec<Record>, ReadError> {
    let topic = log.topic().await?;
    let partitions = topic.partition_count.all().map(|p| (p, start)).collect();
    let request =
        ReplayRequest { topic, partitions, selection, follow: Follow::No, owned_records: false, deadline: soon() };
    collect(log, log.replay(request).await?).await
}

/// A replay of all records of these partitions that follows after their ends.
async fn follow(log: &EmbeddedLog, partitions: Vec<(Partition, StartAt)>) -> Replay {
    let topic = log.topic().await.unwrap();
    let request = ReplayRequest {
        selection: Selection::all(topic.partition_count),
        topic,
        partitions,
        follow: Follow::AfterEnds,
        owned_records: false,
        deadline: soon(),
    };
    log.replay(request).await.unwrap()
}

/// All partitions, from their low watermarks.
fn from_the_start(log: &EmbeddedLog) -> Vec<(Partition, StartAt)> {
    log.state.topic.partition_count.all().map(|partition| (partition, StartAt::Low)).collect()
}

async fn collect(log: &EmbeddedLog, mut replay: Replay) -> Result<Vec<Record>, ReadError> {
    let (mut all, mut ends) = (Vec::new(), 0);
    while let Some(event) = replay.next().await {
        match event? {
            ReplayEvent::Records { records, .. } => all.extend(records),
            ReplayEvent::End(_) => ends += 1,
            ReplayEvent::Progress { .. } => panic!("progress without follow"),
        }
    }
    assert_eq!(ends, log.state.topic.partition_count.get());
    Ok(all)
}

async fn load(log: &EmbeddedLog, workspace: &str) -> Result<Vec<Record>, ReadError> {
    let workspace = WorkspaceId::parse(workspace).unwrap();
    let selection = Selection::workspace(workspace, HashSet::new(), log.state.topic.partition_count);
    replay(log, selection, StartAt::Low).await
}

async fn all(log: &EmbeddedLog) -> Result<Vec<Record>, ReadError> {
    replay(log, Selection::all(log.state.topic.partition_count), StartAt::Low).await
}

/// Reads in the order of the log.
async fn scan(log: &EmbeddedLog) -> Result<Vec<Record>, ReadError> {
    if let Some(refusal) = log.state.read_refusal() {
        return Err(refusal);
    }
    let published = log.state.published.borrow().clone().ok_or(ReadError::Draining)?;
    let topic = log.topic().await?;
    let range = |partition| {
        let end = published.end(partition).expect("an end");
        super::state::ReplayRange { partition, from: 0, end, whole_partition: false }
    };
    let ranges: Vec<_> = topic.partition_count.all().map(range).collect();
    let selection = Selection::all(topic.partition_count);
    let partitions = topic.partition_count.all().map(|p| (p, StartAt::Low)).collect();
    let request = ReplayRequest {
        topic,
        partitions,
        selection: selection.clone(),
        follow: Follow::No,
        owned_records: false,
        deadline: soon(),
    };
    let (events, replay) = Replay::channel();
    let delivery = Delivery { state: log.state.clone(), selection: Arc::new(selection), events };
    tokio::spawn(Reader { request, delivery }.run(published, ranges, SystemTime::now(), Instant::now()));
    collect(log, replay).await
}

fn texts(records: &[Record]) -> Vec<(String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    records.iter().map(|r| (text(&r.key), r.value.as_deref().map(text))).collect()
}

fn pair(key: &str, value: &str) -> (String, Option<String>) {
    (key.to_owned(), Some(value.to_owned()))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if let Err(error) = fs::copy(entry.path(), target) {
            // The engine of an open store may have removed or renamed the file meanwhile.
            assert_eq!(error.kind(), ErrorKind::NotFound, "{}: {error}", entry.path().display());
        }
    }
}
