//! A log in memory: lists under one lock. The executable specification of a log.
//!
//! Does not: compact by itself. Tests decide when.

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Appended, Class, Counts, DELETE_RETENTION_FLAG, Description, Follow, Latest, LatestRequest, Log, NewRecord,
    PROGRESS_INTERVAL, PartitionEnd, PartitionState, PendingAppend, ReadError, Replay, ReplayEvent, ReplayRequest,
    ReplaySender, Selection, StartAt, StoreKind, Topic, TopicState, WriteError, WriteQueue,
    short_retention_of_followers,
};
use crate::model::{Partition, PartitionCount, Position, Record};

/// Records in one batch.
const BATCH: usize = 512;

/// A stored record. A foreign record may have no key.
#[derive(Debug, Clone)]
struct Stored {
    key: Option<Bytes>,
    record: Record,
}

impl Stored {
    /// Counts it, and says whether it is selected.
    fn count(&self, selection: &Selection, partition: Partition, counts: &mut Counts) -> Class {
        let class = selection.classify(partition, self.key.as_deref());
        let value = self.record.value.as_ref().map_or(0, Bytes::len);
        counts.count(class, self.key.as_ref().map_or(0, Bytes::len) + value);
        class
    }
}

#[derive(Debug, Default)]
struct PartitionLog {
    records: Vec<Stored>,
    next_offset: i64,
}

/// A log in memory. Clones share it.
#[derive(Clone)]
pub struct MemoryLog {
    topic: Arc<Topic>,
    partitions: Arc<Mutex<Vec<PartitionLog>>>,
    state: watch::Sender<TopicState>,
    /// Counts appends, to wake following replays.
    version: watch::Sender<u64>,
    closed: CancellationToken,
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLog").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl MemoryLog {
    /// An empty log.
    pub fn new(partition_count: PartitionCount, delete_retention: Duration) -> Self {
        let topic = Arc::new(Topic {
            name: "memory".to_owned(),
            id: uuid::Uuid::new_v4().to_string(),
            partition_count,
            max_value_bytes: None,
            delete_retention,
        });
        Self {
            partitions: Arc::new(Mutex::new(partition_count.all().map(|_| PartitionLog::default()).collect())),
            state: watch::Sender::new(TopicState::Ready(topic.clone())),
            version: watch::Sender::new(0),
            closed: CancellationToken::new(),
            topic,
        }
    }

    /// Appends a record as a foreign producer would: with any key or none, to any partition. Returns its offset.
    pub fn append_foreign(&self, partition: Partition, key: Option<Bytes>, value: Option<Bytes>) -> i64 {
        let record = Record {
            offset: 0,
            timestamp: Some(now_millis()),
            key: key.clone().unwrap_or_default(),
            value,
            headers: Vec::new(),
        };
        self.push(partition, Stored { key, record }).position.offset
    }

    /// Keeps the last record of each key, as a compaction of the complete log would. Removes tombstones older than the
    /// delete retention. Not while a load runs, which has no limit of time.
    pub fn compact(&self) {
        let oldest = now_millis() - i64::try_from(self.topic.delete_retention.as_millis()).unwrap_or(i64::MAX);
        for partition in self.partitions.lock().iter_mut() {
            let last: HashMap<_, _> = partition.records.iter().map(|s| (s.key.clone(), s.record.offset)).collect();
            partition.records.retain(|s| {
                let expired = s.record.is_tombstone() && s.record.timestamp.is_some_and(|t| t < oldest);
                last.get(&s.key) == Some(&s.record.offset) && !expired
            });
        }
    }

    fn push(&self, partition: Partition, mut stored: Stored) -> Appended {
        let appended = {
            let mut partitions = self.partitions.lock();
            let log = &mut partitions[partition.index()];
            stored.record.offset = log.next_offset;
            log.next_offset += 1;
            let position = Position { partition, offset: stored.record.offset };
            let appended = Appended { position, timestamp: stored.record.timestamp };
            log.records.push(stored);
            appended
        };
        self.version.send_modify(|v| *v += 1);
        appended
    }

    fn end(&self, partition: Partition) -> i64 {
        self.partitions.lock()[partition.index()].next_offset
    }

    fn read(&self, partition: Partition, from: i64, to: i64) -> Vec<Stored> {
        let partitions = self.partitions.lock();
        let records = &partitions[partition.index()].records;
        let first = records.partition_point(|s| s.record.offset < from);
        records[first..].iter().take(BATCH).take_while(|s| s.record.offset < to).cloned().collect()
    }
}

/// Reads the partitions of one replay.
struct Reader {
    log: MemoryLog,
    request: ReplayRequest,
    events: ReplaySender,
    /// When it had last read all records. Tombstones written since then must not be gone.
    caught_up_at: Instant,
}

impl Reader {
    /// Delivers the selected records of `[from, to)`. Returns `None` if the receiver is gone, or after an error.
    async fn deliver(&self, partition: Partition, mut from: i64, to: i64, counts: &mut Counts) -> Option<()> {
        while from < to {
            let (lag, retention) = (self.caught_up_at.elapsed(), self.log.topic.delete_retention);
            // A process keeps every tombstone, so a load is whole at any speed. A stream that follows has the limit
            // that it has on every store.
            if self.request.follow.is_on() && lag > retention / 2 {
                let error = ReadError::too_slow(partition, lag, retention, DELETE_RETENTION_FLAG);
                let _ = self.events.send(Err(error)).await;
                return None;
            }
            let batch = self.log.read(partition, from, to);
            let Some(last) = batch.last() else { break };
            from = last.record.offset + 1;
            let mut records = Vec::new();
            for stored in batch {
                if stored.count(&self.request.selection, partition, counts) == Class::Wanted {
                    records.push(stored.record);
                }
            }
            if !records.is_empty() {
                self.events.send(Ok(ReplayEvent::Records { partition, records, leader_epoch: -1 })).await.ok()?;
            }
        }
        Some(())
    }

    async fn run(mut self, starts: Vec<(Partition, i64, i64, SystemTime)>) -> Option<()> {
        let mut next = Vec::new();
        for (partition, start, end, at_end) in starts {
            if self.request.follow == Follow::FromStart {
                next.push((partition, start));
                continue;
            }
            let mut counts = Counts::default();
            self.deliver(partition, start, end, &mut counts).await?;
            let end = PartitionEnd::without_epoch(partition, start..end, counts, at_end);
            self.events.send(Ok(ReplayEvent::End(end))).await.ok()?;
            next.push((partition, end.end));
        }
        let mut version = self.log.version.subscribe();
        if !self.request.follow.is_on() {
            return Some(());
        }
        // Not known before the first check.
        let mut appended_since = true;
        loop {
            let now = Instant::now();
            if !appended_since && matches!(version.has_changed(), Ok(false)) {
                self.caught_up_at = now;
            }
            version.borrow_and_update();
            for (partition, from) in &mut next {
                let at_end = SystemTime::now();
                let (end, mut counts) = (self.log.end(*partition), Counts::default());
                self.deliver(*partition, *from, end, &mut counts).await?;
                *from = end;
                let progress = ReplayEvent::Progress {
                    partition: *partition,
                    next_offset: end,
                    leader_epoch: -1,
                    counts,
                    at_end: Some(at_end),
                };
                self.events.send(Ok(progress)).await.ok()?;
            }
            self.caught_up_at = now;
            let wait = PROGRESS_INTERVAL.min((self.log.topic.delete_retention / 8).max(Duration::from_millis(10)));
            tokio::select! {
                () = self.events.closed() => return None,
                () = self.log.closed.cancelled() => {
                    let _ = self.events.send(Err(ReadError::Draining)).await;
                    return None;
                }
                changed = tokio::time::timeout(wait, version.changed()) => appended_since = changed.is_ok(),
            }
        }
    }
}

fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Log for MemoryLog {
    fn kind(&self) -> StoreKind {
        StoreKind::Memory
    }

    fn topic_state(&self) -> watch::Receiver<TopicState> {
        self.state.subscribe()
    }

    async fn topic(&self) -> Result<Arc<Topic>, ReadError> {
        Ok(self.topic.clone())
    }

    fn append(&self, record: NewRecord) -> Result<PendingAppend, WriteError> {
        if self.closed.is_cancelled() {
            return Err(WriteError::Draining);
        }
        let key = record.key.bytes().clone();
        let stored = Stored {
            key: Some(key.clone()),
            record: Record {
                offset: 0,
                timestamp: Some(now_millis()),
                key,
                value: record.value,
                headers: record.headers.into_vec(),
            },
        };
        let (sender, pending) = oneshot::channel();
        let _ = sender.send(Ok(self.push(record.partition, stored)));
        Ok(pending)
    }

    /// A record is written at once.
    fn queue(&self) -> WriteQueue {
        WriteQueue::default()
    }

    async fn replay(&self, request: ReplayRequest) -> Result<Replay, ReadError> {
        let (mut starts, caught_up_at) = (Vec::new(), Instant::now());
        for (partition, start) in &request.partitions {
            let (end, at_end) = (self.end(*partition), SystemTime::now());
            let start = match *start {
                StartAt::Low => 0,
                StartAt::Offset { offset, .. } if (0..=end).contains(&offset) => offset,
                StartAt::Offset { offset, .. } => {
                    return Err(ReadError::OffsetOutOfRange { partition: *partition, offset, low: 0, end });
                }
            };
            starts.push((*partition, start, end, at_end));
        }
        let (events, replay) = Replay::channel();
        tokio::spawn(Reader { log: self.clone(), request, events, caught_up_at }.run(starts));
        Ok(replay)
    }

    async fn latest(&self, request: LatestRequest) -> Result<Option<Latest>, ReadError> {
        let LatestRequest { partition, selection, max_bytes, .. } = request;
        let (end, at_end) = (self.end(partition), SystemTime::now());
        let (mut counts, mut latest, mut bytes, mut from) = (Counts::default(), HashMap::new(), 0, 0);
        loop {
            let batch = self.read(partition, from, end);
            let Some(last) = batch.last() else { break };
            from = last.record.offset + 1;
            for stored in batch {
                if stored.count(&selection, partition, &mut counts) == Class::Wanted {
                    bytes += stored.record.memory_size();
                    let superseded = latest.insert(stored.record.key.clone(), stored.record);
                    bytes -= superseded.map_or(0, |record: Record| record.memory_size());
                }
            }
            if bytes > max_bytes {
                return Ok(None);
            }
            // A long history must not hold up other tasks, and a caller that leaves ends it here.
            tokio::task::yield_now().await;
        }
        let mut records: Vec<_> = latest.into_values().collect();
        records.sort_unstable_by_key(|record| record.offset);
        let end = PartitionEnd::without_epoch(partition, 0..end, counts, at_end);
        Ok(Some(Latest { records, end }))
    }

    async fn describe(&self) -> Description {
        let partitions = self.partitions.lock();
        let state = |(partition, log): (Partition, &PartitionLog)| PartitionState {
            partition,
            leader: 0,
            low: 0,
            last_stable: log.next_offset,
            high: log.next_offset,
        };
        Description {
            name: self.topic.name.clone(),
            topic: Some(self.topic.clone()),
            partitions: self.topic.partition_count.all().zip(partitions.iter()).map(state).collect(),
            findings: short_retention_of_followers(self.topic.delete_retention).into_iter().collect(),
        }
    }

    async fn close(&self, _deadline: Instant) -> u64 {
        self.closed.cancel();
        0
    }
}
