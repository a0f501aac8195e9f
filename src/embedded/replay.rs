//! Replays of the embedded store: a scan of one published snapshot up to its end offsets, in one of two orders.
//!
//! - **A whole partition**, for some workspaces, for one key, or if the partition is small: scans `latest` by prefix,
//!   and sorts by offset. The cost depends only on the records that are delivered.
//! - **Any other replay**: scans `log` from an offset, and looks each record up in `latest`. In one snapshot both
//!   agree, or the store is corrupt. A record that is missing in `latest` is an error, not a gap.
//!
//! A replay is a task. It reads each batch on a blocking thread of the runtime, unless the batch is in memory already,
//! and sends it from the task. So a slow or waiting reader holds no thread, and a panic of the engine on damage becomes
//! an error of this replay.
//!
//! Does not deliver superseded records: a follower that lags gets only the last record of each key.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime},
    vec,
};

use bytes::{Bytes, BytesMut};
use fjall::Readable as _;
use tokio::{sync::mpsc, time::Instant};

use super::{
    layout,
    state::{Published, ReplayRange, StoreState},
};
use crate::{
    log::{
        Class, Corrupt, Counts, Keys, PROGRESS_INTERVAL, PartitionEnd, ReadError, ReplayEvent, ReplayRequest, Selection,
    },
    model::{Escaped, Partition, Record, WorkspaceId},
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
struct PartitionScan {
    state: Arc<StoreState>,
    published: Arc<Published>,
    selection: Arc<Selection>,
    partition: Partition,
    from: i64,
    end: i64,
    /// The scan starts at the low watermark, so it may use `latest`.
    whole_partition: bool,
    source: Source,
    arena: ByteArena,
    counts: Counts,
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

impl PartitionScan {
    /// Whether the rest is in memory, so that the next batch does not block.
    fn is_in_memory(&self) -> bool {
        matches!(self.source, Source::Index { in_memory: true, .. })
    }

    /// The next selected records; `None` at the end. Blocks, unless the rest is in memory.
    fn next_batch(&mut self) -> Result<Option<Vec<Record>>, Corrupt> {
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
                        self.counts.count(class);
                        if class != Class::Wanted {
                            continue;
                        }
                        Some(self.read(key, offset)?)
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

    fn start(&mut self) -> Result<Source, Corrupt> {
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
                        if held_bytes > self.max_held_bytes() {
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
        2 * self.state.sort_bytes
    }

    /// Adds the whole partition, if sorting may hold it, because a scan in key order is faster than single look-ups.
    /// Returns whether it fits.
    fn add_all_entries(
        &mut self,
        published: &Published,
        held_bytes: &mut usize,
        found: &mut Vec<Found>,
    ) -> Result<bool, Corrupt> {
        let prefix = layout::partition_prefix(self.partition);
        for entry in published.snapshot.prefix(&published.store.latest, prefix) {
            let (entry_key, sealed) = entry.into_inner().map_err(|e| self.read_failed(&e))?;
            self.add_entry(&entry_key, &sealed, held_bytes, found)?;
            if found.last().is_some_and(|last| last.record.is_none()) {
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
        self.counts.count(class);
        // The checksum of filtered-out records is verified too. Otherwise a filtered load would succeed on a store that
        // an unfiltered one reports as corrupt.
        let content = layout::unseal(entry_key, sealed).ok_or_else(|| self.damaged("latest", entry_key))?;
        if class == Class::Wanted {
            // A record that does not fit must not use the arena.
            let fits = *held_bytes + key.len() + content.len() <= self.state.sort_bytes;
            let copy = |bytes: &[u8]| if fits { self.arena.copy(bytes) } else { Bytes::copy_from_slice(bytes) };
            let record = layout::decode_record(key, content, copy).ok_or_else(|| self.damaged("latest", entry_key))?;
            let (offset, size) = (record.offset, record.memory_size());
            if *held_bytes + size <= self.state.sort_bytes {
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
    fn read(&self, key: &[u8], offset: i64) -> Result<Record, Corrupt> {
        let entry_key = layout::latest_key(self.partition, key);
        let sealed = self.published.snapshot.get(&self.published.store.latest, &entry_key);
        let sealed = sealed.map_err(|e| self.read_failed(&e))?;
        let content = sealed.as_deref().and_then(|sealed| layout::unseal(&entry_key, sealed));
        content
            .and_then(|content| layout::decode_record(key, content, Bytes::copy_from_slice))
            .filter(|record| record.offset == offset)
            .ok_or_else(|| self.damaged("latest", &entry_key))
    }

    fn read_failed(&self, error: &fjall::Error) -> Corrupt {
        self.state
            .damage(format_args!("partition {} can't be read near offset {}: {error:?}", self.partition, self.from))
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

/// The shortest time between a follower's checks of whether it is still at the end.
const MIN_FOLLOW_WAIT: Duration = Duration::from_millis(10);

/// Why a replay stopped.
enum StopReason {
    /// The caller has dropped the replay.
    Abandoned,
    Error(ReadError),
}

pub(super) struct Reader {
    pub(super) state: Arc<StoreState>,
    pub(super) request: ReplayRequest,
    pub(super) selection: Arc<Selection>,
    pub(super) events: mpsc::Sender<Result<ReplayEvent, ReadError>>,
}

impl Reader {
    /// Reads to the end offsets of `published`, and follows if the request does.
    pub(super) async fn run(
        self,
        published: Arc<Published>,
        ranges: Vec<ReplayRange>,
        at_end: SystemTime,
        requested_at: Instant,
    ) {
        let outcome = match self.read_to_ends(published, &ranges, at_end).await {
            Ok(()) if self.request.follow => self.follow(&ranges, requested_at).await,
            outcome => outcome,
        };
        if let Err(StopReason::Error(error)) = outcome {
            if let ReadError::Corrupt(corrupt) = &error {
                self.state.set_corrupt(corrupt.clone());
            }
            let _ = self.events.send(Err(error)).await;
        }
    }

    async fn read_to_ends(
        &self,
        published: Arc<Published>,
        ranges: &[ReplayRange],
        at_end: SystemTime,
    ) -> Result<(), StopReason> {
        let deadline = Some(self.request.deadline);
        for range in ranges {
            let counts = self.deliver(&published, *range, deadline).await?;
            let ReplayRange { partition, from: start, end, .. } = *range;
            let end = PartitionEnd { partition, start, end, counts, leader_epoch: -1, at_end };
            self.send(ReplayEvent::End(end), *range, deadline).await?;
        }
        Ok(())
    }

    /// Delivers what is written after the end offsets. `caught_up_at` is when the replay was last at the end: a
    /// tombstone written since must not have been purged.
    async fn follow(&self, ranges: &[ReplayRange], mut caught_up_at: Instant) -> Result<(), StopReason> {
        let limit = self.state.topic.delete_retention / 2;
        let mut changes = self.state.published.subscribe();
        let mut closed = self.state.closed.subscribe();
        let mut next: Vec<_> =
            ranges.iter().map(|s| ReplayRange { from: s.end, whole_partition: false, ..*s }).collect();
        let mut last_progress_at = None::<Instant>;
        // Not known before the first check.
        let mut published_since = true;
        loop {
            if *closed.borrow() {
                return Err(StopReason::Error(ReadError::Draining));
            }
            if let Some(corrupt) = self.state.corrupt.get() {
                return Err(StopReason::Error(corrupt.clone().into()));
            }
            // Taken before the end offsets, so nothing was left to read at this time.
            let (at_end, now) = (SystemTime::now(), Instant::now());
            if !published_since && matches!(changes.has_changed(), Ok(false)) {
                caught_up_at = now;
            }
            if now - caught_up_at > limit {
                return Err(StopReason::Error(ReadError::follower_lagged(
                    self.request.partitions[0].0,
                    now - caught_up_at,
                    limit,
                )));
            }
            (caught_up_at, published_since) = (now, false);
            let Some(published) = changes.borrow_and_update().clone() else {
                return Err(StopReason::Error(ReadError::Draining));
            };
            let progress_due = last_progress_at.is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL);
            for range in &mut next {
                range.end = published.end(range.partition).unwrap_or(range.from);
                if published.purged_beyond(range.partition, range.from) {
                    let cause = format!("tombstones beyond offset {} have been purged", range.from);
                    return Err(StopReason::Error(ReadError::Moved { partition: range.partition, cause }));
                }
                if range.end == range.from && !progress_due {
                    continue;
                }
                let counts = self.deliver(&published, *range, None).await?;
                let progress = ReplayEvent::Progress {
                    partition: range.partition,
                    next_offset: range.end,
                    leader_epoch: -1,
                    counts,
                    at_end: Some(at_end),
                };
                self.send(progress, *range, None).await?;
                range.from = range.end;
            }
            if progress_due {
                last_progress_at = Some(Instant::now());
            }
            // A snapshot that is held while waiting would keep the engine from removing superseded records.
            drop(published);
            let wake = last_progress_at.map_or_else(Instant::now, |at| at + PROGRESS_INTERVAL);
            let wake = wake.min(Instant::now() + (limit / 4).max(MIN_FOLLOW_WAIT));
            tokio::select! {
                () = self.events.closed() => return Err(StopReason::Abandoned),
                _ = async { closed.wait_for(|closed| *closed).await.map(|_| ()) } => {}
                changed = tokio::time::timeout_at(wake, changes.changed()) => published_since = changed.is_ok(),
            }
        }
    }

    /// Sends the selected records of a range.
    async fn deliver(
        &self,
        published: &Arc<Published>,
        range: ReplayRange,
        deadline: Option<Instant>,
    ) -> Result<Counts, StopReason> {
        if range.from >= range.end {
            return Ok(Counts::default());
        }
        let mut scan = PartitionScan {
            state: self.state.clone(),
            published: published.clone(),
            selection: self.selection.clone(),
            partition: range.partition,
            from: range.from,
            end: range.end,
            whole_partition: range.whole_partition,
            source: Source::Unstarted,
            arena: ByteArena::default(),
            counts: Counts::default(),
        };
        loop {
            let at = ReplayRange { from: scan.from, ..range };
            let in_memory = scan.is_in_memory();
            let read = move || {
                let batch = scan.next_batch();
                (scan, batch)
            };
            let read = async { if in_memory { Ok(read()) } else { tokio::task::spawn_blocking(read).await } };
            let (returned, batch) = match self.bounded(at, deadline, read).await? {
                Ok(read) => read,
                Err(error) if error.is_panic() => {
                    let what = format_args!("the engine panicked reading partition {} near {}", at.partition, at.from);
                    return Err(StopReason::Error(self.state.damage(what).into()));
                }
                // The runtime is shutting down.
                Err(_) => return Err(StopReason::Error(ReadError::Draining)),
            };
            scan = returned;
            let Some(records) = batch.map_err(|corrupt| StopReason::Error(corrupt.into()))? else {
                return Ok(scan.counts);
            };
            if !records.is_empty() {
                let event = ReplayEvent::Records { partition: range.partition, records, leader_epoch: -1 };
                self.send(event, at, deadline).await?;
            }
        }
    }

    async fn send(&self, event: ReplayEvent, at: ReplayRange, deadline: Option<Instant>) -> Result<(), StopReason> {
        self.bounded(at, deadline, self.events.send(Ok(event))).await?.map_err(|_| StopReason::Abandoned)
    }

    async fn bounded<T>(
        &self,
        at: ReplayRange,
        deadline: Option<Instant>,
        work: impl Future<Output = T>,
    ) -> Result<T, StopReason> {
        let ReplayRange { partition, from: position, end, .. } = at;
        let deadline_exceeded = || Err(StopReason::Error(ReadError::Deadline { partition, position, end }));
        // A timer may fire late, so a passed deadline is checked first.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return deadline_exceeded();
        }
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.events.closed() => Err(StopReason::Abandoned),
            () = late => deadline_exceeded(),
            out = work => Ok(out),
        }
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
