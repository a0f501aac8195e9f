//! Administration of the topic: the commands `ensure` and `describe`, and the requests that they and the watcher make.

mod commands;
mod requests;

pub use commands::{EnsureReport, PartitionReport, TopicReport, describe, ensure};
pub use requests::{AdminError, DOCUMENTED, TopicSpec};
pub(super) use requests::{REPLICAS_FOR_TWO_IN_SYNC, create, read_config};
