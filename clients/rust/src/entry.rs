//! Records, and buffered writes that failed.

use std::time::SystemTime;

use serde::de::DeserializeOwned;

use crate::{Error, Key, Position, proto};

/// A record of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: Key,
    /// A JSON document, unless the server takes other values. `None` if the record deleted the entity.
    pub value: Option<Vec<u8>>,
    pub position: Position,
    /// The timestamp that the log has for the record, if it has one.
    pub timestamp: Option<SystemTime>,
}

impl Entry {
    pub fn is_tombstone(&self) -> bool {
        self.value.is_none()
    }

    /// The value as a type. It is an error if the value has another form, and if there is none.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let value = self.value.as_deref().unwrap_or_default();
        serde_json::from_slice(value).map_err(|cause| Error::undecodable(self.key.to_string(), cause))
    }
}

impl TryFrom<proto::Entry> for Entry {
    type Error = Error;

    fn try_from(entry: proto::Entry) -> Result<Self, Error> {
        let value = match entry.value {
            _ if entry.is_tombstone => None,
            Some(proto::entry::Value::Raw(raw)) => Some(raw),
            // No request asks for `json`.
            Some(proto::entry::Value::Json(_)) | None => Some(Vec::new()),
        };
        Ok(Self {
            key: entry.key.parse()?,
            value,
            position: Position { partition: entry.partition, offset: entry.offset },
            timestamp: entry.timestamp.and_then(|timestamp| timestamp.try_into().ok()),
        })
    }
}

/// A buffered write that failed after it was queued.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The full key, as the server names it.
    pub key: String,
    pub error: Error,
}

impl From<proto::WriteFailure> for Failure {
    fn from(failure: proto::WriteFailure) -> Self {
        Self { key: failure.key, error: failure.error.unwrap_or_default().into() }
    }
}
