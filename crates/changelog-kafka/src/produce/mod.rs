//! Writes to a topic: a pool of producers, and the coalescing of each partition's writes.

mod coalesce;
mod delivery;
mod pool;
mod submit;
mod swap;

pub use pool::{ProducerPool, queue_of};
