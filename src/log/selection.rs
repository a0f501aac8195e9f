//! What a replay is to deliver. Backends ask it in their read loop, before a record is copied.

use std::{borrow::Borrow, collections::HashSet, hash::Hash};

use crate::model::{Key, KeyRef, Partition, PartitionCount, WorkspaceId};

/// What a record is to a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Foreign: no key, or a key outside the grammar.
    Foreign,
    /// Its workspace belongs to another partition.
    Misplaced,
    /// A good record that was not asked for.
    Unwanted,
    /// To be delivered.
    Wanted,
}

/// Which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// All.
    All,
    /// Of these workspaces.
    Workspaces(HashSet<WorkspaceId>),
    /// This one.
    One(Key),
}

/// Which records a replay delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Which keys.
    pub keys: Keys,
    /// Of these entity types; empty = all.
    pub types: HashSet<String>,
    /// The topic's count, by which misplaced records are known.
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

    /// What the record with this key, read from this partition, is to this replay.
    pub fn classify(&self, partition: Partition, key: Option<&[u8]>) -> Class {
        let Some(Ok(key)) = key.map(KeyRef::parse) else {
            return Class::Foreign;
        };
        if self.partition_count.of_workspace(key.workspace().as_bytes()) != partition {
            return Class::Misplaced;
        }
        if self.wants(key) { Class::Wanted } else { Class::Unwanted }
    }

    /// Whether a key in its right place is asked for.
    pub fn wants(&self, key: KeyRef<'_>) -> bool {
        let by_key = match &self.keys {
            Keys::All => true,
            Keys::Workspaces(set) => has(set, key.workspace()),
            Keys::One(one) => one.as_str() == key.as_str(),
        };
        by_key && (self.types.is_empty() || has(&self.types, key.entity_type()))
    }
}

/// Whether it is in the set. Of each key of a partition: most often the set is of one, and hashing costs more than a look at it.
fn has<T: Borrow<str> + Eq + Hash>(set: &HashSet<T>, wanted: &str) -> bool {
    if set.len() == 1 { set.iter().any(|one| one.borrow() == wanted) } else { set.contains(wanted) }
}

/// What a replay met on its way through a partition, before filters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records delivered by the log.
    pub read: u64,
    /// Of these, foreign.
    pub skipped: u64,
    /// Of these, in the wrong partition.
    pub misplaced: u64,
    /// Header names of wanted records that were not UTF-8, and were replaced lossily.
    pub renamed_headers: u64,
}

impl Counts {
    /// Counts one record.
    pub fn count(&mut self, class: Class) {
        self.read += 1;
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

    #[test]
    fn foreign_misplaced_unwanted_and_wanted_records_are_told_apart() {
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
