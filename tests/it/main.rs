//! Tests that need no other program. Tests that need a broker are in `tests/broker`.

mod bounds;
#[path = "../contract/mod.rs"]
mod contract;
mod deadlines;
mod flags;
mod http2;
mod image;
mod layers;
mod lost_broker;
mod process;
mod store;
mod worlds;

contract!(memory, crate::worlds::memory, foreign);
contract!(embedded, crate::worlds::embedded, durable);
contract!(mock_kafka, crate::worlds::mock_kafka, durable);
contract!(embedded_over_the_wire, crate::worlds::embedded_process, durable);
