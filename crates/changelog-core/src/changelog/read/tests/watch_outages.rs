//! Watches while the log's brokers do not answer, or send nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::watches::{memory, next, over, state, watch, write};
use crate::{
    changelog::{Changelog, LoadError, Watch, WatchEvent, resume::Token},
    log::{Follow, Log, ReadError, Replay, ReplayRequest},
    testing::FakeLog,
};

/// What no broker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unanswered {
    /// The topic, before changes are followed.
    TopicAtStart,
    /// The offsets, before changes are followed.
    Offsets,
    /// The topic, when the first changes have come.
    TopicOfFirst,
    /// The topic, when later changes have come.
    TopicOfLater,
}

async fn changelog(unanswered: Unanswered, down: Arc<AtomicBool>) -> Changelog {
    let (memory, down_for_replays) = (memory(), down.clone());
    let topic = memory.topic().await.unwrap();
    let unreachable = || ReadError::Unreachable { cause: "nobody answers".to_owned() };
    let log = FakeLog::new(memory)
        .on_topic(move || {
            let answers = unanswered == Unanswered::Offsets || !down.load(SeqCst);
            if answers { Ok(topic.clone()) } else { Err(unreachable()) }
        })
        .on_replay(move |memory, request| {
            let answers = unanswered != Unanswered::Offsets || !down_for_replays.load(SeqCst);
            async move { if answers { memory.replay(request).await } else { Err(unreachable()) } }
        });
    over(log, |_| {})
}

/// The next events until a change or an error: how long that took, and the tokens of bookmarks, at least one each 10 s.
async fn waited(watching: &mut Watch) -> (Result<String, LoadError>, Duration, Vec<Bytes>) {
    let (began, mut tokens) = (Instant::now(), Vec::new());
    let outcome = loop {
        let asked_at = Instant::now();
        match next(watching).await {
            Ok(WatchEvent::Bookmark(token)) => tokens.push(token),
            Ok(WatchEvent::Batch { records, .. }) => break Ok(String::from_utf8(records[0].key.to_vec()).unwrap()),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break Err(error),
        }
        assert!(asked_at.elapsed() < Duration::from_secs(10), "{:?}", asked_at.elapsed());
    };
    (outcome, began.elapsed(), tokens)
}

/// Covers C71, C30.
#[tokio::test(start_paused = true)]
async fn a_watch_waits_a_minute_for_brokers_and_its_tokens_skip_no_change() {
    use Unanswered::{Offsets, TopicAtStart, TopicOfFirst, TopicOfLater};
    for (unanswered, outage) in
        [TopicAtStart, Offsets, TopicOfFirst, TopicOfLater].into_iter().flat_map(|what| [(what, 40), (what, 90)])
    {
        let down = Arc::new(AtomicBool::new(false));
        let changelog = changelog(unanswered, down.clone()).await;
        write(&changelog, "ws/t/a", Some("1")).await;
        let mut watching = watch(&changelog, 0, Bytes::new()).await.unwrap();
        state(&mut watching).await;
        if matches!(unanswered, TopicOfFirst | TopicOfLater) {
            assert!(matches!(next(&mut watching).await, Ok(WatchEvent::Bookmark(_))), "it follows");
        }
        if unanswered == TopicOfLater {
            write(&changelog, "ws/t/a", Some("2")).await;
            assert_eq!(waited(&mut watching).await.0.unwrap(), "ws/t/a");
        }
        down.store(true, SeqCst);
        write(&changelog, "ws/t/b", Some("1")).await;
        let (outage, up) = (Duration::from_secs(outage), down.clone());
        tokio::spawn(async move {
            sleep(outage).await;
            up.store(false, SeqCst);
        });
        let (outcome, took, tokens) = waited(&mut watching).await;
        if outage < Duration::from_secs(60) {
            assert_eq!(outcome.unwrap(), "ws/t/b", "{unanswered:?}");
        } else {
            let error = outcome.unwrap_err();
            assert!(matches!(error, LoadError::Read(ReadError::Unreachable { .. })), "{unanswered:?}: {error}");
            assert!(took < Duration::from_secs(70), "{unanswered:?}: {took:?}");
        }
        assert!(took >= outage.min(Duration::from_secs(55)), "{unanswered:?}: {took:?}");
        down.store(false, SeqCst);
        let token = tokens.last().expect("bookmarks").clone();
        let mut resumed = watch(&changelog, 1, token).await.unwrap();
        assert_eq!(waited(&mut resumed).await.0.unwrap(), "ws/t/b", "{unanswered:?}");
    }
}

/// Covers C71, C32, R32.
#[tokio::test]
async fn a_drain_ends_a_watch_that_waits_for_brokers_with_a_token_before_its_unconfirmed_changes() {
    let down = Arc::new(AtomicBool::new(false));
    let changelog = changelog(Unanswered::TopicOfFirst, down.clone()).await;
    write(&changelog, "ws/t/a", Some("1")).await;
    let mut watching = watch(&changelog, 0, Bytes::new()).await.unwrap();
    let end = state(&mut watching).await.snapshot.end.end;
    assert!(tokio::time::timeout(Duration::from_millis(100), watching.next()).await.is_err(), "it follows");
    down.store(true, SeqCst);
    write(&changelog, "ws/t/b", Some("1")).await;
    assert!(tokio::time::timeout(Duration::from_millis(100), watching.next()).await.is_err(), "it waits");
    changelog.refuse_new_work();
    let Ok(WatchEvent::Bookmark(last)) = next(&mut watching).await else { panic!("a last token") };
    let next_offsets: Vec<_> = Token::decode(&last).unwrap().cursors.values().map(|cursor| cursor.next).collect();
    assert_eq!(next_offsets, [Some(end)], "the change was not delivered");
    assert_eq!(next(&mut watching).await.unwrap_err(), ReadError::Draining.into());
}

/// The log sends its end, and then nothing, as if it had much to read.
/// Covers C71, C30.
#[tokio::test(start_paused = true)]
async fn a_resumed_watch_gets_bookmarks_before_the_end_of_the_log_is_reached() {
    let log = FakeLog::new(memory()).on_replay(|memory, request| async move {
        if !request.follow.is_on() {
            return memory.replay(request).await;
        }
        let mut read = memory.replay(ReplayRequest { follow: Follow::No, ..request }).await?;
        let (events, replay) = Replay::channel();
        tokio::spawn(async move {
            while let Some(event) = read.next().await {
                let _ = events.send(event).await;
            }
            events.closed().await;
        });
        Ok(replay)
    });
    let changelog = over(log, |_| {});
    write(&changelog, "ws/t/a", Some("1")).await;
    let mut watching = watch(&changelog, 0, Bytes::new()).await.unwrap();
    let token = state(&mut watching).await.snapshot.resume_token.clone();
    let mut resumed = watch(&changelog, 1, token).await.unwrap();
    assert!(matches!(next(&mut resumed).await, Ok(WatchEvent::Synced(_))));
    let began = Instant::now();
    for _ in 0..3 {
        assert!(matches!(next(&mut resumed).await, Ok(WatchEvent::Bookmark(_))));
    }
    assert!(began.elapsed() <= Duration::from_secs(20), "{:?}", began.elapsed());
}
