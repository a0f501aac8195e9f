//! Turns among the replays: so many at a time in the process, of these so many a peer, and each with bytes of the budget.
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

use super::{
    Limits, LoadError,
    budget::{Budget, Exhausted, Held},
};
use crate::metrics::{Metrics, Running};

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
struct Share {
    semaphore: Arc<Semaphore>,
    uses: usize,
}

/// What each peer may have of something.
#[derive(Debug)]
pub struct Shares {
    limit: usize,
    /// No larger than the calls that are open.
    peers: Mutex<HashMap<Peer, Share>>,
}

impl Shares {
    /// So many each.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, peers: Mutex::default() })
    }

    /// How many each.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// A part of a peer's, if there is one left.
    pub fn try_part(self: &Arc<Self>, peer: Peer) -> Option<Part> {
        let (share, used) = self.of(peer);
        Some(Part { _permit: share.try_acquire_owned().ok()?, _use: used })
    }

    /// That of a peer, and what keeps it for as long as it is used.
    fn of(self: &Arc<Self>, peer: Peer) -> (Arc<Semaphore>, Use) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Share { semaphore: Arc::new(Semaphore::new(self.limit)), uses: 0 };
        let share = peers.entry(peer).or_insert_with(new);
        share.uses += 1;
        (share.semaphore.clone(), Use { shares: self.clone(), peer })
    }
}

/// Keeps a peer's entry.
#[derive(Debug)]
struct Use {
    shares: Arc<Shares>,
    peer: Peer,
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut peers = self.shares.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = peers.get_mut(&self.peer) {
            share.uses -= 1;
            if share.uses == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

/// The turns of one process.
#[derive(Debug)]
pub struct Turns {
    limits: Limits,
    all: Arc<Semaphore>,
    shares: Arc<Shares>,
    budget: Arc<Budget>,
    metrics: Arc<Metrics>,
}

/// A turn, with its bytes. Given back when dropped.
#[derive(Debug)]
pub struct Turn {
    held: Held,
    place: Option<Place>,
}

/// A place among the replays.
#[derive(Debug)]
struct Place {
    _all: OwnedSemaphorePermit,
    /// Whose it is, unless many share it, each with his own.
    _part: Option<Part>,
    _running: Running,
}

/// A part of a peer's share.
#[derive(Debug)]
pub struct Part {
    _permit: OwnedSemaphorePermit,
    _use: Use,
}

impl Turn {
    /// Holds so many bytes beside what is read ahead, until the turn is over.
    pub fn hold(&mut self, bytes: usize) -> Result<(), LoadError> {
        self.held.grow(bytes).map_err(no_room)
    }

    /// The ends are reached and sent: what follows reads ahead, and no more. Else as many streams could follow as may replay,
    /// and nobody could load beside them.
    pub fn leave(&mut self) {
        if self.place.take().is_some() {
            self.held.shrink();
        }
    }
}

fn no_room(error: Exhausted) -> LoadError {
    let Exhausted { limit, held, wanted } = error;
    LoadError::NoRoom { limit, held, wanted }
}

impl Turns {
    /// All free.
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            limits,
            all: Arc::new(Semaphore::new(limits.max_replays)),
            shares: Shares::new(limits.max_replays_per_peer),
            budget: Budget::new(limits.replay_budget, metrics.clone()),
            metrics,
        })
    }

    /// Waits for a turn, for as long as the queue is to be waited in.
    pub async fn take(self: &Arc<Self>, peer: Peer, deadline: Instant) -> Result<Turn, LoadError> {
        let queued = self.queue_ends();
        let part = self.part_until(peer, queued, deadline).await?;
        self.turn_until(Some(part), queued, deadline).await
    }

    /// A part of this peer's share, without a turn.
    pub async fn part(self: &Arc<Self>, peer: Peer, deadline: Instant) -> Result<Part, LoadError> {
        self.part_until(peer, self.queue_ends(), deadline).await
    }

    /// A turn for many, each with his part of his peer's share.
    pub async fn shared_turn(&self, deadline: Instant) -> Result<Turn, LoadError> {
        self.turn_until(None, self.queue_ends(), deadline).await
    }

    fn queue_ends(&self) -> Instant {
        Instant::now() + self.limits.replay_queue_wait
    }

    async fn part_until(self: &Arc<Self>, peer: Peer, queued: Instant, deadline: Instant) -> Result<Part, LoadError> {
        let (share, used) = self.shares.of(peer);
        match timeout_at(deadline.min(queued), share.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Part { _permit: permit, _use: used }),
            _ if deadline < queued => Err(LoadError::Deadline(too_late())),
            _ => Err(LoadError::TooManyOfPeer { limit: self.limits.max_replays_per_peer }),
        }
    }

    async fn turn_until(&self, part: Option<Part>, queued: Instant, deadline: Instant) -> Result<Turn, LoadError> {
        let all = match timeout_at(deadline.min(queued), self.all.clone().acquire_owned()).await {
            Ok(Ok(all)) => all,
            _ if deadline < queued => return Err(LoadError::Deadline(too_late())),
            _ => return Err(LoadError::TooManyReplays { limit: self.limits.max_replays }),
        };
        let held = self.budget.take(self.limits.read_ahead).map_err(no_room)?;
        let place = Place { _all: all, _part: part, _running: self.metrics.replay_started() };
        Ok(Turn { held, place: Some(place) })
    }
}

fn too_late() -> String {
    "the deadline passed before it was this replay's turn".to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{ValueMode, ValueRules};

    fn turns(max_replays: usize, max_replays_per_peer: usize) -> Arc<Turns> {
        let limits = Limits {
            values: ValueRules { mode: ValueMode::Json, max_bytes: 1 },
            max_replays,
            max_replays_per_peer,
            share_replays: true,
            replay_queue_wait: Duration::from_secs(2),
            replay_budget: 100,
            read_ahead: 10,
            max_follows: 1,
            max_load_bytes: 1,
        };
        Turns::new(limits, Arc::default())
    }

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    /// Covers S4.
    #[tokio::test(start_paused = true)]
    async fn a_client_over_its_limit_does_not_make_others_wait() {
        let turns = turns(4, 3);
        let (greedy, modest) = (Peer::Connection(1), Peer::Connection(2));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(turns.take(greedy, later()).await.unwrap());
        }
        let mut waiting = Vec::new();
        for _ in 0..100 {
            let turns = turns.clone();
            waiting.push(tokio::spawn(async move { turns.take(greedy, later()).await }));
        }
        tokio::task::yield_now().await;
        let before = Instant::now();
        drop(turns.take(modest, later()).await.unwrap());
        assert_eq!(before.elapsed(), Duration::ZERO, "it did not wait");
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap().unwrap_err(), LoadError::TooManyOfPeer { limit: 3 });
        }
        held.clear();
        assert!(turns.shares.peers.lock().unwrap().is_empty(), "an entry goes with its last use");
        turns.take(greedy, later()).await.unwrap();
    }

    /// Covers R21.
    #[tokio::test(start_paused = true)]
    async fn replays_over_the_limit_are_refused_after_the_queue_timeout_or_at_the_deadline() {
        let turns = turns(1, 1);
        let held = turns.take(Peer::Connection(1), later()).await.unwrap();
        let before = Instant::now();
        let error = turns.take(Peer::Connection(2), later()).await.unwrap_err();
        assert_eq!((error, before.elapsed()), (LoadError::TooManyReplays { limit: 1 }, Duration::from_secs(2)));
        let error = turns.take(Peer::Connection(2), Instant::now() + Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(error, LoadError::Deadline(too_late()));
        drop(held);
        let mut turn = turns.take(Peer::Connection(2), later()).await.unwrap();
        assert_eq!(turn.hold(91).unwrap_err(), LoadError::NoRoom { limit: 100, held: 10, wanted: 262_144 });
    }
}
