//! What the writer, the replays and the log's face have in common: what may be read, and why nothing more is written or served.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    },
};

use fjall::Snapshot;
use tokio::sync::watch;

use super::{layout::Head, replay::ReplayRange, store::Store};
use crate::{
    log::{Corrupt, ReadError, StartAt, StoreFailure, Topic, TopicState, WriteError},
    model::Partition,
};

/// Milliseconds since 1970. Tests turn it.
pub(super) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// What may be read: fsynced, and whole.
pub(super) struct Published {
    pub(super) snapshot: Snapshot,
    pub(super) ends: Vec<i64>,
    /// Of each partition, one above the last tombstone that was taken away: who has read less far may have missed it.
    purged_below: Vec<i64>,
    pub(super) store: Arc<Store>,
}

impl Published {
    /// Only the writer may: its batches are the only ones, and it is between two of them.
    pub(super) fn of(store: &Arc<Store>, heads: &[Head], purged_below: &[i64]) -> Self {
        Self {
            snapshot: store.db.snapshot(),
            ends: heads.iter().map(|h| h.next).collect(),
            purged_below: purged_below.to_vec(),
            store: store.clone(),
        }
    }

    /// Whether who has read a partition up to here, and no further, may have missed a tombstone. The clocks by which tombstones
    /// come of age, and tokens and followers are told by their age, can be set; this does not ask them.
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
                let whole = start == StartAt::Low;
                if !whole && self.purged_beyond(partition, from) {
                    let cause = format!("tombstones beyond offset {from} have been taken away");
                    return Err(ReadError::Truncated { partition, cause });
                }
                Ok(ReplayRange { partition, from, end, whole })
            }
            end => Err(ReadError::OffsetOutOfRange { partition, offset: from, low: 0, end: end.unwrap_or(0) }),
        }
    }
}

/// What the writer, the replays and the log's face have in common.
pub(super) struct StoreState {
    pub(super) topic: Arc<Topic>,
    pub(super) dir: PathBuf,
    pub(super) sort_bytes: usize,
    /// `None` once the store is closed. Replays that run keep theirs.
    pub(super) published: watch::Sender<Option<Arc<Published>>>,
    /// No more writes are accepted, followers stop.
    pub(super) closed: watch::Sender<bool>,
    /// What still waits is refused.
    pub(super) abandoned: AtomicBool,
    /// The first reason is kept.
    pub(super) read_only: OnceLock<String>,
    pub(super) corrupt: OnceLock<Corrupt>,
    pub(super) topic_state: watch::Sender<TopicState>,
    pub(super) queued_bytes: AtomicUsize,
    pub(super) unanswered: AtomicU64,
}

impl StoreState {
    pub(super) fn publish(&self, published: Published) {
        self.published.send_replace(Some(Arc::new(published)));
    }

    /// Why nothing is written any more.
    pub(super) fn refusal(&self) -> Option<WriteError> {
        if let Some(corrupt) = self.corrupt.get() {
            return Some(WriteError::Corrupt(corrupt.clone()));
        }
        self.read_only.get().map(|cause| WriteError::ReadOnly { cause: cause.clone() })
    }

    pub(super) fn set_read_only(&self, cause: &str) {
        if self.read_only.set(cause.to_owned()).is_ok() {
            let failed = TopicState::Failed(StoreFailure::ReadOnly { cause: cause.to_owned() });
            // Damage is worse, and stays.
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

    /// Nothing is served from here on. Answers the first damage that was met.
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
