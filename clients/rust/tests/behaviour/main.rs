//! What every client package does: `clients/BEHAVIOUR.md`. Each test has the name of a row of its table.

// Pedantic lints are for what ships. Tests say what they measured.
#![allow(clippy::pedantic, clippy::print_stdout)]

mod addresses;
mod errors;
mod keepalive;
mod loads;
mod support;
mod values;
mod watch;
mod writes;
