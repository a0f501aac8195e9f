//! Followers get what is written later. One that falls behind must not miss a purged tombstone without an error.

use super::*;

/// Covers C29.
#[tokio::test]
async fn a_follower_gets_later_records_and_ends_as_draining_on_close() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(&dir);
    put(&log, "w/t/1", Some("a")).await;
    let home = log.state.topic.partition_count.of_workspace(b"w");
    let mut replay = follow(&log, vec![(home, StartAt::Offset { offset: 1, leader_epoch: -1 })]).await;
    assert!(matches!(replay.next().await, Some(Ok(ReplayEvent::End(end))) if (end.start, end.end) == (1, 1)));
    assert!(matches!(replay.next().await, Some(Ok(ReplayEvent::Progress { next_offset: 1, .. }))));
    put(&log, "w/t/1", None).await;
    match replay.next().await {
        Some(Ok(ReplayEvent::Records { records, .. })) => assert_eq!(records[0].offset, 1),
        other => panic!("{other:?}"),
    }
    assert!(matches!(replay.next().await, Some(Ok(ReplayEvent::Progress { next_offset: 2, at_end: Some(_), .. }))));
    // The replay does not keep the directory locked after the close.
    assert_eq!(log.close(soon()).await, 0);
    assert!(matches!(replay.next().await, Some(Err(ReadError::Draining))));
    assert!(replay.next().await.is_none());
    drop(open(&dir));
}

/// A follower of one partition that has read everything.
async fn follower(dir: &TempDir) -> (EmbeddedLog, Replay) {
    let log = EmbeddedLog::open(Settings { partition_count: PartitionCount::new(1), ..settings(dir) }).unwrap();
    put(&log, "w/t/deleted", Some("a")).await;
    let mut replay = follow(&log, from_the_start(&log)).await;
    while !matches!(replay.next().await, Some(Ok(ReplayEvent::Progress { .. }))) {}
    (log, replay)
}

/// Writes more than the follower can send to a reader that takes nothing. Returns when the follower has started to
/// deliver it.
async fn fill(log: &EmbeddedLog, replay: &mut Replay) {
    let record = |n: usize| record(log, &format!("w/t/{n}"), Some("b"));
    let pending: Vec<_> = (0..4000).map(|n| log.append(record(n)).unwrap()).collect();
    for pending in pending {
        pending.await.unwrap().unwrap();
    }
    while !matches!(replay.next().await, Some(Ok(ReplayEvent::Records { .. }))) {}
}

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// The key of the next delivered tombstone, or the error of the replay.
async fn next_tombstone(replay: &mut Replay) -> Result<bytes::Bytes, ReadError> {
    loop {
        if let ReplayEvent::Records { records, .. } = replay.next().await.expect("it follows")?
            && let Some(tombstone) = records.into_iter().find(Record::is_tombstone)
        {
            return Ok(tombstone.key);
        }
    }
}

/// Covers R9, F11.
#[tokio::test]
async fn a_follower_that_stalls_for_half_of_the_delete_retention_ends_as_moved() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut replay) = follower(&dir).await;
    fill(&log, &mut replay).await;
    pass(settings(&dir).delete_retention / 2 + Duration::from_secs(1)).await;
    put(&log, "w/t/deleted", None).await;
    let error = next_tombstone(&mut replay).await.unwrap_err();
    assert!(matches!(&error, ReadError::Moved { cause: MoveCause::TooSlow { .. }, .. }), "{error}");
    assert!(error.to_string().contains("--delete-retention"), "{error}");
    assert!(replay.next().await.is_none());
}

/// Covers R9.
#[tokio::test]
async fn a_follower_that_stalls_for_less_or_has_nothing_to_read_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut replay) = follower(&dir).await;
    fill(&log, &mut replay).await;
    pass(settings(&dir).delete_retention / 3).await;
    put(&log, "w/t/deleted", None).await;
    assert_eq!(next_tombstone(&mut replay).await.unwrap(), "w/t/deleted");
    while !matches!(replay.next().await, Some(Ok(ReplayEvent::Progress { next_offset: 4002, .. }))) {}
    for _ in 0..3 {
        pass(settings(&dir).delete_retention / 3).await;
        // It reports that it is at the end.
        while !matches!(replay.next().await, Some(Ok(ReplayEvent::Progress { .. }))) {}
    }
    put(&log, "w/t/1", None).await;
    assert_eq!(next_tombstone(&mut replay).await.unwrap(), "w/t/1");
}
