//! The state that the log, its writer and its replays share: what may be read, and why writes or reads are rejected.
//!
//! Does not read or write the engine.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    },
};

use changelog_core::{
    log::{Corrupt, ReadError, StartAt, StoreFailure, Topic, TopicState, WriteError},
    model::Partition,
};
use fjall::Snapshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{layout::Head, store::Store};

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
    pub(super) store: Arc<Store>,
}

impl Published {
    /// Called only by the writer, between two batches.
    pub(super) fn of(store: &Arc<Store>, heads: &[Head], purged_below: &[i64]) -> Self {
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
                    let cause = format!("tombstones beyond offset {from} have been purged");
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
    /// Why the store is read-only. The first reason is kept.
    pub(super) read_only: OnceLock<String>,
    pub(super) corrupt: OnceLock<Corrupt>,
    pub(super) topic_state: watch::Sender<TopicState>,
    pub(super) queued_bytes: AtomicUsize,
    pub(super) pending_writes: AtomicU64,
}

impl StoreState {
    pub(super) fn publish(&self, published: Published) {
        self.published.send_replace(Some(Arc::new(published)));
    }

    /// The error for new writes, if the store takes none.
    pub(super) fn refusal(&self) -> Option<WriteError> {
        if let Some(corrupt) = self.corrupt.get() {
            return Some(WriteError::Corrupt(corrupt.clone()));
        }
        self.read_only.get().map(|cause| WriteError::ReadOnly { cause: cause.clone() })
    }

    pub(super) fn set_read_only(&self, cause: &str) {
        if self.read_only.set(cause.to_owned()).is_ok() {
            let failed = TopicState::Failed(StoreFailure::ReadOnly { cause: cause.to_owned() });
            // A state of damage stays.
            self.topic_state.send_if_modified(|state| {
                let sound = matches!(state, TopicState::Ready(_));
                if sound {
                    *state = failed;
                }
                sound
            });
            tracing::error!(dir = %self.dir.display(), cause, "the store is read-only until it is opened again");
        }
    }

    /// Stops serving anything. Returns the first damage that was found.
    pub(super) fn set_corrupt(&self, corrupt: Corrupt) -> Corrupt {
        if self.corrupt.set(corrupt.clone()).is_ok() {
            self.topic_state.send_replace(TopicState::Failed(StoreFailure::Corrupt(corrupt.clone())));
            tracing::error!(dir = %self.dir.display(), %corrupt, "the store is not served any more");
        }
        self.corrupt.get().cloned().unwrap_or(corrupt)
    }

    pub(super) fn damage(&self, what: fmt::Arguments<'_>) -> Corrupt {
        Corrupt { detail: format!("{}: {what}", self.dir.display()) }
    }
}
