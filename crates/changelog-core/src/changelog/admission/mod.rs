//! Admission of replays: a limited number at a time, fairly shared among clients, within one memory budget.
//!
//! Knows nothing of logs or records.

mod memory;
mod permits;

pub use permits::{Peer, PeerLimiter, PeerPermit, ReplayLimiter, ReplayPermit};
