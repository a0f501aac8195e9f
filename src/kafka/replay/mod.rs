//! Replays of a topic: where each partition is read from and to, and the reader that delivers it.
//!
//! Does not: say what a record means. The reader sees keys, offsets and counts.

pub mod cluster;
mod kafka_cluster;
pub mod offsets;
pub mod range;
pub mod reader;
#[cfg(test)]
mod sim;

pub use kafka_cluster::{KafkaCluster, run};
