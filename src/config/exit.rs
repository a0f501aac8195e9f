//! How the process ends when it is started wrongly.

use std::ffi::OsString;

use super::{
    environment::{Environment, variable},
    kafka::may_be_shown,
};

/// A usage or configuration error: one line with setting, value and reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl UsageError {
    /// The error for a value of a setting. A value that may have a secret in it is left out.
    pub fn value(setting: &str, value: &str, reason: impl std::fmt::Display) -> Self {
        if may_be_shown(value) {
            Self(format!("{setting}: {value:?}: {reason}"))
        } else {
            Self(format!("{setting}: {reason}"))
        }
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

/// Whether `serve` is to write JSON, although the rest of its command line may be wrong.
pub fn asks_for_json(arguments: &[OsString], environment: &impl Environment) -> bool {
    if arguments.get(1).is_none_or(|command| command != "serve") {
        return false;
    }
    let flags: Vec<_> = arguments[2..].iter().map(|argument| argument.to_string_lossy()).collect();
    let separate = flags.windows(2).filter(|pair| pair[0] == "--log-format").map(|pair| &*pair[1]);
    let joined = flags.iter().filter_map(|flag| flag.strip_prefix("--log-format="));
    match separate.chain(joined).last() {
        Some(format) => format.trim() == "json",
        None => environment.value(&variable("log-format")).is_some_and(|format| format == "json"),
    }
}

/// The exit status for usage and configuration errors (EX_USAGE of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// The exit status if the sidecar or the brokers can't be reached (EX_UNAVAILABLE of sysexits.h).
pub const EXIT_UNAVAILABLE: u8 = 69;
