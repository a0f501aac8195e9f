//! Scans of one partition of a published snapshot, in one of two orders.
//!
//! - **A whole partition**, for some workspaces, for one key, or if the partition is small: scans `latest` by prefix,
//!   and sorts by offset. The cost depends only on the records that are delivered.
//! - **Any other range**: scans `log` from an offset, and looks each record up in `latest`. In one snapshot both
//!   agree, or the store is corrupt. A record that is missing in `latest` is an error, not a gap.
//!
//! Promises that selected records come in the order of offsets, and that no damaged record is returned.
//!
//! Does not know deadlines or channels. It blocks, unless the rest is in memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    vec,
};

use bytes::{Bytes, BytesMut};
use changelog_core::{
    log::{Class, Corrupt, Counts, Keys, Selection},
    model::{Escaped, Partition, Record, WorkspaceId},
};
use fjall::Readable as _;

use super::{
    error::Unreadable,
    layout,
    state::{Published, ReplayRange, StoreState},
};

/// A batch is sent when it has this many records.
const MAX_BATCH_RECORDS: usize = 512;
/// A batch is sent when it has this many bytes. A single record may have more.
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// The size of a chunk of the arena, in bytes. A single key or value may have more.
const CHUNK_BYTES: usize = 64 * 1024;
/// The most entries that are scanned for a batch, so that a filter that matches nothing still checks its deadline.
const MAX_BATCH_ENTRIES: u64 = 16 * 1024;

/// A record that was found in `latest`. It is read again if it was not kept.
struct Found {
    offset: i64,
    key: Vec<u8>,
    record: Option<Record>,
}

enum Source {
    Unstarted,
    Index {
        found: vec::IntoIter<Found>,
        /// All records are in memory.
        in_memory: bool,
    },
    Log(Box<fjall::Iter>),
}

/// A scan of `[from, end)` of one partition of one snapshot.
pub(super) struct PartitionScan {
    state: Arc<StoreState>,
    published: Arc<Published>,
    selection: Arc<Selection>,
    partition: Partition,
    from: i64,
    end: i64,
    /// The scan starts at the low watermark, so it may use `latest`.
    whole_partition: bool,
    /// The most bytes of records that are held for sorting.
    sort_bytes: usize,
    /// The scan gives up as soon as a record does not fit into memory, or the caller has left.
    abandoned: Option<Arc<AtomicBool>>,
    source: Source,
    arena: ByteArena,
    counts: Counts,
}

impl PartitionScan {
    pub(super) fn new(
        state: Arc<StoreState>,
        published: Arc<Published>,
        selection: Arc<Selection>,
        range: ReplayRange,
    ) -> Self {
        let ReplayRange { partition, from, end, whole_partition } = range;
        let (source, arena, counts) = (Source::Unstarted, ByteArena::default(), Counts::default());
        let sort_bytes = state.sort_bytes;
        Self {
            state,
            published,
            selection,
            partition,
            from,
            end,
            whole_partition,
            sort_bytes,
            abandoned: None,
            source,
            arena,
            counts,
        }
    }

    /// All selected records at once, and the counts; `None` if they take more bytes, or once the caller has left.
    /// Blocks.
    pub(super) fn all_in_memory(
        mut self,
        max_bytes: usize,
        abandoned: Arc<AtomicBool>,
    ) -> Result<Option<(Vec<Record>, Counts)>, Unreadable> {
        (self.sort_bytes, self.abandoned) = (self.sort_bytes.min(max_bytes), Some(abandoned));
        let Source::Index { found, in_memory: true } = self.start()? else { return Ok(None) };
        Ok(Some((found.filter_map(|found| found.record).collect(), self.counts)))
    }

    /// The first offset that has not been returned.
    pub(super) fn position(&self) -> i64 {
        self.from
    }

    /// Counts of the records that were read.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether the rest is in memory, so that the next batch does not block.
    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self.source, Source::Index { in_memory: true, .. })
    }

    /// The next selected records; `None` at the end. Blocks, unless the rest is in memory.
    pub(super) fn next_batch(&mut self) -> Result<Option<Vec<Record>>, Unreadable> {
        if matches!(self.source, Source::Unstarted) {
            self.source = self.start()?;
        }
        let (mut records, mut bytes, until) = (Vec::new(), 0, self.counts.read + MAX_BATCH_ENTRIES);
        while records.len() < MAX_BATCH_RECORDS && bytes < MAX_BATCH_BYTES && self.counts.read < until {
            let record = match &mut self.source {
                Source::Unstarted => None,
                Source::Index { found, .. } => match found.next() {
                    None => None,
                    Some(Found { record: Some(record), .. }) => Some(record),
                    Some(Found { offset, key, .. }) => Some(self.read(&key, offset)?),
                },
                Source::Log(entries) => match entries.next() {
                    None => None,
                    Some(entry) => {
                        let (entry_key, sealed) = entry.into_inner().map_err(|e| self.read_failed(&e))?;
                        let offset =
                            layout::offset_of_log(&entry_key).ok_or_else(|| self.damaged("log", &entry_key))?;
                        let key = layout::unseal(&entry_key, &sealed).ok_or_else(|| self.damaged("log", &entry_key))?;
                        let class = self.selection.classify(self.partition, Some(key));
                        self.counts.count(class, key.len());
                        if class != Class::Wanted {
                            continue;
                        }
                        let record = self.read(key, offset)?;
                        self.counts.bytes += record.value.as_ref().map_or(0, Bytes::len) as u64;
                        Some(record)
                    }
                },
            };
            let Some(record) = record else {
                return Ok(if records.is_empty() { None } else { Some(records) });
            };
            self.from = record.offset + 1;
            bytes += record.memory_size();
            records.push(record);
        }
        Ok(Some(records))
    }

    fn start(&mut self) -> Result<Source, Unreadable> {
        let (mut held_bytes, mut found) = (0, Vec::new());
        let published = self.published.clone();
        let selection = self.selection.clone();
        match &selection.keys {
            Keys::One(key) if self.whole_partition => {
                let entry_key = layout::latest_key(self.partition, key.bytes());
                let sealed =
                    published.snapshot.get(&published.store.latest, &entry_key).map_err(|e| self.read_failed(&e))?;
                if let Some(sealed) = sealed {
                    self.add_entry(&entry_key, &sealed, &mut held_bytes, &mut found)?;
                }
            }
            Keys::Workspaces(workspaces) if self.whole_partition => {
                let count = selection.partition_count;
                for workspace in workspaces.iter().map(WorkspaceId::as_str) {
                    if count.of_workspace(workspace.as_bytes()) != self.partition {
                        continue;
                    }
                    // With the separator, so that "ws" does not match "ws2".
                    let prefix = layout::latest_key(self.partition, format!("{workspace}/").as_bytes());
                    for entry in published.snapshot.prefix(&published.store.latest, prefix) {
                        let (entry_key, sealed) = entry.into_inner().map_err(|e| self.read_failed(&e))?;
                        self.add_entry(&entry_key, &sealed, &mut held_bytes, &mut found)?;
                        if held_bytes > self.max_held_bytes() || self.gives_up(&found) {
                            return Ok(self.in_log_order());
                        }
                    }
                }
            }
            Keys::All if self.whole_partition && self.add_all_entries(&published, &mut held_bytes, &mut found)? => {}
            _ => return Ok(self.in_log_order()),
        }
        found.sort_unstable_by_key(|f: &Found| f.offset);
        let in_memory = found.iter().all(|f| f.record.is_some());
        Ok(Source::Index { found: found.into_iter(), in_memory })
    }

    /// A scan in the order of the log. It needs no memory for sorting, and takes the longest.
    fn in_log_order(&mut self) -> Source {
        self.counts = Counts::default();
        let range = layout::log_key(self.partition, self.from)..layout::log_key(self.partition, self.end);
        Source::Log(Box::new(self.published.snapshot.range(&self.published.store.log, range)))
    }

    /// The most bytes that sorting may hold: records, and as much again for the keys of records that did not fit.
    fn max_held_bytes(&self) -> usize {
        2 * self.sort_bytes
    }

    /// Whether a scan of the index alone has come to its end early.
    fn gives_up(&self, found: &[Found]) -> bool {
        self.abandoned.as_ref().is_some_and(|abandoned| !last_is_held(found) || abandoned.load(Relaxed))
    }

    /// Adds the whole partition, if sorting may hold it, because a scan in key order is faster than single look-ups.
    /// Returns whether it fits.
    fn add_all_entries(
        &mut self,
        published: &Published,
        held_bytes: &mut usize,
        found: &mut Vec<Found>,
    ) -> Result<bool, Unreadable> {
        let prefix = layout::partition_prefix(self.partition);
        for entry in published.snapshot.prefix(&published.store.latest, prefix) {
            let (entry_key, sealed) = entry.into_inner().map_err(|e| self.read_failed(&e))?;
            self.add_entry(&entry_key, &sealed, held_bytes, found)?;
            if !last_is_held(found) || self.gives_up(found) {
                self.counts = Counts::default();
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn add_entry(
        &mut self,
        entry_key: &[u8],
        sealed: &[u8],
        held_bytes: &mut usize,
        found: &mut Vec<Found>,
    ) -> Result<(), Corrupt> {
        let key = layout::key_of_latest(entry_key);
        let class = self.selection.classify(self.partition, Some(key));
        self.counts.count(class, key.len() + sealed.len());
        // The checksum of filtered-out records is verified too. Otherwise a filtered load would succeed on a store that
        // an unfiltered one reports as corrupt.
        let content = layout::unseal(entry_key, sealed).ok_or_else(|| self.damaged("latest", entry_key))?;
        if class == Class::Wanted {
            // A record that does not fit must not use the arena.
            let fits = *held_bytes + key.len() + content.len() <= self.sort_bytes;
            let copy = |bytes: &[u8]| if fits { self.arena.copy(bytes) } else { Bytes::copy_from_slice(bytes) };
            let record = layout::decode_record(key, content, copy).ok_or_else(|| self.damaged("latest", entry_key))?;
            let (offset, size) = (record.offset, record.memory_size());
            if *held_bytes + size <= self.sort_bytes {
                *held_bytes += size;
                found.push(Found { offset, key: Vec::new(), record: Some(record) });
            } else {
                *held_bytes += size_of::<Found>() + key.len();
                found.push(Found { offset, key: key.to_vec(), record: None });
            }
        }
        Ok(())
    }

    /// Reads the record that the log has at this offset.
    fn read(&self, key: &[u8], offset: i64) -> Result<Record, Unreadable> {
        let entry_key = layout::latest_key(self.partition, key);
        let sealed = self.published.snapshot.get(&self.published.store.latest, &entry_key);
        let sealed = sealed.map_err(|e| self.read_failed(&e))?;
        let content = sealed.as_deref().and_then(|sealed| layout::unseal(&entry_key, sealed));
        content
            .and_then(|content| layout::decode_record(key, content, Bytes::copy_from_slice))
            .filter(|record| record.offset == offset)
            .ok_or_else(|| self.damaged("latest", &entry_key).into())
    }

    fn read_failed(&self, error: &fjall::Error) -> Unreadable {
        let (partition, from) = (self.partition, self.from);
        let what =
            || self.state.damage(format_args!("partition {partition} can't be read near offset {from}: {error:?}"));
        Unreadable::of_engine(error, what)
    }

    fn damaged(&self, keyspace: &str, entry_key: &[u8]) -> Corrupt {
        let key = String::from_utf8_lossy(layout::key_of_latest(entry_key)).into_owned();
        self.state.damage(format_args!(
            "partition {}, near offset {}: the entry of {} in {keyspace} is missing or damaged",
            self.partition,
            self.from,
            if keyspace == "latest" { Escaped(&key).to_string() } else { format!("{entry_key:02x?}") },
        ))
    }
}

fn last_is_held(found: &[Found]) -> bool {
    found.last().is_none_or(|last| last.record.is_some())
}

/// Memory for small keys and values, concatenated in chunks, because an allocation for each costs more than the
/// copying. The records of a replay are dropped together, so a small one rarely keeps a chunk alive. Unused room is at
/// most a quarter of a chunk, or as much as is held. It is not counted.
#[derive(Default)]
struct ByteArena {
    last: BytesMut,
    bytes: usize,
}

impl ByteArena {
    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > CHUNK_BYTES / 4 {
            return Bytes::copy_from_slice(bytes);
        }
        if self.last.capacity() < bytes.len() {
            self.last = BytesMut::with_capacity(self.bytes.min(CHUNK_BYTES).max(bytes.len()));
        }
        self.bytes += bytes.len();
        self.last.extend_from_slice(bytes);
        self.last.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_keeps_little_unused_memory() {
        for length in [1, 30, 200, 5_000, 16_384, 16_385, 40_000, 66_000] {
            let (mut arena, mut allocated, mut copied) = (ByteArena::default(), 0, Vec::new());
            let mut used = 0;
            while used < 1024 * 1024 {
                for bytes in [vec![b'k'; 30], vec![b'v'; length]] {
                    let in_chunk = bytes.len() <= CHUNK_BYTES / 4;
                    let new_chunk = in_chunk && arena.last.capacity() < bytes.len();
                    copied.push(arena.copy(&bytes));
                    assert_eq!(copied.last().unwrap(), &bytes);
                    used += bytes.len();
                    allocated += if new_chunk {
                        arena.last.capacity() + bytes.len()
                    } else if in_chunk {
                        0
                    } else {
                        bytes.len()
                    };
                }
                assert!(allocated <= used * 2, "values of {length}: {allocated} for {used}");
            }
            assert!(allocated <= used + used / 3 + CHUNK_BYTES, "values of {length}: {allocated} for {used}");
        }
    }
}
