//! The domain above a log: acknowledged writes, complete loads, resumable streams.
//!
//! Promises: an acknowledged write is in every load that starts afterwards. A load or stream is complete or ends with
//! an error. Work beyond the [`Limits`] is refused or waits for a bounded time.
//! Does not: know which log is below, or gRPC.

mod admission;
mod error;
mod limits;
mod metrics;
mod read;
mod resume;
mod write;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use admission::Peer;
pub use error::LoadError;
pub use limits::Limits;
pub use metrics::Metrics;
pub use read::{Get, Load, RecordStream, Snapshot, StreamEvent, StreamRequest, Watch, WatchEvent, WatchRequest};
pub use resume::{Content, ResyncCause, TokenError};
pub use write::{AcceptedWrite, Ack, FailedWrite, Flushed, PreparedRecord, Undelivered, WriteTarget};

use crate::{
    log::{Description, Log, ReadError, Topic, TopicState, WriteQueue},
    model::ValueRules,
};
use admission::{PeerLimiter, ReplayLimiter};
use read::SharedReplays;
use write::InFlightWrites;

/// How long [`Changelog::drain`] waits for tasks to see outcomes that a closed log has already reported.
const SETTLE: Duration = Duration::from_millis(100);

/// The changelog of one topic. Clones share it.
#[derive(Debug, Clone)]
pub struct Changelog {
    log: Arc<dyn Log>,
    limits: Limits,
    writes: Arc<InFlightWrites>,
    replays: Arc<ReplayLimiter>,
    shared_replays: Arc<SharedReplays>,
    following: Arc<Semaphore>,
    following_by_peer: Arc<PeerLimiter>,
    draining: CancellationToken,
    /// Tasks that no call waits for: outcomes of writes, and shared replays.
    tasks: TaskTracker,
    /// The id of the newest failure when draining began: a `Flush` could still report failures up to it.
    failures_before: Arc<OnceLock<u64>>,
    metrics: Arc<Metrics>,
}

impl Changelog {
    /// Creates a changelog over `log`.
    pub fn new(log: Arc<dyn Log>, limits: Limits, metrics: Metrics) -> Self {
        let (metrics, tasks) = (Arc::new(metrics), TaskTracker::new());
        metrics.set_limits(&limits);
        Self {
            log,
            limits,
            writes: Arc::new(InFlightWrites::new(tasks.clone())),
            replays: ReplayLimiter::new(limits, metrics.clone()),
            shared_replays: Arc::default(),
            following: Arc::new(Semaphore::new(limits.max_following_streams)),
            // No client may use all of them, as with replays.
            following_by_peer: PeerLimiter::new((limits.max_following_streams * 3 / 4).max(1)),
            draining: CancellationToken::new(),
            tasks,
            failures_before: Arc::default(),
            metrics,
        }
    }

    /// The limits that it was created with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The rules for values, with the maximum size lowered to what the topic accepts. Before the topic is known, the
    /// configured maximum holds.
    pub fn value_rules(&self) -> ValueRules {
        *self.write_target().value_rules()
    }

    /// The kind of the log below.
    pub fn kind(&self) -> crate::log::StoreKind {
        self.log.kind()
    }

    /// The state of the topic, and every change of it.
    pub fn topic_state(&self) -> watch::Receiver<TopicState> {
        self.log.topic_state()
    }

    /// The accepted writes without an outcome, in the queue of the log.
    pub fn queue(&self) -> WriteQueue {
        self.log.queue()
    }

    /// Bytes of memory that replays have reserved.
    pub fn replay_memory(&self) -> usize {
        self.replays.reserved_memory()
    }

    /// Sets the gauges that follow no event. Call it before the metrics are read.
    pub fn refresh_metrics(&self) {
        self.metrics.refresh_lag();
        self.metrics.writes.set_queue(&self.log.queue());
        self.metrics.writes.set_failures(self.writes.failures());
    }

    /// Completes when draining begins.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Describes the log as it is now.
    pub async fn describe(&self) -> Description {
        self.log.describe().await
    }

    async fn topic_for_read(&self, deadline: Instant) -> Result<Arc<Topic>, LoadError> {
        if self.draining.is_cancelled() {
            return Err(ReadError::Draining.into());
        }
        match timeout_at(deadline, self.log.topic()).await {
            Ok(topic) => Ok(topic?),
            Err(_) => Err(LoadError::deadline_before("the topic could be checked")),
        }
    }

    /// Refuses new work, ends following streams, and waits until `deadline` for accepted writes and for loads that
    /// still read. Returns the writes that were not delivered.
    pub async fn drain(&self, deadline: Instant) -> Undelivered {
        let failures_before = self.refuse_new_work();
        let unsettled = self.log.close(deadline).await;
        // Tasks of ours may not have seen all outcomes that the log reported.
        let settle_deadline = deadline.max(Instant::now() + SETTLE);
        let settled = self.writes.flush(failures_before, settle_deadline).await;
        self.tasks.close();
        // A replay ends soon after its last load has left. One that still serves a load at the deadline is left to the
        // end of the process.
        let _ = timeout_at(settle_deadline, self.tasks.wait()).await;
        let mut undelivered = self.writes.undelivered(failures_before);
        undelivered.count = undelivered.count.max(unsettled).max(settled.remaining);
        undelivered
    }

    /// From now on writes and loads fail with `Draining`, and following streams end with it. Returns the id of the
    /// newest failure of a buffered write before that.
    pub fn refuse_new_work(&self) -> u64 {
        self.draining.cancel();
        *self.failures_before.get_or_init(|| self.writes.newest_failure())
    }
}
