//! Tests that need no other program. Tests that need a broker are in `tests/broker`.

// Pedantic lints are for what ships. Tests say what they measured.
#![allow(clippy::pedantic, clippy::print_stdout)]

mod bounds;
mod buffered_answers;
mod chart_values;
mod command_line;
mod command_messages;
mod command_output;
mod connections;
mod container;
#[path = "../contract/mod.rs"]
mod contract;
mod control_group;
mod data_directory;
mod deadlines;
mod documents;
mod drain;
mod faults;
mod flags;
mod http2;
mod image;
mod import_export;
mod json_values;
mod kafka_settings;
mod logs;
mod lost_broker;
mod memory_limit;
mod memory_of_streams;
mod metrics;
mod metrics_table;
mod mock_cluster;
mod opening;
mod process;
mod reasons;
mod replaced_properties;
mod retention;
mod servers;
mod stalls;
mod store;
mod store_metrics;
mod threads;
mod traces;
mod wait;
mod watch_command;

contract!(memory, crate::servers::memory, foreign);
contract!(embedded, crate::servers::embedded, durable);
contract!(mock_kafka, crate::servers::mock_kafka, durable);
contract!(embedded_over_the_wire, crate::servers::embedded_process, durable);
