//! Submits writes to librdkafka: the record of a write becomes a `BaseRecord` and goes to its partition's producer.
//!
//! The caller submits a write to an idle partition. The submit thread submits queued writes, see [`super::coalesce`].
//!
//! Promises: the writes of a partition reach its producer in the order in which they came. A queued write is not sent
//! to a topic that was deleted meanwhile.
//!
//! Does not know what becomes of a submitted write: see [`super::delivery`].

use std::{collections::VecDeque, sync::Arc, time::Instant};

use changelog_core::{
    log::{TopicState, WriteError},
    model::Headers,
};
use parking_lot::RwLock;
use rdkafka::{
    error::RDKafkaErrorCode as Code,
    message::{Header as KafkaHeader, OwnedHeaders},
    producer::{BaseRecord, Producer as _},
};

use super::{
    coalesce::Coalescers,
    delivery::{Producer, QueuedWrite},
};
use crate::{timeouts::COALESCE_CHECK_INTERVAL, topic::TopicWatcher};

/// A write that librdkafka did not accept.
struct Rejected {
    queued: QueuedWrite,
    error: WriteError,
}

pub fn queue_full() -> WriteError {
    WriteError::QueueFull {
        limit: "queue.buffering.max.messages or queue.buffering.max.kbytes of a producer".to_owned(),
    }
}

pub struct Submitter {
    pub topic: String,
    pub watcher: Arc<TopicWatcher>,
    /// The producers. A partition always uses the same slot.
    pub slots: Vec<RwLock<Arc<Producer>>>,
    pub coalescers: Arc<Coalescers<QueuedWrite>>,
}

impl Submitter {
    /// The indexes of the partitions that use a slot.
    pub fn partitions_of(&self, slot: usize) -> impl Iterator<Item = usize> {
        (slot..self.coalescers.len()).step_by(self.slots.len())
    }

    /// Submits a write if its partition is idle, else queues it. An error means that it was rejected.
    pub fn submit(&self, queued: QueuedWrite) -> Result<(), WriteError> {
        let index = queued.write.index;
        let Some(queued) = self.coalescers.submit(index, queued) else { return Ok(()) };
        let produced = self.produce(queued);
        self.coalescers.submitted(index, usize::from(produced.is_err()), VecDeque::new());
        produced.map_err(|rejected| rejected.error)
    }

    fn produce(&self, queued: QueuedWrite) -> Result<(), Box<Rejected>> {
        let QueuedWrite { record, mut write } = queued;
        let index = write.index;
        write.submitted_to = Some(self.coalescers.clone());
        let mut new = BaseRecord::with_opaque_to(&self.topic, write)
            .partition(record.partition.number())
            .key(&record.key.bytes()[..]);
        new.payload = record.value.as_deref();
        if let Some(headers) = kafka_headers(&record.headers) {
            new = new.headers(headers);
        }
        let slot = &self.slots[index % self.slots.len()];
        // Held while the record is queued, so that a replaced producer gets no more records.
        let producer = slot.read();
        let Err((error, BaseRecord { delivery_opaque: mut write, .. })) = producer.send(new) else { return Ok(()) };
        write.submitted_to = None;
        let error = match error.rdkafka_error_code() {
            Some(Code::QueueFull) => queue_full(),
            Some(code) => producer.context().not_written_error(code, error.to_string(), write.bytes),
            None => WriteError::Unreachable { cause: error.to_string() },
        };
        Err(Box::new(Rejected { queued: QueuedWrite { record, write }, error }))
    }

    /// Submits the queue of a partition, if it is ready.
    fn submit_queued(&self, index: usize) {
        let Some(mut queue) = self.coalescers.take(index) else { return };
        let mut rejected_count = 0;
        let mut reject = |mut queued: QueuedWrite, error| {
            queued.write.complete(Err(error));
            rejected_count += 1;
        };
        while let Some(queued) = queue.pop_front() {
            // A write queued for a deleted topic must not be sent to a new topic of the same name.
            if let TopicState::Invalid(problem) = &*self.watcher.state().borrow() {
                reject(queued, problem.clone().into());
                continue;
            }
            let Err(rejected) = self.produce(queued) else { continue };
            let Rejected { queued, error } = *rejected;
            if matches!(error, WriteError::QueueFull { .. }) {
                queue.push_front(queued);
                break;
            }
            reject(queued, error);
        }
        self.coalescers.submitted(index, rejected_count, queue);
    }

    /// Submits queued writes until the pool is dropped.
    pub fn run(&self) {
        let mut last_full_check = Instant::now();
        while let Some(ready) = self.coalescers.wait() {
            // A partition whose writes are not completed never notifies, so all are checked from time to time.
            let check_all = ready.is_empty() || last_full_check.elapsed() >= COALESCE_CHECK_INTERVAL;
            if check_all {
                last_full_check = Instant::now();
            }
            let all = if check_all { 0..self.coalescers.len() } else { 0..0 };
            for index in ready.into_iter().chain(all) {
                self.submit_queued(index);
            }
        }
    }
}

fn kafka_headers(headers: &Headers) -> Option<OwnedHeaders> {
    let headers = headers.as_slice();
    if headers.is_empty() {
        return None;
    }
    let empty = OwnedHeaders::new_with_capacity(headers.len());
    Some(
        headers
            .iter()
            .fold(empty, |list, header| list.insert(KafkaHeader { key: &header.key, value: header.value.as_deref() })),
    )
}
