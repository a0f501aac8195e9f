//! The scripts of `LoadWorkspace` and `StreamAll`.

use prost_types::Timestamp;
use tonic::{Status, metadata::MetadataMap};

use super::script::{has_deadline, no_script};
use crate::api::{
    Event, LoadWorkspaceResponse,
    v1::{
        Deletion, Entry, EntryBatch, Snapshot, StreamAllResponse, entry::Value,
        stream_all_response::Event as StreamEvent,
    },
};

const LARGE_BYTES: usize = 5 * 1024 * 1024;

/// The events of a response, and how it ends.
pub struct Answer<T> {
    pub events: Vec<T>,
    pub end: End,
}

pub enum End {
    Ok,
    Status(Status),
    /// The client ends it.
    Never,
}

/// The response to a load of a workspace.
pub fn load(script: &str, workspace: &str, metadata: &MetadataMap) -> Result<Answer<LoadWorkspaceResponse>, Status> {
    let has_deadline = has_deadline(script, metadata).transpose()?.is_some();
    let batch = |entry| Event::Batch(batch(entry));
    let (a, end) = (entry(workspace, "a", 0), Event::Snapshot(snapshot(0, b"token-1")));
    let (events, end) = match script {
        "partial" => (vec![batch(a)], End::Ok),
        "broken" => (vec![batch(a)], End::Status(broken())),
        "large-numbers" => {
            let (entry, snapshot) = large_numbers(workspace);
            (vec![batch(entry), Event::Snapshot(snapshot)], End::Ok)
        }
        "large-message" => (vec![batch(large(workspace)), end], End::Ok),
        "unknown-event" => (vec![Event::Later(Deletion {}), batch(a), end], End::Ok),
        _ if has_deadline => (vec![batch(a), end], End::Ok),
        _ => return Err(no_script(script)),
    };
    let events = events.into_iter().map(|event| LoadWorkspaceResponse { event: Some(event) }).collect();
    Ok(Answer { events, end })
}

/// The response to a stream of one workspace.
pub fn stream(script: &str, workspace: &str) -> Result<Answer<StreamAllResponse>, Status> {
    let end = match script {
        "partial" => End::Ok,
        "broken" => End::Status(broken()),
        _ => return Err(no_script(script)),
    };
    let event = Some(StreamEvent::Batch(batch(entry(workspace, "a", 0))));
    Ok(Answer { events: vec![StreamAllResponse { event }], end })
}

/// A fault of a proxy or a library, which has no ErrorInfo.
fn broken() -> Status {
    Status::internal("broken")
}

pub fn batch(entry: Entry) -> EntryBatch {
    EntryBatch { entries: vec![entry] }
}

pub fn entry(workspace: &str, id: &str, offset: i64) -> Entry {
    versioned(workspace, id, offset, offset)
}

pub fn versioned(workspace: &str, id: &str, offset: i64, version: i64) -> Entry {
    let value = serde_json::json!({"name": id, "version": version});
    let value = Some(Value::Raw(value.to_string().into_bytes()));
    Entry { value, is_tombstone: false, ..tombstone(workspace, id, offset) }
}

pub fn tombstone(workspace: &str, id: &str, offset: i64) -> Entry {
    Entry { key: format!("{workspace}/deployment/{id}"), offset, is_tombstone: true, ..Default::default() }
}

/// Larger than the libraries' usual limit of 4 MiB.
fn large(workspace: &str) -> Entry {
    let document = format!("\"{}\"", "x".repeat(LARGE_BYTES - 2));
    Entry { value: Some(Value::Raw(document.into_bytes())), ..entry(workspace, "a", 0) }
}

/// What a double does not hold, and JSON has as text.
fn large_numbers(workspace: &str) -> (Entry, Snapshot) {
    let timestamp = Timestamp { seconds: 253_402_300_799, nanos: 999_000_000 };
    let entry =
        Entry { partition: i32::MAX, timestamp: Some(timestamp), ..entry(workspace, "a", 9_007_199_254_740_993) };
    let snapshot = Snapshot {
        partition: i32::MAX,
        start_offset: i64::MIN,
        end_offset: i64::MAX,
        records_read: u64::MAX,
        entries: 9_007_199_254_740_993,
        ..Default::default()
    };
    (entry, snapshot)
}

/// After one entry at this offset.
pub fn snapshot(offset: i64, token: &[u8]) -> Snapshot {
    Snapshot { end_offset: offset + 1, records_read: 1, entries: 1, resume_token: token.into(), ..Default::default() }
}
