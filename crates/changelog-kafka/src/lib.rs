//! The log on a topic of Apache Kafka.
//!
//! Promises what [`Log`] promises. One long-lived admin client watches the topic and queries offsets. A small pool of
//! producers writes. Each replay has a consumer of its own. Nothing subscribes, nothing commits, and a topic is created
//! only with `--create-topic`.
//!
//! Does not notice a writer with another partitioner until a replay reads its records.

#![deny(missing_docs)]

pub mod admin;
mod client_context;
mod clients;
mod ffi;
mod metrics;
mod produce;
mod replay;
mod settings;
mod settings_watcher;
#[cfg(test)]
mod tests;
mod timeouts;
mod token;
mod topic;

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use async_trait::async_trait;
use changelog_core::{
    blocking::{BlockingError, run_blocking},
    log::{
        Description, Ends, Log, NewRecord, PartitionState, PendingAppend, ReadError, Replay, ReplayRequest, StoreKind,
        Topic, TopicState, WriteError, WriteQueue,
    },
    model::Partition,
};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use metrics::PartitionMetrics;

pub use metrics::Metrics;
pub use settings::{
    Brokers, BrokersError, Properties, PropertiesError, PropertiesFile, PropertiesFileError, PropertyError, Settings,
    is_secret, parse_properties, shown_name, shown_path, shown_property, shown_text,
};

use self::{
    clients::Clients,
    produce::ProducerPool,
    replay::{KafkaCluster, limits::ReplayLimits, offsets::OffsetClient, range},
    settings::Loaded,
    settings_watcher::SettingsWatcher,
    timeouts::{
        CLOSE_CHECK_INTERVAL, DESCRIBE_OFFSETS_WAIT, MAX_OFFSET_QUERIES, OFFSETS_INTERVAL, PRODUCER_CHECK_FALLBACK,
        PRODUCER_CHECK_INTERVAL,
    },
    token::Provider,
    topic::TopicWatcher,
};

/// The versions of librdkafka and OpenSSL, which are linked in.
pub fn library_versions() -> [String; 2] {
    let openssl = openssl::version::version();
    // Such as "OpenSSL 3.5.1 1 Jul 2025".
    let number = openssl.split_whitespace().nth(1).unwrap_or(openssl);
    [rdkafka::util::get_rdkafka_version().1, number.to_owned()]
}

struct Inner {
    settings: Settings,
    clients: Arc<Clients>,
    settings_watcher: Arc<SettingsWatcher>,
    metrics: Metrics,
    watcher: Arc<TopicWatcher>,
    offset_client: OffsetClient,
    state: watch::Receiver<TopicState>,
    pool: OnceLock<ProducerPool>,
    pool_creation: Mutex<()>,
    offset_queries: Arc<Semaphore>,
    closed: Arc<AtomicBool>,
    /// Notified of each error of a producer, and when producers are to be replaced.
    producer_events: Arc<Notify>,
}

/// A log on a Kafka topic.
pub struct KafkaLog {
    inner: Arc<Inner>,
    /// Aborted when this is dropped.
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
    /// Starts to watch the topic. Must be called on a tokio runtime.
    ///
    /// Fails only for settings that are wrong without asking a broker. Everything else is reported by
    /// [`Log::topic_state`].
    pub fn start(settings: Settings, metrics: Metrics) -> Result<Self, PropertyError> {
        let Loaded { settings, held, files } = Loaded::new(settings)?;
        metrics.set_expirations(&settings.expirations());
        metrics.set_queue_limits(&settings);
        let broken = |e: &dyn fmt::Display| PropertyError::client(&settings, e);
        let clients = Arc::new(Clients::new(settings.clone(), held).map_err(|e| broken(&e))?);
        let watcher = Arc::new(TopicWatcher::new(settings.clone(), clients.clone()));
        let producer_events = Arc::<Notify>::default();
        let closed = Arc::<AtomicBool>::default();
        let settings_watcher = SettingsWatcher::new(
            clients.clone(),
            watcher.clone(),
            metrics.clone(),
            files,
            producer_events.clone(),
            closed.clone(),
        );
        let inner = Arc::new(Inner {
            offset_client: OffsetClient {
                clients: clients.clone(),
                topic: settings.topic.clone(),
                state: watcher.state(),
            },
            state: watcher.state(),
            pool: OnceLock::new(),
            offset_queries: Arc::new(Semaphore::new(MAX_OFFSET_QUERIES)),
            pool_creation: Mutex::default(),
            closed,
            settings_watcher: Arc::new(settings_watcher),
            producer_events,
            watcher,
            metrics,
            clients,
            settings,
        });
        let watcher = inner.watcher.clone();
        let watching = tokio::spawn(async move { watcher.watch().await });
        let checking = tokio::spawn(inner.clone().watch_producers());
        let measuring = tokio::spawn(inner.clone().watch_offsets());
        let replacing = tokio::spawn(inner.settings_watcher.clone().watch());
        let renewing =
            Provider::new(&inner.clients, inner.metrics.clone()).map(|provider| tokio::spawn(provider.run()));
        Ok(Self { inner, tasks: [watching, checking, measuring, replacing].into_iter().chain(renewing).collect() })
    }
}

impl Inner {
    fn pool(&self) -> Result<&ProducerPool, WriteError> {
        if let Some(pool) = self.pool.get() {
            return Ok(pool);
        }
        let _guard = self.pool_creation.lock();
        if self.closed.load(Ordering::Acquire) {
            return Err(WriteError::Draining);
        }
        if self.pool.get().is_none() {
            let limit = self.watcher.config().max_message_bytes;
            let pool = ProducerPool::new(
                self.clients.clone(),
                self.metrics.clone(),
                limit,
                self.watcher.clone(),
                self.closed.clone(),
                self.producer_events.clone(),
            );
            let _ = self.pool.set(pool?);
        }
        self.pool.get().ok_or_else(|| WriteError::Unreachable { cause: "no producer".to_owned() })
    }

    /// Checks the producers when something happens that concerns them. Does not return: its owner drops it.
    async fn watch_producers(self: Arc<Self>) {
        let (mut state, mut max_message_bytes) = (self.watcher.state(), self.watcher.max_message_bytes());
        loop {
            let checked = self.clone();
            let done = run_blocking(move || checked.check_producers()).await.unwrap_or(false);
            // Producers that meet a fatal error again and again must not be replaced in a busy loop.
            sleep(PRODUCER_CHECK_INTERVAL).await;
            // A write that was accepted before the topic was refused may reach the producer after the check.
            if !done || matches!(&*state.borrow(), TopicState::Invalid(_)) {
                continue;
            }
            tokio::select! {
                () = self.producer_events.notified() => {}
                _ = state.changed() => {}
                _ = max_message_bytes.changed() => {}
                () = sleep(PRODUCER_CHECK_FALLBACK) => {}
            }
        }
    }

    /// Queries the offsets of the partitions for metrics, while the topic is served. Does not return: its owner drops
    /// it.
    async fn watch_offsets(self: Arc<Self>) {
        let mut state = self.watcher.state();
        loop {
            let served = match &*state.borrow_and_update() {
                TopicState::Ready(topic) => Some(topic.partition_count),
                _ => None,
            };
            if let Some(count) = served {
                self.metrics.partitions.set_count(count);
                let partitions: Vec<_> = count.all().take(PartitionMetrics::with_series(count) as usize).collect();
                // With a limit of their own, so that loads do not wait for them.
                let (inner, deadline) = (self.clone(), std::time::Instant::now() + DESCRIBE_OFFSETS_WAIT);
                let listed = run_blocking(move || inner.offset_client.list_known(&partitions, deadline)).await;
                let (offsets, at) = listed.unwrap_or_else(|_| (Vec::new(), std::time::Instant::now()));
                self.metrics.partitions.set_offsets(&offsets, at);
                let _ = timeout(OFFSETS_INTERVAL, state.changed()).await;
            } else {
                self.metrics.partitions.set_offsets(&[], std::time::Instant::now());
                if state.changed().await.is_err() {
                    return;
                }
            }
        }
    }

    /// Returns `false` if something could not be done, and is to be tried again. Blocks.
    fn check_producers(&self) -> bool {
        let Some(pool) = self.pool.get() else {
            // The producers are made before the first write. Otherwise it waits for connections and a producer id.
            // Writes report the errors.
            return !matches!(&*self.state.borrow(), TopicState::Ready(_)) || self.pool().is_ok();
        };
        let replaced = pool.replace_fatal();
        // First, because a replacement waits for writes, and these are never answered.
        if matches!(&*self.state.borrow(), TopicState::Invalid(_)) {
            pool.discard_queued();
        }
        pool.replace_outdated(self.watcher.config().max_message_bytes) && replaced
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
        self.inner.watcher.topic().await
    }

    fn append(&self, record: NewRecord) -> Result<PendingAppend, WriteError> {
        match &*self.inner.state.borrow() {
            // Brokers that are lost may return before the write times out, so the delivery report decides.
            TopicState::Ready(_) | TopicState::Unreachable { topic: Some(_), .. } => {}
            TopicState::Unreachable { cause, topic: None } => {
                return Err(WriteError::Unreachable { cause: cause.clone() });
            }
            TopicState::Invalid(problem) => return Err(problem.clone().into()),
            TopicState::Failed(failure) => return Err(failure.clone().into()),
        }
        self.inner.pool()?.append(record)
    }

    fn queue(&self) -> WriteQueue {
        self.inner.pool.get().map_or_else(|| produce::queue_of(&self.inner.settings), ProducerPool::queue)
    }

    fn reads_whole_partitions(&self) -> bool {
        true
    }

    async fn replay(&self, request: ReplayRequest) -> Result<Replay, ReadError> {
        let requested_at = std::time::Instant::now();
        let found = self.inner.watcher.topic().await?;
        request.topic.check_same(&found)?;
        let (events, replay) = Replay::channel();
        let records_read = replay.records_read();
        let (inner, config) = (self.inner.clone(), self.inner.watcher.config());
        let limits = ReplayLimits {
            open_transaction_wait: inner.settings.open_transaction_wait,
            no_progress: inner.settings.no_progress,
            min_compaction_lag: config.min_compaction_lag,
            delete_retention: config.delete_retention,
        };
        let mut cluster = KafkaCluster {
            clients: inner.clients.clone(),
            watcher: inner.watcher.clone(),
            offset_client: inner.offset_client.clone(),
            closed: inner.closed.clone(),
            runtime: Handle::current(),
            topic_state: inner.watcher.state(),
            events,
            records_read,
        };
        let wanted = request.clone();
        let query_permit = self.inner.offset_queries.clone().acquire_owned().await;
        let query_permit = query_permit.map_err(|e| ReadError::Internal { cause: e.to_string() })?;
        let ranges = run_blocking(move || {
            // Held until the thread is free again, also if the caller has left.
            let _query_permit = query_permit;
            if cluster.events.is_closed() {
                return Err(range::abandoned());
            }
            let ranges = range::resolve_ranges(&mut cluster, &wanted, limits.open_transaction_wait);
            ranges.map(|ranges| (cluster, ranges))
        });
        let (cluster, ranges) = ranges.await.map_err(|error| unanswered(&error))??;
        let work = move || replay::run(cluster, request, limits, ranges, requested_at);
        // Not a thread of the runtime's pool, because a slow caller holds it for as long as it reads.
        let started = thread::Builder::new().name("replay".to_owned()).spawn(work);
        started.map_err(|e| ReadError::OutOfFiles { cause: format!("no thread can be had: {e}") })?;
        Ok(replay)
    }

    async fn ends(&self, partitions: &[Partition], deadline: Instant) -> Result<Ends, ReadError> {
        let (client, partitions) = (self.inner.offset_client.clone(), partitions.to_vec());
        let late = |_| ReadError::Unreachable { cause: "too many queries of offsets are running".to_owned() };
        let permits = self.inner.offset_queries.clone();
        let query_permit = timeout_at(deadline, permits.acquire_owned()).await.map_err(late)?;
        let ends = run_blocking(move || {
            let _query_permit = query_permit;
            client.ends(&partitions, deadline.into_std())
        });
        ends.await.map_err(|error| unanswered(&error))?
    }

    async fn confirm(&self) -> Result<Arc<Topic>, ReadError> {
        self.inner.watcher.fetch(std::time::Instant::now()).await
    }

    async fn describe(&self) -> Description {
        // From a query that is at most a second old.
        let topic = self.inner.watcher.topic().await.ok();
        let mut partitions = Vec::new();
        let mut findings = self.inner.watcher.findings();
        findings.extend(self.inner.settings_watcher.finding());
        if let Some(topic) = &topic {
            let all: Vec<_> = topic.partition_count.all().collect();
            let query_permit = self.inner.offset_queries.clone().acquire_owned().await;
            let (inner, deadline) = (self.inner.clone(), std::time::Instant::now() + DESCRIBE_OFFSETS_WAIT);
            let snapshot = run_blocking(move || {
                let _query_permit = query_permit;
                inner.offset_client.list(&all, deadline)
            })
            .await;
            let leaders = self.inner.watcher.described().map(|d| d.partitions).unwrap_or_default();
            match snapshot {
                Ok(Ok(snapshot)) => {
                    partitions.extend(snapshot.offsets.iter().map(|o| PartitionState {
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
            sleep(CLOSE_CHECK_INTERVAL).await;
        }
        pool.in_flight()
    }
}

fn unanswered(error: &BlockingError) -> ReadError {
    match error {
        BlockingError::NoThread(_) => ReadError::OutOfFiles { cause: error.to_string() },
        BlockingError::Panicked => ReadError::Internal { cause: error.to_string() },
    }
}

fn unknown_offsets(message: String) -> changelog_core::log::Finding {
    changelog_core::log::Finding { severity: changelog_core::log::Severity::Error, code: "OFFSETS_UNKNOWN", message }
}
