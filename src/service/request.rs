//! Parses requests into types that are always valid. Every refusal names its field.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use changelog_core::{
    changelog::{Ack, Content, StreamRequest},
    model::{Escaped, Header, Headers, Key, ValueRules, WorkspaceId},
    rule::{Rule, holds},
};
use tonic::Status;

use super::{
    json_from_value::{BadValue, json_from_value},
    status,
};
use crate::proto::{EncodedValue, v1};

/// The key that the two strings of a request name.
pub fn key(workspace_id: &str, changelog_id: &str) -> Result<Key, Status> {
    Key::from_request(workspace_id, changelog_id).map_err(|e| status::bad_key(&e, workspace_id, changelog_id))
}

/// A workspace, from a field that must have one.
pub fn workspace(id: &str, field: &str) -> Result<WorkspaceId, Status> {
    WorkspaceId::parse(id).map_err(|e| status::bad_workspace(&e, field))
}

/// The workspace of `Describe`, which may have none.
pub fn described_workspace(id: &str) -> Result<Option<WorkspaceId>, Status> {
    if id.is_empty() { Ok(None) } else { workspace(id, "workspace_id").map(Some) }
}

pub fn stream(request: v1::StreamAllRequest) -> Result<(StreamRequest, v1::ValueFormat), Status> {
    let format = value_format(request.value_format)?;
    check_list("partitions", request.partitions.len())?;
    check_list("workspace_ids", request.workspace_ids.len())?;
    let mut workspaces = Vec::new();
    for (i, id) in request.workspace_ids.iter().enumerate() {
        workspaces.push(workspace(id, &format!("workspace_ids[{i}]"))?);
    }
    workspaces.sort();
    workspaces.dedup();
    let stream = StreamRequest {
        partitions: request.partitions,
        workspaces,
        types: entity_types(request.entity_types)?,
        content: content(request.content)?,
        resume_token: request.resume_token,
        follow: request.follow,
    };
    Ok((stream, format))
}

pub fn headers(headers: Vec<v1::Header>) -> Result<Headers, Status> {
    let headers = headers.into_iter().map(|h| Header { key: h.key, value: h.value }).collect();
    Headers::new(headers).map_err(|e| status::bad_headers(&e))
}

/// A value that is stored as it was sent.
pub fn raw_value(raw: Bytes, rules: &ValueRules) -> Result<Bytes, Status> {
    rules.check(&raw).map_err(|e| status::bad_value(&e, "raw"))?;
    Ok(raw)
}

/// The bytes that are stored for a JSON value.
pub fn json_value(value: &EncodedValue, rules: &ValueRules) -> Result<Bytes, Status> {
    let stored = json_from_value(value, rules.max_bytes).map_err(|bad| match bad {
        BadValue::Malformed(problem) => status::bad_argument("json", problem),
        BadValue::NotJson(error) => status::bad_value(&error, "json"),
    })?;
    rules.check(&stored).map_err(|e| status::bad_value(&e, "json"))?;
    Ok(stored.into())
}

/// Entries of a list in a request.
const MAX_LIST: usize = 10_000;

fn check_list(field: &str, entries: usize) -> Result<(), Status> {
    if entries > MAX_LIST {
        let message = format!("{field} has {entries} entries, at most {MAX_LIST} are allowed");
        return Err(status::too_many_entries(field, MAX_LIST, entries, message));
    }
    Ok(())
}

/// The entity types of a filter. An empty list means all.
pub fn entity_types(types: Vec<String>) -> Result<HashSet<String>, Status> {
    check_list("entity_types", types.len())?;
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

pub fn ack(number: i32) -> Result<Ack, Status> {
    Ok(match known("ack", number)? {
        v1::Ack::Unspecified | v1::Ack::Durable => Ack::Durable,
        v1::Ack::Buffered => Ack::Buffered,
    })
}

/// How long a flush waits. 0 means the default, and a wait above the limit is lowered to it.
pub fn flush_timeout(timeout_ms: u32) -> Duration {
    Duration::from_millis(match timeout_ms {
        0 => 5_000,
        some => some.min(60_000).into(),
    })
}

pub fn content(number: i32) -> Result<Content, Status> {
    Ok(match known("content", number)? {
        v1::Content::Unspecified | v1::Content::Records => Content::Records,
        v1::Content::Latest => Content::Latest,
    })
}

pub fn value_format(number: i32) -> Result<v1::ValueFormat, Status> {
    known("value_format", number)
}

/// The value of an enum with this number.
fn known<E: TryFrom<i32> + Default>(field: &str, number: i32) -> Result<E, Status> {
    match E::try_from(number) {
        Ok(value) => Ok(value),
        Err(_) if !holds(Rule::UnknownEnumValueIsRefused) => Ok(E::default()),
        Err(_) => Err(status::unknown_enum_value(field, number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers C20, B15.
    #[test]
    fn a_flush_waits_for_5_s_by_default_and_60_s_at_most() {
        for (timeout_ms, millis) in
            [(0, 5_000), (1, 1), (5_001, 5_001), (60_000, 60_000), (60_001, 60_000), (u32::MAX, 60_000)]
        {
            assert_eq!(flush_timeout(timeout_ms), Duration::from_millis(millis), "{timeout_ms}");
        }
    }
}
