//! What the storage engine believes of its own files without a look at their checksums: checked before it does.
//!
//! ```text
//!   engine/keyspaces/<n>/current      which version is the last one, and its XXH3-128
//!   engine/keyspaces/<n>/v<version>   the tables that are in it
//!   engine/keyspaces/<n>/tables/<id>  blocks (each with a checksum), a table of contents, and its XXH3-128 at the end
//! ```
//!
//! A flipped bit in a version would let a table go or be read as older than it is, and one in a count makes the engine ask for
//! memory until the process is ended. A keyspace that is not there would be made anew, empty.
//!
//! Does not: look at blocks. They are checked when they are read.

use std::{fmt, fs, fs::File, io::Cursor, os::unix::fs::FileExt as _, path::Path};

use xxhash_rust::xxh3::xxh3_128;

use super::error::OpenError;

/// The engine's own and our four, numbered as they were made.
const KEYSPACES: u64 = 5;
/// The start of what is at a table's end; behind it come the checksum, the place and the length of its table of contents.
const TRAILER: [u8; 6] = *b"SFA!\x01\0";
const TRAILER_BYTES: u64 = TRAILER.len() as u64 + 16 + 8 + 8;
/// A table of contents names some ten sections.
const MAX_CONTENTS_BYTES: u64 = 64 * 1024;

/// Whether the engine's files in this directory can be left to it.
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
        let what = format_args!("its checksum is not the one in the file \"current\" beside it");
        return Err(damaged(dir, &path, what));
    }
    let Some(tables) = table_ids(&content) else {
        return Err(damaged(dir, &path, format_args!("it can't be read, though its checksum is right")));
    };
    tables.iter().try_for_each(|table| check_table(dir, &keyspace.join("tables").join(table.to_string())))
}

fn damaged(dir: &Path, file: &Path, what: fmt::Arguments<'_>) -> OpenError {
    OpenError::corrupt(dir, format!("{}: {what}", file.display()))
}

fn parse_current(bytes: &[u8]) -> Option<(u64, u128)> {
    let (version, rest) = bytes.split_first_chunk()?;
    let (checksum, kind) = rest.split_first_chunk()?;
    (*kind == [0]).then(|| (u64::from_le_bytes(*version), u128::from_le_bytes(*checksum)))
}

/// The ids of a version's tables; its checksum was right.
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
                // The kind of its checksum, the checksum, the sequence of all that is in it.
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

/// A table's table of contents.
fn check_table(dir: &Path, table: &Path) -> Result<(), OpenError> {
    let io = |cause| OpenError::engine_file(dir, table, cause);
    let file = File::open(table).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let Some(end) = length.checked_sub(TRAILER_BYTES) else {
        return Err(damaged(dir, table, format_args!("it ends at byte {length}, within what is at its end")));
    };
    let mut trailer = [0; TRAILER_BYTES as usize];
    file.read_exact_at(&mut trailer, end).map_err(io)?;
    let Some((checksum, start)) = parse_trailer(&trailer, end) else {
        return Err(damaged(dir, table, format_args!("what is at its end, at byte {end}, is damaged")));
    };
    let mut contents = vec![0; (end - start) as usize];
    file.read_exact_at(&mut contents, start).map_err(io)?;
    if xxh3_128(&contents) != checksum {
        return Err(damaged(dir, table, format_args!("its table of contents, at byte {start}, is damaged")));
    }
    Ok(())
}

/// The checksum and the place of a table of contents that ends where the trailer starts.
fn parse_trailer(trailer: &[u8], end: u64) -> Option<(u128, u64)> {
    let mut bytes = ByteReader(trailer);
    let is_trailer = bytes.read()? == TRAILER;
    let checksum = u128::from_le_bytes(bytes.read()?);
    let start = u64::from_le_bytes(bytes.read()?);
    let length = u64::from_le_bytes(bytes.read()?);
    let is_in_place = start.checked_add(length) == Some(end) && length <= MAX_CONTENTS_BYTES;
    (is_trailer && is_in_place).then_some((checksum, start))
}
