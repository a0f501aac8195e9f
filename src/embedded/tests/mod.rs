//! Tests of behaviour that only the embedded store has. The contract suite tests what every log must do.

mod damage;
mod follow;
mod format;

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    sync::{Condvar, atomic::AtomicI64},
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    log::{Appended, ReplayEvent, Selection, StartAt},
    model::{Header, Headers, Key, Record, WorkspaceId},
};

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
            let open = gate.1.wait_while(gate.0.lock().unwrap(), |open| !*open).unwrap();
            drop(open);
            wall_clock()
        })
    }

    fn open(&self) {
        *self.0.lock().unwrap() = true;
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
    let request = ReplayRequest { topic, partitions, selection, follow: false, owned_records: false, deadline: soon() };
    collect(log, log.replay(request).await?).await
}

async fn collect(log: &EmbeddedLog, mut replay: Replay) -> Result<Vec<Record>, ReadError> {
    let (mut all, mut ends) = (Vec::new(), 0);
    while let Some(event) = replay.next().await {
        match event? {
            ReplayEvent::Records { records, .. } => all.extend(records),
            ReplayEvent::End(_) => ends += 1,
            ReplayEvent::Progress { .. } | ReplayEvent::Moving => panic!("progress without follow"),
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
    if let Some(corrupt) = log.state.corrupt.get() {
        return Err(corrupt.clone().into());
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
        follow: false,
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
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Covers R10.
#[tokio::test]
async fn of_one_key_in_one_batch_the_last_record_remains() {
    let (dir, gate) = (tempfile::tempdir().unwrap(), Arc::new(Gate::default()));
    let log = EmbeddedLog::open_at(&settings(&dir), Gate::clock(&gate)).unwrap();
    let writes = [("w/t/1", Some("a")), ("w/t/2", Some("b")), ("w/t/1", None), ("w/t/1", Some("c")), ("w/t/2", None)];
    let pending: Vec<_> = writes.map(|(key, value)| log.append(record(&log, key, value)).unwrap()).into();
    gate.open();
    for (offset, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.await.unwrap().unwrap().offset, offset as i64);
    }
    let expected = [pair("w/t/1", "c"), ("w/t/2".to_owned(), None)];
    assert_eq!(texts(&load(&log, "w").await.unwrap()), expected);
    assert_eq!(texts(&all(&log).await.unwrap()), expected);
    assert_eq!(texts(&scan(&log).await.unwrap()), expected);
    // The same across batches. A superseded tombstone leaves no entry.
    put(&log, "w/t/2", Some("d")).await;
    assert_eq!(texts(&all(&log).await.unwrap()), [pair("w/t/1", "c"), pair("w/t/2", "d")]);
    let published = log.state.published.borrow().clone().unwrap();
    // Each keyspace has the entry of the last batch, too.
    assert_eq!(published.store.tombstones.len().unwrap(), 1);
    assert_eq!(published.store.log.len().unwrap(), 2 + 1);
}

/// Covers C16, R11.
#[tokio::test]
async fn headers_and_empty_values_are_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    let headers = vec![Header { key: "h".into(), value: None }, Header { key: "h".into(), value: Some("".into()) }];
    let new = NewRecord { headers: Headers::new(headers.clone()).unwrap(), ..record(&log, "w/t/1", Some("")) };
    let appended = log.append(new).unwrap().await.unwrap().unwrap();
    let read = load(&log, "w").await.unwrap().remove(0);
    assert_eq!((read.headers, read.value.as_deref()), (headers, Some(&b""[..])));
    assert_eq!((read.offset, read.timestamp), (appended.offset, appended.timestamp));
}

/// Covers C47, C70.
#[tokio::test]
async fn tombstones_are_purged_after_the_retention_and_offsets_never_go_back() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open_at(&dir, HOUR);
        put(&log, "w/t/1", Some("a")).await;
        put(&log, "w/t/2", Some("b")).await;
        put(&log, "w/t/1", None).await;
        assert_eq!(log.close(soon()).await, 0);
    }
    let log = open_at(&dir, 25 * HOUR);
    // The writer purges before it takes this write. The retention is just reached, and not over.
    assert_eq!(put(&log, "w/t/3", Some("c")).await.offset, 3);
    assert_eq!(load(&log, "w").await.unwrap().len(), 3);
    drop(log);

    let log = open_at(&dir, 25 * HOUR + 1);
    assert_eq!(put(&log, "w/t/2", None).await.offset, 4);
    assert_eq!(texts(&load(&log, "w").await.unwrap()), [pair("w/t/3", "c"), ("w/t/2".to_owned(), None)]);
    put(&log, "w/t/3", None).await;
    drop(log);

    // The last records of the partition were purged, and the clock went back.
    let log = open_at(&dir, 90 * HOUR);
    log.close(soon()).await;
    let log = open_at(&dir, 2 * HOUR);
    let appended = put(&log, "w/t/9", Some("d")).await;
    assert_eq!(appended.offset, 6);
    assert_eq!(texts(&load(&log, "w").await.unwrap()), [pair("w/t/9", "d")]);
    assert!(appended.timestamp.unwrap() > 25 * HOUR, "{appended:?}");
}

/// The clock was ahead, and tombstones were purged that a reader has not read. Now the clock is right, and the reader's
/// token is young.
/// Covers C49, R9, F26.
#[tokio::test]
async fn a_reader_that_missed_a_purged_tombstone_is_refused_by_offset_not_by_clock() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open_at(&dir, HOUR);
        put(&log, "w/t/1", Some("a")).await;
        put(&log, "w/t/1", None).await;
        put(&log, "w/t/2", Some("b")).await;
        assert_eq!(log.close(soon()).await, 0);
    }
    {
        let log = open_at(&dir, 90 * HOUR);
        log.close(soon()).await;
    }
    let log = open_at(&dir, HOUR);
    let topic = log.topic().await.unwrap();
    let home = topic.partition_count.of_workspace(b"w");
    let from = |offset| {
        let partitions = vec![(home, StartAt::Offset { offset, leader_epoch: -1 })];
        let selection = Selection::all(topic.partition_count);
        log.replay(ReplayRequest {
            topic: topic.clone(),
            partitions,
            selection,
            follow: false,
            owned_records: false,
            deadline: soon(),
        })
    };
    let error = from(1).await.unwrap_err();
    assert!(matches!(error, ReadError::Truncated { .. }), "{error:?}");
    from(2).await.expect("it has read what was purged");
    assert_eq!(all(&log).await.unwrap().len(), 1);
}

/// A purge must not make the store read-only.
/// Covers F23.
#[tokio::test]
async fn tombstones_are_not_purged_while_the_disk_is_full() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = open_at(&dir, HOUR);
        put(&log, "w/t/1", None).await;
        assert_eq!(log.close(soon()).await, 0);
    }
    let full = Settings { reserve_bytes: u64::MAX, ..settings(&dir) };
    let log = EmbeddedLog::open_at(&full, Arc::new(|| 90 * HOUR)).unwrap();
    let reply = log.append(record(&log, "w/t/2", Some("a"))).unwrap().await.unwrap();
    assert!(matches!(reply, Err(WriteError::DiskFull { .. })), "the purge came before it: {reply:?}");
    assert_eq!(all(&log).await.unwrap().len(), 1, "the tombstone is still there");
}

/// Many small entities of one workspace: their keys alone are more than sorting may hold.
/// Covers C48.
#[tokio::test]
async fn a_workspace_with_too_many_keys_to_sort_is_read_in_log_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(Settings { sort_bytes: 1_000, ..settings(&dir) }).unwrap();
    for n in (0..200).rev() {
        put(&log, &format!("w/t/{n:03}"), Some("v")).await;
    }
    let records = load(&log, "w").await.unwrap();
    assert!(records.len() == 200 && records.is_sorted_by_key(|r| r.offset));
    assert_eq!(all(&log).await.unwrap(), records);
}

/// Covers R35, F23.
#[tokio::test]
async fn a_directory_has_one_log_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    let error = EmbeddedLog::open(settings(&dir)).unwrap_err();
    assert!(matches!(&error, OpenError::Locked { .. }) && error.to_string().contains(dir.path().to_str().unwrap()));
    put(&log, "w/t/1", Some("a")).await;
    assert_eq!(log.close(soon()).await, 0);
    let second = open(&dir);
    assert!(matches!(log.append(record(&log, "w/t/1", None)), Err(WriteError::Draining)));
    assert_eq!(load(&log, "w").await.unwrap_err(), ReadError::Draining);
    drop(second);
    let third = open(&dir);
    assert_eq!(third.topic().await.unwrap().id, log.topic().await.unwrap().id);
    assert_eq!(texts(&load(&third, "w").await.unwrap()), [pair("w/t/1", "a")]);
}

#[test]
fn a_foreign_directory_is_left_untouched() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("notes"), "mine").unwrap();
    let error = EmbeddedLog::open(settings(&dir)).unwrap_err();
    assert!(matches!(&error, OpenError::Foreign { found, .. } if found == "notes"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    // A directory that mkfs created is allowed.
    fs::remove_file(dir.path().join("notes")).unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    drop(open(&dir));
    drop(open(&dir));
}

/// Covers C10.
#[test]
fn the_partition_count_is_fixed_and_the_marker_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    let asked = Settings { partition_count: PartitionCount::new(5), ..settings(&dir) };
    let error = EmbeddedLog::open(asked).unwrap_err();
    assert!(matches!(error, OpenError::PartitionCount { stored, asked, .. } if (stored.get(), asked.get()) == (4, 5)));
    let none_asked = EmbeddedLog::open(Settings::new(dir.path())).unwrap();
    assert_eq!(none_asked.state.topic.partition_count.get(), 4);
    drop(none_asked);

    let marker = dir.path().join("store");
    let text = fs::read_to_string(&marker).unwrap();
    fs::write(&marker, text.replace("partitions 4", "partitions 6")).unwrap();
    assert!(matches!(EmbeddedLog::open(Settings::new(dir.path())), Err(OpenError::Corrupt { .. })));
    fs::write(&marker, text.replace("format 2", "format 3")).unwrap();
    let error = EmbeddedLog::open(Settings::new(dir.path())).unwrap_err();
    assert!(matches!(&error, OpenError::Format { stored, .. } if stored == "3"), "{error}");
    fs::remove_file(&marker).unwrap();
    assert!(matches!(EmbeddedLog::open(Settings::new(dir.path())), Err(OpenError::Foreign { .. })));
}

#[test]
fn an_interrupted_creation_of_a_store_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    // Before the marker.
    fs::create_dir(dir.path().join("engine.new")).unwrap();
    fs::write(dir.path().join("engine.new/0.jnl"), "half").unwrap();
    fs::write(dir.path().join("store.new"), "half").unwrap();
    drop(open(&dir));
    // After the marker, before the rename.
    fs::rename(dir.path().join("engine"), dir.path().join("engine.new")).unwrap();
    drop(open(&dir));
    // The engine is missing, and must not be created again.
    fs::remove_dir_all(dir.path().join("engine")).unwrap();
    assert!(matches!(EmbeddedLog::open(settings(&dir)), Err(OpenError::Corrupt { .. })));
}

/// Covers C42, R40.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_during_constant_overwriting_misses_no_key() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(open(&dir));
    let keys: Vec<_> = (0..100).map(|n| format!("w/t/{n}")).collect();
    for key in &keys {
        put(&log, key, Some("0")).await;
    }
    let overwrite = {
        let (log, keys) = (log.clone(), keys.clone());
        tokio::spawn(async move {
            for round in 1.. {
                let value = round.to_string();
                let pending: Vec<_> =
                    keys.iter().map(|key| log.append(record(&log, key, Some(&value))).unwrap()).collect();
                for pending in pending {
                    pending.await.unwrap().unwrap();
                }
            }
        })
    };
    for round in 0..200 {
        let records = if round % 2 == 0 { load(&log, "w").await } else { scan(&log).await }.unwrap();
        assert!(records.is_sorted_by_key(|r| r.offset));
        let seen: HashSet<_> = records.iter().map(|r| r.key.clone()).collect();
        assert_eq!((records.len(), seen.len()), (100, 100));
    }
    overwrite.abort();
}

/// Covers R30, F18.
#[tokio::test]
async fn a_full_queue_refuses_and_loses_nothing() {
    let (dir, gate) = (tempfile::tempdir().unwrap(), Arc::new(Gate::default()));
    let limited = Settings { queue_records: 3, ..settings(&dir) };
    let log = EmbeddedLog::open_at(&limited, Gate::clock(&gate)).unwrap();
    let mut pending: Vec<_> =
        (0..3).map(|n| log.append(record(&log, &format!("w/t/{n}"), Some("a"))).unwrap()).collect();
    let refused = log.append(record(&log, "w/t/9", Some("a")));
    assert!(matches!(refused, Err(WriteError::QueueFull { limit }) if limit == "3 records"));
    gate.open();
    for pending in pending.drain(..) {
        pending.await.unwrap().unwrap();
    }
    put(&log, "w/t/9", Some("b")).await;
    assert_eq!(load(&log, "w").await.unwrap().len(), 4);
    assert_eq!(log.state.queued_bytes.load(SeqCst), 0);
    assert_eq!(log.state.pending_writes.load(SeqCst), 0);
}

/// Covers R30, F18.
#[tokio::test]
async fn the_bytes_of_the_queue_are_limited_except_for_a_single_record() {
    let (dir, gate) = (tempfile::tempdir().unwrap(), Arc::new(Gate::default()));
    let limited = Settings { queue_bytes: 10, ..settings(&dir) };
    let log = EmbeddedLog::open_at(&limited, Gate::clock(&gate)).unwrap();
    let first = log.append(record(&log, "w/t/1", Some("large enough"))).unwrap();
    assert!(matches!(log.append(record(&log, "w/t/2", None)), Err(WriteError::QueueFull { .. })));
    gate.open();
    first.await.unwrap().unwrap();
    put(&log, "w/t/2", None).await;
}

/// Covers R32.
#[tokio::test]
async fn a_late_close_counts_unwritten_records_and_a_drop_refuses_them() {
    let (dir, gate) = (tempfile::tempdir().unwrap(), Arc::new(Gate::default()));
    let log = EmbeddedLog::open_at(&settings(&dir), Gate::clock(&gate)).unwrap();
    let pending: Vec<_> = (0..3).map(|n| log.append(record(&log, &format!("w/t/{n}"), None)).unwrap()).collect();
    assert_eq!(log.close(Instant::now()).await, 3);
    drop(log);
    gate.open();
    for pending in pending {
        assert_eq!(pending.await.unwrap(), Err(WriteError::Draining));
    }
}

/// Covers F23.
#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(Settings { reserve_bytes: u64::MAX, ..settings(&dir) }).unwrap();
    let reply = log.append(record(&log, "w/t/1", Some("a"))).unwrap().await.unwrap();
    assert!(matches!(reply, Err(WriteError::DiskFull { .. })), "{reply:?}");
    assert!(log.describe().await.findings.is_empty());
    drop(log);
    let log = open(&dir);
    assert!(all(&log).await.unwrap().is_empty());
    assert_eq!(put(&log, "w/t/1", Some("a")).await.offset, 0);
}

/// Covers C2.
#[tokio::test]
async fn a_workspace_is_not_mixed_with_one_whose_name_starts_alike() {
    let dir = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(Settings { partition_count: PartitionCount::new(1), ..settings(&dir) }).unwrap();
    for key in ["ws2/t/1", "ws/t/1", "ws /t/1", "ws/t/10", "ws./t/1"] {
        put(&log, key, Some("v")).await;
    }
    assert_eq!(texts(&load(&log, "ws").await.unwrap()), [pair("ws/t/1", "v"), pair("ws/t/10", "v")]);
    let one = Selection::key(Key::parse("ws/t/1").unwrap(), log.state.topic.partition_count);
    assert_eq!(texts(&replay(&log, one, StartAt::Low).await.unwrap()), [pair("ws/t/1", "v")]);
}

/// Covers C48.
#[tokio::test]
async fn values_too_large_to_sort_in_memory_are_read_twice() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    let value = "x".repeat(1024 * 1024);
    for key in (0..20).rev().map(|n| format!("w/t/{n:02}")) {
        put(&log, &key, Some(&value)).await;
    }
    let records = load(&log, "w").await.unwrap();
    assert!(records.len() == 20 && records.is_sorted_by_key(|r| r.offset));
    assert_eq!(all(&log).await.unwrap(), records);
    assert_eq!(
        (&records[0].key[..], records[19].value.as_ref().map(bytes::Bytes::len)),
        (&b"w/t/19"[..], Some(1 << 20))
    );
}

/// Covers C29.
#[tokio::test]
async fn a_follower_gets_later_records_and_ends_as_draining_on_close() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    put(&log, "w/t/1", Some("a")).await;
    let topic = log.topic().await.unwrap();
    let home = topic.partition_count.of_workspace(b"w");
    let selection = Selection::all(topic.partition_count);
    let partitions = vec![(home, StartAt::Offset { offset: 1, leader_epoch: -1 })];
    let request = ReplayRequest { topic, partitions, selection, follow: true, owned_records: false, deadline: soon() };
    let mut replay = log.replay(request).await.unwrap();
    assert!(matches!(replay.next().await, Some(Ok(ReplayEvent::End(end))) if (end.start, end.end) == (1, 1)));
    assert!(matches!(replay.next().await, Some(Ok(ReplayEvent::Progress { next_offset: 1, .. }))));
    put(&log, "w/t/1", None).await;
    match replay.next().await {
        Some(Ok(ReplayEvent::Records { records, .. })) => assert_eq!(records[0].offset, 1),
        other => panic!("{other:?}"),
    }
    assert!(matches!(replay.next().await, Some(Ok(ReplayEvent::Progress { next_offset: 2, at_end: Some(_), .. }))));
    // The replay does not keep the directory locked after the close.
    assert_eq!(log.close(soon()).await, 0);
    assert!(matches!(replay.next().await, Some(Err(ReadError::Draining))));
    assert!(replay.next().await.is_none());
    drop(open(&dir));
}

/// Covers R7.
#[tokio::test]
async fn a_passed_deadline_and_an_offset_outside_the_log_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    put(&log, "w/t/1", Some("a")).await;
    let topic = log.topic().await.unwrap();
    let home = topic.partition_count.of_workspace(b"w");
    let request = |start, deadline| ReplayRequest {
        topic: topic.clone(),
        partitions: vec![(home, start)],
        selection: Selection::all(topic.partition_count),
        follow: false,
        owned_records: false,
        deadline,
    };
    let mut late = log.replay(request(StartAt::Low, Instant::now())).await.unwrap();
    assert!(matches!(late.next().await, Some(Err(ReadError::Deadline { position: 0, end: 1, .. }))));
    for offset in [-1, 2] {
        let outside = log.replay(request(StartAt::Offset { offset, leader_epoch: -1 }, soon())).await;
        assert!(matches!(outside, Err(ReadError::OffsetOutOfRange { low: 0, end: 1, .. })));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Covers R10.
    #[test]
    fn reads_by_workspace_and_by_offset_agree_with_a_map(
        batches in prop::collection::vec(
            prop::collection::vec((0..3u8, 0..4u8, prop::option::of(0..99u8)), 1..6), 1..8,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let (dir, time) = (tempfile::tempdir().unwrap(), Arc::new(AtomicI64::new(HOUR)));
            let reopened = || {
                let time = time.clone();
                EmbeddedLog::open_at(&settings(&dir), Arc::new(move || time.load(SeqCst))).unwrap()
            };
            let (mut log, mut model) = (reopened(), BTreeMap::new());
            for (round, batch) in batches.into_iter().enumerate() {
                let mut pending = Vec::new();
                for (workspace, entity, value) in batch {
                    let (key, value) = (format!("w{workspace}/t/{entity}"), value.map(|v| v.to_string()));
                    pending.push(log.append(record(&log, &key, value.as_deref())).unwrap());
                    model.insert(key, value);
                }
                for pending in pending {
                    pending.await.unwrap().unwrap();
                }
                if round % 3 == 2 {
                    drop(log);
                    if round % 2 == 1 {
                        // All tombstones are purged, because the writer purges before the next write.
                        time.fetch_add(100 * HOUR, SeqCst);
                        model.retain(|_, value| value.is_some());
                    }
                    log = reopened();
                    put(&log, "other/t/1", Some("x")).await;
                }
                let mut scanned = scan(&log).await.unwrap();
                assert_eq!(all(&log).await.unwrap(), scanned);
                scanned.retain(|r| !r.key.starts_with(b"other/"));
                let mut indexed = Vec::new();
                for workspace in ["w0", "w1", "w2"] {
                    indexed.extend(load(&log, workspace).await.unwrap());
                }
                assert_eq!(texts(&scanned).into_iter().collect::<BTreeMap<_, _>>(), model);
                let by_key = |mut records: Vec<Record>| { records.sort_by(|a, b| a.key.cmp(&b.key)); records };
                assert_eq!(by_key(scanned), by_key(indexed));
            }
        });
    }
}
