//! What a watch remembers of the changes that it delivered.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    time::SystemTime,
};

use crate::{Entry, Key};

/// How many entities are remembered. With keys of the largest size that is about 12 MiB.
const MOST_ENTITIES: usize = 10_000;

/// The entities that were delivered after the newest token, each with its last record. A watch that resumes gets them
/// again, as far as the log still has them.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    records: HashMap<Key, (Version, u64)>,
    /// Counts the calls, because what comes again must come in one of them.
    attempt: u64,
    overflowed: bool,
    hasher: RandomState,
}

/// Tells two records of an entity apart. After an unclean election an offset may have another record.
#[derive(Debug, PartialEq)]
struct Version {
    offset: i64,
    timestamp: Option<SystemTime>,
    is_tombstone: bool,
    value_hash: u64,
}

impl Delivered {
    pub(crate) fn begin_attempt(&mut self) {
        self.attempt += 1;
    }

    /// A newer token covers what came before.
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.overflowed = false;
    }

    /// Remembers an entry. False if the last delivered record of its entity was the same one.
    pub(crate) fn is_new(&mut self, entry: &Entry) -> bool {
        let version = Version {
            offset: entry.position.offset,
            timestamp: entry.timestamp,
            is_tombstone: entry.is_tombstone(),
            value_hash: self.hasher.hash_one(&entry.value),
        };
        if let Some((last, attempt)) = self.records.get_mut(&entry.key) {
            *attempt = self.attempt;
            let is_new = *last != version;
            *last = version;
            return is_new;
        }
        if self.records.len() < MOST_ENTITIES {
            self.records.insert(entry.key.clone(), (version, self.attempt));
        } else {
            self.overflowed = true;
        }
        true
    }

    /// Whether each remembered entity has come in this attempt.
    pub(crate) fn is_whole(&self) -> bool {
        self.records.values().all(|(_, attempt)| *attempt == self.attempt)
    }

    /// Whether an entity was delivered and not remembered. Then the token can't be used.
    pub(crate) fn has_overflowed(&self) -> bool {
        self.overflowed
    }
}
