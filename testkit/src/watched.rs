//! What a watch delivered, and whether it keeps etcd's guarantees for watches:
//!
//! - **Ordered**: offsets increase. Those of changes are not below the end offset of `Synced`.
//! - **Unique**: before `Synced` each key comes once, and no offset comes twice.
//! - **Resumable, bookmarkable**: after a resume nothing comes that was delivered before the token, and what came after
//!   the token comes again.
//! - **Synced whole, final changes**: `Synced` counts what came. The state is what the acknowledged writes say, see
//!   [`Watched::differs`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

#[cfg(test)]
mod tests;

/// Offset and value of a key; a deleted key has no value.
type Last = (i64, Option<String>);

#[derive(Debug, Clone)]
struct AtToken {
    token: Vec<u8>,
    /// The last offset that must not come again.
    floor: i64,
    state: BTreeMap<String, Last>,
    place: Place,
}

/// What is known of the offset at which a token continues. Both bounds are included.
#[derive(Debug, Clone, Copy)]
struct Place {
    at_least: i64,
    at_most: i64,
}

const ANYWHERE: Place = Place { at_least: 0, at_most: i64::MAX };

/// What the `Snapshot` of `Synced` says.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotFacts<'a> {
    /// The first offset of the range.
    pub start: i64,
    /// The end offset, exclusive.
    pub end: i64,
    /// Records that the log delivered in the range.
    pub records_read: u64,
    /// Entries with a value that were delivered.
    pub entries: u64,
    /// Tombstones. Only a resumed watch delivers them.
    pub tombstones: u64,
    /// The resume token.
    pub token: &'a [u8],
}

/// A write of one key.
#[derive(Debug, Clone)]
pub struct Written {
    pub key: String,
    /// `None` is a delete.
    pub value: Option<String>,
    /// `None` if it is not known whether it was written.
    pub offset: Option<i64>,
}

/// What one client of a watch knows.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    state: BTreeMap<String, Last>,
    /// Its newest token, and what it knew there.
    at_token: Option<AtToken>,
    /// The place of the token that the watch was resumed with; `None` for a start.
    resumed: Option<Place>,
    /// The end offset of `Synced`; `None` before it.
    synced: Option<i64>,
    /// Keys that came before `Synced`.
    in_state: BTreeMap<String, i64>,
    /// The first and the last offset that came before `Synced`, and how many tombstones.
    state_offsets: Option<(i64, i64)>,
    tombstones_in_state: u64,
    /// The offset of the last entry; -1 before the first.
    last: i64,
    /// The offset of the first entry after the newest token.
    first_since_token: Option<i64>,
    /// The last offset that must not come again. Without a loss of the log that is all below the end of a state.
    /// Otherwise it is the last offset that was delivered: a reader that has read no record at all starts again at the
    /// low watermark, and a log that was truncated has new records there.
    floor: i64,
    /// Keys whose entries came after the token that was resumed, and the offset of the last one. They must come again.
    to_come_again: BTreeMap<String, i64>,
    /// Above all offsets that this client has ever heard of.
    highest_end: i64,
    /// Elections or administrators may remove acknowledged records.
    log_may_lose: bool,
    changes: u64,
    /// Offsets of the changes since the last start or resume.
    changed: BTreeSet<i64>,
}

impl Watched {
    /// A client that knows nothing, of a log that loses no record.
    pub fn new() -> Self {
        Self { last: -1, floor: -1, ..Self::default() }
    }

    /// A client that knows nothing, of a log that may be truncated, or from which records may be deleted.
    pub fn of_a_log_that_may_lose() -> Self {
        Self { log_may_lose: true, ..Self::new() }
    }

    /// A client that continues from a token that it got elsewhere.
    pub fn with_a_token_of_another_call() -> Self {
        Self { resumed: Some(ANYWHERE), ..Self::new() }
    }

    /// An entry of a batch.
    pub fn entry(&mut self, key: &str, offset: i64, value: Option<&str>) -> Result<(), String> {
        if offset <= self.last {
            return Err(format!("{key} at offset {offset} came after offset {}", self.last));
        }
        if offset <= self.floor {
            return Err(format!("{key} at offset {offset} came again after a resume above offset {}", self.floor));
        }
        match self.synced {
            Some(end) if offset < end => {
                return Err(format!("a change of {key} has offset {offset}, below the end {end} of the state"));
            }
            Some(_) => {
                self.changes += 1;
                self.changed.insert(offset);
            }
            None => self.entry_of_state(key, offset, value)?,
        }
        self.last = offset;
        self.highest_end = self.highest_end.max(offset + 1);
        self.first_since_token.get_or_insert(offset);
        self.state.insert(key.to_owned(), (offset, value.map(str::to_owned)));
        Ok(())
    }

    fn entry_of_state(&mut self, key: &str, offset: i64, value: Option<&str>) -> Result<(), String> {
        if self.resumed.is_none() && value.is_none() {
            return Err(format!("a tombstone of {key} at offset {offset} is in a state that was not resumed"));
        }
        if let Some(before) = self.in_state.insert(key.to_owned(), offset) {
            return Err(format!("{key} is in the state twice, at offsets {before} and {offset}"));
        }
        let first = self.state_offsets.map_or(offset, |(first, _)| first);
        self.state_offsets = Some((first, offset));
        self.tombstones_in_state += u64::from(value.is_none());
        Ok(())
    }

    /// `Synced`, with what its snapshot says.
    pub fn synced(&mut self, snapshot: SnapshotFacts<'_>) -> Result<(), String> {
        let SnapshotFacts { start, end, records_read, .. } = snapshot;
        if let Some(before) = self.synced {
            return Err(format!("Synced came twice, at {before} and {end}"));
        }
        if start > end || self.state_offsets.is_some_and(|(first, last)| first < start || last >= end) {
            return Err(format!("Synced says [{start}, {end}) after entries at offsets {:?}", self.state_offsets));
        }
        self.check_counts(&snapshot)?;
        self.check_place(start)?;
        if !self.log_may_lose {
            if end < self.highest_end {
                return Err(format!(
                    "Synced says [{start}, {end}), and the log had reached {} before",
                    self.highest_end
                ));
            }
            let has = |key: &str, offset| self.state.get(key).is_some_and(|(found, _)| *found >= offset);
            if let Some((key, offset)) = self.to_come_again.iter().find(|(key, offset)| !has(key, **offset)) {
                let found = self.state.get(key);
                return Err(format!("{key} at offset {offset} came after the token, and then not again: {found:?}"));
            }
            self.floor = self.floor.max(end - 1);
        }
        self.to_come_again.clear();
        self.synced = Some(end);
        self.highest_end = self.highest_end.max(end);
        // Each record that was read is below the place of the token.
        let at_least = start.saturating_add(records_read.try_into().unwrap_or(i64::MAX));
        self.keep(snapshot.token, at_least, end)
    }

    fn check_counts(&self, snapshot: &SnapshotFacts<'_>) -> Result<(), String> {
        let SnapshotFacts { start, end, records_read, entries, tombstones, .. } = *snapshot;
        let (came, came_deleted) = (self.in_state.len() as u64 - self.tombstones_in_state, self.tombstones_in_state);
        if entries != came || self.resumed.is_some() && tombstones != came_deleted {
            return Err(format!(
                "Synced counts {entries} entries and {tombstones} tombstones, {came} and {came_deleted} came"
            ));
        }
        if entries + tombstones > records_read || records_read > end.abs_diff(start) {
            return Err(format!(
                "Synced counts {entries} entries, {tombstones} tombstones of {records_read} records of [{start}, {end})"
            ));
        }
        Ok(())
    }

    /// A watch starts again at the place of its token, or at the low watermark if nothing was read before the token.
    fn check_place(&self, start: i64) -> Result<(), String> {
        let Place { at_least, at_most } = self.resumed.unwrap_or(ANYWHERE);
        if (at_least..=at_most).contains(&start) {
            return Ok(());
        }
        Err(format!("a watch was resumed at {start}, and its token is of a place in [{at_least}, {at_most}]"))
    }

    /// A `Bookmark`.
    pub fn bookmark(&mut self, token: &[u8]) -> Result<(), String> {
        if self.synced.is_none() {
            return Err("a bookmark came before Synced".to_owned());
        }
        let at_least = self.at_token.as_ref().map_or(0, |before| before.place.at_least);
        self.keep(token, at_least, i64::MAX)
    }

    fn keep(&mut self, token: &[u8], at_least: i64, at_most: i64) -> Result<(), String> {
        if token.is_empty() {
            return Err("a token is empty".to_owned());
        }
        let (token, floor) = (token.to_vec(), self.last.max(self.floor));
        let before = self.resumed.map_or(0, |place| place.at_least);
        let place = Place { at_least: at_least.max(before).max(self.last + 1), at_most };
        self.at_token = Some(AtToken { token, floor, state: self.state.clone(), place });
        (self.floor, self.first_since_token) = (floor, None);
        Ok(())
    }

    /// The token to resume with; empty if there is none. Call it when the watch has broken. What came after the token
    /// is forgotten, because it has to come again.
    pub fn resume(&mut self) -> Vec<u8> {
        let Some(AtToken { token, floor, state, place }) = self.at_token.clone() else {
            self.start_again();
            return Vec::new();
        };
        let forgotten = std::mem::replace(&mut self.state, state);
        for (key, (offset, _)) in forgotten {
            if self.state.get(&key).is_none_or(|(kept, _)| *kept < offset) {
                let known = self.to_come_again.entry(key).or_insert(offset);
                *known = (*known).max(offset);
            }
        }
        // What comes after a token is not below its place.
        let at_most = place.at_most.min(self.first_since_token.unwrap_or(i64::MAX));
        if let Some(kept) = &mut self.at_token {
            kept.place.at_most = at_most;
        }
        self.resumed = Some(Place { at_most, ..place });
        (self.synced, self.in_state, self.last) = (None, BTreeMap::new(), -1);
        self.changed = BTreeSet::new();
        (self.state_offsets, self.tombstones_in_state, self.first_since_token) = (None, 0, None);
        self.floor = floor;
        token
    }

    /// The server has said that the client must start again.
    pub fn start_again(&mut self) {
        let (log_may_lose, changes) = (self.log_may_lose, self.changes);
        *self = Self { log_may_lose, changes, ..Self::new() };
    }

    /// Whether `Synced` has come since the start or the last resume.
    pub fn is_synced(&self) -> bool {
        self.synced.is_some()
    }

    /// Whether there is a token to resume with.
    pub fn has_token(&self) -> bool {
        self.at_token.is_some()
    }

    /// For each key the offset and the value of its last entry.
    pub fn state(&self) -> HashMap<&str, (i64, Option<&str>)> {
        self.state.iter().map(|(key, (offset, value))| (&**key, (*offset, value.as_deref()))).collect()
    }

    /// How many changes came after `Synced`, over all attempts.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// The value of each key that has one.
    pub fn values(&self) -> BTreeMap<&str, &str> {
        self.state.iter().filter_map(|(key, (_, value))| Some((&**key, value.as_deref()?))).collect()
    }

    /// The first acknowledged write between `Synced` and the last change that did not come. None may be missing if
    /// nothing was removed from the log.
    pub fn skipped<'a>(&self, writes: &'a [Written]) -> Option<&'a Written> {
        let changes = self.synced?..=self.last;
        let is_missing = |offset: &i64| changes.contains(offset) && !self.changed.contains(offset);
        writes.iter().find(|write| write.offset.as_ref().is_some_and(is_missing))
    }

    /// How the state differs from what was written before the last change, for the first key that does. A key is left
    /// out if it was written after that: then the log may have lost what it had before.
    pub fn differs_at_last_change(&self, writes: &[Written]) -> Option<String> {
        let end = self.last + 1;
        let later: BTreeSet<_> =
            writes.iter().filter(|w| w.offset.is_none_or(|offset| offset >= end)).map(|w| &*w.key).collect();
        let writes: Vec<_> = writes.iter().filter(|write| !later.contains(&*write.key)).cloned().collect();
        let mut seen = self.clone();
        seen.state.retain(|key, _| !later.contains(&**key));
        seen.differs(&writes, end)
    }

    /// How the state differs from what was written below `end`, for the first key that does. A state at the end of a
    /// log has each acknowledged write, or a later one of its key.
    pub fn differs(&self, writes: &[Written], end: i64) -> Option<String> {
        let mut acknowledged: BTreeMap<&str, Last> = BTreeMap::new();
        let mut unknown: BTreeMap<&str, Vec<Option<&str>>> = BTreeMap::new();
        for Written { key, value, offset } in writes {
            match *offset {
                None => unknown.entry(key).or_default().push(value.as_deref()),
                Some(offset) if offset >= end => {}
                Some(offset) if acknowledged.get(&**key).is_some_and(|(other, _)| *other > offset) => {}
                Some(offset) => drop(acknowledged.insert(key, (offset, value.clone()))),
            }
        }
        let possible = |key: &str, value: Option<&str>| unknown.get(key).is_some_and(|some| some.contains(&value));
        for (key, (offset, value)) in &acknowledged {
            let right = match self.state.get(*key) {
                None => value.is_none() || possible(key, None),
                Some((found, seen)) if found == offset => seen == value,
                Some((found, seen)) => found > offset && possible(key, seen.as_deref()),
            };
            if !right {
                return Some(format!(
                    "{key}: {value:?} was acknowledged at {offset}, there is {:?}",
                    self.state.get(*key)
                ));
            }
        }
        let invented = self.state.iter().find(|(key, (_, value))| {
            !acknowledged.contains_key(&***key) && value.is_some() && !possible(key, value.as_deref())
        });
        invented.map(|(key, last)| format!("{key}: {last:?} was never written"))
    }
}
