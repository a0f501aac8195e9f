//! The events of loads and streams, printed in the order in which they arrive.

use super::{failure::Failure, output::Output};
use crate::proto::v1;

/// The failure of a stream that ended before its last Snapshot.
pub fn incomplete() -> Failure {
    Failure::Failed(
        "incomplete: the stream ended without its Snapshot; what was printed is not the whole state".to_owned(),
    )
}

/// An event of either kind of stream.
pub enum Event {
    Batch(v1::EntryBatch),
    Snapshot(v1::Snapshot),
    Bookmark(v1::Bookmark),
}

impl From<v1::load_workspace_response::Event> for Event {
    fn from(event: v1::load_workspace_response::Event) -> Self {
        match event {
            v1::load_workspace_response::Event::Batch(batch) => Self::Batch(batch),
            v1::load_workspace_response::Event::Snapshot(snapshot) => Self::Snapshot(snapshot),
        }
    }
}

impl From<v1::stream_all_response::Event> for Event {
    fn from(event: v1::stream_all_response::Event) -> Self {
        match event {
            v1::stream_all_response::Event::Batch(batch) => Self::Batch(batch),
            v1::stream_all_response::Event::Snapshot(snapshot) => Self::Snapshot(snapshot),
            v1::stream_all_response::Event::Bookmark(bookmark) => Self::Bookmark(bookmark),
        }
    }
}

pub fn print(event: Event, output: &mut Output) -> Result<(), Failure> {
    match event {
        Event::Batch(batch) => batch.entries.iter().try_for_each(|entry| output.entry(entry)),
        Event::Snapshot(snapshot) => output.snapshot(&snapshot),
        Event::Bookmark(bookmark) => output.bookmark(&bookmark.resume_token),
    }
}
