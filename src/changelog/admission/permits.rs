//! ReplayLimiter among the replays: so many at a time in the process, of these so many a peer, and each with bytes of the budget.
//!
//! Promises: a turn is held until it is dropped, which is when the stream ends, or until a stream that follows has reached its
//! ends, which then counts among the follows; a peer over its share waits for its own share
//! first, so that it stands in nobody's way; turns are given in the order in which they were asked for.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::memory::{Exhausted, MemoryBudget, MemoryReservation};
use crate::{
    changelog::{Limits, LoadError},
    metrics::{Metrics, Running},
};

/// Who a call comes from, as far as shares go.
///
/// An address, since a machine can open as many connections as it likes. But on loopback and on a Unix socket it is the
/// connection: all clients of a pod share 127.0.0.1, and one share would make of the greedy and the modest one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A machine.
    Address(IpAddr),
    /// A connection from this machine, or this pod; numbered within the process.
    Connection(u64),
}

impl Default for Peer {
    /// Calls that came over no listener: all of them one peer.
    fn default() -> Self {
        Self::Connection(0)
    }
}

/// A peer's share, for as long as anybody waits for it or holds a part of it.
#[derive(Debug)]
struct PeerEntry {
    semaphore: Arc<Semaphore>,
    uses: usize,
}

/// What each peer may have of something.
#[derive(Debug)]
pub struct PeerLimiter {
    limit: usize,
    /// No larger than the calls that are open.
    entries: Mutex<HashMap<Peer, PeerEntry>>,
}

impl PeerLimiter {
    /// So many each.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, entries: Mutex::default() })
    }

    /// How many each.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// A part of a peer's, if there is one left.
    pub fn try_acquire(self: &Arc<Self>, peer: Peer) -> Option<PeerPermit> {
        let (semaphore, guard) = self.entry(peer);
        Some(PeerPermit { _permit: semaphore.try_acquire_owned().ok()?, _guard: guard })
    }

    /// That of a peer, and what keeps it for as long as it is used.
    fn entry(self: &Arc<Self>, peer: Peer) -> (Arc<Semaphore>, PeerEntryGuard) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || PeerEntry { semaphore: Arc::new(Semaphore::new(self.limit)), uses: 0 };
        let entry = entries.entry(peer).or_insert_with(new);
        entry.uses += 1;
        (entry.semaphore.clone(), PeerEntryGuard { limiter: self.clone(), peer })
    }
}

/// Keeps a peer's entry.
#[derive(Debug)]
struct PeerEntryGuard {
    limiter: Arc<PeerLimiter>,
    peer: Peer,
}

impl Drop for PeerEntryGuard {
    fn drop(&mut self) {
        let mut entries = self.limiter.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&self.peer) {
            entry.uses -= 1;
            if entry.uses == 0 {
                entries.remove(&self.peer);
            }
        }
    }
}

/// The turns of one process.
#[derive(Debug)]
pub struct ReplayLimiter {
    limits: Limits,
    slots: Arc<Semaphore>,
    peers: Arc<PeerLimiter>,
    budget: Arc<MemoryBudget>,
    metrics: Arc<Metrics>,
}

/// A turn, with its bytes. Given back when dropped.
#[derive(Debug)]
pub struct ReplayPermit {
    memory: MemoryReservation,
    slot: Option<ReplaySlot>,
}

/// A place among the replays.
#[derive(Debug)]
struct ReplaySlot {
    _permit: OwnedSemaphorePermit,
    /// Whose it is, unless many share it, each with his own.
    _peer_permit: Option<PeerPermit>,
    _running: Running,
}

/// A part of a peer's share.
#[derive(Debug)]
pub struct PeerPermit {
    _permit: OwnedSemaphorePermit,
    _guard: PeerEntryGuard,
}

impl ReplayPermit {
    /// Holds so many bytes beside what is read ahead, until the turn is over.
    pub fn reserve_memory(&mut self, fold_bytes: usize) -> Result<(), LoadError> {
        self.memory.reserve(fold_bytes).map_err(memory_budget_exceeded)
    }

    /// The ends are reached and sent: what follows reads ahead, and no more. Else as many streams could follow as may replay,
    /// and nobody could load beside them.
    pub fn release_slot(&mut self) {
        if self.slot.take().is_some() {
            self.memory.release_fold();
        }
    }
}

fn memory_budget_exceeded(error: Exhausted) -> LoadError {
    let Exhausted { limit, reserved, requested } = error;
    LoadError::MemoryBudgetExceeded { limit, reserved, requested }
}

impl ReplayLimiter {
    /// All free.
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            limits,
            slots: Arc::new(Semaphore::new(limits.max_replays)),
            peers: PeerLimiter::new(limits.max_replays_per_client),
            budget: MemoryBudget::new(limits.replay_memory, metrics.clone()),
            metrics,
        })
    }

    /// Waits for a turn, for as long as the queue is to be waited in.
    pub async fn acquire(self: &Arc<Self>, peer: Peer, deadline: Instant) -> Result<ReplayPermit, LoadError> {
        let queue_deadline = self.queue_deadline();
        let peer_permit = self.acquire_peer_until(peer, queue_deadline, deadline).await?;
        self.acquire_until(Some(peer_permit), queue_deadline, deadline).await
    }

    /// A part of this peer's share, without a turn.
    pub async fn acquire_peer(self: &Arc<Self>, peer: Peer, deadline: Instant) -> Result<PeerPermit, LoadError> {
        self.acquire_peer_until(peer, self.queue_deadline(), deadline).await
    }

    /// A turn for many, each with his part of his peer's share.
    pub async fn acquire_shared(&self, deadline: Instant) -> Result<ReplayPermit, LoadError> {
        self.acquire_until(None, self.queue_deadline(), deadline).await
    }

    fn queue_deadline(&self) -> Instant {
        Instant::now() + self.limits.replay_queue_timeout
    }

    async fn acquire_peer_until(
        self: &Arc<Self>,
        peer: Peer,
        queue_deadline: Instant,
        deadline: Instant,
    ) -> Result<PeerPermit, LoadError> {
        let (semaphore, guard) = self.peers.entry(peer);
        match timeout_at(deadline.min(queue_deadline), semaphore.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(PeerPermit { _permit: permit, _guard: guard }),
            _ if deadline < queue_deadline => Err(LoadError::Deadline(deadline_exceeded())),
            _ => Err(LoadError::TooManyReplaysOfPeer { limit: self.limits.max_replays_per_client }),
        }
    }

    async fn acquire_until(
        &self,
        peer_permit: Option<PeerPermit>,
        queue_deadline: Instant,
        deadline: Instant,
    ) -> Result<ReplayPermit, LoadError> {
        let permit = match timeout_at(deadline.min(queue_deadline), self.slots.clone().acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            _ if deadline < queue_deadline => return Err(LoadError::Deadline(deadline_exceeded())),
            _ => return Err(LoadError::TooManyReplays { limit: self.limits.max_replays }),
        };
        let memory = self.budget.reserve(self.limits.read_ahead).map_err(memory_budget_exceeded)?;
        let slot = ReplaySlot { _permit: permit, _peer_permit: peer_permit, _running: self.metrics.replay_started() };
        Ok(ReplayPermit { memory, slot: Some(slot) })
    }
}

fn deadline_exceeded() -> String {
    "the deadline passed before it was this replay's turn".to_owned()
}

#[cfg(test)]
mod tests {
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

    #[tokio::test(start_paused = true)]
    async fn s4_a_peer_over_its_share_waits_for_its_own_and_not_in_front_of_others() {
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
        assert!(limiter.peers.entries.lock().unwrap().is_empty(), "an entry goes with its last use");
        limiter.acquire(greedy, later()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn r21_turns_over_the_limit_are_refused_after_the_queue_s_wait_or_at_the_deadline() {
        let limiter = limiter(1, 1);
        let held = limiter.acquire(Peer::Connection(1), later()).await.unwrap();
        let before = Instant::now();
        let error = limiter.acquire(Peer::Connection(2), later()).await.unwrap_err();
        assert_eq!((error, before.elapsed()), (LoadError::TooManyReplays { limit: 1 }, Duration::from_secs(2)));
        let error =
            limiter.acquire(Peer::Connection(2), Instant::now() + Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(error, LoadError::Deadline(deadline_exceeded()));
        drop(held);
        let mut permit = limiter.acquire(Peer::Connection(2), later()).await.unwrap();
        assert_eq!(
            permit.reserve_memory(91).unwrap_err(),
            LoadError::MemoryBudgetExceeded { limit: 100, reserved: 10, requested: 262_144 }
        );
    }
}
