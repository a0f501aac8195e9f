//! Parses requests into types that are always valid. Every refusal names its field.

use std::collections::HashSet;

use bytes::Bytes;
use prost_types::Value;
use tonic::Status;

use super::{json, status};
use crate::{
    changelog::{Ack, Content},
    model::{Escaped, Header, Headers, Key, ValueRules, WorkspaceId},
    proto::v1,
};

/// The key that `workspace_id` and `changelog_id` name.
pub fn key(workspace_id: &str, changelog_id: &str) -> Result<Key, Status> {
    let full = workspace_id.is_empty() && !changelog_id.starts_with('/');
    Key::from_request(workspace_id, changelog_id).map_err(|e| status::bad_key(&e, !full))
}

pub fn workspace(id: &str, field: &str) -> Result<WorkspaceId, Status> {
    WorkspaceId::parse(id).map_err(|e| status::bad_workspace(&e, field))
}

pub fn headers(headers: Vec<v1::Header>) -> Result<Headers, Status> {
    let headers = headers.into_iter().map(|h| Header { key: h.key, value: h.value }).collect();
    Headers::new(headers).map_err(|e| status::bad_headers(&e))
}

/// A value of bytes, stored as they were sent.
pub fn raw(value: Bytes, rules: &ValueRules) -> Result<Bytes, Status> {
    rules.check(&value).map_err(|e| status::bad_value(&e, "raw"))?;
    Ok(value)
}

/// A JSON value, in the form in which it is stored.
pub fn json_value(value: &Value, rules: &ValueRules) -> Result<Bytes, Status> {
    let stored = json::to_bytes(value).map_err(|e| status::bad_value(&e, "json"))?;
    rules.check(&stored).map_err(|e| status::bad_value(&e, "json"))?;
    Ok(stored.into())
}

/// Entity types; an empty list means all.
pub fn entity_types(types: Vec<String>) -> Result<HashSet<String>, Status> {
    for (i, entity_type) in types.iter().enumerate() {
        if entity_type.is_empty() || entity_type.contains('/') || entity_type.chars().any(char::is_control) {
            let message = format!(
                "{} is no entity type: it must not be empty, nor contain \"/\" or control characters",
                Escaped(entity_type)
            );
            return Err(status::bad_argument(&format!("entity_types[{i}]"), message));
        }
    }
    Ok(types.into_iter().collect())
}

fn enum_value<E: TryFrom<i32>>(number: i32, field: &str) -> Result<E, Status> {
    E::try_from(number).map_err(|_| status::bad_argument(field, format!("{number} is not a value of {field}")))
}

pub fn ack(number: i32) -> Result<Ack, Status> {
    Ok(match enum_value(number, "ack")? {
        v1::Ack::Unspecified | v1::Ack::Durable => Ack::Durable,
        v1::Ack::Buffered => Ack::Buffered,
    })
}

pub fn content(number: i32) -> Result<Content, Status> {
    Ok(match enum_value(number, "content")? {
        v1::Content::Unspecified | v1::Content::Records => Content::Records,
        v1::Content::Latest => Content::Latest,
    })
}

pub fn value_format(number: i32) -> Result<v1::ValueFormat, Status> {
    enum_value(number, "value_format")
}
