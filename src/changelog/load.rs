//! One workspace, or one entity, as it is now: folded, whole, or an error.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{
    Changelog, LoadError, Peer, Summary,
    snapshot::Fold,
    stream::Scope,
    token::{Cursor, Token},
    turns::Turn,
};
use crate::{
    log::{PartitionEnd, Replay, ReplayEvent, ReplayRequest, Selection, StartAt, Topic},
    model::{Key, Partition, Record, WorkspaceId},
    rule::{Rule, holds},
};

/// A whole load. Holds its turn among the replays until it is dropped.
#[derive(Debug)]
pub struct Load {
    /// The latest records, in the order of their last change; no tombstones.
    pub records: Vec<Record>,
    /// The proof.
    pub summary: Summary,
    /// Where they are.
    pub partition: Partition,
    _turn: Turn,
}

/// One entity that was looked for.
#[derive(Debug)]
pub struct Get {
    /// Its latest record, if it is there and not deleted.
    pub record: Option<Record>,
    /// Where it was looked for.
    pub partition: Partition,
    /// How far.
    pub end: PartitionEnd,
}

impl Changelog {
    /// The state of one workspace.
    pub async fn load(
        &self,
        workspace: WorkspaceId,
        types: HashSet<String>,
        peer: Peer,
        deadline: Instant,
    ) -> Result<Load, LoadError> {
        let mut turn = self.replays.take(peer, deadline).await?;
        let topic = self.topic_for_read(deadline).await?;
        let partition = topic.partition_count.of_workspace(workspace.as_str().as_bytes());
        let selection = Selection::workspace(workspace.clone(), types.clone(), topic.partition_count);
        let (records, end) = self.replay_one(&mut turn, &topic, partition, selection, deadline).await?;
        let (records, matched) = records.finish(false);
        let cursor = Cursor { next: Some(end.end), leader_epoch: end.leader_epoch, as_of: end.at_end };
        let scope = Scope::of_workspace(workspace, types);
        let summary = Summary {
            end,
            entries: matched.entries,
            tombstones: matched.tombstones,
            resume_token: Token::new(&topic, scope.fingerprint(), BTreeMap::from([(partition, cursor)])).encode(),
        };
        Ok(Load { records, summary, partition, _turn: turn })
    }

    /// One entity.
    pub async fn get(&self, key: Key, peer: Peer, deadline: Instant) -> Result<Get, LoadError> {
        let mut turn = self.replays.take(peer, deadline).await?;
        let topic = self.topic_for_read(deadline).await?;
        let partition = topic.partition_count.of_workspace(key.workspace_bytes());
        let selection = Selection::key(key, topic.partition_count);
        let (records, end) = self.replay_one(&mut turn, &topic, partition, selection, deadline).await?;
        let record = records.finish(false).0.pop();
        Ok(Get { record, partition, end })
    }

    /// Replays one partition from its low watermark to its end, folded.
    async fn replay_one(
        &self,
        turn: &mut Turn,
        topic: &Arc<Topic>,
        partition: Partition,
        selection: Selection,
        deadline: Instant,
    ) -> Result<(Fold, PartitionEnd), LoadError> {
        let request = ReplayRequest {
            topic: topic.clone(),
            partitions: vec![(partition, StartAt::Low)],
            selection,
            follow: false,
            deadline,
        };
        let late = |_| LoadError::Deadline(format!("the deadline passed while partition {partition} was replayed"));
        let mut replay: Replay = timeout_at(deadline, self.log.replay(request)).await.map_err(late)??;
        let mut fold = Fold::new(self.limits.max_load_bytes);
        loop {
            match timeout_at(deadline, replay.next()).await.map_err(late)? {
                Some(Ok(ReplayEvent::Records { records, .. })) => {
                    fold.apply(records).map_err(|e| e.in_partition(partition))?;
                    turn.hold(fold.weight())?;
                }
                Some(Ok(ReplayEvent::End(end))) => {
                    self.metrics.replayed(end.counts);
                    return Ok((fold, end));
                }
                Some(Ok(ReplayEvent::Progress { .. })) => {}
                Some(Err(error)) => return Err(error.into()),
                None if !holds(Rule::R8) => return Ok((fold, PartitionEnd::of_nothing(partition))),
                None => return Err(super::stream::broke_off(partition)),
            }
        }
    }
}

/// An empty token is no token.
pub(super) fn given(token: &Bytes) -> Option<&Bytes> {
    (!token.is_empty()).then_some(token)
}

/// When a stream began, as a cursor that has read nothing.
pub(super) fn cursors_at_start(partitions: &[Partition]) -> BTreeMap<Partition, Cursor> {
    let now = SystemTime::now();
    partitions.iter().map(|p| (*p, Cursor::start(now))).collect()
}
