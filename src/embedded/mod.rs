//! The log without Kafka: an embedded store in a directory of its own.
//!
//! Promises what [`Log`] does, and: one process has the directory ([`OpenError::Locked`]); an answer comes after an fsync; it is
//! always compacted, only the last record of a key exists; tombstones go when they are older than the retention; what is damaged
//! is not served, and after the first damage met nothing is. A replay reads one snapshot, published together with its end offsets.
//!
//! ```text
//!   append -> bounded queue -> writer (one thread): batch, fsync -> published: snapshot + ends -> answers
//!                                                                       |
//!   replay (a task each) <----------------------------------------------+
//! ```
//!
//! The low watermark is 0 for ever: any offset up to the end may be started from, since compaction takes only what a later
//! offset supersedes.
//!
//! Does not: replicate, or keep superseded records.

mod error;
mod layout;
mod manifest;
mod replay;
mod shared;
mod store;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

pub use error::OpenError;

use self::{
    replay::Reader,
    shared::{Clock, Published, Shared},
    writer::{Job, Writer},
};
use crate::{
    log::{
        Description, Finding, Log, NewRecord, PartitionState, PendingAppend, ReadError, Replay, ReplayRequest,
        Severity, StoreFailure, StoreKind, Topic, TopicProblem, TopicState, WriteError,
    },
    model::{Partition, PartitionCount},
};

/// Partitions of a store that is made without asking for a number.
const DEFAULT_PARTITIONS: u8 = 10;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its directory; made if there is none.
    pub dir: PathBuf,
    /// How many partitions; `None` = what the store has, or 10 when it is made. Fixed for ever then.
    pub partition_count: Option<PartitionCount>,
    /// How long tombstones stay, from their write.
    pub delete_retention: Duration,
    /// Records that may wait to be written.
    pub queue_records: usize,
    /// Bytes of these; a single record may have more.
    pub queue_bytes: usize,
    /// Writes are refused when the file system has less left than this, so that what was accepted can always be merged.
    pub reserve_bytes: u64,
    /// What one replay may hold to bring records into order; what is more is read twice.
    pub sort_bytes: usize,
}

impl Settings {
    /// A directory with everything else as documented.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            partition_count: None,
            delete_retention: Duration::from_hours(24),
            queue_records: 100_000,
            queue_bytes: 64 * 1024 * 1024,
            reserve_bytes: 16 * 1024 * 1024,
            sort_bytes: 16 * 1024 * 1024,
        }
    }
}

/// A log in a directory.
///
/// [`Log::close`] waits for what was accepted. Dropping it without that finishes the batch at hand, refuses what waits, and lets go
/// of the directory; it blocks for as long as that batch's fsync takes. Replays keep the directory until they end.
pub struct EmbeddedLog {
    shared: Arc<Shared>,
    /// `None` once it is closed. Held while a record is queued, which never blocks.
    queue: Mutex<Option<SyncSender<Job>>>,
    queue_limits: (usize, usize),
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Its sender goes with the store.
    open: watch::Receiver<()>,
}

impl fmt::Debug for EmbeddedLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedLog").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

impl EmbeddedLog {
    /// Opens the store of a directory, or makes one. Blocks: reads the journal again after a crash.
    #[allow(clippy::needless_pass_by_value)] // they are the log's from here on
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        Self::open_at(&settings, Arc::new(wall_clock))
    }

    fn open_at(settings: &Settings, clock: Clock) -> Result<Self, OpenError> {
        let default = PartitionCount::new(DEFAULT_PARTITIONS.into());
        let default = settings
            .partition_count
            .or(default)
            .ok_or_else(|| OpenError::io(&settings.dir, std::io::Error::other("no partition count")))?;
        let opened = store::open(&settings.dir, settings.partition_count, default)?;
        let store = Arc::new(opened.store);
        let topic = Arc::new(Topic {
            name: name_of(&settings.dir),
            id: opened.identity.id.to_string(),
            partition_count: opened.identity.partition_count,
            max_value_bytes: None,
            delete_retention: settings.delete_retention,
        });
        let published = Published::of(&store, &opened.heads, &opened.horizons);
        let shared = Arc::new(Shared {
            topic: topic.clone(),
            dir: settings.dir.clone(),
            sort_bytes: settings.sort_bytes,
            published: watch::Sender::new(Some(Arc::new(published))),
            closed: watch::Sender::new(false),
            abandoned: AtomicBool::new(false),
            read_only: OnceLock::new(),
            corrupt: OnceLock::new(),
            state: watch::Sender::new(TopicState::Ready(topic)),
            queued_bytes: AtomicUsize::new(0),
            unsettled: AtomicU64::new(0),
        });
        let (sender, queue) = sync_channel(settings.queue_records.max(1));
        let writer = Writer {
            shared: shared.clone(),
            store,
            queue,
            clock,
            heads: opened.heads,
            horizons: opened.horizons,
            sequence: opened.sequence,
            witness: opened.witness,
            reserve_bytes: settings.reserve_bytes,
        };
        let of_writer = shared.clone();
        let thread = thread::Builder::new().name("embedded-writer".to_owned()).spawn(move || {
            // The answers it owed are dropped with it: not known. What it published stays readable.
            if catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
                of_writer.set_read_only("the writer panicked");
            }
        });
        let thread = thread.map_err(|cause| OpenError::io(&settings.dir, cause))?;
        Ok(Self {
            shared,
            queue: Mutex::new(Some(sender)),
            queue_limits: (settings.queue_records.max(1), settings.queue_bytes),
            writer: Mutex::new(Some(thread)),
            open: opened.open,
        })
    }

    /// Stops accepting; answers the thread that lets go of the store when the writer is through with its queue.
    fn shut(&self) -> Option<JoinHandle<()>> {
        self.shared.closed.send_replace(true);
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let shared = self.shared.clone();
        // Stopping the engine joins its threads: nothing for a runtime's worker.
        thread::Builder::new()
            .name("embedded-close".to_owned())
            .spawn(move || {
                let _ = writer.join();
                shared.published.send_replace(None);
            })
            .ok()
    }

    fn check_topic(&self, asked: &Topic) -> Result<(), ReadError> {
        let topic = &self.shared.topic;
        if asked.id == topic.id {
            return Ok(());
        }
        let (was, now) = (asked.id.clone(), topic.id.clone());
        Err(TopicProblem::Recreated { topic: topic.name.clone(), was, now }.into())
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.shared.abandoned.store(true, SeqCst);
        if let Some(closer) = self.shut() {
            let _ = closer.join();
        }
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    fn kind(&self) -> StoreKind {
        StoreKind::Embedded
    }

    fn topic_state(&self) -> watch::Receiver<TopicState> {
        self.shared.state.subscribe()
    }

    async fn topic(&self) -> Result<Arc<Topic>, ReadError> {
        match self.shared.corrupt.get() {
            Some(corrupt) => Err(corrupt.clone().into()),
            None => Ok(self.shared.topic.clone()),
        }
    }

    fn append(&self, record: NewRecord) -> Result<PendingAppend, WriteError> {
        let topic = &self.shared.topic;
        let (partition, expected) = (record.partition, topic.partition_count.get());
        if topic.partition_count.partition(partition.number()).is_none() {
            let actual = partition.number().saturating_add(1);
            let topic = topic.name.clone();
            return Err(TopicProblem::PartitionCountChanged { topic, expected, actual, final_: false }.into());
        }
        if let Some(refusal) = self.shared.refusal() {
            return Err(refusal);
        }
        let headers: usize = record
            .headers
            .as_slice()
            .iter()
            .map(|h| 64 + h.key.len() + h.value.as_ref().map_or(0, bytes::Bytes::len))
            .sum();
        let weight = 256 + record.key.bytes().len() + record.value.as_ref().map_or(0, bytes::Bytes::len) + headers;
        let (answer, pending) = oneshot::channel();
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = queue.as_ref() else { return Err(WriteError::Draining) };
        let (max_records, max_bytes) = self.queue_limits;
        // Only added to under the lock, so it can't be passed by two at once.
        let queued = self.shared.queued_bytes.load(Relaxed);
        if queued > 0 && queued.saturating_add(weight) > max_bytes {
            return Err(WriteError::QueueFull { limit: format!("{max_bytes} bytes") });
        }
        // Before it is sent: the writer may have settled it before we are back.
        self.shared.queued_bytes.fetch_add(weight, Relaxed);
        self.shared.unsettled.fetch_add(1, SeqCst);
        sender.try_send(Job { record, weight, answer }).map_err(|error| {
            self.shared.queued_bytes.fetch_sub(weight, Relaxed);
            self.shared.unsettled.fetch_sub(1, SeqCst);
            match error {
                TrySendError::Full(_) => WriteError::QueueFull { limit: format!("{max_records} records") },
                TrySendError::Disconnected(_) => {
                    self.shared.refusal().unwrap_or(WriteError::ReadOnly { cause: "the writer has ended".to_owned() })
                }
            }
        })?;
        Ok(pending)
    }

    async fn replay(&self, request: ReplayRequest) -> Result<Replay, ReadError> {
        if let Some(corrupt) = self.shared.corrupt.get() {
            return Err(corrupt.clone().into());
        }
        self.check_topic(&request.topic)?;
        // The time first: it must not be later than the ends.
        let (at_end, asked) = (SystemTime::now(), Instant::now());
        let published = self.shared.published.borrow().clone().ok_or(ReadError::Draining)?;
        let spans = request.partitions.iter().map(|(partition, start)| published.span(*partition, *start));
        let spans = spans.collect::<Result<Vec<_>, _>>()?;
        let (events, replay) = Replay::channel();
        let selection = Arc::new(request.selection.clone());
        let reader = Reader { shared: self.shared.clone(), request, selection, events };
        tokio::spawn(reader.run(published, spans, at_end, asked));
        Ok(replay)
    }

    async fn describe(&self) -> Description {
        let shared = &self.shared;
        let published = shared.published.borrow().clone();
        let state = |partition: Partition| {
            let end = published.as_ref()?.end(partition)?;
            Some(PartitionState { partition, leader: 0, low: 0, last_stable: end, high: end })
        };
        let mut findings = Vec::new();
        if let Some(corrupt) = shared.corrupt.get() {
            let message = StoreFailure::Corrupt(corrupt.clone()).to_string();
            findings.push(Finding { severity: Severity::Error, code: "STORE_CORRUPT", message });
        }
        if let Some(cause) = shared.read_only.get() {
            let message = StoreFailure::ReadOnly { cause: cause.clone() }.to_string();
            findings.push(Finding { severity: Severity::Error, code: "STORE_READ_ONLY", message });
        }
        Description {
            name: shared.topic.name.clone(),
            topic: Some(shared.topic.clone()),
            partitions: shared.topic.partition_count.all().filter_map(state).collect(),
            findings,
        }
    }

    async fn close(&self, deadline: Instant) -> u64 {
        let _closer = self.shut();
        let mut open = self.open.clone();
        // Until the store is gone, so that the directory may be opened again. Nothing is ever sent.
        let _ = tokio::time::timeout_at(deadline, open.changed()).await;
        self.shared.unsettled.load(SeqCst)
    }
}

fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The directory's own name, also of `.` and of `data/..`.
fn name_of(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    dir.file_name().map_or_else(|| "embedded".to_owned(), |name| name.to_string_lossy().into_owned())
}
