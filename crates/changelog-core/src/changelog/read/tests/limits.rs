//! Limits and resume tokens, over the memory log.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::{
    changelog::{
        Ack, Changelog, Content, Limits, LoadError, Metrics, Peer, StreamEvent, StreamRequest, Undelivered,
        resume::{Cursor, Scope, Token, TokenError},
    },
    log::{MemoryLog, MoveCause, ReadError, WriteError},
    model::{Headers, Key, Partition, PartitionCount, WorkspaceId},
};

const RETENTION: Duration = Duration::from_secs(1_000);

fn changelog(change: impl FnOnce(&mut Limits)) -> Changelog {
    let mut limits = Limits::for_tests();
    change(&mut limits);
    let log = MemoryLog::new(PartitionCount::new(1).unwrap(), RETENTION);
    Changelog::new(Arc::new(log), limits, Metrics::default())
}

async fn write(changelog: &Changelog, key: &str, value: Option<&'static str>, ack: Ack) -> Result<(), WriteError> {
    let key = Key::parse(key).unwrap();
    let record = changelog.write_target().record(key, value.map(Into::into), Headers::default())?;
    changelog.write(record, ack, None).await.map(drop)
}

async fn set(changelog: &Changelog, key: &str) {
    write(changelog, key, Some("1"), Ack::Durable).await.unwrap();
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn workspace() -> WorkspaceId {
    WorkspaceId::parse("ws").unwrap()
}

fn request(resume_token: bytes::Bytes) -> StreamRequest {
    StreamRequest {
        partitions: Vec::new(),
        workspaces: vec![workspace()],
        types: HashSet::new(),
        content: Content::Records,
        resume_token,
        follow: false,
    }
}

/// A token of a load of the workspace, issued `age` ago at the offset `next`.
async fn token(changelog: &Changelog, next: i64, age: Duration) -> bytes::Bytes {
    let topic = changelog.log.topic().await.unwrap();
    let cursor = Cursor { next: Some(next), leader_epoch: -1, as_of: SystemTime::now() - age };
    let cursors = BTreeMap::from([(Partition::new(0).unwrap(), cursor)]);
    Token::new(&topic, Scope::of_workspace(workspace(), HashSet::new()).fingerprint(), cursors).encode()
}

/// Covers C49, B17.
#[tokio::test]
async fn a_token_beyond_the_end_requires_a_resync() {
    let changelog = changelog(|_| {});
    set(&changelog, "ws/t/a").await;
    let at_end = token(&changelog, 1, Duration::ZERO).await;
    changelog.stream(request(at_end), Peer::default(), soon()).await.expect("the end is within the log");
    let beyond = token(&changelog, 2, Duration::ZERO).await;
    let error = changelog.stream(request(beyond), Peer::default(), soon()).await.unwrap_err();
    assert!(matches!(error, LoadError::Token(TokenError::Resync(_))), "{error}");
}

/// Covers C49, R9, F11, B17.
#[tokio::test]
async fn a_token_older_than_half_of_the_delete_retention_requires_a_resync() {
    let changelog = changelog(|_| {});
    let young = token(&changelog, 0, RETENTION / 3).await;
    changelog.stream(request(young), Peer::default(), soon()).await.expect("young enough");
    let old = token(&changelog, 0, RETENTION / 2 + Duration::from_secs(60)).await;
    let error = changelog.stream(request(old), Peer::default(), soon()).await.unwrap_err();
    assert!(matches!(error, LoadError::Token(TokenError::Resync(_))), "{error}");
}

/// Covers R21, S4.
#[tokio::test]
async fn replays_over_the_limit_are_refused_and_a_load_holds_its_permit_until_dropped() {
    let changelog = changelog(|l| l.max_replays = 1);
    let held = changelog.load(workspace(), HashSet::new(), Peer::default(), soon()).await.unwrap();
    let error = changelog.load(workspace(), HashSet::new(), Peer::default(), soon()).await.unwrap_err();
    assert_eq!(error, LoadError::TooManyReplays { limit: 1 });
    drop(held);
    changelog.load(workspace(), HashSet::new(), Peer::default(), soon()).await.expect("a permit is free");
}

/// Covers S4.
#[tokio::test]
async fn followers_over_the_limit_are_refused() {
    let changelog = changelog(|l| l.max_following_streams = 1);
    let follow = || StreamRequest { follow: true, ..request(bytes::Bytes::new()) };
    let held = changelog.stream(follow(), Peer::default(), soon()).await.unwrap();
    let error = changelog.stream(follow(), Peer::default(), soon()).await.unwrap_err();
    assert_eq!(error, LoadError::TooManyFollowingStreams { limit: 1 });
    drop(held);
    changelog.stream(follow(), Peer::default(), soon()).await.expect("a permit is free");
}

/// Covers S4.
#[tokio::test]
async fn one_client_cannot_take_all_following_streams() {
    let changelog = changelog(|l| l.max_following_streams = 4);
    let follow = |peer| changelog.stream(StreamRequest { follow: true, ..request(bytes::Bytes::new()) }, peer, soon());
    let (greedy, modest) = (Peer::Connection(1), Peer::Connection(2));
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = follow(greedy).await.unwrap();
        // It releases its replay slot at its ends.
        stream.next().await.unwrap().unwrap();
        let _ = tokio::time::timeout(Duration::from_millis(1), stream.next()).await;
        held.push(stream);
    }
    assert_eq!(follow(greedy).await.unwrap_err(), LoadError::TooManyFollowingStreamsOfPeer { limit: 3 });
    follow(modest).await.expect("a permit of this client is free");
    held.pop();
    follow(greedy).await.expect("a permit of this client is free");
}

/// Covers C43, R21.
#[tokio::test]
async fn a_load_over_the_memory_limit_is_an_error() {
    let changelog = changelog(|l| l.max_load_memory = 1_000);
    for i in 0..20 {
        set(&changelog, &format!("ws/t/{i}")).await;
    }
    let error = changelog.load(workspace(), HashSet::new(), Peer::default(), soon()).await.unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { limit: 1_000, .. }), "{error}");
}

/// A log that compaction has worked on gives the same state as one that it has not.
/// Covers R10.
#[tokio::test]
async fn compaction_changes_no_state() {
    let log = MemoryLog::new(PartitionCount::new(1).unwrap(), RETENTION);
    let limits = *changelog(|_| {}).limits();
    let changelog = Changelog::new(Arc::new(log.clone()), limits, Metrics::default());
    for i in 0..50 {
        set(&changelog, &format!("ws/t/{}", i % 7)).await;
    }
    write(&changelog, "ws/t/3", None, Ack::Durable).await.unwrap();
    let before = changelog.load(workspace(), HashSet::new(), Peer::default(), soon()).await.unwrap();
    log.compact();
    let after = changelog.load(workspace(), HashSet::new(), Peer::default(), soon()).await.unwrap();
    assert_eq!(before.records(), after.records());
    assert_eq!(
        (before.snapshot.entries, before.snapshot.tombstones),
        (after.snapshot.entries, after.snapshot.tombstones)
    );
    assert!(after.snapshot.end.counts.read < before.snapshot.end.counts.read);
}

/// Covers R32.
#[tokio::test]
async fn after_draining_begins_writes_and_loads_are_refused() {
    let changelog = changelog(|_| {});
    assert_eq!(changelog.drain(soon()).await, Undelivered::default());
    assert_eq!(write(&changelog, "ws/t/a", None, Ack::Buffered).await, Err(WriteError::Draining));
    let error = changelog.load(workspace(), HashSet::new(), Peer::default(), soon()).await.unwrap_err();
    assert_eq!(error, LoadError::Read(ReadError::Draining));
}

/// Covers R9, F26.
#[tokio::test]
async fn a_token_from_the_future_requires_a_resync() {
    let changelog = changelog(|_| {});
    set(&changelog, "ws/t/a").await;
    let topic = changelog.log.topic().await.unwrap();
    let from = |ahead| {
        let cursor = Cursor { next: Some(1), leader_epoch: -1, as_of: SystemTime::now() + ahead };
        let cursors = BTreeMap::from([(Partition::new(0).unwrap(), cursor)]);
        Token::new(&topic, Scope::of_workspace(workspace(), HashSet::new()).fingerprint(), cursors).encode()
    };
    changelog.stream(request(from(Duration::from_secs(30))), Peer::default(), soon()).await.expect("clocks differ");
    let jumped = from(Duration::from_secs(3600));
    let error = changelog.stream(request(jumped), Peer::default(), soon()).await.unwrap_err();
    assert!(matches!(error, LoadError::Token(TokenError::Resync(_))), "{error}");
}

/// The token's age and the replay after it are one time in which tombstones may go.
/// Covers C49, R9, F11.
#[tokio::test(start_paused = true)]
async fn a_resumed_stream_that_ends_after_the_delete_retention_requires_a_resync() {
    const SHORT: Duration = Duration::from_secs(3);
    for late in [false, true] {
        let log = MemoryLog::new(PartitionCount::new(1).unwrap(), if late { SHORT } else { RETENTION });
        let changelog = Changelog::new(Arc::new(log), Limits::for_tests(), Metrics::default());
        set(&changelog, "ws/t/a").await;
        let token = token(&changelog, 0, SHORT / 4).await;
        let mut stream = changelog.stream(request(token), Peer::default(), soon()).await.unwrap();
        // Only the wall clock advances: the age of tokens is measured by it.
        std::thread::sleep(SHORT);
        let last = loop {
            match stream.next().await.expect("a snapshot or an error") {
                Ok(StreamEvent::Batch { .. }) => {}
                last => break last,
            }
        };
        match (late, last) {
            (false, Ok(StreamEvent::Snapshot(_))) | (true, Err(LoadError::Token(TokenError::Resync(_)))) => {}
            (late, last) => panic!("late: {late}, {last:?}"),
        }
    }
}

/// A follower that is slower than compaction: the tombstone that it has not read yet is gone when it comes there. The
/// log in memory keeps each tombstone for a load.
/// Covers R9, F11.
#[tokio::test(start_paused = true)]
async fn a_stream_that_follows_slower_than_half_of_the_delete_retention_ends_as_moved_and_a_load_is_whole() {
    for follow in [false, true] {
        let changelog = changelog(|_| {});
        // More than is read ahead.
        for i in 0..5_000 {
            set(&changelog, &format!("ws/t/{i}")).await;
        }
        let asked = StreamRequest { follow, ..request(bytes::Bytes::new()) };
        let deadline = Instant::now() + RETENTION;
        let mut stream = changelog.stream(asked, Peer::default(), deadline).await.unwrap();
        stream.next().await.unwrap().unwrap();
        tokio::time::advance(RETENTION / 2 + Duration::from_secs(1)).await;
        let ended = loop {
            match stream.next().await.expect("a snapshot or an error") {
                Ok(StreamEvent::Batch { .. }) => {}
                ended => break ended,
            }
        };
        match (follow, ended) {
            (false, Ok(StreamEvent::Snapshot(snapshot))) => assert_eq!(snapshot.entries, 5_000),
            (true, Err(LoadError::Read(ReadError::Moved { cause: MoveCause::TooSlow { .. }, .. }))) => {}
            (follow, ended) => panic!("follow: {follow}, {ended:?}"),
        }
    }
}

/// Covers R21.
#[tokio::test]
async fn a_following_stream_returns_its_replay_permit_at_its_end_offsets() {
    let changelog = changelog(|l| (l.max_replays, l.max_replays_per_client) = (1, 1));
    set(&changelog, "ws/t/a").await;
    let request = StreamRequest { follow: true, ..request(bytes::Bytes::new()) };
    let mut following = changelog.stream(request, Peer::default(), soon()).await.unwrap();
    let busy = changelog.load(workspace(), HashSet::new(), Peer::default(), soon()).await.unwrap_err();
    assert!(matches!(busy, LoadError::TooManyReplaysOfPeer { .. } | LoadError::TooManyReplays { .. }), "{busy}");
    while !matches!(following.next().await.unwrap().unwrap(), StreamEvent::Snapshot(_)) {}
    // It is at its end, and waits for new records.
    let waiting = tokio::spawn(async move {
        loop {
            if let StreamEvent::Batch { records, .. } = following.next().await.unwrap().unwrap() {
                return records.len();
            }
        }
    });
    let started = Instant::now();
    while changelog.load(workspace(), HashSet::new(), Peer::default(), soon()).await.is_err() {
        assert!(started.elapsed() < Duration::from_secs(10), "its permit is released");
    }
    set(&changelog, "ws/t/b").await;
    assert_eq!(waiting.await.unwrap(), 1, "and it still follows");
}
