//! Limits on loads, streams and values.

use std::time::Duration;

use crate::model::{ValueMode, ValueRules};

/// Limits on the work of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rules for values. The topic can lower the maximum size: see [`Changelog::value_rules`].
    ///
    /// [`Changelog::value_rules`]: super::Changelog::value_rules
    pub values: ValueRules,
    /// Replays that run at the same time. Default 16. With 0 every read is refused.
    pub max_replays: usize,
    /// Replays that one client may run at the same time. Default 12, three quarters of `max_replays`.
    pub max_replays_per_client: usize,
    /// Whether loads that wait for the same partition share one replay. Only for logs that read whole partitions
    /// (Kafka). Default true.
    pub share_replays: bool,
    /// How long a load waits for a replay permit before it is refused. Default 2 s. With 0 it does not wait.
    pub replay_queue_timeout: Duration,
    /// Bytes of memory that all replays together may reserve. Default 512 MiB.
    pub replay_memory: usize,
    /// Bytes of `replay_memory` that each replay reserves for records that it reads ahead. By default all replays and
    /// following streams together reserve half of it.
    pub read_ahead: usize,
    /// Streams that may follow at the same time. One client may have three quarters of them, at least one.
    /// Default 64.
    pub max_following_streams: usize,
    /// Bytes of memory that the folded records of one load or stream may take. Default: all of `replay_memory`.
    pub max_load_memory: usize,
}

impl Default for Limits {
    /// The defaults of the flags of `changelogd serve`, on a machine without a memory limit.
    fn default() -> Self {
        let (max_replays, max_following_streams) = (16, 64);
        let replay_memory = 512 * 1024 * 1024;
        Self {
            values: ValueRules { mode: ValueMode::Json, max_bytes: 1_000_000 },
            max_replays,
            // No client may use all of them.
            max_replays_per_client: max_replays * 3 / 4,
            share_replays: true,
            replay_queue_timeout: Duration::from_secs(2),
            replay_memory,
            // Half of the memory is for reading ahead, and half is for folding.
            read_ahead: replay_memory / 2 / (max_replays + max_following_streams),
            max_following_streams,
            max_load_memory: replay_memory,
        }
    }
}
