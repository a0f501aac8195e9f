//! The failure of a command: one line and an exit status.

use std::{
    error::Error,
    io::{self, Write},
};

use changelog_core::model::{Printable, PrintableJson};
use serde_json::json;
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt;

use super::format::Format;
use crate::{
    config::{EXIT_UNAVAILABLE, EXIT_USAGE},
    proto::{DOMAIN, code_name},
};

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The sidecar answered with an error.
    Status { status: Status, tried: Tried },
    /// No sidecar answers at the address. `write` says whether something was to be written.
    Unreachable { addr: String, cause: String, write: bool },
    /// An argument or an input that can't work.
    Usage(String),
    /// The command ran, and its result is a failure.
    Failed(String),
    /// The reader of standard output has closed it.
    PipeClosed,
}

/// What ended with a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tried {
    Read,
    /// A write. The status is its answer.
    Write,
    /// A mutation of a stream that ended without its verdict.
    WriteOfStream,
    /// A write that did not reach the transport.
    UnsentWrite,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let status = if is_lost_connection(&status) { Status::unavailable(with_cause(&status)) } else { status };
        Self::Status { status, tried: Tried::Read }
    }
}

/// Whether a connection was lost, or a stream reset. Only a status that tonic made itself has causes, so the server has
/// said nothing. Other libraries of gRPC say UNAVAILABLE.
fn is_lost_connection(status: &Status) -> bool {
    let is_late = sources(status).any(<dyn Error>::is::<TimeoutExpired>);
    let has_cause = sources(status).next().is_some();
    has_cause && !is_late && matches!(status.code(), Code::Unknown | Code::Cancelled | Code::Internal)
}

/// The message. A status that the transport made names its outermost error only.
fn with_cause(status: &Status) -> String {
    let message = status.message();
    match sources(status).last().map(ToString::to_string) {
        Some(cause) if !message.contains(&cause) => format!("{message}: {cause}"),
        _ => message.to_owned(),
    }
}

impl Failure {
    /// The failure of a write. A status that is not the sidecar's own says nothing about the write.
    pub fn of_write(self) -> Self {
        match self {
            Self::Status { status, .. } => Self::Status { status, tried: Tried::Write },
            Self::Unreachable { addr, cause, .. } => Self::Unreachable { addr, cause, write: true },
            other => other,
        }
    }
}

/// The errors below an error, from the outermost to the innermost.
pub fn sources<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(error.source(), |&cause| cause.source())
}

/// The texts of the errors below an error, from the outermost to the innermost, each once.
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    for cause in sources(error).map(ToString::to_string) {
        if !texts.iter().any(|text| text.contains(&cause)) {
            texts.push(cause);
        }
    }
    if texts.is_empty() { error.to_string() } else { texts.join(": ") }
}

/// A warning as one line.
pub fn warning(command: &str, text: &str, format: Format) -> String {
    match format {
        Format::Text => format!("changelogd: {command}: warning: {}", Printable(text)),
        Format::Json => PrintableJson(&json!({"warning": text, "command": command}).to_string()).to_string(),
    }
}

/// Writes a line to standard error. A command does not fail because that can't be written.
pub fn say(line: &str) {
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// The reason of our ErrorInfo.
pub fn reason(status: &Status) -> Option<String> {
    let details = status.get_error_details();
    details.error_info().filter(|i| i.domain == DOMAIN).map(|i| i.reason.clone())
}

const NOTHING_WRITTEN: &str = " (nothing was written)";

/// What a status says about a write, for the end of its line.
fn outcome(status: &Status, tried: Tried) -> &'static str {
    let nothing_written = if status.message().contains("nothing was written") { "" } else { NOTHING_WRITTEN };
    let accepted_have_verdicts =
        matches!(status.code(), Code::Unavailable | Code::ResourceExhausted | Code::InvalidArgument);
    match (tried, reason(status).as_deref()) {
        // The message of the sidecar says it.
        (Tried::Read, _) | (Tried::Write | Tried::WriteOfStream, Some("OUTCOME_UNKNOWN")) => "",
        // The transport refuses a message before it is handled, and this code is its own.
        (Tried::Write | Tried::WriteOfStream, None) if status.code() != Code::OutOfRange => {
            " (not from changelogd: the outcome of the write is not known)"
        }
        (Tried::WriteOfStream, Some(_)) if !accepted_have_verdicts => " (the outcome of the write is not known)",
        (Tried::UnsentWrite | Tried::Write | Tried::WriteOfStream, _) => nothing_written,
    }
}

/// The status as text for people.
pub fn describe(status: &Status, tried: Tried) -> String {
    let mut text = code_name(status.code()).to_owned();
    if let Some(reason) = reason(status) {
        text = format!("{text} {reason}");
    }
    text = format!("{text}: {}", with_cause(status));
    text += outcome(status, tried);
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

    /// What failed, without the command, on one line.
    pub fn text(&self) -> String {
        let text = match self {
            Self::Status { status, tried } => describe(status, *tried),
            Self::Unreachable { addr, cause, write } => {
                format!("no sidecar answers at {addr}: {cause}{}", if *write { NOTHING_WRITTEN } else { "" })
            }
            Self::Usage(text) | Self::Failed(text) => text.clone(),
            Self::PipeClosed => String::new(),
        };
        text.replace(['\n', '\r'], " ")
    }

    /// The failure as one line.
    pub fn line(&self, command: &str, format: Format) -> String {
        let text = self.text();
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
    use std::{collections::HashMap, sync::Arc};

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
        for code in [Code::Unknown, Code::Cancelled, Code::Internal] {
            assert_eq!(Failure::from(Status::new(code, "of the server")).exit_status(), 1);
            let mut lost = Status::new(code, "transport error");
            lost.set_source(Arc::new(io::Error::other("broken pipe")));
            let lost = Failure::from(lost);
            assert_eq!(lost.exit_status(), 69);
            assert_eq!(
                lost.line("watch", Format::Text),
                "changelogd: watch: UNAVAILABLE: transport error: broken pipe"
            );
        }
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

    fn ours(code: Code, reason: &str, message: &str) -> Status {
        Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new()))
    }

    /// Covers C54, C56, C69.
    #[test]
    fn each_failed_write_says_that_nothing_was_written_or_that_its_outcome_is_not_known() {
        let says = |status: &Status, tried| {
            let text = describe(status, tried);
            (text.contains("nothing was written"), text.contains("not known"))
        };
        for status in [
            ours(Code::InvalidArgument, "VALUE_NOT_JSON", "the value is not JSON"),
            ours(Code::InvalidArgument, "KEY_INVALID", "the key is empty"),
            ours(Code::DeadlineExceeded, "DEADLINE", "late"),
            ours(Code::Internal, "INTERNAL_FAULT", "a fault"),
            ours(Code::Unavailable, "DRAINING", "nothing was written: this process is draining"),
        ] {
            assert_eq!(says(&status, Tried::Write), (true, false), "{status:?}");
            for tried in [Tried::Write, Tried::WriteOfStream] {
                assert!(describe(&status, tried).matches("nothing").count() < 2, "{status:?}");
            }
            let accepted_are_answered = matches!(status.code(), Code::InvalidArgument | Code::Unavailable);
            assert_eq!(says(&status, Tried::WriteOfStream), (accepted_are_answered, !accepted_are_answered));
            assert!(!says(&status, Tried::Read).1);
        }
        let unknown = ours(Code::Unknown, "OUTCOME_UNKNOWN", "the outcome is not known: a fault");
        for tried in [Tried::Write, Tried::WriteOfStream] {
            assert_eq!(says(&unknown, tried), (false, true));
            assert_eq!(says(&Status::unavailable("a proxy"), tried), (false, true));
        }
        assert_eq!(says(&Status::unavailable("tcp connect error"), Tried::UnsentWrite), (true, false));
        let refused = || Failure::Unreachable { addr: "a".to_owned(), cause: "refused".to_owned(), write: false };
        assert!(refused().of_write().line("set", Format::Text).ends_with("(nothing was written)"));
        assert!(!refused().line("get", Format::Text).contains("written"));
    }

    /// Covers C81.
    #[test]
    fn the_text_of_a_server_is_escaped_and_stays_equal_as_json() {
        let text = "no \u{1b}[2J\u{202e}x\u{200b}\u{9b}1m";
        for failure in [
            Failure::from(Status::internal(text)),
            Failure::Failed(text.to_owned()),
            Failure::Usage(text.to_owned()),
            Failure::Unreachable { addr: text.to_owned(), cause: text.to_owned(), write: false },
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
