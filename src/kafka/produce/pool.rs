//! The producer pool. librdkafka keeps the order of writes only within one producer and partition. So a partition, and
//! with it a workspace, always uses the same producer.
//!
//! Writes of a partition are coalesced, see [`super::coalesce`]. The caller submits a write to an idle partition. The
//! pool's submit thread submits queued writes. Queued writes count against the queue limits.
//!
//! A delivery report completes each write. After a failure librdkafka's message status decides whether the record can
//! be in the log.
//!
//! Does not send a record again, because that could duplicate or reorder what librdkafka has already sent.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Message, Statistics,
    config::RDKafkaLogLevel,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
    message::{Header as KafkaHeader, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer},
};
use tokio::sync::oneshot;

use super::coalesce::{MAX_COALESCE_WAIT, PartitionCoalescer, Submit, Wakeup};
use crate::{
    kafka::{
        client_context::log_line,
        ffi::{self, Persistence},
        metrics::Metrics,
        settings::{Role, Settings},
        topic::{LeaderObservation, TopicWatcher},
    },
    log::{Appended, NewRecord, PendingAppend, TopicProblem, TopicState, WriteError},
    model::{Partition, Position},
};

/// How long a retired producer may still receive delivery reports.
const RETIRE_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The same if the topic is deleted or another one, where most reports will never come.
const DISCARD_FLUSH_TIMEOUT: Duration = Duration::from_millis(250);

/// The bytes of a batch of one record in addition to its key, value and headers (KIP-98: 61 bytes, and some for each
/// length).
const BATCH_OVERHEAD: usize = 512;

type Reply = oneshot::Sender<Result<Appended, WriteError>>;

/// Writes of one producer that are accepted and not completed, queued ones included.
#[derive(Debug, Default)]
struct QueueUsage {
    writes: AtomicU64,
    bytes: AtomicUsize,
}

/// A write until its delivery report. Dropping it releases its part of the queue usage.
pub struct InFlightWrite {
    reply: Option<Reply>,
    partition: Partition,
    bytes: usize,
    /// The partition's leader when the write was accepted, as last observed.
    leader: LeaderObservation,
    usage: Arc<QueueUsage>,
    index: usize,
    /// Set once the write is submitted.
    submitted_to: Option<Arc<Coalescers>>,
}

impl Drop for InFlightWrite {
    fn drop(&mut self) {
        self.usage.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.usage.writes.fetch_sub(1, Ordering::AcqRel);
        if let Some(coalescers) = &self.submitted_to {
            coalescers.completed(self.index);
        }
    }
}

impl InFlightWrite {
    fn complete(&mut self, outcome: Result<Appended, WriteError>) {
        if let Some(reply) = self.reply.take() {
            // The send fails if the caller has stopped waiting, for example at its deadline.
            let _ = reply.send(outcome);
        }
    }
}

/// A write that is not submitted yet.
struct Queued {
    record: NewRecord,
    write: Box<InFlightWrite>,
}

/// A write that librdkafka did not accept.
struct Rejected {
    queued: Queued,
    error: WriteError,
}

/// The coalescers of all partitions.
struct Coalescers {
    partitions: Vec<PartitionCoalescer<Queued>>,
    wakeup: Wakeup,
}

impl Coalescers {
    fn completed(&self, index: usize) {
        if self.partitions[index].completed() {
            self.wakeup.notify(index);
        }
    }

    fn submitted(&self, index: usize, rejected_count: usize, returned: VecDeque<Queued>) {
        if self.partitions[index].submitted(rejected_count, returned) {
            self.wakeup.notify(index);
        }
    }
}

/// The context of a producer: it receives delivery reports and errors.
pub struct DeliveryContext {
    topic: String,
    max_message_bytes: usize,
    watcher: Arc<TopicWatcher>,
    /// librdkafka's message of a fatal error, after which the producer is unusable.
    fatal: OnceLock<String>,
}

impl ClientContext for DeliveryContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(Code::Fatal) {
            let _ = self.fatal.set(reason.to_owned());
        }
        tracing::debug!(target: "librdkafka", %error, reason, "producer error");
    }
}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = Box<InFlightWrite>;

    fn delivery(&self, report: &DeliveryResult<'_>, mut write: Box<InFlightWrite>) {
        let outcome = match report {
            // The broker has the record already, from an earlier attempt, and no longer knows its offset.
            Ok(message) if message.offset() < 0 => {
                let cause = format!("topic {:?}: it was written, and the broker does not say where", self.topic);
                Err(WriteError::OutcomeUnknown { by_time: false, cause })
            }
            Ok(message) => {
                let position = Position { partition: write.partition, offset: message.offset() };
                Ok(Appended { position, timestamp: message.timestamp().to_millis() })
            }
            Err((error, message)) => {
                Err(self.classify_failure(error, ffi::persistence(message), &write, message.partition()))
            }
        };
        write.complete(outcome);
    }
}

impl DeliveryContext {
    fn classify_failure(
        &self,
        error: &KafkaError,
        persistence: Persistence,
        write: &InFlightWrite,
        partition: i32,
    ) -> WriteError {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let cause = format!("topic {:?}: {code}", self.topic);
        if persistence != Persistence::No {
            return WriteError::OutcomeUnknown { by_time: code == Code::MessageTimedOut, cause };
        }
        // librdkafka calls every code that it has no rule for not persisted. But a broker that fails during an append
        // returns these codes too.
        if matches!(code, Code::Unknown | Code::RequestTimedOut | Code::BadMessage) {
            return WriteError::OutcomeUnknown { by_time: false, cause };
        }
        // A demoted leader returns NOT_LEADER also for records that it has appended and replicated. For librdkafka that
        // means not persisted, so it retries at the next leader. At the end it reports only that the time was up.
        let leader = self.watcher.leader(partition);
        let retried = match code {
            Code::MessageTimedOut => write.leader.may_have_changed(&leader),
            Code::PurgeQueue | Code::Fatal => write.leader.differs_from(&leader),
            _ => false,
        };
        if retried {
            let cause = format!("{cause}, and the leader of partition {partition} may have changed meanwhile");
            return WriteError::OutcomeUnknown { by_time: code == Code::MessageTimedOut, cause };
        }
        if let TopicState::Invalid(problem) = &*self.watcher.state().borrow() {
            return problem.clone().into();
        }
        // librdkafka retries this error until the write times out, and then reports only the timeout.
        if code == Code::MessageTimedOut
            && let Some((in_sync, min)) = self.watcher.too_few_in_sync(partition)
        {
            let cause = format!(
                "topic {:?}: partition {partition} has {in_sync} replicas in sync, min.insync.replicas is {min}",
                self.topic
            );
            return WriteError::NotEnoughReplicas { cause };
        }
        self.not_written_error(code, cause, write.bytes)
    }

    /// The error for a record that is certainly not in the log.
    fn not_written_error(&self, code: Code, cause: String, bytes: usize) -> WriteError {
        match code {
            Code::NotEnoughReplicas => WriteError::NotEnoughReplicas { cause },
            // The leader has appended the record, so it may still be replicated.
            Code::NotEnoughReplicasAfterAppend => WriteError::OutcomeUnknown { by_time: false, cause },
            // The broker rejected the batch, not this record: the topic's limit was lowered, and the producer will be
            // replaced.
            Code::MessageSizeTooLarge if bytes + BATCH_OVERHEAD <= self.watcher.config().max_message_bytes => {
                WriteError::Unreachable { cause: format!("{cause}, of the batch it was in") }
            }
            Code::MessageSizeTooLarge => {
                let limit = self.watcher.config().max_message_bytes.min(self.max_message_bytes);
                WriteError::TooLarge { limit, got: bytes }
            }
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => self.not_authorized(code.to_string()),
            // Purged or rejected by a producer with a fatal error. The cause may be that the service lost the right to
            // write, and with it the right to a producer id. Only librdkafka's message says so.
            Code::PurgeQueue | Code::Fatal => match self.fatal.get() {
                Some(reason) if reason.contains("authorization failed") => self.not_authorized(reason.clone()),
                _ => WriteError::Unreachable { cause },
            },
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                TopicProblem::NotFound { topic: self.topic.clone() }.into()
            }
            _ => WriteError::Unreachable { cause },
        }
    }

    fn not_authorized(&self, cause: String) -> WriteError {
        TopicProblem::NotAuthorized { what: format!("write to topic {:?}", self.topic), cause }.into()
    }
}

type Producer = ThreadedProducer<DeliveryContext>;

/// Submits writes to librdkafka.
struct Submitter {
    topic: String,
    watcher: Arc<TopicWatcher>,
    slots: Vec<RwLock<Arc<Producer>>>,
    coalescers: Arc<Coalescers>,
}

impl Submitter {
    fn produce(&self, queued: Queued) -> Result<(), Box<Rejected>> {
        let Queued { record, mut write } = queued;
        let index = write.index;
        write.submitted_to = Some(self.coalescers.clone());
        let mut new = BaseRecord::with_opaque_to(&self.topic, write)
            .partition(record.partition.number())
            .key(&record.key.bytes()[..]);
        new.payload = record.value.as_deref();
        if !record.headers.as_slice().is_empty() {
            let empty = OwnedHeaders::new_with_capacity(record.headers.as_slice().len());
            let headers = record.headers.as_slice().iter().fold(empty, |list, header| {
                list.insert(KafkaHeader { key: &header.key, value: header.value.as_deref() })
            });
            new = new.headers(headers);
        }
        let slot = &self.slots[index % self.slots.len()];
        // Held while the record is queued, so that a replaced producer gets no more records.
        let producer = slot.read().unwrap_or_else(PoisonError::into_inner);
        let Err((error, BaseRecord { delivery_opaque: mut write, .. })) = producer.send(new) else { return Ok(()) };
        write.submitted_to = None;
        let error = match error.rdkafka_error_code() {
            Some(Code::QueueFull) => queue_full(),
            Some(code) => producer.context().not_written_error(code, error.to_string(), write.bytes),
            None => WriteError::Unreachable { cause: error.to_string() },
        };
        Err(Box::new(Rejected { queued: Queued { record, write }, error }))
    }

    /// Submits the queue of a partition, if it is ready.
    fn submit_queued(&self, index: usize) {
        let Some(mut queue) = self.coalescers.partitions[index].take() else { return };
        let mut rejected_count = 0;
        let mut reject = |mut queued: Queued, error| {
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
    fn run(&self) {
        let coalescers = &self.coalescers;
        let mut last_full_check = Instant::now();
        while let Some(ready) =
            coalescers.wakeup.wait(|| coalescers.partitions.iter().any(PartitionCoalescer::has_queued))
        {
            // A partition whose writes are not completed never notifies, so all are checked from time to time.
            let check_all = ready.is_empty() || last_full_check.elapsed() >= MAX_COALESCE_WAIT / 2;
            if check_all {
                last_full_check = Instant::now();
            }
            let all = if check_all { 0..coalescers.partitions.len() } else { 0..0 };
            for index in ready.into_iter().chain(all) {
                self.submit_queued(index);
            }
        }
    }
}

fn queue_full() -> WriteError {
    WriteError::QueueFull {
        limit: "queue.buffering.max.messages or queue.buffering.max.kbytes of a producer".to_owned(),
    }
}

/// The producers of one topic.
pub struct ProducerPool {
    settings: Settings,
    metrics: Metrics,
    max_message_bytes: AtomicUsize,
    watcher: Arc<TopicWatcher>,
    submitter: Arc<Submitter>,
    /// Ends when the pool is dropped.
    submit_thread: Option<JoinHandle<()>>,
    /// One for each producer.
    usage: Vec<Arc<QueueUsage>>,
    /// How many writes and bytes one producer may have queued.
    limits: (u64, usize),
    closed: Arc<AtomicBool>,
}

impl Drop for ProducerPool {
    fn drop(&mut self) {
        self.submitter.coalescers.wakeup.stop();
        if let Some(submit_thread) = self.submit_thread.take() {
            let _ = submit_thread.join();
        }
        // No thread submits these any more.
        for mut queued in self.submitter.coalescers.partitions.iter().flat_map(PartitionCoalescer::discard_queued) {
            queued.write.complete(Err(WriteError::Draining));
        }
    }
}

impl ProducerPool {
    /// Creates the producers. The topic must be known, because its max.message.bytes bounds a batch.
    pub fn new(
        settings: Settings,
        metrics: Metrics,
        max_message_bytes: usize,
        watcher: Arc<TopicWatcher>,
        closed: Arc<AtomicBool>,
    ) -> Result<Self, String> {
        let slots = (0..settings.producers.max(1))
            .map(|_| Ok(RwLock::new(Arc::new(make_producer(&settings, max_message_bytes, &watcher)?))))
            .collect::<KafkaResult<Vec<_>>>()
            .map_err(|e| e.to_string())?;
        let (limits, usage) = (settings.queue_limits(), slots.iter().map(|_| Arc::default()).collect());
        let partitions = watcher.described().map_or(1, |d| d.partitions.len()).max(1);
        let partitions = (0..partitions).map(|_| PartitionCoalescer::default()).collect();
        let coalescers = Arc::new(Coalescers { partitions, wakeup: Wakeup::default() });
        let submitter =
            Arc::new(Submitter { topic: settings.topic.clone(), watcher: watcher.clone(), slots, coalescers });
        let submitting = submitter.clone();
        let submit_thread = thread::Builder::new().name("producer-submit".to_owned()).spawn(move || submitting.run());
        let submit_thread = Some(submit_thread.map_err(|e| e.to_string())?);
        let max_message_bytes = AtomicUsize::new(max_message_bytes);
        Ok(Self { settings, metrics, max_message_bytes, watcher, submitter, submit_thread, usage, limits, closed })
    }

    /// Accepts or rejects a record at once.
    pub fn append(&self, record: NewRecord) -> Result<PendingAppend, WriteError> {
        let (sender, pending) = oneshot::channel();
        let header_bytes: usize =
            record.headers.as_slice().iter().map(|h| h.key.len() + h.value.as_ref().map_or(0, bytes::Bytes::len)).sum();
        let bytes = record.key.bytes().len() + record.value.as_ref().map_or(0, bytes::Bytes::len) + header_bytes;
        let leader = self.watcher.leader(record.partition.number());
        let coalescers = &self.submitter.coalescers;
        let index = record.partition.index() % coalescers.partitions.len();
        let usage = self.usage[index % self.usage.len()].clone();
        let before = (usage.writes.fetch_add(1, Ordering::SeqCst), usage.bytes.fetch_add(bytes, Ordering::Relaxed));
        let (reply, partition) = (Some(sender), record.partition);
        let write = Box::new(InFlightWrite { reply, partition, bytes, leader, usage, index, submitted_to: None });
        // Checked after the write is counted. So either `close` sees the count, or this write sees that the log is
        // closed.
        if self.closed.load(Ordering::SeqCst) {
            return Err(WriteError::Draining);
        }
        if before.0 >= self.limits.0 || before.1.saturating_add(bytes) > self.limits.1 {
            return Err(queue_full());
        }
        match coalescers.partitions[index].submit(Queued { record, write }) {
            Submit::Queued { first } => {
                if first {
                    coalescers.wakeup.notify_if_idle();
                }
                Ok(pending)
            }
            Submit::Now(queued) => {
                let produced = self.submitter.produce(queued);
                coalescers.submitted(index, usize::from(produced.is_err()), VecDeque::new());
                produced.map(|()| pending).map_err(|rejected| rejected.error)
            }
        }
    }

    /// How many writes have no delivery report yet.
    pub fn in_flight(&self) -> u64 {
        self.usage.iter().map(|usage| usage.writes.load(Ordering::SeqCst)).sum()
    }

    /// Replaces producers with a fatal error. Blocks while the new ones are created.
    pub fn replace_fatal(&self) {
        let fatal = |i: usize, producer: &Producer| {
            let Some((code, text)) = producer.client().fatal_error() else { return false };
            tracing::error!(producer = i, %code, text, "a producer met a fatal error, and is replaced");
            true
        };
        let old = self.replace(fatal, |_| {});
        self.metrics.producers_replaced.inc_by(old.len() as u64);
        old.into_iter().for_each(retire);
    }

    /// Replaces the producers if the topic's limit has changed, because the batch size follows it. Blocks.
    pub fn set_max_message_bytes(&self, max_message_bytes: usize) {
        if self.max_message_bytes.swap(max_message_bytes, Ordering::Relaxed) == max_message_bytes {
            return;
        }
        tracing::info!(max_message_bytes, "the topic's max.message.bytes changed: producers are replaced");
        // The new producer must not overtake records of the old one. Records that were not sent are reported as not
        // written. The outcome of the others is not known.
        let all = self.replace(|_, _| true, |old| old.purge(PurgeConfig::default().queue().inflight()));
        if all.len() < self.submitter.slots.len() {
            // So that the next call tries again.
            self.max_message_bytes.store(0, Ordering::Relaxed);
        }
        all.into_iter().for_each(retire);
    }

    /// Discards writes accepted for a topic that is deleted, recreated or not served. Otherwise librdkafka would retry
    /// them until they time out. It could write them to a new topic of the same name. Blocks.
    pub fn discard_queued(&self) {
        if self.in_flight() == 0 {
            return;
        }
        // The producers are replaced too: after a purge, the next write of a producer has a gap in its sequence.
        for old in self.replace(|_, _| true, |_| {}) {
            old.purge(PurgeConfig::default().queue());
            let _ = old.flush(DISCARD_FLUSH_TIMEOUT);
        }
    }

    /// Replaces the producers that `which` selects. `before_swap` is called with each old one while no record can be
    /// queued.
    fn replace(&self, which: impl Fn(usize, &Producer) -> bool, before_swap: impl Fn(&Producer)) -> Vec<Arc<Producer>> {
        let mut replaced = Vec::new();
        for (i, slot) in self.submitter.slots.iter().enumerate() {
            if !which(i, &slot.read().unwrap_or_else(PoisonError::into_inner)) {
                continue;
            }
            match make_producer(&self.settings, self.max_message_bytes.load(Ordering::Relaxed), &self.watcher) {
                Ok(new) => {
                    let mut slot = slot.write().unwrap_or_else(PoisonError::into_inner);
                    before_swap(&slot);
                    replaced.push(std::mem::replace(&mut *slot, Arc::new(new)));
                }
                Err(error) => tracing::error!(producer = i, %error, "a producer could not be made"),
            }
        }
        replaced
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
impl ProducerPool {
    /// Gives each producer a fatal error.
    pub fn inject_fatal_error(&self) {
        for slot in &self.submitter.slots {
            ffi::inject_fatal_error(slot.read().unwrap_or_else(PoisonError::into_inner).client());
        }
    }
}

fn make_producer(settings: &Settings, max_message_bytes: usize, watcher: &Arc<TopicWatcher>) -> KafkaResult<Producer> {
    use rdkafka::config::FromClientConfigAndContext;
    let config = settings.config(Role::Producer { max_message_bytes });
    let context = DeliveryContext {
        topic: settings.topic.clone(),
        max_message_bytes,
        watcher: watcher.clone(),
        fatal: OnceLock::new(),
    };
    Producer::from_config_and_context(&config, context)
}
