//! A workspace that is watched.
//!
//! Promises: the state comes first, and then each change in order. A watch that breaks is resumed with the newest
//! token, and no change that is still in the log is missed. If that is not possible, the whole state comes again.

use std::{time::Duration, vec};

use futures_util::{StreamExt, stream, stream::BoxStream};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Status, Streaming};

use crate::{
    Client, Code, Entry, Error, Key,
    backoff::Backoff,
    delivered::Delivered,
    proto::{self, watch_response::Event},
};

/// The pauses before a watch that failed is tried again, without their random part.
fn backoff() -> Backoff {
    Backoff::new(Duration::from_millis(100), Duration::from_secs(4))
}

/// An event of [`Client::watch`].
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
    /// Delivers the state of a workspace, and then every change, until the stream is dropped. No types means all of
    /// them.
    ///
    /// A change is read when the stream is polled. If a later one of its key has come by then, the log may no longer
    /// have it: the embedded store removes it at once, Kafka's log cleaner later.
    ///
    /// It goes on after UNAVAILABLE, a broken connection, RESOURCE_EXHAUSTED with a reason, `DEADLINE`, and CANCELLED
    /// without a reason. So it does if the state, or the first message of a call that resumes, has not come within the
    /// timeout of loads. After `RESYNC_REQUIRED`, `LOG_MOVED` and `LOG_TRUNCATED` the state comes again. Any other
    /// error ends it.
    ///
    /// Before each attempt it pauses for 0.1 s to 5 s. If the server asks for longer, it pauses for that, of at most
    /// 60 s, and up to a quarter more.
    ///
    /// Of these failures only UNAVAILABLE may last. Others that follow each other for longer than the timeout of loads
    /// end it with the last of them, unless the state comes in between, or all that was missed.
    ///
    /// A change comes once, unless the log has lost records, as in an unclean election. If it has lost a delivered
    /// change, the entity's older value comes again, or the state. After more than 10,000 entities since the newest
    /// token, which comes at least every 10 s, a broken stream means that the state comes again too.
    pub fn watch(&self, workspace: &str, types: &[&str]) -> BoxStream<'static, Result<Change, Error>> {
        let watcher = Watcher {
            client: self.clone(),
            workspace: workspace.to_owned(),
            types: types.iter().map(|&name| name.to_owned()).collect(),
            token: Vec::new(),
            delivered: Delivered::default(),
            call: None,
            batch: Vec::new().into_iter(),
            backoff: backoff(),
            failing_since: None,
        };
        stream::try_unfold(watcher, Watcher::next).boxed()
    }
}

/// Why a call ended.
enum Break {
    /// The state has not come, or no message of a call that resumes.
    Late(Duration),
    /// The log has lost changes that were delivered.
    Lost,
    Error(Error),
}

impl Break {
    /// Whether the token can't be used any more.
    fn starts_again(&self) -> bool {
        match self {
            Self::Lost => true,
            Self::Late(_) => false,
            Self::Error(error) => {
                matches!(error.reason(), Some("RESYNC_REQUIRED" | "LOG_MOVED" | "LOG_TRUNCATED"))
            }
        }
    }

    /// Whether another attempt may succeed.
    fn passes(&self) -> bool {
        let Self::Error(error) = self else { return true };
        match (error.code(), error.reason()) {
            _ if self.starts_again() => true,
            // A server resets a stream whose client reads too slowly. A proxy may turn that into CANCELLED.
            (Code::Unavailable, _) | (Code::Cancelled, None) => true,
            // Without a reason, the message was larger than a limit on the way.
            (Code::ResourceExhausted, reason) => reason.is_some(),
            (Code::DeadlineExceeded, reason) => reason == Some("DEADLINE"),
            _ => false,
        }
    }
}

impl From<Error> for Break {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Status> for Break {
    fn from(status: Status) -> Self {
        Self::Error(status.into())
    }
}

impl From<Break> for Error {
    fn from(broken: Break) -> Self {
        match broken {
            Break::Late(limit) => Self::late(limit),
            Break::Lost => Self::local(Code::Aborted, "the log has lost changes that were delivered"),
            Break::Error(error) => error,
        }
    }
}

struct Watcher {
    client: Client,
    workspace: String,
    types: Vec<String>,
    /// The newest one. It covers events that were delivered only. While it is empty, a watch begins with the state.
    token: Vec<u8>,
    delivered: Delivered,
    call: Option<Call>,
    /// What of the last batch was not taken yet.
    batch: vec::IntoIter<proto::Entry>,
    /// Begins again with the first event after a `Synced`. A watch may reach that again and again, and get no further.
    backoff: Backoff,
    /// When the failures began that have followed each other without a `Synced` or an UNAVAILABLE among them.
    failing_since: Option<Instant>,
}

struct Call {
    messages: Streaming<proto::WatchResponse>,
    /// The part of the state that has come. `None` if none is to come.
    state: Option<Vec<Entry>>,
    /// The first message must have come by then, and all of a state. `None` if no message is due.
    due: Option<Instant>,
    is_synced: bool,
}

impl Watcher {
    /// The next change, with the rest of the stream.
    async fn next(mut self) -> Result<Option<(Change, Self)>, Error> {
        loop {
            let broken = match self.step().await {
                Ok(Some(change)) => return Ok(Some((change, self))),
                Ok(None) => continue,
                Err(broken) => broken,
            };
            if broken.starts_again() {
                self.token.clear();
            }
            let passes = broken.passes();
            let error = Error::from(broken);
            if !passes || self.lasts_too_long(&error) {
                return Err(error);
            }
            self.call = None;
            sleep(self.backoff.pause(&error)).await;
        }
    }

    /// Notes a failure. Those of long outages may last.
    fn lasts_too_long(&mut self, error: &Error) -> bool {
        if error.code() == Code::Unavailable {
            self.failing_since = None;
            return false;
        }
        self.failing_since.get_or_insert_with(Instant::now).elapsed() > self.client.load_timeout
    }

    /// One entry or message of the stream.
    async fn step(&mut self) -> Result<Option<Change>, Break> {
        if let Some(entry) = self.batch.next() {
            return Ok(self.entry(entry)?);
        }
        let Some(call) = &mut self.call else {
            self.call = Some(self.open().await?);
            return Ok(None);
        };
        let message = match call.due {
            Some(due) => {
                let message = timeout_at(due, call.messages.message()).await;
                message.map_err(|_| Break::Late(self.client.load_timeout))?
            }
            None => call.messages.message().await,
        };
        if call.state.is_none() {
            // The server answers. What was missed is taken as it comes, so its time depends on the caller.
            call.due = None;
        }
        let event = message?.ok_or_else(|| Error::local(Code::Unavailable, "a watch has ended"))?.event;
        if call.is_synced {
            self.backoff = backoff();
        }
        match event {
            Some(Event::Batch(batch)) => self.batch = batch.entries.into_iter(),
            Some(Event::Bookmark(bookmark)) => self.covered(bookmark.resume_token),
            Some(Event::Synced(synced)) => {
                if !self.delivered.is_whole() {
                    return Err(Break::Lost);
                }
                call.is_synced = true;
                self.failing_since = None;
                call.due = None;
                let state = call.state.take();
                self.covered(synced.snapshot.unwrap_or_default().resume_token);
                return Ok(state.map(Change::Loaded));
            }
            // A newer server may send events that this client does not know.
            None => {}
        }
        Ok(None)
    }

    /// With an empty token a watch would begin with the state: the former token stays.
    fn covered(&mut self, token: Vec<u8>) {
        if !token.is_empty() {
            self.token = token;
            self.delivered.clear();
        }
    }

    fn entry(&mut self, entry: proto::Entry) -> Result<Option<Change>, Error> {
        let entry = Entry::try_from(entry)?;
        if let Some(Call { state: Some(state), .. }) = &mut self.call {
            state.push(entry);
            return Ok(None);
        }
        // What came after the event with the token comes again.
        if !self.delivered.is_new(&entry) {
            return Ok(None);
        }
        Ok(Some(if entry.is_tombstone() { Change::Deleted(entry.key) } else { Change::Changed(entry) }))
    }

    /// A watch from the newest token, or from the state. It has no deadline, but its first message and its state have.
    async fn open(&mut self) -> Result<Call, Break> {
        if self.delivered.has_overflowed() {
            self.token.clear();
        }
        self.delivered.begin_attempt();
        let request = proto::WatchRequest {
            workspace_id: self.workspace.clone(),
            entity_types: self.types.clone(),
            resume_token: self.token.clone(),
            ..Default::default()
        };
        let limit = self.client.load_timeout;
        let due = Instant::now() + limit;
        let state = self.token.is_empty().then(Vec::new);
        if state.is_some() {
            self.delivered.clear();
        }
        let answer = timeout_at(due, self.client.raw().watch(request)).await.map_err(|_| Break::Late(limit))?;
        Ok(Call { messages: answer?.into_inner(), state, due: Some(due), is_synced: false })
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt};

    use super::Break;
    use crate::Error;

    #[test]
    fn what_passes_is_tried_again() {
        let passes = |code, reason: Option<&str>| {
            let ours = |reason| ErrorDetails::with_error_info(reason, "changelogd", HashMap::new());
            Break::from(Status::with_error_details(code, "", reason.map(ours).unwrap_or_default())).passes()
        };
        for (code, reason) in [
            (Code::Unavailable, None),
            (Code::Unavailable, Some("DRAINING")),
            (Code::ResourceExhausted, Some("MEMORY_LIMIT")),
            (Code::DeadlineExceeded, Some("DEADLINE")),
            (Code::Cancelled, None),
            (Code::OutOfRange, Some("RESYNC_REQUIRED")),
            (Code::Aborted, Some("LOG_MOVED")),
        ] {
            assert!(passes(code, reason), "{code:?} {reason:?}");
        }
        for (code, reason) in [
            (Code::ResourceExhausted, None),
            (Code::DeadlineExceeded, None),
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
            assert!(!passes(code, reason), "{code:?} {reason:?}");
        }
        for local in [Break::Late(Duration::from_secs(1)), Break::Lost] {
            assert!(local.passes() && !Break::from(Error::from(local)).passes());
        }
    }
}
