//! Followers that fall behind: what was swept meanwhile must not be missed in silence.

use super::*;

/// A follower of everything, that has had all there is; one partition, so that it stands still where its reader does.
async fn follower(dir: &TempDir) -> (EmbeddedLog, Replay) {
    let log = EmbeddedLog::open(Settings { partition_count: PartitionCount::new(1), ..settings(dir) }).unwrap();
    put(&log, "w/t/deleted", Some("a")).await;
    let topic = log.topic().await.unwrap();
    let partitions = topic.partition_count.all().map(|p| (p, StartAt::Low)).collect();
    let selection = Selection::all(topic.partition_count);
    let request = ReplayRequest { topic, partitions, selection, follow: true, owned_records: false, deadline: soon() };
    let mut replay = log.replay(request).await.unwrap();
    while !matches!(replay.next().await, Some(Ok(ReplayEvent::Progress { .. }))) {}
    (log, replay)
}

/// More than a reader that takes nothing lets the follower send; answers when the follower has begun with it.
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

/// The next delivered key that is a tombstone, or why there is none.
async fn next_tombstone(replay: &mut Replay) -> Result<bytes::Bytes, ReadError> {
    loop {
        if let ReplayEvent::Records { records, .. } = replay.next().await.expect("it follows")?
            && let Some(tombstone) = records.into_iter().find(Record::is_tombstone)
        {
            return Ok(tombstone.key);
        }
    }
}

#[tokio::test]
async fn r9_a_follower_that_stalls_for_half_of_the_delete_retention_is_told_that_the_log_moved() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut replay) = follower(&dir).await;
    fill(&log, &mut replay).await;
    pass(settings(&dir).delete_retention / 2 + Duration::from_secs(1)).await;
    put(&log, "w/t/deleted", None).await;
    let error = next_tombstone(&mut replay).await.unwrap_err();
    assert!(matches!(&error, ReadError::Moved { cause, .. } if cause.contains("delete.retention.ms")), "{error}");
    assert!(replay.next().await.is_none());
}

#[tokio::test]
async fn r9_a_follower_that_stalls_for_less_goes_on_and_so_does_one_that_has_nothing_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut replay) = follower(&dir).await;
    fill(&log, &mut replay).await;
    pass(settings(&dir).delete_retention / 3).await;
    put(&log, "w/t/deleted", None).await;
    assert_eq!(next_tombstone(&mut replay).await.unwrap(), "w/t/deleted");
    while !matches!(replay.next().await, Some(Ok(ReplayEvent::Progress { next_offset: 4002, .. }))) {}
    for _ in 0..3 {
        pass(settings(&dir).delete_retention / 3).await;
        // It says that it stands at the end, and so it does.
        while !matches!(replay.next().await, Some(Ok(ReplayEvent::Progress { .. }))) {}
    }
    put(&log, "w/t/1", None).await;
    assert_eq!(next_tombstone(&mut replay).await.unwrap(), "w/t/1");
}
