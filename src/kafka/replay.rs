//! A replay of the real cluster: a thread of its own, which asks leaders for offsets, polls a short-lived consumer and hands
//! batches over a bounded channel. What decides about its end is in [`super::reading`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{Offset, TopicPartitionList};
use tokio::{
    runtime::Handle,
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::timeout,
};

use super::{
    cluster::{Cluster, Offered, Place},
    native,
    offsets::{Offsetter, Taken},
    reading::{Bounds, Reading, Stop},
    reaper::Reaper,
    settings::{Role, Settings},
    span::Span,
    topic::TopicCare,
};
use crate::{
    log::{ReadError, ReplayEvent, ReplayRequest, Topic, TopicProblem, TopicState},
    model::Partition,
};

/// Where events go.
pub type Events = mpsc::Sender<Result<ReplayEvent, ReadError>>;

/// The real cluster, and the caller at the other end of a channel. Its calls block.
pub struct Live {
    pub settings: Settings,
    pub care: Arc<TopicCare>,
    pub offsetter: Offsetter,
    pub closed: Arc<AtomicBool>,
    pub runtime: Handle,
    /// What the watch knows of the topic.
    pub topic: watch::Receiver<TopicState>,
    pub events: Events,
}

impl Cluster for Live {
    type Consumer = native::Consumer;

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn pause(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn offsets(&mut self, partitions: &[Partition], deadline: Instant) -> Result<Taken, ReadError> {
        self.offsetter.take(partitions, deadline)
    }

    fn confirm(&mut self) -> Result<Arc<Topic>, ReadError> {
        self.runtime.block_on(self.care.confirm(Instant::now()))
    }

    fn problem(&self) -> Option<TopicProblem> {
        match &*self.topic.borrow() {
            TopicState::Invalid(problem) => Some(problem.clone()),
            _ => None,
        }
    }

    fn min_compaction_lag(&self) -> Duration {
        self.care.config().min_compaction_lag
    }

    fn consumer(&mut self, places: &[Place]) -> Result<native::Consumer, ReadError> {
        let unreachable =
            |e: rdkafka::error::KafkaError| ReadError::Unreachable { cause: format!("a consumer can't be made: {e}") };
        let queue_kib = self.settings.read_ahead_bytes / 1024;
        let consumer =
            native::Consumer::new(&self.settings.config(Role::Consumer { queue_kib })).map_err(unreachable)?;
        let mut list = TopicPartitionList::new();
        let topic = &self.settings.topic;
        for Place { partition, offset, leader_epoch } in places {
            // A concrete offset: a logical one waits half a second for a leader to become known.
            let (number, at) = (partition.number(), Offset::Offset(*offset));
            list.add_partition_offset(topic, number, at).map_err(unreachable)?;
            if *leader_epoch >= 0 {
                native::set_leader_epoch(&mut list, topic, number, *leader_epoch);
            }
        }
        consumer.assign(&list).map_err(unreachable)?;
        Ok(consumer)
    }

    fn offer(&mut self, event: ReplayEvent, wait: Duration) -> Offered {
        let event = match self.events.try_send(Ok(event)) {
            Ok(()) => return Offered::Taken,
            Err(TrySendError::Full(Ok(event))) => event,
            Err(_) => return Offered::Gone,
        };
        let place = self.runtime.block_on(async { timeout(wait, self.events.reserve()).await });
        match place {
            Ok(Ok(place)) => {
                place.send(Ok(event));
                Offered::Taken
            }
            Ok(Err(_)) => Offered::Gone,
            Err(_) => Offered::Full(event),
        }
    }

    fn is_gone(&self) -> bool {
        self.events.is_closed()
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// Reads until every end, or for ever with `follow`. Blocks: for a thread of its own.
pub fn run(live: Live, reaper: &Reaper, request: ReplayRequest, bounds: Bounds, spans: Vec<Span>, asked: Instant) {
    let (events, care) = (live.events.clone(), live.care.clone());
    let began = Instant::now();
    let met = Box::new(move |partition, counts, whole| care.met(partition, counts, whole));
    let mut reading = Reading::new(live, request, spans, bounds, met);
    let mut consumer = None;
    let stop = reading.read(&mut consumer);
    let micros = |i: Instant| i.saturating_duration_since(asked).as_micros() as u64;
    tracing::debug!(
        offsets_us = micros(began),
        first_record_us = reading.first_record.map(micros),
        end_us = micros(Instant::now()),
        "a replay ended"
    );
    if let Err(Stop::Failed(error)) = stop
        && let Err(TrySendError::Full(error)) = events.try_send(Err(error))
    {
        // The reader stalls. He is owed the error however long he takes, but what was read ahead is let go now.
        if let Some(consumer) = consumer.take() {
            reaper.take(consumer);
        }
        let _ = events.blocking_send(error);
    }
    // The answer is out: now there is time to let go, which may block.
    drop(reading);
    drop(events);
    if let Some(consumer) = consumer {
        reaper.take(consumer);
    }
}
