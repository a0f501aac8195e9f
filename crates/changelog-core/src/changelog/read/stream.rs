//! Streams over partitions: records or latest values, a snapshot for each partition, and resume tokens.
//!
//! Promises: every partition ends with a [`Snapshot`], or the stream ends with an error. A stream that resumes misses
//! no deletion: it is refused when tombstones that it has not seen may be gone.
//! Does not: share replays. Each stream has its own.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    fold::{Fold, MatchCounts, Snapshot},
    outage::through_outage,
    stream_request::StreamRequest,
};
use crate::{
    changelog::{
        Changelog, LoadError, Peer,
        admission::{PeerPermit, ReplayPermit},
        metrics::{Follower, Metrics, Replaying, Running},
        resume::{Content, Cursor, ResyncCause, Token, TokenError, cursors_at_start, non_empty},
    },
    log::{Follow, PROGRESS_INTERVAL, PartitionEnd, ReadError, Replay, ReplayEvent, ReplayRequest, Selection, Topic},
    model::{Partition, Record},
    rule::{Rule, holds},
};

/// An event of a stream. Batches of a partition come before its snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// Records of one partition.
    Batch {
        /// The partition of the records.
        partition: Partition,
        /// In the order of their offsets; not empty.
        records: Vec<Record>,
    },
    /// The end of a partition was reached.
    Snapshot(Snapshot),
    /// A resume token: the stream can continue here.
    Bookmark(Bytes),
}

/// The shortest time between two bookmarks. A stream without records sends one each [`PROGRESS_INTERVAL`].
const MIN_BOOKMARK_INTERVAL: Duration = Duration::from_secs(2);
/// For a replay whose caller has no deadline. The log ends it if it makes no progress.
const NO_DEADLINE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A running stream. It holds its permits until it is dropped.
#[derive(Debug)]
pub struct RecordStream {
    topic: Arc<Topic>,
    scope: Bytes,
    replay: Replay,
    follow: Follow,
    resumed: bool,
    /// `None` for changes, which follow from the start on.
    deadline: Option<Instant>,
    /// Bytes of memory that all folds of this stream together may take.
    max_load_memory: usize,
    cursors: BTreeMap<Partition, Cursor>,
    /// Partitions whose end was not reached yet.
    pending: HashMap<Partition, PendingPartition>,
    ready: VecDeque<StreamEvent>,
    last_bookmark: Instant,
    draining: CancellationToken,
    /// The last bookmark was delivered.
    ended_by_drain: bool,
    metrics: Arc<Metrics>,
    /// `None` after the end offsets.
    replaying: Option<Replaying>,
    /// Of a stream that follows, after the end offsets.
    follower: Option<Follower>,
    permit: ReplayPermit,
    _follow_permit: Option<FollowPermit>,
}

/// What a stream reads, and where it starts.
pub(super) struct StreamStart {
    pub topic: Arc<Topic>,
    /// The fingerprint of the scope of its tokens.
    pub scope: Bytes,
    pub selection: Selection,
    pub content: Content,
    pub cursors: BTreeMap<Partition, Cursor>,
    /// The cursors are not those of a start, so tombstones are delivered.
    pub resumed: bool,
}

/// The right to follow.
#[derive(Debug)]
pub(super) struct FollowPermit {
    _permit: OwnedSemaphorePermit,
    _peer_permit: PeerPermit,
    _running: Running,
}

#[derive(Debug)]
struct PendingPartition {
    fold: Option<Fold>,
    matched: MatchCounts,
}

impl Changelog {
    /// Starts a stream. The deadline applies until the end offsets are reached. A following stream has none after that.
    ///
    /// Limits are those of [`Changelog::load`], and [`Limits::max_following_streams`]. A token that cannot be resumed
    /// is [`LoadError::Token`].
    ///
    /// [`Limits::max_following_streams`]: crate::changelog::Limits::max_following_streams
    pub async fn stream(
        &self,
        request: StreamRequest,
        peer: Peer,
        deadline: Instant,
    ) -> Result<RecordStream, LoadError> {
        let follow_permit = if request.follow { Some(self.follow_permit(peer)?) } else { None };
        let permit = self.replays.acquire(peer, deadline).await?;
        let topic = self.topic_for_read(deadline).await?;
        let partitions = request.selected(topic.partition_count)?;
        let resumed = non_empty(&request.resume_token);
        let cursors = match resumed {
            None => cursors_at_start(&partitions),
            Some(bytes) => resumed_cursors(bytes, &topic, &request.accepted_scopes(), &partitions)?,
        };
        let start = StreamStart {
            scope: request.scope().fingerprint(),
            selection: request.selection(topic.partition_count),
            content: request.content,
            cursors,
            resumed: resumed.is_some(),
            topic,
        };
        self.start_stream(start, permit, follow_permit, Some(deadline)).await
    }

    /// The right to follow, or an error at once.
    pub(super) fn follow_permit(&self, peer: Peer) -> Result<FollowPermit, LoadError> {
        let permit = self.following.clone().try_acquire_owned();
        let permit =
            permit.map_err(|_| LoadError::TooManyFollowingStreams { limit: self.limits.max_following_streams })?;
        let limit = self.following_by_peer.limit();
        let peer_permit =
            self.following_by_peer.try_acquire(peer).ok_or(LoadError::TooManyFollowingStreamsOfPeer { limit })?;
        Ok(FollowPermit {
            _permit: permit,
            _peer_permit: peer_permit,
            _running: self.metrics.following_stream_started(),
        })
    }

    /// Starts to read. The stream follows if it has the right to: without a deadline from its start on, as changes.
    pub(super) async fn start_stream(
        &self,
        start: StreamStart,
        permit: ReplayPermit,
        follow_permit: Option<FollowPermit>,
        deadline: Option<Instant>,
    ) -> Result<RecordStream, LoadError> {
        let StreamStart { topic, scope, selection, content, cursors, resumed } = start;
        let follow = match (&follow_permit, deadline) {
            (None, _) => Follow::No,
            (Some(_), Some(_)) => Follow::AfterEnds,
            (Some(_), None) => Follow::FromStart,
        };
        let replay_deadline = deadline.unwrap_or_else(|| Instant::now() + NO_DEADLINE);
        let replay_request = ReplayRequest {
            topic: topic.clone(),
            partitions: cursors.iter().map(|(p, cursor)| (*p, cursor.start_at())).collect(),
            selection,
            follow,
            owned_records: content == Content::Latest,
            deadline: replay_deadline,
        };
        let has_ends = follow != Follow::FromStart;
        let replaying = has_ends.then(|| self.metrics.replaying());
        let replay = if has_ends {
            let replay = timeout_at(replay_deadline, self.log.replay(replay_request)).await;
            replay.map_err(|_| LoadError::deadline_before("the end offsets were known"))?
        } else {
            through_outage(|| self.log.replay(replay_request.clone())).await
        };
        let replay = replay.map_err(|error| offset_error_is_resync(error, resumed))?;
        let pending = |p: &Partition| {
            let fold = (content == Content::Latest).then(|| Fold::new(self.limits.max_load_memory));
            (*p, PendingPartition { fold, matched: MatchCounts::default() })
        };
        Ok(RecordStream {
            scope,
            replay,
            follow,
            resumed,
            deadline,
            max_load_memory: self.limits.max_load_memory,
            pending: cursors.keys().filter(|_| has_ends).map(pending).collect(),
            cursors,
            ready: VecDeque::new(),
            last_bookmark: Instant::now(),
            draining: self.draining.clone(),
            ended_by_drain: false,
            metrics: self.metrics.clone(),
            replaying,
            follower: None,
            topic,
            permit,
            _follow_permit: follow_permit,
        })
    }
}

/// The position of a token that may be resumed from.
pub(super) fn resumed_cursors(
    token: &[u8],
    topic: &Topic,
    accepted_scopes: &[Bytes],
    partitions: &[Partition],
) -> Result<BTreeMap<Partition, Cursor>, LoadError> {
    let token = Token::decode(token)?;
    token.check(topic, accepted_scopes, partitions, SystemTime::now())?;
    Ok(token.cursors)
}

async fn late(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// The offset of a resume token can be outside the log, or be of another history of it. The client must then start
/// again without the token: with it, each attempt would fail.
fn offset_error_is_resync(error: ReadError, resumed: bool) -> LoadError {
    match error {
        ReadError::OffsetOutOfRange { .. } | ReadError::Truncated { .. } if resumed => {
            TokenError::Resync(ResyncCause::Log(Box::new(error))).into()
        }
        error => error.into(),
    }
}

impl RecordStream {
    /// The next event; `None` after the snapshot of the last partition. A following stream has no last event. Drop
    /// the stream after an error.
    pub async fn next(&mut self) -> Option<Result<StreamEvent, LoadError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.ended_by_drain {
                return Some(Err(ReadError::Draining.into()));
            }
            if self.pending.is_empty() && !self.follow.is_on() {
                return None;
            }
            let following = self.pending.is_empty();
            if following {
                self.permit.release_slot();
                self.replaying = None;
                if self.follower.is_none() {
                    self.follower = Some(self.metrics.follower(self.as_of()));
                }
            }
            let bookmark_at = self.last_bookmark + PROGRESS_INTERVAL;
            let event = tokio::select! {
                biased;
                () = late(self.deadline), if !following => {
                    let pending: Vec<_> = self.pending.keys().map(Partition::to_string).collect();
                    let partition = self.pending.keys().next().copied();
                    let what = format!("before the end of partition {}", pending.join(", "));
                    return Some(Err(LoadError::Deadline { what, partition }));
                }
                // While the process drains, a load may finish. A following stream would never end. Its client gets a
                // last token, so that it misses nothing and reads nothing twice.
                () = self.draining.cancelled(), if following => {
                    self.ended_by_drain = true;
                    return Some(Ok(StreamEvent::Bookmark(self.token())));
                }
                // What was delivered stays delivered, however much is left to read.
                () = sleep_until(bookmark_at), if following => {
                    self.last_bookmark = Instant::now();
                    return Some(Ok(StreamEvent::Bookmark(self.token())));
                }
                event = self.replay.next() => event,
            };
            let event = match event {
                Some(Ok(event)) => event,
                Some(Err(error)) => return Some(Err(offset_error_is_resync(error, self.resumed))),
                None => {
                    return Some(Err(ReadError::EndedEarly { partition: self.cursors.keys().next().copied()? }.into()));
                }
            };
            if let Err(error) = self.handle_event(event) {
                return Some(Err(error));
            }
        }
    }

    /// Whether everything up to the ends has been delivered. Until then it holds a replay permit.
    pub fn is_following(&self) -> bool {
        self.pending.is_empty() && self.ready.is_empty()
    }

    fn handle_event(&mut self, event: ReplayEvent) -> Result<(), LoadError> {
        match event {
            ReplayEvent::Records { partition, records, leader_epoch } => {
                self.records(partition, records, leader_epoch)?;
            }
            ReplayEvent::End(end) => self.end(end)?,
            ReplayEvent::Progress { partition, next_offset, leader_epoch, counts, at_end } => {
                self.metrics.replayed(counts);
                if let Some(cursor) = self.cursors.get_mut(&partition) {
                    cursor.next = Some(next_offset);
                    cursor.leader_epoch = leader_epoch;
                    cursor.as_of = at_end.unwrap_or(cursor.as_of);
                }
                if let Some(follower) = &self.follower {
                    follower.at_end(self.as_of());
                }
                if self.last_bookmark.elapsed() >= MIN_BOOKMARK_INTERVAL {
                    self.last_bookmark = Instant::now();
                    self.ready.push_back(StreamEvent::Bookmark(self.token()));
                }
            }
        }
        Ok(())
    }

    fn records(&mut self, partition: Partition, records: Vec<Record>, leader_epoch: i32) -> Result<(), LoadError> {
        if let Some(replaying) = &mut self.replaying {
            replaying.records();
        }
        if let Some(pending) = self.pending.get_mut(&partition) {
            if let Some(fold) = &mut pending.fold {
                fold.apply(records).map_err(|e| e.in_partition(partition))?;
                return self.reserve_folds(partition);
            }
            pending.matched.count(&records);
        }
        if let (Some(cursor), Some(last)) = (self.cursors.get_mut(&partition), records.last()) {
            cursor.next = Some(last.offset + 1);
            cursor.leader_epoch = leader_epoch;
        }
        self.ready.push_back(StreamEvent::Batch { partition, records });
        Ok(())
    }

    /// Reserves memory for all folds. Records of partitions interleave, so many folds exist at the same time.
    fn reserve_folds(&mut self, partition: Partition) -> Result<(), LoadError> {
        let fold_bytes: usize = self.pending.values().filter_map(|u| u.fold.as_ref()).map(Fold::memory_size).sum();
        if fold_bytes > self.max_load_memory {
            return Err(LoadError::TooLarge { partition, limit: self.max_load_memory });
        }
        self.permit.reserve_memory(fold_bytes)
    }

    fn end(&mut self, end: PartitionEnd) -> Result<(), LoadError> {
        self.check_age(end.partition)?;
        let Some(PendingPartition { fold, mut matched }) = self.pending.remove(&end.partition) else { return Ok(()) };
        if let Some(fold) = fold {
            let (records, folded) = fold.finish(self.resumed);
            matched = folded;
            if !records.is_empty() {
                self.ready.push_back(StreamEvent::Batch { partition: end.partition, records });
            }
        }
        self.metrics.replayed(end.counts);
        self.cursors.insert(end.partition, Cursor::at_end(&end));
        let MatchCounts { entries, tombstones } = matched;
        let resume_token = self.token();
        self.ready.push_back(StreamEvent::Snapshot(Snapshot { end, entries, tombstones, resume_token }));
        Ok(())
    }

    /// A resumed stream must reach the end before tombstones that it has not read can be removed. The time counts from
    /// the moment that the token stands for.
    fn check_age(&self, partition: Partition) -> Result<(), LoadError> {
        let Some(cursor) = self.cursors.get(&partition).filter(|_| self.resumed) else { return Ok(()) };
        let age = SystemTime::now().duration_since(cursor.as_of).unwrap_or_default();
        let retention = self.topic.delete_retention;
        if age <= retention || !holds(Rule::ReplayWithinDeleteRetention) {
            return Ok(());
        }
        let (age_ms, retention_ms) = (age.as_millis(), retention.as_millis());
        Err(TokenError::Resync(ResyncCause::EndedLate { partition, age_ms, retention_ms }).into())
    }

    /// When all records of all partitions had been read.
    fn as_of(&self) -> SystemTime {
        self.cursors.values().map(|cursor| cursor.as_of).min().unwrap_or_else(SystemTime::now)
    }

    fn token(&self) -> Bytes {
        self.token_at(self.cursors.clone())
    }

    /// The token of another position, such as that before an event which is not delivered yet.
    pub(super) fn token_at(&self, cursors: BTreeMap<Partition, Cursor>) -> Bytes {
        Token::new(&self.topic, self.scope.clone(), cursors).encode()
    }

    /// The position up to which events were returned.
    pub(super) fn cursor(&self, partition: Partition) -> Option<Cursor> {
        self.cursors.get(&partition).copied()
    }

    /// The caller has delivered a token by itself.
    pub(super) fn bookmark_delivered(&mut self, at: Instant) {
        self.last_bookmark = at;
    }
}
