//! Loads and streams: records read from a log, folded where wanted, with proof that the read is complete.
//!
//! Promises: a read either reaches the end offsets that were taken when it started, or returns an error.
//! Does not: decide which replays may run (see [`super::admission`]) or how a log reads (see [`crate::log`]).

mod fold;
mod load;
mod shared_replay;
mod stream;
#[cfg(test)]
mod tests;

pub use fold::Snapshot;
pub use load::{Get, Load};
pub use shared_replay::SharedReplays;
pub use stream::{RecordStream, StreamEvent, StreamRequest};
