//! Loads that wait for the same partition share one replay of it: the queue of a partition, and the replay that serves it.

mod queue;
mod run;
#[cfg(test)]
mod tests;

pub use queue::{Arrived, SharedReplays};
