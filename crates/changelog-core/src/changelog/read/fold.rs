//! Folding: the latest record of each key, and the snapshot that proves a partition was read completely.
//!
//! Promises: the record with the greatest offset wins. The memory of a fold is limited. A key that is overwritten often
//! costs no more memory than one that is not.
//! Does not: read. It takes records in the order of their offsets.

use std::hash::BuildHasher as _;

use bytes::Bytes;
use foldhash::quality::RandomState;
use hashbrown::{HashTable, hash_table::Entry};

use crate::{
    changelog::LoadError,
    log::PartitionEnd,
    model::{Partition, Record},
};

/// The proof that one partition was read completely: all records of its range came before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The range that was read, and counts of all records in it.
    pub end: PartitionEnd,
    /// Matching records with a value; of a folded read, keys whose last record has one.
    pub entries: u64,
    /// Matching tombstones; of a folded read, keys whose last record is one.
    pub tombstones: u64,
    /// A stream with this token continues after this snapshot.
    pub resume_token: Bytes,
}

/// Records of one partition that matched the selection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MatchCounts {
    pub entries: u64,
    pub tombstones: u64,
}

impl MatchCounts {
    /// Adds records that are delivered without folding.
    pub fn count(&mut self, records: &[Record]) {
        let tombstones = records.iter().filter(|r| r.is_tombstone()).count() as u64;
        self.tombstones += tombstones;
        self.entries += records.len() as u64 - tombstones;
    }
}

/// The latest record of each key of one partition.
#[derive(Debug, Default)]
pub struct Fold {
    /// In the order of their offsets. `None` for a superseded record.
    records: Vec<Option<Record>>,
    /// The index in `records` of the latest record of each key.
    latest: HashTable<usize>,
    hasher: RandomState,
    memory_size: usize,
    limit: usize,
}

/// The fold would take more memory than it may.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// The limit, in bytes.
    pub limit: usize,
}

impl TooLarge {
    pub fn in_partition(self, partition: Partition) -> LoadError {
        LoadError::TooLarge { partition, limit: self.limit }
    }
}

impl Fold {
    /// An empty fold that may take `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    /// Bytes of memory that it takes, estimated.
    pub fn memory_size(&self) -> usize {
        self.memory_size
    }

    /// Adds records in the order of their offsets. Their buffers must not be shared with other records
    /// ([`ReplayRequest::owned_records`]): a small record could keep a large buffer in memory.
    ///
    /// [`ReplayRequest::owned_records`]: crate::log::ReplayRequest::owned_records
    pub fn apply(&mut self, records: impl IntoIterator<Item = Record>) -> Result<(), TooLarge> {
        for record in records {
            let last = self.records.last().and_then(Option::as_ref);
            debug_assert!(last.is_none_or(|last| last.offset < record.offset), "{last:?} and then {record:?}");
            self.memory_size += record.memory_size();
            // Tombstones are kept until the end: a resumed stream delivers them, and every read counts them.
            let superseded = self.insert(record).and_then(|index| self.records[index].take());
            self.memory_size -= superseded.map_or(0, |record| record.memory_size());
            if self.memory_size > self.limit {
                return Err(TooLarge { limit: self.limit });
            }
        }
        Ok(())
    }

    /// Adds a record. Returns the index of the record that it supersedes.
    fn insert(&mut self, record: Record) -> Option<usize> {
        if self.records.len() == self.records.capacity() && self.latest.len() <= self.records.len() / 2 {
            self.compact();
        }
        let (records, hasher) = (&self.records, &self.hasher);
        let key_at = |at: &usize| records[*at].as_ref().map_or(&[][..], |record| &record.key);
        let at = records.len();
        let entry = self.latest.entry(
            hasher.hash_one(&record.key[..]),
            |other| key_at(other) == record.key,
            |other| hasher.hash_one(key_at(other)),
        );
        let superseded = match entry {
            Entry::Occupied(mut latest) => Some(std::mem::replace(latest.get_mut(), at)),
            Entry::Vacant(free) => {
                free.insert(at);
                None
            }
        };
        self.records.push(Some(record));
        superseded
    }

    /// Removes superseded records. Called instead of growing when they are at least half of all.
    fn compact(&mut self) {
        self.records.retain(Option::is_some);
        self.latest.clear();
        let hash = |record: &Option<Record>| self.hasher.hash_one(record.as_ref().map_or(&[][..], |r| &r.key));
        for (at, record) in self.records.iter().enumerate() {
            self.latest.insert_unique(hash(record), at, |other| hash(&self.records[*other]));
        }
    }

    /// The latest records in the order of their offsets, and their counts. Tombstones are counted, and returned on
    /// request.
    pub fn finish(self, with_tombstones: bool) -> (Vec<Record>, MatchCounts) {
        let mut records: Vec<_> = self.records.into_iter().flatten().collect();
        let mut matched = MatchCounts::default();
        matched.count(&records);
        if !with_tombstones {
            records.retain(|r| !r.is_tombstone());
        }
        // The records stay in memory until the slowest client has received them.
        records.shrink_to_fit();
        (records, matched)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn record(offset: usize, key: u8, value: Option<u8>) -> Record {
        Record {
            offset: offset as i64,
            timestamp: None,
            key: Bytes::copy_from_slice(&[key]),
            value: value.map(|v| Bytes::copy_from_slice(&[v])),
            headers: Vec::new(),
        }
    }

    proptest! {
        /// Covers C22, R10.
        #[test]
        fn folding_any_records_gives_the_map_they_describe(
            changes in prop::collection::vec((0..8u8, any::<Option<u8>>()), 0..64),
        ) {
            let mut model = BTreeMap::new();
            let mut fold = Fold::new(usize::MAX);
            for (offset, (key, value)) in changes.iter().enumerate() {
                model.insert(*key, (*value, offset));
                fold.apply(vec![record(offset, *key, *value)]).unwrap();
            }
            let mut expected: Vec<_> = model.into_iter().map(|(k, (v, o))| record(o, k, v)).collect();
            expected.sort_by_key(|r| r.offset);
            let deleted = expected.iter().filter(|r| r.is_tombstone()).count() as u64;
            prop_assert!(fold.records.capacity() <= 4 * expected.len().max(1), "{}", fold.records.capacity());
            let (records, matched) = fold.finish(true);
            prop_assert_eq!(records.capacity(), records.len());
            prop_assert_eq!(&records, &expected);
            prop_assert_eq!(matched, MatchCounts { entries: expected.len() as u64 - deleted, tombstones: deleted });
        }
    }

    /// Covers R21.
    #[test]
    fn superseded_records_return_their_memory_and_the_limit_holds() {
        let one = record(0, 1, Some(1)).memory_size();
        let mut fold = Fold::new(2 * one);
        for offset in 0..100 {
            fold.apply(vec![record(offset, 0, Some(1))]).unwrap();
        }
        fold.apply(vec![record(100, 1, Some(1))]).unwrap();
        assert_eq!(fold.apply(vec![record(101, 2, Some(1))]), Err(TooLarge { limit: 2 * one }));
    }
}
