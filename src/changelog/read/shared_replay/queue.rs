//! Loads that wait for the same partition share one replay of it.
//!
//! A replay of a partition costs the same whoever it is for, so a storm of loads need not cost one each. One replay at a time is
//! under way of a partition. Of those who wait one is the next driver: he waits for a turn among the replays, and for the
//! partition, and then takes along all who wait. The replay's end offsets are taken after the last of them has come, so each of
//! them reads what was acknowledged before it began; who comes later waits for the next one. A storm costs two. A replay that
//! stands still holds nobody up: the next one begins beside it, up to a few.
//!
//! Promises: a waiter's end is his own. His deadline, his going away and his bound on memory end no other's ride; the replay goes
//! on for as long as there is anybody to read for. Each holds a part of his own peer's share until he has sent what he got. What
//! is folded is folded once for all who asked for the same, and is held of the budget, with the turn, until the last of them has
//! sent it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use super::run::{ReplayRun, Way};
use crate::{
    changelog::{
        Changelog, LoadError, Peer,
        admission::{PeerPermit, ReplayPermit},
        read::{fold::MatchCounts, stream::ended_early},
    },
    log::{PartitionEnd, Selection, StoreKind, Topic},
    model::{Partition, Record},
};

/// Replays of one partition that stand still while another is under way.
const MAX_STALLED_REPLAYS: usize = 4;

/// The latest records of what was asked for, whole.
#[derive(Debug, Clone)]
pub struct LoadedPartition {
    /// In the order of their last change; no tombstones.
    pub records: Arc<Vec<Record>>,
    /// What matched.
    pub matched: MatchCounts,
    /// The proof.
    pub end: PartitionEnd,
    /// It was read for others, too: as many may hold what they got, and send it as slowly as they like.
    pub shared: bool,
    /// Held for as long as anybody holds a part of what was read in it.
    pub(super) _permit: Arc<ReplayPermit>,
}

/// A ride that one load was given, and what it holds for it.
#[derive(Debug)]
pub struct Arrived {
    /// What was read.
    pub loaded: LoadedPartition,
    _peer_permit: PeerPermit,
}

/// Where what was read goes.
pub type Reply = oneshot::Sender<Result<LoadedPartition, LoadError>>;

/// Somebody who waits for a replay.
#[derive(Debug)]
struct Waiter {
    selection: Selection,
    deadline: Instant,
    queued_at: Instant,
    /// Told when a replay is to begin for him.
    boarded: oneshot::Sender<()>,
    reply: Reply,
}

/// One partition of one topic: an id that is another is another log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PartitionId {
    topic_id: String,
    partition: Partition,
}

#[derive(Debug)]
struct PartitionQueue {
    /// One replay at a time.
    slot: Arc<Semaphore>,
    /// Those that stand still, beside it.
    stalled: Arc<Semaphore>,
    /// One of those who wait holds this: only he takes a turn from others.
    driver: Arc<Semaphore>,
    waiters: Vec<Waiter>,
}

/// Who waits where. No larger than the topic's partitions, and those who wait.
#[derive(Debug, Default)]
pub struct SharedReplays {
    partitions: Mutex<HashMap<PartitionId, PartitionQueue>>,
}

impl SharedReplays {
    fn enqueue(&self, id: &PartitionId, waiter: Waiter) -> [Arc<Semaphore>; 3] {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let one = || Arc::new(Semaphore::new(1));
        let stalled = || Arc::new(Semaphore::new(MAX_STALLED_REPLAYS));
        let new = || PartitionQueue { slot: one(), stalled: stalled(), driver: one(), waiters: Vec::new() };
        let queue = partitions.entry(id.clone()).or_insert_with(new);
        // Those who have gone: else a partition whose replay stands still would collect them.
        queue.waiters.retain(|waiter| !waiter.reply.is_closed());
        queue.waiters.push(waiter);
        [queue.driver.clone(), queue.slot.clone(), queue.stalled.clone()]
    }

    /// Those who wait, or those of them who have waited for so long.
    fn drain_waiters(&self, id: &PartitionId, min_wait: Duration) -> Vec<Waiter> {
        let mut partitions = self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(queue) = partitions.get_mut(id) else { return Vec::new() };
        let (drained, left) =
            std::mem::take(&mut queue.waiters).into_iter().partition(|w| w.queued_at.elapsed() >= min_wait);
        queue.waiters = left;
        drained
    }
}

impl Changelog {
    /// The latest records of one partition that are selected, read from its low watermark to its end.
    pub(in crate::changelog::read) async fn load_partition(
        &self,
        topic: &Arc<Topic>,
        partition: Partition,
        selection: Selection,
        peer: Peer,
        deadline: Instant,
    ) -> Result<Arrived, LoadError> {
        let peer_permit = self.replays.acquire_peer(peer, deadline).await?;
        let ((reply, loaded), (boarded, boarding)) = (oneshot::channel(), oneshot::channel());
        let waiter = Waiter { selection, deadline, queued_at: Instant::now(), boarded, reply };
        let arrived = arrived(loaded, partition, deadline);
        if !self.shares_replays() {
            let permit = self.replays.acquire_shared(deadline).await?;
            self.start_run(topic.clone(), partition, vec![waiter], permit, None);
            return Ok(Arrived { loaded: arrived.await?, _peer_permit: peer_permit });
        }
        let id = PartitionId { topic_id: topic.id.clone(), partition };
        let [driver, slot, stalled] = self.shared_replays.enqueue(&id, waiter);
        let drive = async {
            // Closed never: the wait ends with the load.
            let _driver = driver.acquire_owned().await.ok();
            let permit = match self.replays.acquire_shared(deadline).await {
                Err(error @ LoadError::TooManyReplays { .. }) => {
                    // There is none for those either who have waited as long.
                    for waiter in self.shared_replays.drain_waiters(&id, self.limits.replay_queue_timeout) {
                        let _ = waiter.reply.send(Err(error.clone()));
                    }
                    return Err(error);
                }
                permit => permit?,
            };
            let slot = slot.acquire_owned().await.ok().map(|running| Way { _running: running, stalled });
            // This one is among them.
            let waiters = self.shared_replays.drain_waiters(&id, Duration::ZERO);
            self.start_run(topic.clone(), partition, waiters, permit, slot);
            Ok(())
        };
        tokio::pin!(arrived);
        let loaded = tokio::select! {
            biased;
            loaded = &mut arrived => loaded,
            // Who is taken along needs no turn of his own, and is not to be told that there is none.
            _ = boarding => arrived.await,
            driven = drive => match driven {
                Ok(()) => arrived.await,
                Err(error) => Err(error),
            },
        };
        Ok(Arrived { loaded: loaded?, _peer_permit: peer_permit })
    }

    fn shares_replays(&self) -> bool {
        self.limits.share_replays && self.log.kind() == StoreKind::Kafka
    }

    /// On a task of its own: it is not this caller's alone.
    fn start_run(
        &self,
        topic: Arc<Topic>,
        partition: Partition,
        waiters: Vec<Waiter>,
        permit: ReplayPermit,
        slot: Option<Way>,
    ) {
        let mut open = Vec::new();
        for waiter in waiters.into_iter().filter(|waiter| !waiter.reply.is_closed()) {
            // Before anything else runs: his time to wait for a turn may be over at any moment.
            let _ = waiter.boarded.send(());
            open.push((waiter.selection, waiter.deadline, waiter.reply));
        }
        let (log, metrics, max_load_memory) = (self.log.clone(), self.metrics.clone(), self.limits.max_load_memory);
        metrics.loads_coalesced(open.len().saturating_sub(1) as u64);
        tokio::spawn(async move {
            let mut run = ReplayRun::new(partition, open, permit, slot, max_load_memory);
            if let Some(ended) = run.run(&*log, topic, &metrics).await {
                run.deliver(&ended);
            }
        });
    }
}

async fn arrived(
    loaded: oneshot::Receiver<Result<LoadedPartition, LoadError>>,
    partition: Partition,
    deadline: Instant,
) -> Result<LoadedPartition, LoadError> {
    let late = |_| LoadError::Deadline(format!("the deadline passed while partition {partition} was replayed"));
    timeout_at(deadline, loaded).await.map_err(late)?.unwrap_or_else(|_| Err(ended_early(partition)))
}
