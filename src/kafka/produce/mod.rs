//! Writes to a topic: a pool of producers, and the coalescing of each partition's writes.

mod coalesce;
mod pool;

pub use pool::ProducerPool;
