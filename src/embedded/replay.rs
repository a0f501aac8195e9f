//! Reading: one published snapshot, its end offsets, and a walk over one of its two orders.
//!
//! - **Start to end** of some workspaces, of one key, or of a partition that is small: `latest`, by prefix, then sorted by
//!   offset. Costs what it delivers.
//! - **Anything else**: `log` from an offset, each record looked up in `latest`. In one snapshot the two agree, or the store is
//!   corrupt: a record that is not where the log says is an error, not a gap.
//!
//! A replay is a task. Each batch is read by a call on the runtime's blocking threads, unless it is in memory already, and sent from
//! the task, so that a slow or waiting reader holds no thread, however many follow, and a panic of the engine over damage becomes an
//! error of this replay.
//!
//! A follower that lags sees only the last record of each key: what was superseded meanwhile is gone.

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
    shared::{Published, Shared},
};
use crate::{
    log::{
        Class, Corrupt, Counts, Keys, PROGRESS_INTERVAL, PartitionEnd, ReadError, ReplayEvent, ReplayRequest, Selection,
    },
    model::{Escaped, Partition, Record, WorkspaceId},
};

/// Records a batch.
const BATCH_RECORDS: usize = 512;
/// Bytes a batch, or one record.
const BATCH_BYTES: usize = 256 * 1024;
/// Bytes of a chunk, or one key or value.
const CHUNK_BYTES: usize = 64 * 1024;
/// Entries looked at for a batch, so that a filter that matches nothing still comes up for its deadline.
const BATCH_ENTRIES: u64 = 16 * 1024;

/// A record that was found by its key; read again if it was not held.
struct Found {
    offset: i64,
    key: Vec<u8>,
    held: Option<Record>,
}

enum Source {
    Unstarted,
    Index {
        found: vec::IntoIter<Found>,
        /// None of them is to be read again.
        held: bool,
    },
    Log(Box<fjall::Iter>),
}

/// A walk over `[from, end)` of one partition of one snapshot.
struct Walk {
    shared: Arc<Shared>,
    published: Arc<Published>,
    selection: Arc<Selection>,
    partition: Partition,
    from: i64,
    end: i64,
    /// From the low watermark, so the index may be used.
    whole: bool,
    source: Source,
    chunks: Chunks,
    counts: Counts,
}

/// Where small keys and values that are held lie one after another: an allocation for each costs more than the copying. Each key of
/// the index is there once and what is held goes together, so little of it is kept for the sake of another. Room that is left unused
/// is no more than a quarter of a chunk, or than what is held: it is not counted.
#[derive(Default)]
struct Chunks {
    last: BytesMut,
    bytes: usize,
}

impl Chunks {
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

impl Walk {
    /// What is left is in memory: the next batch blocks nobody.
    fn is_held(&self) -> bool {
        matches!(self.source, Source::Index { held: true, .. })
    }

    /// The next wanted records; `None` at the end. Blocks, unless what is left is held.
    fn next_batch(&mut self) -> Result<Option<Vec<Record>>, Corrupt> {
        if matches!(self.source, Source::Unstarted) {
            self.source = self.start()?;
        }
        let (mut records, mut bytes, until) = (Vec::new(), 0, self.counts.read + BATCH_ENTRIES);
        while records.len() < BATCH_RECORDS && bytes < BATCH_BYTES && self.counts.read < until {
            let record = match &mut self.source {
                Source::Unstarted => None,
                Source::Index { found, .. } => match found.next() {
                    None => None,
                    Some(Found { held: Some(record), .. }) => Some(record),
                    Some(Found { offset, key, .. }) => Some(self.read(&key, offset)?),
                },
                Source::Log(entries) => match entries.next() {
                    None => None,
                    Some(entry) => {
                        let (place, sealed) = entry.into_inner().map_err(|e| self.unreadable(&e))?;
                        let offset = layout::offset_of_log(&place).ok_or_else(|| self.damaged("log", &place))?;
                        let key = layout::unseal(&place, &sealed).ok_or_else(|| self.damaged("log", &place))?;
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
        let (mut held, mut found) = (0, Vec::new());
        let published = self.published.clone();
        let selection = self.selection.clone();
        match &selection.keys {
            Keys::One(key) if self.whole => {
                let place = layout::latest_key(self.partition, key.bytes());
                let sealed =
                    published.snapshot.get(&published.store.latest, &place).map_err(|e| self.unreadable(&e))?;
                if let Some(sealed) = sealed {
                    self.find(&place, &sealed, &mut held, &mut found)?;
                }
            }
            Keys::Workspaces(workspaces) if self.whole => {
                let count = selection.partition_count;
                for workspace in workspaces.iter().map(WorkspaceId::as_str) {
                    if count.of_workspace(workspace.as_bytes()) != self.partition {
                        continue;
                    }
                    // With the separator: "ws" is not the start of "ws2".
                    let prefix = layout::latest_key(self.partition, format!("{workspace}/").as_bytes());
                    for entry in published.snapshot.prefix(&published.store.latest, prefix) {
                        let (place, sealed) = entry.into_inner().map_err(|e| self.unreadable(&e))?;
                        self.find(&place, &sealed, &mut held, &mut found)?;
                        if held > self.most_held() {
                            return Ok(self.in_log_order());
                        }
                    }
                }
            }
            Keys::All if self.whole && self.find_all(&published, &mut held, &mut found)? => {}
            _ => return Ok(self.in_log_order()),
        }
        found.sort_unstable_by_key(|f: &Found| f.offset);
        let held = found.iter().all(|f| f.held.is_some());
        Ok(Source::Index { found: found.into_iter(), held })
    }

    /// One record after another, with nothing to be sorted: what needs no memory, and takes the longest.
    fn in_log_order(&mut self) -> Source {
        self.counts = Counts::default();
        let range = layout::log_key(self.partition, self.from)..layout::log_key(self.partition, self.end);
        Source::Log(Box::new(self.published.snapshot.range(&self.published.store.log, range)))
    }

    /// What may be held for sorting: records, and as much again of the places of those that there was no room for.
    fn most_held(&self) -> usize {
        2 * self.shared.sort_bytes
    }

    /// The whole partition, if sorting may hold it: in key order it is read several times faster than one by one. Says whether.
    fn find_all(&mut self, published: &Published, held: &mut usize, found: &mut Vec<Found>) -> Result<bool, Corrupt> {
        let prefix = layout::partition_prefix(self.partition);
        for entry in published.snapshot.prefix(&published.store.latest, prefix) {
            let (place, sealed) = entry.into_inner().map_err(|e| self.unreadable(&e))?;
            self.find(&place, &sealed, held, found)?;
            if found.last().is_some_and(|last| last.held.is_none()) {
                self.counts = Counts::default();
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn find(&mut self, place: &[u8], sealed: &[u8], held: &mut usize, found: &mut Vec<Found>) -> Result<(), Corrupt> {
        let key = layout::key_of_latest(place);
        let class = self.selection.classify(self.partition, Some(key));
        self.counts.count(class);
        // Also of records that are not wanted: half a check would pass what the whole refuses.
        let content = layout::unseal(place, sealed).ok_or_else(|| self.damaged("latest", place))?;
        if class == Class::Wanted {
            // What is not going to be held must not take a chunk's room from what is.
            let fits = *held + key.len() + content.len() <= self.shared.sort_bytes;
            let copy = |bytes: &[u8]| if fits { self.chunks.copy(bytes) } else { Bytes::copy_from_slice(bytes) };
            let record = layout::decode_record(key, content, copy).ok_or_else(|| self.damaged("latest", place))?;
            let (offset, weight) = (record.offset, record.memory_size());
            if *held + weight <= self.shared.sort_bytes {
                *held += weight;
                found.push(Found { offset, key: Vec::new(), held: Some(record) });
            } else {
                *held += size_of::<Found>() + key.len();
                found.push(Found { offset, key: key.to_vec(), held: None });
            }
        }
        Ok(())
    }

    /// The record that the log has at this offset.
    fn read(&self, key: &[u8], offset: i64) -> Result<Record, Corrupt> {
        let place = layout::latest_key(self.partition, key);
        let sealed = self.published.snapshot.get(&self.published.store.latest, &place);
        let sealed = sealed.map_err(|e| self.unreadable(&e))?;
        let content = sealed.as_deref().and_then(|sealed| layout::unseal(&place, sealed));
        content
            .and_then(|content| layout::decode_record(key, content, Bytes::copy_from_slice))
            .filter(|record| record.offset == offset)
            .ok_or_else(|| self.damaged("latest", &place))
    }

    fn unreadable(&self, error: &fjall::Error) -> Corrupt {
        self.shared
            .damage(format_args!("partition {} can't be read near offset {}: {error:?}", self.partition, self.from))
    }

    fn damaged(&self, keyspace: &str, place: &[u8]) -> Corrupt {
        let key = String::from_utf8_lossy(layout::key_of_latest(place)).into_owned();
        self.shared.damage(format_args!(
            "partition {}, near offset {}: the entry of {} in {keyspace} is missing or damaged",
            self.partition,
            self.from,
            if keyspace == "latest" { Escaped(&key).to_string() } else { format!("{place:02x?}") },
        ))
    }
}

/// A follower looks no more often than this whether it still stands at the end.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// Why a replay stops.
enum Stop {
    /// Nobody listens.
    Gone,
    Error(ReadError),
}

pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) request: ReplayRequest,
    pub(super) selection: Arc<Selection>,
    pub(super) events: mpsc::Sender<Result<ReplayEvent, ReadError>>,
}

/// Where a partition is read from and to.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) partition: Partition,
    pub(super) from: i64,
    pub(super) end: i64,
    /// From the low watermark.
    pub(super) whole: bool,
}

impl Reader {
    /// Reads to the ends, which `published` has, and follows if that is wanted.
    pub(super) async fn run(self, published: Arc<Published>, spans: Vec<Span>, at_end: SystemTime, asked: Instant) {
        let outcome = match self.read_to_ends(published, &spans, at_end).await {
            Ok(()) if self.request.follow => self.follow(&spans, asked).await,
            outcome => outcome,
        };
        if let Err(Stop::Error(error)) = outcome {
            if let ReadError::Corrupt(corrupt) = &error {
                self.shared.set_corrupt(corrupt.clone());
            }
            let _ = self.events.send(Err(error)).await;
        }
    }

    async fn read_to_ends(&self, published: Arc<Published>, spans: &[Span], at_end: SystemTime) -> Result<(), Stop> {
        let deadline = Some(self.request.deadline);
        for span in spans {
            let counts = self.deliver(&published, *span, deadline).await?;
            let Span { partition, from: start, end, .. } = *span;
            let end = PartitionEnd { partition, start, end, counts, leader_epoch: -1, at_end };
            self.send(ReplayEvent::End(end), *span, deadline).await?;
        }
        Ok(())
    }

    /// `stood`: when it last had all that was there. A tombstone that was written since must not have been swept.
    async fn follow(&self, spans: &[Span], mut stood: Instant) -> Result<(), Stop> {
        let limit = self.shared.topic.delete_retention / 2;
        let mut changes = self.shared.published.subscribe();
        let mut closed = self.shared.closed.subscribe();
        let mut next: Vec<_> = spans.iter().map(|s| Span { from: s.end, whole: false, ..*s }).collect();
        let mut last_said = None::<Instant>;
        // Until it has looked, it can't know.
        let mut published_since = true;
        loop {
            if *closed.borrow() {
                return Err(Stop::Error(ReadError::Draining));
            }
            if let Some(corrupt) = self.shared.corrupt.get() {
                return Err(Stop::Error(corrupt.clone().into()));
            }
            // Before the ends are taken: then nothing was left.
            let (at_end, now) = (SystemTime::now(), Instant::now());
            if !published_since && matches!(changes.has_changed(), Ok(false)) {
                stood = now;
            }
            if now - stood > limit {
                return Err(Stop::Error(ReadError::follower_lagged(self.request.partitions[0].0, now - stood, limit)));
            }
            (stood, published_since) = (now, false);
            let Some(published) = changes.borrow_and_update().clone() else {
                return Err(Stop::Error(ReadError::Draining));
            };
            let say_all = last_said.is_none_or(|at| at.elapsed() >= PROGRESS_INTERVAL);
            for span in &mut next {
                span.end = published.end(span.partition).unwrap_or(span.from);
                if published.swept_beyond(span.partition, span.from) {
                    let cause = format!("tombstones beyond offset {} have been taken away", span.from);
                    return Err(Stop::Error(ReadError::Moved { partition: span.partition, cause }));
                }
                if span.end == span.from && !say_all {
                    continue;
                }
                let counts = self.deliver(&published, *span, None).await?;
                let progress = ReplayEvent::Progress {
                    partition: span.partition,
                    next_offset: span.end,
                    leader_epoch: -1,
                    counts,
                    at_end: Some(at_end),
                };
                self.send(progress, *span, None).await?;
                span.from = span.end;
            }
            if say_all {
                last_said = Some(Instant::now());
            }
            // A waiting follower must not keep the engine from dropping what was superseded.
            drop(published);
            let wake = last_said.map_or_else(Instant::now, |at| at + PROGRESS_INTERVAL);
            let wake = wake.min(Instant::now() + (limit / 4).max(SHORTEST_WAIT));
            tokio::select! {
                () = self.events.closed() => return Err(Stop::Gone),
                _ = async { closed.wait_for(|closed| *closed).await.map(|_| ()) } => {}
                changed = tokio::time::timeout_at(wake, changes.changed()) => published_since = changed.is_ok(),
            }
        }
    }

    /// Sends the wanted records of a span.
    async fn deliver(&self, published: &Arc<Published>, span: Span, deadline: Option<Instant>) -> Result<Counts, Stop> {
        if span.from >= span.end {
            return Ok(Counts::default());
        }
        let mut walk = Walk {
            shared: self.shared.clone(),
            published: published.clone(),
            selection: self.selection.clone(),
            partition: span.partition,
            from: span.from,
            end: span.end,
            whole: span.whole,
            source: Source::Unstarted,
            chunks: Chunks::default(),
            counts: Counts::default(),
        };
        loop {
            let at = Span { from: walk.from, ..span };
            let held = walk.is_held();
            let read = move || {
                let batch = walk.next_batch();
                (walk, batch)
            };
            let read = async { if held { Ok(read()) } else { tokio::task::spawn_blocking(read).await } };
            let (returned, batch) = match self.bounded(at, deadline, read).await? {
                Ok(read) => read,
                Err(error) if error.is_panic() => {
                    let what = format_args!("the engine panicked reading partition {} near {}", at.partition, at.from);
                    return Err(Stop::Error(self.shared.damage(what).into()));
                }
                // The runtime is going down.
                Err(_) => return Err(Stop::Error(ReadError::Draining)),
            };
            walk = returned;
            let Some(records) = batch.map_err(|corrupt| Stop::Error(corrupt.into()))? else {
                return Ok(walk.counts);
            };
            if !records.is_empty() {
                let event = ReplayEvent::Records { partition: span.partition, records, leader_epoch: -1 };
                self.send(event, at, deadline).await?;
            }
        }
    }

    async fn send(&self, event: ReplayEvent, at: Span, deadline: Option<Instant>) -> Result<(), Stop> {
        self.bounded(at, deadline, self.events.send(Ok(event))).await?.map_err(|_| Stop::Gone)
    }

    async fn bounded<T>(&self, at: Span, deadline: Option<Instant>, work: impl Future<Output = T>) -> Result<T, Stop> {
        let Span { partition, from: position, end, .. } = at;
        let too_late = || Err(Stop::Error(ReadError::Deadline { partition, position, end }));
        // Timers are coarse.
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return too_late();
        }
        let late = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = self.events.closed() => Err(Stop::Gone),
            () = late => too_late(),
            out = work => Ok(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_little_room_that_is_not_used() {
        for length in [1, 30, 200, 5_000, 16_384, 16_385, 40_000, 66_000] {
            let (mut chunks, mut room, mut copied) = (Chunks::default(), 0, Vec::new());
            let mut used = 0;
            while used < 1024 * 1024 {
                for bytes in [vec![b'k'; 30], vec![b'v'; length]] {
                    let in_chunk = bytes.len() <= CHUNK_BYTES / 4;
                    let anew = in_chunk && chunks.last.capacity() < bytes.len();
                    copied.push(chunks.copy(&bytes));
                    assert_eq!(copied.last().unwrap(), &bytes);
                    used += bytes.len();
                    room += if anew {
                        chunks.last.capacity() + bytes.len()
                    } else if in_chunk {
                        0
                    } else {
                        bytes.len()
                    };
                }
                assert!(room <= used * 2, "values of {length}: {room} for {used}");
            }
            assert!(room <= used + used / 3 + CHUNK_BYTES, "values of {length}: {room} for {used}");
        }
    }
}
