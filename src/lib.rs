//! changelogd: a gRPC sidecar that keeps the state of workspaces in a log-compacted Kafka topic.
//!
//! ```text
//!   main -> commands -> app -> server (transport) -> service (gRPC) -> changelog_core
//!                         app -> store -> changelog_kafka, changelog_embedded -> changelog_core
//!   cli (the client) -> proto (generated), config -> address, telemetry
//! ```
//!
//! `service` knows no store, and no store knows gRPC. Only [`store`] and [`commands`] name a store. The flags of the
//! Kafka store are parsed with its crate.
//!
//! A doc comment says why, or is left out. The crates below have documented interfaces, because others use them.

pub mod address;
pub mod app;
pub mod cli;
pub mod commands;
pub mod config;
pub mod memory;
pub mod metrics;
pub mod open_files;
pub mod open_store;
pub mod proto;
pub mod server;
pub mod service;
mod signals;
pub mod store;
pub mod telemetry;
pub mod traces;
