//! The outcome of each write: a delivery report completes it.
//!
//! Promises that a record is called not written only if it is certainly not in the log. After a failure librdkafka's
//! message status decides whether the record can be in the log.
//!
//! Does not submit writes, and sends no record again.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use changelog_core::{
    log::{Appended, InSync, NewRecord, TopicProblem, TopicState, WriteError},
    model::{Partition, Position},
};
use rdkafka::{
    ClientContext, Message,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::{DeliveryResult, ProducerContext, ThreadedProducer},
};
use tokio::sync::{Notify, oneshot};

use super::coalesce::Coalescers;
use crate::{
    client_context::{is_rejection, log_line},
    ffi::{self, Persistence},
    metrics::ClientStatistics,
    settings::Settings,
    timeouts::BATCH_OVERHEAD,
    topic::{LeaderObservation, TopicWatcher},
};

pub type Producer = ThreadedProducer<DeliveryContext>;

pub type Reply = oneshot::Sender<Result<Appended, WriteError>>;

/// Writes of one producer that are accepted and not completed, queued ones included.
#[derive(Debug, Default)]
pub struct QueueUsage {
    writes: AtomicU64,
    bytes: AtomicUsize,
}

impl QueueUsage {
    /// Counts a write. Returns the writes and bytes without it.
    pub fn add(&self, bytes: usize) -> (u64, usize) {
        (self.writes.fetch_add(1, Ordering::SeqCst), self.bytes.fetch_add(bytes, Ordering::Relaxed))
    }

    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// The bytes of their keys, values and headers.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The memory that its writes take.
    pub fn memory(&self) -> usize {
        memory_of(self.writes(), self.bytes())
    }
}

/// The memory of so many writes with so many bytes of keys, values and headers.
pub fn memory_of(writes: u64, bytes: usize) -> usize {
    usize::try_from(writes).unwrap_or(usize::MAX).saturating_mul(WRITE_OVERHEAD).saturating_add(bytes)
}

/// How many writes fit into so much memory at most.
pub fn max_writes(memory: usize) -> u64 {
    (memory / WRITE_OVERHEAD) as u64
}

/// What a write takes besides its bytes: its message in librdkafka, its place in our queues, and who waits for it.
const WRITE_OVERHEAD: usize = 1_024;

/// A write until its delivery report. Dropping it releases its part of the queue usage.
pub struct InFlightWrite {
    pub reply: Option<Reply>,
    pub partition: Partition,
    pub bytes: usize,
    /// The partition's leader when the write was accepted, as last observed.
    pub leader: LeaderObservation,
    /// The usage in which it is counted.
    pub usage: Arc<QueueUsage>,
    /// Its partition's coalescer.
    pub index: usize,
    /// Set once the write is submitted.
    pub submitted_to: Option<Arc<Coalescers<QueuedWrite>>>,
}

/// A write that is not submitted yet.
pub struct QueuedWrite {
    pub record: NewRecord,
    pub write: Box<InFlightWrite>,
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
    pub fn complete(&mut self, outcome: Result<Appended, WriteError>) {
        if let Some(reply) = self.reply.take() {
            // The send fails if the caller has stopped waiting, for example at its deadline.
            let _ = reply.send(outcome);
        }
    }
}

/// The context of a producer: it receives delivery reports and errors.
pub struct DeliveryContext {
    /// With which the producer was made.
    settings: Arc<Settings>,
    max_message_bytes: usize,
    watcher: Arc<TopicWatcher>,
    /// librdkafka's message of a fatal error, after which the producer is unusable.
    fatal: OnceLock<String>,
    /// Notified of each error of a producer.
    errors: Arc<Notify>,
    /// A broker has rejected a login since the last delivered write.
    is_rejected: AtomicBool,
    /// A write was delivered since [`DeliveryContext::may_go_on`] was last asked. Also true until it is asked first,
    /// because nothing is known by then.
    has_delivered: AtomicBool,
    statistics: ClientStatistics,
}

impl ClientContext for DeliveryContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" && is_rejection(message) {
            self.is_rejected.store(true, Ordering::Relaxed);
        }
        log_line(level, facility, message);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.statistics.update(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(Code::Fatal) {
            let _ = self.fatal.set(reason.to_owned());
        }
        // Any error may be fatal: librdkafka also reports fatal errors under the code of their cause.
        self.errors.notify_one();
        tracing::debug!(target: "librdkafka", %error, reason, "producer error");
    }
}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = Box<InFlightWrite>;

    fn delivery(&self, report: &DeliveryResult<'_>, mut write: Box<InFlightWrite>) {
        let outcome = match report {
            // The broker has the record already, from an earlier attempt, and no longer knows its offset.
            Ok(message) if message.offset() < 0 => {
                let cause =
                    format!("topic {:?}: it was written, and the broker does not say where", self.settings.topic);
                Err(WriteError::OutcomeUnknown { by_time: false, cause })
            }
            Ok(message) => {
                self.has_delivered.store(true, Ordering::Relaxed);
                self.is_rejected.store(false, Ordering::Relaxed);
                self.watcher.timestamp_accepted();
                let position = Position { partition: write.partition, offset: message.offset() };
                Ok(Appended { position, timestamp: message.timestamp().to_millis() })
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
                let cause = format!("topic {:?}: {code}", self.settings.topic);
                let outcome = self.classify_failure(code, cause, ffi::persistence(message), &write);
                if let WriteError::ClockSkew { cause, .. } = &outcome {
                    self.watcher.timestamp_rejected(cause);
                }
                Err(outcome)
            }
        };
        write.complete(outcome);
    }
}

impl DeliveryContext {
    pub fn new(
        settings: Arc<Settings>,
        max_message_bytes: usize,
        watcher: Arc<TopicWatcher>,
        errors: Arc<Notify>,
        statistics: ClientStatistics,
    ) -> Self {
        let (fatal, is_rejected, has_delivered) = (OnceLock::new(), AtomicBool::new(false), AtomicBool::new(true));
        Self { settings, max_message_bytes, watcher, fatal, errors, is_rejected, has_delivered, statistics }
    }

    /// Whether an outdated producer may still deliver the writes that it has. It may if no broker rejects it, and if it
    /// has delivered one since it was last asked this. The first time only a rejection counts.
    pub fn may_go_on(&self) -> bool {
        // Asked in each case, because this begins a new time.
        let has_delivered = self.has_delivered.swap(false, Ordering::Relaxed);
        has_delivered && !self.is_rejected.load(Ordering::Relaxed)
    }

    /// Whether the producer was made with these settings and this limit.
    pub fn is_made_for(&self, settings: &Arc<Settings>, max_message_bytes: usize) -> bool {
        Arc::ptr_eq(&self.settings, settings) && self.max_message_bytes == max_message_bytes
    }

    fn classify_failure(
        &self,
        code: Code,
        cause: String,
        persistence: Persistence,
        write: &InFlightWrite,
    ) -> WriteError {
        let partition = write.partition.number();
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
        // The same holds for a record that is purged while it waits for its next attempt.
        let may_be_retried = matches!(code, Code::MessageTimedOut | Code::PurgeQueue | Code::Fatal);
        if may_be_retried && write.leader.may_have_changed(&leader) {
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
                self.settings.topic
            );
            let replicas = Some(InSync { partition: write.partition, in_sync, min });
            return WriteError::NotEnoughReplicas { cause, replicas };
        }
        self.not_written_error(code, cause, write.bytes)
    }

    /// The error for a record that is certainly not in the log.
    pub fn not_written_error(&self, code: Code, cause: String, bytes: usize) -> WriteError {
        match code {
            Code::NotEnoughReplicas => WriteError::NotEnoughReplicas { cause, replicas: None },
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
            // The record has the time of this machine, and the broker compares it with its own. What the broker says is
            // lost: librdkafka keeps a pointer to text that it has freed.
            Code::InvalidTimestamp => self.watcher.config().rejected_timestamp(&cause),
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => self.not_authorized(code.to_string()),
            // Purged or rejected by a producer with a fatal error. The cause may be that the service lost the right to
            // write, and with it the right to a producer id. Only librdkafka's message says so.
            Code::PurgeQueue | Code::Fatal => match self.fatal.get() {
                Some(reason) if reason.contains("authorization failed") => self.not_authorized(reason.clone()),
                _ => WriteError::Unreachable { cause },
            },
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
                TopicProblem::NotFound { topic: self.settings.topic.clone() }.into()
            }
            Code::MessageTimedOut => WriteError::Unreachable { cause: self.with_cause(cause) },
            _ => WriteError::Unreachable { cause },
        }
    }

    /// Adds why the brokers can't be reached, if that is known. librdkafka says only that the time was up.
    fn with_cause(&self, text: String) -> String {
        match &*self.watcher.state().borrow() {
            TopicState::Unreachable { cause, .. } => format!("{text}; {cause}"),
            _ => text,
        }
    }

    fn not_authorized(&self, cause: String) -> WriteError {
        TopicProblem::NotAuthorized { what: format!("write to topic {:?}", self.settings.topic), cause }.into()
    }
}
