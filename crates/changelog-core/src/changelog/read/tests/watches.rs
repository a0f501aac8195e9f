//! Watches, over the memory log.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::time::Instant;

use crate::{
    changelog::{
        Ack, Changelog, Limits, Load, LoadError, Metrics, Peer, Watch, WatchEvent, WatchRequest,
        resume::{Cursor, Scope, Token, TokenError},
    },
    log::{Log, MemoryLog, ReadError, Replay, StartAt, Topic, TopicProblem, TruncationCause},
    model::{Headers, Key, Partition, PartitionCount, WorkspaceId},
    testing::FakeLog,
};

const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn memory() -> MemoryLog {
    MemoryLog::new(PartitionCount::new(1).unwrap(), Duration::from_secs(1_000))
}

pub(super) fn over(log: impl Log, change: impl FnOnce(&mut Limits)) -> Changelog {
    let mut limits = Limits::for_tests();
    change(&mut limits);
    Changelog::new(Arc::new(log), limits, Metrics::default())
}

pub(super) async fn write(changelog: &Changelog, key: &str, value: Option<&'static str>) {
    let key = Key::parse(key).unwrap();
    let record = changelog.write_target().record(key, value.map(Into::into), Headers::default()).unwrap();
    changelog.write(record, Ack::Durable, None).await.unwrap();
}

pub(super) async fn watch(changelog: &Changelog, peer: u64, resume_token: Bytes) -> Result<Watch, LoadError> {
    let workspace = WorkspaceId::parse("ws").unwrap();
    let request = WatchRequest { workspace, types: HashSet::new(), resume_token };
    changelog.watch(request, Peer::Connection(peer), Instant::now() + PATIENCE).await
}

pub(super) async fn next(watch: &mut Watch) -> Result<WatchEvent, LoadError> {
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("an event in time").expect("a watch has no end")
}

pub(super) async fn state(watch: &mut Watch) -> Load {
    match next(watch).await.unwrap() {
        WatchEvent::State(load) => load,
        other => panic!("{other:?}"),
    }
}

/// The keys of the next batch.
async fn changed(watch: &mut Watch) -> Vec<String> {
    loop {
        match next(watch).await.unwrap() {
            WatchEvent::Batch { records, .. } => {
                return records.iter().map(|r| String::from_utf8(r.key.to_vec()).unwrap()).collect();
            }
            WatchEvent::Bookmark(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Covers C71, R67.
#[tokio::test]
async fn a_change_between_the_state_and_the_first_following_read_is_delivered() {
    let changelog = over(memory(), |_| {});
    write(&changelog, "ws/t/a", Some("1")).await;
    let mut watching = watch(&changelog, 0, Bytes::new()).await.unwrap();
    write(&changelog, "ws/t/b", Some("1")).await;
    let load = state(&mut watching).await;
    assert_eq!((load.records().len(), load.snapshot.end.end), (1, 1));
    write(&changelog, "ws/t/a", None).await;
    assert_eq!(changed(&mut watching).await, ["ws/t/b", "ws/t/a"]);
    write(&changelog, "ws/t/c", Some("1")).await;
    assert_eq!(changed(&mut watching).await, ["ws/t/c"]);
}

/// Covers C71, S4.
#[tokio::test]
async fn watches_count_as_following_streams_and_hold_no_replay_permit() {
    let changelog = over(memory(), |l| (l.max_following_streams, l.max_replays, l.max_replays_per_client) = (4, 1, 1));
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut watching = watch(&changelog, 1, Bytes::new()).await.unwrap();
        let load = state(&mut watching).await;
        let error = changelog.load(WorkspaceId::parse("ws").unwrap(), HashSet::new(), Peer::default(), Instant::now());
        assert!(error.await.is_err(), "the state holds the only permit until it is dropped");
        drop(load);
        write(&changelog, "ws/t/a", Some("1")).await;
        changed(&mut watching).await;
        held.push(watching);
    }
    let error = watch(&changelog, 1, Bytes::new()).await.unwrap_err();
    assert_eq!(error, LoadError::TooManyFollowingStreamsOfPeer { limit: 3 });
    held.push(watch(&changelog, 2, Bytes::new()).await.expect("a place for another client"));
    let error = watch(&changelog, 3, Bytes::new()).await.unwrap_err();
    assert_eq!(error, LoadError::TooManyFollowingStreams { limit: 4 });
    held.pop();
    watch(&changelog, 3, Bytes::new()).await.expect("a place is free");
}

/// What the state holds may be taken by others while it is sent, and so may what is left.
/// Covers C71, S4.
#[tokio::test]
async fn a_watch_has_its_memory_for_changes_before_its_state_is_sent() {
    const MEMORY: usize = 1024 * 1024;
    let changelog = over(memory(), |l| (l.replay_memory, l.read_ahead) = (MEMORY, 16 * 1024));
    write(&changelog, "ws/t/a", Some("1")).await;
    let mut watching = watch(&changelog, 0, Bytes::new()).await.unwrap();
    drop(state(&mut watching).await);
    let mut others = Vec::new();
    let refused = loop {
        match changelog.replays.admit_follower() {
            Ok(permit) => others.push(permit),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, LoadError::MemoryBudgetExceeded { limit: MEMORY, .. }), "{refused}");
    write(&changelog, "ws/t/b", Some("1")).await;
    assert_eq!(changed(&mut watching).await, ["ws/t/b"]);
    let refused = watch(&changelog, 1, Bytes::new()).await.unwrap_err();
    assert!(matches!(refused, LoadError::MemoryBudgetExceeded { limit: MEMORY, .. }), "{refused}");
}

/// If the log lost records above the state before changes were followed, the state is no base for them.
/// Covers C71, C49, R14.
#[tokio::test]
async fn a_log_that_was_truncated_below_the_state_requires_a_resync() {
    let partition = Partition::new(0).unwrap();
    for error in [
        ReadError::OffsetOutOfRange { partition, offset: 1, low: 0, end: 0 },
        ReadError::Truncated { partition, cause: TruncationCause::EndWentBack { was: 1, high: 0 } },
    ] {
        let refused = error.clone();
        let log = FakeLog::new(memory()).on_replay(move |memory, request| {
            let refused = refused.clone();
            async move {
                match request.partitions[..] {
                    [(_, StartAt::Offset { offset: 1, .. })] => Err(refused),
                    _ => memory.replay(request).await,
                }
            }
        });
        let changelog = over(log, |_| {});
        write(&changelog, "ws/t/a", Some("1")).await;
        let mut watching = watch(&changelog, 0, Bytes::new()).await.unwrap();
        state(&mut watching).await;
        let found = next(&mut watching).await.unwrap_err();
        assert!(matches!(found, LoadError::Token(TokenError::Resync(_))), "{error} gave {found}");
    }
}

/// Watches of one partition share the replay of their states.
/// Covers C71, R21.
#[tokio::test]
async fn a_burst_of_watches_shares_the_replays_of_their_states() {
    let replays = Arc::new(AtomicUsize::new(0));
    let counted = replays.clone();
    let log = FakeLog::new(memory()).reading_whole_partitions().on_replay(move |memory, request| {
        if !request.follow.is_on() {
            counted.fetch_add(1, SeqCst);
        }
        async move { memory.replay(request).await }
    });
    let changelog = over(log, |l| (l.max_following_streams, l.max_replays, l.max_replays_per_client) = (64, 4, 4));
    write(&changelog, "ws/t/a", Some("1")).await;
    let watches = (0..32).map(|peer| {
        let changelog = changelog.clone();
        async move {
            let mut watching = watch(&changelog, peer, Bytes::new()).await.unwrap();
            state(&mut watching).await.records().len()
        }
    });
    let found = futures_util::future::join_all(watches).await;
    assert_eq!(found, [1; 32]);
    assert!(replays.load(SeqCst) <= 3, "{replays:?} replays");
}

/// Covers C71, R32.
#[tokio::test]
async fn a_drain_before_changes_are_followed_ends_the_watch_with_its_token() {
    let changelog = over(memory(), |_| {});
    write(&changelog, "ws/t/a", Some("1")).await;
    let mut watching = watch(&changelog, 0, Bytes::new()).await.unwrap();
    state(&mut watching).await;
    changelog.refuse_new_work();
    let mut last = None;
    let error = loop {
        match next(&mut watching).await {
            Ok(event) => last = Some(event),
            Err(error) => break error,
        }
    };
    assert!(matches!(last, Some(WatchEvent::Bookmark(_))), "{last:?}");
    assert_eq!(error, ReadError::Draining.into());
}

/// Tombstones that were written while the client took the state may be gone before changes are read.
/// Covers C71, R9.
#[tokio::test(start_paused = true)]
async fn a_state_that_is_taken_too_slowly_requires_a_resync() {
    for (waits, retention, resumes) in [(400, 1_000, true), (600, 1_000, false), (60, 100, false)] {
        let lowered = Arc::new(AtomicUsize::new(1_000));
        let (memory, now) = (memory(), lowered.clone());
        let topic = memory.topic().await.unwrap();
        let log = FakeLog::new(memory).on_topic(move || {
            let delete_retention = Duration::from_secs(now.load(SeqCst) as u64);
            Ok(Arc::new(Topic { delete_retention, ..(*topic).clone() }))
        });
        let changelog = over(log, |_| {});
        write(&changelog, "ws/t/a", Some("1")).await;
        let mut watching = watch(&changelog, 0, Bytes::new()).await.unwrap();
        state(&mut watching).await;
        write(&changelog, "ws/t/a", None).await;
        lowered.store(retention, SeqCst);
        tokio::time::advance(Duration::from_secs(waits)).await;
        if resumes {
            assert_eq!(changed(&mut watching).await, ["ws/t/a"]);
        } else {
            let error = next(&mut watching).await.unwrap_err();
            assert!(matches!(error, LoadError::Token(TokenError::Resync(_))), "{error}");
        }
    }
}

/// A consumer adopts a new topic of the same name.
/// Covers C71, R15.
#[tokio::test]
async fn changes_of_a_topic_that_was_created_again_are_not_delivered() {
    for changes_before in [0, 1] {
        let recreated = Arc::new(AtomicBool::new(false));
        let (memory, now) = (memory(), recreated.clone());
        let topic = memory.topic().await.unwrap();
        let log = FakeLog::new(memory).on_topic(move || {
            let id = if now.load(SeqCst) { "new".to_owned() } else { topic.id.clone() };
            Ok(Arc::new(Topic { id, ..(*topic).clone() }))
        });
        let changelog = over(log, |_| {});
        write(&changelog, "ws/t/a", Some("1")).await;
        let mut watching = watch(&changelog, 0, Bytes::new()).await.unwrap();
        state(&mut watching).await;
        for _ in 0..changes_before {
            write(&changelog, "ws/t/a", Some("2")).await;
            assert_eq!(changed(&mut watching).await, ["ws/t/a"]);
        }
        recreated.store(true, SeqCst);
        write(&changelog, "ws/t/b", Some("1")).await;
        let error = loop {
            match next(&mut watching).await {
                Ok(WatchEvent::Bookmark(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LoadError::Read(ReadError::Topic(TopicProblem::Recreated { .. }))), "{error}");
    }
}

/// A log whose replays send nothing if they follow, or do not start.
fn with_silent_changes(starts: bool) -> FakeLog {
    FakeLog::new(memory()).on_replay(move |memory, request| async move {
        if !request.follow.is_on() {
            return memory.replay(request).await;
        }
        if !starts {
            std::future::pending::<()>().await;
        }
        let (events, replay) = Replay::channel();
        tokio::spawn(async move { events.closed().await });
        Ok(replay)
    })
}

/// Changes are read for a long time, or their replay has not started yet.
/// Covers C71, R32.
#[tokio::test]
async fn a_drain_ends_a_watch_also_while_it_catches_up() {
    for starts in [true, false] {
        let changelog = over(with_silent_changes(starts), |_| {});
        write(&changelog, "ws/t/a", Some("1")).await;
        let mut watching = watch(&changelog, 0, Bytes::new()).await.unwrap();
        let token = state(&mut watching).await.snapshot.resume_token.clone();
        let draining = changelog.clone();
        tokio::spawn(async move { draining.refuse_new_work() });
        match next(&mut watching).await.unwrap() {
            WatchEvent::Bookmark(bookmark) => assert_eq!(bookmark, token, "nothing was read"),
            other => panic!("{other:?}"),
        }
        assert_eq!(next(&mut watching).await.unwrap_err(), ReadError::Draining.into());
    }
}

/// The log has much to read before its end, and nothing of this workspace.
/// Covers C71, C30.
#[tokio::test(start_paused = true)]
async fn bookmarks_come_before_the_end_of_the_log_is_reached() {
    let changelog = over(with_silent_changes(true), |_| {});
    write(&changelog, "ws/t/a", Some("1")).await;
    let mut watching = watch(&changelog, 0, Bytes::new()).await.unwrap();
    let token = state(&mut watching).await.snapshot.resume_token.clone();
    let began = Instant::now();
    for _ in 0..3 {
        match next(&mut watching).await.unwrap() {
            WatchEvent::Bookmark(bookmark) => assert_eq!(bookmark, token, "nothing was read"),
            other => panic!("{other:?}"),
        }
    }
    assert!(began.elapsed() <= Duration::from_secs(20), "{:?}", began.elapsed());
}

/// Covers C71, C49, B17.
#[tokio::test]
async fn a_token_that_is_too_old_or_beyond_the_end_requires_a_resync() {
    let changelog = over(memory(), |_| {});
    write(&changelog, "ws/t/a", Some("1")).await;
    let topic = changelog.log.topic().await.unwrap();
    let token = |next, age| {
        let cursor = Cursor { next: Some(next), leader_epoch: -1, as_of: SystemTime::now() - Duration::from_secs(age) };
        let scope = Scope::of_workspace(WorkspaceId::parse("ws").unwrap(), HashSet::new()).fingerprint();
        Token::new(&topic, scope, BTreeMap::from([(Partition::new(0).unwrap(), cursor)])).encode()
    };
    let error = watch(&changelog, 0, token(-1, 0)).await.unwrap_err();
    assert!(matches!(error, LoadError::Token(TokenError::Invalid(_))), "{error}");
    for token in [token(1, 600), token(2, 0), token(i64::MAX, 0)] {
        let error = watch(&changelog, 0, token).await.unwrap_err();
        assert!(matches!(error, LoadError::Token(TokenError::Resync(_))), "{error}");
    }
    let mut watching = watch(&changelog, 0, token(1, 400)).await.unwrap();
    assert!(matches!(next(&mut watching).await, Ok(WatchEvent::Synced(_))));
}
