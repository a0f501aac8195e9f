use std::time::Duration;

use super::*;
use crate::model::{ValueMode, ValueRules};

fn limiter(max_replays: usize, max_replays_per_client: usize) -> Arc<ReplayLimiter> {
    let limits = Limits {
        values: ValueRules { mode: ValueMode::Json, max_bytes: 1 },
        max_replays,
        max_replays_per_client,
        share_replays: true,
        replay_queue_timeout: Duration::from_secs(2),
        replay_memory: 100,
        read_ahead: 10,
        max_following_streams: 1,
        max_load_memory: 1,
    };
    ReplayLimiter::new(limits, Arc::default())
}

fn later() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Covers S4.
#[tokio::test(start_paused = true)]
async fn a_client_over_its_limit_does_not_make_others_wait() {
    let limiter = limiter(4, 3);
    let (greedy, modest) = (Peer::Connection(1), Peer::Connection(2));
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(limiter.acquire(greedy, later()).await.unwrap());
    }
    let mut waiting = Vec::new();
    for _ in 0..100 {
        let limiter = limiter.clone();
        waiting.push(tokio::spawn(async move { limiter.acquire(greedy, later()).await }));
    }
    tokio::task::yield_now().await;
    let before = Instant::now();
    drop(limiter.acquire(modest, later()).await.unwrap());
    assert_eq!(before.elapsed(), Duration::ZERO, "it did not wait");
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().unwrap_err(), LoadError::TooManyReplaysOfPeer { limit: 3 });
    }
    held.clear();
    assert!(limiter.peers.entries.lock().is_empty(), "an entry goes with its last use");
    limiter.acquire(greedy, later()).await.unwrap();
}

/// Covers R21.
#[tokio::test(start_paused = true)]
async fn replays_over_the_limit_are_refused_after_the_queue_timeout_or_at_the_deadline() {
    let limiter = limiter(1, 1);
    let held = limiter.acquire(Peer::Connection(1), later()).await.unwrap();
    let before = Instant::now();
    let error = limiter.acquire(Peer::Connection(2), later()).await.unwrap_err();
    assert_eq!((error, before.elapsed()), (LoadError::TooManyReplays { limit: 1 }, Duration::from_secs(2)));
    let error = limiter.acquire(Peer::Connection(2), Instant::now() + Duration::from_millis(100)).await.unwrap_err();
    assert_eq!(error, deadline_exceeded());
    drop(held);
    let mut permit = limiter.acquire(Peer::Connection(2), later()).await.unwrap();
    assert_eq!(
        permit.reserve_memory(91).unwrap_err(),
        LoadError::MemoryBudgetExceeded { limit: 100, reserved: 10, requested: 262_144 }
    );
}
