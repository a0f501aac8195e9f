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
    /// It goes on after UNAVAILABLE, a broken connection, RESOURCE_EXHAUSTED with a reason, `DEADLINE`, and CANCELLED
    /// without a reason. A load that reached its timeout is tried again. After `RESYNC_REQUIRED`, `LOG_MOVED` and
    /// `LOG_TRUNCATED` it loads again. Before each attempt it pauses for at most 5 s, or for as long as the server
    /// asks, up to 60 s. Any other error ends it.
    pub fn follow(&self, workspace: &str, types: &[&str]) -> BoxStream<'static, Result<Change, Error>> {
        let follower = Follower {
            client: self.clone(),
            workspace: workspace.to_owned(),
            types: types.iter().map(|&name| name.to_owned()).collect(),
            token: None,
            last_offset: None,
            messages: None,
            batch: Vec::new().into_iter(),
            backoff: backoff(),
        };
        stream::try_unfold(follower, Follower::next).boxed()
    }
}

/// Whether a load or a stream that ended with the error is tried again as it was.
fn passes(error: &Error, is_load: bool) -> bool {
    match (error.code(), error.reason()) {
        // A server resets a stream whose client reads too slowly. A proxy may turn that into CANCELLED.
        (Code::Unavailable, _) | (Code::Cancelled, None) => true,
        // Without a reason, the message was larger than a limit on the way.
        (Code::ResourceExhausted, reason) => reason.is_some(),
        (Code::DeadlineExceeded, reason) => reason.map_or(is_load, |reason| reason == "DEADLINE"),
        _ => false,
    }
}

struct Follower {
    client: Client,
    workspace: String,
    types: Vec<String>,
    /// It covers events that were delivered only, and is not empty. `None` means that a load is due.
    token: Option<Vec<u8>>,
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
            match error.reason() {
                Some("RESYNC_REQUIRED" | "LOG_MOVED" | "LOG_TRUNCATED") => self.token = None,
                _ if passes(&error, self.token.is_none()) => {}
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
        let Some(token) = &self.token else {
            let limit = self.client.load_timeout.max(LOAD);
            let (entries, snapshot) = self.client.load_entries(&self.workspace, &self.types, limit).await?;
            if snapshot.resume_token.is_empty() {
                return Err(Error::local(Code::Internal, "the Snapshot of the load has no resume token"));
            }
            self.token = Some(snapshot.resume_token);
            // After a truncation the offsets start below the former ones.
            self.last_offset = entries.iter().map(|entry| entry.position.offset).max();
            return Ok(Some(Change::Loaded(entries)));
        };
        let Some(messages) = &mut self.messages else {
            self.messages = Some(self.open(token.clone()).await?);
            return Ok(None);
        };
        let Some(message) = messages.message().await? else {
            return Err(Error::local(Code::Unavailable, "the stream ended although it follows"));
        };
        self.backoff = backoff();
        match message.event {
            Some(Event::Batch(batch)) => self.batch = batch.entries.into_iter(),
            Some(Event::Snapshot(snapshot)) => self.covered(snapshot.resume_token),
            Some(Event::Bookmark(bookmark)) => self.covered(bookmark.resume_token),
            // A newer server may send events that this client does not know.
            None => {}
        }
        Ok(None)
    }

    /// With an empty token a stream would begin at the start of the log: the former token stays.
    fn covered(&mut self, token: Vec<u8>) {
        if !token.is_empty() {
            self.token = Some(token);
        }
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
    async fn open(&self, resume_token: Vec<u8>) -> Result<Streaming<proto::StreamAllResponse>, Error> {
        let request = proto::StreamAllRequest {
            workspace_ids: vec![self.workspace.clone()],
            entity_types: self.types.clone(),
            resume_token,
            follow: true,
            ..Default::default()
        };
        let late = |_| Error::local(Code::Unavailable, "the stream did not begin in time");
        Ok(timeout(LOAD, self.client.raw().stream_all(request)).await.map_err(late)??.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt};

    use super::passes;
    use crate::Error;

    #[test]
    fn what_passes_is_tried_again() {
        let error = |code, reason: Option<&str>| {
            let ours = |reason| ErrorDetails::with_error_info(reason, "changelogd", HashMap::new());
            Error::from(Status::with_error_details(code, "", reason.map(ours).unwrap_or_default()))
        };
        for is_load in [true, false] {
            for (code, reason) in [
                (Code::Unavailable, None),
                (Code::Unavailable, Some("DRAINING")),
                (Code::ResourceExhausted, Some("MEMORY_LIMIT")),
                (Code::DeadlineExceeded, Some("DEADLINE")),
                (Code::Cancelled, None),
            ] {
                assert!(passes(&error(code, reason), is_load), "{code:?} {reason:?}");
            }
            for (code, reason) in [
                (Code::ResourceExhausted, None),
                (Code::DeadlineExceeded, Some("OUTCOME_UNKNOWN")),
                (Code::Cancelled, Some("DRAINING")),
                (Code::FailedPrecondition, Some("TOPIC_RECREATED")),
                (Code::InvalidArgument, Some("TOKEN_INVALID")),
                (Code::Unauthenticated, None),
                (Code::PermissionDenied, None),
                (Code::Unimplemented, None),
                (Code::Internal, None),
                (Code::Unknown, None),
            ] {
                assert!(!passes(&error(code, reason), is_load), "{code:?} {reason:?}");
            }
            // The timeout of the load. A stream has none.
            assert_eq!(passes(&Error::late(Duration::ZERO), is_load), is_load);
        }
    }
}
