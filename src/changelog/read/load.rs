//! One workspace, or one entity, as it is now: folded, whole, or an error.

use std::{
    collections::{BTreeMap, HashSet},
    time::SystemTime,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{fold::Snapshot, shared_replay::Arrived, stream::Scope};
use crate::{
    changelog::{
        Changelog, LoadError, Peer,
        resume::{Cursor, Token},
    },
    log::{PartitionEnd, Selection},
    model::{Key, Partition, Record, WorkspaceId},
};

/// A whole load. Holds its turn among the replays until it is dropped.
#[derive(Debug)]
pub struct Load {
    /// The proof.
    pub snapshot: Snapshot,
    /// Where they are.
    pub partition: Partition,
    arrived: Arrived,
}

impl Load {
    /// The latest records, in the order of their last change; no tombstones.
    pub fn records(&self) -> &[Record] {
        &self.arrived.loaded.records
    }

    /// Whether the replay was others', too.
    pub fn is_shared(&self) -> bool {
        self.arrived.loaded.shared
    }
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
        let topic = self.topic_for_read(deadline).await?;
        let partition = topic.partition_count.of_workspace(workspace.as_str().as_bytes());
        let selection = Selection::workspace(workspace.clone(), types.clone(), topic.partition_count);
        let arrived = self.load_partition(&topic, partition, selection, peer, deadline).await?;
        let (loaded, end) = (&arrived.loaded, arrived.loaded.end);
        let cursor = Cursor { next: Some(end.end), leader_epoch: end.leader_epoch, as_of: end.at_end };
        let scope = Scope::of_workspace(workspace, types);
        let snapshot = Snapshot {
            end,
            entries: loaded.matched.entries,
            tombstones: loaded.matched.tombstones,
            resume_token: Token::new(&topic, scope.fingerprint(), BTreeMap::from([(partition, cursor)])).encode(),
        };
        Ok(Load { snapshot, partition, arrived })
    }

    /// One entity.
    pub async fn get(&self, key: Key, peer: Peer, deadline: Instant) -> Result<Get, LoadError> {
        let topic = self.topic_for_read(deadline).await?;
        let partition = topic.partition_count.of_workspace(key.workspace_bytes());
        let selection = Selection::key(key, topic.partition_count);
        let loaded = self.load_partition(&topic, partition, selection, peer, deadline).await?.loaded;
        Ok(Get { record: loaded.records.last().cloned(), partition, end: loaded.end })
    }
}

/// An empty token is no token.
pub(super) fn non_empty(token: &Bytes) -> Option<&Bytes> {
    (!token.is_empty()).then_some(token)
}

/// When a stream began, as a cursor that has read nothing.
pub(super) fn cursors_at_start(partitions: &[Partition]) -> BTreeMap<Partition, Cursor> {
    let now = SystemTime::now();
    partitions.iter().map(|p| (*p, Cursor::start(now))).collect()
}
