//! An error of changelogd in the two forms in which clients read it: the status of a call, and the message `Error`.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::api::v1;

/// `google.rpc.ErrorInfo.domain` of changelogd.
const DOMAIN: &str = "changelogd";

#[derive(Debug, Clone)]
pub struct Failure {
    code: Code,
    reason: String,
    message: String,
    field: Option<&'static str>,
    retry_after: Option<Duration>,
    metadata: HashMap<String, String>,
}

impl Failure {
    pub fn new(code: Code, reason: &str, message: &str) -> Self {
        let (reason, message) = (reason.to_owned(), message.to_owned());
        Self { code, reason, message, field: None, retry_after: None, metadata: HashMap::new() }
    }

    pub fn field(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    pub fn fact(mut self, name: &str, value: &str) -> Self {
        self.metadata.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let mut details = ErrorDetails::with_error_info(failure.reason, DOMAIN, failure.metadata);
        if let Some(field) = failure.field {
            details.add_bad_request_violation(field, &failure.message);
        }
        if let Some(delay) = failure.retry_after {
            details.set_retry_info(Some(delay));
        }
        Self::with_error_details(failure.code, failure.message, details)
    }
}

impl From<Failure> for v1::Error {
    fn from(failure: Failure) -> Self {
        Self {
            // The API's codes have gRPC's numbers.
            code: failure.code as i32,
            message: failure.message,
            reason: failure.reason,
            field: failure.field.unwrap_or_default().to_owned(),
            retry_after: failure.retry_after.map(|delay| delay.try_into().expect("a delay of seconds")),
            metadata: failure.metadata,
        }
    }
}
