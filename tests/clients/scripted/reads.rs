//! The scripts of `LoadWorkspace` and `StreamAll`.

use std::time::Duration;

use prost_types::Timestamp;
use tonic::{Code, Status, metadata::MetadataMap};

use super::{
    failure::Failure,
    script::{has_deadline, no_script},
};
use crate::api::{
    Event, LoadWorkspaceResponse,
    v1::{
        Bookmark, Deletion, Entry, EntryBatch, Snapshot, StreamAllResponse, entry::Value,
        stream_all_response::Event as StreamEvent,
    },
};

const LARGE_BYTES: usize = 5 * 1024 * 1024;
const TOKEN_1: &[u8] = b"token-1";
const TOKEN_2: &[u8] = b"token-2";

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

/// The response to the `nth` load of a workspace, from 1.
pub fn load(
    script: &str,
    workspace: &str,
    nth: u64,
    metadata: &MetadataMap,
) -> Result<Answer<LoadWorkspaceResponse>, Status> {
    let has_deadline = has_deadline(script, metadata).transpose()?.is_some();
    let batch = |id, offset| Event::Batch(batch(entry(workspace, id, offset)));
    let (events, end) = match script {
        "partial" => (vec![batch("a", 0)], End::Ok),
        "broken" => (vec![batch("a", 0)], End::Status(broken())),
        "large-numbers" => {
            let (entry, snapshot) = large_numbers(workspace);
            (vec![Event::Batch(self::batch(entry)), Event::Snapshot(snapshot)], End::Ok)
        }
        "large-message" => (vec![Event::Batch(self::batch(large(workspace))), snapshot(0, TOKEN_1)], End::Ok),
        "unknown-event" => (vec![Event::Later(Deletion {}), batch("a", 0), snapshot(0, TOKEN_1)], End::Ok),
        "crowded" if nth == 1 => return Err(crowded("TOO_MANY_REPLAYS").into()),
        "resync" | "moved" | "truncated" if nth > 1 => (vec![batch("b", 7), snapshot(7, TOKEN_2)], End::Ok),
        "resume" | "resync" | "moved" | "truncated" | "recreated" | "crowded" => {
            (vec![batch("a", 0), snapshot(0, TOKEN_1)], End::Ok)
        }
        _ if has_deadline => (vec![batch("a", 0), snapshot(0, TOKEN_1)], End::Ok),
        _ => return Err(no_script(script)),
    };
    let events = events.into_iter().map(|event| LoadWorkspaceResponse { event: Some(event) }).collect();
    Ok(Answer { events, end })
}

/// The response to a stream of one workspace.
pub fn stream(script: &str, workspace: &str, token: &[u8]) -> Result<Answer<StreamAllResponse>, Status> {
    let batch = |entry| StreamEvent::Batch(batch(entry));
    let set = |id, offset| batch(entry(workspace, id, offset));
    let (events, end) = match (script, token) {
        ("partial", _) => (vec![set("a", 0)], End::Ok),
        ("broken", _) => (vec![set("a", 0)], End::Status(broken())),
        ("resume", TOKEN_1) => {
            let bookmark = StreamEvent::Bookmark(Bookmark { resume_token: TOKEN_2.into() });
            let draining = Failure::new(Code::Unavailable, "DRAINING", "the server stops");
            (vec![set("a", 1), bookmark, set("b", 2)], End::Status(draining.into()))
        }
        ("resume", TOKEN_2) => (vec![set("b", 2), batch(tombstone(workspace, "a", 3))], End::Never),
        ("resync" | "moved" | "truncated", TOKEN_1) => {
            let (code, reason) = match script {
                "resync" => (Code::OutOfRange, "RESYNC_REQUIRED"),
                "moved" => (Code::Aborted, "LOG_MOVED"),
                _ => (Code::Aborted, "LOG_TRUNCATED"),
            };
            return Err(Failure::new(code, reason, "start again").into());
        }
        ("resync" | "moved" | "truncated", TOKEN_2) => (vec![set("c", 8)], End::Never),
        ("resume" | "resync" | "moved" | "truncated", _) => {
            return Err(Failure::new(Code::InvalidArgument, "TOKEN_INVALID", "not a token of this load").into());
        }
        ("recreated", _) => {
            let recreated = Failure::new(Code::FailedPrecondition, "TOPIC_RECREATED", "the topic is another one");
            return Err(recreated.into());
        }
        _ => return Err(no_script(script)),
    };
    let events = events.into_iter().map(|event| StreamAllResponse { event: Some(event) }).collect();
    Ok(Answer { events, end })
}

/// The `nth` response to a stream, from 1. The first three end with what passes.
pub fn crowded_stream(workspace: &str, nth: u64) -> Result<Answer<StreamAllResponse>, Status> {
    match nth {
        1 => Err(crowded("TOO_MANY_FOLLOWS").into()),
        2 => Err(Failure::new(Code::DeadlineExceeded, "DEADLINE", "the read took too long").into()),
        // A server resets a stream whose client reads too slowly.
        3 => Err(Status::cancelled("reset")),
        _ => {
            let event = Some(StreamEvent::Batch(batch(entry(workspace, "b", 1))));
            Ok(Answer { events: vec![StreamAllResponse { event }], end: End::Never })
        }
    }
}

fn crowded(reason: &str) -> Failure {
    Failure::new(Code::ResourceExhausted, reason, "try again").retry_after(Duration::from_millis(200))
}

/// A fault of a proxy or a library, which has no ErrorInfo.
fn broken() -> Status {
    Status::internal("broken")
}

fn batch(entry: Entry) -> EntryBatch {
    EntryBatch { entries: vec![entry] }
}

fn entry(workspace: &str, id: &str, offset: i64) -> Entry {
    let value = serde_json::json!({"name": id, "version": offset});
    let value = Some(Value::Raw(value.to_string().into_bytes()));
    Entry { value, is_tombstone: false, ..tombstone(workspace, id, offset) }
}

fn tombstone(workspace: &str, id: &str, offset: i64) -> Entry {
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

/// Of a load that read one entry.
fn snapshot(offset: i64, token: &[u8]) -> Event {
    Event::Snapshot(Snapshot {
        end_offset: offset + 1,
        records_read: 1,
        entries: 1,
        resume_token: token.into(),
        ..Default::default()
    })
}
