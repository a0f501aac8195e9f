//! Helpers for tests: limits that do not get in the way, and a log whose operations a test replaces.

mod fake_log;

use std::time::Duration;

pub use fake_log::FakeLog;

use crate::{
    changelog::Limits,
    model::{ValueMode, ValueRules},
};

impl Limits {
    /// Limits that most tests do not reach.
    pub fn for_tests() -> Self {
        Self {
            values: ValueRules { mode: ValueMode::Json, max_bytes: 1_000 },
            max_replays: 4,
            max_replays_per_client: 4,
            share_replays: true,
            replay_queue_timeout: Duration::from_millis(20),
            replay_memory: usize::MAX,
            read_ahead: 0,
            max_following_streams: 2,
            max_load_memory: usize::MAX,
        }
    }
}
