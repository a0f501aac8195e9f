//! Tests that need nothing but this machine. What needs a broker is in `tests/broker`.

#[path = "../contract/mod.rs"]
mod contract;
mod worlds;

contract!(memory, crate::worlds::memory);
