//! The producer pool. librdkafka keeps the order of writes only within one producer and partition. So a partition, and
//! with it a workspace, always uses the same producer.
//!
//! Accepts or rejects each write, and replaces producers. [`super::submit`] submits the accepted writes, and
//! [`super::delivery`] completes them. Queued writes count against the queue limits.
//!
//! Does not send a record again, because that could duplicate or reorder what librdkafka has already sent.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use changelog_core::{
    log::{NewRecord, PendingAppend, TopicState, WriteError, WriteQueue},
    metrics::used_part,
};
use parking_lot::{Mutex, RwLock};
use rdkafka::producer::{Producer as _, PurgeConfig};
use tokio::sync::{Notify, oneshot};

use super::{
    coalesce::Coalescers,
    delivery::{DeliveryContext, InFlightWrite, Producer, QueueUsage, QueuedWrite, max_writes, memory_of},
    submit::{Submitter, queue_full},
    swap::{Swapped, swap},
};
use crate::{
    clients::{ClientError, Clients},
    metrics::Metrics,
    settings::Settings,
    timeouts::{DISCARD_FLUSH_TIMEOUT, RETIRE_FLUSH_TIMEOUT},
    topic::TopicWatcher,
};

/// New producers, by slot.
struct Made {
    new: Vec<(usize, Arc<Producer>)>,
    /// `false` if one could not be made.
    all: bool,
}

/// How many writes and bytes one producer may have queued. They follow the settings.
struct QueueLimits {
    writes: AtomicU64,
    bytes: AtomicUsize,
}

impl QueueLimits {
    fn new(settings: &Settings) -> Self {
        let (writes, bytes) = settings.queue_limits();
        Self { writes: writes.into(), bytes: bytes.into() }
    }

    fn set(&self, settings: &Settings) {
        let (writes, bytes) = settings.queue_limits();
        self.writes.store(writes, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// The used part of the limit that these writes reach first.
    fn used(&self, usage: &QueueUsage, memory_limit: usize) -> f64 {
        let bytes = used_part(usage.bytes() as u64, self.bytes.load(Ordering::Relaxed) as u64);
        let memory = used_part(usage.memory() as u64, memory_limit as u64);
        used_part(usage.writes(), self.writes.load(Ordering::Relaxed)).max(bytes).max(memory)
    }

    /// Whether there is room for a write of this size in addition to these.
    fn allow(&self, writes: u64, queued_bytes: usize, bytes: usize) -> bool {
        let max_bytes = self.bytes.load(Ordering::Relaxed);
        writes < self.writes.load(Ordering::Relaxed) && queued_bytes.saturating_add(bytes) <= max_bytes
    }
}

/// The limits of a queue before there are producers.
pub fn queue_of(settings: &Settings) -> WriteQueue {
    empty_queue(settings.queue_limits().0, settings.producers, settings.queue_bytes)
}

/// `writes` is the limit of each producer, and `memory` that of all.
fn empty_queue(writes: u64, producers: usize, memory: usize) -> WriteQueue {
    let max_writes = writes.saturating_mul(producers as u64).min(max_writes(memory));
    WriteQueue { max_writes, max_bytes: memory, ..WriteQueue::default() }
}

/// The producers of one topic.
pub struct ProducerPool {
    clients: Arc<Clients>,
    metrics: Metrics,
    max_message_bytes: AtomicUsize,
    watcher: Arc<TopicWatcher>,
    submitter: Arc<Submitter>,
    /// Ends when the pool is dropped.
    submit_thread: Option<JoinHandle<()>>,
    /// One for each producer.
    usage: Vec<Arc<QueueUsage>>,
    limits: QueueLimits,
    /// How much memory the queued writes of all producers may take.
    queue_bytes: usize,
    /// Before this time outdated producers are left alone, because they go on. One replacement at a time has the lock,
    /// because the end of one releases the writes of its partitions.
    replace_after: Mutex<Option<Instant>>,
    /// Why no producer could be made at the last attempt. An error is logged once.
    not_made: Mutex<Option<String>>,
    closed: Arc<AtomicBool>,
    errors: Arc<Notify>,
}

impl Drop for ProducerPool {
    fn drop(&mut self) {
        self.submitter.coalescers.stop();
        if let Some(submit_thread) = self.submit_thread.take() {
            let _ = submit_thread.join();
        }
        // No thread submits these any more.
        for mut queued in self.submitter.coalescers.discard_queued() {
            queued.write.complete(Err(WriteError::Draining));
        }
    }
}

impl ProducerPool {
    /// Creates the producers. The topic must be known, because its max.message.bytes bounds a batch. `errors` is
    /// notified of each error of a producer.
    pub fn new(
        clients: Arc<Clients>,
        metrics: Metrics,
        max_message_bytes: usize,
        watcher: Arc<TopicWatcher>,
        closed: Arc<AtomicBool>,
        errors: Arc<Notify>,
    ) -> Result<Self, WriteError> {
        let settings = clients.settings();
        let slots = (0..settings.producers.max(1))
            .map(|_| Ok(RwLock::new(make_producer(&clients, max_message_bytes, &watcher, &errors, &metrics)?)))
            .collect::<Result<Vec<_>, ClientError>>()
            .map_err(|e| WriteError::Unreachable { cause: format!("no producer can be made: {e}") })?;
        let (limits, usage) = (QueueLimits::new(&settings), slots.iter().map(|_| Arc::default()).collect());
        let partitions = watcher.described().map_or(1, |d| d.partitions.len()).max(1);
        let coalescers = Arc::new(Coalescers::new(partitions));
        let submitter =
            Arc::new(Submitter { topic: settings.topic.clone(), watcher: watcher.clone(), slots, coalescers });
        let submitting = submitter.clone();
        let submit_thread = thread::Builder::new().name("producer-submit".to_owned()).spawn(move || submitting.run());
        let no_thread = |e| WriteError::OutOfFiles { cause: format!("no thread can be had: {e}") };
        let submit_thread = Some(submit_thread.map_err(no_thread)?);
        let max_message_bytes = AtomicUsize::new(max_message_bytes);
        Ok(Self {
            clients,
            queue_bytes: settings.queue_bytes,
            metrics,
            max_message_bytes,
            watcher,
            submitter,
            submit_thread,
            usage,
            limits,
            replace_after: Mutex::default(),
            not_made: Mutex::default(),
            closed,
            errors,
        })
    }

    /// The accepted writes without an outcome, and the memory that they take.
    pub fn queue(&self) -> WriteQueue {
        let limit = self.memory_limit();
        WriteQueue {
            writes: self.in_flight(),
            bytes: self.usage.iter().map(|usage| usage.memory()).sum(),
            fullest: self.usage.iter().map(|usage| self.limits.used(usage, limit)).fold(0.0, f64::max),
            ..empty_queue(self.limits.writes.load(Ordering::Relaxed), self.usage.len(), self.queue_bytes)
        }
    }

    /// How much memory the queued writes of one producer may take.
    fn memory_limit(&self) -> usize {
        self.queue_bytes / self.usage.len()
    }

    /// Accepts or rejects a record at once.
    pub fn append(&self, record: NewRecord) -> Result<PendingAppend, WriteError> {
        let (sender, pending) = oneshot::channel();
        let header_bytes: usize =
            record.headers.as_slice().iter().map(|h| h.key.len() + h.value.as_ref().map_or(0, bytes::Bytes::len)).sum();
        let bytes = record.key.bytes().len() + record.value.as_ref().map_or(0, bytes::Bytes::len) + header_bytes;
        let leader = self.watcher.leader(record.partition.number());
        let index = record.partition.index() % self.submitter.coalescers.len();
        let usage = self.usage[index % self.usage.len()].clone();
        let (writes, queued_bytes) = usage.add(bytes);
        let (reply, partition) = (Some(sender), record.partition);
        let write = Box::new(InFlightWrite { reply, partition, bytes, leader, usage, index, submitted_to: None });
        // Checked after the write is counted. So either `close` sees the count, or this write sees that the log is
        // closed.
        if self.closed.load(Ordering::SeqCst) {
            return Err(WriteError::Draining);
        }
        if !self.limits.allow(writes, queued_bytes, bytes) {
            return Err(queue_full());
        }
        let memory_limit = self.memory_limit();
        if memory_of(writes + 1, queued_bytes.saturating_add(bytes)) > memory_limit {
            return Err(WriteError::QueueFull { limit: format!("{memory_limit} bytes of memory of a producer") });
        }
        self.submitter.submit(QueuedWrite { record, write })?;
        Ok(pending)
    }

    /// How many writes have no delivery report yet.
    pub fn in_flight(&self) -> u64 {
        self.usage.iter().map(|usage| usage.writes()).sum()
    }

    /// Replaces producers with a fatal error. Returns whether all of them were replaced. Blocks while the new ones are
    /// created.
    pub fn replace_fatal(&self) -> bool {
        let fatal = |i: usize, producer: &Producer| {
            let Some((code, text)) = producer.client().fatal_error() else { return false };
            tracing::error!(producer = i, %code, text, "a producer met a fatal error, and is replaced");
            true
        };
        let Made { new, all } = self.make(fatal);
        let old = self.put(new);
        self.metrics.producers_replaced.inc_by(old.len() as u64);
        old.into_iter().for_each(retire);
        all
    }

    /// Replaces the producers that were made with other settings or for another max.message.bytes, because properties
    /// and the batch size follow them. Writes wait meanwhile, see [`swap`]. Returns whether all producers are up to
    /// date: one whose brokers are slow is replaced later. Blocks.
    pub fn replace_outdated(&self, max_message_bytes: usize) -> bool {
        let mut replace_after = self.replace_after.lock();
        if self.max_message_bytes.swap(max_message_bytes, Ordering::Relaxed) != max_message_bytes {
            tracing::info!(max_message_bytes, "the topic's max.message.bytes changed: producers are replaced");
        }
        let settings = self.clients.settings();
        let is_outdated = |producer: &Producer| !producer.context().is_made_for(&settings, max_message_bytes);
        if !self.submitter.slots.iter().any(|slot| is_outdated(&slot.read())) {
            *replace_after = None;
            return true;
        }
        // While no broker answers the admin client, a new producer delivers no more than an old one does.
        let is_served = matches!(&*self.watcher.state().borrow(), TopicState::Ready(_));
        if !is_served || replace_after.is_some_and(|time| Instant::now() < time) {
            return false;
        }
        let Made { new, all } = self.make(|_, producer| is_outdated(producer));
        let Swapped { replaced, unused } = swap(&self.submitter, new);
        if !replaced.is_empty() {
            self.limits.set(&settings);
        }
        let all = all && unused.is_empty();
        if !unused.is_empty() {
            tracing::info!("producers that changed settings replace have writes in flight: they are replaced later");
            // By then each write that they have now has its outcome.
            *replace_after = Some(Instant::now() + settings.write_timeout);
        }
        replaced.into_iter().chain(unused).for_each(retire);
        all
    }

    /// Discards writes accepted for a topic that is deleted, recreated or not served. Otherwise librdkafka would retry
    /// them until they time out. It could write them to a new topic of the same name. Blocks.
    pub fn discard_queued(&self) {
        if self.in_flight() == 0 {
            return;
        }
        // The producers are replaced too: after a purge, the next write of a producer has a gap in its sequence.
        for old in self.put(self.make(|_, _| true).new) {
            old.purge(PurgeConfig::default().queue());
            let _ = old.flush(DISCARD_FLUSH_TIMEOUT);
        }
    }

    /// Makes a new producer for each one that `which` selects.
    fn make(&self, which: impl Fn(usize, &Producer) -> bool) -> Made {
        let (mut new, mut failure) = (Vec::new(), None);
        for (i, slot) in self.submitter.slots.iter().enumerate() {
            if !which(i, &slot.read()) {
                continue;
            }
            let max_message_bytes = self.max_message_bytes.load(Ordering::Relaxed);
            match make_producer(&self.clients, max_message_bytes, &self.watcher, &self.errors, &self.metrics) {
                Ok(producer) => new.push((i, producer)),
                Err(error) => failure = Some((i, error.to_string())),
            }
        }
        let all = failure.is_none();
        let mut not_made = self.not_made.lock();
        match failure {
            // It is tried several times a second.
            Some((_, cause)) if not_made.as_ref() == Some(&cause) => {}
            Some((producer, cause)) => {
                tracing::error!(producer, %cause, "a producer can't be made, and is tried again");
                *not_made = Some(cause);
            }
            None if new.is_empty() => {}
            None => *not_made = None,
        }
        Made { new, all }
    }

    /// Puts new producers into their slots at once. Returns the old ones.
    fn put(&self, new: Vec<(usize, Arc<Producer>)>) -> Vec<Arc<Producer>> {
        let put = |(i, new): (usize, _)| std::mem::replace(&mut *self.submitter.slots[i].write(), new);
        new.into_iter().map(put).collect()
    }
}

/// Flushes and drops an old producer. Delivery reports of its writes come during the flush. The rest is purged and
/// reported when it is dropped. It runs on a thread of its own, so that the next replacement does not wait. The thread
/// ends after about two seconds, the time of a flush and a drop.
fn retire(old: Arc<Producer>) {
    let flush = move || {
        let _ = old.flush(RETIRE_FLUSH_TIMEOUT);
    };
    if let Err(error) = std::thread::Builder::new().name("old-producer".to_owned()).spawn(flush) {
        tracing::warn!(%error, "no thread can be had: what an old producer still has is purged");
    }
}

#[cfg(test)]
use rdkafka::ClientContext as _;

#[cfg(test)]
impl ProducerPool {
    /// Whether librdkafka has every write. Others would go to a new producer.
    pub fn has_submitted_all(&self) -> bool {
        // In this order, because a write leaves the queue when its submission begins.
        !self.submitter.coalescers.has_queued() && !self.submitter.coalescers.is_submitting()
    }

    /// Whether each producer was made with the settings in effect.
    pub fn is_up_to_date(&self) -> bool {
        let settings = self.clients.settings();
        let max_message_bytes = self.max_message_bytes.load(Ordering::Relaxed);
        self.submitter.slots.iter().all(|slot| slot.read().context().is_made_for(&settings, max_message_bytes))
    }

    /// Whether writes wait for a producer that is being replaced.
    pub fn is_holding(&self) -> bool {
        self.submitter.coalescers.is_holding()
    }

    /// Gives each producer the line of a failed connection.
    pub fn reject_logins(&self, line: &str) {
        for slot in &self.submitter.slots {
            slot.read().context().log(rdkafka::config::RDKafkaLogLevel::Error, "FAIL", line);
        }
    }

    /// Gives each producer a fatal error.
    pub fn inject_fatal_error(&self) {
        for slot in &self.submitter.slots {
            crate::ffi::inject_fatal_error(slot.read().client());
        }
    }
}

fn make_producer(
    clients: &Clients,
    max_message_bytes: usize,
    watcher: &Arc<TopicWatcher>,
    errors: &Arc<Notify>,
    metrics: &Metrics,
) -> Result<Arc<Producer>, ClientError> {
    // Before the producer is made: if the settings are replaced meanwhile, it counts as outdated.
    let (settings, statistics) = (clients.settings(), metrics.statistics.client());
    let context = DeliveryContext::new(settings, max_message_bytes, watcher.clone(), errors.clone(), statistics);
    clients.producer(max_message_bytes, context)
}
