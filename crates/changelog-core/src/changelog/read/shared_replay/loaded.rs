//! The result of a replay for one load.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    changelog::{LoadError, admission::ReplayPermit, read::fold::MatchCounts},
    log::PartitionEnd,
    model::Record,
};

/// The latest records that one load asked for, complete.
#[derive(Debug, Clone)]
pub struct LoadedPartition {
    /// In the order of their offsets, without tombstones.
    pub records: Arc<Vec<Record>>,
    pub matched: MatchCounts,
    /// The range that was read.
    pub end: PartitionEnd,
    /// Whether other loads of the same replay hold these records, too.
    pub shared: bool,
    /// Released when the last load of the replay is dropped, because the records are in memory until then.
    pub(super) _permit: Arc<ReplayPermit>,
}

/// Delivers the result to one load.
pub type Reply = oneshot::Sender<Result<LoadedPartition, LoadError>>;
