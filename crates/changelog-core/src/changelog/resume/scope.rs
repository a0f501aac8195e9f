//! The scope of a stream: what it covers. A resume token is valid for one scope.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::model::WorkspaceId;

/// Which records a stream delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Every record that is still in the log.
    Records,
    /// The latest value of each key.
    Latest,
}

/// Partitions, workspaces, types and content of a stream. A token is valid for one scope only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    family: &'static str,
    partitions: BTreeSet<i32>,
    workspaces: BTreeSet<WorkspaceId>,
    types: BTreeSet<String>,
    content: Option<Content>,
}

impl Scope {
    /// The scope of a load of one workspace.
    pub fn of_workspace(workspace: WorkspaceId, types: HashSet<String>) -> Self {
        Self {
            family: "workspace",
            partitions: BTreeSet::new(),
            workspaces: BTreeSet::from([workspace]),
            types: types.into_iter().collect(),
            content: None,
        }
    }

    /// The scope of a stream.
    pub fn of_stream(
        partitions: &[i32],
        workspaces: &[WorkspaceId],
        types: &HashSet<String>,
        content: Content,
    ) -> Self {
        Self {
            family: "stream",
            partitions: partitions.iter().copied().collect(),
            workspaces: workspaces.iter().cloned().collect(),
            types: types.iter().cloned().collect(),
            content: Some(content),
        }
    }

    /// A hash of 16 bytes that identifies the scope in tokens. Lists are length-prefixed before hashing, so different
    /// scopes have different input.
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
