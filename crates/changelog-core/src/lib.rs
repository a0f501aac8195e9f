//! The changelog of workspaces above a partitioned, compacted log, and the log's contract.
//!
//! - [`model`]: keys, partitions, records, rules for values. A value of these types is valid.
//! - [`log`]: the trait [`log::Log`] with its contract, and a log in memory, which is the executable specification.
//! - [`changelog`]: [`changelog::Changelog`] over any log: acknowledged writes, complete loads, resumable streams.
//!
//! A Rust service can use a changelog without the sidecar: open a log, such as `changelog_embedded::EmbeddedLog`, and
//! create a [`changelog::Changelog`] over it. `examples/embed` in the repository is such a service.
//!
//! Does not: speak gRPC, or know a store except the one in memory.

#![deny(missing_docs)]

#[doc(hidden)]
pub mod blocking;
pub mod changelog;
pub mod log;
#[doc(hidden)]
pub mod metrics;
pub mod model;
#[doc(hidden)]
pub mod rule;
// Always compiled. Behind a feature, each crate would be compiled twice: for its tests, and for `make run`.
#[doc(hidden)]
pub mod testing;
