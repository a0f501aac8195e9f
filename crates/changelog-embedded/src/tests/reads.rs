//! Replays up to the end offsets.

use super::*;

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
    assert_eq!((read.offset, read.timestamp), (appended.position.offset, appended.timestamp));
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

/// Covers C42, C48.
#[tokio::test]
async fn the_index_has_what_a_replay_has_or_leaves_it_to_a_replay() {
    for (sort_bytes, fits) in [(1 << 20, true), (1_000, false)] {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { partition_count: PartitionCount::new(1), sort_bytes, ..settings(&dir) };
        let log = EmbeddedLog::open(settings).unwrap();
        for n in 0..50 {
            put(&log, &format!("w/t{}/{}", n % 2, n * 7 % 20), (n % 5 > 0).then_some("v")).await;
            put(&log, "other/t/1", Some("v")).await;
        }
        let topic = log.topic().await.unwrap();
        let (count, partition) = (topic.partition_count, topic.partition_count.of_workspace(b"w"));
        let workspace = || WorkspaceId::parse("w").unwrap();
        for selection in [
            Selection::workspace(workspace(), HashSet::new(), count),
            Selection::workspace(workspace(), HashSet::from(["t1".to_owned()]), count),
            Selection::all(count),
            Selection::key(Key::parse("w/t1/7").unwrap(), count),
            Selection::key(Key::parse("w/t1/none").unwrap(), count),
        ] {
            let request = |max_bytes| LatestRequest {
                topic: topic.clone(),
                partition,
                selection: selection.clone(),
                max_bytes,
                deadline: soon(),
            };
            let replayed = replay(&log, selection.clone(), StartAt::Low).await.unwrap();
            let few = replayed.len() < 2;
            let latest = log.latest(request(1 << 20)).await.unwrap();
            assert_eq!(latest.is_some(), fits || few, "{selection:?}");
            if let Some(latest) = latest {
                assert_eq!(latest.records, replayed, "{selection:?}");
                assert_eq!((latest.end.start, latest.end.end), (0, 100));
                assert!(latest.end.counts.read >= replayed.len() as u64);
            }
            assert_eq!(log.latest(request(10)).await.unwrap().is_some(), replayed.is_empty(), "{selection:?}");
        }
    }
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
        follow: Follow::No,
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
