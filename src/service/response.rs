//! Puts domain values into messages.

use bytes::Bytes;
use changelog_core::{
    changelog::Snapshot,
    log::{Appended, Finding, PartitionState, Severity, StoreKind},
    model::{Partition, Position, Record},
};
use prost::Message;

use super::value_from_json::{self, most_encoded_bytes, value_from_json};
use crate::proto::{EntryBatchEncoder, timestamp, v1};

/// Bytes of a batch with more than one entry. The API allows 256 KiB. With smaller batches a client decodes the first
/// while the server encodes the next.
pub const MAX_BATCH_BYTES: usize = 64 * 1024;
/// Tags and lengths around a batch.
const MESSAGE_BYTES: usize = 16;
/// Bytes of a value as JSON. With its key and headers it stays below 4 MiB, the default limit of clients.
const MAX_JSON_BYTES: usize = 3 * 1024 * 1024 + 512 * 1024;

pub fn written(written: &Appended) -> v1::Written {
    let Position { partition, offset } = written.position;
    v1::Written {
        position: Some(v1::Position { partition: partition.number(), offset }),
        timestamp: written.timestamp.and_then(timestamp),
    }
}

pub fn entry(partition: Partition, record: Record, format: v1::ValueFormat) -> v1::Entry {
    let is_tombstone = record.is_tombstone();
    let value = record.value.map(|raw| match format {
        v1::ValueFormat::Json => {
            value_from_json(&raw, MAX_JSON_BYTES).map_or(v1::entry::Value::Raw(raw), v1::entry::Value::Json)
        }
        v1::ValueFormat::Unspecified | v1::ValueFormat::Raw => v1::entry::Value::Raw(raw),
    });
    v1::Entry {
        // The keys of selected records are valid, and so UTF-8.
        key: String::from_utf8_lossy(&record.key).into_owned(),
        value,
        partition: partition.number(),
        offset: record.offset,
        timestamp: record.timestamp.and_then(timestamp),
        is_tombstone,
        headers: record.headers.into_iter().map(|h| v1::Header { key: h.key, value: h.value }).collect(),
    }
}

/// The most bytes that an entry has as part of a message.
pub fn most_entry_bytes(record: &Record, format: v1::ValueFormat) -> usize {
    // What a record takes in memory is more than its fields with their tags and lengths.
    let raw = record.memory_size();
    let value = record.value.as_ref().map_or(0, Bytes::len);
    match format {
        v1::ValueFormat::Json => raw + most_encoded_bytes(value).min(MAX_JSON_BYTES).saturating_sub(value),
        v1::ValueFormat::Unspecified | v1::ValueFormat::Raw => raw,
    }
}

/// The most bytes that the conversion of a value takes, besides the value and the entry.
pub fn most_conversion_bytes(value: usize) -> usize {
    value_from_json::most_conversion_bytes(value, MAX_JSON_BYTES)
}

/// The most bytes that a message with the next batch of these records has. `None` if there are no more.
pub fn most_batch_bytes(records: &[Record], format: v1::ValueFormat) -> Option<usize> {
    let first = most_entry_bytes(records.first()?, format);
    let mut all = 0;
    for record in records {
        all += most_entry_bytes(record, format);
        if all >= MAX_BATCH_BYTES {
            break;
        }
    }
    Some(first.max(all.min(MAX_BATCH_BYTES)) + MESSAGE_BYTES)
}

/// A batch, and how many entries it has.
pub type CountedBatch = (u64, v1::EntryBatch);

/// Records with raw values in batches of at most 64 KiB, or of one entry. They are encoded here, which copies them.
///
/// Records that other responses share (`shared`) are not copied before the transport asks for them. Otherwise a
/// thousand slow clients would hold a thousand copies that no budget counts.
pub fn raw_batches<'a>(
    partition: Partition,
    records: &'a [Record],
    shared: bool,
) -> Box<dyn Iterator<Item = CountedBatch> + Send + 'a> {
    if !shared {
        let mut left: usize = records.iter().map(Record::memory_size).sum();
        let mut records = records.iter().peekable();
        return Box::new(std::iter::from_fn(move || {
            records.peek()?;
            let mut encoder = EntryBatchEncoder::with_capacity(left.min(MAX_BATCH_BYTES));
            left = left.saturating_sub(MAX_BATCH_BYTES);
            while records.next_if(|record| encoder.push(partition, record, MAX_BATCH_BYTES)).is_some() {}
            Some((encoder.entries(), encoder.into_batch()))
        }));
    }
    let mut entries = records.iter().map(move |r| entry(partition, r.clone(), v1::ValueFormat::Raw)).peekable();
    Box::new(std::iter::from_fn(move || {
        let mut batch = vec![entries.next()?];
        // Each entry is preceded by a tag of one byte and a length of at most five.
        let framed = |entry: &v1::Entry| entry.encoded_len() + 6;
        let mut size = framed(&batch[0]);
        while let Some(next) = entries.next_if(|next| size + framed(next) <= MAX_BATCH_BYTES) {
            size += framed(&next);
            batch.push(next);
        }
        Some((batch.len() as u64, batch.into()))
    }))
}

pub fn snapshot(snapshot: Snapshot) -> v1::Snapshot {
    let Snapshot { end, entries, tombstones, resume_token } = snapshot;
    v1::Snapshot {
        partition: end.partition.number(),
        start_offset: end.start,
        end_offset: end.end,
        records_read: end.counts.read,
        skipped: end.counts.skipped,
        misplaced: end.counts.misplaced,
        entries,
        tombstones,
        resume_token,
    }
}

pub fn partition_info(state: &PartitionState) -> v1::PartitionInfo {
    v1::PartitionInfo {
        partition: state.partition.number(),
        leader: state.leader,
        low_offset: state.low,
        last_stable_offset: state.last_stable,
        high_offset: state.high,
    }
}

pub fn finding(finding: &Finding) -> v1::Finding {
    let severity = match finding.severity {
        Severity::Error => v1::Severity::Error,
        Severity::Warning => v1::Severity::Warning,
        Severity::Info => v1::Severity::Info,
    };
    v1::Finding { severity: severity.into(), code: finding.code.to_owned(), message: finding.message.clone() }
}

pub fn store(kind: StoreKind) -> v1::Store {
    match kind {
        StoreKind::Embedded => v1::Store::Embedded,
        StoreKind::Kafka => v1::Store::Kafka,
        StoreKind::Memory => v1::Store::Memory,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use changelog_core::model::Header;

    fn some_bytes() -> impl Strategy<Value = Option<Bytes>> {
        prop::option::of(prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from))
    }

    fn text(of: impl Strategy<Value = char>, len: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = String> {
        prop::collection::vec(of, len).prop_map(String::from_iter)
    }

    prop_compose! {
        fn a_record()(
            offset in 0..i64::MAX,
            timestamp in prop::option::of(prop_oneof![-10_000_000_000_000..10_000_000_000_000_i64, any::<i64>()]),
            key in text(prop_oneof![26 => prop::char::range('a', 'z'), 1 => Just('é')], 1..=200),
            value in some_bytes(),
            headers in prop::collection::vec((text(prop::char::range('a', 'z'), 0..=9), some_bytes()), 0..3),
        ) -> Record {
            let headers = headers.into_iter().map(|(key, value)| Header { key, value }).collect();
            Record { offset, timestamp, key: key.into(), value, headers }
        }
    }

    proptest! {
        #[test]
        fn hand_encoded_messages_decode_as_the_generated_types(
            records in prop::collection::vec(a_record(), 0..9), number in 0..2000_i32, limit in 0..3000_usize,
        ) {
            let partition = Partition::new(number).unwrap();
            let mut encoder = EntryBatchEncoder::default();
            let pushed = records.iter().take_while(|r| encoder.push(partition, r, limit)).count();
            prop_assert_eq!(encoder.entries(), pushed as u64);
            let entries = records[..pushed].iter().map(|r| entry(partition, r.clone(), v1::ValueFormat::Raw));
            let (batch, expected) = (encoder.into_batch(), v1::EntryBatch::from(entries.collect::<Vec<_>>()));
            let sent = batch.encode_to_vec();
            prop_assert_eq!(batch.encoded_len(), sent.len());
            prop_assert!(sent.len() <= limit || pushed <= 1);
            prop_assert_eq!(&sent, &expected.encode_to_vec());
            prop_assert_eq!(v1::EntryBatch::decode(&*sent).unwrap(), expected);
        }
    }

    /// Covers C47.
    #[test]
    fn a_timestamp_is_one_that_protobuf_allows_or_absent() {
        let (first, last) = (-62_135_596_800_000, 253_402_300_799_999);
        let of = |seconds, nanos| Some(prost_types::Timestamp { seconds, nanos });
        assert_eq!(timestamp(-1), of(-1, 999_000_000), "nanos are positive");
        assert_eq!(timestamp(first), of(-62_135_596_800, 0), "0001-01-01T00:00:00Z");
        assert_eq!(timestamp(last), of(253_402_300_799, 999_000_000), "9999-12-31T23:59:59.999Z");
        let (micros, nanos) = (1_795_732_451_754_000, 1_795_732_451_754_000_000);
        for millis in [first - 1, last + 1, micros, nanos, i64::MIN, i64::MAX] {
            assert_eq!(timestamp(millis), None, "{millis}");
        }
    }
}
