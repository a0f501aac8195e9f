//! Permits for replays, and fair shares of them.
//!
//! Promises: at most `max_replays` replays run at the same time, and at most `max_replays_per_client` of one client.
//! Permits are granted in the order of the requests. A client at its limit waits for its own permits, so it delays no
//! other client. Each wait ends at the queue timeout or at the caller's deadline. A permit is held until it is dropped,
//! or until its slot is released.
//! Does not: count following streams. A stream that reached its ends releases its slot, and is limited separately.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use super::memory::{Exhausted, MemoryBudget, MemoryReservation};
use crate::changelog::{
    Limits, LoadError,
    metrics::{Metrics, Running},
};

/// The client of a call, for limits per client.
///
/// A remote client is its address, because one machine can open many connections. On loopback and Unix sockets a client
/// is its connection, because all processes of a pod have the address 127.0.0.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A remote machine.
    Address(IpAddr),
    /// A connection from this machine or pod, numbered within the process.
    Connection(u64),
}

impl Default for Peer {
    /// Calls that came over no listener: all of them are one client.
    fn default() -> Self {
        Self::Connection(0)
    }
}

/// The permits of one client. The entry exists while a call waits for a permit or holds one.
#[derive(Debug)]
struct PeerEntry {
    semaphore: Arc<Semaphore>,
    uses: usize,
}

/// The same number of permits for each client.
#[derive(Debug)]
pub struct PeerLimiter {
    limit: usize,
    /// At most one entry for each open call.
    entries: Mutex<HashMap<Peer, PeerEntry>>,
}

impl PeerLimiter {
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, entries: Mutex::default() })
    }

    /// Permits of each client.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// A permit of this client, or `None` if it has no more.
    pub fn try_acquire(self: &Arc<Self>, peer: Peer) -> Option<PeerPermit> {
        let (semaphore, guard) = self.entry(peer);
        Some(PeerPermit { _permit: semaphore.try_acquire_owned().ok()?, _guard: guard })
    }

    /// The permits of a client, and a guard that keeps its entry.
    fn entry(self: &Arc<Self>, peer: Peer) -> (Arc<Semaphore>, PeerEntryGuard) {
        let mut entries = self.entries.lock();
        let new = || PeerEntry { semaphore: Arc::new(Semaphore::new(self.limit)), uses: 0 };
        let entry = entries.entry(peer).or_insert_with(new);
        entry.uses += 1;
        (entry.semaphore.clone(), PeerEntryGuard { limiter: self.clone(), peer })
    }
}

/// Keeps the entry of a client. The last guard removes it.
#[derive(Debug)]
struct PeerEntryGuard {
    limiter: Arc<PeerLimiter>,
    peer: Peer,
}

impl Drop for PeerEntryGuard {
    fn drop(&mut self) {
        let mut entries = self.limiter.entries.lock();
        if let Some(entry) = entries.get_mut(&self.peer) {
            entry.uses -= 1;
            if entry.uses == 0 {
                entries.remove(&self.peer);
            }
        }
    }
}

/// Admits the replays of one process.
#[derive(Debug)]
pub struct ReplayLimiter {
    limits: Limits,
    slots: Arc<Semaphore>,
    peers: Arc<PeerLimiter>,
    budget: Arc<MemoryBudget>,
    metrics: Arc<Metrics>,
}

/// The right to run a replay, and the memory that it reserved. Both are released on drop.
#[derive(Debug)]
pub struct ReplayPermit {
    memory: MemoryReservation,
    slot: Option<ReplaySlot>,
}

/// One of the `max_replays` slots.
#[derive(Debug)]
struct ReplaySlot {
    _permit: OwnedSemaphorePermit,
    /// `None` for a shared replay: there each load holds a permit of its own client.
    _peer_permit: Option<PeerPermit>,
    _running: Running,
}

/// One of the permits of a client.
#[derive(Debug)]
pub struct PeerPermit {
    _permit: OwnedSemaphorePermit,
    _guard: PeerEntryGuard,
}

impl ReplayPermit {
    /// Reserves memory for folded records, next to the memory for reading ahead. Never shrinks.
    pub fn reserve_memory(&mut self, fold_bytes: usize) -> Result<(), LoadError> {
        self.memory.reserve(fold_bytes).map_err(memory_budget_exceeded)
    }

    /// Releases the slot and the memory for folded records, and keeps the memory for reading ahead. For streams that
    /// reached their ends and follow: with slots, they would block all loads.
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
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            limits,
            slots: Arc::new(Semaphore::new(limits.max_replays)),
            peers: PeerLimiter::new(limits.max_replays_per_client),
            budget: MemoryBudget::new(limits.replay_memory),
            metrics,
        })
    }

    /// Bytes of memory that all replays have reserved.
    pub fn reserved_memory(&self) -> usize {
        self.budget.reserved()
    }

    /// Waits for a permit of the client and a slot, at most for the queue timeout.
    pub async fn acquire(self: &Arc<Self>, peer: Peer, deadline: Instant) -> Result<ReplayPermit, LoadError> {
        let (queue_deadline, _waiting) = (self.queue_deadline(), self.metrics.replay_awaited());
        let peer_permit = self.acquire_peer_until(peer, queue_deadline, deadline).await?;
        self.acquire_until(Some(peer_permit), queue_deadline, deadline).await
    }

    /// Waits for a permit of the client only, at most for the queue timeout.
    pub async fn acquire_peer(self: &Arc<Self>, peer: Peer, deadline: Instant) -> Result<PeerPermit, LoadError> {
        self.acquire_peer_until(peer, self.queue_deadline(), deadline).await
    }

    /// Waits for a slot only, at most for the queue timeout. For a replay whose loads each hold a permit of their
    /// client.
    pub async fn acquire_shared(&self, deadline: Instant) -> Result<ReplayPermit, LoadError> {
        self.acquire_until(None, self.queue_deadline(), deadline).await
    }

    /// Waits for a slot only, and has no time limit: each load that waits for the replay has its own.
    pub async fn acquire_without_timeout(&self) -> Result<ReplayPermit, LoadError> {
        let permit = self.slots.clone().acquire_owned().await;
        self.admit(None, permit.map_err(|_| self.too_many_replays())?)
    }

    /// Reserves memory to read ahead for a stream that follows from the first record on. It has no slot.
    pub fn admit_follower(&self) -> Result<ReplayPermit, LoadError> {
        let memory = self.budget.reserve(self.limits.read_ahead).map_err(memory_budget_exceeded)?;
        Ok(ReplayPermit { memory, slot: None })
    }

    /// The error of a load that got no slot within the queue timeout.
    pub fn too_many_replays(&self) -> LoadError {
        LoadError::TooManyReplays { limit: self.limits.max_replays }
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
            _ if deadline < queue_deadline => Err(deadline_exceeded()),
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
            _ if deadline < queue_deadline => return Err(deadline_exceeded()),
            _ => return Err(self.too_many_replays()),
        };
        self.admit(peer_permit, permit)
    }

    fn admit(&self, peer_permit: Option<PeerPermit>, permit: OwnedSemaphorePermit) -> Result<ReplayPermit, LoadError> {
        let memory = self.budget.reserve(self.limits.read_ahead).map_err(memory_budget_exceeded)?;
        let slot = ReplaySlot { _permit: permit, _peer_permit: peer_permit, _running: self.metrics.replay_started() };
        Ok(ReplayPermit { memory, slot: Some(slot) })
    }
}

fn deadline_exceeded() -> LoadError {
    LoadError::deadline_before("this replay got a permit")
}
