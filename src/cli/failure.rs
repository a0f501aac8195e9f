//! The failure of a command: one line and an exit status.

use changelog_core::model::{Printable, PrintableJson};
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

impl Failure {
    /// The failure of a write. A status that is not the sidecar's own says nothing about the write.
    pub fn of_write(self) -> Self {
        match self {
            Self::Status { status, .. } => Self::Status { status, write: true },
            other => other,
        }
    }
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
        // The transport refuses a message before it is handled, and this code is its own.
        None if write && status.code() == Code::OutOfRange => {
            text = format!("{text}: {} (nothing was written)", status.message());
        }
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
        let object = match (format, self) {
            (Format::Text, _) => return format!("changelogd: {command}: {}", Printable(&text)),
            (Format::Json, Self::Status { status, .. }) => {
                let (code, reason) = (code_name(status.code()), reason(status));
                json!({"error": text, "command": command, "code": code, "reason": reason})
            }
            (Format::Json, _) => json!({"error": text, "command": command}),
        };
        PrintableJson(&object.to_string()).to_string()
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
        let foreign = Failure::from(Status::unavailable("connection reset")).of_write();
        assert_eq!(foreign.exit_status(), 69);
        assert!(foreign.line("set", Format::Text).contains("the outcome of the write is not known"));
        assert_eq!(Failure::Usage("x".to_owned()).exit_status(), 64);
        assert_eq!(Failure::Failed("incomplete\nx".to_owned()).line("load", Format::Text).lines().count(), 1);
    }

    /// Covers C56, C69.
    #[test]
    fn a_write_that_the_transport_refused_as_too_large_was_not_written() {
        let refused = || Status::out_of_range("decoded message length too large: found 5 bytes, the limit is: 4 bytes");
        let line = Failure::from(refused()).of_write().line("set", Format::Text);
        assert!(line.ends_with("(nothing was written)") && !line.contains("not known"), "{line}");
        assert!(!Failure::from(refused()).line("get", Format::Text).contains("written"));
    }

    /// Covers C81.
    #[test]
    fn the_text_of_a_server_is_escaped_and_stays_equal_as_json() {
        let text = "no \u{1b}[2J\u{202e}x\u{200b}\u{9b}1m";
        for failure in [
            Failure::from(Status::internal(text)),
            Failure::Failed(text.to_owned()),
            Failure::Usage(text.to_owned()),
            Failure::Unreachable { addr: text.to_owned(), cause: text.to_owned() },
        ] {
            let (people, json) = (failure.line("get", Format::Text), failure.line("get", Format::Json));
            for line in [&people, &json] {
                assert!(!line.contains(['\u{1b}', '\u{202e}', '\u{200b}', '\u{9b}']), "{line:?}");
            }
            assert!(people.contains(r"no \u{1b}[2J\u{202e}x\u{200b}\u{9b}1m"), "{people}");
            let object: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert!(object["error"].as_str().unwrap().contains(text), "{json}");
        }
    }
}
