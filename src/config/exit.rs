//! How the process ends when it is started wrongly.

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
