//! Watches: the state of one workspace, and then its changes.
//!
//! Promises: the state is whole, as that of a load. Changes start at the end offset of the state, so that none is
//! missed and none comes twice. Their offsets increase.
//! Bookmarks come also while brokers do not answer.
//! Does not: read ahead for a slow client. Its replay waits for it, and no other does.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    fold::Snapshot,
    load::Load,
    outage::through_outage,
    stream::{FollowPermit, RecordStream, StreamEvent, StreamStart, resumed_cursors},
};
use crate::{
    changelog::{
        Changelog, LoadError, Peer,
        admission::ReplayPermit,
        resume::{Content, Cursor, ResyncCause, Scope, TokenError, non_empty},
    },
    log::{Log, PROGRESS_INTERVAL, ReadError, Selection, Topic, TruncationCause},
    model::{Partition, Record, WorkspaceId},
    rule::{Rule, holds},
};

/// A request for a watch.
#[derive(Debug, Clone)]
pub struct WatchRequest {
    /// The workspace to deliver.
    pub workspace: WorkspaceId,
    /// Entity types to deliver; empty means all.
    pub types: HashSet<String>,
    /// Where to continue: a token of a watch, a load, or a stream of this workspace and these types. Empty means from
    /// the start.
    pub resume_token: Bytes,
}

/// An event of a watch.
#[derive(Debug)]
pub enum WatchEvent {
    /// The whole state, first, unless the watch resumes. Its snapshot is that of [`WatchEvent::Synced`], which does not
    /// come in addition.
    State(Load),
    /// Before [`WatchEvent::Synced`], what a resumed watch has missed, each entity once. After it, changes.
    Batch {
        /// The partition of the workspace.
        partition: Partition,
        /// In the order of their offsets, with tombstones; not empty.
        records: Vec<Record>,
    },
    /// A resumed watch has delivered what it had missed.
    Synced(Snapshot),
    /// A resume token: the watch can continue here.
    Bookmark(Bytes),
}

/// A running watch. It holds its permits until it is dropped.
#[derive(Debug)]
pub struct Watch {
    changelog: Changelog,
    topic: Arc<Topic>,
    partition: Partition,
    /// The topic was asked for after the first change was read.
    is_confirmed: bool,
    /// The end offset of the state; `None` before [`WatchEvent::Synced`].
    end_of_state: Option<i64>,
    /// When [`WatchEvent::Synced`] or the last bookmark was returned.
    last_token_at: Instant,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The state was read.
    Loaded {
        state: Box<Load>,
        changes: Waiting<RecordStream>,
    },
    /// The state was delivered.
    Starting {
        changes: Waiting<RecordStream>,
        resume_token: Bytes,
    },
    Following {
        changes: Box<RecordStream>,
        unconfirmed: Option<Unconfirmed>,
    },
    /// The last token was delivered.
    Draining,
    Ended,
}

/// Changes that were read and may be of another topic, with the position before them.
#[derive(Debug)]
struct Unconfirmed {
    records: Vec<Record>,
    before: Option<Cursor>,
    confirmed: Waiting<()>,
}

/// What may wait for brokers, over several calls of [`Watch::next`].
struct Waiting<T>(Pin<Box<dyn Future<Output = Result<T, LoadError>> + Send>>);

impl<T> fmt::Debug for Waiting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waiting")
    }
}

impl Changelog {
    /// Starts a watch. The deadline applies until the state is read, or what a resumed watch has missed. After that the
    /// watch has none.
    ///
    /// Limits are those of [`Changelog::load`], and [`Limits::max_following_streams`]. A token that cannot be resumed
    /// is [`LoadError::Token`].
    ///
    /// [`Limits::max_following_streams`]: crate::changelog::Limits::max_following_streams
    pub async fn watch(&self, request: WatchRequest, peer: Peer, deadline: Instant) -> Result<Watch, LoadError> {
        let state_asked_at = Instant::now();
        let follow_permit = self.follow_permit(peer)?;
        let topic = self.topic_for_read(deadline).await?;
        let partition = topic.partition_count.of_workspace(request.workspace.as_str().as_bytes());
        let watch = |stage| Watch {
            changelog: self.clone(),
            topic: topic.clone(),
            partition,
            is_confirmed: false,
            end_of_state: None,
            last_token_at: Instant::now(),
            stage,
        };
        if let Some(bytes) = non_empty(&request.resume_token) {
            let cursors = resumed_cursors(bytes, &topic, &request.accepted_scopes(), &[partition])?;
            let permit = self.replays.acquire(peer, deadline).await?;
            let start = request.start(&topic, Content::Latest, cursors);
            let stream = self.start_stream(start, permit, Some(follow_permit), Some(deadline)).await?;
            return Ok(watch(Stage::Following { changes: Box::new(stream), unconfirmed: None }));
        }
        // Before the state is sent: what it holds then may be taken by others.
        let replay_permit = self.replays.admit_follower()?;
        let load = self.load_in(&topic, request.workspace.clone(), request.types.clone(), peer, deadline).await?;
        let cursor = Cursor::at_end(&load.snapshot.end);
        let start = request.start(&topic, Content::Records, BTreeMap::from([(partition, cursor)]));
        let changes = self.clone().start_changes(start, partition, state_asked_at, replay_permit, follow_permit);
        Ok(watch(Stage::Loaded { state: Box::new(load), changes: Waiting(Box::pin(changes)) }))
    }

    /// Starts to follow at the end of the state. Needs no slot, because little is left to read.
    async fn start_changes(
        self,
        mut start: StreamStart,
        partition: Partition,
        state_asked_at: Instant,
        replay_permit: ReplayPermit,
        follow_permit: FollowPermit,
    ) -> Result<RecordStream, LoadError> {
        let cursor = start.cursors.get_mut(&partition).expect("it is the partition of the watch");
        self.check_age_of_state(partition, state_asked_at, cursor.as_of).await?;
        if !holds(Rule::ChangesStartAtEndOfState) {
            let now = self.log.describe().await;
            cursor.next = now.partitions.iter().find(|p| p.partition == partition).map(|p| p.high);
        }
        self.start_stream(start, replay_permit, Some(follow_permit), None).await
    }

    /// A client may take the state slowly. Tombstones that were written meanwhile must still be there when changes are
    /// read. The time is that of this process, because the wall clock can be set. The retention may have been lowered.
    async fn check_age_of_state(
        &self,
        partition: Partition,
        asked_at: Instant,
        as_of: SystemTime,
    ) -> Result<(), LoadError> {
        let retention = through_outage(|| self.log.topic()).await?.delete_retention;
        let age = asked_at.elapsed().max(SystemTime::now().duration_since(as_of).unwrap_or_default());
        if age <= retention / 2 || !holds(Rule::ReplayWithinDeleteRetention) {
            return Ok(());
        }
        let (age_ms, retention_ms) = (age.as_millis(), retention.as_millis());
        Err(TokenError::Resync(ResyncCause::TooOld { partition, age_ms, retention_ms }).into())
    }
}

impl WatchRequest {
    fn scope(&self) -> Bytes {
        Scope::of_workspace(self.workspace.clone(), self.types.clone()).fingerprint()
    }

    /// Fingerprints of the scopes whose tokens are accepted: its own, which is that of a load, and those of streams.
    fn accepted_scopes(&self) -> Vec<Bytes> {
        let of_stream =
            |content| Scope::of_stream(&[], std::slice::from_ref(&self.workspace), &self.types, content).fingerprint();
        vec![self.scope(), of_stream(Content::Records), of_stream(Content::Latest)]
    }

    fn start(&self, topic: &Arc<Topic>, content: Content, cursors: BTreeMap<Partition, Cursor>) -> StreamStart {
        StreamStart {
            topic: topic.clone(),
            scope: self.scope(),
            selection: Selection::workspace(self.workspace.clone(), self.types.clone(), topic.partition_count),
            content,
            cursors,
            resumed: true,
        }
    }
}

impl Watch {
    /// The partition of the workspace.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// The next event. A watch has no last event. Drop it after an error.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, LoadError>> {
        loop {
            let step = match &self.stage {
                Stage::Loaded { .. } => Ok(self.state()),
                Stage::Starting { .. } => self.start().await,
                Stage::Following { unconfirmed: None, .. } => self.read().await,
                Stage::Following { .. } => self.confirm().await,
                Stage::Draining => Err(ReadError::Draining.into()),
                Stage::Ended => return None,
            };
            match step {
                Ok(None) => {}
                Ok(Some(event)) => return Some(Ok(event)),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    fn state(&mut self) -> Option<WatchEvent> {
        let stage = std::mem::replace(&mut self.stage, Stage::Ended);
        let Stage::Loaded { state, changes } = stage else { return None };
        let resume_token = state.snapshot.resume_token.clone();
        self.stage = Stage::Starting { changes, resume_token };
        self.end_of_state = Some(state.snapshot.end.end);
        self.last_token_at = Instant::now();
        Some(WatchEvent::State(*state))
    }

    async fn start(&mut self) -> Result<Option<WatchEvent>, LoadError> {
        let Stage::Starting { changes, resume_token } = &mut self.stage else { return Ok(None) };
        match until(&self.changelog.draining, self.last_token_at, &mut changes.0).await {
            Ok(Ok(mut changes)) => {
                changes.bookmark_delivered(self.last_token_at);
                self.stage = Stage::Following { changes: Box::new(changes), unconfirmed: None };
                Ok(None)
            }
            Ok(Err(error)) => {
                self.stage = Stage::Ended;
                Err(error)
            }
            Err(interrupt) => {
                let token = resume_token.clone();
                Ok(Some(self.interrupted(&interrupt, token)))
            }
        }
    }

    async fn read(&mut self) -> Result<Option<WatchEvent>, LoadError> {
        let Stage::Following { changes, unconfirmed } = &mut self.stage else { return Ok(None) };
        let (partition, before) = (self.partition, changes.cursor(self.partition));
        let event = changes.next().await.ok_or(ReadError::EndedEarly { partition })??;
        Ok(match event {
            StreamEvent::Batch { partition, records } => {
                let Some(end) = self.end_of_state else { return Ok(Some(WatchEvent::Batch { partition, records })) };
                if let Some(first) = records.first().filter(|first| first.offset < end) {
                    return Err(written_again(partition, first.offset, end));
                }
                let confirmed = confirm(self.changelog.log.clone(), self.topic.clone(), self.is_confirmed);
                *unconfirmed = Some(Unconfirmed { records, before, confirmed: Waiting(Box::pin(confirmed)) });
                None
            }
            StreamEvent::Bookmark(token) => {
                self.last_token_at = Instant::now();
                Some(WatchEvent::Bookmark(token))
            }
            // Only of a watch that resumes: changes have no end.
            StreamEvent::Snapshot(snapshot) => {
                self.end_of_state = Some(snapshot.end.end);
                self.last_token_at = Instant::now();
                Some(WatchEvent::Synced(snapshot))
            }
        })
    }

    async fn confirm(&mut self) -> Result<Option<WatchEvent>, LoadError> {
        let Stage::Following { changes, unconfirmed } = &mut self.stage else { return Ok(None) };
        let Some(Unconfirmed { records, before, confirmed }) = unconfirmed else { return Ok(None) };
        match until(&self.changelog.draining, self.last_token_at, &mut confirmed.0).await {
            Ok(confirmed) => {
                let records = std::mem::take(records);
                *unconfirmed = None;
                confirmed?;
                self.is_confirmed = true;
                Ok(Some(WatchEvent::Batch { partition: self.partition, records }))
            }
            Err(interrupt) => {
                let token = changes.token_at(before.iter().map(|cursor| (self.partition, *cursor)).collect());
                changes.bookmark_delivered(Instant::now());
                Ok(Some(self.interrupted(&interrupt, token)))
            }
        }
    }

    /// The token of what was delivered.
    fn interrupted(&mut self, interrupt: &Interrupt, token: Bytes) -> WatchEvent {
        self.last_token_at = Instant::now();
        if matches!(interrupt, Interrupt::Drain) {
            self.stage = Stage::Draining;
        }
        WatchEvent::Bookmark(token)
    }
}

enum Interrupt {
    Drain,
    BookmarkIsDue,
}

/// Waits for a step that may take long. It goes on at the next call if it was interrupted.
async fn until<T>(
    draining: &CancellationToken,
    last_token_at: Instant,
    step: impl Future<Output = T>,
) -> Result<T, Interrupt> {
    tokio::select! {
        biased;
        () = draining.cancelled() => Err(Interrupt::Drain),
        done = step => Ok(done),
        () = sleep_until(last_token_at + PROGRESS_INTERVAL) => Err(Interrupt::BookmarkIsDue),
    }
}

/// A consumer adopts a new topic of the same name. So the topic is asked for once the first changes are there, and
/// before they are delivered. For later ones an answer that is a second old is enough: a query for each would cost the
/// brokers more than the changes do.
async fn confirm(log: Arc<dyn Log>, topic: Arc<Topic>, is_confirmed: bool) -> Result<(), LoadError> {
    let found = through_outage(|| if is_confirmed { log.topic() } else { log.confirm() }).await?;
    Ok(topic.check_same(&found).map_err(ReadError::from)?)
}

/// A state without any record has no leader epoch. Then a replay starts over at the low watermark, also of a log that
/// was truncated.
fn written_again(partition: Partition, offset: i64, end: i64) -> LoadError {
    let cause = TruncationCause::Other(format!("offset {offset} was written again after the state ended at {end}"));
    TokenError::Resync(ResyncCause::Log(Box::new(ReadError::Truncated { partition, cause }))).into()
}
