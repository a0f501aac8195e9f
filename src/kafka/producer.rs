//! The producer pool. Order holds only inside one producer and partition, so a partition, and with it a workspace, always
//! goes through the same one.
//!
//! A partition's writes are handed to librdkafka one batch after another, see [`super::lane`]: by the caller, if the partition is
//! idle, else by the pool's feeder, a thread of its own. What waits for that counts as queued.
//!
//! A delivery report answers each write. At a failure librdkafka's message status decides whether the record can be in the
//! log. Nothing is re-sent here: a retry of ours could double or reorder what librdkafka has already sent.

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
    producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig, ThreadedProducer},
};
use tokio::sync::oneshot;

use super::{
    context::log_line,
    lane::{Bell, Came, HOLD, Lane},
    native::{self, Persistence},
    settings::{Role, Settings},
    topic::{Leader, TopicCare},
};
use crate::log::{Appended, NewRecord, PendingAppend, TopicProblem, TopicState, WriteError};

/// How long what is under way may still be answered when a producer is let go.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long where the topic is gone or another, and most of it will never be.
const LAST_ANSWERS_OF_A_WRONG_TOPIC: Duration = Duration::from_millis(250);

/// What a batch of one record takes beside its key, value and headers (KIP-98: 61 bytes, and some for each length).
const FRAMING: usize = 512;

type Answer = oneshot::Sender<Result<Appended, WriteError>>;

/// What one producer, and what waits for it, has accepted and not answered.
#[derive(Debug, Default)]
struct Load {
    writes: AtomicU64,
    bytes: AtomicUsize,
}

/// A write until its delivery report. Counted down when dropped.
pub struct InFlight {
    answer: Option<Answer>,
    bytes: usize,
    /// The partition's leader when it was queued, as last heard.
    leader: Leader,
    load: Arc<Load>,
    lane: usize,
    /// Where it is under way, once it is.
    handed: Option<Arc<Lanes>>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.load.writes.fetch_sub(1, Ordering::AcqRel);
        if let Some(lanes) = &self.handed {
            lanes.answered(self.lane);
        }
    }
}

impl InFlight {
    fn tell(&mut self, outcome: Result<Appended, WriteError>) {
        if let Some(answer) = self.answer.take() {
            // Nobody waits any more: the caller's deadline has passed.
            let _ = answer.send(outcome);
        }
    }
}

/// A write that is to be handed over.
struct Queued {
    record: NewRecord,
    write: Box<InFlight>,
}

/// One that librdkafka did not take.
struct NotTaken {
    queued: Queued,
    error: WriteError,
}

/// The partitions' lanes.
struct Lanes {
    lanes: Vec<Lane<Queued>>,
    bell: Bell,
}

impl Lanes {
    fn answered(&self, lane: usize) {
        if self.lanes[lane].answered() {
            self.bell.ring(lane);
        }
    }

    fn handed(&self, lane: usize, refused: usize, back: VecDeque<Queued>) {
        if self.lanes[lane].handed(refused, back) {
            self.bell.ring(lane);
        }
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
        write.tell(outcome);
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
        if let TopicState::Invalid(problem) = &*self.care.state().borrow() {
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

/// What hands writes over.
struct Hands {
    topic: String,
    care: Arc<TopicCare>,
    slots: Vec<RwLock<Arc<One>>>,
    lanes: Arc<Lanes>,
}

impl Hands {
    fn hand(&self, queued: Queued) -> Result<(), Box<NotTaken>> {
        let Queued { record, mut write } = queued;
        let lane = write.lane;
        write.handed = Some(self.lanes.clone());
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
        let slot = &self.slots[lane % self.slots.len()];
        // Held while the record is queued, so that a replaced producer gets no more of them.
        let producer = slot.read().unwrap_or_else(PoisonError::into_inner);
        let Err((error, BaseRecord { delivery_opaque: mut write, .. })) = producer.send(new) else { return Ok(()) };
        write.handed = None;
        let error = match error.rdkafka_error_code() {
            Some(Code::QueueFull) => queue_full(),
            Some(code) => producer.context().unwritten(code, error.to_string(), write.bytes),
            None => WriteError::Unreachable { cause: error.to_string() },
        };
        Err(Box::new(NotTaken { queued: Queued { record, write }, error }))
    }

    /// All that waits in a lane, if it is its time.
    fn feed(&self, lane: usize) {
        let Some(mut taken) = self.lanes.lanes[lane].take() else { return };
        let mut refused = 0;
        let mut refuse = |mut queued: Queued, error| {
            queued.write.tell(Err(error));
            refused += 1;
        };
        while let Some(queued) = taken.pop_front() {
            // What waited for a topic that is gone or another must not get to one of the same name.
            if let TopicState::Invalid(problem) = &*self.care.state().borrow() {
                refuse(queued, problem.clone().into());
                continue;
            }
            let Err(not_taken) = self.hand(queued) else { continue };
            let NotTaken { queued, error } = *not_taken;
            if matches!(error, WriteError::QueueFull { .. }) {
                taken.push_front(queued);
                break;
            }
            refuse(queued, error);
        }
        self.lanes.handed(lane, refused, taken);
    }

    /// Hands over what waits, until it is stopped.
    fn run(&self) {
        let lanes = &self.lanes;
        let mut looked = Instant::now();
        while let Some(rung) = lanes.bell.wait(|| lanes.lanes.iter().any(Lane::any_wait)) {
            // Those whose answers don't come never ring.
            let all = rung.is_empty() || looked.elapsed() >= HOLD / 2;
            if all {
                looked = Instant::now();
            }
            let all = if all { 0..lanes.lanes.len() } else { 0..0 };
            for lane in rung.into_iter().chain(all) {
                self.feed(lane);
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
pub struct Pool {
    settings: Settings,
    max_message_bytes: AtomicUsize,
    care: Arc<TopicCare>,
    hands: Arc<Hands>,
    /// Ended when this is dropped.
    feeder: Option<JoinHandle<()>>,
    /// Of each producer.
    loads: Vec<Arc<Load>>,
    /// Writes and bytes that one producer may have queued, what waits for it included.
    limits: (u64, usize),
    closed: Arc<AtomicBool>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.hands.lanes.bell.stop();
        if let Some(feeder) = self.feeder.take() {
            let _ = feeder.join();
        }
        // Nobody hands these over any more.
        for mut queued in self.hands.lanes.lanes.iter().flat_map(Lane::give_up) {
            queued.write.tell(Err(WriteError::Draining));
        }
    }
}

impl Pool {
    /// Made when the topic is known: its max.message.bytes bounds what a batch may be.
    pub fn new(
        settings: Settings,
        max_message_bytes: usize,
        care: Arc<TopicCare>,
        closed: Arc<AtomicBool>,
    ) -> Result<Self, String> {
        let slots = (0..settings.producers.max(1))
            .map(|_| Ok(RwLock::new(Arc::new(make(&settings, max_message_bytes, &care)?))))
            .collect::<KafkaResult<Vec<_>>>()
            .map_err(|e| e.to_string())?;
        let (limits, loads) = (settings.queue_limits(), slots.iter().map(|_| Arc::default()).collect());
        let partitions = care.described().map_or(1, |d| d.partitions.len()).max(1);
        let lanes = (0..partitions).map(|_| Lane::default()).collect();
        let lanes = Arc::new(Lanes { lanes, bell: Bell::default() });
        let hands = Arc::new(Hands { topic: settings.topic.clone(), care: care.clone(), slots, lanes });
        let feeding = hands.clone();
        let feeder = thread::Builder::new().name("producer-feeder".to_owned()).spawn(move || feeding.run());
        let feeder = Some(feeder.map_err(|e| e.to_string())?);
        let max_message_bytes = AtomicUsize::new(max_message_bytes);
        Ok(Self { settings, max_message_bytes, care, hands, feeder, loads, limits, closed })
    }

    /// Accepts a record or refuses it, at once.
    pub fn append(&self, record: NewRecord) -> Result<PendingAppend, WriteError> {
        let (sender, pending) = oneshot::channel();
        let header_bytes: usize =
            record.headers.as_slice().iter().map(|h| h.key.len() + h.value.as_ref().map_or(0, bytes::Bytes::len)).sum();
        let bytes = record.key.bytes().len() + record.value.as_ref().map_or(0, bytes::Bytes::len) + header_bytes;
        let leader = self.care.leader(record.partition.number());
        let lanes = &self.hands.lanes;
        let lane = record.partition.index() % lanes.lanes.len();
        let load = self.loads[lane % self.loads.len()].clone();
        let queued = (load.writes.fetch_add(1, Ordering::SeqCst), load.bytes.fetch_add(bytes, Ordering::Relaxed));
        let write = Box::new(InFlight { answer: Some(sender), bytes, leader, load, lane, handed: None });
        // After it was counted: who closes sees the count, or this write sees that it is closed.
        if self.closed.load(Ordering::SeqCst) {
            return Err(WriteError::Draining);
        }
        if queued.0 >= self.limits.0 || queued.1.saturating_add(bytes) > self.limits.1 {
            return Err(queue_full());
        }
        match lanes.lanes[lane].come(Queued { record, write }) {
            Came::Waits { first } => {
                if first {
                    lanes.bell.look();
                }
                Ok(pending)
            }
            Came::Now(queued) => {
                let handed = self.hands.hand(queued);
                lanes.handed(lane, usize::from(handed.is_err()), VecDeque::new());
                handed.map(|()| pending).map_err(|not_taken| not_taken.error)
            }
        }
    }

    /// Writes without a delivery report.
    pub fn in_flight(&self) -> u64 {
        self.loads.iter().map(|load| load.writes.load(Ordering::SeqCst)).sum()
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
        if all.len() < self.hands.slots.len() {
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
        for (i, slot) in self.hands.slots.iter().enumerate() {
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
        for slot in &self.hands.slots {
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
