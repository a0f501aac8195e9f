//! Answers by their kind: `ok`, or the code and the reason of an error.

use std::collections::BTreeMap;

use changelogd_client::Error;
use parking_lot::Mutex;
use serde::Serialize;

#[derive(Debug, Default)]
pub struct Counts(Mutex<BTreeMap<String, u64>>);

impl Counts {
    pub fn add<T>(&self, answer: &Result<T, Error>) {
        let kind = match answer {
            Ok(_) => "ok".to_owned(),
            Err(error) => kind(error),
        };
        *self.0.lock().entry(kind).or_default() += 1;
    }
}

impl Serialize for Counts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.lock().serialize(serializer)
    }
}

/// `UNAVAILABLE DRAINING`, or the message where no reason says more.
pub fn kind(error: &Error) -> String {
    match error.reason() {
        Some(reason) => format!("{:?} {reason}", error.code()),
        None => format!("{:?}: {}", error.code(), error.message()),
    }
}
