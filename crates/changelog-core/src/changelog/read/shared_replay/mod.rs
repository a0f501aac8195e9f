//! Loads of the same partition share replays (also known as request coalescing or singleflight).
//!
//! A replay of a partition costs the same for one load as for many. So at most one replay of a partition runs at a
//! time, and loads that arrive meanwhile wait in a queue. The next replay serves all of them. Its end offsets are taken
//! after the last of them joined, so each load sees every write that was acknowledged before it started. A burst of
//! loads costs at most two replays. A replay that stalls delays no load: after a short time the next one starts next to
//! it, up to a limit.
//!
//! Promises: the deadline, the cancellation and the memory limit of one load affect no other load of the replay. A
//! replay runs as long as a load waits for it. Each load holds a permit of its own client until its records are sent.
//! Loads with the same selection share one fold. The replay permit and the memory are held until the last of its loads
//! is dropped.
//! Does not: share replays of streams, or of logs that can read one workspace alone.

mod load_partition;
mod loaded;
mod queue;
mod run;
#[cfg(test)]
mod tests;

pub use load_partition::PeerLoad;
pub use queue::SharedReplays;
