//! A workspace that is loaded, and then followed.
//!
//! Promises: the state comes first, and then each change once and in order. A stream that breaks is resumed with the
//! newest token. If that is not possible, the whole state comes again.

use std::{time::Duration, vec};

use futures_util::{StreamExt, stream, stream::BoxStream};
use tokio::time::{sleep, timeout};
use tonic::Streaming;

use crate::{
    Client, Code, Entry, Error, Key,
    backoff::Backoff,
    client::LOAD,
    proto::{self, stream_all_response::Event},
};

/// The pauses before a load or a stream that failed is tried again.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(5))
}

/// An event of [`Client::follow`].
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The whole state. It replaces everything that came before.
    Loaded(Vec<Entry>),
    /// An entity was stored.
    Changed(Entry),
    /// An entity was deleted.
    Deleted(Key),
}

impl Client {
    /// Loads a workspace, and then delivers every change, until the stream is dropped. No types means all of them.
    ///
    /// A change is read when the stream is polled. If a later one of its key has come by then, the log may no longer
    /// have it: the embedded store removes it at once, Kafka's log cleaner later.
    ///
    /// It resumes after UNAVAILABLE and broken connections. It loads again after `RESYNC_REQUIRED`, `LOG_MOVED` and
    /// `LOG_TRUNCATED`. Any other error ends it.
    pub fn follow(&self, workspace: &str, types: &[&str]) -> BoxStream<'static, Result<Change, Error>> {
        let follower = Follower {
            client: self.clone(),
            workspace: workspace.to_owned(),
            types: types.iter().map(|&name| name.to_owned()).collect(),
            token: Vec::new(),
            last_offset: None,
            messages: None,
            batch: Vec::new().into_iter(),
            backoff: backoff(),
        };
        stream::try_unfold(follower, Follower::next).boxed()
    }
}

struct Follower {
    client: Client,
    workspace: String,
    types: Vec<String>,
    /// It covers events that were delivered only. Empty means that a load is due.
    token: Vec<u8>,
    /// Of the last entry that was delivered. All entries of a workspace are in one partition.
    last_offset: Option<i64>,
    messages: Option<Streaming<proto::StreamAllResponse>>,
    /// What of the last batch was not delivered yet.
    batch: vec::IntoIter<proto::Entry>,
    backoff: Backoff,
}

impl Follower {
    /// The next change, with the rest of the stream.
    async fn next(mut self) -> Result<Option<(Change, Self)>, Error> {
        loop {
            let error = match self.step().await {
                Ok(Some(change)) => return Ok(Some((change, self))),
                Ok(None) => continue,
                Err(error) => error,
            };
            match (error.code(), error.reason()) {
                (_, Some("RESYNC_REQUIRED" | "LOG_MOVED" | "LOG_TRUNCATED")) => self.token.clear(),
                (Code::Unavailable, _) => {}
                _ => return Err(error),
            }
            self.messages = None;
            sleep(self.backoff.pause(&error)).await;
        }
    }

    /// One load, or one entry or message of the stream.
    async fn step(&mut self) -> Result<Option<Change>, Error> {
        if let Some(entry) = self.batch.next() {
            return self.entry(entry);
        }
        if self.token.is_empty() {
            let (entries, snapshot) = self.client.load_entries(&self.workspace, &self.types).await?;
            self.token = snapshot.resume_token;
            // After a truncation the offsets start below the former ones.
            self.last_offset = entries.iter().map(|entry| entry.position.offset).max();
            return Ok(Some(Change::Loaded(entries)));
        }
        let Some(messages) = &mut self.messages else {
            self.messages = Some(self.open().await?);
            return Ok(None);
        };
        let Some(message) = messages.message().await? else {
            return Err(Error::local(Code::Unavailable, "the stream ended although it follows"));
        };
        self.backoff = backoff();
        match message.event {
            Some(Event::Batch(batch)) => self.batch = batch.entries.into_iter(),
            Some(Event::Snapshot(snapshot)) => self.token = snapshot.resume_token,
            Some(Event::Bookmark(bookmark)) => self.token = bookmark.resume_token,
            // A newer server may send events that this client does not know.
            None => {}
        }
        Ok(None)
    }

    fn entry(&mut self, entry: proto::Entry) -> Result<Option<Change>, Error> {
        // What came after the event with the token is delivered again.
        if self.last_offset.is_some_and(|last| entry.offset <= last) {
            return Ok(None);
        }
        self.last_offset = Some(entry.offset);
        let entry = Entry::try_from(entry)?;
        Ok(Some(if entry.is_tombstone() { Change::Deleted(entry.key) } else { Change::Changed(entry) }))
    }

    /// The stream of all changes after the event with the token. It has no deadline, but its beginning has.
    async fn open(&self) -> Result<Streaming<proto::StreamAllResponse>, Error> {
        let request = proto::StreamAllRequest {
            workspace_ids: vec![self.workspace.clone()],
            entity_types: self.types.clone(),
            resume_token: self.token.clone(),
            follow: true,
            ..Default::default()
        };
        let late = |_| Error::local(Code::Unavailable, "the stream did not begin in time");
        Ok(timeout(LOAD, self.client.raw().stream_all(request)).await.map_err(late)??.into_inner())
    }
}
