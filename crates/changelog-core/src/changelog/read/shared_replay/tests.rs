//! Shared replays over a log whose replays wait at a gate until the test opens it.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::run::STALL_TIMEOUT;
use crate::{
    changelog::{Ack, Changelog, Limits, Load, LoadError, Metrics, Peer, Undelivered},
    log::{Log, MOVING_INTERVAL, MemoryLog, Replay, ReplayEvent, StoreKind},
    model::{Headers, Key, PartitionCount, WorkspaceId},
    testing::FakeLog,
};

/// What a test controls and sees of the replays of [`gated`].
#[derive(Debug, Clone)]
struct Gate {
    /// How many replays were started.
    replays: Arc<AtomicUsize>,
    permits: Arc<Semaphore>,
    /// Whether replays stall before the gate. Otherwise they report progress.
    frozen: Arc<AtomicBool>,
}

/// A log that reads whole partitions, as Kafka does.
fn gated(memory: MemoryLog, gate: Gate) -> FakeLog {
    FakeLog::new(memory).with_kind(StoreKind::Kafka).on_replay(move |memory, request| {
        let gate = gate.clone();
        async move {
            gate.replays.fetch_add(1, SeqCst);
            // The end offsets are fixed now. Records come when the gate opens.
            let mut replay = memory.replay(request).await?;
            let (events, gated) = Replay::channel();
            let frozen = gate.frozen.load(SeqCst);
            tokio::spawn(async move {
                loop {
                    tokio::select! {
                        biased;
                        () = events.closed() => return,
                        permit = gate.permits.acquire() => {
                            permit.expect("open").forget();
                            break;
                        }
                        () = sleep(MOVING_INTERVAL), if !frozen => drop(events.try_send(Ok(ReplayEvent::Moving))),
                    }
                }
                while let Some(event) = replay.next().await {
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
            });
            Ok(gated)
        }
    })
}

struct TestChangelog {
    gate: Gate,
    changelog: Changelog,
    peers: AtomicUsize,
}

type Loading = JoinHandle<Result<Load, LoadError>>;

impl TestChangelog {
    fn new(change: impl FnOnce(&mut Limits)) -> Self {
        Self::of(1, change)
    }

    fn of(partitions: i64, change: impl FnOnce(&mut Limits)) -> Self {
        let memory = MemoryLog::new(PartitionCount::new(partitions).unwrap(), Duration::from_secs(86_400));
        let gate = Gate {
            replays: Arc::new(AtomicUsize::new(0)),
            permits: Arc::new(Semaphore::new(0)),
            frozen: Arc::new(AtomicBool::new(false)),
        };
        let mut limits = Limits { replay_queue_timeout: Duration::from_secs(60), ..Limits::for_tests() };
        change(&mut limits);
        let log = Arc::new(gated(memory, gate.clone()));
        let changelog = Changelog::new(log, limits, Metrics::default());
        Self { gate, changelog, peers: AtomicUsize::new(1) }
    }

    async fn set(&self, key: &str) {
        self.set_value(key, "1").await;
    }

    async fn set_value(&self, key: &str, value: &str) {
        let value = Some(value.to_owned().into());
        let record = self.changelog.write_target().record(Key::parse(key).unwrap(), value, Headers::default()).unwrap();
        self.changelog.write(record, Ack::Durable, None).await.unwrap();
    }

    fn load(&self, workspace: &str) -> Loading {
        self.load_until(workspace, Instant::now() + Duration::from_secs(60))
    }

    fn load_until(&self, workspace: &str, deadline: Instant) -> Loading {
        let (changelog, workspace) = (self.changelog.clone(), WorkspaceId::parse(workspace).unwrap());
        // Each load comes from another client.
        let peer = Peer::Connection(self.peers.fetch_add(1, SeqCst) as u64);
        tokio::spawn(async move { changelog.load(workspace, HashSet::new(), peer, deadline).await })
    }

    fn load_of(&self, peer: Peer) -> Loading {
        let (changelog, deadline) = (self.changelog.clone(), Instant::now() + Duration::from_secs(60));
        let workspace = WorkspaceId::parse("ws").unwrap();
        tokio::spawn(async move { changelog.load(workspace, HashSet::new(), peer, deadline).await })
    }

    /// Lets all tasks run until they wait.
    async fn settle(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    fn replays(&self) -> usize {
        self.gate.replays.load(SeqCst)
    }
}

fn keys(load: &Load) -> Vec<String> {
    load.records().iter().map(|r| String::from_utf8(r.key.to_vec()).unwrap()).collect()
}

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

/// The driver has no other role for a replay than to start it.
/// Covers C44, R24.
#[tokio::test]
async fn a_cancelled_load_leaves_a_shared_replay_to_the_other_loads() {
    let test = TestChangelog::new(|l| (l.max_replays, l.max_replays_per_client) = (4, 4));
    test.set("ws/t/a").await;
    let blocking = test.load("ws");
    test.settle().await;
    let driver = test.load("ws");
    test.settle().await;
    let waiter = test.load("ws");
    test.settle().await;
    test.gate.permits.add_permits(1);
    blocking.await.unwrap().unwrap();
    test.settle().await;
    assert_eq!(test.replays(), 2);
    driver.abort();
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

/// A load that has not sent its records holds a permit of its own client only, no matter which load was the driver.
/// Covers S4.
#[tokio::test]
async fn a_shared_replay_counts_against_each_client_on_its_own() {
    let wait = Duration::from_millis(100);
    let test = TestChangelog::new(|l| (l.max_replays, l.max_replays_per_client, l.replay_queue_timeout) = (8, 2, wait));
    test.set("ws/t/a").await;
    let (driver, slow) = (Peer::Connection(1_001), Peer::Connection(1_002));
    let mut held = Vec::new();
    for _ in 0..2 {
        let blocking = test.load("ws");
        test.settle().await;
        let (first, second) = (test.load_of(driver), test.load_of(slow));
        test.settle().await;
        test.gate.permits.add_permits(2);
        blocking.await.unwrap().unwrap();
        first.await.unwrap().unwrap();
        held.push(second.await.unwrap().unwrap());
    }
    assert_eq!(test.load_of(slow).await.unwrap().unwrap_err(), LoadError::TooManyReplaysOfPeer { limit: 2 });
    test.gate.permits.add_permits(1);
    test.load_of(driver).await.unwrap().expect("a slow client does not affect other clients");
}

/// Loads that wait for a replay of their partition hold no permits that others could use.
/// Covers R21.
#[tokio::test]
async fn loads_that_wait_for_a_partition_leave_permits_to_others() {
    let wait = Duration::from_millis(100);
    let test =
        TestChangelog::of(10, |l| (l.max_replays, l.max_replays_per_client, l.replay_queue_timeout) = (3, 3, wait));
    let count = PartitionCount::new(10).unwrap();
    let home = |w: &str| count.of_workspace(w.as_bytes());
    let elsewhere = (0..100).map(|i| format!("w{i}")).find(|w| home(w) != home("ws")).unwrap();
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
