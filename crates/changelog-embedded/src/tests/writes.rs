//! Writes that are rejected: the queue is full, the log is closed, or the disk is full.

use super::*;

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
    assert_eq!(put(&log, "w/t/1", Some("a")).await.position.offset, 0);
}
