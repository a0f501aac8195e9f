//! The records of one partition that a replay sends as one event.
//!
//! Unless the caller asks for owned records ([`ReplayRequest::owned_records`](changelog_core::log::ReplayRequest)), the keys and
//! values of a batch are copied into one buffer. An allocation for each, freed by another thread, costs more than the
//! copying.
//!
//! Does not send anything, and does not know how long its records have waited.

use bytes::{Bytes, BytesMut};
use changelog_core::{
    log::ReplayEvent,
    model::{Partition, Record},
};

use crate::timeouts::{MAX_BATCH_BYTES, MAX_BATCH_RECORDS};

#[derive(Default)]
pub struct Batch {
    partition: Option<Partition>,
    /// Of the last record.
    leader_epoch: i32,
    records: Vec<Record>,
    /// Keys and values, concatenated.
    buffer: BytesMut,
    /// For each record, where its key ends, and where its value ends if it has one.
    ends: Vec<(usize, Option<usize>)>,
    bytes: usize,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether it is to be sent.
    pub fn is_full(&self) -> bool {
        self.records.len() >= MAX_BATCH_RECORDS || self.bytes >= MAX_BATCH_BYTES
    }

    /// Whether a record of this partition may be added. A batch has records of one partition only.
    pub fn takes(&self, partition: Partition) -> bool {
        self.partition.is_none_or(|p| p == partition)
    }

    /// Adds a record that comes without its key and value.
    pub fn push(
        &mut self,
        (partition, leader_epoch): (Partition, i32),
        mut record: Record,
        key: &[u8],
        value: Option<&[u8]>,
        owned: bool,
    ) {
        (self.partition, self.leader_epoch) = (Some(partition), leader_epoch);
        self.bytes += record.memory_size() + key.len() + value.map_or(0, <[u8]>::len);
        if owned {
            (record.key, record.value) = (Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
            self.records.push(record);
            return;
        }
        self.buffer.extend_from_slice(key);
        let key_end = self.buffer.len();
        self.buffer.extend_from_slice(value.unwrap_or_default());
        self.ends.push((key_end, value.map(|_| self.buffer.len())));
        self.records.push(record);
    }

    /// Empties the batch. Returns its event, if it had any record.
    pub fn take_event(&mut self) -> Option<ReplayEvent> {
        let partition = self.partition?;
        let batch = std::mem::take(self);
        let leader_epoch = batch.leader_epoch;
        Some(ReplayEvent::Records { partition, records: batch.into_records(), leader_epoch })
    }

    /// The records with their keys and values.
    fn into_records(self) -> Vec<Record> {
        let (mut records, buffer, mut from) = (self.records, self.buffer.freeze(), 0);
        for (record, (key_end, value_end)) in records.iter_mut().zip(self.ends) {
            record.key = buffer.slice(from..key_end);
            record.value = value_end.map(|end| buffer.slice(key_end..end));
            from = value_end.unwrap_or(key_end);
        }
        records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owned_record_has_its_own_bytes() {
        let partition = Partition::new(0).unwrap();
        for owned in [true, false] {
            let mut batch = Batch::default();
            for offset in 0..3 {
                let record = Record { offset, timestamp: None, key: Bytes::new(), value: None, headers: Vec::new() };
                batch.push((partition, -1), record, b"w/t/a", (offset > 0).then_some(b"1"), owned);
            }
            let records = batch.into_records();
            assert!(records.iter().all(|record| record.key == b"w/t/a"[..]));
            assert_eq!(records[0].value, None);
            for value in records[1..].iter().map(|record| record.value.as_ref().unwrap()) {
                assert_eq!((&value[..], value.is_unique()), (&b"1"[..], owned));
            }
            assert!(records.iter().all(|record| record.key.is_unique() == owned));
        }
    }
}
