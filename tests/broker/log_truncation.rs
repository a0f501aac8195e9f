//! A log that changes while it is read, on a real broker: records deleted, records compacted, tombstones removed.

use std::time::{Duration, Instant};

use changelog_core::log::{Follow, Log, ReadError, ReplayEvent, StartAt, TopicProblem, TopicState};
use changelogd_testkit::{shared_broker, shared_oracle};
use tokio::time::timeout;

use crate::kit::*;

/// Covers C49, R14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_outside_the_log_are_refused_and_one_inside_resumes() {
    let (topic, log) = on(1).await;
    for i in 0..10 {
        append(&log, record(1, &format!("w/t/{i}"), Some(b"1"))).await;
    }
    let at = |offset| [(0, StartAt::Offset { offset, leader_epoch: 0 })];
    let (records, ends) = read_from(&log, &at(7)).await.unwrap();
    assert_eq!((records[0].offset, records.len(), ends[0].start), (7, 3, 7));
    let (records, ends) = read_from(&log, &at(10)).await.unwrap();
    assert_eq!((records.len(), ends[0].start, ends[0].end), (0, 10, 10));
    let outside = |offset, low| ReadError::OffsetOutOfRange { partition: partition(0), offset, low, end: 10 };
    assert_eq!(read_from(&log, &at(11)).await.unwrap_err(), outside(11, 0));
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    oracle.config(bootstrap, &topic, &[("cleanup.policy", "delete")]).unwrap();
    assert_eq!(oracle.delete_records(bootstrap, &topic, 0, 5).unwrap(), 5);
    oracle.config(bootstrap, &topic, &[("cleanup.policy", "compact")]).unwrap();
    assert_eq!(read_from(&log, &at(4)).await.unwrap_err(), outside(4, 5));
    assert_eq!(read(&log, &[0]).await.unwrap().0.len(), 5);
}

/// Covers C43, R14, F12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_deleted_during_a_replay_are_an_error() {
    let (topic, log, replay) = on_and_replaying().await;
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    // A topic that is only compacted refuses DeleteRecords.
    oracle.config(bootstrap, &topic, &[("cleanup.policy", "compact,delete")]).unwrap();
    assert_eq!(oracle.delete_records(bootstrap, &topic, 0, 5_990).unwrap(), 5_990);
    oracle.config(bootstrap, &topic, &[("cleanup.policy", "compact")]).unwrap();
    let error = drain(replay).await.unwrap_err();
    println!("{error}");
    // The topic watcher may have seen the wrong policy.
    let seen = matches!(error, ReadError::Topic(TopicProblem::NotCompacted { .. }));
    assert!(seen || matches!(error, ReadError::Truncated { .. }), "{error}");
    let mut state = log.topic_state();
    timeout(PATIENCE, state.wait_for(|s| matches!(s, TopicState::Ready(_)))).await.unwrap().unwrap();
    assert_eq!(read(&log, &[0]).await.unwrap().0.len(), 10, "what is left is a whole load again");
}

/// Compaction removes a record below a replay's end when a later record of its key is above it. The replay must still
/// have the key.
/// Covers C42, R40, F10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_the_cleaner_removes_during_a_slow_replay_are_still_in_it() {
    const KEYS: usize = 40;
    const FILLED: i64 = 6_000;
    let more = [
        ("segment.bytes", "1048576"),
        ("segment.ms", "300"),
        ("min.cleanable.dirty.ratio", "0"),
        ("min.compaction.lag.ms", "0"),
    ];
    let topic = created(1, &more);
    let log = started(settings(&topic)).await;
    fill(&log, 1).await;
    let overwrite = || append_all(&log, (0..KEYS).map(|i| record(1, &format!("w/t/key-{i}"), Some(b"1"))));
    overwrite().await;
    // The slow reader's end offset is here, and it has not read as far as the keys.
    let asked = request(&log, &[(0, StartAt::Low)], Follow::No).await;
    let mut slow = log.replay(asked).await.unwrap();
    next(&mut slow).await.unwrap().unwrap();
    let began = Instant::now();
    let old = FILLED..FILLED + KEYS as i64;
    loop {
        overwrite().await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        let (records, _) = read_from(&log, &[(0, StartAt::Offset { offset: FILLED, leader_epoch: -1 })]).await.unwrap();
        if !records.iter().any(|r| old.contains(&r.offset)) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "the cleaner does not come");
    }
    println!("cleaned after {:?}", began.elapsed());
    let (records, ends) = drain(slow).await.unwrap();
    let found: std::collections::HashSet<_> =
        records.iter().filter(|r| r.key.starts_with(b"w/t/key-")).map(|r| &r.key).collect();
    assert_eq!(found.len(), KEYS, "whole, or not called whole: {ends:?}");
    assert!(ends[0].end > FILLED + KEYS as i64, "its end was taken again: {ends:?}");
}

/// If tombstones are removed before a slow reader reaches them, it keeps the deleted keys.
/// Covers R9, R10, F11.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_slower_than_delete_retention_never_returns_a_deleted_key() {
    const KEYS: usize = 40;
    let short = [("delete.retention.ms", "1000"), ("segment.ms", "300"), ("min.cleanable.dirty.ratio", "0")];
    let topic = created(1, &[&short[..], &[("segment.bytes", "1048576"), ("min.compaction.lag.ms", "0")]].concat());
    let log = started(settings(&topic)).await;
    let all = |value: Option<&'static [u8]>| (0..KEYS).map(move |i| record(1, &format!("w/t/key-{i}"), value));
    append_all(&log, all(Some(b"1"))).await;
    fill(&log, 1).await;
    let first = append(&log, record(1, "w/t/before", Some(b"1"))).await + 1;
    // The slow reader has read the keys when they are deleted, or it gets both: its end offset is above the tombstones.
    append_all(&log, all(None)).await;
    let asked = request(&log, &[(0, StartAt::Low)], Follow::No).await;
    let mut slow = log.replay(asked).await.unwrap();
    let mut records = match next(&mut slow).await.unwrap().unwrap() {
        ReplayEvent::Records { records, .. } => records,
        other => panic!("{other:?}"),
    };
    assert!(records.iter().filter(|r| r.key.starts_with(b"w/t/key-")).count() == KEYS, "the keys are what comes first");
    let began = Instant::now();
    loop {
        append(&log, record(1, "w/t/roll", Some(b"1"))).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        // Such short loads are within the limit, except on a machine that stalls.
        match read_from(&log, &[(0, StartAt::Offset { offset: first, leader_epoch: -1 })]).await {
            Ok((left, _)) if left.iter().all(|r| !r.is_tombstone()) => break,
            Ok(_) | Err(ReadError::Moved { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(began.elapsed() < PATIENCE, "the deletions stay");
    }
    println!("the deletions were gone after {:?}", began.elapsed());
    match drain(slow).await {
        Err(error) => assert!(matches!(error, ReadError::Moved { .. }), "{error}"),
        Ok((more, ends)) => {
            records.extend(more);
            let last: std::collections::HashMap<_, _> = records.iter().map(|r| (&r.key, r.is_tombstone())).collect();
            let kept = last.iter().filter(|(key, deleted)| key.starts_with(b"w/t/key-") && !**deleted).count();
            assert_eq!(kept, 0, "deleted before the load began, and in it: {ends:?}");
        }
    }
}

/// A key that always had a value has one in every load, whatever the cleaner removes during the load. The value is at
/// least as new as the one acknowledged before the load began.
/// Covers C42, R40, F27.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_overwritten_all_the_time_is_in_every_slow_load() {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    };
    let tiny = [("segment.ms", "300"), ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0")];
    let topic = created(1, &[&tiny[..], &[("min.compaction.lag.ms", "0")]].concat());
    let log = Arc::new(started(settings(&topic)).await);
    fill(&log, 1).await;
    let (acked, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    append(&log, record(1, "w/t/hot", Some(b"0"))).await;
    let writer = {
        let (log, acked, done) = (log.clone(), acked.clone(), done.clone());
        tokio::spawn(async move {
            for round in 1.. {
                append(&log, record(1, "w/t/hot", Some(format!("{round}").as_bytes()))).await;
                acked.store(round, Ordering::SeqCst);
                if done.load(Ordering::SeqCst) {
                    break;
                }
            }
        })
    };
    let (mut whole, mut cleaned) = (0, false);
    let began = Instant::now();
    while whole < 3 || !cleaned {
        assert!(began.elapsed() < 2 * PATIENCE, "{whole} whole loads; cleaned: {cleaned}");
        let before = acked.load(Ordering::SeqCst);
        let asked = request(&log, &[(0, StartAt::Low)], Follow::No).await;
        let mut slow = log.replay(asked).await.unwrap();
        let (mut hot, mut last, mut failed) = (0, None, None);
        while let Some(event) = next(&mut slow).await {
            match event {
                Ok(ReplayEvent::Records { records, .. }) => {
                    for record in records.iter().filter(|r| &r.key[..] == b"w/t/hot") {
                        let value = record.value.as_deref().expect("it is never deleted");
                        last = Some(std::str::from_utf8(value).unwrap().parse::<u64>().unwrap());
                        hot += 1;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Ok(_) => {}
                Err(error) => failed = Some(error),
            }
        }
        let Some(error) = failed else {
            let last = last.expect("the key is there");
            assert!(last >= before, "{last} was read, {before} was acknowledged before the load");
            (whole, cleaned) = (whole + 1, cleaned || hot < before);
            continue;
        };
        assert!(matches!(error, ReadError::Moved { .. }), "{error}");
    }
    done.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    println!("{whole} whole loads in {:?}, {} writes", began.elapsed(), acked.load(Ordering::SeqCst));
}
