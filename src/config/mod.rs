//! The configuration of the process, from flags and environment variables.
//!
//! Promises: a configuration that can not work ends the process with status 64 and one line, before any work starts.
//! Does not: ask other systems. A wrong topic, for example, is found later.

mod cgroup;
mod duration;
mod environment;
mod exit;
mod flag_order;
mod kafka;
mod memory;
mod number;
mod parse;
mod refused;
mod renamed;
mod serve;
mod white_space;

pub use cgroup::memory_limit as container_memory_limit;
pub use duration::{format_duration, parse_duration};
pub use environment::{Environment, ProcessEnvironment, variable};
pub use exit::{EXIT_UNAVAILABLE, EXIT_USAGE, Exit, UsageError, asks_for_json};
pub use flag_order::flags_after_command;
pub use kafka::{KafkaArgs, KafkaProperties};
#[cfg(test)]
pub use memory::max_conversion_bytes;
pub use memory::{MemoryParts, SMALL_RESERVE, max_request_bytes};
pub use number::whole_number;
pub use parse::{Origin, Parsed, parse};
pub use renamed::RENAMED;
pub use serve::{MIN_DATA_LIMIT, OptionalAddress, ServeArgs, Setting, StoreChoice};
