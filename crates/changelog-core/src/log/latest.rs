//! The latest records of one partition, from the index of a log.

use std::sync::Arc;

use tokio::time::Instant;

use super::{replay::PartitionEnd, selection::Selection, topic::Topic};
use crate::model::{Partition, Record};

/// A request for the latest records of one partition.
#[derive(Debug, Clone)]
pub struct LatestRequest {
    /// The topic that the caller computed the partition for. A topic with another id is refused.
    pub topic: Arc<Topic>,
    /// The partition.
    pub partition: Partition,
    /// Which records to return.
    pub selection: Selection,
    /// Bytes of memory that the records may take, as [`Record::memory_size`] estimates them.
    pub max_bytes: usize,
    /// When the caller stops to wait.
    pub deadline: Instant,
}

/// The latest record of each selected key of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// In the order of their offsets, with tombstones.
    pub records: Vec<Record>,
    /// The range that was read: from the low watermark to an end that was taken after the request.
    pub end: PartitionEnd,
}
