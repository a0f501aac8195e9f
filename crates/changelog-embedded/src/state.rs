//! The state that the log, its writer and its replays share: what may be read, and why writes or reads are rejected.
//!
//! Does not read or write the engine.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use changelog_core::{
    log::{Corrupt, Gone, ReadError, StartAt, StoreFailure, Topic, TopicState, TruncationCause, WriteError},
    model::Partition,
};
use fjall::Snapshot;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    layout::Head,
    metrics::{FileSystem, Metrics},
    presence::Presence,
    space::occupied_by_store,
    store::SharedStore,
};

/// The wall clock, in milliseconds since 1970. Tests set it.
pub(super) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// The offsets of one partition that a replay reads.
#[derive(Clone, Copy)]
pub(super) struct ReplayRange {
    pub(super) partition: Partition,
    pub(super) from: i64,
    pub(super) end: i64,
    /// The range starts at the low watermark.
    pub(super) whole_partition: bool,
}

/// A snapshot that may be read: everything in it is fsynced.
pub(super) struct Published {
    pub(super) snapshot: Snapshot,
    pub(super) ends: Vec<i64>,
    /// For each partition, the offset above the last purged tombstone. A reader below it may have missed a tombstone.
    purged_below: Vec<i64>,
    pub(super) store: Arc<SharedStore>,
}

impl Published {
    /// Called only by the writer, between two batches.
    pub(super) fn of(store: &Arc<SharedStore>, heads: &[Head], purged_below: &[i64]) -> Self {
        Self {
            snapshot: store.db.snapshot(),
            ends: heads.iter().map(|h| h.next).collect(),
            purged_below: purged_below.to_vec(),
            store: store.clone(),
        }
    }

    /// Whether a reader that has read a partition up to `from` may have missed a purged tombstone. This does not depend
    /// on a clock, because an operator can set the wall clock, by which tombstones and tokens expire.
    pub(super) fn purged_beyond(&self, partition: Partition, from: i64) -> bool {
        self.purged_below.get(partition.index()).is_some_and(|purged_below| from < *purged_below)
    }

    pub(super) fn end(&self, partition: Partition) -> Option<i64> {
        self.ends.get(partition.index()).copied()
    }

    pub(super) fn range(&self, partition: Partition, start: StartAt) -> Result<ReplayRange, ReadError> {
        let end = self.end(partition);
        let from = match start {
            StartAt::Low => 0,
            StartAt::Offset { offset, .. } => offset,
        };
        match end {
            Some(end) if (0..=end).contains(&from) => {
                let whole_partition = start == StartAt::Low;
                if !whole_partition && self.purged_beyond(partition, from) {
                    let cause = TruncationCause::Purged { offset: from };
                    return Err(ReadError::Truncated { partition, cause });
                }
                Ok(ReplayRange { partition, from, end, whole_partition })
            }
            end => Err(ReadError::OffsetOutOfRange { partition, offset: from, low: 0, end: end.unwrap_or(0) }),
        }
    }
}

/// The shared state of a store.
pub(super) struct StoreState {
    pub(super) topic: Arc<Topic>,
    pub(super) dir: PathBuf,
    pub(super) sort_bytes: usize,
    /// `None` after the store is closed. Running replays keep their snapshot.
    pub(super) published: watch::Sender<Option<Arc<Published>>>,
    /// Cancelled when the log closes. Followers end.
    pub(super) closing: CancellationToken,
    /// Set when the log is dropped: queued writes are rejected.
    pub(super) abandoned: AtomicBool,
    /// Why the store takes no writes. The first reason is kept.
    pub(super) no_writes: OnceLock<StoreFailure>,
    /// Why nothing is served. The first reason is kept, and hides the other one.
    pub(super) no_service: OnceLock<StoreFailure>,
    pub(super) presence: Presence,
    pub(super) topic_state: watch::Sender<TopicState>,
    pub(super) queued_bytes: AtomicUsize,
    pub(super) pending_writes: AtomicU64,
    /// The last batch with a set had no room.
    pub(super) full: AtomicBool,
    pub(super) metrics: Metrics,
    pub(super) showing: Mutex<()>,
}

impl StoreState {
    pub(super) fn publish(&self, published: Published) {
        self.published.send_replace(Some(Arc::new(published)));
    }

    /// The error for new writes, if the store takes none.
    pub(super) fn refusal(&self) -> Option<WriteError> {
        self.no_service.get().or_else(|| self.no_writes.get()).cloned().map(WriteError::from)
    }

    /// The error for reads, if nothing is served.
    pub(super) fn read_refusal(&self) -> Option<ReadError> {
        self.no_service.get()?.read_error()
    }

    /// Whether there was room for the last batch with a set.
    pub(super) fn set_full(&self, full: bool) {
        if self.full.swap(full, Relaxed) != full {
            self.show_state();
        }
    }

    pub(super) fn show_state(&self) {
        // The writer and the watch of the directory come here.
        let _one_at_a_time = self.showing.lock();
        let failure = self.no_service.get().or_else(|| self.no_writes.get());
        self.metrics.set_state(failure, self.full.load(Relaxed));
    }

    /// Measures files for metrics. Blocks.
    pub(super) fn measure(&self) {
        // What can't be measured keeps its last values.
        if let (Ok(bytes), Ok(file_system)) = (occupied_by_store(&self.dir), FileSystem::of(&self.dir)) {
            self.metrics.set_room(bytes, &file_system);
        }
    }

    pub(super) fn set_read_only(&self, cause: &str) {
        self.stop_writes(StoreFailure::ReadOnly { cause: cause.to_owned() });
    }

    /// A part of the store ended, which says nothing about its files.
    pub(super) fn set_fault(&self, cause: &str) {
        self.stop_writes(StoreFailure::Fault { cause: cause.to_owned() });
    }

    fn stop_writes(&self, failure: StoreFailure) {
        if self.no_writes.set(failure.clone()).is_ok() {
            tracing::error!(dir = %self.dir.display(), %failure, "the store takes no writes until it is opened again");
            self.show_state();
            // A state in which nothing is served stays.
            self.topic_state.send_if_modified(|state| {
                let sound = matches!(state, TopicState::Ready(_));
                if sound {
                    *state = TopicState::Failed(failure);
                }
                sound
            });
        }
    }

    /// Stops serving anything. Returns why, which is the first failure of its kind: files that are gone look like
    /// damage to a reader.
    pub(super) fn set_corrupt(&self, corrupt: Corrupt) -> StoreFailure {
        self.check_files().unwrap_or_else(|| self.stop_service(StoreFailure::Corrupt(corrupt)))
    }

    /// Stops serving anything if the directory is not there any more. Returns why nothing is served, if so.
    pub(super) fn check_presence(&self) -> Option<StoreFailure> {
        self.check(Presence::lost)
    }

    /// Also if a table is not there any more.
    pub(super) fn check_files(&self) -> Option<StoreFailure> {
        self.check(Presence::lost_file)
    }

    fn check(&self, lost: impl FnOnce(&Presence) -> Option<String>) -> Option<StoreFailure> {
        if let Some(failure) = self.no_service.get() {
            return Some(failure.clone());
        }
        let cause = lost(&self.presence)?;
        Some(self.stop_service(StoreFailure::Gone(Gone { dir: self.dir.clone(), cause })))
    }

    fn stop_service(&self, failure: StoreFailure) -> StoreFailure {
        if self.no_service.set(failure.clone()).is_ok() {
            let dir = self.dir.display();
            if let StoreFailure::Gone(gone) = &failure {
                let cause = &gone.cause;
                tracing::error!(%dir, cause, "the store is gone: acknowledged writes are lost if it is not put back");
            } else {
                tracing::error!(%dir, %failure, "the store is not served any more");
            }
            self.show_state();
            self.topic_state.send_replace(TopicState::Failed(failure.clone()));
            // Followers wait for what is published.
            self.published.send_modify(|_| {});
        }
        self.no_service.get().cloned().unwrap_or(failure)
    }

    pub(super) fn damage(&self, what: fmt::Arguments<'_>) -> Corrupt {
        Corrupt { detail: format!("{}: {what}", self.dir.display()) }
    }
}
