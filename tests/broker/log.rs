//! The Kafka log itself, without gRPC, against a real broker.

use std::time::{Duration, Instant};

use bytes::Bytes;
use changelog_core::{
    log::{Follow, Log, ReadError, ReplayEvent, StartAt, WriteError},
    model::{Header, Headers, PartitionCount},
};
use changelogd_testkit::{Isolation, shared_broker, shared_oracle, unique_topic};

use crate::kit::*;

/// Covers C11, C16, C47, R11, R27.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_values_tombstones_and_headers_match_kafkas_java_client() {
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
    let dump = oracle.dump(bootstrap, &topic, Isolation::ReadCommitted).unwrap();
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

/// Covers R1, R15, R16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_are_high_watermarks_with_the_leader_epoch_and_a_changed_topic_is_not_confirmed() {
    let (topic, log) = on(2).await;
    let (oracle, bootstrap, id) = (shared_oracle(), shared_broker().bootstrap(), unique_topic("txn"));
    let home = record(2, "w/t/a", None).partition;
    append(&log, record(2, "w/t/a", Some(b"1"))).await;
    // The last stable offset stays below the high watermark.
    oracle.txn_begin(bootstrap, &id).unwrap();
    oracle.txn_send(&id, &topic, home.number(), Some(b"w/t/inside"), Some(b"1")).unwrap();
    append(&log, record(2, "w/t/after", Some(b"1"))).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let ends = log.ends(&[partition(0), partition(1)], deadline).await.unwrap().ends;
    let found: Vec<_> = ends.iter().map(|end| (end.partition, end.offset)).collect();
    let expected = |number| if home == partition(number) { 3 } else { 0 };
    assert_eq!(found, [(partition(0), expected(0)), (partition(1), expected(1))]);
    assert!(ends.iter().all(|end| end.leader_epoch >= 0), "{ends:?}");
    oracle.txn_abort(&id).unwrap();
    let error = log.ends(&[partition(7)], deadline).await.unwrap_err();
    assert!(matches!(error, ReadError::Topic(_) | ReadError::Unreachable { .. }), "{error}");

    assert_eq!(log.confirm().await.unwrap(), log.topic().await.unwrap());
    oracle.add_partitions(bootstrap, &topic, 3).unwrap();
    // Each answer is asked for after the call began, so the first that comes after the change has it.
    let changed = Instant::now();
    while log.confirm().await.is_ok() {
        assert!(changed.elapsed() < PATIENCE, "the brokers do not tell it");
    }
}

/// Covers C29, R32.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_following_replay_delivers_records_reports_its_end_and_stops_on_close() {
    let (_, log) = on(2).await;
    append(&log, record(2, "w/t/a", Some(b"1"))).await;
    let asked = request(&log, &[(0, StartAt::Low), (1, StartAt::Low)], Follow::AfterEnds).await;
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

/// A partition reports progress from its end on, also while another one is far from its own end.
/// Covers C30.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_at_its_end_reports_progress_while_another_is_read() {
    let (_, log) = on(2).await;
    fill(&log, 2).await;
    let full = record(2, "w/t/a", None).partition;
    let asked = request(&log, &[(0, StartAt::Low), (1, StartAt::Low)], Follow::AfterEnds).await;
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
            // A slow reader, which takes about 12 seconds for everything.
            ReplayEvent::Records { .. } => tokio::time::sleep(Duration::from_millis(50)).await,
            ReplayEvent::End(_) => {}
        }
    }
    println!("read for {:?}, {progress} progress", began.elapsed());
    assert!(u128::from(began.elapsed().as_secs() / 6) <= progress, "{progress} in {:?}", began.elapsed());
}

/// Covers C66, K10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_ensured_once_and_changed_only_on_demand() {
    use changelog_kafka::admin::{self, TopicSpec};
    let topic = unique_topic("ensured");
    let settings = settings(&topic);
    assert!(matches!(admin::describe(&settings).await, Err(admin::AdminError::NotFound(_))));
    let spec = TopicSpec::new(PartitionCount::new(3));
    let report = admin::ensure(&settings, &spec).await.unwrap();
    assert!(report.created && report.notes.iter().any(|n| n.contains("replication factor is 1")), "{report:?}");
    let report = admin::ensure(&settings, &spec).await.unwrap();
    assert!(!report.created && !report.altered && report.notes.is_empty(), "{report:?}");
    let configs = [("delete.retention.ms".to_owned(), "7200000".to_owned())].into();
    let spec = TopicSpec { configs, ..spec };
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

/// Far more records than the producer's queue and librdkafka's batches hold. Benchmarks measure the times.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_200_000_appends_are_read() {
    let (_, log) = on(2).await;
    let noise = noise(200_190, 0);
    let value = |i: usize| &noise[i..i + 190];
    let full = record(2, "w/t/a", None).partition.number();
    append_all(&log, (0..1_800).map(|i| record(2, &format!("w/entity/{i:06}"), Some(value(i))))).await;
    for _ in 0..30 {
        assert_eq!(read(&log, &[full]).await.unwrap().0.len(), 1_800);
    }
    for i in 0..200 {
        append(&log, record(2, &format!("w/awaited/{i}"), Some(value(i)))).await;
    }
    append_all(&log, (0..200_000).map(|i| record(2, &format!("w/entity/{i:06}"), Some(value(i))))).await;
    for _ in 0..7 {
        assert_eq!(read(&log, &[full]).await.unwrap().0.len(), 202_000);
    }
}
