//! A store in its data directory: its lock, its identity, and the storage engine in it.
//!
//! **The acknowledged sequence.** After a crash the engine cuts its journal at the first entry that it can't read,
//! because the end may be torn. It can't distinguish that from damage further in, and would silently drop acknowledged
//! batches after the damage. So each batch has a sequence number. `acknowledged` is overwritten with it *after* the
//! batch is fsynced, without an fsync of its own. It may be behind the engine, never ahead of it. A store whose engine
//! is behind it at the start has lost writes, and is not served. A store whose keyspaces do not all end at the same
//! batch is not served either. Some were in tables already, and others lost the journal's part.
//!
//! Promises that nothing in a foreign directory is changed, and that the lock is released last, after the engine has
//! stopped.

use std::{
    fmt, fs,
    fs::{File, TryLockError},
    io,
    io::{Read as _, Write as _},
    ops::Deref,
    os::unix::fs::FileExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use changelog_core::model::{Partition, PartitionCount};
use fjall::{AbstractTree as _, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode};
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    directory::{self, ACKED_SEQUENCE, ENGINE, ENGINE_NEW, LOCK, MARKER, MARKER_NEW},
    engine_check,
    error::OpenError,
    layout::{self, Head},
    presence::Presence,
    tables,
};

/// How much memory a keyspace takes before it is written to a table. It bounds what is read again after a crash.
const MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;

/// What a store is. It never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: Uuid,
    pub(super) partition_count: PartitionCount,
}

impl Identity {
    pub(super) fn to_text(self) -> String {
        let text = format!("format {}\nid {}\npartitions {}\n", layout::VERSION, self.id, self.partition_count);
        let crc = crc32fast::hash(text.as_bytes());
        format!("{text}crc32 {crc:08x}\n")
    }

    pub(super) fn parse(dir: &Path, text: &str) -> Result<Self, OpenError> {
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        // Checked first, because another format may have changed the rest.
        match field("format") {
            Some(format) if format != layout::VERSION.to_string() => {
                return Err(OpenError::Format { dir: dir.to_owned(), stored: format.to_owned() });
            }
            _ => {}
        }
        let identity = || {
            let id = Uuid::parse_str(field("id")?).ok()?;
            let partition_count = PartitionCount::new(field("partitions")?.parse().ok()?)?;
            Some(Self { id, partition_count })
        };
        identity()
            .filter(|identity| identity.to_text() == text)
            .ok_or_else(|| OpenError::corrupt(dir, format!("{} is damaged", dir.join(MARKER).display())))
    }
}

/// An open store. It keeps the engine running and the directory locked.
pub(super) struct Store {
    // Dropped in this order. The keyspaces hold the engine's lock, and our lock must be the last.
    pub(super) latest: Keyspace,
    pub(super) log: Keyspace,
    pub(super) tombstones: Keyspace,
    pub(super) meta: Keyspace,
    pub(super) db: Database,
    pub(super) dir: PathBuf,
    _lock: File,
    _open: watch::Sender<()>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// The store that the writer and the replays share.
///
/// Dropping a store stops the engine, and waits for its threads, which may merge tables for a long time. The last that
/// has the store may be a task of a runtime. So its drop hands the store to another thread.
pub(super) struct SharedStore {
    /// `None` only in the drop.
    store: Option<Store>,
    unused: Sender<Store>,
}

impl SharedStore {
    /// The receiver gets the store when nothing uses it any more, and drops it.
    pub(super) fn new(store: Store) -> (Arc<Self>, Receiver<Store>) {
        let (unused, receiver) = channel();
        (Arc::new(Self { store: Some(store), unused }), receiver)
    }
}

impl Deref for SharedStore {
    type Target = Store;

    fn deref(&self) -> &Store {
        match &self.store {
            Some(store) => store,
            None => unreachable!("only the drop takes it"),
        }
    }
}

impl Drop for SharedStore {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            // If the opening failed, there is no receiver, and the store is dropped here.
            let _ = self.unused.send(store);
        }
    }
}

/// An open store, and the state that its writer continues from.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) identity: Identity,
    pub(super) heads: Vec<Head>,
    pub(super) purged_below: Vec<i64>,
    pub(super) sequence: u64,
    pub(super) acked_sequence: AckedSequence,
    pub(super) presence: Presence,
    /// Closed when the store is dropped.
    pub(super) open: watch::Receiver<()>,
}

/// How the engine is started.
#[derive(Debug, Clone, Copy)]
pub(super) struct EngineSettings {
    pub(super) cached_files: usize,
    pub(super) max_journal_bytes: u64,
    pub(super) cache_bytes: u64,
}

/// Opens the store of a directory, or creates one.
pub(super) fn open(
    dir: &Path,
    asked: Option<PartitionCount>,
    default: PartitionCount,
    settings: EngineSettings,
) -> Result<Opened, OpenError> {
    let fail = |cause| OpenError::io(dir, cause);
    directory::create(dir)?;
    directory::check_kinds(dir)?;
    let has_marker = dir.join(MARKER).try_exists().map_err(fail)?;
    if !has_marker {
        // Checked before the lock file is created, and again under the lock.
        directory::check_harmless(dir)?;
    }
    let lock = lock(dir)?;
    directory::check_kinds(dir)?;
    if !dir.join(MARKER).try_exists().map_err(fail)? {
        directory::check_harmless(dir)?;
        guarded(dir, || make(dir, asked.unwrap_or(default), settings))?;
    }
    let mut marker = String::new();
    let read = directory::options().read(true).open(dir.join(MARKER));
    read.and_then(|mut file| file.read_to_string(&mut marker)).map_err(fail)?;
    let identity = Identity::parse(dir, &marker)?;
    if let Some(asked) = asked.filter(|asked| *asked != identity.partition_count) {
        return Err(OpenError::PartitionCount { dir: dir.to_owned(), stored: identity.partition_count, asked });
    }
    if dir.join(ENGINE_NEW).try_exists().map_err(fail)? && !dir.join(ENGINE).try_exists().map_err(fail)? {
        // The creation was interrupted between the marker and this rename.
        fs::rename(dir.join(ENGINE_NEW), dir.join(ENGINE)).and_then(|()| directory::sync(dir)).map_err(fail)?;
    }
    if !dir.join(ENGINE).join("version").try_exists().map_err(fail)? {
        // The engine would create a new one.
        return Err(OpenError::corrupt(dir, format!("{} has no version file", dir.join(ENGINE).display())));
    }
    directory::check_engine_kinds(dir, &dir.join(ENGINE))?;
    engine_check::check(dir, &dir.join(ENGINE))?;
    guarded(dir, || recover(dir, identity, lock, settings))
}

/// Runs a part of the opening in which the engine may panic, as it does on some kinds of damage.
pub(super) fn guarded<T>(dir: &Path, open: impl FnOnce() -> Result<T, OpenError>) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|_| Err(OpenError::Panicked { dir: dir.to_owned() }))
}

fn recover(dir: &Path, identity: Identity, lock: File, settings: EngineSettings) -> Result<Opened, OpenError> {
    let engine = |error| OpenError::engine(dir, error);
    let (db, [latest, log, tombstones, meta]) = start_engine(&dir.join(ENGINE), settings).map_err(engine)?;
    let read = |entry_key: &[u8]| -> Result<Option<Vec<u8>>, OpenError> {
        let Some(sealed) = meta.get(entry_key).map_err(engine)? else { return Ok(None) };
        let content = layout::unseal(entry_key, &sealed).map(<[u8]>::to_vec);
        content.map(Some).ok_or_else(|| OpenError::corrupt(dir, format!("meta entry {entry_key:02x?} is damaged")))
    };
    if read(layout::IDENTITY)?.as_deref() != Some(identity.to_text().as_bytes()) {
        return Err(OpenError::corrupt(dir, "the marker file and the storage engine's files are not of one store"));
    }
    let sequence = last_batch(dir, "meta", &meta)?;
    // The engine writes each keyspace to tables at another time. If it cuts a journal, only the keyspaces that are not
    // in tables lose data.
    for (name, keyspace) in [("latest", &latest), ("log", &log), ("tombstones", &tombstones)] {
        let last = last_batch(dir, name, keyspace)?;
        if last != sequence {
            let detail = format!(
                "acknowledged writes are missing: keyspace {name:?} in {} ends at batch {last}, meta at {sequence}",
                dir.join(ENGINE).display()
            );
            return Err(OpenError::corrupt(dir, detail));
        }
    }
    let acked_sequence = AckedSequence::open(&dir.join(ACKED_SEQUENCE)).map_err(|cause| OpenError::io(dir, cause))?;
    match acked_sequence.read() {
        Some(acknowledged) if acknowledged <= sequence => {}
        Some(acknowledged) => {
            let detail = format!(
                "acknowledged writes are missing: batch {acknowledged} was written, \
                 the journal in {} ends at {sequence}",
                dir.join(ENGINE).display()
            );
            return Err(OpenError::corrupt(dir, detail));
        }
        None => return Err(OpenError::corrupt(dir, format!("{} is damaged", dir.join(ACKED_SEQUENCE).display()))),
    }
    let (mut heads, mut purged_below) = (Vec::new(), Vec::new());
    for partition in identity.partition_count.all() {
        let head = match read(&layout::head_key(partition))? {
            None => Head::default(),
            Some(content) => Head::decode(&content)
                .ok_or_else(|| OpenError::corrupt(dir, format!("the head of partition {partition} is damaged")))?,
        };
        check_end(dir, &log, partition, head)?;
        heads.push(head);
        let below = match read(&layout::purged_below_key(partition))? {
            None => 0,
            Some(content) => content.try_into().map(i64::from_be_bytes).map_err(|_| {
                OpenError::corrupt(dir, format!("the entry of purged tombstones of partition {partition} is damaged"))
            })?,
        };
        purged_below.push(below);
    }
    let presence = Presence::of(dir).map_err(|cause| OpenError::io(dir, cause))?;
    let (sender, open) = watch::channel(());
    let dir = dir.to_owned();
    let store = Store { latest, log, tombstones, meta, db, dir, _lock: lock, _open: sender };
    Ok(Opened { store, identity, heads, purged_below, sequence, acked_sequence, presence, open })
}

/// The last batch of a keyspace. It is 0 in a new store, and in tables from the start.
fn last_batch(dir: &Path, name: &str, keyspace: &Keyspace) -> Result<u64, OpenError> {
    let mut batches = keyspace.prefix(layout::SEQUENCE);
    let Some(first) = batches.next() else {
        return Err(OpenError::corrupt(
            dir,
            format!("keyspace {name} of the storage engine has no batch, not even the first"),
        ));
    };
    let (entry_key, sealed) = first.into_inner().map_err(|error| OpenError::engine(dir, error))?;
    let sequence = layout::unseal(&entry_key, &sealed).and_then(|_| layout::sequence_of(&entry_key));
    match (sequence, batches.next()) {
        (Some(sequence), None) => Ok(sequence),
        _ => {
            let detail =
                format!("the storage engine has not all batches of keyspace {name} in the order they were written");
            Err(OpenError::corrupt(dir, detail))
        }
    }
}

/// Returns an error if a partition has a record above its end, because the writer would overwrite it.
fn check_end(dir: &Path, log: &Keyspace, partition: Partition, head: Head) -> Result<(), OpenError> {
    let Some(last) = log.prefix(layout::partition_prefix(partition)).next_back() else { return Ok(()) };
    let last = last.key().map_err(|error| OpenError::engine(dir, error))?;
    match layout::offset_of_log(&last) {
        Some(offset) if offset < head.next => Ok(()),
        last => {
            let next = head.next;
            Err(OpenError::corrupt(dir, format!("partition {partition} ends at {next}, its last record is {last:?}")))
        }
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let file = directory::options().write(true).create(true).truncate(false).open(dir.join(LOCK));
    let file = file.map_err(|cause| OpenError::io(dir, cause))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(cause)) => Err(OpenError::io(dir, cause)),
    }
}

/// Creates a store. Without the marker it is no store yet, and the creation starts again.
fn make(dir: &Path, partition_count: PartitionCount, settings: EngineSettings) -> Result<(), OpenError> {
    let fail = |cause| OpenError::io(dir, cause);
    let identity = Identity { id: Uuid::new_v4(), partition_count };
    match fs::remove_dir_all(dir.join(ENGINE_NEW)) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(fail(cause)),
        _ => {}
    }
    // The engine would follow a link to it.
    directory::create_directory(&dir.join(ENGINE_NEW)).map_err(fail)?;
    {
        let engine = |error| OpenError::engine(dir, error);
        let (db, keyspaces) = start_engine(&dir.join(ENGINE_NEW), settings).map_err(engine)?;
        let mut batch = db.batch().durability(Some(PersistMode::SyncAll));
        let [.., meta] = &keyspaces;
        batch.insert(meta, layout::IDENTITY, layout::seal(layout::IDENTITY, identity.to_text().as_bytes()));
        let first = layout::sequence_key(0);
        for keyspace in &keyspaces {
            batch.insert(keyspace, first, layout::seal(&first, &[]));
        }
        batch.commit().map_err(engine)?;
        // The first batch is written to tables, where no damage to a journal can remove it. So a missing batch is
        // always noticed.
        if !tables::flush(&db, keyspaces.each_ref(), || false).map_err(engine)? {
            return Err(fail(io::ErrorKind::TimedOut.into()));
        }
    }
    // The engine does not sync this directory. If a keyspace's name were lost with the power, the store would count as
    // damaged.
    directory::sync(&dir.join(ENGINE_NEW).join("keyspaces")).map_err(fail)?;
    let acked_sequence = AckedSequence(directory::create_file(&dir.join(ACKED_SEQUENCE)).map_err(fail)?);
    acked_sequence.write(0).and_then(|()| acked_sequence.0.sync_all()).map_err(fail)?;
    let mut marker = directory::create_file(&dir.join(MARKER_NEW)).map_err(fail)?;
    marker.write_all(identity.to_text().as_bytes()).and_then(|()| marker.sync_all()).map_err(fail)?;
    directory::sync(dir).map_err(fail)?;
    fs::rename(dir.join(MARKER_NEW), dir.join(MARKER)).and_then(|()| directory::sync(dir)).map_err(fail)
}

/// The engine takes no fewer.
const MIN_CACHED_FILES: usize = 10;

fn start_engine(dir: &Path, settings: EngineSettings) -> fjall::Result<(Database, [Keyspace; 4])> {
    // Each batch syncs the journal itself, before it is published.
    let db = Database::builder(dir)
        .manual_journal_persist(true)
        .max_cached_files(Some(settings.cached_files.max(MIN_CACHED_FILES)))
        .max_journaling_size(settings.max_journal_bytes)
        .cache_size(settings.cache_bytes)
        .open()?;
    let keyspace = |name| db.keyspace(name, || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES));
    let keyspaces = [keyspace("latest")?, keyspace("log")?, keyspace("tombstones")?, keyspace("meta")?];
    Ok((db, keyspaces))
}

impl Store {
    pub(super) fn keyspaces(&self) -> [&Keyspace; 4] {
        [&self.latest, &self.log, &self.tombstones, &self.meta]
    }

    /// A batch whose commit returns after an fsync.
    pub(super) fn batch(&self) -> OwnedWriteBatch {
        self.db.batch().durability(Some(PersistMode::SyncAll))
    }

    /// Writes everything to tables. The engine then removes files that no snapshot needs.
    pub(super) fn flush(&self, stop: impl Fn() -> bool) -> fjall::Result<bool> {
        tables::flush(&self.db, self.keyspaces(), stop)
    }

    /// Waits until a commit does not wait in the engine.
    pub(super) fn wait_for_commit(&self, stop: impl Fn() -> bool) -> fjall::Result<bool> {
        tables::wait_for_commit(&self.db, self.keyspaces(), stop)
    }

    /// Waits until the engine merges no tables.
    pub(super) fn wait_for_merges(&self, stop: impl Fn() -> bool) -> fjall::Result<bool> {
        tables::wait_for_merges(&self.db, stop)
    }

    pub(super) fn is_merging(&self) -> bool {
        self.db.active_compactions() > 0
    }

    /// The lists of tables. Each has another number when the engine has written a buffer to a table, or has merged.
    pub(super) fn versions(&self) -> [u64; 4] {
        self.keyspaces().map(|keyspace| keyspace.tree.current_version().id())
    }
}

/// The file with the sequence of the last acknowledged batch.
#[derive(Debug)]
pub(super) struct AckedSequence(File);

impl AckedSequence {
    fn open(path: &Path) -> io::Result<Self> {
        directory::options().read(true).write(true).open(path).map(Self)
    }

    /// `None` if the file is damaged.
    fn read(&self) -> Option<u64> {
        let mut bytes = [0; 12];
        self.0.read_exact_at(&mut bytes, 0).ok()?;
        let (sequence, crc) = bytes.split_first_chunk::<8>()?;
        (crc == crc32fast::hash(sequence).to_be_bytes()).then(|| u64::from_be_bytes(*sequence))
    }

    /// Another handle on the file, which takes a file descriptor.
    pub(super) fn another_handle(&self) -> io::Result<File> {
        self.0.try_clone()
    }

    /// Overwrites one sector in place, so the file has the old sequence or the new one.
    pub(super) fn write(&self, sequence: u64) -> io::Result<()> {
        let sequence = sequence.to_be_bytes();
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&sequence);
        bytes[8..].copy_from_slice(&crc32fast::hash(&sequence).to_be_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}
