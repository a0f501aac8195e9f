//! Loads and streams: records read from a log, folded where wanted, with proof that the read is complete.
//!
//! Promises: a read either reaches the end offsets that were taken when it started, or returns an error.
//! Does not: decide which replays may run (see [`super::admission`]) or how a log reads (see [`crate::log`]).

mod fold;
mod from_index;
mod load;
mod outage;
mod shared_replay;
mod stream;
mod stream_request;
#[cfg(test)]
mod tests;
mod watch;

pub use fold::Snapshot;
pub use load::{Get, Load};
pub use shared_replay::SharedReplays;
pub use stream::{RecordStream, StreamEvent};
pub use stream_request::StreamRequest;
pub use watch::{Watch, WatchEvent, WatchRequest};
