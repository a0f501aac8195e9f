//! What a stream is asked for.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;

use crate::{
    changelog::{
        LoadError,
        resume::{Content, Scope},
    },
    log::{Keys, Selection},
    model::{Escaped, Partition, PartitionCount, WorkspaceId},
};

/// A request for a stream.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// Partitions to read; empty means all.
    pub partitions: Vec<i32>,
    /// Workspaces to deliver; empty means all.
    pub workspaces: Vec<WorkspaceId>,
    /// Entity types to deliver; empty means all.
    pub types: HashSet<String>,
    /// Which records to deliver.
    pub content: Content,
    /// Where to continue; empty means from the low watermarks.
    pub resume_token: Bytes,
    /// Whether to deliver new records after the end offsets.
    pub follow: bool,
}

impl StreamRequest {
    pub(super) fn scope(&self) -> Scope {
        Scope::of_stream(&self.partitions, &self.workspaces, &self.types, self.content)
    }

    /// Fingerprints of the scopes whose tokens are accepted: its own, and of a load if it names one workspace.
    pub(super) fn accepted_scopes(&self) -> Vec<Bytes> {
        let mut scopes = vec![self.scope().fingerprint()];
        if let [workspace] = &*self.workspaces {
            scopes.push(Scope::of_workspace(workspace.clone(), self.types.clone()).fingerprint());
        }
        scopes
    }

    /// The partitions to read, in order.
    pub(super) fn selected(&self, count: PartitionCount) -> Result<Vec<Partition>, LoadError> {
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
                let workspace = Escaped(workspace.as_str()).to_string();
                return Err(LoadError::WorkspaceNotInPartitions { workspace, partition });
            }
            selected.insert(partition);
        }
        Ok(selected.into_iter().collect())
    }

    pub(super) fn selection(&self, count: PartitionCount) -> Selection {
        let keys = match &*self.workspaces {
            [] => Keys::All,
            some => Keys::Workspaces(some.iter().cloned().collect()),
        };
        Selection { keys, types: self.types.clone(), partition_count: count }
    }
}
