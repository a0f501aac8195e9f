//! The Kafka log itself, without gRPC, against a real broker: what librdkafka's mock cluster cannot show. It has no last
//! stable offset below the high watermark, no markers, no topic ids, and never compacts.

use std::time::{Duration, Instant};

use bytes::Bytes;
use changelogd::{
    kafka::{KafkaLog, Settings},
    log::{
        Log, NewRecord, PartitionEnd, ReadError, Replay, ReplayEvent, ReplayRequest, Selection, StartAt, TopicProblem,
        TopicState, WriteError,
    },
    model::{Header, Headers, Key, Partition, PartitionCount, Record},
};
use tokio::time::timeout;

use crate::{
    kafka::{Broker, shared_broker, shared_oracle, unique_topic},
    worlds::COMPACTED,
};

/// A test that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn created(partitions: i32, more: &[(&str, &str)]) -> String {
    let topic = unique_topic("log");
    let configs = [&COMPACTED[..], more].concat();
    shared_oracle().create(shared_broker().bootstrap(), &topic, partitions, 1, &configs).expect("the topic is created");
    topic
}

fn settings(topic: &str) -> Settings {
    Settings { open_transaction_wait: Duration::from_millis(500), ..Settings::new(shared_broker().bootstrap(), topic) }
}

async fn started(settings: Settings) -> KafkaLog {
    let log = KafkaLog::start(settings).expect("good settings");
    let mut state = log.topic_state();
    let ready = timeout(PATIENCE, state.wait_for(|s| matches!(s, TopicState::Ready(_)))).await;
    assert!(ready.is_ok_and(|r| r.is_ok()), "never ready: {:?}", log.topic_state().borrow());
    log
}

async fn on(partitions: i32) -> (String, KafkaLog) {
    let topic = created(partitions, &[]);
    let log = started(settings(&topic)).await;
    (topic, log)
}

fn partition(number: i32) -> Partition {
    Partition::new(number).expect("a partition")
}

fn record(count: i32, key: &str, value: Option<&[u8]>) -> NewRecord {
    let key = Key::parse(key).expect("a key");
    NewRecord {
        partition: PartitionCount::new(count.into()).expect("a count").of_workspace(key.workspace_bytes()),
        key,
        value: value.map(Bytes::copy_from_slice),
        headers: Headers::default(),
    }
}

async fn append(log: &KafkaLog, record: NewRecord) -> i64 {
    log.append(record).expect("accepted").await.expect("answered").expect("written").offset
}

/// Without waiting for each; the queue's pushing back is waited out.
async fn append_all(log: &KafkaLog, records: impl Iterator<Item = NewRecord>) {
    let mut pending = Vec::new();
    for record in records {
        loop {
            match log.append(record.clone()) {
                Ok(one) => break pending.push(one),
                Err(WriteError::QueueFull { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        }
    }
    for one in pending {
        one.await.expect("answered").expect("written");
    }
}

async fn request(log: &KafkaLog, starts: &[(i32, StartAt)], follow: bool) -> ReplayRequest {
    let topic = log.topic().await.expect("a topic");
    ReplayRequest {
        selection: Selection::all(topic.partition_count),
        topic,
        partitions: starts.iter().map(|(p, s)| (partition(*p), *s)).collect(),
        follow,
        deadline: tokio::time::Instant::now() + PATIENCE,
    }
}

async fn next(replay: &mut Replay) -> Option<Result<ReplayEvent, ReadError>> {
    timeout(PATIENCE, replay.next()).await.expect("a replay says something in time")
}

async fn drain(mut replay: Replay) -> Result<(Vec<Record>, Vec<PartitionEnd>), ReadError> {
    let (mut records, mut ends) = (Vec::new(), Vec::new());
    while let Some(event) = next(&mut replay).await {
        match event? {
            ReplayEvent::Records { records: batch, .. } => records.extend(batch),
            ReplayEvent::End(end) => ends.push(end),
            ReplayEvent::Progress { .. } => panic!("nothing follows"),
        }
    }
    Ok((records, ends))
}

async fn read_from(log: &KafkaLog, starts: &[(i32, StartAt)]) -> Result<(Vec<Record>, Vec<PartitionEnd>), ReadError> {
    let request = request(log, starts, false).await;
    drain(log.replay(request).await?).await
}

async fn read(log: &KafkaLog, partitions: &[i32]) -> Result<(Vec<Record>, Vec<PartitionEnd>), ReadError> {
    let starts: Vec<_> = partitions.iter().map(|p| (*p, StartAt::Low)).collect();
    read_from(log, &starts).await
}

/// Bytes that no compression makes smaller.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed + 1);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// More than a consumer reads ahead: 6,000 records of 10 kB, in the partition of workspace `w`.
async fn fill(log: &KafkaLog, count: i32) {
    append_all(log, (0..6_000).map(|i| record(count, &format!("w/t/{i}"), Some(&noise(10_000, i))))).await;
}

fn keys(records: &[Record]) -> Vec<&str> {
    records.iter().map(|r| std::str::from_utf8(&r.key).expect("a key")).collect()
}

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
    // A transaction that ends while the replay waits is waited for.
    let patient = started(Settings { open_transaction_wait: Duration::from_secs(10), ..settings(&topic) }).await;
    let waiting = tokio::spawn(async move { read(&patient, &[0]).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    oracle.txn_commit(&id).unwrap();
    let (records, ends) = waiting.await.unwrap().unwrap();
    assert_eq!(keys(&records).len(), 7);
    // At the high watermark that was found, or behind the commit's marker if the end had to be taken again.
    assert!((7..=8).contains(&ends[0].end), "{ends:?}");
    let (records, ends) = read(&log, &[0]).await.unwrap();
    assert_eq!((records.len(), records[6].offset, ends[0].end), (7, 6, 8), "the tail is a marker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tails_that_no_reader_is_given_end_a_replay_at_once() {
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
    // Nothing but what is never delivered: from the first of it to the end.
    let (records, ends) = read_from(&log, &[(0, StartAt::Offset { offset: 4, leader_epoch: -1 })]).await.unwrap();
    assert_eq!((records.len(), ends[0].start, ends[0].end), (0, 4, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn empty_partitions_among_full_ones_end_and_64_of_them_in_no_time() {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_values_tombstones_and_headers_are_what_java_reads_and_writes() {
    let (topic, log) = on(1).await;
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    let headers = |list: &[(&str, Option<&[u8]>)]| -> Vec<Header> {
        let header =
            |(k, v): &(&str, Option<&[u8]>)| Header { key: (*k).to_owned(), value: v.map(Bytes::copy_from_slice) };
        list.iter().map(header).collect()
    };
    let list: [(&str, Option<&[u8]>); 4] =
        [("a", Some(b"1")), ("null", None), ("empty", Some(b"")), ("a", Some(b"\xff"))];
    let mut first = record(1, "w/t/ü", Some(b""));
    first.headers = Headers::new(headers(&list)).unwrap();
    append(&log, first).await;
    append(&log, record(1, "w/t/ü", None)).await;
    let produced = oracle.produce(bootstrap, &topic, Some(0), Some(b"w/t/java"), Some(b"x"), &list).unwrap();
    let dump = oracle.dump(bootstrap, &topic, crate::kafka::Isolation::ReadCommitted).unwrap();
    let (records, ends) = read(&log, &[0]).await.unwrap();
    assert_eq!(records.len(), 3);
    for (ours, java) in records.iter().zip(&dump.records) {
        assert_eq!(Some(&ours.key[..]), java.key.as_deref());
        assert_eq!(ours.value.as_deref(), java.value.as_deref());
        assert_eq!((ours.offset, ours.timestamp), (java.offset, Some(java.timestamp)));
        let java: Vec<_> = java.headers.iter().map(|(k, v)| (&**k, v.as_deref())).collect();
        assert_eq!(ours.headers, headers(&java));
    }
    assert_eq!(records[0].value.as_deref(), Some(&b""[..]));
    assert!(records[1].is_tombstone());
    assert_eq!(records[2].headers, headers(&list));
    assert_eq!(records[2].timestamp, Some(produced.timestamp));
    assert!(ends[0].leader_epoch >= 0, "{ends:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_is_said_within_a_second_and_served_when_it_is_there() {
    let topic = unique_topic("missing");
    let log = KafkaLog::start(settings(&topic)).unwrap();
    let asked = Instant::now();
    let error = log.topic().await.unwrap_err();
    println!("missing topic, cold client: {:?}", asked.elapsed());
    assert_eq!(error, ReadError::Topic(TopicProblem::NotFound { topic: topic.clone() }));
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert!(matches!(log.append(record(1, "w/t/a", None)), Err(WriteError::Topic(TopicProblem::NotFound { .. }))));
    shared_oracle().create(shared_broker().bootstrap(), &topic, 1, 1, &COMPACTED).unwrap();
    let mut state = log.topic_state();
    timeout(Duration::from_secs(5), state.wait_for(|s| matches!(s, TopicState::Ready(_)))).await.unwrap().unwrap();
    append(&log, record(1, "w/t/a", None)).await;
}

/// Until the end, then what ends it.
async fn followed_until_it_fails(mut replay: Replay) -> ReadError {
    loop {
        match next(&mut replay).await.expect("a replay that follows does not end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_of_the_topic_ends_a_replay_that_follows() {
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    for what in ["deleted", "recreated", "grown"] {
        let (topic, log) = on(2).await;
        append(&log, record(2, "w/t/a", Some(b"1"))).await;
        let asked = request(&log, &[(0, StartAt::Low), (1, StartAt::Low)], true).await;
        let replay = log.replay(asked.clone()).await.unwrap();
        match what {
            "grown" => oracle.add_partitions(bootstrap, &topic, 3).unwrap(),
            _ => oracle.delete(bootstrap, &topic).unwrap(),
        }
        if what == "recreated" {
            oracle.create(bootstrap, &topic, 2, 1, &COMPACTED).unwrap();
        }
        let changed = Instant::now();
        let error = followed_until_it_fails(replay).await;
        println!("{what}: a following replay ended after {:?}: {error}", changed.elapsed());
        // A reader can meet the new topic's shorter log before the watch does: start again, and be told.
        let honest =
            matches!(error, ReadError::Topic(_)) || what == "recreated" && matches!(error, ReadError::Truncated { .. });
        assert!(honest, "{what}: {error}");
        assert!(changed.elapsed() < Duration::from_secs(8), "{what}: {:?}", changed.elapsed());
        // The watch may have looked while it was gone, or between two answers.
        let expected = |problem: &TopicProblem| match what {
            "deleted" => matches!(problem, TopicProblem::NotFound { .. }),
            "recreated" => matches!(problem, TopicProblem::Recreated { .. }),
            _ => matches!(problem, TopicProblem::PartitionCountChanged { expected: 2, actual: 3, final_: true, .. }),
        };
        let seen = loop {
            match log.topic().await {
                Err(ReadError::Topic(problem)) if expected(&problem) => break problem,
                other => assert!(changed.elapsed() < PATIENCE, "{what}: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        println!("{what}: {seen}");
        assert!(matches!(log.append(record(2, "w/t/b", None)), Err(WriteError::Topic(_))), "{what}");
        assert!(matches!(log.replay(asked).await, Err(ReadError::Topic(_))), "{what}");
    }
}

/// A reader that stalls while the topic goes: said within a second or so, not at the no-progress deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_under_a_load_is_said_at_once() {
    let (topic, log) = on(1).await;
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    fill(&log, 1).await;
    let asked = request(&log, &[(0, StartAt::Low)], false).await;
    let mut replay = log.replay(asked).await.unwrap();
    next(&mut replay).await.unwrap().unwrap();
    oracle.delete(bootstrap, &topic).unwrap();
    let deleted = Instant::now();
    let error = drain(replay).await.unwrap_err();
    println!("deleted under a load: {:?} later: {error}", deleted.elapsed());
    assert!(matches!(error, ReadError::Topic(TopicProblem::NotFound { .. })), "{error}");
    assert!(deleted.elapsed() < Duration::from_secs(8), "{:?}", deleted.elapsed());
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_go_while_they_are_to_be_read_are_no_silent_gap() {
    let (topic, log) = on(1).await;
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    fill(&log, 1).await;
    let asked = request(&log, &[(0, StartAt::Low)], false).await;
    let mut replay = log.replay(asked).await.unwrap();
    next(&mut replay).await.unwrap().unwrap();
    oracle.config(bootstrap, &topic, &[("cleanup.policy", "delete")]).unwrap();
    assert_eq!(oracle.delete_records(bootstrap, &topic, 0, 5_990).unwrap(), 5_990);
    let error = drain(replay).await.unwrap_err();
    println!("{error}");
    assert!(matches!(error, ReadError::Truncated { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_following_replay_delivers_says_that_it_is_at_the_end_and_stops_on_close() {
    let (_, log) = on(2).await;
    append(&log, record(2, "w/t/a", Some(b"1"))).await;
    let asked = request(&log, &[(0, StartAt::Low), (1, StartAt::Low)], true).await;
    let mut replay = log.replay(asked).await.unwrap();
    let (mut ends, mut records) = (0, 0);
    while ends < 2 {
        match next(&mut replay).await.unwrap().unwrap() {
            ReplayEvent::End(_) => ends += 1,
            ReplayEvent::Records { records: batch, .. } => records += batch.len(),
            ReplayEvent::Progress { .. } => {}
        }
    }
    assert_eq!(records, 1);
    append(&log, record(2, "w/t/a", None)).await;
    let written = Instant::now();
    loop {
        if let ReplayEvent::Records { records, .. } = next(&mut replay).await.unwrap().unwrap() {
            assert!(records[0].is_tombstone());
            break;
        }
    }
    println!("followed after {:?}", written.elapsed());
    assert!(written.elapsed() < Duration::from_secs(5), "{:?}", written.elapsed());
    let mut at_end = [false; 2];
    while at_end != [true; 2] {
        if let ReplayEvent::Progress { partition, at_end: Some(_), .. } = next(&mut replay).await.unwrap().unwrap() {
            at_end[partition.index()] = true;
        }
    }
    assert_eq!(log.close(tokio::time::Instant::now() + Duration::from_secs(5)).await, 0);
    assert_eq!(followed_until_it_fails(replay).await, ReadError::Draining);
    assert!(matches!(log.append(record(2, "w/t/b", None)), Err(WriteError::Draining)));
}

/// Progress is owed for a partition from its end on, also while another is still far from its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_at_its_end_has_progress_while_another_is_read() {
    let (_, log) = on(2).await;
    fill(&log, 2).await;
    let full = record(2, "w/t/a", None).partition;
    let asked = request(&log, &[(0, StartAt::Low), (1, StartAt::Low)], true).await;
    let mut replay = log.replay(asked).await.unwrap();
    let began = Instant::now();
    let mut progress = 0;
    loop {
        match next(&mut replay).await.unwrap().unwrap() {
            ReplayEvent::End(end) if end.partition == full => break,
            ReplayEvent::Progress { partition, .. } => {
                assert!(partition != full, "not before its end");
                progress += 1;
            }
            // A slow reader: some 12 seconds for it all.
            ReplayEvent::Records { .. } => tokio::time::sleep(Duration::from_millis(50)).await,
            ReplayEvent::End(_) => {}
        }
    }
    println!("read for {:?}, {progress} progress", began.elapsed());
    assert!(u128::from(began.elapsed().as_secs() / 6) <= progress, "{progress} in {:?}", began.elapsed());
}

/// A reader that neither reads nor goes away must not hold the replay beyond its deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_deadline_holds_also_for_a_reader_that_stalls() {
    let (_, log) = on(1).await;
    fill(&log, 1).await;
    let mut asked = request(&log, &[(0, StartAt::Low)], false).await;
    asked.deadline = tokio::time::Instant::now() + Duration::from_secs(2);
    let replay = log.replay(asked).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let error = drain(replay).await.unwrap_err();
    let ReadError::Deadline { position, end, .. } = error else { panic!("{error}") };
    assert!(position < end, "{position} of {end}");
}

/// A broker that is frozen keeps its connections and says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_is_unreachable_within_seconds_and_nothing_is_whole_that_is_not() {
    let mut broker = Broker::start();
    let topic = unique_topic("frozen");
    shared_oracle().create(broker.bootstrap(), &topic, 1, 1, &COMPACTED).expect("the topic is created");
    let change =
        Settings { no_progress: Duration::from_secs(2), write_timeout: Duration::from_secs(3), ..settings(&topic) };
    let log = started(Settings { brokers: broker.bootstrap().to_owned(), ..change }).await;
    fill(&log, 1).await;
    let asked = request(&log, &[(0, StartAt::Low)], false).await;
    let mut under_way = log.replay(asked).await.unwrap();
    next(&mut under_way).await.unwrap().unwrap();
    let asked = request(&log, &[(0, StartAt::Low)], false).await;
    broker.pause();
    let paused = Instant::now();
    // The topic was seen a moment ago, and it is the leader who does not say where its log begins and ends.
    let begun = match log.replay(asked).await {
        Ok(replay) => drain(replay).await.map(|(records, ends)| (records.len(), ends)),
        Err(error) => Err(error),
    };
    assert!(matches!(begun, Err(ReadError::Unreachable { .. })), "not an empty partition: {begun:?}");
    assert!(paused.elapsed() < Duration::from_secs(5), "{:?}", paused.elapsed());
    let error = drain(under_way).await.unwrap_err();
    println!("frozen under a load: {:?} later: {error}", paused.elapsed());
    assert!(matches!(error, ReadError::Unreachable { .. }), "{error}");
    assert!(paused.elapsed() < Duration::from_secs(8), "{:?}", paused.elapsed());
    let paused = Instant::now();
    let error = log.topic().await.unwrap_err();
    println!("frozen before a load: {:?}: {error}", paused.elapsed());
    assert!(matches!(error, ReadError::Unreachable { .. }), "{error}");
    assert!(paused.elapsed() < Duration::from_secs(5), "{:?}", paused.elapsed());
    // Seen before, so the write may yet be delivered; its record may lie in a buffer of the broker's.
    let failed = log.append(record(1, "w/t/frozen", Some(b"1"))).unwrap().await.unwrap().unwrap_err();
    println!("written to a frozen broker: {failed:?}");
    assert!(matches!(failed, WriteError::OutcomeUnknown { .. } | WriteError::Unreachable { .. }), "{failed:?}");
    broker.resume();
    let mut state = log.topic_state();
    timeout(PATIENCE, state.wait_for(|s| matches!(s, TopicState::Ready(_)))).await.unwrap().unwrap();
    let (records, _) = read(&log, &[0]).await.unwrap();
    assert!((6_000..=6_001).contains(&records.len()), "{}", records.len());
    append(&log, record(1, "w/t/thawed", Some(b"1"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_and_misplaced_records_that_replays_meet_are_findings() {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_ensured_once_changed_only_if_told_and_described() {
    use changelogd::kafka::admin::{self, TopicSpec};
    let topic = unique_topic("ensured");
    let settings = settings(&topic);
    assert!(matches!(admin::describe(&settings).await, Err(admin::AdminError::NotFound(_))));
    let spec = TopicSpec::new(PartitionCount::new(3));
    let report = admin::ensure(&settings, &spec).await.unwrap();
    assert!(report.created && report.notes.iter().any(|n| n.contains("replication factor is 1")), "{report:?}");
    let report = admin::ensure(&settings, &spec).await.unwrap();
    assert!(!report.created && !report.altered && report.notes.is_empty(), "{report:?}");
    let spec = TopicSpec { delete_retention: Some(Duration::from_secs(7_200)), ..spec };
    let report = admin::ensure(&settings, &spec).await.unwrap();
    assert!(!report.altered && report.notes.iter().any(|n| n.contains("delete.retention.ms")), "{report:?}");
    let report = admin::ensure(&settings, &TopicSpec { alter: true, ..spec.clone() }).await.unwrap();
    assert!(report.altered, "{report:?}");
    let java = shared_oracle().describe(shared_broker().bootstrap(), &topic).unwrap();
    for (name, value) in [
        ("cleanup.policy", "compact"),
        ("compression.type", "snappy"),
        ("min.compaction.lag.ms", "60000"),
        ("delete.retention.ms", "7200000"),
    ] {
        assert_eq!(java.configs.get(name).map(String::as_str), Some(value), "{name}");
    }
    let other = TopicSpec { partitions: 5, alter: true, ..spec };
    assert!(matches!(admin::ensure(&settings, &other).await, Err(admin::AdminError::PartitionCount { actual: 3, .. })));
    let log = started(settings.clone()).await;
    append(&log, record(3, "w/t/a", Some(b"1"))).await;
    let report = admin::describe(&settings).await.unwrap();
    assert_eq!((report.id, report.partitions.len()), (java.id, 3));
    assert_eq!(report.partitions.iter().map(|p| p.high_offset.unwrap()).sum::<i64>(), 1);
}

/// Compaction takes what is below a replay's end when a later record of its key came above it: a key must not be missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_the_cleaner_takes_from_under_a_slow_replay_are_in_it_all_the_same() {
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
    // The slow reader's end is here, and it has not come as far as the keys.
    let asked = request(&log, &[(0, StartAt::Low)], false).await;
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

/// Each load begins after a write's answer, and under the writes of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_under_writes_contains_what_was_acknowledged_and_waits_for_nothing() {
    let (_, log) = on(1).await;
    let log = std::sync::Arc::new(log);
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (others, stop) = (log.clone(), done.clone());
    let writer = tokio::spawn(async move {
        let mut written = 0;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            append_all(&others, (0..20).map(|i| record(1, &format!("w/t/other-{i}"), Some(b"1")))).await;
            written += 20;
        }
        written
    });
    let mut times = Vec::new();
    for round in 0..100 {
        let offset = append(&log, record(1, "w/t/mine", Some(format!("{round}").as_bytes()))).await;
        let asked = Instant::now();
        // From a little below, so that what others wrote in all this time is not part of the measure.
        let start = StartAt::Offset { offset: (offset - 50).max(0), leader_epoch: -1 };
        let (records, ends) = read_from(&log, &[(0, start)]).await.unwrap();
        times.push(asked.elapsed());
        assert!(records.iter().any(|r| r.offset == offset), "{offset} is not below {}", ends[0].end);
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    times.sort();
    println!("{} written by others; loads: median {:?}, worst {:?}", writer.await.unwrap(), times[50], times[99]);
    assert!(times[50] < Duration::from_millis(100), "{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_load_takes() {
    let (_, log) = on(2).await;
    let noise = noise(200_190, 0);
    let value = |i: usize| &noise[i..i + 190];
    let full = record(2, "w/t/a", None).partition.number();
    append_all(&log, (0..1_800).map(|i| record(2, &format!("w/entity/{i:06}"), Some(value(i))))).await;
    let mut times = Vec::new();
    for _ in 0..30 {
        let asked = Instant::now();
        let (records, _) = read(&log, &[full]).await.unwrap();
        times.push(asked.elapsed());
        assert_eq!(records.len(), 1_800);
    }
    times.sort();
    println!("load of 1,800 records: best {:?}, median {:?}, worst {:?}", times[0], times[15], times[29]);
    let mut times = Vec::new();
    for i in 0..200 {
        let asked = Instant::now();
        append(&log, record(2, &format!("w/awaited/{i}"), Some(value(i)))).await;
        times.push(asked.elapsed());
    }
    times.sort();
    println!("awaited append: best {:?}, median {:?}, worst {:?}", times[0], times[100], times[199]);
    let asked = Instant::now();
    append_all(&log, (0..200_000).map(|i| record(2, &format!("w/entity/{i:06}"), Some(value(i))))).await;
    println!("append of 200,000 records: {:?}", asked.elapsed());
    let mut times = Vec::new();
    for _ in 0..7 {
        let asked = Instant::now();
        let (records, _) = read(&log, &[full]).await.unwrap();
        times.push(asked.elapsed());
        assert_eq!(records.len(), 202_000);
    }
    times.sort();
    println!("load of 202,000 records: best {:?}, median {:?}, worst {:?}", times[0], times[3], times[6]);
}
