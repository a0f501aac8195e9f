//! Where a replay ends, on a real broker. librdkafka's mock cluster cannot show this: its last stable offset is never
//! below the high watermark, it has no markers, and it never compacts.

use std::time::{Duration, Instant};

use changelog_core::log::{Follow, Log, ReadError, ReplayEvent, StartAt, TopicState, WriteError};
use changelog_kafka::Settings;
use changelogd_testkit::{Broker, Isolation, shared_broker, shared_oracle, unique_topic};
use tokio::time::timeout;

use crate::{kit::*, servers::COMPACTED};

/// Covers R4, F8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_is_named_and_a_replay_after_its_commit_is_whole() {
    let (topic, log) = on(1).await;
    let (oracle, bootstrap, id) = (shared_oracle(), shared_broker().bootstrap(), unique_topic("txn"));
    for i in 0..5 {
        append(&log, record(1, &format!("w/t/{i}"), Some(b"1"))).await;
    }
    oracle.txn_begin(bootstrap, &id).unwrap();
    oracle.txn_send(&id, &topic, 0, Some(b"w/t/inside"), Some(b"1")).unwrap();
    append(&log, record(1, "w/t/after", Some(b"1"))).await;
    let asked = Instant::now();
    let error = read(&log, &[0]).await.unwrap_err();
    assert_eq!(error, ReadError::OpenTransaction { partition: partition(0), last_stable: 5, high: 7 });
    assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    // The replay waits for a transaction that ends in time.
    let patient = started(Settings { open_transaction_wait: Duration::from_secs(10), ..settings(&topic) }).await;
    let waiting = tokio::spawn(async move { read(&patient, &[0]).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    oracle.txn_commit(&id).unwrap();
    let (records, ends) = waiting.await.unwrap().unwrap();
    assert_eq!(keys(&records).len(), 7);
    // The end is the high watermark that was found. If the end was taken again, it is above the commit's marker.
    assert!((7..=8).contains(&ends[0].end), "{ends:?}");
    let (records, ends) = read(&log, &[0]).await.unwrap();
    assert_eq!((records.len(), records[6].offset, ends[0].end), (7, 6, 8), "the tail is a marker");
}

/// Covers C71, R4, F8.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_do_not_wait_for_an_open_transaction_at_their_start() {
    let (topic, log) = on(1).await;
    let (oracle, bootstrap, id) = (shared_oracle(), shared_broker().bootstrap(), unique_topic("txn"));
    append(&log, record(1, "w/t/before", Some(b"1"))).await;
    oracle.txn_begin(bootstrap, &id).unwrap();
    oracle.txn_send(&id, &topic, 0, Some(b"w/t/inside"), Some(b"1")).unwrap();
    append(&log, record(1, "w/t/after", Some(b"1"))).await;
    let from_start = StartAt::Offset { offset: 0, leader_epoch: -1 };
    let mut replay = log.replay(request(&log, &[(0, from_start)], Follow::FromStart).await).await.unwrap();
    let (mut delivered, mut reports) = (Vec::new(), 0);
    while delivered.len() < 3 {
        match next(&mut replay).await.expect("changes have no end").unwrap() {
            ReplayEvent::Records { records, .. } => delivered.extend(keys(&records).into_iter().map(str::to_owned)),
            ReplayEvent::Progress { next_offset, .. } => {
                if delivered.len() == 1 && reports == 0 {
                    assert_eq!(next_offset, 1, "up to the transaction");
                    oracle.txn_commit(&id).unwrap();
                }
                reports += 1;
            }
            ReplayEvent::End(end) => panic!("changes have no end: {end:?}"),
        }
    }
    assert_eq!(delivered, ["w/t/before", "w/t/inside", "w/t/after"]);
    assert!(reports > 0);
}

/// Covers R2, R3, F9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_of_markers_and_aborted_batches_ends_a_replay_at_once() {
    let (topic, log) = on(1).await;
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    append(&log, record(1, "w/t/a", Some(b"1"))).await;
    for abort in [false, true, true] {
        let id = unique_topic("txn");
        oracle.txn_begin(bootstrap, &id).unwrap();
        for i in 0..2 {
            oracle.txn_send(&id, &topic, 0, Some(format!("w/t/{id}-{i}").as_bytes()), Some(b"1")).unwrap();
        }
        if abort { oracle.txn_abort(&id) } else { oracle.txn_commit(&id) }.unwrap();
        let mut best = PATIENCE;
        for _ in 0..5 {
            let asked = Instant::now();
            let (records, _) = read(&log, &[0]).await.unwrap();
            best = best.min(asked.elapsed());
            assert_eq!(records.len(), 3);
        }
        println!("tail of a transaction (aborted: {abort}): {best:?}");
        assert!(best < Duration::from_millis(400), "a fixed pause: {best:?}");
    }
    // From offset 4 to the end there are only records that are never delivered.
    let (records, ends) = read_from(&log, &[(0, StartAt::Offset { offset: 4, leader_epoch: -1 })]).await.unwrap();
    assert_eq!((records.len(), ends[0].start, ends[0].end), (0, 4, 10));
}

/// Covers R5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_partitions_end_at_once_alone_and_among_full_ones() {
    let (_, log) = on(64).await;
    let all: Vec<i32> = (0..64).collect();
    let mut best = PATIENCE;
    for _ in 0..5 {
        let asked = Instant::now();
        let (records, ends) = read(&log, &all).await.unwrap();
        best = best.min(asked.elapsed());
        assert_eq!((records.len(), ends.len()), (0, 64));
    }
    println!("64 empty partitions: {best:?}");
    assert!(best < Duration::from_millis(400), "{best:?}");
    for w in 0..5 {
        append(&log, record(64, &format!("w{w}/t/a"), Some(b"1"))).await;
    }
    let (records, ends) = read(&log, &all).await.unwrap();
    assert_eq!((records.len(), ends.len()), (5, 64));
}

/// Each load begins after the answer to a write, while other clients write.
/// Covers C42, R1, R2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_during_writes_contains_every_acknowledged_write_and_does_not_wait() {
    const TASKS: usize = 4;
    const ROUNDS: usize = 500;
    let (_, log) = on(1).await;
    let log = std::sync::Arc::new(log);
    let tasks = (0..TASKS).map(|task| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut times = Vec::new();
            for round in 0..ROUNDS {
                let written = record(1, &format!("w/t/{task}"), Some(format!("{round}").as_bytes()));
                let offset = append(&log, written).await;
                let asked = Instant::now();
                // Start a little below, so that the records that others wrote meanwhile do not count.
                let start = StartAt::Offset { offset: (offset - 50).max(0), leader_epoch: -1 };
                let (records, ends) = read_from(&log, &[(0, start)]).await.unwrap();
                times.push(asked.elapsed());
                assert!(records.iter().any(|r| r.offset == offset), "{offset} is not below {}", ends[0].end);
            }
            times
        })
    });
    let mut times = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        times.extend(task.await.unwrap());
    }
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    println!("{} loads, {TASKS} at a time: median {median:?}, worst {worst:?}", times.len());
    assert!(median < Duration::from_millis(200), "{median:?}");
}

/// A reader that neither reads nor ends must not keep the replay running beyond its deadline.
/// Covers R7, S3.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_also_holds_for_a_client_that_stalls() {
    let (_, log) = on(1).await;
    fill(&log, 1).await;
    let mut asked = request(&log, &[(0, StartAt::Low)], Follow::No).await;
    asked.deadline = tokio::time::Instant::now() + Duration::from_secs(2);
    let replay = log.replay(asked).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let error = drain(replay).await.unwrap_err();
    let ReadError::Deadline { position, end, .. } = error else { panic!("{error}") };
    assert!(position < end, "{position} of {end}");
}

/// A frozen broker keeps its connections and answers nothing.
/// Covers C43, R7, R8, F5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_is_unreachable_within_seconds_and_no_partial_load_is_whole() {
    let mut broker = Broker::start();
    let topic = unique_topic("frozen");
    shared_oracle().create(broker.bootstrap(), &topic, 1, 1, &COMPACTED).expect("the topic is created");
    let here = Settings { brokers: broker.bootstrap().to_owned(), ..settings(&topic) };
    // Another log fills the topic, with a write timeout that is long enough for a busy machine.
    fill(&started(here.clone()).await, 1).await;
    let (no_progress, write_timeout) = (Duration::from_secs(2), Duration::from_secs(3));
    let log = started(Settings { no_progress, write_timeout, ..here }).await;
    let asked = request(&log, &[(0, StartAt::Low)], Follow::No).await;
    let mut under_way = log.replay(asked).await.unwrap();
    next(&mut under_way).await.unwrap().unwrap();
    let asked = request(&log, &[(0, StartAt::Low)], Follow::No).await;
    broker.pause();
    let paused = Instant::now();
    // The topic was described a moment ago. The leader does not answer where its log begins and ends.
    let begun = match log.replay(asked).await {
        Ok(replay) => drain(replay).await.map(|(records, ends)| (records.len(), ends)),
        Err(error) => Err(error),
    };
    assert!(matches!(begun, Err(ReadError::Unreachable { .. })), "not an empty partition: {begun:?}");
    assert!(paused.elapsed() < Duration::from_secs(5), "{:?}", paused.elapsed());
    let error = drain(under_way).await.unwrap_err();
    println!("frozen under a load: {:?} later: {error}", paused.elapsed());
    assert!(matches!(error, ReadError::Unreachable { .. } | ReadError::NoProgress { .. }), "{error}");
    assert!(paused.elapsed() < Duration::from_secs(8), "{:?}", paused.elapsed());
    let paused = Instant::now();
    let error = log.topic().await.unwrap_err();
    println!("frozen before a load: {:?}: {error}", paused.elapsed());
    assert!(matches!(error, ReadError::Unreachable { .. }), "{error}");
    assert!(paused.elapsed() < Duration::from_secs(5), "{:?}", paused.elapsed());
    // The topic was seen, so the write may still be delivered. Its record may be in a buffer of the broker.
    let failed = log.append(record(1, "w/t/frozen", Some(b"1"))).unwrap().await.unwrap().unwrap_err();
    println!("written to a frozen broker: {failed:?}");
    assert!(matches!(failed, WriteError::OutcomeUnknown { .. } | WriteError::Unreachable { .. }), "{failed:?}");
    broker.resume();
    let mut state = log.topic_state();
    timeout(PATIENCE, state.wait_for(|s| matches!(s, TopicState::Ready(_)))).await.unwrap().unwrap();
    // The controller has fenced the broker. So the partition may have no leader until the controller knows that the
    // broker is back (KIP-631).
    let thawed = Instant::now();
    let records = loop {
        match read(&log, &[0]).await {
            Ok((records, _)) => break records,
            Err(ReadError::Unreachable { .. } | ReadError::NoProgress { .. }) if thawed.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert!((6_000..=6_001).contains(&records.len()), "{}", records.len());
    append(&log, record(1, "w/t/thawed", Some(b"1"))).await;
}

/// Covers C50, R13.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_and_misplaced_records_are_findings() {
    let (topic, log) = on(2).await;
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    let home = record(2, "w/t/a", None).partition.number();
    for key in [&b"no-slash"[..], b"\xff"] {
        oracle.produce(bootstrap, &topic, Some(home), Some(key), Some(b"1"), &[]).unwrap();
    }
    oracle.produce(bootstrap, &topic, Some(1 - home), Some(b"w/t/elsewhere"), Some(b"1"), &[]).unwrap();
    for _ in 0..2 {
        let (records, _) = read(&log, &[0, 1]).await.unwrap();
        assert!(records.is_empty());
    }
    let findings = log.describe().await.findings;
    let of = |code| findings.iter().find(|f| f.code == code).map(|f| f.message.clone()).unwrap_or_default();
    assert!(of("FOREIGN_RECORDS").starts_with("2 records"), "met twice, there once: {findings:?}");
    assert!(of("MISPLACED_RECORDS").starts_with("1 records"), "{findings:?}");
}

/// Segments of aborted records are cleaned. The offsets below the marker then hold no record, committed or not.
/// Covers R2, R3, F9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compacted_hole_at_the_tail_ends_a_replay_at_once() {
    let tiny = [("segment.ms", "300"), ("min.cleanable.dirty.ratio", "0"), ("min.compaction.lag.ms", "0")];
    let topic = created(1, &tiny);
    let log = started(settings(&topic)).await;
    let (oracle, bootstrap, id) = (shared_oracle(), shared_broker().bootstrap(), unique_topic("txn"));
    append(&log, record(1, "w/t/a", Some(b"1"))).await;
    oracle.txn_begin(bootstrap, &id).unwrap();
    for i in 0..3 {
        oracle.txn_send(&id, &topic, 0, Some(format!("w/t/aborted-{i}").as_bytes()), Some(b"1")).unwrap();
    }
    // Older than segment.ms, so that the marker begins a new segment. The last segment is never cleaned.
    tokio::time::sleep(Duration::from_millis(600)).await;
    oracle.txn_abort(&id).unwrap();
    let began = Instant::now();
    let end = loop {
        let dump = oracle.dump(bootstrap, &topic, Isolation::ReadUncommitted).unwrap();
        if dump.records.iter().map(|r| r.offset).eq([0]) {
            break dump.ranges[0].1;
        }
        assert!(began.elapsed() < PATIENCE, "the cleaner does not come: {dump:?}");
    };
    println!("a hole after {:?}", began.elapsed());
    assert_eq!(end, 5, "one record, three that are gone, a marker");
    let mut best = PATIENCE;
    for _ in 0..5 {
        let asked = Instant::now();
        let (records, ends) = read(&log, &[0]).await.unwrap();
        best = best.min(asked.elapsed());
        assert_eq!((keys(&records), ends[0].end), (vec!["w/t/a"], 5));
    }
    println!("tail of a hole: {best:?}");
    assert!(best < Duration::from_millis(400), "a fixed pause: {best:?}");
    // The same for a start offset within the hole.
    let (records, ends) = read_from(&log, &[(0, StartAt::Offset { offset: 2, leader_epoch: -1 })]).await.unwrap();
    assert_eq!((records.len(), ends[0].start, ends[0].end), (0, 2, 5));
}

/// A consumer that is dropped after a load may wait for a group coordinator that no load needs. It waits on a thread of
/// its own, if it waits.
/// Covers R20, F19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_coordinator_delays_neither_dropped_consumers_nor_other_tasks() {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };
    let mut broker = Broker::start();
    let topic = unique_topic("coordinator");
    shared_oracle().create(broker.bootstrap(), &topic, 1, 1, &COMPACTED).expect("the topic is created");
    let log = started(Settings { brokers: broker.bootstrap().to_owned(), ..settings(&topic) }).await;
    append_all(&log, (0..2_000).map(|i| record(1, &format!("w/t/{i}"), Some(&noise(1_000, i))))).await;
    let (log, done) = (Arc::new(log), Arc::new(AtomicBool::new(false)));
    // Measures how late the tasks of this runtime run.
    let watches = (0..2).map(|_| {
        let done = done.clone();
        tokio::spawn(async move {
            let mut late = Vec::new();
            while !done.load(Ordering::SeqCst) {
                let asleep = Instant::now();
                tokio::time::sleep(Duration::from_millis(5)).await;
                late.push(asleep.elapsed().saturating_sub(Duration::from_millis(5)));
            }
            late
        })
    });
    let watches: Vec<_> = watches.collect();
    // All loads have begun and are not finished when the broker, which would be the coordinator, freezes.
    let mut replays = Vec::new();
    for _ in 0..100 {
        let asked = request(&log, &[(0, StartAt::Low)], Follow::No).await;
        let mut replay = log.replay(asked).await.unwrap();
        next(&mut replay).await.unwrap().unwrap();
        replays.push(replay);
    }
    broker.pause();
    let paused = Instant::now();
    for (i, replay) in replays.into_iter().enumerate() {
        // Some callers drop their load, some read what there is.
        if i % 2 == 0 {
            drop(replay);
        } else {
            tokio::spawn(async move { drain(replay).await.map(drop) });
        }
    }
    assert!(paused.elapsed() < Duration::from_secs(1), "dropping the replays takes too long: {:?}", paused.elapsed());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let letting_go = Instant::now();
    drop(log);
    let took = letting_go.elapsed();
    done.store(true, Ordering::SeqCst);
    let mut late = Vec::new();
    for watch in watches {
        late.extend(watch.await.unwrap());
    }
    late.sort();
    let (median, p99) = (late[late.len() / 2], late[late.len() * 99 / 100]);
    println!("100 loads, {} looks: late by {median:?}, p99 {p99:?}; the log was dropped in {took:?}", late.len());
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(p99 < Duration::from_millis(100), "{p99:?}");
    broker.resume();
}
