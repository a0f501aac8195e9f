//! Answers of a server as tests compare them.

use std::collections::BTreeMap;

use bytes::Bytes;
use changelogd::proto::v1;
use tonic::Status;
use tonic_types::StatusExt;

#[derive(Debug)]
pub struct Loaded {
    pub entries: Vec<v1::Entry>,
    pub snapshot: v1::Snapshot,
}

impl Loaded {
    /// Keys and values, as text, in order.
    pub fn texts(&self) -> Vec<(String, String)> {
        self.entries.iter().map(|e| (e.key.clone(), text(e))).collect()
    }
}

#[derive(Debug)]
pub struct Streamed {
    pub entries: Vec<v1::Entry>,
    pub snapshots: Vec<v1::Snapshot>,
}

impl Streamed {
    /// The state of a reader that applies the entries in their order.
    pub fn state(&self) -> BTreeMap<String, String> {
        let mut state = BTreeMap::new();
        for entry in &self.entries {
            if entry.is_tombstone {
                state.remove(&entry.key);
            } else {
                state.insert(entry.key.clone(), text(entry));
            }
        }
        state
    }

    /// The token that replaces all earlier ones.
    pub fn token(&self) -> Bytes {
        self.snapshots.last().expect("a snapshot").resume_token.clone()
    }
}

pub fn raw(value: &str) -> Option<v1::set_request::Value> {
    Some(v1::set_request::Value::Raw(Bytes::copy_from_slice(value.as_bytes())))
}

pub fn text(entry: &v1::Entry) -> String {
    match &entry.value {
        Some(v1::entry::Value::Raw(raw)) => String::from_utf8_lossy(raw).into_owned(),
        Some(v1::entry::Value::Json(json)) => format!("json {json:?}"),
        None => "nothing".to_owned(),
    }
}

/// The reason in our ErrorInfo. Empty if the status is not ours.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().filter(|i| i.domain == "changelogd").map(|i| i.reason.clone()).unwrap_or_default()
}

/// The field of the first violation.
pub fn field(status: &Status) -> String {
    let details = status.get_error_details();
    details.bad_request().and_then(|b| b.field_violations.first()).map(|v| v.field.clone()).unwrap_or_default()
}
