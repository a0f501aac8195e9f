//! Shared replays over a log whose replays wait at a gate until the test opens it.

mod gated;

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{queue::PartitionId, run::STALL_TIMEOUT};
use crate::{
    changelog::{LoadError, Peer, Undelivered},
    model::Key,
};
use gated::{TestChangelog, elsewhere, keys};

/// Covers C42, R1, R21.
#[tokio::test]
async fn a_burst_of_loads_costs_two_replays_and_each_sees_every_earlier_write() {
    let test = TestChangelog::new(|l| (l.max_replays, l.max_replays_per_client) = (4, 4));
    test.set("ws/t/a").await;
    let first = test.load("ws");
    test.settle().await;
    assert_eq!(test.replays(), 1);
    test.set("ws/t/b").await;
    test.set("other/t/c").await;
    let mut later: Vec<_> = (0..63).map(|i| test.load(if i % 2 == 0 { "ws" } else { "other" })).collect();
    test.settle().await;
    assert_eq!(test.replays(), 1, "they wait");
    test.gate.permits.add_permits(1);
    assert_eq!(keys(&first.await.unwrap().unwrap()), ["ws/t/a"]);
    test.settle().await;
    assert_eq!(test.replays(), 2, "one for all of them");
    test.gate.permits.add_permits(1);
    for (i, load) in later.drain(..).enumerate() {
        let load = load.await.unwrap().unwrap();
        let expected: &[&str] = if i % 2 == 0 { &["ws/t/a", "ws/t/b"] } else { &["other/t/c"] };
        assert_eq!(keys(&load), expected);
        assert_eq!((load.snapshot.end.end, load.snapshot.end.counts.read), (3, 3));
        assert_eq!(load.snapshot.entries as usize, expected.len());
    }
    assert_eq!(test.replays(), 2);
}

/// Covers R21.
#[tokio::test]
async fn with_sharing_off_each_load_has_a_replay_of_its_own() {
    let test = TestChangelog::new(|l| (l.share_replays, l.max_replays, l.max_replays_per_client) = (false, 8, 8));
    test.set("ws/t/a").await;
    let loads: Vec<_> = (0..8).map(|_| test.load("ws")).collect();
    test.settle().await;
    assert_eq!(test.replays(), 8);
    test.gate.permits.add_permits(8);
    for load in loads {
        assert_eq!(keys(&load.await.unwrap().unwrap()), ["ws/t/a"]);
    }
}

/// Covers C44, R24.
#[tokio::test]
async fn a_cancelled_load_stops_its_replay_and_does_not_affect_others() {
    let test = TestChangelog::new(|l| (l.max_replays, l.max_replays_per_client) = (1, 1));
    test.set("ws/t/a").await;
    let first = test.load("ws");
    test.settle().await;
    first.abort();
    let second = test.load("ws");
    // The replay of the first load ends without the gate, because no load waits for it. Its permit is free again.
    let started = Instant::now();
    while test.replays() < 2 {
        assert!(started.elapsed() < Duration::from_secs(2), "the permit of the cancelled load is released");
        sleep(Duration::from_millis(10)).await;
    }
    let third = test.load("ws");
    test.settle().await;
    second.abort();
    let fourth = test.load("ws");
    test.gate.permits.add_permits(2);
    for load in [third, fourth] {
        assert_eq!(keys(&load.await.unwrap().unwrap()), ["ws/t/a"]);
    }
}

/// Covers C44, R24.
#[tokio::test]
async fn a_cancelled_load_leaves_a_shared_replay_to_the_other_loads() {
    let test = TestChangelog::new(|l| (l.max_replays, l.max_replays_per_client) = (4, 4));
    test.set("ws/t/a").await;
    let blocking = test.load("ws");
    test.settle().await;
    let leaving = test.load("ws");
    test.settle().await;
    let waiter = test.load("ws");
    test.settle().await;
    test.gate.permits.add_permits(1);
    blocking.await.unwrap().unwrap();
    test.settle().await;
    assert_eq!(test.replays(), 2);
    leaving.abort();
    test.settle().await;
    test.gate.permits.add_permits(1);
    assert_eq!(keys(&waiter.await.unwrap().unwrap()), ["ws/t/a"]);
    assert_eq!(test.replays(), 2, "it is the same replay");
}

/// Covers R7, S3.
#[tokio::test]
async fn a_waiting_load_ends_at_its_own_deadline() {
    let test = TestChangelog::new(|l| (l.max_replays, l.max_replays_per_client) = (4, 4));
    test.set("ws/t/a").await;
    let first = test.load("ws");
    test.settle().await;
    let hasty = test.load_until("ws", Instant::now() + Duration::from_millis(50));
    let patient = test.load("ws");
    let error = hasty.await.unwrap().unwrap_err();
    assert!(matches!(error, LoadError::Deadline { partition: Some(_), .. }), "{error:?}");
    test.gate.permits.add_permits(2);
    first.await.unwrap().unwrap();
    patient.await.unwrap().unwrap();
}

/// Covers C44, R21.
#[tokio::test]
async fn only_the_load_that_is_too_large_is_refused() {
    let test = TestChangelog::new(|l| (l.max_replays, l.max_replays_per_client, l.max_load_memory) = (4, 4, 2_000));
    for i in 0..20 {
        test.set_value(&format!("large/t/{i}"), &format!("\"{}\"", "x".repeat(200))).await;
    }
    test.set("small/t/a").await;
    let first = test.load("small");
    test.settle().await;
    let (large, small) = (test.load("large"), test.load("small"));
    test.settle().await;
    test.gate.permits.add_permits(2);
    first.await.unwrap().unwrap();
    let error = large.await.unwrap().unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { limit: 2_000, .. }), "{error:?}");
    assert_eq!(keys(&small.await.unwrap().unwrap()), ["small/t/a"]);
}

/// A load gets no records of loads that left, or that failed because they were too large.
/// Covers C44, R10.
#[tokio::test]
async fn a_load_of_a_shared_replay_returns_its_own_workspace_when_others_leave() {
    for leaves in [false, true] {
        let test =
            TestChangelog::new(|l| (l.max_replays, l.max_replays_per_client, l.max_load_memory) = (4, 4, 40_000));
        // Many batches of each.
        for i in 0..2_000 {
            test.set_value(&format!("large/t/{i}"), &format!("\"{}\"", "x".repeat(200))).await;
            test.set(&format!("small/t/{}", i % 7)).await;
        }
        let first = test.load("small");
        test.settle().await;
        let (large, small) = (test.load("large"), test.load("small"));
        let key = Key::parse("small/t/3").unwrap();
        let (changelog, deadline) = (test.changelog.clone(), Instant::now() + Duration::from_secs(60));
        let get = tokio::spawn(async move { changelog.get(key, Peer::Connection(0), deadline).await });
        test.settle().await;
        test.gate.permits.add_permits(1);
        first.await.unwrap().unwrap();
        test.settle().await;
        if leaves {
            large.abort();
            test.settle().await;
        }
        test.gate.permits.add_permits(1);
        let small = small.await.unwrap().unwrap();
        assert_eq!((small.records().len(), small.snapshot.entries), (7, 7));
        assert!(keys(&small).iter().all(|key| key.starts_with("small/")));
        assert_eq!(&get.await.unwrap().unwrap().record.unwrap().key[..], b"small/t/3");
        assert_eq!(test.replays(), 2);
        if !leaves {
            assert!(matches!(large.await.unwrap().unwrap_err(), LoadError::TooLarge { .. }));
        }
    }
}

/// A load that has not sent its records holds a permit of its own client only.
/// Covers S4.
#[tokio::test]
async fn a_shared_replay_counts_against_each_client_on_its_own() {
    let wait = Duration::from_millis(100);
    let test = TestChangelog::new(|l| (l.max_replays, l.max_replays_per_client, l.replay_queue_timeout) = (8, 2, wait));
    test.set("ws/t/a").await;
    let (quick, slow) = (Peer::Connection(1_001), Peer::Connection(1_002));
    let mut held = Vec::new();
    for _ in 0..2 {
        let blocking = test.load("ws");
        test.settle().await;
        let (first, second) = (test.load_of(quick), test.load_of(slow));
        test.settle().await;
        test.gate.permits.add_permits(2);
        blocking.await.unwrap().unwrap();
        first.await.unwrap().unwrap();
        held.push(second.await.unwrap().unwrap());
    }
    assert_eq!(test.load_of(slow).await.unwrap().unwrap_err(), LoadError::TooManyReplaysOfPeer { limit: 2 });
    test.gate.permits.add_permits(1);
    test.load_of(quick).await.unwrap().expect("a slow client does not affect other clients");
}

/// Loads that wait for a replay of their partition hold no permits that others could use.
/// Covers R21.
#[tokio::test]
async fn loads_that_wait_for_a_partition_leave_permits_to_others() {
    let wait = Duration::from_millis(100);
    let test =
        TestChangelog::of(10, |l| (l.max_replays, l.max_replays_per_client, l.replay_queue_timeout) = (3, 3, wait));
    let elsewhere = elsewhere();
    test.set("ws/t/a").await;
    let first = test.load("ws");
    test.settle().await;
    let waiting: Vec<_> = (0..20).map(|_| test.load("ws")).collect();
    test.settle().await;
    let other = test.load(&elsewhere);
    test.settle().await;
    assert_eq!(test.replays(), 2, "it has a permit");
    sleep(2 * wait).await;
    test.gate.permits.add_permits(3);
    first.await.unwrap().unwrap();
    other.await.unwrap().unwrap();
    for load in waiting {
        load.await.unwrap().expect("the next replay serves all of them");
    }
    assert_eq!(test.replays(), 3);
}

/// Each load waits as long for a permit as it may, and no longer.
/// Covers R21.
#[tokio::test(start_paused = true)]
async fn loads_that_get_no_permit_are_refused_one_by_one() {
    let wait = Duration::from_secs(2);
    let test =
        TestChangelog::of(10, |l| (l.max_replays, l.max_replays_per_client, l.replay_queue_timeout) = (1, 1, wait));
    let elsewhere = elsewhere();
    test.set("ws/t/a").await;
    test.gate.permits.add_permits(3);
    let held = test.load(&elsewhere).await.unwrap().unwrap();
    let (began, first) = (Instant::now(), test.load("ws"));
    test.settle().await;
    sleep(wait / 2).await;
    let second = test.load("ws");
    assert_eq!(first.await.unwrap().unwrap_err(), LoadError::TooManyReplays { limit: 1 });
    assert_eq!(began.elapsed().as_secs(), 2);
    assert_eq!(second.await.unwrap().unwrap_err(), LoadError::TooManyReplays { limit: 1 });
    assert_eq!(began.elapsed().as_secs(), 3);
    let third = test.load("ws");
    sleep(wait / 2).await;
    drop(held);
    assert_eq!(keys(&third.await.unwrap().unwrap()), ["ws/t/a"]);
}

/// Covers C44, R24.
#[tokio::test]
async fn a_load_that_leaves_is_no_longer_in_the_queue() {
    let test = TestChangelog::new(|l| (l.max_replays, l.max_replays_per_client) = (4, 4));
    test.set("ws/t/a").await;
    let first = test.load("ws");
    test.settle().await;
    let second = test.load("ws");
    test.settle().await;
    let topic = test.changelog.log.topic().await.unwrap();
    let id = PartitionId { topic_id: topic.id.clone(), partition: topic.partition_count.of_workspace(b"ws") };
    assert!(test.changelog.shared_replays.oldest(&id).is_some());
    second.abort();
    test.settle().await;
    assert_eq!(test.changelog.shared_replays.oldest(&id), None);
    test.gate.permits.add_permits(2);
    first.await.unwrap().unwrap();
    test.load("ws").await.unwrap().expect("a dispatcher starts again");
}

/// A load of a replay does not fail because there is no permit for it.
/// Covers R21.
#[tokio::test]
async fn a_load_of_a_shared_replay_needs_no_permit() {
    let wait = Duration::from_millis(100);
    let test = TestChangelog::new(|l| (l.max_replays, l.max_replays_per_client, l.replay_queue_timeout) = (2, 2, wait));
    test.set("ws/t/a").await;
    let first = test.load("ws");
    test.settle().await;
    // One has the other permit, and waits for the partition. Eight have none.
    let waiters: Vec<_> = (0..9).map(|_| test.load("ws")).collect();
    test.settle().await;
    test.gate.permits.add_permits(1);
    let held = first.await.unwrap().unwrap();
    test.settle().await;
    sleep(2 * wait).await;
    test.gate.permits.add_permits(1);
    for waiter in waiters {
        assert_eq!(keys(&waiter.await.unwrap().unwrap()), ["ws/t/a"]);
    }
    drop(held);
    assert_eq!(test.replays(), 2);
}

/// Alone the load would fail within seconds. It must not wait longer for a replay that a lost leader delays.
/// Covers C44, R7.
#[tokio::test]
async fn a_load_does_not_wait_for_a_stalled_replay() {
    let test = TestChangelog::new(|l| (l.max_replays, l.max_replays_per_client) = (4, 4));
    test.set("ws/t/a").await;
    test.gate.frozen.store(true, SeqCst);
    let held_up = test.load("ws");
    test.settle().await;
    test.gate.frozen.store(false, SeqCst);
    let (second, third) = (test.load("ws"), test.load("ws"));
    let waited = async {
        while test.replays() < 2 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(10), waited).await.expect("the next replay starts");
    test.settle().await;
    // A load waits for a replay that makes progress, however long it takes.
    let fourth = test.load("ws");
    sleep(3 * STALL_TIMEOUT).await;
    assert_eq!(test.replays(), 2);
    test.gate.permits.add_permits(3);
    for load in [held_up, second, third, fourth] {
        assert_eq!(keys(&load.await.unwrap().unwrap()), ["ws/t/a"]);
    }
    assert_eq!(test.replays(), 3);
}

#[tokio::test]
async fn a_drain_waits_for_a_replay_that_serves_a_load() {
    let test = TestChangelog::new(|_| {});
    test.set("ws/t/a").await;
    let load = test.load("ws");
    test.settle().await;
    let (changelog, deadline) = (test.changelog.clone(), Instant::now() + Duration::from_secs(60));
    let drain = tokio::spawn(async move { changelog.drain(deadline).await });
    test.settle().await;
    assert!(!drain.is_finished());
    test.gate.permits.add_permits(1);
    assert_eq!(keys(&load.await.unwrap().unwrap()), ["ws/t/a"]);
    assert_eq!(drain.await.unwrap(), Undelivered::default());
}
