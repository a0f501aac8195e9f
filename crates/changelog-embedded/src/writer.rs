//! The writer thread: group commit.
//!
//! It takes the queued writes, commits them as one atomic batch with an fsync, publishes a snapshot together with the
//! end offsets, and then replies. So an acknowledged write is durable, and a replay reads only data that survives a
//! crash.
//!
//! - **Always compacted**: the batch that supersedes a record removes that record. Of several records of one key in
//!   one batch, only the last is stored. The others get offsets and replies.
//! - **A failed commit makes the store read-only** until it is opened again, because the content of the disk is not
//!   known. The store stays readable as of the last commit. The first cause is reported.
//! - **Free space and free files are checked before each batch**, so that DISK_FULL and OUT_OF_FILES mean that nothing
//!   was written. Writes succeed again when there is room.
//! - **The directory is checked before and after each batch**, so that nothing is acknowledged that is in removed
//!   files.
//! - **An engine that has failed is not waited for.** It is noticed before each commit, and each second.
//!
//! Does not read for replays, and does not decide what may be written.

use std::{
    collections::HashMap,
    fs::File,
    io,
    sync::{
        Arc,
        atomic::Ordering::{Relaxed, SeqCst},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use changelog_core::{
    log::{Appended, NewRecord, WriteError},
    model::{Escaped, Key, Partition, Position},
};
use fjall::OwnedWriteBatch;
use tokio::sync::oneshot;

use super::{
    error::{Unreadable, failed_commit, is_out_of_files},
    layout::{self, Head, RecordHead},
    space::{Purpose, Space, Wanted},
    state::{Clock, Published, StoreState},
    store::{AckedSequence, SharedStore},
    tables,
};

/// The most records of a batch.
const MAX_BATCH_RECORDS: usize = 4096;
/// The most bytes of a batch. A single record may have more.
pub(super) const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// The entries of a batch that belong to no record: its sequence, and the heads of partitions.
pub(super) const BATCH_BYTES: u64 = 1024;
const PURGE_INTERVAL: Duration = Duration::from_mins(1);
/// How often it is checked whether the engine has failed, while nothing is written.
const ENGINE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Files that the engine may need at the same time: for the tables of a merge, a new journal and the list of tables.
const SPARE_FILES: usize = 16;

/// An accepted write.
pub(super) struct QueuedWrite {
    pub(super) record: NewRecord,
    /// The bytes it takes in the queue.
    pub(super) queue_bytes: usize,
    pub(super) reply: oneshot::Sender<Result<Appended, WriteError>>,
}

/// A record to be stored: the last one of its key in the batch.
struct Planned<'a> {
    partition: Partition,
    key: &'a Key,
    offset: i64,
    timestamp: i64,
    write: &'a QueuedWrite,
}

fn wanted(writes: &[QueuedWrite]) -> Wanted {
    // The key is in three entries, and in the queue once.
    let bytes = |write: &QueuedWrite| (write.queue_bytes + 2 * write.record.key.bytes().len()) as u64;
    let only_deletes = writes.iter().all(|write| write.record.value.is_none());
    Wanted {
        bytes: BATCH_BYTES + writes.iter().map(bytes).sum::<u64>(),
        purpose: if only_deletes { Purpose::Deletes } else { Purpose::Sets },
    }
}

/// Why a batch was not committed.
pub(super) enum CommitError {
    /// Nothing was written.
    NotWritten(WriteError),
    /// Some of the batch may be there when the store is opened again.
    Unknown(String),
}

pub(super) struct Writer {
    pub(super) state: Arc<StoreState>,
    pub(super) store: Arc<SharedStore>,
    pub(super) queue: Receiver<QueuedWrite>,
    pub(super) clock: Clock,
    pub(super) heads: Vec<Head>,
    /// For each partition, the offset above the last purged tombstone.
    pub(super) purged_below: Vec<i64>,
    pub(super) sequence: u64,
    pub(super) acked_sequence: AckedSequence,
    pub(super) space: Space,
    pub(super) write_buffer_bytes: u64,
    pub(super) max_batch_bytes: usize,
}

impl Writer {
    /// Runs until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let mut next_purge = Instant::now();
        loop {
            if next_purge <= Instant::now() {
                next_purge = if self.purge() { Instant::now() } else { Instant::now() + PURGE_INTERVAL };
            }
            let until_purge = next_purge.saturating_duration_since(Instant::now());
            match self.queue.recv_timeout(until_purge.min(ENGINE_CHECK_INTERVAL)) {
                Ok(first) => {
                    let writes = self.collect_batch(first);
                    self.write(writes);
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Err(fjall::Error::Poisoned) = tables::check_engine(&self.store.db) {
                        self.engine_failed();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn collect_batch(&self, first: QueuedWrite) -> Vec<QueuedWrite> {
        let (mut bytes, mut writes) = (first.queue_bytes, vec![first]);
        while writes.len() < MAX_BATCH_RECORDS && bytes < self.max_batch_bytes {
            let Ok(write) = self.queue.try_recv() else { break };
            bytes += write.queue_bytes;
            writes.push(write);
        }
        writes
    }

    /// Commits what there is room for: all, or only the deletes. Replies to all.
    fn write(&mut self, writes: Vec<QueuedWrite>) {
        self.wait_for_tables();
        let Err(full) = self.check_room(&writes) else {
            let outcome = self.commit_batch(&writes);
            return self.reply(writes, outcome);
        };
        let (deletes, others): (Vec<_>, Vec<_>) = writes.into_iter().partition(|write| write.record.value.is_none());
        self.reply(others, Err(CommitError::NotWritten(full)));
        if !deletes.is_empty() {
            let outcome = match self.check_room(&deletes) {
                Ok(()) => self.commit_batch(&deletes),
                Err(full) => Err(CommitError::NotWritten(full)),
            };
            self.reply(deletes, outcome);
        }
        if self.state.refusal().is_none() && self.space.may_make_room() {
            self.make_room();
        }
    }

    /// The engine does not limit what it holds in memory, so the writer does. Meanwhile the queue fills, and refuses.
    fn wait_for_tables(&self) {
        if !self.takes_writes() || self.store.db.write_buffer_size() <= self.write_buffer_bytes {
            return;
        }
        let cause = match self.store.flush(|| self.is_abandoned()) {
            Ok(true) => return,
            Ok(false) => "it takes too long, or the log is closed".to_owned(),
            Err(fjall::Error::Poisoned) => return drop(self.engine_failed()),
            Err(error) => error.to_string(),
        };
        let dir = self.state.dir.display();
        tracing::warn!(%dir, cause, "the engine can't write what it holds in memory to tables now");
    }

    /// The engine refuses all writes from now on. Nothing of the current batch is written.
    fn engine_failed(&self) -> WriteError {
        let cause = "the storage engine failed in the background; see the log and the disk";
        // The engine fails when it needs a file that was removed.
        if self.state.check_files().is_none() {
            self.state.set_read_only(cause);
        }
        self.state.refusal().unwrap_or_else(|| WriteError::ReadOnly { cause: cause.to_owned() })
    }

    fn is_abandoned(&self) -> bool {
        self.state.abandoned.load(SeqCst)
    }

    pub(super) fn takes_writes(&self) -> bool {
        self.state.refusal().is_none() && !self.is_abandoned()
    }

    /// Writes everything to tables, so that journals can be removed, and merges the tables.
    fn make_room(&mut self) {
        let dir = self.state.dir.display().to_string();
        tracing::info!(dir, "the store has reached the limit of its files: the engine merges what it can");
        let is_merged = self.space.is_merged(self.sequence);
        match if is_merged { Ok(false) } else { self.merge() } {
            Ok(merged) => {
                // Removes the old tables.
                self.release_snapshots();
                let _ = self.store.flush(|| self.is_abandoned());
                if is_merged || merged {
                    self.space.made_room(merged, self.sequence);
                } else {
                    self.space.made_no_room();
                }
            }
            Err(error) => {
                tracing::warn!(dir, %error, "the engine can't make room now");
                self.space.made_no_room();
            }
        }
    }

    /// Writes everything to tables, and merges the tables of each keyspace for which there is room. So superseded
    /// records take no room. Returns whether it has merged any.
    fn merge(&mut self) -> fjall::Result<bool> {
        let (store, mut merged) = (self.store.clone(), false);
        let mut keyspaces = store.keyspaces();
        // Each merge makes room for the next.
        keyspaces.sort_by_key(|keyspace| keyspace.disk_space());
        for keyspace in keyspaces {
            // A merge keeps all that a snapshot needs, also the one that is published. The old tables of the merge
            // before are removed.
            self.release_snapshots();
            if !store.flush(|| self.is_abandoned())? || !store.wait_for_merges(|| self.is_abandoned())? {
                return Ok(merged);
            }
            if self.space.has_room_for_merge(&store, keyspace) {
                keyspace.major_compact()?;
                merged = true;
            }
        }
        Ok(merged)
    }

    /// Publishes a new snapshot in place of the old one. The engine looks only after a write which snapshots are still
    /// needed, and a replay may need one.
    fn release_snapshots(&mut self) {
        for _ in 0..2 {
            if self.commit(self.store.batch()).is_err() {
                return;
            }
            self.publish();
        }
    }

    /// A store that takes no writes has room, so that its refusal is what is answered.
    fn check_room(&mut self, writes: &[QueuedWrite]) -> Result<(), WriteError> {
        if !self.takes_writes() {
            return Ok(());
        }
        let wanted = wanted(writes);
        let room = self.room(wanted);
        if matches!(wanted.purpose, Purpose::Sets) {
            self.state.set_full(room.is_err());
        }
        room
    }

    fn room(&mut self, wanted: Wanted) -> Result<(), WriteError> {
        let checked = self.space.check(&self.store, wanted);
        if checked.is_err() && self.space.has_limit() && self.store.is_merging() {
            // Room for another merge after this one is needed only as long as it runs.
            let _ = self.store.wait_for_merges(|| self.is_abandoned());
            return self.space.check(&self.store, wanted);
        }
        checked
    }

    /// Replies to writes.
    fn reply(&self, writes: Vec<QueuedWrite>, outcome: Result<Vec<Appended>, CommitError>) {
        let failure = match &outcome {
            Ok(_) => None,
            Err(CommitError::NotWritten(error)) => Some(error.clone()),
            Err(CommitError::Unknown(cause)) => {
                Some(WriteError::OutcomeUnknown { by_time: false, cause: cause.clone() })
            }
        };
        let mut appended = outcome.unwrap_or_default().into_iter();
        for write in writes {
            // Before the reply, so that a caller that has it finds room in the queue.
            self.state.queued_bytes.fetch_sub(write.queue_bytes, Relaxed);
            self.state.pending_writes.fetch_sub(1, SeqCst);
            let reply = match (&failure, appended.next()) {
                (None, Some(appended)) => Ok(appended),
                (Some(failure), _) => Err(failure.clone()),
                (None, None) => continue,
            };
            // The send fails if the caller has stopped waiting.
            let _ = write.reply.send(reply);
        }
    }

    fn commit_batch(&mut self, writes: &[QueuedWrite]) -> Result<Vec<Appended>, CommitError> {
        if self.is_abandoned() {
            return Err(CommitError::NotWritten(WriteError::Draining));
        }
        self.state.check_presence();
        if let Some(refusal) = self.state.refusal() {
            return Err(CommitError::NotWritten(refusal));
        }
        self.check_free_files()?;

        let now = (self.clock)();
        let mut heads: HashMap<Partition, Head> = HashMap::new();
        let mut last_of_key: HashMap<&Bytes, usize> = HashMap::new();
        let mut all = Vec::with_capacity(writes.len());
        for (index, write) in writes.iter().enumerate() {
            let (partition, key) = (write.record.partition, &write.record.key);
            let head = heads.entry(partition).or_insert(self.heads[partition.index()]);
            head.timestamp = head.timestamp.max(now);
            let position = Position { partition, offset: head.next };
            all.push(Appended { position, timestamp: Some(head.timestamp) });
            head.next += 1;
            // A key belongs to one workspace, so to one partition.
            last_of_key.insert(key.bytes(), index);
        }

        let mut batch = self.store.batch();
        for (index, write) in writes.iter().enumerate() {
            let (partition, key, appended) = (write.record.partition, &write.record.key, all[index]);
            let offset = appended.position.offset;
            if last_of_key.get(key.bytes()) == Some(&index) {
                let timestamp = appended.timestamp.unwrap_or_default();
                self.plan(&mut batch, &Planned { partition, key, offset, timestamp, write })?;
            }
        }
        for (partition, head) in &heads {
            let entry_key = layout::head_key(*partition);
            batch.insert(&self.store.meta, entry_key, layout::seal(&entry_key, &head.encode()));
        }
        self.space.written(wanted(writes));
        self.commit(batch)?;
        for (partition, head) in heads {
            self.heads[partition.index()] = head;
        }
        self.publish();
        Ok(all)
    }

    /// Adds a record to the batch, and removes the one that it supersedes.
    fn plan(&self, batch: &mut OwnedWriteBatch, planned: &Planned<'_>) -> Result<(), CommitError> {
        let Planned { partition, key, offset, timestamp, write } = *planned;
        let latest = layout::latest_key(partition, key.bytes());
        if let Some(before) = self.latest(&latest).map_err(|e| self.unreadable(e))? {
            self.remove_from_log(batch, partition, before);
        }
        let content =
            layout::encode_record(offset, timestamp, write.record.headers.as_slice(), write.record.value.as_deref());
        let log = layout::log_key(partition, offset);
        batch.insert(&self.store.log, log, layout::seal(&log, key.bytes()));
        if write.record.value.is_none() {
            let tombstone = layout::tombstone_key(timestamp, partition, offset);
            batch.insert(&self.store.tombstones, tombstone, layout::seal(&tombstone, key.bytes()));
        }
        let sealed = layout::seal(&latest, &content);
        batch.insert(&self.store.latest, latest, sealed);
        Ok(())
    }

    pub(super) fn remove_from_log(&self, batch: &mut OwnedWriteBatch, partition: Partition, record: RecordHead) {
        batch.remove(&self.store.log, layout::log_key(partition, record.offset));
        if record.tombstone {
            let entry_key = layout::tombstone_key(record.timestamp, partition, record.offset);
            batch.remove(&self.store.tombstones, entry_key);
        }
    }

    pub(super) fn latest(&self, entry_key: &[u8]) -> Result<Option<RecordHead>, Unreadable> {
        let shown = || Escaped(&String::from_utf8_lossy(layout::key_of_latest(entry_key))).to_string();
        let found = self.store.latest.get(entry_key);
        let found = found.map_err(|e| {
            Unreadable::of_engine(&e, || self.state.damage(format_args!("key {} can't be read: {e:?}", shown())))
        })?;
        let Some(sealed) = found else { return Ok(None) };
        let head = layout::unseal(entry_key, &sealed).and_then(RecordHead::decode);
        head.map(|(head, _)| Some(head))
            .ok_or_else(|| self.state.damage(format_args!("the record of key {} is damaged", shown())).into())
    }

    fn unreadable(&self, unreadable: Unreadable) -> CommitError {
        CommitError::NotWritten(match unreadable {
            Unreadable::Damaged(corrupt) => self.state.set_corrupt(corrupt).into(),
            Unreadable::OutOfFiles(cause) => WriteError::OutOfFiles { cause },
            // Later writes may succeed, so the store takes them.
            Unreadable::Failed(cause) => WriteError::Fault { cause },
        })
    }

    /// The engine opens files for its tables later, in the background. If it can't, it fails for good.
    pub(super) fn check_free_files(&self) -> Result<(), CommitError> {
        let files: io::Result<Vec<File>> = (0..SPARE_FILES).map(|_| self.acked_sequence.another_handle()).collect();
        match files {
            Err(error) if is_out_of_files(&error) => {
                let cause = format!("{SPARE_FILES} files can't be open at the same time: {error}");
                Err(CommitError::NotWritten(WriteError::OutOfFiles { cause }))
            }
            // If another error stands behind it, the commit decides.
            _ => Ok(()),
        }
    }

    pub(super) fn commit(&mut self, mut batch: OwnedWriteBatch) -> Result<(), CommitError> {
        match self.store.wait_for_commit(|| self.is_abandoned()) {
            Err(fjall::Error::Poisoned) => return Err(CommitError::NotWritten(self.engine_failed())),
            Ok(false) if self.is_abandoned() => return Err(CommitError::NotWritten(WriteError::Draining)),
            // If another error stands behind it, or a disk that hangs, the commit decides.
            _ => {}
        }
        let sequence = self.sequence + 1;
        let (entry_key, before) = (layout::sequence_key(sequence), layout::sequence_key(self.sequence));
        let sealed = layout::seal(&entry_key, &[]);
        for keyspace in self.store.keyspaces() {
            batch.insert(keyspace, entry_key, sealed.clone());
            batch.remove(keyspace, before);
        }
        match self.state.metrics.commit(|| batch.commit()) {
            Ok(()) => {}
            // The engine returns this before it writes anything.
            Err(fjall::Error::Poisoned) => return Err(CommitError::NotWritten(self.engine_failed())),
            Err(error) => {
                if self.state.check_files().is_none() {
                    self.state.set_read_only(&failed_commit(&error));
                }
                return Err(CommitError::Unknown(failed_commit(&error)));
            }
        }
        if let Some(gone) = self.state.check_presence() {
            // It is in files that no later process finds.
            return Err(CommitError::Unknown(gone.to_string()));
        }
        self.sequence = sequence;
        if let Err(error) = self.acked_sequence.write(sequence) {
            // The write is durable. Only the check at the next start is weaker.
            tracing::warn!(%error, "the file with the last acknowledged batch can't be written");
        }
        Ok(())
    }

    pub(super) fn publish(&self) {
        self.state.publish(Published::of(&self.store, &self.heads, &self.purged_below));
    }
}
