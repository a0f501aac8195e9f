//! Loads from the index of a log, compared with those from a replay.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use changelogd_testkit::Random;
use tokio::time::Instant;

use crate::{
    changelog::{Changelog, Limits, LoadError, Metrics, Peer},
    log::{Log as _, MemoryLog, PartitionEnd},
    model::{Key, PartitionCount, WorkspaceId},
    testing::FakeLog,
};

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// The keys and offsets of a load, and its proof without the time.
async fn loaded(changelog: &Changelog, workspace: &str, types: &[&str]) -> (Vec<(Bytes, i64)>, PartitionEnd, u64, u64) {
    let types: HashSet<String> = types.iter().map(|t| (*t).to_owned()).collect();
    let load = changelog.load(WorkspaceId::parse(workspace).unwrap(), types, Peer::default(), soon()).await.unwrap();
    let records = load.records().iter().map(|record| (record.key.clone(), record.offset)).collect();
    let end = PartitionEnd { at_end: std::time::SystemTime::UNIX_EPOCH, ..load.snapshot.end };
    (records, end, load.snapshot.entries, load.snapshot.tombstones)
}

/// Covers C22, C42, C50.
#[tokio::test]
async fn a_load_from_an_index_is_that_of_a_replay() {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let count = PartitionCount::new(1).unwrap();
        let memory = MemoryLog::new(count, Duration::from_secs(1_000));
        let partition = count.partition(0).unwrap();
        for _ in 0..random.below(3_000) {
            let key = match random.below(20) {
                0 => None,
                1 => Some("not a key".to_owned()),
                n => Some(format!("w{}/t{}/{}", n % 3, n % 2, random.below(50))),
            };
            let value = (random.below(4) > 0).then(|| Bytes::from("x".repeat(random.below(20) as usize)));
            memory.append_foreign(partition, key.map(Bytes::from), value);
        }
        let over =
            |log, read_ahead| Changelog::new(log, Limits { read_ahead, ..Limits::for_tests() }, Metrics::default());
        // A fake log has no index.
        let by_replay = over(Arc::new(FakeLog::new(memory.clone())), 0);
        let (by_index, too_small) = (over(Arc::new(memory.clone()), 1 << 20), over(Arc::new(memory.clone()), 1_000));
        for (workspace, types) in [("w0", &[][..]), ("w1", &["t0"]), ("w2", &["t0", "t1"]), ("nobody", &[])] {
            let expected = loaded(&by_replay, workspace, types).await;
            assert_eq!(loaded(&by_index, workspace, types).await, expected, "seed {seed}");
            assert_eq!(loaded(&too_small, workspace, types).await, expected, "seed {seed}");
        }
        for n in 0..50 {
            let get = |changelog: Changelog| async move {
                let key = Key::parse(&format!("w0/t1/{n}")).unwrap();
                changelog.get(key, Peer::default(), soon()).await.unwrap().record
            };
            assert_eq!(get(by_index.clone()).await, get(by_replay.clone()).await, "seed {seed}");
        }
    }
}

/// Covers R1.
#[tokio::test]
async fn the_ends_of_a_log_are_those_that_it_describes() {
    let count = PartitionCount::new(3).unwrap();
    let memory = MemoryLog::new(count, Duration::from_secs(1_000));
    let [first, last] = [0, 2].map(|number| count.partition(number).unwrap());
    memory.append_foreign(last, Some("w/t/a".into()), None);
    let ends = memory.ends(&[last, first], soon()).await.unwrap().ends;
    assert_eq!(ends.iter().map(|end| (end.partition, end.offset)).collect::<Vec<_>>(), [(last, 1), (first, 0)]);
    assert_eq!(memory.confirm().await.unwrap(), memory.topic().await.unwrap());
    let absent = PartitionCount::new(9).unwrap().partition(8).unwrap();
    assert!(memory.ends(&[absent], soon()).await.is_err());
}

/// Covers C43, R21.
#[tokio::test]
async fn a_load_from_an_index_has_the_limits_of_a_replay() {
    let memory = MemoryLog::new(PartitionCount::new(1).unwrap(), Duration::from_secs(1_000));
    let partition = PartitionCount::new(1).unwrap().partition(0).unwrap();
    for n in 0..20 {
        memory.append_foreign(partition, Some(format!("ws/t/{n}").into()), Some("x".repeat(100).into()));
    }
    let load = |change: fn(&mut Limits)| {
        let mut limits = Limits { read_ahead: 100_000, replay_queue_timeout: Duration::ZERO, ..Limits::for_tests() };
        change(&mut limits);
        let changelog = Changelog::new(Arc::new(memory.clone()), limits, Metrics::default());
        async move { changelog.load(WorkspaceId::parse("ws").unwrap(), HashSet::new(), Peer::default(), soon()).await }
    };
    assert_eq!(load(|_| {}).await.unwrap().records().len(), 20);
    assert_eq!(load(|l| l.max_replays = 0).await.unwrap_err(), LoadError::TooManyReplays { limit: 0 });
    let error = load(|l| l.max_load_memory = 2_000).await.unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { limit: 2_000, .. }), "{error}");
    let error = load(|l| l.replay_memory = 101_000).await.unwrap_err();
    assert!(matches!(error, LoadError::MemoryBudgetExceeded { .. }), "{error}");
}
