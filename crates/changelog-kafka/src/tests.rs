//! Tests on librdkafka's mock cluster. It has no last stable offset of its own, no topic configuration, and never
//! compacts. Behaviour that depends on those is tested on a real broker.

mod replaced_producers;
mod replaced_settings;

use std::time::{Duration, Instant as StdInstant};

use bytes::Bytes;
use changelog_core::{
    log::{Follow, PartitionEnd, ReplayEvent, Selection, StartAt},
    model::{Headers, Key, Partition, Record},
};
use rdkafka::mocking::MockCluster;

use super::*;

struct MockServer {
    cluster: MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
    log: KafkaLog,
}

async fn wait_until(what: &str, time: Duration, condition: impl Fn() -> bool) {
    let started = StdInstant::now();
    while !condition() {
        assert!(started.elapsed() < time, "{what} within {time:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn mock_server(partitions: i32, change: impl FnOnce(&mut Settings)) -> MockServer {
    mock_server_with(partitions, Metrics::default(), change).await
}

async fn mock_server_with(partitions: i32, metrics: Metrics, change: impl FnOnce(&mut Settings)) -> MockServer {
    let cluster = MockCluster::new(1).expect("a mock cluster");
    cluster.create_topic("t", partitions, 1).expect("a topic");
    let mut settings = Settings::new(cluster.bootstrap_servers(), "t");
    change(&mut settings);
    let log = KafkaLog::start(settings, metrics).expect("good settings");
    let mut state = log.topic_state();
    let ready = state.wait_for(|s| matches!(s, TopicState::Ready(_)));
    let in_time = tokio::time::timeout(Duration::from_secs(20), ready).await.is_ok_and(|r| r.is_ok());
    assert!(in_time, "not ready in time: {:?}", log.topic_state().borrow());
    MockServer { cluster, log }
}

fn record(partition: i32, key: &str, value: Option<&'static [u8]>) -> NewRecord {
    NewRecord {
        partition: Partition::new(partition).unwrap(),
        key: Key::parse(key).unwrap(),
        value: value.map(Bytes::from_static),
        headers: Headers::default(),
    }
}

/// Writes `w/t/last` again and again until it is acknowledged.
async fn write_last(log: &KafkaLog, partition: i32, time: Duration) {
    let started = StdInstant::now();
    loop {
        if let Ok(pending) = log.append(record(partition, "w/t/last", Some(b"1")))
            && matches!(pending.await, Ok(Ok(_)))
        {
            break;
        }
        assert!(started.elapsed() < time, "writes go on within {time:?}");
    }
}

async fn read(log: &KafkaLog, partitions: &[i32]) -> Result<(Vec<Record>, Vec<PartitionEnd>), ReadError> {
    let topic = log.topic().await?;
    let request = ReplayRequest {
        selection: Selection::all(topic.partition_count),
        topic,
        partitions: partitions.iter().map(|p| (Partition::new(*p).unwrap(), StartAt::Low)).collect(),
        follow: Follow::No,
        owned_records: false,
        deadline: Instant::now() + Duration::from_secs(20),
    };
    let mut replay = log.replay(request).await?;
    let (mut records, mut ends) = (Vec::new(), Vec::new());
    while let Some(event) = replay.next().await {
        match event? {
            ReplayEvent::Records { records: batch, .. } => records.extend(batch),
            ReplayEvent::End(end) => ends.push(end),
            ReplayEvent::Progress { .. } => panic!("nothing follows"),
        }
    }
    Ok((records, ends))
}

/// Covers R11.
#[tokio::test(flavor = "multi_thread")]
async fn empty_values_and_tombstones_stay_distinct_and_empty_partitions_end() {
    let MockServer { log, cluster: _cluster } = mock_server(4, |_| {}).await;
    let home = log.topic().await.unwrap().partition_count.of_workspace(b"w").number();
    let mut offsets = Vec::new();
    for value in [Some(&b"1"[..]), Some(b""), None] {
        offsets.push(log.append(record(home, "w/t/a", value)).unwrap().await.unwrap().unwrap().position.offset);
    }
    assert_eq!(offsets, [0, 1, 2]);
    let (records, ends) = read(&log, &[0, 1, 2, 3]).await.unwrap();
    let values: Vec<_> = records.iter().map(|r| r.value.as_deref()).collect();
    assert_eq!(values, [Some(&b"1"[..]), Some(b""), None]);
    assert_eq!(ends.len(), 4);
    assert!(ends.iter().all(|e| e.end == if e.partition.number() == home { 3 } else { 0 }));
    let asked: Vec<_> = [home, (home + 1) % 4].map(|p| Partition::new(p).unwrap()).into();
    let found = log.ends(&asked, Instant::now() + Duration::from_secs(20)).await.unwrap().ends;
    assert_eq!(found.iter().map(|e| (e.partition, e.offset)).collect::<Vec<_>>(), [(asked[0], 3), (asked[1], 0)]);
}

/// A lagging follower reports an earlier end than the leader.
/// Covers R7.
#[tokio::test(flavor = "multi_thread")]
async fn an_end_event_of_a_lagging_follower_is_ignored() {
    let MockServer { cluster, log } = mock_server(1, |s| s.no_progress = Duration::from_secs(1)).await;
    for i in 0..10 {
        log.append(record(0, &format!("w/t/{i}"), Some(b"1"))).unwrap().await.unwrap().unwrap();
    }
    assert_eq!(read(&log, &[0]).await.unwrap().0.len(), 10);
    // The mock cluster sends readers to this follower, which has four records.
    cluster.partition_follower("t", 0, 1).unwrap();
    cluster.follower_watermarks("t", 0, Some(0), Some(4)).unwrap();
    match read(&log, &[0]).await {
        Ok((records, _)) => assert_eq!(records.len(), 10, "whole, or not called whole"),
        Err(error) => assert!(matches!(error, ReadError::Unreachable { .. } | ReadError::NoProgress { .. }), "{error}"),
    }
}

/// Covers C40, R25, F1, F2.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_broker_is_unreachable_within_five_seconds_and_no_write_is_acknowledged() {
    let MockServer { cluster, log } = mock_server(1, |s| s.write_timeout = Duration::from_secs(2)).await;
    log.append(record(0, "w/t/a", Some(b"1"))).unwrap().await.unwrap().unwrap();
    cluster.broker_down(1).unwrap();
    let pending = log.append(record(0, "w/t/b", Some(b"1"))).expect("accepted: the brokers may be back in time");
    let started = StdInstant::now();
    assert!(matches!(read(&log, &[0]).await, Err(ReadError::Unreachable { .. })));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let failed = pending.await.unwrap().unwrap_err();
    assert!(matches!(failed, WriteError::Unreachable { .. } | WriteError::OutcomeUnknown { .. }), "{failed:?}");
    cluster.broker_up(1).unwrap();
    let started = StdInstant::now();
    while read(&log, &[0]).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(20), "it recovers unaided");
    }
}

/// Covers R30, F18.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_and_loses_no_accepted_write() {
    let MockServer { cluster, log } = mock_server(1, |s| {
        s.producers = 1;
        s.write_timeout = Duration::from_secs(15);
        s.properties.push(("queue.buffering.max.messages".to_owned(), "100".to_owned()));
    })
    .await;
    log.append(record(0, "w/t/first", Some(b"1"))).unwrap().await.unwrap().unwrap();
    cluster.broker_down(1).unwrap();
    let mut accepted = Vec::new();
    let refused = loop {
        match log.append(record(0, &format!("w/t/{}", accepted.len()), Some(b"1"))) {
            Ok(pending) => accepted.push(pending),
            Err(error) => break error,
        }
        assert!(accepted.len() <= 200, "a bound holds");
    };
    assert!(matches!(refused, WriteError::QueueFull { .. }), "{refused:?}");
    cluster.broker_up(1).unwrap();
    for pending in accepted {
        pending.await.unwrap().unwrap();
    }
    assert_eq!(log.close(Instant::now() + Duration::from_secs(5)).await, 0);
    assert!(matches!(log.append(record(0, "w/t/late", None)), Err(WriteError::Draining)));
}

/// Covers C16, C50, R13, B25.
#[tokio::test(flavor = "multi_thread")]
async fn header_names_that_are_not_utf8_are_replaced_and_null_values_stay_null() {
    use rdkafka::producer::{BaseProducer, Producer};
    let MockServer { cluster, log } = mock_server(1, |_| {}).await;
    let mut config = rdkafka::ClientConfig::new();
    let producer: BaseProducer = config.set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
    ffi::produce_with_header(producer.client(), c"t", b"w/t/a", c"\xffname");
    ffi::produce_with_header(producer.client(), c"t", b"\xff\xfe", c"x");
    producer.flush(Duration::from_secs(10)).unwrap();
    let (records, ends) = read(&log, &[0]).await.unwrap();
    assert_eq!((records.len(), ends[0].counts.skipped, ends[0].counts.lossy_header_names), (1, 1, 1));
    let headers: Vec<_> = records[0].headers.iter().map(|h| (&*h.key, h.value.as_deref())).collect();
    assert_eq!(headers, [("\u{fffd}name", None), ("empty", Some(&b""[..]))]);
    assert!(records[0].is_tombstone());
    let findings = log.describe().await.findings;
    let foreign = findings.iter().find(|f| f.code == "FOREIGN_RECORDS").expect("a finding");
    assert!(foreign.message.starts_with("1 records"), "{}", foreign.message);
}

/// Covers R29, F17.
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_with_a_fatal_error_is_replaced_within_a_second_without_sending_again() {
    let metrics = Metrics::default();
    let replaced = metrics.producers_replaced.clone();
    let MockServer { cluster, log } = mock_server_with(4, metrics, |s| s.producers = 3).await;
    log.append(record(0, "w/t/a", Some(b"1"))).unwrap().await.unwrap().unwrap();
    cluster.broker_round_trip_time(1, Duration::from_millis(300)).unwrap();
    let pending: Vec<_> = (0..4).map(|p| log.append(record(p, "w/t/b", Some(b"1"))).unwrap()).collect();
    log.inner.pool.get().unwrap().inject_fatal_error();
    let started = StdInstant::now();
    while replaced.get() < 3 {
        assert!(started.elapsed() < Duration::from_secs(1), "{} of 3 producers are replaced", replaced.get());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for partition in 0..4 {
        while let Err(error) = log.append(record(partition, "w/t/c", Some(b"1"))) {
            assert!(matches!(error, WriteError::Unreachable { .. }), "{error:?}");
            assert!(started.elapsed() < Duration::from_secs(5), "{partition}: {error}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let mut written = 0;
    for pending in pending {
        match tokio::time::timeout(Duration::from_secs(5), pending).await.expect("bounded") {
            Ok(Ok(_)) => written += 1,
            Ok(Err(WriteError::Unreachable { .. } | WriteError::OutcomeUnknown { .. })) | Err(_) => {}
            Ok(Err(error)) => panic!("{error:?}"),
        }
    }
    assert_eq!(replaced.get(), 3);
    assert_eq!(log.close(Instant::now() + Duration::from_secs(5)).await, 0);
    // Most records are misplaced, so they are counted and not delivered: one a, four c, and at least the confirmed ones
    // of b.
    let (_, ends) = read(&log, &[0, 1, 2, 3]).await.unwrap();
    let there: u64 = ends.iter().map(|e| e.counts.read).sum();
    assert!((5 + written..=9).contains(&there), "{written} were confirmed, {there} are there");
}

/// A long-lived client has an old leader in its metadata after an election.
/// Covers F4.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_is_found_by_reads_and_writes() {
    let cluster = MockCluster::new(3).expect("a mock cluster");
    cluster.create_topic("t", 2, 3).expect("a topic");
    for partition in 0..2 {
        cluster.partition_leader("t", partition, Some(1)).unwrap();
    }
    let log = KafkaLog::start(Settings::new(cluster.bootstrap_servers(), "t"), Metrics::default()).unwrap();
    let mut state = log.topic_state();
    let ready = state.wait_for(|s| matches!(s, TopicState::Ready(_)));
    tokio::time::timeout(Duration::from_secs(20), ready).await.expect("ready").expect("alive");
    for round in 0..4 {
        let key = format!("w/t/{round}");
        for partition in 0..2 {
            log.append(record(partition, &key, Some(b"1"))).unwrap().await.unwrap().unwrap();
        }
        for partition in 0..2 {
            cluster.partition_leader("t", partition, Some(1 + (round + 1) % 3)).unwrap();
        }
        let started = StdInstant::now();
        let (_, ends) = read(&log, &[0, 1]).await.unwrap();
        assert!(ends.iter().all(|e| e.end == i64::from(round) + 1), "{ends:?}");
        println!("a load right after an election: {:?}", started.elapsed());
    }
}

/// librdkafka's code for a partition without a leader in one metadata response is not a code of the protocol.
/// Covers R18, F4.
#[tokio::test(flavor = "multi_thread")]
async fn a_load_waits_for_an_election() {
    let MockServer { cluster, log } = mock_server(1, |_| {}).await;
    log.append(record(0, "w/t/a", Some(b"1"))).unwrap().await.unwrap().unwrap();
    cluster.partition_leader("t", 0, None).unwrap();
    let (found, ()) = tokio::join!(read(&log, &[0]), async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        cluster.partition_leader("t", 0, Some(1)).unwrap();
    });
    assert_eq!(found.unwrap().0.len(), 1);
}

/// librdkafka sets no error on the offsets of a leader that does not answer. Three equal invalid offsets would look
/// like an empty partition, and the other brokers still describe the topic.
/// Covers C43.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_leader_does_not_answer_is_not_empty() {
    let cluster = MockCluster::new(3).expect("a mock cluster");
    cluster.create_topic("t", 1, 3).expect("a topic");
    cluster.partition_leader("t", 0, Some(2)).unwrap();
    let log = KafkaLog::start(Settings::new(cluster.bootstrap_servers(), "t"), Metrics::default()).unwrap();
    let mut state = log.topic_state();
    let ready = state.wait_for(|s| matches!(s, TopicState::Ready(_)));
    tokio::time::timeout(Duration::from_secs(20), ready).await.expect("ready").expect("alive");
    log.append(record(0, "w/t/a", Some(b"1"))).unwrap().await.unwrap().unwrap();
    assert_eq!(read(&log, &[0]).await.unwrap().0.len(), 1);
    cluster.broker_round_trip_time(2, Duration::from_secs(30)).unwrap();
    let partitions = [Partition::new(0).unwrap()];
    let offset_client = log.inner.offset_client.clone();
    let listed = tokio::task::spawn_blocking(move || {
        offset_client.list(&partitions, StdInstant::now() + Duration::from_secs(3)).map(|t| t.offsets)
    });
    let listed = listed.await.unwrap();
    assert!(matches!(listed, Err(ReadError::Unreachable { .. })), "{listed:?}");
    let found = read(&log, &[0]).await;
    assert!(matches!(found, Err(ReadError::Unreachable { .. })), "{found:?}");
}

/// Both directions of a fatal error. A record that was sent may be in the log, even if its answer never comes. A record
/// that was queued is not in the log.
/// Covers C54, C55, R29, F17.
#[tokio::test(flavor = "multi_thread")]
async fn at_a_fatal_error_writes_in_flight_are_unknown_and_queued_ones_not_written() {
    let metrics = Metrics::default();
    let replaced = metrics.producers_replaced.clone();
    let MockServer { cluster, log } = mock_server_with(1, metrics, |s| s.producers = 1).await;
    log.append(record(0, "w/t/first", Some(b"1"))).unwrap().await.unwrap().unwrap();
    // Nothing is known of the leader for long once the broker is slow, and then queued writes are unknown, too.
    log.inner.watcher.fetch(StdInstant::now()).await.unwrap();
    // The mock broker appends at once. Its answers come after the old producer is purged.
    cluster.broker_round_trip_time(1, Duration::from_secs(8)).unwrap();
    let mut pending = Vec::new();
    for i in 0..30 {
        // Each write has a request of its own, until five are in flight. The rest is queued.
        pending.push((format!("w/t/{i}"), log.append(record(0, &format!("w/t/{i}"), Some(b"1"))).unwrap()));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(replaced.get(), 0);
    let pool = log.inner.pool.get().unwrap();
    wait_until("all are submitted", Duration::from_secs(5), || pool.has_submitted_all()).await;
    pool.inject_fatal_error();
    let (mut unknown, mut not_written) = (Vec::new(), Vec::new());
    for (key, pending) in pending {
        match tokio::time::timeout(Duration::from_secs(5), pending).await.expect("bounded").expect("answered") {
            Err(WriteError::OutcomeUnknown { .. }) => unknown.push(key),
            Err(WriteError::Unreachable { .. }) => not_written.push(key),
            other => panic!("{key}: {other:?}"),
        }
    }
    println!("{} in flight, {} queued", unknown.len(), not_written.len());
    assert!(!unknown.is_empty() && !not_written.is_empty(), "{} {}", unknown.len(), not_written.len());
    assert_eq!(replaced.get(), 1);
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    // The connection of the new producer gets slow answers too.
    write_last(&log, 0, Duration::from_secs(60)).await;
    let (records, _) = read(&log, &[0]).await.unwrap();
    let there: std::collections::HashSet<_> =
        records.iter().map(|r| String::from_utf8(r.key.to_vec()).unwrap()).collect();
    assert!(there.contains("w/t/last") && there.contains("w/t/first"));
    for key in &not_written {
        assert!(!there.contains(key), "{key} was said not to be written");
    }
    assert!(unknown.iter().any(|key| there.contains(key)), "what is not known may be there: {unknown:?}");
}

/// The answer is lost and the write times out, but the record is in the log.
/// Covers C54, C55, R28.
#[tokio::test(flavor = "multi_thread")]
async fn a_timed_out_write_is_unknown_if_it_was_sent_and_not_written_otherwise() {
    let MockServer { cluster, log } = mock_server(1, |s| s.write_timeout = Duration::from_secs(2)).await;
    log.append(record(0, "w/t/first", Some(b"1"))).unwrap().await.unwrap().unwrap();
    cluster.broker_round_trip_time(1, Duration::from_secs(20)).unwrap();
    let sent = log.append(record(0, "w/t/sent", Some(b"1"))).unwrap().await.unwrap().unwrap_err();
    assert!(matches!(sent, WriteError::OutcomeUnknown { by_time: true, .. }), "{sent:?}");
    let MockServer { cluster: gone, log: other } = mock_server(1, |s| s.write_timeout = Duration::from_secs(2)).await;
    other.append(record(0, "w/t/first", Some(b"1"))).unwrap().await.unwrap().unwrap();
    gone.broker_down(1).unwrap();
    // Wait until the lost connection is noticed, so that nothing is sent into it.
    let mut state = other.topic_state();
    let lost = state.wait_for(|s| matches!(s, TopicState::Unreachable { .. }));
    tokio::time::timeout(Duration::from_secs(20), lost).await.expect("noticed").expect("alive");
    let unsent = other.append(record(0, "w/t/unsent", Some(b"1"))).unwrap().await.unwrap().unwrap_err();
    assert!(matches!(unsent, WriteError::Unreachable { .. }), "{unsent:?}");
    cluster.broker_round_trip_time(1, Duration::ZERO).unwrap();
    let started = StdInstant::now();
    loop {
        match read(&log, &[0]).await {
            Ok((records, _)) => break assert!(records.iter().any(|r| &r.key[..] == b"w/t/sent"), "it is in the log"),
            Err(error) => assert!(started.elapsed() < Duration::from_secs(60), "{error}"),
        }
    }
}

/// A partition always has the same producer, so its order is kept.
/// Covers C45, R26, R27.
#[tokio::test(flavor = "multi_thread")]
async fn the_last_write_sent_for_each_key_is_the_one_read() {
    let MockServer { log, cluster: _cluster } = mock_server(8, |s| s.producers = 3).await;
    let count = log.topic().await.unwrap().partition_count;
    let mut pending = Vec::new();
    let mut offsets = std::collections::BTreeMap::<i32, i64>::new();
    for round in 0..200 {
        for key in 0..20 {
            let key = Key::parse(&format!("w{key}/t/a")).unwrap();
            let partition = count.of_workspace(key.workspace_bytes());
            let value = Some(Bytes::from(format!("{round}")));
            let new = NewRecord { partition, key, value, headers: Headers::default() };
            pending.push((partition.number(), log.append(new).unwrap()));
        }
    }
    for (partition, pending) in pending {
        let offset = pending.await.unwrap().unwrap().position.offset;
        assert!(offsets.insert(partition, offset).is_none_or(|before| before < offset), "in the order of sending");
    }
    let (records, _) = read(&log, &count.all().map(Partition::number).collect::<Vec<_>>()).await.unwrap();
    let last: std::collections::BTreeMap<_, _> = records.iter().map(|r| (&r.key, r.value.as_deref())).collect();
    assert!(last.len() == 20 && last.values().all(|v| *v == Some(b"199")), "{last:?}");
}

/// A demoted leader returns NOT_LEADER also for records that it has appended, so the outcome is not known.
/// Covers C55, R28.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_times_out_after_an_election_is_unknown() {
    let cluster = MockCluster::new(3).expect("a mock cluster");
    cluster.create_topic("t", 1, 3).expect("a topic");
    cluster.partition_leader("t", 0, Some(1)).unwrap();
    let settings = Settings::new(cluster.bootstrap_servers(), "t");
    let log =
        KafkaLog::start(Settings { write_timeout: Duration::from_secs(6), ..settings }, Metrics::default()).unwrap();
    let mut state = log.topic_state();
    let ready = state.wait_for(|s| matches!(s, TopicState::Ready(_)));
    tokio::time::timeout(Duration::from_secs(20), ready).await.expect("ready").expect("alive");
    log.append(record(0, "w/t/a", Some(b"1"))).unwrap().await.unwrap().unwrap();
    cluster.broker_down(1).unwrap();
    cluster.broker_down(2).unwrap();
    let pending = log.append(record(0, "w/t/b", Some(b"1"))).unwrap();
    cluster.partition_leader("t", 0, Some(2)).unwrap();
    let failed = pending.await.unwrap().unwrap_err();
    assert!(matches!(failed, WriteError::OutcomeUnknown { by_time: true, .. }), "{failed:?}");
}
