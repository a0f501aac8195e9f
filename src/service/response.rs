//! Domain values into messages.

use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;
use tonic::Status;
use tonic_types::pb;

use super::json;
use crate::{
    changelog::{Summary, Written},
    log::{Finding, PartitionState, Severity, StoreKind},
    model::{Partition, Record},
    proto::{google::rpc, v1},
};

/// The most that a batch of more than one entry holds, in bytes.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Milliseconds since 1970.
pub fn timestamp(millis: i64) -> Timestamp {
    Timestamp { seconds: millis.div_euclid(1000), nanos: (millis.rem_euclid(1000) * 1_000_000) as i32 }
}

/// Where a write is.
pub fn position(written: &Written) -> v1::Position {
    v1::Position { partition: written.position.partition.number(), offset: written.position.offset }
}

/// One record.
pub fn entry(partition: Partition, record: Record, format: v1::ValueFormat) -> v1::Entry {
    let is_tombstone = record.is_tombstone();
    let value = record.value.map(|raw| match format {
        v1::ValueFormat::Json => json::from_bytes(&raw).map_or(v1::entry::Value::Raw(raw), v1::entry::Value::Json),
        v1::ValueFormat::Unspecified | v1::ValueFormat::Raw => v1::entry::Value::Raw(raw),
    });
    v1::Entry {
        // Selected records have keys in the grammar, which are UTF-8.
        key: String::from_utf8_lossy(&record.key).into_owned(),
        value,
        partition: partition.number(),
        offset: record.offset,
        timestamp: record.timestamp.map(timestamp),
        is_tombstone,
        headers: record.headers.into_iter().map(|h| v1::Header { key: h.key, value: h.value }).collect(),
    }
}

/// Records in batches of at most 256 KiB, or of one entry.
pub fn batches(
    partition: Partition,
    records: impl IntoIterator<Item = Record>,
    format: v1::ValueFormat,
) -> impl Iterator<Item = v1::EntryBatch> {
    let mut entries = records.into_iter().map(move |r| entry(partition, r, format)).peekable();
    std::iter::from_fn(move || {
        let mut batch = v1::EntryBatch { entries: vec![entries.next()?] };
        // A tag and a length of at most five bytes stand before each entry.
        let framed = |entry: &v1::Entry| entry.encoded_len() + 6;
        let mut size = framed(&batch.entries[0]);
        while let Some(next) = entries.next_if(|next| size + framed(next) <= MAX_BATCH_BYTES) {
            size += framed(&next);
            batch.entries.push(next);
        }
        Some(batch)
    })
}

/// The proof that a partition was read whole.
pub fn snapshot(summary: Summary) -> v1::Snapshot {
    let Summary { end, entries, tombstones, resume_token } = summary;
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

/// A status as a message, details included.
pub fn rpc_status(status: &Status) -> rpc::Status {
    let encoded = pb::Status::decode(Bytes::copy_from_slice(status.details()));
    rpc::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: encoded.map(|s| s.details).unwrap_or_default(),
    }
}

/// One partition.
pub fn partition_info(state: &PartitionState) -> v1::PartitionInfo {
    v1::PartitionInfo {
        partition: state.partition.number(),
        leader: state.leader,
        low_offset: state.low,
        last_stable_offset: state.last_stable,
        high_offset: state.high,
    }
}

/// Something noticed.
pub fn finding(finding: &Finding) -> v1::Finding {
    let severity = match finding.severity {
        Severity::Error => v1::Severity::Error,
        Severity::Warning => v1::Severity::Warning,
        Severity::Info => v1::Severity::Info,
    };
    v1::Finding { severity: severity.into(), code: finding.code.to_owned(), message: finding.message.clone() }
}

/// Which log.
pub fn store(kind: StoreKind) -> v1::Store {
    match kind {
        StoreKind::Embedded => v1::Store::Embedded,
        StoreKind::Kafka => v1::Store::Kafka,
        StoreKind::Memory => v1::Store::Memory,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64, bytes: usize) -> Record {
        Record {
            offset,
            timestamp: Some(-1),
            key: Bytes::from_static(b"w/t/i"),
            value: Some(vec![b'1'; bytes].into()),
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_batch_holds_at_most_256_kib_or_one_entry() {
        let records = (0..2000).map(|i| record(i, 1000)).chain([record(2000, 1_000_000), record(2001, 1)]);
        let batches: Vec<_> = batches(Partition::new(0).unwrap(), records, v1::ValueFormat::Raw).collect();
        assert!(batches.iter().all(|b| b.encoded_len() <= MAX_BATCH_BYTES || b.entries.len() == 1));
        assert!(batches[0].entries.len() > 200, "{}", batches[0].entries.len());
        let offsets: Vec<_> = batches.iter().flat_map(|b| b.entries.iter().map(|e| e.offset)).collect();
        assert_eq!(offsets, (0..2002).collect::<Vec<_>>());
    }

    #[test]
    fn timestamps_before_1970_have_positive_nanos() {
        assert_eq!(timestamp(-1), Timestamp { seconds: -1, nanos: 999_000_000 });
    }
}
