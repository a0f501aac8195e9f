//! Streams over partitions: records or latest values, a summary for each partition, and places to resume from.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, timeout_at},
};

use super::{
    fold::{Fold, MatchCounts, Snapshot},
    load::{cursors_at_start, non_empty},
};
use crate::{
    changelog::{
        Changelog, LoadError, Peer,
        admission::{PeerPermit, ReplayPermit},
        resume::{Cursor, Token, TokenError},
    },
    log::{Keys, PartitionEnd, ReadError, Replay, ReplayEvent, ReplayRequest, Selection, Topic},
    metrics::{Metrics, Running},
    model::{Partition, PartitionCount, Record, Shown, WorkspaceId},
    rule::{Rule, holds},
};

/// What a stream delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Every record still in the log.
    Records,
    /// The latest value of each key.
    Latest,
}

/// What a stream is a stream of: a token of one scope does not serve another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    family: &'static str,
    partitions: BTreeSet<i32>,
    workspaces: BTreeSet<WorkspaceId>,
    types: BTreeSet<String>,
    content: Option<Content>,
}

impl Scope {
    /// Of a load of one workspace.
    pub fn of_workspace(workspace: WorkspaceId, types: HashSet<String>) -> Self {
        Self {
            family: "workspace",
            partitions: BTreeSet::new(),
            workspaces: BTreeSet::from([workspace]),
            types: types.into_iter().collect(),
            content: None,
        }
    }

    /// 16 bytes that stand for it in tokens: lists are length-prefixed, so no two scopes are written alike.
    pub fn fingerprint(&self) -> Bytes {
        let mut hash = Sha256::new();
        let mut put = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        put(self.family.as_bytes());
        put(&[match self.content {
            None => 0,
            Some(Content::Records) => 1,
            Some(Content::Latest) => 2,
        }]);
        put(&self.partitions.iter().flat_map(|p| p.to_be_bytes()).collect::<Vec<_>>());
        put(&(self.workspaces.len() as u64).to_be_bytes());
        self.workspaces.iter().for_each(|w| put(w.as_str().as_bytes()));
        self.types.iter().for_each(|t| put(t.as_bytes()));
        Bytes::copy_from_slice(&hash.finalize()[..16])
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// Only these partitions; empty = all.
    pub partitions: Vec<i32>,
    /// Only these workspaces; empty = all.
    pub workspaces: Vec<WorkspaceId>,
    /// Only these types; empty = all.
    pub types: HashSet<String>,
    /// What to deliver.
    pub content: Content,
    /// Where to go on; empty = from the low watermarks.
    pub resume_token: Bytes,
    /// Go on after the ends.
    pub follow: bool,
}

impl StreamRequest {
    fn scope(&self) -> Scope {
        Scope {
            family: "stream",
            partitions: self.partitions.iter().copied().collect(),
            workspaces: self.workspaces.iter().cloned().collect(),
            types: self.types.iter().cloned().collect(),
            content: Some(self.content),
        }
    }

    /// The scopes whose tokens serve: its own, and that of a load of its one workspace.
    fn accepted_scopes(&self) -> Vec<Bytes> {
        let mut scopes = vec![self.scope().fingerprint()];
        if let [workspace] = &*self.workspaces {
            scopes.push(Scope::of_workspace(workspace.clone(), self.types.clone()).fingerprint());
        }
        scopes
    }

    /// The partitions to be read, in order.
    fn selected(&self, count: PartitionCount) -> Result<Vec<Partition>, LoadError> {
        let mut asked = BTreeSet::new();
        for number in &self.partitions {
            let partition = count.partition(*number);
            asked.insert(partition.ok_or(LoadError::NoSuchPartition { got: *number, count: count.get() })?);
        }
        if self.workspaces.is_empty() {
            return Ok(if asked.is_empty() { count.all().collect() } else { asked.into_iter().collect() });
        }
        let mut selected = BTreeSet::new();
        for workspace in &self.workspaces {
            let partition = count.of_workspace(workspace.as_str().as_bytes());
            if !asked.is_empty() && !asked.contains(&partition) {
                let workspace = Shown(workspace.as_str()).to_string();
                return Err(LoadError::WorkspaceNotInPartitions { workspace, partition });
            }
            selected.insert(partition);
        }
        Ok(selected.into_iter().collect())
    }

    fn selection(&self, count: PartitionCount) -> Selection {
        let keys = match &*self.workspaces {
            [] => Keys::All,
            some => Keys::Workspaces(some.iter().cloned().collect()),
        };
        Selection { keys, types: self.types.clone(), partition_count: count }
    }
}

/// What a stream delivers, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamEvent {
    /// Records of one partition.
    Batch {
        /// The partition.
        partition: Partition,
        /// In order; not empty.
        records: Vec<Record>,
    },
    /// A partition's end.
    Snapshot(Snapshot),
    /// A place to resume from.
    Bookmark(Bytes),
}

/// Busy streams say where they are no more often than this; quiet ones each [`crate::log::PROGRESS_INTERVAL`].
const MIN_BOOKMARK_INTERVAL: Duration = Duration::from_secs(2);

/// A running stream. Holds its turns until it is dropped.
#[derive(Debug)]
pub struct RecordStream {
    topic: Arc<Topic>,
    scope: Bytes,
    replay: Replay,
    follow: bool,
    resumed: bool,
    deadline: Instant,
    /// Bytes that all folds together may hold.
    max_load_memory: usize,
    cursors: BTreeMap<Partition, Cursor>,
    /// Of partitions whose end is still to come.
    pending: HashMap<Partition, PendingPartition>,
    ready: VecDeque<StreamEvent>,
    last_bookmark: Instant,
    draining: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
    permit: ReplayPermit,
    _follow_permit: Option<FollowPermit>,
}

/// A place among the streams that follow.
#[derive(Debug)]
struct FollowPermit {
    _permit: OwnedSemaphorePermit,
    _peer_permit: PeerPermit,
    _running: Running,
}

#[derive(Debug)]
struct PendingPartition {
    fold: Option<Fold>,
    matched: MatchCounts,
}

/// A replay that ended without a word: must not pass for the end.
pub(super) fn ended_early(partition: Partition) -> LoadError {
    let cause = format!("the replay of partition {partition} broke off before its end");
    ReadError::Unreachable { cause }.into()
}

impl Changelog {
    /// Starts a stream. The deadline holds until the ends are reached; a stream that follows has none after them.
    pub async fn stream(
        &self,
        request: StreamRequest,
        peer: Peer,
        deadline: Instant,
    ) -> Result<RecordStream, LoadError> {
        let follow_permit = if request.follow {
            let permit = self.following.clone().try_acquire_owned();
            let permit =
                permit.map_err(|_| LoadError::TooManyFollowingStreams { limit: self.limits.max_following_streams })?;
            let limit = self.following_by_peer.limit();
            let peer_permit =
                self.following_by_peer.try_acquire(peer).ok_or(LoadError::TooManyFollowingStreamsOfPeer { limit })?;
            Some(FollowPermit {
                _permit: permit,
                _peer_permit: peer_permit,
                _running: self.metrics.following_stream_started(),
            })
        } else {
            None
        };
        let permit = self.replays.acquire(peer, deadline).await?;
        let topic = self.topic_for_read(deadline).await?;
        let partitions = request.selected(topic.partition_count)?;
        let cursors = match non_empty(&request.resume_token) {
            None => cursors_at_start(&partitions),
            Some(bytes) => {
                let token = Token::decode(bytes)?;
                token.check(&topic, &request.accepted_scopes(), &partitions, SystemTime::now())?;
                token.cursors
            }
        };
        let resumed = non_empty(&request.resume_token).is_some();
        let replay_request = ReplayRequest {
            topic: topic.clone(),
            partitions: cursors.iter().map(|(p, cursor)| (*p, cursor.start_at())).collect(),
            selection: request.selection(topic.partition_count),
            follow: request.follow,
            keep: request.content == Content::Latest,
            deadline,
        };
        let replay = timeout_at(deadline, self.log.replay(replay_request))
            .await
            .map_err(|_| LoadError::Deadline("the deadline passed before the end offsets were known".to_owned()))?
            .map_err(|error| offset_error_is_resync(error, resumed))?;
        let pending = |p: &Partition| {
            let fold = (request.content == Content::Latest).then(|| Fold::new(self.limits.max_load_memory));
            (*p, PendingPartition { fold, matched: MatchCounts::default() })
        };
        Ok(RecordStream {
            scope: request.scope().fingerprint(),
            replay,
            follow: request.follow,
            resumed,
            deadline,
            max_load_memory: self.limits.max_load_memory,
            pending: partitions.iter().map(pending).collect(),
            cursors,
            ready: VecDeque::new(),
            last_bookmark: Instant::now(),
            draining: self.draining.subscribe(),
            metrics: self.metrics.clone(),
            topic,
            permit,
            _follow_permit: follow_permit,
        })
    }
}

/// A resumed stream whose offset is no longer in the log, or no longer of its log, is to start again, not to be refused for
/// ever.
fn offset_error_is_resync(error: ReadError, resumed: bool) -> LoadError {
    match error {
        ReadError::OffsetOutOfRange { .. } | ReadError::Truncated { .. } if resumed => {
            TokenError::Resync(error.to_string()).into()
        }
        error => error.into(),
    }
}

impl RecordStream {
    /// The next event. `None`: every partition's summary has been delivered.
    pub async fn next(&mut self) -> Option<Result<StreamEvent, LoadError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.pending.is_empty() && !self.follow {
                return None;
            }
            let following = self.pending.is_empty();
            if following {
                self.permit.release_slot();
            }
            let event = tokio::select! {
                event = self.replay.next() => event,
                () = tokio::time::sleep_until(self.deadline), if !following => {
                    let pending: Vec<_> = self.pending.keys().map(Partition::to_string).collect();
                    let what = format!("the deadline passed before the end of partition {}", pending.join(", "));
                    return Some(Err(LoadError::Deadline(what)));
                }
                // A load may finish while the process drains; a stream that follows would never.
                () = async { let _ = self.draining.wait_for(|d| *d).await; }, if following => {
                    return Some(Err(ReadError::Draining.into()));
                }
            };
            let event = match event {
                Some(Ok(event)) => event,
                Some(Err(error)) => return Some(Err(offset_error_is_resync(error, self.resumed))),
                None => return Some(Err(ended_early(self.cursors.keys().next().copied()?))),
            };
            if let Err(error) = self.handle_event(event) {
                return Some(Err(error));
            }
        }
    }

    fn handle_event(&mut self, event: ReplayEvent) -> Result<(), LoadError> {
        match event {
            ReplayEvent::Records { partition, records, leader_epoch } => {
                self.records(partition, records, leader_epoch)?;
            }
            ReplayEvent::End(end) => self.end(end)?,
            ReplayEvent::Moving => {}
            ReplayEvent::Progress { partition, next_offset, leader_epoch, counts, at_end } => {
                self.metrics.replayed(counts);
                if let Some(cursor) = self.cursors.get_mut(&partition) {
                    cursor.next = Some(next_offset);
                    cursor.leader_epoch = leader_epoch;
                    cursor.as_of = at_end.unwrap_or(cursor.as_of);
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

    /// Partitions interleave, so that many may be folded at a time: the bound is on all of them.
    fn reserve_folds(&mut self, partition: Partition) -> Result<(), LoadError> {
        let fold_bytes: usize = self.pending.values().filter_map(|u| u.fold.as_ref()).map(Fold::weight).sum();
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
        self.cursors
            .insert(end.partition, Cursor { next: Some(end.end), leader_epoch: end.leader_epoch, as_of: end.at_end });
        let MatchCounts { entries, tombstones } = matched;
        let resume_token = self.token();
        self.ready.push_back(StreamEvent::Snapshot(Snapshot { end, entries, tombstones, resume_token }));
        Ok(())
    }

    /// A token that was young enough when it came, and what it took since to read from there to the end, must not be longer
    /// together than tombstones are kept.
    fn check_age(&self, partition: Partition) -> Result<(), LoadError> {
        let Some(cursor) = self.cursors.get(&partition).filter(|_| self.resumed) else { return Ok(()) };
        let age = SystemTime::now().duration_since(cursor.as_of).unwrap_or_default();
        let limit = self.topic.delete_retention;
        if age <= limit || !holds(Rule::R9) {
            return Ok(());
        }
        Err(TokenError::Resync(format!(
            "in partition {partition} it took until {} ms after it was given out to reach the end, and tombstones may be gone after \
             delete.retention.ms = {} ms",
            age.as_millis(),
            limit.as_millis()
        ))
        .into())
    }

    fn token(&self) -> Bytes {
        Token::new(&self.topic, self.scope.clone(), self.cursors.clone()).encode()
    }
}
