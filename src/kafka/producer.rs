//! The producer pool. Order holds only inside one producer and partition, so a partition, and with it a workspace, always
//! goes through the same one.
//!
//! A delivery report answers each write. At a failure librdkafka's message status decides whether the record can be in the
//! log. Nothing is re-sent here: a retry of ours could double or reorder what librdkafka has already sent.

use std::{
    sync::{
        Arc, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientContext, Message, Statistics,
    config::RDKafkaLogLevel,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
    message::{Header as KafkaHeader, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig, ThreadedProducer},
};
use tokio::sync::oneshot;

use super::{
    context::log_line,
    native::{self, Persistence},
    settings::{Role, Settings},
    topic::{Leader, TopicCare},
};
use crate::log::{Appended, NewRecord, Pending, TopicProblem, TopicState, WriteError};

/// How long what is under way may still be answered when a producer is let go.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long where the topic is gone or another, and most of it will never be.
const LAST_ANSWERS_OF_A_WRONG_TOPIC: Duration = Duration::from_millis(250);

/// What a batch of one record takes beside its key, value and headers (KIP-98: 61 bytes, and some for each length).
const FRAMING: usize = 512;

type Answer = oneshot::Sender<Result<Appended, WriteError>>;

/// A write until its delivery report. Counted down when dropped, also if librdkafka never reports.
pub struct InFlight {
    answer: Option<Answer>,
    bytes: usize,
    /// The partition's leader when it was queued, as last heard.
    leader: Leader,
    count: Arc<AtomicU64>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The context of a producer.
pub struct Reports {
    topic: String,
    max_message_bytes: usize,
    care: Arc<TopicCare>,
    /// Why the producer is of no more use, in librdkafka's words, if it met a fatal error.
    fatal: OnceLock<String>,
}

impl ClientContext for Reports {
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

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<InFlight>;

    fn delivery(&self, report: &DeliveryResult<'_>, mut write: Box<InFlight>) {
        let outcome = match report {
            // The broker knows it for a repetition of what it has, but no longer where that is.
            Ok(message) if message.offset() < 0 => {
                let cause = format!("topic {:?}: it was written, and the broker does not say where", self.topic);
                Err(WriteError::OutcomeUnknown { by_time: false, cause })
            }
            Ok(message) => Ok(Appended { offset: message.offset(), timestamp: message.timestamp().to_millis() }),
            Err((error, message)) => {
                Err(self.failure(error, native::persistence(message), &write, message.partition()))
            }
        };
        if let Some(answer) = write.answer.take() {
            // Nobody waits any more: the caller's deadline has passed.
            let _ = answer.send(outcome);
        }
    }
}

impl Reports {
    fn failure(&self, error: &KafkaError, persistence: Persistence, write: &InFlight, partition: i32) -> WriteError {
        let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
        let cause = format!("topic {:?}: {code}", self.topic);
        if persistence != Persistence::No {
            return WriteError::OutcomeUnknown { by_time: code == Code::MessageTimedOut, cause };
        }
        // For librdkafka not persisted, as every code that it does not know better; but a broker that failed in the middle of an
        // append, or was not answered itself, has not said so.
        if matches!(code, Code::Unknown | Code::RequestTimedOut | Code::BadMessage) {
            return WriteError::OutcomeUnknown { by_time: false, cause };
        }
        // A leader that is demoted answers NOT_LEADER also of what it has appended and its followers have. librdkafka takes that
        // for not persisted, asks the next leader, and says at the end only that time was up.
        let leader = self.care.leader(partition);
        let retried = match code {
            Code::MessageTimedOut => write.leader.may_have_changed(&leader),
            Code::PurgeQueue | Code::Fatal => write.leader.is_another(&leader),
            _ => false,
        };
        if retried {
            let cause = format!("{cause}, and the leader of partition {partition} may have changed meanwhile");
            return WriteError::OutcomeUnknown { by_time: code == Code::MessageTimedOut, cause };
        }
        if let TopicState::Wrong(problem) = &*self.care.state().borrow() {
            return problem.clone().into();
        }
        // librdkafka asks again until the write times out, and then says no more than that.
        if code == Code::MessageTimedOut
            && let Some((in_sync, min)) = self.care.too_few_in_sync(partition)
        {
            let cause = format!(
                "topic {:?}: partition {partition} has {in_sync} replicas in sync, min.insync.replicas is {min}",
                self.topic
            );
            return WriteError::NotEnoughReplicas { cause };
        }
        self.unwritten(code, cause, write.bytes)
    }

    /// What is told of a record that is certainly not in the log.
    fn unwritten(&self, code: Code, cause: String, bytes: usize) -> WriteError {
        match code {
            Code::NotEnoughReplicas => WriteError::NotEnoughReplicas { cause },
            // It was appended by the leader: it may yet be replicated.
            Code::NotEnoughReplicasAfterAppend => WriteError::OutcomeUnknown { by_time: false, cause },
            // Refused for the batch that it was in: the topic's limit was lowered, and the producer is about to be replaced.
            Code::MessageSizeTooLarge if bytes + FRAMING <= self.care.config().max_message_bytes => {
                WriteError::Unreachable { cause: format!("{cause}, of the batch it was in") }
            }
            Code::MessageSizeTooLarge => {
                let limit = self.care.config().max_message_bytes.min(self.max_message_bytes);
                WriteError::TooLarge { limit, got: bytes }
            }
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => self.not_authorized(code.to_string()),
            // Purged from the queue, or refused, by a producer that met a fatal error. It can be that its deployment lost the
            // right to write, and with it the right to a producer's id: that is told in these words only.
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

type One = ThreadedProducer<Reports>;

/// The producers of one topic.
pub struct Pool {
    settings: Settings,
    max_message_bytes: AtomicUsize,
    care: Arc<TopicCare>,
    slots: Vec<RwLock<Arc<One>>>,
    in_flight: Arc<AtomicU64>,
    closed: Arc<AtomicBool>,
}

impl Pool {
    /// Made when the topic is known: its max.message.bytes bounds what a batch may be.
    pub fn new(
        settings: Settings,
        max_message_bytes: usize,
        care: Arc<TopicCare>,
        closed: Arc<AtomicBool>,
    ) -> KafkaResult<Self> {
        let slots = (0..settings.producers.max(1))
            .map(|_| Ok(RwLock::new(Arc::new(make(&settings, max_message_bytes, &care)?))))
            .collect::<KafkaResult<_>>()?;
        let (in_flight, max_message_bytes) = (Arc::default(), AtomicUsize::new(max_message_bytes));
        Ok(Self { settings, max_message_bytes, care, slots, in_flight, closed })
    }

    /// Accepts a record or refuses it, at once.
    pub fn append(&self, record: &NewRecord) -> Result<Pending, WriteError> {
        let (sender, pending) = oneshot::channel();
        let value = record.value.as_deref();
        let header_bytes: usize =
            record.headers.as_slice().iter().map(|h| h.key.len() + h.value.as_ref().map_or(0, bytes::Bytes::len)).sum();
        let bytes = record.key.bytes().len() + value.map_or(0, <[u8]>::len) + header_bytes;
        let leader = self.care.leader(record.partition.number());
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        let write = Box::new(InFlight { answer: Some(sender), bytes, leader, count: self.in_flight.clone() });
        // After it was counted: who closes sees the count, or this write sees that it is closed.
        if self.closed.load(Ordering::SeqCst) {
            return Err(WriteError::Draining);
        }
        let mut new = BaseRecord::with_opaque_to(&self.settings.topic, write)
            .partition(record.partition.number())
            .key(&record.key.bytes()[..]);
        new.payload = value;
        if !record.headers.as_slice().is_empty() {
            let empty = OwnedHeaders::new_with_capacity(record.headers.as_slice().len());
            let headers = record.headers.as_slice().iter().fold(empty, |list, header| {
                list.insert(KafkaHeader { key: &header.key, value: header.value.as_deref() })
            });
            new = new.headers(headers);
        }
        let slot = &self.slots[record.partition.index() % self.slots.len()];
        // Held while the record is queued, so that a replaced producer gets no more of them.
        let producer = slot.read().unwrap_or_else(PoisonError::into_inner);
        match producer.send(new) {
            Ok(()) => Ok(pending),
            Err((error, _)) => Err(match error.rdkafka_error_code() {
                Some(Code::QueueFull) => WriteError::QueueFull {
                    limit: "queue.buffering.max.messages or queue.buffering.max.kbytes of a producer".to_owned(),
                },
                Some(code) => producer.context().unwritten(code, error.to_string(), bytes),
                None => WriteError::Unreachable { cause: error.to_string() },
            }),
        }
    }

    /// Writes without a delivery report.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Replaces producers that met a fatal error. Blocks: what such a producer had queued resolves as it is let go.
    pub fn replace_fatal(&self) {
        let fatal = |i: usize, producer: &One| {
            let Some((code, text)) = producer.client().fatal_error() else { return false };
            tracing::error!(producer = i, %code, text, "a producer met a fatal error, and is replaced");
            true
        };
        let old = self.replace(fatal, |_| {});
        self.settings.producers_replaced.inc_by(old.len() as u64);
        old.into_iter().for_each(let_go);
    }

    /// The topic's limit was changed: batches that were in order are refused as a whole, or need no longer be so small. Blocks.
    pub fn take_limit(&self, max_message_bytes: usize) {
        if self.max_message_bytes.swap(max_message_bytes, Ordering::Relaxed) == max_message_bytes {
            return;
        }
        tracing::info!(max_message_bytes, "the topic's max.message.bytes changed: producers are replaced");
        // The new producer must overtake nothing that the old one has. What was not sent is told so; of what was, the outcome is
        // not known.
        let all = self.replace(|_, _| true, |old| old.purge(PurgeConfig::default().queue().inflight()));
        if all.len() < self.slots.len() {
            // To be tried again.
            self.max_message_bytes.store(0, Ordering::Relaxed);
        }
        all.into_iter().for_each(let_go);
    }

    /// Lets go of what was accepted for a topic that turned out to be gone, another, or not to be served: it would be tried
    /// until it times out, and may then be written to a topic of the same name. Blocks.
    pub fn give_up(&self) {
        if self.in_flight() == 0 {
            return;
        }
        // With its producer, as one whose queue alone was purged meets a gap in its own sequence at the next write.
        for old in self.replace(|_, _| true, |_| {}) {
            old.purge(PurgeConfig::default().queue());
            let _ = old.flush(LAST_ANSWERS_OF_A_WRONG_TOPIC);
        }
    }

    /// Puts new producers in the place of those that `which` picks. `last` is done to each old one while nothing can be queued.
    fn replace(&self, which: impl Fn(usize, &One) -> bool, last: impl Fn(&One)) -> Vec<Arc<One>> {
        let mut replaced = Vec::new();
        for (i, slot) in self.slots.iter().enumerate() {
            if !which(i, &slot.read().unwrap_or_else(PoisonError::into_inner)) {
                continue;
            }
            match make(&self.settings, self.max_message_bytes.load(Ordering::Relaxed), &self.care) {
                Ok(new) => {
                    let mut slot = slot.write().unwrap_or_else(PoisonError::into_inner);
                    last(&slot);
                    replaced.push(std::mem::replace(&mut *slot, Arc::new(new)));
                }
                Err(error) => tracing::error!(producer = i, %error, "a producer could not be made"),
            }
        }
        replaced
    }
}

/// Delivery reports of what it had accepted come during the flush (not sent, or not known); what is left is purged as it is
/// dropped, and reported too. On a thread of its own: the next producer that meets a fatal error must not wait for the rest of
/// this one. Ended by what a flush and a drop may take, some two seconds.
fn let_go(old: Arc<One>) {
    let flush = move || {
        let _ = old.flush(LAST_ANSWERS);
    };
    if let Err(error) = std::thread::Builder::new().name("old-producer".to_owned()).spawn(flush) {
        tracing::warn!(%error, "no thread can be had: what an old producer still has is purged");
    }
}

#[cfg(test)]
impl Pool {
    /// As if the broker had refused what no retry mends.
    pub fn make_fatal(&self) {
        for slot in &self.slots {
            native::make_fatal(slot.read().unwrap_or_else(PoisonError::into_inner).client());
        }
    }
}

fn make(settings: &Settings, max_message_bytes: usize, care: &Arc<TopicCare>) -> KafkaResult<One> {
    use rdkafka::config::FromClientConfigAndContext;
    let config = settings.config(Role::Producer { max_message_bytes });
    let reports =
        Reports { topic: settings.topic.clone(), max_message_bytes, care: care.clone(), fatal: OnceLock::new() };
    One::from_config_and_context(&config, reports)
}
