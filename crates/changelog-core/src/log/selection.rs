//! The selection of records that a replay delivers. Backends check it in their read loop, before they copy a record.

use std::{borrow::Borrow, collections::HashSet, hash::Hash};

use crate::model::{Key, KeyRef, Partition, PartitionCount, WorkspaceId};

/// The class of a record for a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Written by another program: it has no key, or a key that is not valid.
    Foreign,
    /// Its workspace belongs to another partition.
    Misplaced,
    /// A valid record that is not selected.
    Unwanted,
    /// A selected record.
    Wanted,
}

/// The keys of a selection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// All keys.
    All,
    /// The keys of these workspaces.
    Workspaces(HashSet<WorkspaceId>),
    /// One key.
    One(Key),
}

/// Which records a replay delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The keys.
    pub keys: Keys,
    /// The entity types; empty means all.
    pub types: HashSet<String>,
    /// The partition count of the topic, to recognize misplaced records.
    pub partition_count: PartitionCount,
}

impl Selection {
    /// All records of a topic.
    pub fn all(partition_count: PartitionCount) -> Self {
        Self { keys: Keys::All, types: HashSet::new(), partition_count }
    }

    /// The records of one workspace.
    pub fn workspace(workspace: WorkspaceId, types: HashSet<String>, partition_count: PartitionCount) -> Self {
        Self { keys: Keys::Workspaces(HashSet::from([workspace])), types, partition_count }
    }

    /// The records of one key.
    pub fn key(key: Key, partition_count: PartitionCount) -> Self {
        Self { keys: Keys::One(key), types: HashSet::new(), partition_count }
    }

    /// The class of a record with this key in this partition. `None` is a record without a key.
    pub fn classify(&self, partition: Partition, key: Option<&[u8]>) -> Class {
        let Some(Ok(key)) = key.map(KeyRef::parse) else {
            return Class::Foreign;
        };
        if self.partition_count.of_workspace(key.workspace().as_bytes()) != partition {
            return Class::Misplaced;
        }
        if self.wants(key) { Class::Wanted } else { Class::Unwanted }
    }

    /// Whether a key is selected. The caller knows that it is in the right partition.
    pub fn wants(&self, key: KeyRef<'_>) -> bool {
        let by_key = match &self.keys {
            Keys::All => true,
            Keys::Workspaces(set) => has(set, key.workspace()),
            Keys::One(one) => one.as_str() == key.as_str(),
        };
        by_key && (self.types.is_empty() || has(&self.types, key.entity_type()))
    }
}

/// Whether the set contains `wanted`. Called for each key of a partition. Most sets have one element, and comparing it
/// costs less than hashing.
fn has<T: Borrow<str> + Eq + Hash>(set: &HashSet<T>, wanted: &str) -> bool {
    if set.len() == 1 { set.iter().any(|one| one.borrow() == wanted) } else { set.contains(wanted) }
}

/// Counts of all records that a replay read in a partition, selected or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records that the log delivered.
    pub read: u64,
    /// Foreign records among them.
    pub skipped: u64,
    /// Records in the wrong partition among them.
    pub misplaced: u64,
    /// Bytes of their keys and values, as far as the log has read them.
    pub bytes: u64,
    /// Header names of selected records that were not UTF-8. Their invalid parts became U+FFFD.
    pub lossy_header_names: u64,
}

impl Counts {
    /// Counts one record, and the bytes of its key and value.
    pub fn count(&mut self, class: Class, bytes: usize) {
        self.read += 1;
        self.bytes += bytes as u64;
        match class {
            Class::Foreign => self.skipped += 1,
            Class::Misplaced => self.misplaced += 1,
            Class::Unwanted | Class::Wanted => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers C7, C50.
    #[test]
    fn foreign_misplaced_unselected_and_selected_records_are_distinguished() {
        let count = PartitionCount::new(10).unwrap();
        let home = count.of_workspace(b"ws");
        let away = count.partition((home.number() + 1) % 10).unwrap();
        let selection = Selection::workspace(WorkspaceId::parse("ws").unwrap(), HashSet::from(["a".into()]), count);
        assert_eq!(selection.classify(home, None), Class::Foreign);
        assert_eq!(selection.classify(home, Some(b"\xff")), Class::Foreign);
        assert_eq!(selection.classify(home, Some(b"no-slash")), Class::Foreign);
        assert_eq!(selection.classify(away, Some(b"ws/a/1")), Class::Misplaced);
        assert_eq!(selection.classify(home, Some(b"ws/b/1")), Class::Unwanted);
        assert_eq!(selection.classify(home, Some(b"ws/a/1")), Class::Wanted);
        let of_two = Selection { types: HashSet::from(["a".into(), "c".into()]), ..selection };
        assert_eq!(of_two.classify(home, Some(b"ws/b/1")), Class::Unwanted);
        assert_eq!(of_two.classify(home, Some(b"ws/c/1")), Class::Wanted);
        let one = Selection::key(Key::parse("ws/a/1").unwrap(), count);
        assert_eq!(one.classify(home, Some(b"ws/a/1")), Class::Wanted);
        assert_eq!(one.classify(home, Some(b"ws/a/2")), Class::Unwanted);
    }
}
