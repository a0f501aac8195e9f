//! The bytes of the embedded store. They outlive the process, so the test vectors in `tests/layout.rs` fix them, and
//! they change only by additions.
//!
//! ```text
//!   keyspace    key                                             content
//!   latest      partition u32, key                              a record: the last one of its key
//!   log         partition u32, offset u64                       the key of the record there
//!   tombstones  written u64 (ms), partition u32, offset u64     the key of the tombstone there
//!   meta        'p', partition u32                              next offset u64, last timestamp i64
//!               'h', partition u32                              one above the last tombstone purged, i64
//!               'i'                                             the store's id, as in the marker file
//!   each        255, sequence u64                               empty; the last batch, one such entry
//! ```
//!
//! Integers are big endian, so that keys sort by number. Each content is stored between a version byte and a CRC-32 of
//! key, version and content. This finds a flipped bit, or an entry under another entry's key, even where the storage
//! engine does not.
//!
//! Does not access a disk, and does not know what a batch is.

use bytes::Bytes;
use changelog_core::{
    model::{Header, Partition, Record},
    rule::{Rule, holds},
};

/// The version of the layout, in the marker file and in the first byte of each entry. Other bytes need another version.
pub(super) const VERSION: u8 = 2;

const CRC_BYTES: usize = 4;
const PARTITION_BYTES: usize = 4;
const TOMBSTONE: u8 = 1;
const NULL: u32 = u32::MAX;

/// The prefix of all entries of a partition, in `latest` and in `log`.
pub(super) fn partition_prefix(partition: Partition) -> [u8; PARTITION_BYTES] {
    partition.number().to_be_bytes()
}

/// The key of an entry in `latest`. With the start of a record key, it is the prefix of all keys that start so.
pub(super) fn latest_key(partition: Partition, key: &[u8]) -> Vec<u8> {
    [&partition_prefix(partition)[..], key].concat()
}

/// The record key of an entry key in `latest`.
pub(super) fn key_of_latest(entry_key: &[u8]) -> &[u8] {
    entry_key.get(PARTITION_BYTES..).unwrap_or_default()
}

/// The key of an entry in `log`.
pub(super) fn log_key(partition: Partition, offset: i64) -> [u8; 12] {
    let mut entry_key = [0; 12];
    entry_key[..4].copy_from_slice(&partition_prefix(partition));
    entry_key[4..].copy_from_slice(&offset.to_be_bytes());
    entry_key
}

/// The offset of an entry key in `log`.
pub(super) fn offset_of_log(entry_key: &[u8]) -> Option<i64> {
    let entry_key: &[u8; 12] = entry_key.try_into().ok()?;
    position_at(entry_key, 4)
}

/// The key of an entry in `tombstones`, by the time of the write. Not by the time it expires, because the configured
/// retention may change.
pub(super) fn tombstone_key(written: i64, partition: Partition, offset: i64) -> [u8; 20] {
    let mut entry_key = [0; 20];
    entry_key[..8].copy_from_slice(&written.max(0).to_be_bytes());
    entry_key[8..].copy_from_slice(&log_key(partition, offset));
    entry_key
}

/// The partition and offset of an entry key in `tombstones`.
pub(super) fn position_of_tombstone(entry_key: &[u8]) -> Option<(Partition, i64)> {
    let entry_key: &[u8; 20] = entry_key.try_into().ok()?;
    let partition = i32::from_be_bytes(entry_key[8..12].try_into().ok()?);
    Some((Partition::new(partition)?, position_at(entry_key, 12)?))
}

/// The prefix of the batch entry in each keyspace. No partition and no time starts with it, because they are never
/// negative.
pub(super) const SEQUENCE: &[u8] = &[255];
/// The key of the store's identity in `meta`.
pub(super) const IDENTITY: &[u8] = b"i";

/// The key of a batch's entry in each keyspace. Each batch removes the entry of the one before. Two entries mean that
/// batches were reordered or that one is missing, which the engine's journal does not check.
pub(super) fn sequence_key(sequence: u64) -> [u8; 9] {
    let mut entry_key = [255; 9];
    entry_key[1..].copy_from_slice(&sequence.to_be_bytes());
    entry_key
}

/// The batch of such a key.
pub(super) fn sequence_of(entry_key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(entry_key.strip_prefix(SEQUENCE)?.try_into().ok()?))
}

/// The key of a partition's head in `meta`.
pub(super) fn head_key(partition: Partition) -> [u8; 5] {
    let mut entry_key = [b'p'; 5];
    entry_key[1..].copy_from_slice(&partition_prefix(partition));
    entry_key
}

/// The key in `meta` of the offset above a partition's last purged tombstone.
pub(super) fn purged_below_key(partition: Partition) -> [u8; 5] {
    let mut entry_key = [b'h'; 5];
    entry_key[1..].copy_from_slice(&partition_prefix(partition));
    entry_key
}

/// The end of a partition, where the writer continues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The end offset. It never decreases, also after a purge.
    pub(super) next: i64,
    /// The timestamp of the last record. The next record's is not earlier.
    pub(super) timestamp: i64,
}

impl Head {
    pub(super) fn encode(self) -> Vec<u8> {
        [self.next.to_be_bytes(), self.timestamp.to_be_bytes()].concat()
    }

    pub(super) fn decode(content: &[u8]) -> Option<Self> {
        let next = position_at(content, 0)?;
        let (timestamp, rest) = i64_at(content, 8)?;
        rest.is_empty().then_some(Self { next, timestamp })
    }
}

/// Stores content between its version and its checksum.
pub(super) fn seal(entry_key: &[u8], content: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(1 + content.len() + CRC_BYTES);
    sealed.push(VERSION);
    sealed.extend_from_slice(content);
    let crc = checksum(entry_key, &sealed);
    sealed.extend_from_slice(&crc.to_be_bytes());
    sealed
}

/// The content that was sealed under this key; `None` if it is damaged or was sealed under another key.
pub(super) fn unseal<'a>(entry_key: &[u8], sealed: &'a [u8]) -> Option<&'a [u8]> {
    let (body, crc) = sealed.split_last_chunk::<CRC_BYTES>()?;
    let (version, content) = body.split_first()?;
    (u32::from_be_bytes(*crc) == checksum(entry_key, body) && *version == VERSION).then_some(content)
}

fn checksum(entry_key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    if holds(Rule::EntryUnderAnotherKeyIsDamage) {
        hasher.update(&(entry_key.len() as u64).to_be_bytes());
        hasher.update(entry_key);
    }
    hasher.update(body);
    hasher.finalize()
}

/// The parts of a superseded record that the writer needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHead {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) tombstone: bool,
}

impl RecordHead {
    /// Decodes the start of a record's content, and returns the rest.
    pub(super) fn decode(content: &[u8]) -> Option<(Self, &[u8])> {
        let (flags, rest) = content.split_first()?;
        let offset = position_at(rest, 0)?;
        let (timestamp, rest) = i64_at(rest, 8)?;
        let tombstone = match *flags {
            0 => false,
            TOMBSTONE => true,
            _ => return None,
        };
        Some((Self { offset, timestamp, tombstone }, rest))
    }
}

/// The content of a record. Its key is in the entry key.
pub(super) fn encode_record(offset: i64, timestamp: i64, headers: &[Header], value: Option<&[u8]>) -> Vec<u8> {
    let mut content = Vec::with_capacity(32 + value.map_or(0, <[u8]>::len));
    content.push(if value.is_none() { TOMBSTONE } else { 0 });
    content.extend_from_slice(&offset.to_be_bytes());
    content.extend_from_slice(&timestamp.to_be_bytes());
    content.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    for header in headers {
        content.extend_from_slice(&(header.key.len() as u32).to_be_bytes());
        content.extend_from_slice(header.key.as_bytes());
        content.extend_from_slice(&header.value.as_ref().map_or(NULL, |v| v.len() as u32).to_be_bytes());
        content.extend_from_slice(header.value.as_deref().unwrap_or_default());
    }
    content.extend_from_slice(value.unwrap_or_default());
    content
}

/// Decodes a record; `None` if the content is not a record's. `copy` makes the bytes of the key and the value.
pub(super) fn decode_record(key: &[u8], content: &[u8], mut copy: impl FnMut(&[u8]) -> Bytes) -> Option<Record> {
    let (head, rest) = RecordHead::decode(content)?;
    let (count, mut rest) = u32_at(rest)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let (length, after) = u32_at(rest)?;
        let (name, after) = after.split_at_checked(length as usize)?;
        let (length, after) = u32_at(after)?;
        let (value, after) = match length {
            NULL => (None, after),
            length => {
                let (value, after) = after.split_at_checked(length as usize)?;
                (Some(Bytes::copy_from_slice(value)), after)
            }
        };
        headers.push(Header { key: String::from_utf8(name.to_vec()).ok()?, value });
        rest = after;
    }
    if head.tombstone && !rest.is_empty() {
        return None;
    }
    Some(Record {
        offset: head.offset,
        timestamp: Some(head.timestamp),
        key: copy(key),
        value: (!head.tombstone).then(|| copy(rest)),
        headers,
    })
}

/// An offset. None is negative, because it would sort above all others.
fn position_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64_at(bytes, at)?.0).filter(|offset| *offset >= 0)
}

fn i64_at(bytes: &[u8], at: usize) -> Option<(i64, &[u8])> {
    let (number, rest) = bytes.get(at..)?.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*number), rest))
}

fn u32_at(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*number), rest))
}
