//! Old tombstones are purged, and a reader that may have missed one is rejected.

use super::*;

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
    assert_eq!(put(&log, "w/t/3", Some("c")).await.position.offset, 3);
    assert_eq!(load(&log, "w").await.unwrap().len(), 3);
    drop(log);

    let log = open_at(&dir, 25 * HOUR + 1);
    assert_eq!(put(&log, "w/t/2", None).await.position.offset, 4);
    assert_eq!(texts(&load(&log, "w").await.unwrap()), [pair("w/t/3", "c"), ("w/t/2".to_owned(), None)]);
    put(&log, "w/t/3", None).await;
    drop(log);

    // The last records of the partition were purged, and the clock went back.
    let log = open_at(&dir, 90 * HOUR);
    log.close(soon()).await;
    let log = open_at(&dir, 2 * HOUR);
    let appended = put(&log, "w/t/9", Some("d")).await;
    assert_eq!(appended.position.offset, 6);
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
            follow: Follow::No,
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
