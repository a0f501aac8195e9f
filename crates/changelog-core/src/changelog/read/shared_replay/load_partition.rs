//! A load of one partition: it joins the queue of the partition, and starts a replay for the queue if none is started.
//!
//! One waiter of a partition is the driver. It waits for a replay permit and for the partition, and then starts a
//! replay for all waiters. If the driver leaves, another waiter takes its role.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    loaded::LoadedPartition,
    queue::{PartitionId, Waiter},
    run::{PartitionSlot, ReplayRun},
};
use crate::{
    changelog::{
        Changelog, LoadError, Peer,
        admission::{PeerPermit, ReplayPermit},
    },
    log::{ReadError, Selection, StoreKind, Topic},
    model::Partition,
};

/// A loaded partition, with the permit of the client that asked for it.
#[derive(Debug)]
pub struct PeerLoad {
    pub loaded: LoadedPartition,
    _peer_permit: PeerPermit,
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
    ) -> Result<PeerLoad, LoadError> {
        let waiting = self.metrics.replay_awaited();
        let peer_permit = self.replays.acquire_peer(peer, deadline).await?;
        let ((reply, loaded), (started, starting)) = (oneshot::channel(), oneshot::channel());
        let waiter = Waiter { selection, deadline, queued_at: Instant::now(), started, reply };
        let loaded = wait_for_reply(loaded, partition, deadline);
        if !self.shares_replays() {
            let permit = self.replays.acquire_shared(deadline).await?;
            self.start_run(topic.clone(), partition, vec![waiter], permit, None);
            drop(waiting);
            return Ok(PeerLoad { loaded: loaded.await?, _peer_permit: peer_permit });
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
            let slot = slot.acquire_owned().await.ok().map(|permit| PartitionSlot { _permit: permit, stalled });
            // This load is one of them.
            let waiters = self.shared_replays.drain_waiters(&id, Duration::ZERO);
            self.start_run(topic.clone(), partition, waiters, permit, slot);
            Ok(())
        };
        tokio::pin!(loaded);
        let loaded = tokio::select! {
            biased;
            loaded = &mut loaded => loaded,
            // A waiter with a replay needs no permit, and must not fail because there is none.
            _ = starting => {
                drop(waiting);
                loaded.await
            }
            driven = drive => match driven {
                Ok(()) => {
                    drop(waiting);
                    loaded.await
                }
                Err(error) => Err(error),
            },
        };
        Ok(PeerLoad { loaded: loaded?, _peer_permit: peer_permit })
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
        slot: Option<PartitionSlot>,
    ) {
        let mut open = Vec::new();
        for waiter in waiters.into_iter().filter(|waiter| !waiter.reply.is_closed()) {
            // Before anything else: its wait for a permit may time out at any moment.
            let _ = waiter.started.send(());
            open.push((waiter.selection, waiter.deadline, waiter.reply));
        }
        let (log, metrics, max_load_memory) = (self.log.clone(), self.metrics.clone(), self.limits.max_load_memory);
        metrics.loads_coalesced(open.len().saturating_sub(1) as u64);
        self.tasks.spawn(async move {
            let mut run = ReplayRun::new(partition, open, permit, slot, max_load_memory);
            if let Some(ended) = run.read(&*log, topic, &metrics).await {
                run.deliver(&ended);
            }
        });
    }
}

async fn wait_for_reply(
    loaded: oneshot::Receiver<Result<LoadedPartition, LoadError>>,
    partition: Partition,
    deadline: Instant,
) -> Result<LoadedPartition, LoadError> {
    let late = |_| LoadError::Deadline {
        what: format!("while partition {partition} was replayed"),
        partition: Some(partition),
    };
    timeout_at(deadline, loaded)
        .await
        .map_err(late)?
        .unwrap_or_else(|_| Err(ReadError::EndedEarly { partition }.into()))
}
