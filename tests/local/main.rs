//! Tests that need no other program. Tests that need a broker are in `tests/broker`.

// Pedantic lints are for what ships.
#![allow(clippy::pedantic)]

mod bounds;
#[path = "../contract/mod.rs"]
mod contract;
mod deadlines;
mod flags;
mod http2;
mod image;
mod lost_broker;
mod process;
mod servers;
mod store;

contract!(memory, crate::servers::memory, foreign);
contract!(embedded, crate::servers::embedded, durable);
contract!(mock_kafka, crate::servers::mock_kafka, durable);
contract!(embedded_over_the_wire, crate::servers::embedded_process, durable);
