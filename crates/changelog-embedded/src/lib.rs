//! A log without Kafka: an embedded store in a directory of its own.
//!
//! [`EmbeddedLog`] is a [`Log`] for one process on one machine. Each record is in a partition, has an offset, and is
//! kept until a later record of the same key supersedes it.
//!
//! # Example
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use changelog_embedded::{EmbeddedLog, Settings};
//! use changelog_core::{
//!     log::{Follow, Log as _, NewRecord, ReplayEvent, ReplayRequest, Selection, StartAt},
//!     model::{Headers, Key},
//! };
//! use tokio::time::Instant;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // Blocks while it reads the directory.
//! let log = tokio::task::spawn_blocking(|| EmbeddedLog::open(Settings::new("data"))).await??;
//! let topic = log.topic().await?;
//!
//! let key = Key::parse("workspace/user/1")?;
//! let partition = topic.partition_count.of_workspace(key.workspace_bytes());
//! let record = NewRecord { partition, key, value: Some("{}".into()), headers: Headers::default() };
//! let appended = log.append(record)?.await??;
//! println!("written at offset {}", appended.position.offset);
//!
//! let request = ReplayRequest {
//!     partitions: topic.partition_count.all().map(|partition| (partition, StartAt::Low)).collect(),
//!     selection: Selection::all(topic.partition_count),
//!     topic,
//!     follow: Follow::No,
//!     owned_records: false,
//!     deadline: Instant::now() + Duration::from_secs(10),
//! };
//! let mut replay = log.replay(request).await?;
//! while let Some(event) = replay.next().await {
//!     if let ReplayEvent::Records { records, .. } = event? {
//!         println!("{} records", records.len());
//!     }
//! }
//!
//! let without_outcome = log.close(Instant::now() + Duration::from_secs(10)).await;
//! assert_eq!(without_outcome, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Promises
//!
//! Everything that [`Log`] promises, and:
//!
//! - Only one process has the directory open ([`OpenError::Locked`]).
//! - A write is acknowledged after an fsync.
//! - The store is always compacted: only the last record of each key exists.
//! - Tombstones are purged when they are older than the retention.
//! - Damaged data is not served. After the first damage is found, nothing is served.
//! - A directory that was removed or replaced is not served.
//! - What is in a new directory is for its owner only, and no symbolic link in it is followed.
//! - A replay reads one snapshot, which is published together with its end offsets.
//!
//! # What it does not do
//!
//! - It does not replicate. If the disk is lost, the records are lost.
//! - It does not keep superseded records. A follower that lags gets only the last record of each key.
//! - It does not repair a damaged store, and does not open stores of other formats ([`OpenError::Format`]).
//! - It does not change the partition count of a store.
//!
//! # How it works
//!
//! ```text
//!   append -> bounded queue -> writer (one thread): batch, fsync -> published: snapshot + ends -> replies
//!                                                                       |
//!   replay (a task each) <----------------------------------------------+
//! ```
//!
//! The low watermark is always 0. A replay may start at any offset from 0 to the end, because compaction removes only
//! records that a later one supersedes. The exception is an offset below a purged tombstone, which is rejected.

#![deny(missing_docs)]

mod deliver;
mod directory;
mod directory_watch;
mod engine_check;
mod error;
mod follow;
mod latest;
mod layout;
mod metrics;
mod name_watch;
mod presence;
mod progress;
mod purge;
mod replay;
mod scan;
mod settings;
mod space;
mod state;
mod store;
mod tables;
#[cfg(test)]
mod tests;

mod writer;
mod writer_thread;

use std::{
    fmt,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use changelog_core::{
    log::{
        Description, Finding, Latest, LatestRequest, Log, NewRecord, PartitionState, PendingAppend, ReadError, Replay,
        ReplayRequest, Severity, StoreFailure, StoreKind, Topic, TopicProblem, TopicState, WriteError, WriteQueue,
        short_retention_of_followers,
    },
    metrics::used_part,
    model::{Partition, PartitionCount},
};
use parking_lot::Mutex;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use error::OpenError;
pub use metrics::Metrics;
pub use progress::JournalProgress;
pub use settings::Settings;
pub use space::MIN_DATA_LIMIT;

use self::{
    deliver::Delivery,
    directory_watch::DirectoryWatch,
    replay::Reader,
    space::{Disk, DiskOf, Reserve, Space, max_journal_bytes},
    state::{Clock, Published, StoreState},
    store::{EngineSettings, SharedStore},
    writer::{MAX_BATCH_BYTES, QueuedWrite, Writer},
    writer_thread::{WRITER_ENDED, WriterThread},
};

/// The partition count of a new store, if none is configured.
const DEFAULT_PARTITIONS: u8 = 10;

/// A log in a directory.
///
/// [`Log::close`] waits for accepted writes. Dropping the log without it finishes the current batch, rejects queued
/// writes, and unlocks the directory. The drop blocks while that batch is fsynced. Replays keep the directory locked
/// until they end, and the engine has stopped then.
pub struct EmbeddedLog {
    state: Arc<StoreState>,
    /// `None` after the close. The lock is held while a record is queued, which never blocks.
    queue: Mutex<Option<SyncSender<QueuedWrite>>>,
    queue_limits: (usize, usize),
    /// `None` after the close.
    writer: Mutex<Option<WriterThread>>,
    /// Closed when the store is dropped.
    open: watch::Receiver<()>,
}

impl fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedLog").field("dir", &self.state.dir).finish_non_exhaustive()
    }
}

impl EmbeddedLog {
    /// Opens the store of a directory, or creates one. Blocks, and takes longer after a crash, because it reads the
    /// journal again.
    #[allow(clippy::needless_pass_by_value)] // so that a later version can keep them
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        Self::open_with(&settings, Arc::new(wall_clock), Box::new(Disk::of))
    }

    #[cfg(test)]
    fn open_at(settings: &Settings, clock: Clock) -> Result<Self, OpenError> {
        Self::open_with(settings, clock, Box::new(Disk::of))
    }

    fn open_with(settings: &Settings, clock: Clock, disk_of: DiskOf) -> Result<Self, OpenError> {
        let default = PartitionCount::new(DEFAULT_PARTITIONS.into());
        let default = settings
            .partition_count
            .or(default)
            .ok_or_else(|| OpenError::io(&settings.dir, std::io::Error::other("no partition count")))?;
        let engine = EngineSettings {
            cached_files: settings.cached_files,
            max_journal_bytes: max_journal_bytes(settings.data_limit),
            cache_bytes: settings.cache_bytes,
        };
        let opened = store::open(&settings.dir, settings.partition_count, default, engine)?;
        let (store, unused) = SharedStore::new(opened.store);
        let topic = Arc::new(Topic {
            name: name_of(&settings.dir),
            id: opened.identity.id.to_string(),
            partition_count: opened.identity.partition_count,
            max_value_bytes: None,
            delete_retention: settings.delete_retention,
        });
        let published = Published::of(&store, &opened.heads, &opened.purged_below);
        let state = Arc::new(StoreState {
            topic: topic.clone(),
            dir: settings.dir.clone(),
            sort_bytes: settings.sort_bytes,
            published: watch::Sender::new(Some(Arc::new(published))),
            closing: CancellationToken::new(),
            abandoned: AtomicBool::new(false),
            no_writes: OnceLock::new(),
            no_service: OnceLock::new(),
            presence: opened.presence,
            topic_state: watch::Sender::new(TopicState::Ready(topic)),
            queued_bytes: AtomicUsize::new(0),
            pending_writes: AtomicU64::new(0),
            full: AtomicBool::new(false),
            showing: Mutex::default(),
            metrics: settings.metrics.clone(),
        });
        state.metrics.set_limit(settings.data_limit);
        state.show_state();
        state.measure();
        let fail = |cause| OpenError::io(&settings.dir, cause);
        let reserve =
            Reserve { bytes: settings.reserve_bytes, files: settings.reserve_files, data_limit: settings.data_limit };
        let space = Space::of(&store, reserve, disk_of, state.metrics.clone()).map_err(fail)?;
        let (sender, queue) = sync_channel(settings.queue_records.max(1));
        let writer = Writer {
            state: state.clone(),
            store,
            queue,
            clock,
            heads: opened.heads,
            purged_below: opened.purged_below,
            sequence: opened.sequence,
            acked_sequence: opened.acked_sequence,
            write_buffer_bytes: settings.write_buffer_bytes,
            max_batch_bytes: (settings.queue_bytes / 8).min(MAX_BATCH_BYTES),
            space,
        };
        let watch = DirectoryWatch::start(state.clone()).map_err(fail)?;
        let thread = WriterThread::start(writer, watch, unused).map_err(fail)?;
        Ok(Self {
            state,
            queue: Mutex::new(Some(sender)),
            queue_limits: (settings.queue_records.max(1), settings.queue_bytes),
            writer: Mutex::new(Some(thread)),
            open: opened.open,
        })
    }

    /// Stops accepting writes. The receiver is closed when the writer has emptied its queue and the store is dropped,
    /// or only replays have it. Starts no thread, because the system may give none.
    fn begin_close(&self) -> Option<Receiver<()>> {
        self.state.closing.cancel();
        self.queue.lock().take();
        self.writer.lock().take().map(WriterThread::close)
    }

    fn check_topic(&self, asked: &Topic) -> Result<(), ReadError> {
        let topic = &self.state.topic;
        if asked.id == topic.id {
            return Ok(());
        }
        let (was, now) = (asked.id.clone(), topic.id.clone());
        Err(TopicProblem::Recreated { topic: topic.name.clone(), was, now }.into())
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.state.abandoned.store(true, SeqCst);
        if let Some(closed) = self.begin_close() {
            let _ = closed.recv();
        }
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    fn kind(&self) -> StoreKind {
        StoreKind::Embedded
    }

    fn topic_state(&self) -> watch::Receiver<TopicState> {
        self.state.topic_state.subscribe()
    }

    async fn topic(&self) -> Result<Arc<Topic>, ReadError> {
        self.state.read_refusal().map_or_else(|| Ok(self.state.topic.clone()), Err)
    }

    fn append(&self, record: NewRecord) -> Result<PendingAppend, WriteError> {
        let topic = &self.state.topic;
        let (partition, expected) = (record.partition, topic.partition_count.get());
        if topic.partition_count.partition(partition.number()).is_none() {
            let actual = partition.number().saturating_add(1);
            let topic = topic.name.clone();
            return Err(TopicProblem::PartitionCountMismatch { topic, expected, actual }.into());
        }
        if let Some(refusal) = self.state.refusal() {
            return Err(refusal);
        }
        let headers: usize = record
            .headers
            .as_slice()
            .iter()
            .map(|h| 64 + h.key.len() + h.value.as_ref().map_or(0, bytes::Bytes::len))
            .sum();
        let queue_bytes = 256 + record.key.bytes().len() + record.value.as_ref().map_or(0, bytes::Bytes::len) + headers;
        let (reply, pending) = oneshot::channel();
        let queue = self.queue.lock();
        let Some(sender) = queue.as_ref() else { return Err(WriteError::Draining) };
        let (max_records, max_bytes) = self.queue_limits;
        // Only increased under the lock, so two writes can't pass the limit together.
        let queued = self.state.queued_bytes.load(Relaxed);
        if queued > 0 && queued.saturating_add(queue_bytes) > max_bytes {
            return Err(WriteError::QueueFull { limit: format!("{max_bytes} bytes") });
        }
        // Before the send, because the writer may complete the write before `try_send` returns.
        self.state.queued_bytes.fetch_add(queue_bytes, Relaxed);
        self.state.pending_writes.fetch_add(1, SeqCst);
        sender.try_send(QueuedWrite { record, queue_bytes, reply }).map_err(|error| {
            self.state.queued_bytes.fetch_sub(queue_bytes, Relaxed);
            self.state.pending_writes.fetch_sub(1, SeqCst);
            match error {
                TrySendError::Full(_) => WriteError::QueueFull { limit: format!("{max_records} records") },
                TrySendError::Disconnected(_) => self
                    .state
                    .refusal()
                    .unwrap_or_else(|| StoreFailure::Fault { cause: WRITER_ENDED.to_owned() }.into()),
            }
        })?;
        Ok(pending)
    }

    fn queue(&self) -> WriteQueue {
        let (max_records, max_bytes) = self.queue_limits;
        let (writes, bytes) = (self.state.pending_writes.load(Relaxed), self.state.queued_bytes.load(Relaxed));
        WriteQueue {
            writes,
            max_writes: max_records as u64,
            bytes,
            max_bytes,
            fullest: used_part(writes, max_records as u64).max(used_part(bytes as u64, max_bytes as u64)),
        }
    }

    async fn replay(&self, request: ReplayRequest) -> Result<Replay, ReadError> {
        if let Some(refusal) = self.state.read_refusal() {
            return Err(refusal);
        }
        self.check_topic(&request.topic)?;
        // The time is taken first, because it must not be later than the end offsets.
        let (at_end, requested_at) = (SystemTime::now(), Instant::now());
        let published = self.state.published.borrow().clone().ok_or(ReadError::Draining)?;
        let ranges = request.partitions.iter().map(|(partition, start)| published.range(*partition, *start));
        let ranges = ranges.collect::<Result<Vec<_>, _>>()?;
        let (events, replay) = Replay::channel();
        let selection = Arc::new(request.selection.clone());
        let delivery = Delivery { state: self.state.clone(), selection, events };
        tokio::spawn(Reader { request, delivery }.run(published, ranges, at_end, requested_at));
        Ok(replay)
    }

    async fn latest(&self, request: LatestRequest) -> Result<Option<Latest>, ReadError> {
        if let Some(refusal) = self.state.read_refusal() {
            return Err(refusal);
        }
        self.check_topic(&request.topic)?;
        let at_end = SystemTime::now();
        let published = self.state.published.borrow().clone().ok_or(ReadError::Draining)?;
        latest::read(self.state.clone(), published, request, at_end).await
    }

    async fn describe(&self) -> Description {
        let state = &self.state;
        let published = state.published.borrow().clone();
        let partition_state = |partition: Partition| {
            let end = published.as_ref()?.end(partition)?;
            Some(PartitionState { partition, leader: 0, low: 0, last_stable: end, high: end })
        };
        let failures = [state.no_service.get(), state.no_writes.get()].into_iter().flatten();
        let findings = failures.map(|failure| Finding {
            severity: Severity::Error,
            code: failure.reason(),
            message: failure.to_string(),
        });
        let findings = findings.chain(short_retention_of_followers(state.topic.delete_retention));
        Description {
            name: state.topic.name.clone(),
            topic: Some(state.topic.clone()),
            partitions: state.topic.partition_count.all().filter_map(partition_state).collect(),
            findings: findings.collect(),
        }
    }

    async fn close(&self, deadline: Instant) -> u64 {
        self.begin_close();
        let mut open = self.open.clone();
        // Waits until the store is dropped, so that the directory may be opened again. Nothing is ever sent on this
        // channel.
        let _ = tokio::time::timeout_at(deadline, open.changed()).await;
        self.state.pending_writes.load(SeqCst)
    }
}

fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The directory's own name, also for `.` and `data/..`.
fn name_of(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    dir.file_name().map_or_else(|| "embedded".to_owned(), |name| name.to_string_lossy().into_owned())
}
