//! changelogd: a gRPC sidecar that keeps the state of workspaces in a log-compacted Kafka topic.
//!
//! ```text
//!   main -> commands -> app -> server (transport) -> service (gRPC) -> changelog_core
//!                         app -> store -> changelog_kafka, changelog_embedded -> changelog_core
//!   leaves: address, config, telemetry, metrics, proto (generated)     cli (the client) uses only proto and config
//! ```
//!
//! `service` knows no store, and no store knows gRPC. Only [`store`] and [`commands`] name a store.
//!
//! A doc comment says why, or is left out. The crates below have documented interfaces, because others use them.

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
pub mod cli;
pub mod commands;
pub mod config;
pub mod metrics;
pub mod proto;
pub mod server;
pub mod service;
pub mod store;
pub mod telemetry;
