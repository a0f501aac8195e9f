//! Limits on loads, streams and values.

use std::time::Duration;

use crate::model::ValueRules;

/// Limits on the work of one process.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rules for values. The topic can lower the maximum size: see [`Changelog::value_rules`].
    ///
    /// [`Changelog::value_rules`]: super::Changelog::value_rules
    pub values: ValueRules,
    /// Replays that run at the same time.
    pub max_replays: usize,
    /// Replays that one client may run at the same time.
    pub max_replays_per_client: usize,
    /// Whether loads that wait for the same partition share one replay. Only for logs that read whole partitions
    /// (Kafka).
    pub share_replays: bool,
    /// How long a load waits for a replay permit before it is refused.
    pub replay_queue_timeout: Duration,
    /// Bytes of memory that all replays together may reserve.
    pub replay_memory: usize,
    /// Bytes of `replay_memory` that each replay reserves for records that it reads ahead.
    pub read_ahead: usize,
    /// Streams that may follow at the same time. One client may have three quarters of them, at least one.
    pub max_following_streams: usize,
    /// Bytes of memory that the folded records of one load or stream may take.
    pub max_load_memory: usize,
}
