//! A watch whose events are checked as they come.

use bytes::Bytes;
use changelogd::proto::v1::{self, watch_response::Event};
use changelogd_testkit::{SnapshotFacts, Watched};
use tonic::Status;

use super::server::{PATIENCE, TestServer, text};

pub struct Watching {
    pub events: tonic::Streaming<v1::WatchResponse>,
    pub seen: Watched,
}

impl Watching {
    pub async fn start(server: &TestServer, request: v1::WatchRequest) -> Self {
        let has_token = !request.resume_token.is_empty();
        let seen = if has_token { Watched::with_a_token_of_another_call() } else { Watched::new() };
        Self::resumed(server, request, seen).await
    }

    pub async fn resumed(server: &TestServer, request: v1::WatchRequest, seen: Watched) -> Self {
        let events = server.client.clone().watch(request).await.expect("an open call").into_inner();
        Self { events, seen }
    }

    pub async fn next(&mut self) -> Result<Event, Status> {
        let message = tokio::time::timeout(PATIENCE, self.events.message()).await.expect("an event in time")?;
        let event = message.expect("a watch does not end as OK").event.expect("an event");
        let checked = match &event {
            Event::Batch(batch) => {
                assert!(!batch.entries.is_empty());
                let mut entries = batch.entries.iter();
                entries.try_for_each(|entry| {
                    let value = (!entry.is_tombstone).then(|| text(entry));
                    self.seen.entry(&entry.key, entry.offset, value.as_deref())
                })
            }
            Event::Synced(synced) => {
                let snapshot = synced.snapshot.as_ref().expect("a snapshot");
                self.seen.synced(SnapshotFacts {
                    start: snapshot.start_offset,
                    end: snapshot.end_offset,
                    records_read: snapshot.records_read,
                    entries: snapshot.entries,
                    tombstones: snapshot.tombstones,
                    token: &snapshot.resume_token,
                })
            }
            Event::Bookmark(bookmark) => self.seen.bookmark(&bookmark.resume_token),
        };
        checked.unwrap_or_else(|violation| panic!("{violation}"));
        Ok(event)
    }

    /// The entries before `Synced`, and its snapshot.
    pub async fn synced(&mut self) -> (Vec<v1::Entry>, v1::Snapshot) {
        let mut entries = Vec::new();
        loop {
            match self.next().await.expect("no error before Synced") {
                Event::Batch(batch) => entries.extend(batch.entries),
                Event::Synced(synced) => return (entries, synced.snapshot.expect("a snapshot")),
                Event::Bookmark(_) => panic!("a bookmark before Synced"),
            }
        }
    }

    /// The next changes, until one satisfies the condition.
    pub async fn until(&mut self, mut done: impl FnMut(&v1::Entry) -> bool) -> Vec<v1::Entry> {
        let mut entries = Vec::new();
        while !entries.iter().any(&mut done) {
            if let Event::Batch(batch) = self.next().await.expect("a watch goes on") {
                entries.extend(batch.entries);
            }
        }
        entries
    }

    /// The next bookmark's token.
    pub async fn bookmark(&mut self) -> Bytes {
        loop {
            if let Event::Bookmark(bookmark) = self.next().await.expect("a watch goes on") {
                return bookmark.resume_token;
            }
        }
    }
}
