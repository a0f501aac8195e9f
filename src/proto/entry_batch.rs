//! The message `EntryBatch`. Most bytes that the server sends are in these.
//!
//! The server encodes entries from records directly, without an `Entry` message for each. Decoding gives messages, as
//! for any other type. Records that several responses share are sent as messages: see `service/response.rs`.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use changelog_core::model::{Partition, Record};
use prost::{
    DecodeError, Message,
    encoding::{self, DecodeContext, WireType, encode_key, encode_varint, encoded_len_varint},
};

use super::v1;

const ENTRIES: u32 = 1;
// Field numbers of Entry and Header.
const KEY: u32 = 1;
const RAW: u32 = 2;
const PARTITION: u32 = 4;
const OFFSET: u32 = 5;
const TIMESTAMP: u32 = 6;
const IS_TOMBSTONE: u32 = 7;
const HEADERS: u32 = 8;
const HEADER_KEY: u32 = 1;
const HEADER_VALUE: u32 = 2;

/// See `proto/changelog.proto`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EntryBatch {
    /// Entries that were decoded, or are to be encoded.
    pub entries: Vec<v1::Entry>,
    /// Encoded entries, which are sent before `entries`.
    encoded: Bytes,
}

impl From<Vec<v1::Entry>> for EntryBatch {
    fn from(entries: Vec<v1::Entry>) -> Self {
        Self { entries, encoded: Bytes::new() }
    }
}

impl EntryBatch {
    /// The same batch, with its entries encoded.
    #[must_use]
    pub fn into_encoded(self) -> Self {
        Self { encoded: self.encode_to_vec().into(), entries: Vec::new() }
    }

    /// Adds the entries of another batch. Those of both must be encoded.
    pub fn append(&mut self, more: &Self) {
        let mut encoded = BytesMut::from(std::mem::take(&mut self.encoded));
        encoded.extend_from_slice(&more.encoded);
        self.encoded = encoded.freeze();
    }
}

impl Message for EntryBatch {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        buf.put_slice(&self.encoded);
        encoding::message::encode_repeated(ENTRIES, &self.entries, buf);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            ENTRIES => encoding::message::merge_repeated(wire_type, &mut self.entries, buf, ctx),
            _ => encoding::skip_field(wire_type, tag, buf, ctx),
        }
    }

    fn encoded_len(&self) -> usize {
        self.encoded.len() + encoding::message::encoded_len_repeated(ENTRIES, &self.entries)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Encodes records as entries with raw values.
#[derive(Debug, Default)]
pub struct EntryBatchEncoder {
    buf: BytesMut,
    entries: u64,
}

impl EntryBatchEncoder {
    pub fn with_capacity(bytes: usize) -> Self {
        Self { buf: BytesMut::with_capacity(bytes), entries: 0 }
    }

    /// How many entries it has encoded.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    pub fn into_batch(self) -> EntryBatch {
        EntryBatch { entries: Vec::new(), encoded: self.buf.freeze() }
    }

    /// Adds a record, unless the batch has entries and would become larger than `limit` bytes. Returns whether it was
    /// added.
    pub fn push(&mut self, partition: Partition, record: &Record, limit: usize) -> bool {
        let timestamp = record.timestamp.and_then(super::timestamp);
        let number = partition.number();
        let mut length = bytes_len(KEY, &record.key);
        length += record.value.as_ref().map_or(0, |value| bytes_len(RAW, value));
        length += if number == 0 { 0 } else { encoding::int32::encoded_len(PARTITION, &number) };
        length += if record.offset == 0 { 0 } else { encoding::int64::encoded_len(OFFSET, &record.offset) };
        length += timestamp.as_ref().map_or(0, |t| encoding::message::encoded_len(TIMESTAMP, t));
        length += if record.is_tombstone() { encoding::bool::encoded_len(IS_TOMBSTONE, &true) } else { 0 };
        let header_len = |header: &changelog_core::model::Header| {
            let key = if header.key.is_empty() { 0 } else { bytes_len(HEADER_KEY, header.key.as_bytes()) };
            key + header.value.as_ref().map_or(0, |value| bytes_len(HEADER_VALUE, value))
        };
        let framed = |length: usize| 1 + encoded_len_varint(length as u64) + length;
        length += record.headers.iter().map(|header| framed(header_len(header))).sum::<usize>();
        if self.entries > 0 && self.buf.len() + framed(length) > limit {
            return false;
        }

        let buf = &mut self.buf;
        self.entries += 1;
        buf.reserve(framed(length));
        encode_key(ENTRIES, WireType::LengthDelimited, buf);
        encode_varint(length as u64, buf);
        put_bytes(KEY, &record.key, buf);
        if let Some(value) = &record.value {
            put_bytes(RAW, value, buf);
        }
        if number != 0 {
            encoding::int32::encode(PARTITION, &number, buf);
        }
        if record.offset != 0 {
            encoding::int64::encode(OFFSET, &record.offset, buf);
        }
        if let Some(timestamp) = &timestamp {
            encoding::message::encode(TIMESTAMP, timestamp, buf);
        }
        if record.is_tombstone() {
            encoding::bool::encode(IS_TOMBSTONE, &true, buf);
        }
        for header in &record.headers {
            encode_key(HEADERS, WireType::LengthDelimited, buf);
            encode_varint(header_len(header) as u64, buf);
            if !header.key.is_empty() {
                put_bytes(HEADER_KEY, header.key.as_bytes(), buf);
            }
            if let Some(value) = &header.value {
                put_bytes(HEADER_VALUE, value, buf);
            }
        }
        true
    }
}

fn bytes_len(tag: u32, bytes: &[u8]) -> usize {
    encoding::key_len(tag) + encoded_len_varint(bytes.len() as u64) + bytes.len()
}

fn put_bytes(tag: u32, bytes: &[u8], buf: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, buf);
    encode_varint(bytes.len() as u64, buf);
    buf.put_slice(bytes);
}
