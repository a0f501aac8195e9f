//! The only place where a domain error becomes a gRPC status.
//!
//! Promises: UNAVAILABLE with our ErrorInfo means that nothing was written. An operation with an unknown outcome never
//! returns it.

use std::{collections::HashMap, io, time::Duration};

use changelog_core::{
    changelog::{LoadError, TokenError},
    log::{ReadError, TopicProblem, WriteError},
    model::{Escaped, HeaderError, Key, KeyError, KeyPart, ValueError},
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::facts::{Fact, Facts, fact, key as key_fact, limit_and_got, shown};
use crate::{memory::Full, metrics::Metrics, proto::DOMAIN};

/// The parts of a status. Code and reason belong together.
struct StatusSpec {
    code: Code,
    reason: &'static str,
    retry_after: Option<Duration>,
    field: Option<String>,
    facts: Vec<Fact>,
}

const fn spec(code: Code, reason: &'static str) -> StatusSpec {
    StatusSpec { code, reason, retry_after: None, field: None, facts: Vec::new() }
}

impl StatusSpec {
    fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Adds members to `ErrorInfo.metadata`.
    fn with(mut self, facts: impl IntoIterator<Item = Fact>) -> Self {
        self.facts.extend(facts);
        self
    }

    fn status(self, message: impl Into<String>) -> Status {
        let message = bounded(message.into());
        let metadata: HashMap<_, _> = self.facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut details = ErrorDetails::with_error_info(self.reason, DOMAIN, metadata);
        if let Some(field) = self.field {
            details.add_bad_request_violation(field, message.clone());
        }
        if let Some(delay) = self.retry_after {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(self.code, message, details)
    }
}

/// A status is sent in headers, and many clients take 8 KiB of them. The details of a status have its message twice.
const MAX_MESSAGE_BYTES: usize = 1_000;

fn bounded(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        message.push('…');
    }
    message
}

fn bad_field(reason: &'static str, field: &str, message: String, facts: Vec<Fact>) -> Status {
    StatusSpec { field: Some(field.to_owned()), facts, ..spec(Code::InvalidArgument, reason) }.status(message)
}

/// The reason of a status that this file made.
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// The same status with the entity or workspace of its call: `what` begins the message, and `named` is a fact.
pub fn naming(status: &Status, what: &str, named: &Fact) -> Status {
    let mut details = status.get_error_details();
    let Some(info) = details.error_info().cloned() else { return status.clone() };
    let mut metadata = info.metadata;
    metadata.insert(named.0.to_owned(), named.1.clone());
    details.set_error_info(info.reason, info.domain, metadata);
    let message = status.message();
    let message = if message.starts_with(what) { message.to_owned() } else { bounded(format!("{what}: {message}")) };
    Status::with_error_details(status.code(), message, details)
}

/// As [`naming`], for the write of one key: `verb` and the key begin the message.
pub fn naming_key(status: &Status, verb: &str, key: &Key) -> Status {
    naming(status, &of_key(verb, key), &key_fact(key))
}

fn of_key(verb: &str, key: &Key) -> String {
    format!("{verb} {}", Escaped(key.as_str()))
}

/// A request that can never succeed.
pub fn bad_argument(field: &str, message: impl Into<String>) -> Status {
    bad_field("ARGUMENT_INVALID", field, message.into(), vec![])
}

/// A list of the request with too many entries.
pub fn too_many_entries(field: &str, limit: usize, got: usize, message: String) -> Status {
    bad_field("ARGUMENT_INVALID", field, message, limit_and_got(&limit, &got))
}

/// A number that the enum of the field does not have.
pub fn unknown_enum_value(field: &str, number: i32) -> Status {
    let message = format!("{number} is not a value of {field}");
    bad_field("ARGUMENT_INVALID", field, message, vec![fact("got", &number)])
}

/// `workspace_id` and `changelog_id` that are not a key.
pub fn bad_key(error: &KeyError, workspace_id: &str, changelog_id: &str) -> Status {
    // A full key names its workspace itself.
    let full = workspace_id.is_empty() && !changelog_id.starts_with('/');
    let field = match error.part() {
        KeyPart::Workspace if !full => "workspace_id",
        _ => "changelog_id",
    };
    bad_field("KEY_INVALID", field, error.to_string(), error.facts())
}

/// A workspace ID that is not valid.
pub fn bad_workspace(error: &KeyError, field: &str) -> Status {
    bad_field("KEY_INVALID", field, error.to_string(), error.facts())
}

pub fn bad_value(error: &ValueError, field: &str) -> Status {
    let reason = match error {
        ValueError::TooLarge { .. } | ValueError::TooManyMembers { .. } => "VALUE_TOO_LARGE",
        ValueError::NotJson { .. } => "VALUE_NOT_JSON",
    };
    bad_field(reason, field, error.to_string(), error.facts())
}

pub fn bad_headers(error: &HeaderError) -> Status {
    bad_field("ARGUMENT_INVALID", "headers", error.to_string(), error.facts())
}

/// An RPC, or a request of reflection, that this version does not implement.
pub fn not_implemented(message: &str) -> Status {
    spec(Code::Unimplemented, "NOT_IMPLEMENTED").status(message)
}

/// `Get` of an entity that does not exist.
pub fn key_not_found(key: &str, named: Fact) -> Status {
    spec(Code::NotFound, "KEY_NOT_FOUND").with([named]).status(format!("{key} does not exist, or was deleted"))
}

/// A request message that is longer than the server takes, or becomes so when it is decompressed. Nothing of it was
/// written. `got` is the announced length, if that is too large.
pub fn message_too_large(what: &str, limit: u64, got: Option<u64>) -> Status {
    let message = match got {
        Some(got) => {
            format!("{what}: the message has {got} bytes, at most {limit} are allowed; nothing of it was written")
        }
        None => format!("{what}: the decompressed message has more than {limit} bytes; nothing of it was written"),
    };
    let facts = [fact("limit", &limit)].into_iter().chain(got.map(|got| fact("got", &got)));
    spec(Code::OutOfRange, "MESSAGE_TOO_LARGE").with(facts).status(message)
}

/// A path that no service of the server has.
pub fn unknown_method(path: &str) -> Status {
    let message = format!("nothing was done: this server has no method {}", Escaped(path));
    spec(Code::Unimplemented, "UNKNOWN_METHOD").with([shown("path", path)]).status(message)
}

/// A compression of the request that the server does not have.
pub fn encoding_unsupported(encoding: &str, accepted: &str) -> Status {
    let message = format!(
        "nothing was done: the request is compressed with {}, and the server takes {accepted}",
        Escaped(encoding)
    );
    let facts = [shown("encoding", encoding), shown("accepted", accepted)];
    spec(Code::Unimplemented, "ENCODING_UNSUPPORTED").with(facts).status(message)
}

/// A request that is not framed as gRPC says: cut off, without a message, with one too many, or with a wrong flag.
pub fn request_malformed(what: &str, cause: &str) -> Status {
    spec(Code::Internal, "REQUEST_MALFORMED").status(format!("{what}: nothing of the message was done: {cause}"))
}

/// As [`request_malformed`], with the text of the gRPC library.
pub fn not_framed(what: &str, library: &str) -> Status {
    let cause = format!(
        "the request is not framed as gRPC says, because it is cut off, compressed badly, without a message, or has a \
         wrong flag; the gRPC library says {}",
        Escaped(library)
    );
    request_malformed(what, &cause)
}

/// A service that health does not know, or a symbol or file that reflection does not know.
/// `what` says which of them, and the name ends the message.
pub fn name_unknown(what: &str, name: &str) -> Status {
    let message = format!("{what} {}", Escaped(name));
    spec(Code::NotFound, "NAME_UNKNOWN").with([shown("name", name)]).status(message)
}

/// Of a read, or of a write that came after the fault. What a fault did to a write that it met is not known.
const INTERNAL_FAULT: StatusSpec = spec(Code::Internal, "INTERNAL_FAULT");

/// A write had not begun.
const DEADLINE: StatusSpec = spec(Code::DeadlineExceeded, "DEADLINE");

/// Final until a restart.
const STORE_GONE: StatusSpec = spec(Code::FailedPrecondition, "STORE_GONE");

/// Other calls may succeed, and this one later.
const OUT_OF_FILES: StatusSpec = spec(Code::Unavailable, "OUT_OF_FILES");

/// A task of ours ended without a result, most often by a panic. `what` names the call.
pub fn internal_fault(what: &str) -> Status {
    INTERNAL_FAULT.status(format!("{what}: a fault of changelogd ended it; its log has the cause"))
}

/// As [`internal_fault`], for a call that may have written.
pub fn fault_of_write(what: &str) -> Status {
    let cause = "a fault of changelogd ended the call; its log has the cause".to_owned();
    from_write_error(&WriteError::OutcomeUnknown { by_time: false, cause }, what)
}

/// A new call on a connection for which the port has no place.
pub fn connection_displaced(what: &str) -> Status {
    let message =
        format!("{what}: nothing was done: the port has all connections that it may have (--max-connections)");
    OUT_OF_FILES.retry_after(Duration::from_secs(1)).status(message)
}

/// A new call while the process drains. `what` names it.
pub fn draining(what: &str) -> Status {
    from_write_error(&WriteError::Draining, what)
}

/// A call before the store is open. `what` names it.
pub fn starting(what: &str, progress: &str) -> Status {
    let status = spec(Code::Unavailable, "STARTING").retry_after(Duration::from_secs(1));
    status.status(format!("{what}: nothing was done: {progress}"))
}

/// A call for which the system gives no thread. Nothing was written.
pub fn no_thread(what: &str, error: &io::Error) -> Status {
    let status = OUT_OF_FILES.retry_after(Duration::from_secs(1));
    status.status(format!("{what}: nothing was done: the system has no thread left: {error}"))
}

fn no_room(message: String, facts: Vec<Fact>) -> Status {
    spec(Code::ResourceExhausted, "MEMORY_LIMIT").retry_after(Duration::from_secs(1)).with(facts).status(message)
}

/// A call that the memory limit has no room for. Nothing was written.
pub fn memory_limit(what: &str, full: &Full) -> Status {
    no_room(format!("{what}: nothing was done: {full}"), full.facts())
}

/// As [`memory_limit`], for the write of one key.
pub fn memory_limit_of_write(verb: &str, key: &Key, full: &Full) -> Status {
    naming_key(&memory_limit(&of_key(verb, key), full), verb, key)
}

/// A message of a stream that the memory limit has no room for. Others of the stream may have been written or sent.
pub fn no_room_for_message(what: &str, full: &Full) -> Status {
    no_room(format!("{what}: the stream ends before this message: {full}"), full.facts())
}

/// A call of health or reflection on a connection that has too many of them.
pub fn too_many_probes(what: &str, max: usize) -> Status {
    let message = format!("{what}: nothing was done: this connection has {max} such calls, which is the most");
    no_room(message, vec![fact("limit", &max)])
}

/// A request that did not arrive completely before its deadline.
pub fn request_too_slow() -> Status {
    deadline_exceeded("the deadline passed before the request had arrived; nothing was done".to_owned())
}

/// A message of a `Write` stream that began to arrive and did not arrive completely.
pub fn message_too_slow(limit: Duration) -> Status {
    let message = format!("the rest of a message did not arrive within {} s; nothing of it was done", limit.as_secs());
    DEADLINE.with([fact("timeoutMs", &limit.as_millis())]).status(message)
}

/// A call whose deadline passed, or whose client received nothing for too long.
pub fn deadline_exceeded(message: String) -> Status {
    DEADLINE.status(message)
}

fn topic(problem: &TopicProblem) -> StatusSpec {
    spec(Code::FailedPrecondition, problem.reason())
}

/// As [`from_write_error`], for the write of one key. `verb` and the key name it.
pub fn from_failed_write(error: &WriteError, verb: &str, key: &Key) -> Status {
    write_status(error, &of_key(verb, key), Some(key))
}

/// A write that was refused, failed, or has an unknown outcome. `what` names it: `set "ws/type/id"`.
pub fn from_write_error(error: &WriteError, what: &str) -> Status {
    write_status(error, what, None)
}

fn write_status(error: &WriteError, what: &str, key: Option<&Key>) -> Status {
    let facts = || error.facts().into_iter().chain(key.map(key_fact));
    let spec = match error {
        WriteError::Topic(problem) => topic(problem),
        WriteError::QueueFull { .. } => {
            spec(Code::ResourceExhausted, "PRODUCER_QUEUE_FULL").retry_after(Duration::from_millis(100))
        }
        WriteError::TooLarge { .. } => {
            return bad_field("VALUE_TOO_LARGE", "raw", format!("{what}: {error}"), facts().collect());
        }
        WriteError::Unreachable { .. } => {
            spec(Code::Unavailable, "BROKERS_UNREACHABLE").retry_after(Duration::from_secs(1))
        }
        WriteError::NotEnoughReplicas { .. } => {
            spec(Code::Unavailable, "NOT_ENOUGH_REPLICAS").retry_after(Duration::from_secs(1))
        }
        WriteError::ClockSkew { .. } => spec(Code::FailedPrecondition, "CLOCK_SKEW"),
        WriteError::Draining => spec(Code::Unavailable, "DRAINING").retry_after(Duration::from_secs(1)),
        WriteError::OutOfFiles { .. } => OUT_OF_FILES.retry_after(Duration::from_secs(1)),
        WriteError::DiskFull { .. } => spec(Code::ResourceExhausted, "DISK_FULL").retry_after(Duration::from_secs(10)),
        WriteError::ReadOnly { .. } => spec(Code::FailedPrecondition, "STORE_READ_ONLY"),
        WriteError::Corrupt(_) => spec(Code::DataLoss, "STORE_CORRUPT"),
        WriteError::StoreGone(_) => STORE_GONE,
        WriteError::Fault { .. } => INTERNAL_FAULT,
        WriteError::OutcomeUnknown { by_time: true, .. } => spec(Code::DeadlineExceeded, "OUTCOME_UNKNOWN"),
        WriteError::OutcomeUnknown { by_time: false, .. } => spec(Code::Unknown, "OUTCOME_UNKNOWN"),
    };
    spec.with(facts()).status(format!("{what}: {error}"))
}

/// A load, get or stream that did not reach its end. `what` names it: `load "ws"`. `named` is the key or workspace of
/// the request. Counts those that were aborted because the log changed.
pub fn from_load_error(error: &LoadError, what: &str, named: Option<&Fact>, metrics: &Metrics) -> Status {
    let facts = || error.facts().into_iter().chain(named.cloned());
    let spec = match error {
        LoadError::Read(error) => from_read_error(error),
        LoadError::TooManyReplays { .. } | LoadError::TooManyReplaysOfPeer { .. } => {
            spec(Code::ResourceExhausted, "TOO_MANY_REPLAYS").retry_after(Duration::from_millis(500))
        }
        LoadError::TooManyFollowingStreams { .. } | LoadError::TooManyFollowingStreamsOfPeer { .. } => {
            spec(Code::ResourceExhausted, "TOO_MANY_FOLLOWS").retry_after(Duration::from_secs(5))
        }
        LoadError::TooLarge { .. } => {
            spec(Code::ResourceExhausted, "REPLAY_TOO_LARGE").retry_after(Duration::from_secs(60))
        }
        LoadError::MemoryBudgetExceeded { .. } => {
            spec(Code::ResourceExhausted, "REPLAY_TOO_LARGE").retry_after(Duration::from_secs(5))
        }
        LoadError::Deadline { .. } => spec(Code::DeadlineExceeded, "DEADLINE"),
        LoadError::Token(TokenError::Invalid(_)) => {
            return bad_field("TOKEN_INVALID", "resume_token", format!("{what}: {error}"), facts().collect());
        }
        LoadError::Token(TokenError::Resync(_)) => spec(Code::OutOfRange, "RESYNC_REQUIRED"),
        LoadError::NoSuchPartition { .. } => {
            return bad_field("ARGUMENT_INVALID", "partitions", format!("{what}: {error}"), facts().collect());
        }
        LoadError::WorkspaceNotInPartitions { .. } => {
            return bad_field("ARGUMENT_INVALID", "workspace_ids", format!("{what}: {error}"), facts().collect());
        }
    };
    if spec.code == Code::Aborted {
        metrics.replay_aborted(spec.reason);
    }
    spec.with(facts()).status(format!("{what}: {error}"))
}

fn from_read_error(error: &ReadError) -> StatusSpec {
    match error {
        ReadError::Topic(problem) => topic(problem),
        ReadError::Unreachable { .. } | ReadError::NoProgress { .. } => {
            spec(Code::Unavailable, "BROKERS_UNREACHABLE").retry_after(Duration::from_secs(1))
        }
        ReadError::EndedEarly { .. } | ReadError::Internal { .. } => INTERNAL_FAULT,
        ReadError::OutOfFiles { .. } => OUT_OF_FILES.retry_after(Duration::from_secs(1)),
        ReadError::OpenTransaction { .. } => {
            spec(Code::Unavailable, "OPEN_TRANSACTION").retry_after(Duration::from_secs(1))
        }
        ReadError::Truncated { .. } => spec(Code::Aborted, "LOG_TRUNCATED"),
        ReadError::RetentionTooShort { .. } => spec(Code::FailedPrecondition, "RETENTION_TOO_SHORT"),
        ReadError::Moved { .. } => spec(Code::Aborted, "LOG_MOVED"),
        // Only resume tokens name offsets, and streams turn this error into RESYNC_REQUIRED themselves.
        ReadError::OffsetOutOfRange { .. } => spec(Code::OutOfRange, "RESYNC_REQUIRED"),
        ReadError::Deadline { .. } => spec(Code::DeadlineExceeded, "DEADLINE"),
        ReadError::Draining => spec(Code::Unavailable, "DRAINING").retry_after(Duration::from_secs(1)),
        ReadError::Corrupt(_) => spec(Code::DataLoss, "STORE_CORRUPT"),
        ReadError::StoreGone(_) => STORE_GONE,
    }
}

#[cfg(test)]
mod tests {
    use changelog_core::model::WorkspaceId;

    use super::*;

    /// The largest that grpc-java and gRPC's C core take is 8 KiB, by the measure of HTTP/2.
    /// Covers C77.
    #[test]
    fn a_status_of_any_length_fits_into_the_headers_that_clients_take() {
        let long = "\u{1f980}".repeat(200);
        let workspace = "\u{1f980}".repeat(60);
        let mismatch = Key::from_request(&workspace, &format!("{long}/t/i")).unwrap_err();
        assert_eq!(mismatch.facts().len(), 3);
        let cause = "\u{e9}".repeat(10_000);
        let key = Key::from_request("", &format!("w/t/{long}")).unwrap();
        let no_such = "\u{e9}/".repeat(4_000);
        for status in [
            bad_key(&mismatch, &workspace, &format!("{long}/t/i")),
            bad_workspace(&WorkspaceId::parse(&no_such).unwrap_err(), "workspace_id"),
            from_failed_write(&WriteError::OutcomeUnknown { by_time: true, cause: cause.clone() }, "set", &key),
            from_write_error(&WriteError::Unreachable { cause: cause.clone() }, &cause),
            bad_argument("message_request", cause.clone()),
            unknown_method(&no_such),
            encoding_unsupported(&cause, &cause),
            request_malformed("Set", &cause),
            not_framed("Set", &cause),
            name_unknown("health has no service", &cause),
            naming_key(&bad_argument("value", cause.clone()), "set", &key),
            naming(&bad_argument("value", cause.clone()), "load \"w\"", &shown("workspace", &cause)),
        ] {
            assert!(status.message().len() <= MAX_MESSAGE_BYTES + '…'.len_utf8());
            let response = status.into_http::<()>();
            let sizes = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
            assert!(sizes.sum::<usize>() <= 8_192, "{response:?}");
        }
    }
}
