//! The queues of waiting loads, one for each partition, and the start of replays for them.
//!
//! One waiter of a partition is the driver. It waits for a replay permit and for the partition, and then starts a
//! replay for all waiters. If the driver leaves, another waiter takes its role.

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

/// Stalled replays of one partition that may exist while another one runs. Other partitions need replay permits, too.
const MAX_STALLED_REPLAYS: usize = 4;

/// The latest records that one load asked for, complete.
#[derive(Debug, Clone)]
pub struct LoadedPartition {
    /// In the order of their offsets, without tombstones.
    pub records: Arc<Vec<Record>>,
    pub matched: MatchCounts,
    /// The range that was read.
    pub end: PartitionEnd,
    /// Whether other loads of the same replay hold these records, too.
    pub shared: bool,
    /// Released when the last load of the replay is dropped, because the records are in memory until then.
    pub(super) _permit: Arc<ReplayPermit>,
}

/// A loaded partition, with the permit of the client that asked for it.
#[derive(Debug)]
pub struct Arrived {
    pub loaded: LoadedPartition,
    _peer_permit: PeerPermit,
}

/// Delivers the result to one load.
pub type Reply = oneshot::Sender<Result<LoadedPartition, LoadError>>;

/// A load that waits for a replay.
#[derive(Debug)]
struct Waiter {
    selection: Selection,
    deadline: Instant,
    queued_at: Instant,
    /// Notified when a replay starts for this waiter.
    boarded: oneshot::Sender<()>,
    reply: Reply,
}

/// One partition of one topic. A topic that was created again has another id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PartitionId {
    topic_id: String,
    partition: Partition,
}

#[derive(Debug)]
struct PartitionQueue {
    /// One permit: for the replay that runs.
    slot: Arc<Semaphore>,
    /// Permits for stalled replays.
    stalled: Arc<Semaphore>,
    /// One permit: for the driver. So one partition waits for one replay permit at a time.
    driver: Arc<Semaphore>,
    waiters: Vec<Waiter>,
}

/// The queues of all partitions. They hold no more than the waiting loads.
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
        // Remove cancelled loads. Otherwise a partition whose replay stalls would collect them.
        queue.waiters.retain(|waiter| !waiter.reply.is_closed());
        queue.waiters.push(waiter);
        [queue.driver.clone(), queue.slot.clone(), queue.stalled.clone()]
    }

    /// Removes and returns the waiters that have waited for at least `min_wait`.
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
    /// Loads the latest selected records of one partition, from its low watermark to its end offset.
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
            // The semaphore is never closed. The wait ends with the load.
            let _driver = driver.acquire_owned().await.ok();
            let permit = match self.replays.acquire_shared(deadline).await {
                Err(error @ LoadError::TooManyReplays { .. }) => {
                    // Waiters that have waited as long would get no permit either.
                    for waiter in self.shared_replays.drain_waiters(&id, self.limits.replay_queue_timeout) {
                        let _ = waiter.reply.send(Err(error.clone()));
                    }
                    return Err(error);
                }
                permit => permit?,
            };
            let slot = slot.acquire_owned().await.ok().map(|running| Way { _running: running, stalled });
            // This load is one of them.
            let waiters = self.shared_replays.drain_waiters(&id, Duration::ZERO);
            self.start_run(topic.clone(), partition, waiters, permit, slot);
            Ok(())
        };
        tokio::pin!(arrived);
        let loaded = tokio::select! {
            biased;
            loaded = &mut arrived => loaded,
            // A waiter with a replay needs no permit, and must not fail because there is none.
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

    /// Starts a replay in its own task, because it serves other loads, too.
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
            // Before anything else: its wait for a permit may time out at any moment.
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
