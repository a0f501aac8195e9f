//! A load of one partition: it joins the queue of the partition, and waits for the result of a replay.
//!
//! A *dispatcher* is a task that starts replays for the loads in the queue of one partition. It belongs to none of
//! them, and ends when the queue is empty.

use std::sync::Arc;

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

use super::{
    loaded::LoadedPartition,
    queue::{HeldSlot, PartitionId, PartitionSlots, SharedReplays, Waiter},
    run::ReplayRun,
};
use crate::{
    changelog::{
        Changelog, LoadError, Peer,
        admission::{PeerPermit, ReplayPermit},
        read::from_index::Indexed,
    },
    log::{ReadError, Selection, Topic},
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
        let id = PartitionId { topic_id: topic.id.clone(), partition };
        // Dropped after the receiver of the reply, which tells that this load has left.
        let _leaving = Leaving { queues: &self.shared_replays, id: &id };
        let (reply, loaded) = oneshot::channel();
        let waiter = Waiter { selection, deadline, queued_at: Instant::now(), reply, _waiting: Some(waiting) };
        if !self.shares_replays() {
            let mut permit = self.replays.acquire_shared(deadline).await?;
            let waiter = Waiter { _waiting: None, ..waiter };
            let indexed = self.load_from_index(topic, partition, &waiter.selection, &mut permit, deadline).await?;
            if let Some(Indexed { records, matched, end }) = indexed {
                let permit = Arc::new(permit);
                let loaded =
                    LoadedPartition { records: Arc::new(records), matched, end, shared: false, _permit: permit };
                return Ok(PeerLoad { loaded, _peer_permit: peer_permit });
            }
            self.start_run(topic.clone(), partition, vec![waiter], permit, None);
        } else if let Some(slots) = self.shared_replays.enqueue(&id, waiter) {
            self.tasks.spawn(self.clone().dispatch(topic.clone(), id.clone(), slots));
        }
        let late = |_| LoadError::deadline_before_end(partition);
        let loaded = timeout_at(deadline, loaded).await.map_err(late)?;
        let loaded = loaded.unwrap_or_else(|_| Err(ReadError::EndedEarly { partition }.into()))?;
        Ok(PeerLoad { loaded, _peer_permit: peer_permit })
    }

    fn shares_replays(&self) -> bool {
        self.limits.share_replays && self.log.reads_whole_partitions()
    }

    /// Starts one replay after the other, as long as loads wait for the partition.
    async fn dispatch(self, topic: Arc<Topic>, id: PartitionId, slots: PartitionSlots) {
        let _dispatching = Dispatching { queues: &self.shared_replays, id: &id };
        while !self.shared_replays.end_dispatcher(&id) {
            let slot = slots.acquire().await;
            if let Some(permit) = self.permit_for_waiters(&id).await {
                // Their end offsets are taken after this.
                let waiters = self.shared_replays.take_waiters(&id, |_| true);
                self.start_run(topic.clone(), id.partition, waiters, permit, slot);
            }
        }
    }

    /// Waits for a replay permit. Refuses each load that has waited for it as long as it may. Returns `None` if no load
    /// is left.
    async fn permit_for_waiters(&self, id: &PartitionId) -> Option<ReplayPermit> {
        let (began, timeout) = (Instant::now(), self.limits.replay_queue_timeout);
        let refuse = |waiter: Waiter, error: &LoadError| drop(waiter.reply.send(Err(error.clone())));
        let permit = self.replays.acquire_without_timeout();
        tokio::pin!(permit);
        loop {
            // Until the partition was free, loads waited for something else.
            let refused_at = self.shared_replays.oldest(id)?.max(began) + timeout;
            match timeout_at(refused_at, &mut permit).await {
                Ok(Ok(permit)) => return Some(permit),
                Ok(Err(error)) => {
                    self.shared_replays.take_waiters(id, |_| true).into_iter().for_each(|w| refuse(w, &error));
                    return None;
                }
                Err(_) => {
                    let now = Instant::now();
                    let waited = |waiter: &Waiter| waiter.queued_at.max(began) + timeout <= now;
                    let error = self.replays.too_many_replays();
                    self.shared_replays.take_waiters(id, waited).into_iter().for_each(|w| refuse(w, &error));
                }
            }
        }
    }

    /// Starts a replay in its own task, because it serves other loads, too.
    fn start_run(
        &self,
        topic: Arc<Topic>,
        partition: Partition,
        waiters: Vec<Waiter>,
        permit: ReplayPermit,
        slot: Option<HeldSlot>,
    ) {
        let (log, metrics, max_load_memory) = (self.log.clone(), self.metrics.clone(), self.limits.max_load_memory);
        let run = ReplayRun::new(partition, waiters, permit, slot, max_load_memory);
        metrics.loads_coalesced(run.loads().saturating_sub(1) as u64);
        self.tasks.spawn(async move {
            let mut run = run;
            if let Some(ended) = run.read(&*log, topic, &metrics).await {
                run.deliver(&ended);
            }
        });
    }
}

/// If a dispatcher panics, its loads get an error, and the next one starts another dispatcher.
struct Dispatching<'a> {
    queues: &'a SharedReplays,
    id: &'a PartitionId,
}

impl Drop for Dispatching<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.queues.abandon(self.id);
        }
    }
}

/// Removes a load from the queue when it leaves, with others that have left.
struct Leaving<'a> {
    queues: &'a SharedReplays,
    id: &'a PartitionId,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.queues.remove_left(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PartitionCount;

    /// Covers R21.
    #[tokio::test]
    async fn after_a_panic_of_a_dispatcher_its_loads_have_an_error_and_the_next_one_starts_another() {
        let queues = Arc::new(SharedReplays::default());
        let partition = PartitionCount::new(1).unwrap().of_workspace(b"ws");
        let id = PartitionId { topic_id: "topic".to_owned(), partition };
        let waiter = || {
            let (reply, loaded) = oneshot::channel();
            let now = Instant::now();
            let selection = Selection::all(PartitionCount::new(1).unwrap());
            (Waiter { selection, deadline: now, queued_at: now, reply, _waiting: None }, loaded)
        };
        let (first, loaded) = waiter();
        assert!(queues.enqueue(&id, first).is_some(), "it starts a dispatcher");
        let dispatcher = tokio::spawn({
            let (queues, id) = (queues.clone(), id.clone());
            async move {
                let _dispatching = Dispatching { queues: &queues, id: &id };
                panic!("a fault of the dispatcher");
            }
        });
        assert!(dispatcher.await.is_err());
        assert!(loaded.await.is_err(), "the load does not wait for its deadline");
        assert!(queues.enqueue(&id, waiter().0).is_some(), "the next load starts another dispatcher");
        assert!(queues.enqueue(&id, waiter().0).is_none());
    }
}
