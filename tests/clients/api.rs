//! The generated API. Two messages have an event of a later version, which no client knows.

use v1::{Bookmark, Deletion, EntryBatch, Snapshot, Synced};

/// The package `changelog.v1`.
#[allow(clippy::all, dead_code, reason = "generated, and this program does not use all of it")]
pub mod v1 {
    tonic::include_proto!("changelog.v1");
}

/// As in the .proto, with one more arm.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LoadWorkspaceResponse {
    #[prost(oneof = "Event", tags = "1, 2, 15")]
    pub event: Option<Event>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Event {
    #[prost(message, tag = "1")]
    Batch(EntryBatch),
    #[prost(message, tag = "2")]
    Snapshot(Snapshot),
    /// Any message serves.
    #[prost(message, tag = "15")]
    Later(Deletion),
}

/// As in the .proto, with one more arm.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchResponse {
    #[prost(oneof = "WatchEvent", tags = "1, 2, 3, 15")]
    pub event: Option<WatchEvent>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum WatchEvent {
    #[prost(message, tag = "1")]
    Batch(EntryBatch),
    #[prost(message, tag = "2")]
    Synced(Synced),
    #[prost(message, tag = "3")]
    Bookmark(Bookmark),
    /// Any message serves.
    #[prost(message, tag = "15")]
    Later(Deletion),
}
