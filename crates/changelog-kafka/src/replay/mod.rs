//! Replays of a topic: where each partition is read from and to, and the reader that delivers it.
//!
//! Does not: say what a record means. The reader sees keys, offsets and counts.

mod batch;
pub mod cluster;
mod follow;
mod kafka_cluster;
pub mod limits;
pub mod offsets;
mod progress;
pub mod range;
pub mod reader;
#[cfg(test)]
mod sim;

pub use kafka_cluster::{KafkaCluster, run};
