//! The error of calls, of verdicts and of buffered writes.

use std::{collections::HashMap, error, fmt, iter, sync::Arc, time::Duration};

use tonic::{Code, ConnectError, Status, TimeoutExpired};
use tonic_types::StatusExt;

use crate::proto;

/// `ErrorInfo.domain` of the errors that changelogd itself returns.
const DOMAIN: &str = "changelogd";

/// Why something failed. Decide by code and reason: messages are for people.
#[derive(Debug, Clone)]
pub struct Error(Box<Facts>);

#[derive(Debug, Clone)]
struct Facts {
    code: Code,
    message: String,
    reason: Option<String>,
    field: Option<String>,
    retry_after: Option<Duration>,
    metadata: HashMap<String, String>,
    is_unreachable: bool,
    source: Option<Arc<dyn error::Error + Send + Sync>>,
}

impl Facts {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            reason: None,
            field: None,
            retry_after: None,
            metadata: HashMap::new(),
            is_unreachable: false,
            source: None,
        }
    }
}

impl Error {
    pub fn code(&self) -> Code {
        self.0.code
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// One of the reasons in `proto/changelog.proto`. `None` if the error does not come from changelogd itself.
    pub fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }

    /// The field of the request that is wrong.
    pub fn field(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// How long to wait before the next attempt.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// Facts such as `limit`, `got` and `key`: see `docs/operations.md`.
    pub fn metadata(&self) -> &HashMap<String, String> {
        &self.0.metadata
    }

    /// Whether nothing was written, and another attempt may succeed. Only changelogd itself knows that nothing was
    /// written: an error of a library or of a proxy on the way is not safe to retry.
    pub fn is_safe_to_retry(&self) -> bool {
        match (self.code(), self.reason()) {
            (_, None) => false,
            (Code::Unavailable | Code::ResourceExhausted | Code::Aborted, Some(_)) => true,
            (code, Some(reason)) => code == Code::DeadlineExceeded && reason == "DEADLINE",
        }
    }

    /// Whether there was no connection, so that the server did not see the call.
    pub(crate) fn is_unreachable(&self) -> bool {
        self.0.is_unreachable
    }

    /// An error that no server has sent.
    pub(crate) fn local(code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Facts::new(code, message)))
    }

    pub(crate) fn with_reason(mut self, reason: &str, field: &str) -> Self {
        (self.0.reason, self.0.field) = (Some(reason.to_owned()), Some(field.to_owned()));
        self
    }

    /// A stream that ended without the proof that it is complete.
    pub(crate) fn incomplete() -> Self {
        Self::local(Code::Internal, "incomplete: the stream ended without its Snapshot")
    }

    /// A call that had no answer in time.
    pub(crate) fn late(limit: Duration) -> Self {
        Self::local(Code::DeadlineExceeded, format!("no answer within {limit:?}"))
    }

    /// A value that is not of the form that was asked for. Its bytes are in the source only.
    pub(crate) fn undecodable(key: String, cause: serde_json::Error) -> Self {
        let place = format!("line {}, column {}", cause.line(), cause.column());
        let mut error = Self::local(Code::Internal, format!("the value of {key} has another form: {place}"));
        error.0.metadata.insert("key".to_owned(), key);
        error.0.source = Some(Arc::new(cause));
        error
    }

    /// What a mutation without a verdict is answered with when its stream has ended with `self`. It has the code, and
    /// no reason: whatever ended the stream, the mutation may have been written.
    pub(crate) fn of_unknown_outcome(&self) -> Self {
        Self::local(self.code(), format!("the outcome is not known: the stream ended without a verdict: {self}"))
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let ours = status.get_details_error_info();
        let ours = ours.filter(|info| info.domain == DOMAIN && !info.reason.is_empty());
        let violations = status.get_details_bad_request().map(|request| request.field_violations).unwrap_or_default();
        // Only a status that tonic made itself has causes.
        let causes = || iter::successors(error::Error::source(&status), |&cause| cause.source());
        let code = match status.code() {
            _ if causes().any(<dyn error::Error>::is::<TimeoutExpired>) => Code::DeadlineExceeded,
            // A lost connection, or a stream that was reset. The server has said nothing. Other libraries of gRPC say
            // UNAVAILABLE for a lost connection.
            Code::Unknown | Code::Cancelled | Code::Internal if causes().next().is_some() => Code::Unavailable,
            code => code,
        };
        let message = match causes().last().map(ToString::to_string) {
            Some(cause) if !status.message().contains(&cause) => format!("{}: {cause}", status.message()),
            _ => status.message().to_owned(),
        };
        let (reason, metadata) = ours.map(|info| (info.reason, info.metadata)).unzip();
        Self(Box::new(Facts {
            reason,
            field: violations.into_iter().next().map(|violation| violation.field),
            retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay),
            metadata: metadata.unwrap_or_default(),
            is_unreachable: causes().any(<dyn error::Error>::is::<ConnectError>),
            ..Facts::new(code, message)
        }))
    }
}

impl From<proto::Error> for Error {
    fn from(error: proto::Error) -> Self {
        let present = |text: String| Some(text).filter(|text| !text.is_empty());
        Self(Box::new(Facts {
            reason: present(error.reason),
            field: present(error.field),
            retry_after: error.retry_after.and_then(|delay| delay.try_into().ok()),
            metadata: error.metadata,
            ..Facts::new(Code::from_i32(error.code), error.message)
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.code())?;
        if let Some(reason) = self.reason() {
            write!(f, " {reason}")?;
        }
        write!(f, ": {}", self.message())
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt};

    use super::{DOMAIN, Error};

    #[test]
    fn details_that_are_garbage_or_of_others_or_empty_are_no_reason() {
        let garbage = Error::from(Status::with_details(Code::Unavailable, "lost", vec![0xff; 9].into()));
        let metadata = HashMap::from([("limit".to_owned(), "1".to_owned())]);
        let others = ErrorDetails::with_error_info("STARTING", "googleapis.com", metadata);
        let others = Error::from(Status::with_error_details(Code::Unavailable, "busy", others));
        let empty = ErrorDetails::with_error_info("", DOMAIN, HashMap::from([("limit".to_owned(), "1".to_owned())]));
        let empty = Error::from(Status::with_error_details(Code::Unavailable, "busy", empty));
        for error in [garbage, others, empty] {
            assert_eq!((error.code(), error.reason(), error.is_safe_to_retry()), (Code::Unavailable, None, false));
            assert!(error.metadata().is_empty());
        }
    }

    #[test]
    fn a_mutation_without_a_verdict_is_never_safe_to_retry() {
        let details = ErrorDetails::with_error_info("DRAINING", DOMAIN, HashMap::new());
        let ended = Error::from(Status::with_error_details(Code::Unavailable, "the server stops", details));
        assert!(ended.is_safe_to_retry());
        let unknown = ended.of_unknown_outcome();
        assert_eq!((unknown.code(), unknown.reason(), unknown.is_safe_to_retry()), (Code::Unavailable, None, false));
        assert!(unknown.message().contains("DRAINING"), "{unknown}");
    }

    #[test]
    fn a_lost_connection_is_unavailable() {
        for code in [Code::Unknown, Code::Cancelled, Code::Internal] {
            let mut lost = Status::new(code, "transport error");
            lost.set_source(Arc::new(std::io::Error::other("reset by peer")));
            let error = Error::from(lost);
            assert_eq!((error.code(), error.message()), (Code::Unavailable, "transport error: reset by peer"));
            assert!(!error.is_safe_to_retry());
            assert_eq!(Error::from(Status::new(code, "of the server")).code(), code);
        }
    }
}
