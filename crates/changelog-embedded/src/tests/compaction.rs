//! Only the last record of each key exists, whichever way it is read.

use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::AtomicI64,
};

use proptest::{prelude::*, test_runner::TestRunner};

use super::*;

/// Covers R10.
#[tokio::test]
async fn of_one_key_in_one_batch_the_last_record_remains() {
    let (dir, gate) = (tempfile::tempdir().unwrap(), Arc::new(Gate::default()));
    let log = EmbeddedLog::open_at(&settings(&dir), Gate::clock(&gate)).unwrap();
    let writes = [("w/t/1", Some("a")), ("w/t/2", Some("b")), ("w/t/1", None), ("w/t/1", Some("c")), ("w/t/2", None)];
    let pending: Vec<_> = writes.map(|(key, value)| log.append(record(&log, key, value)).unwrap()).into();
    gate.open();
    for (offset, pending) in pending.into_iter().enumerate() {
        assert_eq!(pending.await.unwrap().unwrap().position.offset, offset as i64);
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

/// Covers R10.
#[test]
fn reads_by_workspace_and_by_offset_agree_with_a_map() {
    let batch = prop::collection::vec((0..3u8, 0..4u8, prop::option::of(0..99u8)), 1..6);
    // A case opens the store several times, and waits for fsyncs.
    let cases = (ProptestConfig::default().cases / 16).max(24);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let run = |batches| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(reads_agree_with_a_map(batches));
        Ok(())
    };
    TestRunner::new(config).run(&prop::collection::vec(batch, 1..8), run).unwrap();
}

async fn reads_agree_with_a_map(batches: Vec<Vec<(u8, u8, Option<u8>)>>) {
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
        let by_key = |mut records: Vec<Record>| {
            records.sort_by(|a, b| a.key.cmp(&b.key));
            records
        };
        assert_eq!(by_key(scanned), by_key(indexed));
    }
}
