//! Whether there is room for a batch: on the file system, and within the limit of the data directory.
//!
//! The engine writes to a journal now and to tables later, and a merge of tables needs room for its result before it
//! removes its input. A disk that is full only then would fail other writes than the one that filled it. So room for
//! all of that is needed before a batch is written.
//!
//! - **Bytes**: those that the file system still gives, minus a reserve and what the engine still has to write.
//! - **Files**: the file system may have a limit on them (inodes). One that names none has none.
//! - **The limit of the data** counts what the store's own files occupy, and what the engine may write to them
//!   later. Each batch leaves room for that, whatever it consists of. So the engine can always merge, and never passes
//!   the limit. The files are measured again after a second, and when the engine has made tables. Writes in between
//!   are added. If the files can't be measured, their last size and the writes since then count.
//!
//! Other files of the directory do not count, because the process may not be able to read them (`lost+found`).
//!
//! Below the limit, sets leave room for deletes, and both leave room for a purge, because these make room.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use changelog_core::log::WriteError;
use fjall::Keyspace;

use super::{directory::OWN, metrics::Metrics, store::Store};

/// The smallest limit of its files with which a store works, in bytes: 256 MiB.
///
/// The engine replaces a journal that has 64 MB, and removes it when its records are in tables. So 128 MiB of journals
/// and the four write buffers of 16 MiB are in use. The rest is for tables and their merges.
pub const MIN_DATA_LIMIT: u64 = 256 * 1024 * 1024;

/// Bytes of a block in the metadata of a file.
const BLOCK_BYTES: u64 = 512;
/// The most that the engine merges of a keyspace before it removes what it merged. It takes the newest level (four
/// tables of 64 MiB) with what comes into it, and then a table of a level with about ten of the next one.
const MAX_MERGE_BYTES: u64 = 1024 * 1024 * 1024;
/// The engine begins a merge without a further write in two cases: the newest tables of a keyspace are this many, or a
/// level has more bytes than its four tables may have.
const MERGE_TABLES: usize = 4;
const MERGE_LEVEL_BYTES: u64 = 256 * 1024 * 1024;
/// The share of the limit that sets leave to deletes, which is never less than half of the reserve.
const DELETES_SHARE: u64 = 32;
/// The share of the reserve that a purge leaves. What makes room writes some bytes, too.
const PURGE_SHARE: u64 = 16;
/// How long a measured size is used.
const MEASURE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a full store is written to tables, and how often it is merged as a whole although nothing was written.
const MAKE_ROOM_INTERVAL: Duration = Duration::from_secs(5);
const MERGE_AGAIN_INTERVAL: Duration = Duration::from_secs(30);
/// How often a failing measurement is logged.
const WARN_INTERVAL: Duration = Duration::from_mins(1);

/// How much the journals may have, so that they take no more than an eighth of the limit. The engine takes no less than
/// 64 MiB, and its default is 512 MiB.
pub(super) fn max_journal_bytes(limit: Option<u64>) -> u64 {
    const MIB: u64 = 1024 * 1024;
    limit.map_or(512 * MIB, |limit| (limit / 8).clamp(64 * MIB, 512 * MIB))
}

/// What a batch brings.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// Bytes of its entries.
    pub(super) bytes: u64,
    pub(super) purpose: Purpose,
}

/// What a batch is for. The later ones may use more of the limit.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Sets,
    /// It has only deletes.
    Deletes,
    Purge,
}

/// What stays free, and the limit.
pub(super) struct Reserve {
    pub(super) bytes: u64,
    pub(super) files: u64,
    pub(super) data_limit: Option<u64>,
}

impl Reserve {
    /// What a batch leaves free below the limit.
    fn below_limit(&self, limit: u64, purpose: Purpose) -> u64 {
        let after_deletes = self.bytes / 2;
        match purpose {
            Purpose::Sets => after_deletes.saturating_add(after_deletes.max(limit / DELETES_SHARE)),
            Purpose::Deletes => after_deletes,
            Purpose::Purge => self.bytes / PURGE_SHARE,
        }
    }
}

/// Reads the room of the file system of a directory. Tests set it.
pub(super) type DiskOf = Box<dyn Fn(&Path) -> io::Result<Disk> + Send>;

/// The room of a store.
pub(super) struct Space {
    reserve: Reserve,
    dir: PathBuf,
    disk_of: DiskOf,
    metrics: Metrics,
    /// `None` only without a limit, because opening measures.
    measured: Option<Measured>,
    warned: Option<Instant>,
    made_room: Option<MadeRoom>,
}

/// What the files of the store occupied.
struct Measured {
    /// `None` if the engine has made room since, so that it must be measured again.
    at: Option<Instant>,
    files: u64,
    /// What the engine may write later.
    expected: u64,
    /// The lists of tables of this time. While they are the same, the engine has written only what is in `expected`.
    versions: [u64; 4],
    /// Whether the engine merged, so that `expected` has room for another merge.
    merging: bool,
    written_since: u64,
}

impl Measured {
    fn of(store: &Store) -> io::Result<Self> {
        // In this order, because the engine works meanwhile. What it moves is counted twice, and not missed.
        let (versions, merging) = (store.versions(), store.is_merging());
        let expected = expected(store, merging);
        let files = occupied_by_store(&store.dir)?;
        Ok(Self { at: Some(Instant::now()), files, expected, versions, merging, written_since: 0 })
    }

    fn is_current(&self, store: &Store) -> bool {
        self.at.is_some_and(|at| at.elapsed() < MEASURE_INTERVAL)
            && self.versions == store.versions()
            && self.merging == store.is_merging()
    }

    /// The most that the files occupy now, if the engine has made no tables.
    fn files_now(&self) -> u64 {
        self.files.saturating_add(self.written_since)
    }

    fn bytes(&self) -> u64 {
        self.files_now().saturating_add(self.expected)
    }
}

impl Space {
    /// Measures what the files of the store occupy, if they have a limit. An error if that fails.
    pub(super) fn of(store: &Store, reserve: Reserve, disk_of: DiskOf, metrics: Metrics) -> io::Result<Self> {
        let measured = reserve.data_limit.map(|_| Measured::of(store)).transpose()?;
        let space = Self { reserve, dir: store.dir.clone(), disk_of, metrics, measured, warned: None, made_room: None };
        space.show();
        Ok(space)
    }

    /// Refuses a batch that has no room. If the room is not known, the commit decides.
    pub(super) fn check(&mut self, store: &Store, wanted: Wanted) -> Result<(), WriteError> {
        if let Ok(disk) = (self.disk_of)(&self.dir)
            && let Some(cause) = disk.lacks(&self.reserve, wanted, store.db.write_buffer_size())
        {
            return Err(WriteError::DiskFull { cause });
        }
        let lacks = self.lacks_limit(store, wanted);
        self.show();
        match lacks {
            Some(cause) => Err(WriteError::DiskFull { cause }),
            None => Ok(()),
        }
    }

    /// Adds a batch to the bytes written since the last measurement.
    pub(super) fn written(&mut self, wanted: Wanted) {
        if let Some(measured) = &mut self.measured {
            measured.written_since = measured.written_since.saturating_add(stored(wanted));
        }
    }

    fn lacks_limit(&mut self, store: &Store, wanted: Wanted) -> Option<String> {
        let (limit, known) = (self.reserve.data_limit?, self.measured.as_mut()?);
        let reserve = self.reserve.below_limit(limit, wanted.purpose);
        let refused = |used: u64| {
            let used = used.saturating_add(reserve).saturating_add(stored(wanted));
            (used > limit)
                .then(|| format!("the files of the store need {used} bytes with this write, their limit is {limit}"))
        };
        if known.is_current(store) {
            let cause = refused(known.bytes());
            // The bytes written since are an upper bound, so they alone refuse nothing.
            if cause.is_none() || known.written_since == 0 {
                return cause;
            }
        }
        match Measured::of(store) {
            Ok(measured) => {
                *known = measured;
                refused(known.bytes())
            }
            Err(error) => {
                if self.warned.is_none_or(|warned| warned.elapsed() >= WARN_INTERVAL) {
                    let dir = self.dir.display();
                    tracing::warn!(%dir, %error, "the size of the store can't be measured: its last size counts");
                    self.warned = Some(Instant::now());
                }
                // The engine may have made tables, which it may merge.
                let expected = expected(store, store.is_merging()).max(known.expected);
                let cause = refused(known.files_now().saturating_add(expected))?;
                Some(format!("{cause}; they can't be measured now: {error}"))
            }
        }
    }

    /// Shows the bytes that count against the limit before a set, without its own.
    fn show(&self) {
        if let (Some(limit), Some(measured)) = (self.reserve.data_limit, &self.measured) {
            self.metrics.set_needed(measured.bytes().saturating_add(self.reserve.below_limit(limit, Purpose::Sets)));
        }
    }

    pub(super) fn has_limit(&self) -> bool {
        self.reserve.data_limit.is_some()
    }

    /// Whether the engine is to make room now, because the limit has refused a write. Not if it did a short time ago.
    pub(super) fn may_make_room(&self) -> bool {
        let is_due = self.made_room.as_ref().is_none_or(|made| made.at.elapsed() >= MAKE_ROOM_INTERVAL);
        self.has_limit() && is_due
    }

    /// Whether everything was merged a short time ago, and nothing was written since. `sequence` is that of the last
    /// batch. A replay may have needed then what it needs no more.
    pub(super) fn is_merged(&self, sequence: u64) -> bool {
        let merged = self.made_room.as_ref().and_then(|made| made.merged.as_ref());
        merged.is_some_and(|merged| merged.until == sequence && merged.at.elapsed() < MERGE_AGAIN_INTERVAL)
    }

    /// Whether a keyspace can be merged within the limit, which writes all of it again. The engine may merge others
    /// at the same time.
    pub(super) fn has_room_for_merge(&self, store: &Store, keyspace: &Keyspace) -> bool {
        let others = store.keyspaces().into_iter().filter(|other| other.id() != keyspace.id());
        let others =
            others.filter(|other| other.l0_table_count() >= MERGE_TABLES || other.disk_space() > MERGE_LEVEL_BYTES);
        let own = keyspace.disk_space();
        let merged = others.map(merge_bytes).sum::<u64>().saturating_add(own).saturating_add(own / 64);
        let limit = self.reserve.data_limit.unwrap_or(u64::MAX);
        let needed = merged
            .saturating_add(store.db.write_buffer_size().saturating_mul(2))
            .saturating_add(self.reserve.below_limit(limit, Purpose::Purge));
        let used = occupied_by_store(&self.dir).ok().or_else(|| self.measured.as_ref().map(Measured::bytes));
        used.is_some_and(|used| used.saturating_add(needed) <= limit)
    }

    /// The engine has made what room it can. `merged` says whether it has merged everything now, and `sequence` is that
    /// of the last batch.
    pub(super) fn made_room(&mut self, merged: bool, sequence: u64) {
        let at = Instant::now();
        let before = self.made_room.take().and_then(|made| made.merged);
        // Without a merge now, an earlier one holds: only empty batches came after it.
        let merged_at = if merged { Some(at) } else { before.map(|merged| merged.at) };
        let merged = merged_at.map(|at| Merged { at, until: sequence });
        self.made_room = Some(MadeRoom { at, merged });
        self.measure_again();
    }

    /// The engine could not make room.
    pub(super) fn made_no_room(&mut self) {
        self.made_room = Some(MadeRoom { at: Instant::now(), merged: None });
        self.measure_again();
    }

    fn measure_again(&mut self) {
        if let Some(measured) = &mut self.measured {
            measured.at = None;
        }
    }
}

/// What the engine did last to make room.
struct MadeRoom {
    at: Instant,
    merged: Option<Merged>,
}

/// When everything was merged, and up to which batch.
struct Merged {
    at: Instant,
    until: u64,
}

/// What the engine may write without further writes: its buffers to tables, and all keyspaces again in merges. It can
/// merge several at the same time, and the old tables stay until no snapshot needs them. If it merges now, the result
/// may be merged again before that.
fn expected(store: &Store, merging: bool) -> u64 {
    // First, because the engine writes buffers to tables meanwhile.
    let buffered = store.db.write_buffer_size();
    let merges = if merging { 2 } else { 1 };
    let merged = store.keyspaces().into_iter().map(merge_bytes).sum::<u64>().saturating_add(buffered);
    buffered.saturating_add(merged.saturating_mul(merges))
}

/// The result can be a little larger than what is merged, because deeper levels are compressed in another way.
fn merge_bytes(keyspace: &Keyspace) -> u64 {
    let tables = keyspace.disk_space();
    tables.saturating_add(tables / 64).min(MAX_MERGE_BYTES)
}

/// An entry is in the journal, in a table, and in a merged table.
fn stored(wanted: Wanted) -> u64 {
    wanted.bytes.saturating_mul(3)
}

/// The room of the file system.
pub(super) struct Disk {
    pub(super) free_bytes: u64,
    /// `None` if it has no limit on files.
    pub(super) free_files: Option<u64>,
}

impl Disk {
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(dir)?;
        let free_files = (stat.f_files > 0).then_some(stat.f_favail);
        Ok(Self { free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize), free_files })
    }

    /// `buffered` is what the engine has to write to tables.
    fn lacks(&self, reserve: &Reserve, wanted: Wanted, buffered: u64) -> Option<String> {
        let (free, needed) = (self.free_bytes.saturating_sub(buffered), reserve.bytes.saturating_add(stored(wanted)));
        if free < needed {
            return Some(format!("{free} bytes are free beyond what is reserved, {needed} are needed"));
        }
        let free = self.free_files.filter(|free| *free < reserve.files)?;
        Some(format!("the file system takes {free} more files (inodes), {} are needed", reserve.files))
    }
}

/// The bytes that the store's own files in a data directory occupy.
pub(super) fn occupied_by_store(dir: &Path) -> io::Result<u64> {
    OWN.iter().map(|name| occupied(&dir.join(name))).sum()
}

/// The bytes that a file occupies, or a directory with what is below it. A journal is prepared with a length that it
/// does not occupy.
fn occupied(path: &Path) -> io::Result<u64> {
    // The engine removes files meanwhile.
    let unless_removed = |error: io::Error| if error.kind() == io::ErrorKind::NotFound { Ok(0) } else { Err(error) };
    // Not through links.
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return unless_removed(error),
    };
    let below = || fs::read_dir(path)?.map(|entry| occupied(&entry?.path())).sum::<io::Result<u64>>();
    let below = if metadata.is_dir() { below().or_else(unless_removed)? } else { 0 };
    Ok(below.saturating_add(metadata.blocks().saturating_mul(BLOCK_BYTES)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: Wanted = Wanted { bytes: 100, purpose: Purpose::Sets };

    fn reserve(bytes: u64, files: u64) -> Reserve {
        Reserve { bytes, files, data_limit: None }
    }

    /// Covers R45.
    #[test]
    fn a_batch_needs_free_bytes_and_free_files() {
        // Free bytes, free files, the reserve, what the engine has to write, and whether a set of 100 bytes has room.
        for (free_bytes, free_files, reserve, buffered, room) in [
            (1300, Some(64), reserve(1000, 64), 0, true),
            (1299, Some(64), reserve(1000, 64), 0, false),
            (1300, Some(64), reserve(1000, 64), 1, false),
            (1300, Some(63), reserve(1000, 64), 0, false),
            (1300, Some(0), reserve(1000, 64), 0, false),
            (1300, Some(0), reserve(1000, 0), 0, true),
            (1300, None, reserve(1000, u64::MAX), 0, true),
            (u64::MAX, Some(u64::MAX), reserve(u64::MAX, u64::MAX), 0, true),
            (0, Some(u64::MAX), reserve(0, 0), 0, false),
        ] {
            let lacks = Disk { free_bytes, free_files }.lacks(&reserve, SET, buffered);
            assert_eq!(lacks.is_none(), room, "{free_bytes} {free_files:?} {}: {lacks:?}", reserve.files);
            if free_bytes == 1300 && free_files < Some(64) && !room {
                assert!(lacks.unwrap().contains("inodes"));
            }
        }
    }

    /// Covers R45.
    #[test]
    fn a_file_counts_with_what_it_occupies() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let empty = occupied(dir.path()).unwrap();
        fs::File::create(at("sparse")).unwrap().set_len(1 << 30).unwrap();
        assert!(occupied(dir.path()).unwrap() < empty + 65_536, "a length alone is not there");
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/b/full"), vec![1; 1 << 20]).unwrap();
        fs::File::open(at("a/b/full")).unwrap().sync_all().unwrap();
        let full = occupied(dir.path()).unwrap();
        assert!((1 << 20..2 << 20).contains(&full), "{full}");
        std::os::unix::fs::symlink("/usr", at("link")).unwrap();
        std::os::unix::fs::symlink("missing", at("dangling")).unwrap();
        assert!(occupied(dir.path()).unwrap() < full + 65_536, "links are not followed");
        assert!(occupied_by_store(dir.path()).unwrap() == 0, "only the store's own files count");
        fs::rename(at("a"), at("engine")).unwrap();
        assert!((1 << 20..2 << 20).contains(&occupied_by_store(dir.path()).unwrap()));
    }

    /// Covers R45.
    #[test]
    fn journals_take_an_eighth_of_the_limit_within_what_the_engine_takes() {
        const MIB: u64 = 1024 * 1024;
        for (limit, journals) in [
            (None, 512),
            (Some(0), 64),
            (Some(MIN_DATA_LIMIT), 64),
            (Some(1024 * MIB), 128),
            (Some(2048 * MIB), 256),
            (Some(u64::MAX), 512),
        ] {
            assert_eq!(max_journal_bytes(limit), journals * MIB, "{limit:?}");
        }
    }
}
