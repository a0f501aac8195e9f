//! The one thread that writes: group commit, and the sweep of old tombstones.
//!
//! It takes what waits in the queue, makes one atomic batch of it, has it fsynced, publishes a snapshot of the store together with
//! the end offsets, and only then answers. So an answer means durable, and a read shows only what no crash can take.
//!
//! - **Always compacted**: the record that a write supersedes goes in the same batch. Of several records of one key in one batch
//!   only the last is stored; the others have their offsets and answers, and were compacted at once.
//! - **A failed commit ends it**: what the disk holds is not known then, and trying again could prove the wrong thing. The store
//!   stays readable as of the last commit, and read-only until it is opened again. The first reason is the one that is told.
//! - **A full disk is met before the engine meets it**, while it is certain that nothing was written, and passes by itself.
//!
//! Does not: read for anybody else, or decide what may be written.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, SeqCst},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use fjall::{OwnedWriteBatch, Readable as _};
use tokio::sync::oneshot;

use super::{
    layout::{self, Head, RecordHead},
    shared::{Clock, Published, Shared},
    store::{Store, Witness},
};
use crate::{
    log::{Appended, Corrupt, NewRecord, WriteError},
    model::{Escaped, Key, Partition},
};

/// Records a batch.
const BATCH_RECORDS: usize = 4096;
/// Bytes a batch, or one record.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Tombstones a sweep; more wait until the writes that came meanwhile are done.
const SWEEP_RECORDS: usize = 1024;
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// An accepted record.
pub(super) struct Job {
    pub(super) record: NewRecord,
    /// Bytes it takes in the queue.
    pub(super) weight: usize,
    pub(super) answer: oneshot::Sender<Result<Appended, WriteError>>,
}

/// A record to be stored: the last one of its key in its batch.
struct Planned<'a> {
    partition: Partition,
    key: &'a Key,
    appended: Appended,
    timestamp: i64,
    job: &'a Job,
}

/// Why a batch was not committed.
enum Failure {
    /// Nothing was written.
    Nothing(WriteError),
    /// Some of it may be there when the store is opened again.
    Unknown(String),
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Arc<Store>,
    pub(super) queue: Receiver<Job>,
    pub(super) clock: Clock,
    pub(super) heads: Vec<Head>,
    /// Of each partition, one above the last tombstone that was taken away.
    pub(super) horizons: Vec<i64>,
    pub(super) sequence: u64,
    pub(super) witness: Witness,
    /// What is left free on the disk: for tables that are merged, and for whatever else lives there.
    pub(super) reserve_bytes: u64,
}

impl Writer {
    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut next_sweep = Instant::now();
        loop {
            if next_sweep <= Instant::now() {
                next_sweep = if self.sweep() { Instant::now() } else { Instant::now() + SWEEP_INTERVAL };
            }
            match self.queue.recv_timeout(next_sweep.saturating_duration_since(Instant::now())) {
                Ok(first) => {
                    let jobs = self.gather(first);
                    self.settle(jobs);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn gather(&self, first: Job) -> Vec<Job> {
        let (mut bytes, mut jobs) = (first.weight, vec![first]);
        while jobs.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            let Ok(job) = self.queue.try_recv() else { break };
            bytes += job.weight;
            jobs.push(job);
        }
        jobs
    }

    /// Writes a batch and answers it.
    fn settle(&mut self, jobs: Vec<Job>) {
        let outcome = self.write(&jobs);
        let failure = match &outcome {
            Ok(_) => None,
            Err(Failure::Nothing(error)) => Some(error.clone()),
            Err(Failure::Unknown(cause)) => Some(WriteError::OutcomeUnknown { by_time: false, cause: cause.clone() }),
        };
        let mut appended = outcome.unwrap_or_default().into_iter();
        for job in jobs {
            // Before the answer: who has it may count on the room.
            self.shared.queued_bytes.fetch_sub(job.weight, Relaxed);
            self.shared.unsettled.fetch_sub(1, SeqCst);
            let answer = match (&failure, appended.next()) {
                (None, Some(appended)) => Ok(appended),
                (Some(failure), _) => Err(failure.clone()),
                (None, None) => continue,
            };
            // Nobody may be waiting any more.
            let _ = job.answer.send(answer);
        }
    }

    fn write(&mut self, jobs: &[Job]) -> Result<Vec<Appended>, Failure> {
        if self.shared.abandoned.load(SeqCst) {
            return Err(Failure::Nothing(WriteError::Draining));
        }
        if let Some(refusal) = self.shared.refusal() {
            return Err(Failure::Nothing(refusal));
        }
        self.check_room(jobs.iter().map(|job| job.weight as u64).sum())?;

        let now = (self.clock)();
        let mut heads: HashMap<Partition, Head> = HashMap::new();
        let mut last_of_key: HashMap<&Bytes, usize> = HashMap::new();
        let mut all = Vec::with_capacity(jobs.len());
        for (index, job) in jobs.iter().enumerate() {
            let (partition, key) = (job.record.partition, &job.record.key);
            let head = heads.entry(partition).or_insert(self.heads[partition.index()]);
            head.timestamp = head.timestamp.max(now);
            all.push(Appended { offset: head.next, timestamp: Some(head.timestamp) });
            head.next += 1;
            // A key is of one workspace, so of one partition.
            last_of_key.insert(key.bytes(), index);
        }

        let mut batch = self.store.batch();
        for (index, job) in jobs.iter().enumerate() {
            let (partition, key, appended) = (job.record.partition, &job.record.key, all[index]);
            if last_of_key.get(key.bytes()) == Some(&index) {
                let timestamp = appended.timestamp.unwrap_or_default();
                self.plan(&mut batch, &Planned { partition, key, appended, timestamp, job })?;
            }
        }
        for (partition, head) in &heads {
            let place = layout::head_key(*partition);
            batch.insert(&self.store.meta, place, layout::seal(&place, &head.encode()));
        }
        self.commit(batch)?;
        for (partition, head) in heads {
            self.heads[partition.index()] = head;
        }
        self.publish();
        Ok(all)
    }

    /// Stores a record and takes away the one it supersedes.
    fn plan(&self, batch: &mut OwnedWriteBatch, planned: &Planned<'_>) -> Result<(), Failure> {
        let Planned { partition, key, appended: Appended { offset, .. }, timestamp, job } = *planned;
        let latest = layout::latest_key(partition, key.bytes());
        if let Some(before) = self.latest(&latest).map_err(|e| self.corrupt(e))? {
            self.remove_from_log(batch, partition, before);
        }
        let content =
            layout::encode_record(offset, timestamp, job.record.headers.as_slice(), job.record.value.as_deref());
        let log = layout::log_key(partition, offset);
        batch.insert(&self.store.log, log, layout::seal(&log, key.bytes()));
        if job.record.value.is_none() {
            let tombstone = layout::tombstone_key(timestamp, partition, offset);
            batch.insert(&self.store.tombstones, tombstone, layout::seal(&tombstone, key.bytes()));
        }
        let sealed = layout::seal(&latest, &content);
        batch.insert(&self.store.latest, latest, sealed);
        Ok(())
    }

    fn remove_from_log(&self, batch: &mut OwnedWriteBatch, partition: Partition, record: RecordHead) {
        batch.remove(&self.store.log, layout::log_key(partition, record.offset));
        if record.tombstone {
            let place = layout::tombstone_key(record.timestamp, partition, record.offset);
            batch.remove(&self.store.tombstones, place);
        }
    }

    fn latest(&self, place: &[u8]) -> Result<Option<RecordHead>, Corrupt> {
        let shown = || Escaped(&String::from_utf8_lossy(layout::key_of_latest(place))).to_string();
        let found = self.store.latest.get(place);
        let found = found.map_err(|e| self.shared.damage(format_args!("key {} can't be read: {e:?}", shown())))?;
        let Some(sealed) = found else { return Ok(None) };
        let head = layout::unseal(place, &sealed).and_then(RecordHead::decode);
        head.map(|(head, _)| Some(head))
            .ok_or_else(|| self.shared.damage(format_args!("the record of key {} is damaged", shown())))
    }

    fn corrupt(&self, corrupt: Corrupt) -> Failure {
        Failure::Nothing(WriteError::Corrupt(self.shared.set_corrupt(corrupt)))
    }

    /// The engine writes to a journal now and to tables later, where a full disk would be met too late to name its victim.
    fn check_room(&self, bytes: u64) -> Result<(), Failure> {
        // A record is in the journal, in a table, and in a merged table. What can't be asked is left to the commit.
        let wanted = self.reserve_bytes.saturating_add(bytes.saturating_mul(3));
        match self.store.room() {
            Ok(room) if room < wanted => {
                let cause = format!("{room} bytes are free beyond what is reserved, {wanted} are needed");
                Err(Failure::Nothing(WriteError::DiskFull { cause }))
            }
            _ => Ok(()),
        }
    }

    fn commit(&mut self, mut batch: OwnedWriteBatch) -> Result<(), Failure> {
        let sequence = self.sequence + 1;
        let (place, before) = (layout::sequence_key(sequence), layout::sequence_key(self.sequence));
        let sealed = layout::seal(&place, &[]);
        for keyspace in self.store.keyspaces() {
            batch.insert(keyspace, place, sealed.clone());
            batch.remove(keyspace, before);
        }
        match batch.commit() {
            Ok(()) => {}
            // Asked before anything is written.
            Err(fjall::Error::Poisoned) => {
                self.shared.set_read_only("the storage engine failed in the background; see the log and the disk");
                return Err(Failure::Nothing(self.shared.refusal().unwrap_or(WriteError::Draining)));
            }
            Err(error) => {
                let cause = match &error {
                    fjall::Error::Io(io) if io.kind() == io::ErrorKind::StorageFull => {
                        format!("the disk is full: {io}")
                    }
                    fjall::Error::Io(io) => io.to_string(),
                    other => format!("{other:?}"),
                };
                let cause = format!("a commit failed: {cause}");
                self.shared.set_read_only(&cause);
                return Err(Failure::Unknown(cause));
            }
        }
        self.sequence = sequence;
        if let Err(error) = self.witness.write(sequence) {
            // Costs the proof at the next start, not the write.
            tracing::warn!(%error, "the file that witnesses acknowledged writes can't be written");
        }
        Ok(())
    }

    fn publish(&self) {
        self.shared.publish(Published::of(&self.store, &self.heads, &self.horizons));
    }

    /// Takes away tombstones that are older than the retention. Says whether there are more.
    fn sweep(&mut self) -> bool {
        if self.shared.refusal().is_some() || self.shared.abandoned.load(SeqCst) {
            return false;
        }
        match self.try_sweep() {
            Ok(more) => more,
            Err(corrupt) => {
                self.shared.set_corrupt(corrupt);
                false
            }
        }
    }

    fn try_sweep(&mut self) -> Result<bool, Corrupt> {
        // A full disk passes by itself; a commit that fails does not.
        if self.check_room(0).is_err() {
            return Ok(false);
        }
        let retention = i64::try_from(self.shared.topic.delete_retention.as_millis()).unwrap_or(i64::MAX);
        let oldest = (self.clock)().saturating_sub(retention);
        let (mut batch, mut swept, mut horizons) = (self.store.batch(), 0, HashMap::new());
        let until = oldest.max(0).to_be_bytes();
        for entry in self.store.db.snapshot().range(&self.store.tombstones, ..&until[..]).take(SWEEP_RECORDS) {
            let damaged = || self.shared.damage(format_args!("a tombstone's entry is damaged"));
            let (place, sealed) = entry
                .into_inner()
                .map_err(|e| self.shared.damage(format_args!("the tombstones can't be read: {e:?}")))?;
            let (partition, offset) = layout::position_of_tombstone(&place).ok_or_else(damaged)?;
            let key = layout::unseal(&place, &sealed).ok_or_else(damaged)?;
            let latest = layout::latest_key(partition, key);
            // What supersedes a tombstone takes its entry away.
            let record = self.latest(&latest)?.filter(|r| r.tombstone && r.offset == offset).ok_or_else(damaged)?;
            self.remove_from_log(&mut batch, partition, record);
            batch.remove(&self.store.latest, latest);
            let horizon = horizons.entry(partition).or_insert(self.horizons[partition.index()]);
            *horizon = offset.saturating_add(1).max(*horizon);
            swept += 1;
        }
        for (partition, horizon) in &horizons {
            let place = layout::horizon_key(*partition);
            batch.insert(&self.store.meta, place, layout::seal(&place, &horizon.to_be_bytes()));
        }
        if swept > 0 && self.commit(batch).is_ok() {
            for (partition, horizon) in horizons {
                self.horizons[partition.index()] = horizon;
            }
            self.publish();
            return Ok(swept == SWEEP_RECORDS);
        }
        Ok(false)
    }
}
