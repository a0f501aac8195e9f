//! The configuration of the process, from flags and environment variables.
//!
//! Promises: a configuration that can not work ends the process with status 64 and one line, before any work starts.
//! Does not: ask other systems. A wrong topic, for example, is found later.

mod cgroup;
mod duration;
mod environment;
mod kafka;
mod parse;
mod renamed;
mod serve;

pub use duration::{format_duration, parse_duration};
pub use environment::{Environment, ProcessEnvironment, variable};
pub use kafka::KafkaArgs;
pub use parse::{Origin, Parsed, parse};
pub use renamed::RENAMED;
pub use serve::{OptionalAddress, ServeArgs, Setting, StoreChoice};

/// A usage or configuration error: one line with setting, value and reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl UsageError {
    /// The error for a value of a setting.
    pub fn value(setting: &str, value: &str, reason: impl std::fmt::Display) -> Self {
        Self(format!("{setting}: {value:?}: {reason}"))
    }
}

/// Why parsing ends the process before it does anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// Help or version was asked for: print the text to standard output and exit with 0.
    Help(String),
    /// The process was started wrongly: exit with [`EXIT_USAGE`].
    Usage(UsageError),
}

impl From<UsageError> for Exit {
    fn from(error: UsageError) -> Self {
        Self::Usage(error)
    }
}

/// The exit status for usage and configuration errors (EX_USAGE of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// The exit status if the sidecar or the brokers can't be reached (EX_UNAVAILABLE of sysexits.h).
pub const EXIT_UNAVAILABLE: u8 = 69;
