//! The ends of partitions, as their leaders say.

use std::time::SystemTime;

use tokio::time::Instant;

use crate::model::Partition;

/// The end of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndOffset {
    /// The partition.
    pub partition: Partition,
    /// The high watermark: one above the last acknowledged record.
    pub offset: i64,
    /// The leader epoch of the answer; -1 if it is not known. A lower one than before is that of a former leader.
    pub leader_epoch: i32,
}

/// The ends of some partitions, in the order in which they were asked for.
#[derive(Debug, Clone)]
pub struct Ends {
    /// The end of each.
    pub ends: Vec<EndOffset>,
    /// When the question was sent, on the monotonic clock.
    pub asked_at: Instant,
    /// When the question was sent, on the wall clock.
    pub asked_at_wall: SystemTime,
}
