//! changelogd: a gRPC sidecar that keeps the state of workspaces in a log-compacted Kafka topic.
//!
//! ```text
//!   model <- log <- { memory, kafka, embedded } <- store <- app <- commands <- main
//!            log <- changelog (fold, load, stream, write) <- service (gRPC) <- server (transport) <- app
//!   leaves:  address, config, telemetry, metrics, proto (generated)     cli (the client) uses only proto and config
//! ```
//!
//! `service` knows no backend, and no backend knows gRPC. Only [`store`] and [`commands`] name a backend.
//!
//! `missing_docs` applies to the domain, the log and its backends, because other code implements or uses their
//! interfaces. In other modules a doc comment says why, or is left out.

#![warn(clippy::pedantic)]
#![allow(
    // Names of gRPC codes, Kafka properties and flags are prose here, and help texts must not carry markup.
    clippy::doc_markdown,
    clippy::format_push_string,
    clippy::similar_names,
    clippy::single_match_else,
    clippy::duration_suboptimal_units,
    clippy::must_use_candidate,
    clippy::missing_errors_doc,
    clippy::module_name_repetitions,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    clippy::cast_possible_truncation
)]

pub mod address;
pub mod app;
#[deny(missing_docs)]
pub mod changelog;
pub mod cli;
pub mod commands;
pub mod config;
#[deny(missing_docs)]
pub mod embedded;
#[deny(missing_docs)]
pub mod kafka;
#[deny(missing_docs)]
pub mod log;
pub mod metrics;
#[deny(missing_docs)]
pub mod model;
pub mod proto;
#[doc(hidden)]
pub mod rule;
pub mod server;
pub mod service;
pub mod store;
pub mod telemetry;
#[doc(hidden)]
pub mod testing;
