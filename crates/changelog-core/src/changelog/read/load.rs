//! Loads of one workspace, and gets of one entity.
//!
//! Promises: the result contains every write that was acknowledged before the call, or is an error.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use tokio::time::Instant;

use super::{fold::Snapshot, shared_replay::PeerLoad};
use crate::{
    changelog::{
        Changelog, LoadError, Peer,
        resume::{Cursor, Scope, Token},
    },
    log::{PartitionEnd, Selection, Topic},
    model::{Key, Partition, Record, WorkspaceId},
};

/// A complete load. It holds its replay permit, and the memory of its records, until it is dropped.
#[derive(Debug)]
pub struct Load {
    /// The proof that the partition was read completely.
    pub snapshot: Snapshot,
    /// The partition of the workspace.
    pub partition: Partition,
    replayed: PeerLoad,
}

impl Load {
    /// The latest records in the order of their offsets, without tombstones.
    pub fn records(&self) -> &[Record] {
        &self.replayed.loaded.records
    }

    /// Whether the records are shared with other loads of the same replay.
    pub fn is_shared(&self) -> bool {
        self.replayed.loaded.shared
    }
}

/// The result of a get.
#[derive(Debug)]
pub struct Get {
    /// The latest record of the key; `None` if the entity does not exist or was deleted.
    pub record: Option<Record>,
    /// The partition of the key.
    pub partition: Partition,
    /// The range of the partition that was read.
    pub end: PartitionEnd,
    /// Whether other requests share the replay.
    pub is_shared: bool,
}

impl Changelog {
    /// Loads the latest records of one workspace. No types means all types.
    ///
    /// Waits at most until `deadline`. It waits at most [`Limits::replay_queue_timeout`] for a permit of `peer`, and as
    /// long for a replay permit. Every error means that there is no result: see [`LoadError`].
    ///
    /// [`Limits::replay_queue_timeout`]: crate::changelog::Limits::replay_queue_timeout
    pub async fn load(
        &self,
        workspace: WorkspaceId,
        types: HashSet<String>,
        peer: Peer,
        deadline: Instant,
    ) -> Result<Load, LoadError> {
        let topic = self.topic_for_read(deadline).await?;
        self.load_in(&topic, workspace, types, peer, deadline).await
    }

    /// As [`Changelog::load`], from this topic.
    pub(super) async fn load_in(
        &self,
        topic: &Arc<Topic>,
        workspace: WorkspaceId,
        types: HashSet<String>,
        peer: Peer,
        deadline: Instant,
    ) -> Result<Load, LoadError> {
        let partition = topic.partition_count.of_workspace(workspace.as_str().as_bytes());
        let selection = Selection::workspace(workspace.clone(), types.clone(), topic.partition_count);
        let replayed = self.load_partition(topic, partition, selection, peer, deadline).await?;
        let (loaded, end) = (&replayed.loaded, replayed.loaded.end);
        let (cursors, scope) =
            (BTreeMap::from([(partition, Cursor::at_end(&end))]), Scope::of_workspace(workspace, types));
        let snapshot = Snapshot {
            end,
            entries: loaded.matched.entries,
            tombstones: loaded.matched.tombstones,
            resume_token: Token::new(topic, scope.fingerprint(), cursors).encode(),
        };
        Ok(Load { snapshot, partition, replayed })
    }

    /// Reads the latest record of one key. Limits and errors are those of [`Changelog::load`].
    pub async fn get(&self, key: Key, peer: Peer, deadline: Instant) -> Result<Get, LoadError> {
        let topic = self.topic_for_read(deadline).await?;
        let partition = topic.partition_count.of_workspace(key.workspace_bytes());
        let selection = Selection::key(key, topic.partition_count);
        let loaded = self.load_partition(&topic, partition, selection, peer, deadline).await?.loaded;
        Ok(Get { record: loaded.records.last().cloned(), partition, end: loaded.end, is_shared: loaded.shared })
    }
}
