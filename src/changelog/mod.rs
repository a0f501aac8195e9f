//! The domain above a log: writes with acknowledgements, loads that are whole, streams that resume honestly. Knows no
//! backend and no gRPC.

mod admission;
mod error;
mod read;
mod resume;
mod write;

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};

pub use admission::Peer;
pub use error::LoadError;
pub use read::{Content, Get, Load, RecordStream, Scope, Snapshot, StreamEvent, StreamRequest};
pub use resume::TokenError;
pub use write::{AcceptedWrite, Ack, Change, FailedWrite, Flushed, Undelivered, Written};

use crate::{
    log::{Description, Log, ReadError, Topic, TopicState, WriteError},
    metrics::Metrics,
    model::ValueRules,
};
use admission::{PeerLimiter, ReplayLimiter};
use read::SharedReplays;
use write::InFlightWrites;

/// How long answers of a closed log may take to be noticed.
const SETTLE: Duration = Duration::from_millis(100);

/// What bounds the work of one process.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// What values must be, before the topic lowers it.
    pub values: ValueRules,
    /// Replays at a time.
    pub max_replays: usize,
    /// Of these, those of one peer.
    pub max_replays_per_client: usize,
    /// Loads that wait for the same partition share one replay, where that reads the partition as a whole.
    pub share_replays: bool,
    /// How long a load waits for its turn among them.
    pub replay_queue_timeout: Duration,
    /// Bytes that all replays together may hold.
    pub replay_memory: usize,
    /// Of these, what each takes for what it reads ahead.
    pub read_ahead: usize,
    /// Streams that follow at a time.
    pub max_following_streams: usize,
    /// Bytes that the folded state of one load may hold in memory.
    pub max_load_memory: usize,
}

#[cfg(test)]
impl Limits {
    /// Small ones, which most tests do not meet.
    pub(crate) fn for_tests() -> Self {
        Self {
            values: ValueRules { mode: crate::model::ValueMode::Json, max_bytes: 1_000 },
            max_replays: 4,
            max_replays_per_client: 4,
            share_replays: true,
            replay_queue_timeout: Duration::from_millis(20),
            replay_memory: usize::MAX,
            read_ahead: 0,
            max_following_streams: 2,
            max_load_memory: usize::MAX,
        }
    }
}

/// The changelog of one topic. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Changelog {
    log: Arc<dyn Log>,
    limits: Limits,
    writes: Arc<InFlightWrites>,
    replays: Arc<ReplayLimiter>,
    shared_replays: Arc<SharedReplays>,
    following: Arc<Semaphore>,
    following_by_peer: Arc<PeerLimiter>,
    draining: watch::Sender<bool>,
    /// The last failure that a flush could still be told of.
    failures_before: Arc<OnceLock<u64>>,
    metrics: Arc<Metrics>,
}

impl Changelog {
    /// The domain over a log.
    pub fn new(log: Arc<dyn Log>, limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            log,
            limits,
            writes: Arc::default(),
            replays: ReplayLimiter::new(limits, metrics.clone()),
            shared_replays: Arc::default(),
            following: Arc::new(Semaphore::new(limits.max_following_streams)),
            // As with replays, no peer has all.
            following_by_peer: PeerLimiter::new((limits.max_following_streams * 3 / 4).max(1)),
            draining: watch::Sender::new(false),
            failures_before: Arc::default(),
            metrics,
        }
    }

    /// The limits, as configured.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The checks on values, lowered to what the topic takes as far as that is known.
    pub fn value_rules(&self) -> ValueRules {
        let mut rules = self.limits.values;
        if let TopicState::Ready(topic) | TopicState::Unreachable { topic: Some(topic), .. } =
            &*self.log.topic_state().borrow()
            && let Some(limit) = topic.max_value_bytes
        {
            rules.max_bytes = rules.max_bytes.min(limit);
        }
        rules
    }

    /// Where it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Which log is below.
    pub fn kind(&self) -> crate::log::StoreKind {
        self.log.kind()
    }

    /// What is known of the topic, and every change of it.
    pub fn topic_state(&self) -> watch::Receiver<TopicState> {
        self.log.topic_state()
    }

    /// Ends when the process begins to drain.
    pub async fn draining(&self) {
        let _ = self.draining.subscribe().wait_for(|draining| *draining).await;
    }

    /// The log as it is now.
    pub async fn describe(&self) -> Description {
        self.log.describe().await
    }

    /// The topic by which a write's partition is computed: the one being served, also while its brokers are lost.
    fn topic_for_write(&self) -> Result<Arc<Topic>, WriteError> {
        if *self.draining.borrow() {
            return Err(WriteError::Draining);
        }
        match &*self.log.topic_state().borrow() {
            TopicState::Ready(topic) | TopicState::Unreachable { topic: Some(topic), .. } => Ok(topic.clone()),
            TopicState::Unreachable { cause, topic: None } => Err(WriteError::Unreachable { cause: cause.clone() }),
            TopicState::Wrong(problem) => Err(problem.clone().into()),
            TopicState::Failed(failure) => Err(failure.clone().into()),
        }
    }

    async fn topic_for_read(&self, deadline: Instant) -> Result<Arc<Topic>, LoadError> {
        if *self.draining.borrow() {
            return Err(ReadError::Draining.into());
        }
        match timeout_at(deadline, self.log.topic()).await {
            Ok(topic) => Ok(topic?),
            Err(_) => Err(LoadError::Deadline("the deadline passed before the topic could be looked at".to_owned())),
        }
    }

    /// Refuses new work, ends streams that follow, and waits for accepted writes. Answers what was not delivered.
    pub async fn drain(&self, deadline: Instant) -> Undelivered {
        let failures_before = self.refuse_new_work();
        let unsettled = self.log.close(deadline).await;
        // Answers that the log has given are still on their way to us.
        let settled = self.writes.flush(failures_before, deadline.max(Instant::now() + SETTLE)).await;
        let mut undelivered = self.writes.undelivered(failures_before);
        undelivered.count = undelivered.count.max(unsettled).max(settled.remaining);
        undelivered
    }

    /// From here on writes and loads are answered DRAINING, and streams that follow end with it. Answers the greatest id of a
    /// buffered write's failure before.
    pub fn refuse_new_work(&self) -> u64 {
        self.draining.send_if_modified(|draining| !std::mem::replace(draining, true));
        *self.failures_before.get_or_init(|| self.writes.newest_failure())
    }
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
