//! The failure of a command: one line and an exit status.

use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::format::Format;
use crate::{
    config::{EXIT_UNAVAILABLE, EXIT_USAGE},
    proto::{DOMAIN, code_name},
};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The sidecar answered with an error. `write` says whether the call was a write.
    Status { status: Status, write: bool },
    /// No sidecar answers at the address.
    Unreachable { addr: String, cause: String },
    /// An argument or an input that can't work.
    Usage(String),
    /// The command ran, and its result is a failure.
    Failed(String),
    /// The reader of standard output has closed it.
    PipeClosed,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status { status, write: false }
    }
}

/// The failure of a write. A status that is not the sidecar's own says nothing about what was written.
pub fn write_failure(status: Status) -> Failure {
    Failure::Status { status, write: true }
}

/// The reason of our ErrorInfo.
pub fn reason(status: &Status) -> Option<String> {
    let details = status.get_error_details();
    details.error_info().filter(|i| i.domain == DOMAIN).map(|i| i.reason.clone())
}

/// The status as text for people.
pub fn describe(status: &Status, write: bool) -> String {
    let mut text = code_name(status.code()).to_owned();
    match reason(status) {
        Some(reason) => text = format!("{text} {reason}: {}", status.message()),
        None if write => {
            text = format!("{text}: {} (not from changelogd: the outcome of the write is not known)", status.message());
        }
        None => text = format!("{text}: {}", status.message()),
    }
    let details = status.get_error_details();
    if let Some(violation) = details.bad_request().and_then(|b| b.field_violations.first()) {
        text = format!("{text} (field {})", violation.field);
    }
    if let Some(delay) = details.retry_info().and_then(|r| r.retry_delay) {
        text = format!("{text} (retry after {delay:?})");
    }
    text
}

impl Failure {
    /// 1, 64 or 69.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Usage(_) => EXIT_USAGE,
            Self::Unreachable { .. } => EXIT_UNAVAILABLE,
            Self::Status { status, .. } if status.code() == Code::Unavailable => EXIT_UNAVAILABLE,
            Self::Status { .. } | Self::Failed(_) => 1,
            Self::PipeClosed => 0,
        }
    }

    /// The failure as one line.
    pub fn line(&self, command: &str, format: Format) -> String {
        let text = match self {
            Self::Status { status, write } => describe(status, *write),
            Self::Unreachable { addr, cause } => format!("no sidecar answers at {addr}: {cause}"),
            Self::Usage(text) | Self::Failed(text) => text.clone(),
            Self::PipeClosed => String::new(),
        };
        let text = text.replace(['\n', '\r'], " ");
        match (format, self) {
            (Format::Text, _) => format!("changelogd: {command}: {text}"),
            (Format::Json, Self::Status { status, .. }) => json!({
                "error": text, "command": command, "code": code_name(status.code()), "reason": reason(status),
            })
            .to_string(),
            (Format::Json, _) => json!({"error": text, "command": command}).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    /// Covers C69.
    #[test]
    fn exit_status_and_message_say_what_failed() {
        let details = ErrorDetails::with_error_info("TOPIC_NOT_FOUND", DOMAIN, HashMap::new());
        let ours = Failure::from(Status::with_error_details(Code::FailedPrecondition, "no topic", details));
        assert_eq!(ours.exit_status(), 1);
        let line = "changelogd: set: FAILED_PRECONDITION TOPIC_NOT_FOUND: no topic";
        assert_eq!(ours.line("set", Format::Text), line);
        let foreign = write_failure(Status::unavailable("connection reset"));
        assert_eq!(foreign.exit_status(), 69);
        assert!(foreign.line("set", Format::Text).contains("the outcome of the write is not known"));
        assert_eq!(Failure::Usage("x".to_owned()).exit_status(), 64);
        assert_eq!(Failure::Failed("incomplete\nx".to_owned()).line("load", Format::Text).lines().count(), 1);
    }
}
