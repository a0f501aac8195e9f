//! Administration of the topic: the commands `ensure` and `describe`, and the client that they and the watcher use.

mod client;
mod commands;

pub use client::{AdminError, DOCUMENTED, TopicSpec};
pub(super) use client::{REPLICAS_FOR_TWO_IN_SYNC, client, create, read_config};
pub use commands::{EnsureReport, PartitionReport, TopicReport, describe, ensure};
