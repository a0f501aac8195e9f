//! Refuses to open a store if the engine's lists of files are damaged, because the engine does not check them itself.
//! Runs before the engine starts. While the engine runs, it looks for files of these lists that were removed.
//!
//! The engine is fjall, a log-structured merge tree. A *keyspace* is one sorted map. Its records are in *tables*:
//! sorted files that never change. A *version* is a list of tables, and the last version says what the keyspace
//! contains. It lists the tables by *level*: newer records are on lower levels. A level consists of *runs*, and the
//! tables of one run do not overlap.
//!
//! ```text
//!   engine/keyspaces/<n>/current      the number of the last version, and its XXH3-128
//!   engine/keyspaces/<n>/v<version>   a version
//!   engine/keyspaces/<n>/tables/<id>  a table
//! ```
//!
//! Versions and tables are archives of the crate `sfa`: named sections of bytes, a *table of contents* that lists the
//! sections, and a *trailer*. The trailer has the place of the table of contents, and its XXH3-128.
//!
//! Without this check, a flipped bit in a version could lose a table, or put it on a wrong level. A flipped bit in a
//! table of contents could make the engine allocate memory until the process is killed. If a keyspace were missing,
//! the engine would create it empty.
//!
//! Does not check the sections of tables. The engine checks their checksums when it reads them.

use std::{
    fmt, fs,
    fs::File,
    io,
    io::Cursor,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::xxh3_128;

use super::error::OpenError;

/// The engine's own keyspace and our four, numbered in the order of their creation.
pub(super) const KEYSPACES: u64 = 5;
/// The start of a table's trailer. The checksum, the position and the length of the table of contents follow.
const TRAILER: [u8; 6] = *b"SFA!\x01\0";
const TRAILER_BYTES: u64 = TRAILER.len() as u64 + 16 + 8 + 8;
/// How often a list is read that the engine replaces meanwhile.
const MAX_READS: usize = 3;
/// A table of contents has about ten sections.
const MAX_CONTENTS_BYTES: u64 = 64 * 1024;

/// Returns an error if one of the engine's files is damaged or missing.
pub(super) fn check(dir: &Path, engine: &Path) -> Result<(), OpenError> {
    (0..KEYSPACES).try_for_each(|n| check_keyspace(dir, &engine.join("keyspaces").join(n.to_string())))
}

fn check_keyspace(dir: &Path, keyspace: &Path) -> Result<(), OpenError> {
    let read = |file: &Path| fs::read(file).map_err(|cause| OpenError::engine_file(dir, file, cause));
    let path = keyspace.join("current");
    let current = read(&path)?;
    let Some((version, checksum)) = parse_current(&current) else {
        return Err(damaged(dir, &path, format_args!("its {} bytes are not a version and a checksum", current.len())));
    };
    let path = keyspace.join(format!("v{version}"));
    let content = read(&path)?;
    if xxh3_128(&content) != checksum {
        let what = format_args!("its checksum is not the one in the file \"current\" next to it");
        return Err(damaged(dir, &path, what));
    }
    let Some(tables) = table_ids(&content) else {
        return Err(damaged(dir, &path, format_args!("it can't be read, though its checksum is right")));
    };
    tables.iter().try_for_each(|table| check_table(dir, &keyspace.join("tables").join(table.to_string())))
}

/// A file that the engine has in use and that was removed. The engine may run.
pub(super) fn removed(engine: &Path) -> Option<PathBuf> {
    (0..KEYSPACES).find_map(|n| removed_from(&engine.join("keyspaces").join(n.to_string())))
}

fn removed_from(keyspace: &Path) -> Option<PathBuf> {
    let path = keyspace.join("current");
    // The engine replaces this file first, and then removes what only its old content names. So a missing file was
    // removed by someone else if the content is still the same. A version is used for some milliseconds at least.
    for _ in 0..MAX_READS {
        let current = match fs::read(&path) {
            Ok(current) => current,
            Err(error) => return is_absence(&error).then_some(path),
        };
        let missing = missing_of(keyspace, &current)?;
        if fs::read(&path).is_ok_and(|now| now == current) {
            return Some(missing);
        }
    }
    None
}

/// The version or a table of it, if it is missing. What is damaged is found at the next start.
fn missing_of(keyspace: &Path, current: &[u8]) -> Option<PathBuf> {
    let (version, _) = parse_current(current)?;
    let path = keyspace.join(format!("v{version}"));
    let content = match fs::read(&path) {
        Ok(content) => content,
        Err(error) => return is_absence(&error).then_some(path),
    };
    let mut tables = table_ids(&content)?.into_iter().map(|table| keyspace.join("tables").join(table.to_string()));
    tables.find(|table| fs::symlink_metadata(table).is_err_and(|error| is_absence(&error)))
}

/// Whether this error says that the file is not there. Others say nothing about it.
pub(super) fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn damaged(dir: &Path, file: &Path, what: fmt::Arguments<'_>) -> OpenError {
    OpenError::corrupt(dir, format!("{}: {what}", file.display()))
}

fn parse_current(bytes: &[u8]) -> Option<(u64, u128)> {
    let (version, rest) = bytes.split_first_chunk()?;
    let (checksum, kind) = rest.split_first_chunk()?;
    (*kind == [0]).then(|| (u64::from_le_bytes(*version), u128::from_le_bytes(*checksum)))
}

/// The ids of a version's tables. Its checksum was right.
fn table_ids(version: &[u8]) -> Option<Vec<u64>> {
    let archive = sfa::Reader::from_reader(&mut Cursor::new(version)).ok()?;
    let section = archive.toc().section(b"tables")?;
    let start = usize::try_from(section.pos()).ok()?;
    let end = start.checked_add(usize::try_from(section.len()).ok()?)?;
    let mut bytes = ByteReader(version.get(start..end)?);
    let mut ids = Vec::new();
    for _level in 0..u8::from_le_bytes(bytes.read()?) {
        for _run in 0..u8::from_le_bytes(bytes.read()?) {
            for _table in 0..u32::from_le_bytes(bytes.read()?) {
                ids.push(u64::from_le_bytes(bytes.read()?));
                // The kind of its checksum, the checksum, and a sequence number.
                let _: [u8; 1 + 16 + 8] = bytes.read()?;
            }
        }
    }
    bytes.0.is_empty().then_some(ids)
}

struct ByteReader<'a>(&'a [u8]);

impl ByteReader<'_> {
    fn read<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }
}

/// Checks a table's table of contents.
fn check_table(dir: &Path, table: &Path) -> Result<(), OpenError> {
    let fail = |cause| OpenError::engine_file(dir, table, cause);
    let file = File::open(table).map_err(fail)?;
    let length = file.metadata().map_err(fail)?.len();
    let Some(end) = length.checked_sub(TRAILER_BYTES) else {
        return Err(damaged(dir, table, format_args!("it ends at byte {length}, which is too short for its trailer")));
    };
    let mut trailer = [0; TRAILER_BYTES as usize];
    file.read_exact_at(&mut trailer, end).map_err(fail)?;
    let Some((checksum, start)) = parse_trailer(&trailer, end) else {
        return Err(damaged(dir, table, format_args!("its trailer, at byte {end}, is damaged")));
    };
    let mut contents = vec![0; (end - start) as usize];
    file.read_exact_at(&mut contents, start).map_err(fail)?;
    if xxh3_128(&contents) != checksum {
        return Err(damaged(dir, table, format_args!("its table of contents, at byte {start}, is damaged")));
    }
    Ok(())
}

/// The checksum and the position of a table of contents that ends where the trailer starts.
fn parse_trailer(trailer: &[u8], end: u64) -> Option<(u128, u64)> {
    let mut bytes = ByteReader(trailer);
    let is_trailer = bytes.read()? == TRAILER;
    let checksum = u128::from_le_bytes(bytes.read()?);
    let start = u64::from_le_bytes(bytes.read()?);
    let length = u64::from_le_bytes(bytes.read()?);
    let is_in_place = start.checked_add(length) == Some(end) && length <= MAX_CONTENTS_BYTES;
    (is_trailer && is_in_place).then_some((checksum, start))
}
