//! The log on a topic of Apache Kafka.
//!
//! Promises what [`Log`] does. One long-lived client looks after the topic and asks for offsets; a small pool of producers
//! writes; each replay has a consumer of its own, made for it and dropped after it. Nothing subscribes, nothing commits, and
//! no topic is created unless that was asked for.
//!
//! Does not: notice writers that use another partitioner before a replay meets their records.

pub mod admin;
mod cluster;
mod context;
mod lane;
mod native;
mod offsets;
mod producer;
mod reading;
mod reaper;
mod replay;
mod settings;
#[cfg(test)]
mod simulation;
mod span;
#[cfg(test)]
mod tests;
mod topic;

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
    task::JoinHandle,
    time::{Instant, sleep},
};

pub use settings::{PropertyError, Settings, is_secret, parse_properties};

use self::{
    offsets::Offsetter,
    producer::Pool,
    reading::{Bounds, same_topic},
    reaper::Reaper,
    replay::Live,
    topic::TopicCare,
};
use crate::log::{
    Description, Log, NewRecord, PartitionState, PendingAppend, ReadError, Replay, ReplayRequest, StoreKind, Topic,
    TopicState, WriteError,
};

/// How often producers are looked at for fatal errors.
const LOOK_AT_PRODUCERS: Duration = Duration::from_millis(250);
/// Replays and descriptions that ask for their offsets at a time. A question holds a thread of the runtime's pool for seconds where leaders say
/// nothing, also when its caller has gone: those who come and go must not fill the pool.
const QUESTIONS: usize = 64;

struct Inner {
    settings: Settings,
    care: Arc<TopicCare>,
    offsetter: Offsetter,
    state: watch::Receiver<TopicState>,
    pool: OnceLock<Pool>,
    making_pool: Mutex<()>,
    reaper: Reaper,
    questions: Arc<Semaphore>,
    closed: Arc<AtomicBool>,
}

/// A log on a Kafka topic.
pub struct KafkaLog {
    inner: Arc<Inner>,
    /// Ended when this is dropped.
    tasks: Vec<JoinHandle<()>>,
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLog").field("topic", &self.inner.settings.topic).finish_non_exhaustive()
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        self.inner.closed.store(true, Ordering::Release);
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl KafkaLog {
    /// Starts to look after the topic. Fails only for what is wrong without asking a broker; everything else is told by the
    /// topic's state. Must be called on a tokio runtime.
    pub fn start(settings: Settings) -> Result<Self, PropertyError> {
        settings.check()?;
        let broken = |e: &dyn fmt::Display| PropertyError::client(&settings, e);
        let admin = Arc::new(admin::client(&settings).map_err(|e| broken(&e))?);
        let care = Arc::new(TopicCare::new(settings.clone(), admin.clone()));
        let inner = Arc::new(Inner {
            reaper: Reaper::start().map_err(|e| broken(&e))?,
            offsetter: Offsetter { admin, topic: settings.topic.clone(), state: care.state() },
            state: care.state(),
            pool: OnceLock::new(),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            making_pool: Mutex::default(),
            closed: Arc::default(),
            care,
            settings,
        });
        let care = inner.care.clone();
        let watching = tokio::spawn(async move { care.watch().await });
        let pools = inner.clone();
        let replacing = tokio::spawn(async move {
            loop {
                sleep(LOOK_AT_PRODUCERS).await;
                let pools = pools.clone();
                let _ = tokio::task::spawn_blocking(move || pools.look_at_producers()).await;
            }
        });
        Ok(Self { inner, tasks: vec![watching, replacing] })
    }
}

impl Inner {
    fn pool(&self) -> Result<&Pool, WriteError> {
        if let Some(pool) = self.pool.get() {
            return Ok(pool);
        }
        let _turn = self.making_pool.lock().unwrap_or_else(PoisonError::into_inner);
        if self.pool.get().is_none() {
            let limit = self.care.config().max_message_bytes;
            let pool = Pool::new(self.settings.clone(), limit, self.care.clone(), self.closed.clone());
            let pool = pool.map_err(|e| WriteError::Unreachable { cause: format!("no producer can be made: {e}") })?;
            let _ = self.pool.set(pool);
        }
        self.pool.get().ok_or_else(|| WriteError::Unreachable { cause: "no producer".to_owned() })
    }

    /// Blocks.
    fn look_at_producers(&self) {
        let Some(pool) = self.pool.get() else {
            // Made before the first write, which else waits for connections and the producer's id. Errors are told by writes.
            if matches!(&*self.state.borrow(), TopicState::Ready(_)) {
                let _ = self.pool();
            }
            return;
        };
        pool.replace_fatal();
        pool.take_limit(self.care.config().max_message_bytes);
        if matches!(&*self.state.borrow(), TopicState::Invalid(_)) {
            pool.give_up();
        }
    }
}

#[async_trait]
impl Log for KafkaLog {
    fn kind(&self) -> StoreKind {
        StoreKind::Kafka
    }

    fn topic_state(&self) -> watch::Receiver<TopicState> {
        self.inner.state.clone()
    }

    async fn topic(&self) -> Result<Arc<Topic>, ReadError> {
        self.inner.care.topic().await
    }

    fn append(&self, record: NewRecord) -> Result<PendingAppend, WriteError> {
        if self.inner.closed.load(Ordering::Acquire) {
            return Err(WriteError::Draining);
        }
        match &*self.inner.state.borrow() {
            // Brokers that were there may be back before the write times out: delivery decides.
            TopicState::Ready(_) | TopicState::Unreachable { topic: Some(_), .. } => {}
            TopicState::Unreachable { cause, topic: None } => {
                return Err(WriteError::Unreachable { cause: cause.clone() });
            }
            TopicState::Invalid(problem) => return Err(problem.clone().into()),
            TopicState::Failed(failure) => return Err(failure.clone().into()),
        }
        self.inner.pool()?.append(record)
    }

    async fn replay(&self, request: ReplayRequest) -> Result<Replay, ReadError> {
        let asked = std::time::Instant::now();
        let found = self.inner.care.topic().await?;
        same_topic(&request.topic, &found)?;
        let (events, replay) = Replay::channel();
        let (inner, config) = (self.inner.clone(), self.inner.care.config());
        let bounds = Bounds {
            open_transaction_wait: inner.settings.open_transaction_wait,
            no_progress: inner.settings.no_progress,
            min_compaction_lag: config.min_compaction_lag,
            delete_retention: config.delete_retention,
        };
        let mut live = Live {
            settings: inner.settings.clone(),
            care: inner.care.clone(),
            offsetter: inner.offsetter.clone(),
            closed: inner.closed.clone(),
            runtime: Handle::current(),
            topic: inner.care.state(),
            events,
        };
        let wanted = request.clone();
        let question = self.inner.questions.clone().acquire_owned().await;
        let question = question.map_err(|e| ReadError::Unreachable { cause: e.to_string() })?;
        let spans = tokio::task::spawn_blocking(move || {
            // Held until the thread is free again, not until the caller has lost interest.
            let _question = question;
            if live.events.is_closed() {
                return Err(span::nobody_waits());
            }
            let spans = span::spans(&mut live, &wanted, bounds.open_transaction_wait);
            spans.map(|spans| (live, spans))
        });
        let (live, spans) = spans.await.map_err(|e| ReadError::Unreachable { cause: e.to_string() })??;
        let reaper = self.inner.reaper.clone();
        let work = move || replay::run(live, &reaper, request, bounds, spans, asked);
        // Not a thread of the runtime's pool: a slow reader holds it for as long as it reads.
        let started = thread::Builder::new().name("replay".to_owned()).spawn(work);
        started.map_err(|e| ReadError::Unreachable { cause: format!("no thread can be had: {e}") })?;
        Ok(replay)
    }

    async fn describe(&self) -> Description {
        // The state may be a second old; the description should not begin with it.
        let topic = self.inner.care.topic().await.ok();
        let mut partitions = Vec::new();
        let mut findings = self.inner.care.findings();
        if let Some(topic) = &topic {
            let all: Vec<_> = topic.partition_count.all().collect();
            let question = self.inner.questions.clone().acquire_owned().await;
            let (inner, deadline) = (self.inner.clone(), std::time::Instant::now() + Duration::from_secs(4));
            let taken = tokio::task::spawn_blocking(move || {
                let _question = question;
                inner.offsetter.take(&all, deadline)
            })
            .await;
            let leaders = self.inner.care.described().map(|d| d.partitions).unwrap_or_default();
            match taken {
                Ok(Ok(taken)) => {
                    partitions.extend(taken.offsets.iter().map(|o| PartitionState {
                        partition: o.partition,
                        leader: leaders.iter().find(|l| l.partition == o.partition.number()).map_or(-1, |l| l.leader),
                        low: o.low,
                        last_stable: o.last_stable,
                        high: o.high,
                    }));
                }
                Ok(Err(error)) => findings.push(unknown_offsets(error.to_string())),
                Err(error) => findings.push(unknown_offsets(error.to_string())),
            }
        }
        Description { name: self.inner.settings.topic.clone(), topic, partitions, findings }
    }

    async fn close(&self, deadline: Instant) -> u64 {
        self.inner.closed.store(true, Ordering::SeqCst);
        let Some(pool) = self.inner.pool.get() else { return 0 };
        while pool.in_flight() > 0 && Instant::now() < deadline {
            sleep(Duration::from_millis(5)).await;
        }
        pool.in_flight()
    }
}

fn unknown_offsets(message: String) -> crate::log::Finding {
    crate::log::Finding { severity: crate::log::Severity::Error, code: "OFFSETS_UNKNOWN", message }
}
