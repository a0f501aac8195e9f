//! A replay of a real cluster. A thread of its own queries offsets, polls a short-lived consumer, and sends batches
//! over a bounded channel.
//!
//! Does not decide where a replay ends: that is in [`super::reader`].

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use changelog_core::{
    log::{ReadCounter, ReadError, ReplayEvent, ReplayRequest, ReplaySender, Topic, TopicProblem, TopicState},
    model::Partition,
};
use rdkafka::{Offset, TopicPartitionList};
use tokio::{
    runtime::Handle,
    sync::{mpsc::error::TrySendError, watch},
    time::timeout,
};

use super::{
    cluster::{Cluster, OffsetSnapshot, SendOutcome, StartOffset},
    limits::{ReplayLimits, StopReason},
    offsets::OffsetClient,
    range::ReplayRange,
    reader::ReplayReader,
};
use crate::{clients::Clients, ffi, topic::TopicWatcher};

/// A real cluster, and the caller at the other end of the channel. Its calls block.
pub struct KafkaCluster {
    pub clients: Arc<Clients>,
    pub watcher: Arc<TopicWatcher>,
    pub offset_client: OffsetClient,
    pub closed: Arc<AtomicBool>,
    pub runtime: Handle,
    pub topic_state: watch::Receiver<TopicState>,
    pub events: ReplaySender,
    pub records_read: ReadCounter,
}

impl Cluster for KafkaCluster {
    type Consumer = ffi::Consumer;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn offsets(&mut self, partitions: &[Partition], deadline: Instant) -> Result<OffsetSnapshot, ReadError> {
        self.offset_client.list(partitions, deadline)
    }

    fn fetch_topic(&mut self) -> Result<Arc<Topic>, ReadError> {
        self.runtime.block_on(self.watcher.fetch(Instant::now()))
    }

    fn problem(&self) -> Option<TopicProblem> {
        match &*self.topic_state.borrow() {
            TopicState::Invalid(problem) => Some(problem.clone()),
            _ => None,
        }
    }

    fn min_compaction_lag(&self) -> Duration {
        self.watcher.config().min_compaction_lag
    }

    fn delete_retention(&self) -> Duration {
        self.watcher.config().delete_retention
    }

    fn consumer(&mut self, start_offsets: &[StartOffset]) -> Result<ffi::Consumer, ReadError> {
        let not_made = |e: &dyn Display| ReadError::Unreachable { cause: format!("a consumer can't be made: {e}") };
        let consumer = self.clients.consumer().map_err(|e| not_made(&e))?;
        let mut list = TopicPartitionList::new();
        let topic = &self.offset_client.topic;
        for StartOffset { partition, offset, leader_epoch } in start_offsets {
            // A concrete offset. With a logical one librdkafka waits half a second for a leader to become known.
            let (number, offset) = (partition.number(), Offset::Offset(*offset));
            list.add_partition_offset(topic, number, offset).map_err(|e| not_made(&e))?;
            if *leader_epoch >= 0 {
                ffi::set_leader_epoch(&mut list, topic, number, *leader_epoch);
            }
        }
        consumer.assign(&list).map_err(|e| not_made(&e))?;
        Ok(consumer)
    }

    fn count_read(&mut self, records: u64) {
        self.records_read.add(records);
    }

    fn send(&mut self, event: ReplayEvent, wait: Duration) -> SendOutcome {
        let event = match self.events.try_send(Ok(event)) {
            Ok(()) => return SendOutcome::Sent,
            Err(TrySendError::Full(Ok(event))) => event,
            Err(_) => return SendOutcome::Abandoned,
        };
        let permit = self.runtime.block_on(async { timeout(wait, self.events.reserve()).await });
        match permit {
            Ok(Ok(permit)) => {
                permit.send(Ok(event));
                SendOutcome::Sent
            }
            Ok(Err(_)) => SendOutcome::Abandoned,
            Err(_) => SendOutcome::Full(event),
        }
    }

    fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// Reads until every end offset, or without an end if the request follows. Blocks, so it runs on a thread of its own.
///
/// Destroying a consumer blocks until librdkafka's threads have ended, so each way out answers the caller first. When
/// the reader returns, its end events are in the channel. An error is put there, or a task waits for room for it. A
/// caller that has left gets no answer. Locals are dropped in reverse order, so the channel closes before the consumer
/// is destroyed, also after a panic. Nothing joins this thread, and no permit waits for it.
pub fn run(
    cluster: KafkaCluster,
    request: ReplayRequest,
    limits: ReplayLimits,
    ranges: Vec<ReplayRange>,
    requested_at: Instant,
) {
    // Declared first, so it is dropped last.
    let mut consumer = None;
    let (events, watcher, runtime) = (cluster.events.clone(), cluster.watcher.clone(), cluster.runtime.clone());
    let started_at = Instant::now();
    let on_counts = Box::new(move |partition, counts, whole| watcher.add_foreign_counts(partition, counts, whole));
    let mut reader = ReplayReader::new(cluster, request, ranges, limits, on_counts);
    let stop = reader.read(&mut consumer);
    let micros = |i: Instant| i.saturating_duration_since(requested_at).as_micros() as u64;
    tracing::debug!(
        offsets_us = micros(started_at),
        first_record_us = reader.first_record.map(micros),
        end_us = micros(Instant::now()),
        "a replay ended"
    );
    if let Err(StopReason::Failed(error)) = stop
        && let Err(TrySendError::Full(error)) = events.try_send(Err(error))
    {
        // The error waits for room, however long that takes. It must not wait for the consumer, and the consumer, with
        // what it has read ahead, must not wait for the caller.
        runtime.spawn(async move { events.send(error).await });
    }
}
