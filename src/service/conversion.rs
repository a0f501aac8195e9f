//! Values as `google.protobuf.Value`. A conversion takes some time, and memory for what is read and what is written.
//!
//! Promises: a large value is converted on a blocking thread, and few at a time. What is kept longer than a conversion
//! is encoded, so its size is that of the message.

use std::{num::NonZero, sync::Arc, thread::available_parallelism};

use bytes::Bytes;
use changelog_core::model::{Partition, Record, ValueRules};
use prost::Message;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tonic::Status;

use super::{
    request,
    response::{self, CountedBatch, MAX_BATCH_BYTES},
    status,
};
use crate::proto::{EncodedValue, EntryBatch, v1};

/// Values up to this size are converted at once. That takes less time than the way to another thread and back.
const INLINE_BYTES: usize = 4 * 1024;

/// Runs conversions. Clones share its limit.
#[derive(Debug, Clone)]
pub struct Conversions {
    permits: Arc<Semaphore>,
}

impl Default for Conversions {
    /// Half of the processors convert, and half are left to other work.
    fn default() -> Self {
        let processors = available_parallelism().map_or(1, NonZero::get);
        Self { permits: Arc::new(Semaphore::new((processors / 2).max(1))) }
    }
}

impl Conversions {
    async fn run<T: Send + 'static>(
        &self,
        deadline: Option<Instant>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let converted = async {
            let permit = self.permits.clone().acquire_owned().await;
            // The work holds its permit, because it goes on if its call is cancelled.
            let work = move || {
                let _permit = permit;
                work()
            };
            tokio::task::spawn_blocking(work).await
        };
        let converted = match deadline {
            None => converted.await,
            Some(deadline) => timeout_at(deadline, converted).await.map_err(|_| {
                status::deadline_exceeded("the deadline passed before a value was converted to JSON".to_owned())
            })?,
        };
        converted.map_err(|_| status::internal_fault("a value was not converted"))
    }

    /// The bytes that are stored for a JSON value.
    pub async fn stored(
        &self,
        value: EncodedValue,
        rules: &ValueRules,
        deadline: Option<Instant>,
    ) -> Result<Bytes, Status> {
        if value.encoded_len() <= INLINE_BYTES {
            return request::json_value(&value, rules);
        }
        let rules = *rules;
        self.run(deadline, move || request::json_value(&value, &rules)).await?
    }

    /// A record as an entry.
    pub async fn entry(
        &self,
        partition: Partition,
        record: Record,
        format: v1::ValueFormat,
        deadline: Instant,
    ) -> Result<v1::Entry, Status> {
        let bytes = record.value.as_ref().map_or(0, Bytes::len);
        if format != v1::ValueFormat::Json || bytes <= INLINE_BYTES {
            return Ok(response::entry(partition, record, format));
        }
        self.run(Some(deadline), move || response::entry(partition, record, format)).await
    }

    /// Records in batches of at most 64 KiB, or of one entry.
    pub fn batches<'a>(
        &self,
        partition: Partition,
        records: &'a [Record],
        format: v1::ValueFormat,
        shared: bool,
        deadline: Option<Instant>,
    ) -> Batches<'a> {
        let source = match format {
            v1::ValueFormat::Json => {
                Source::Json(self.clone(), Box::new(JsonBatches::new(partition, records.to_vec())))
            }
            v1::ValueFormat::Unspecified | v1::ValueFormat::Raw => {
                Source::Raw(response::raw_batches(partition, records, shared))
            }
        };
        Batches { source, deadline, left: records, format }
    }
}

/// The batches of a response.
pub struct Batches<'a> {
    source: Source<'a>,
    deadline: Option<Instant>,
    /// The records of the batches that are left.
    left: &'a [Record],
    format: v1::ValueFormat,
}

enum Source<'a> {
    Raw(Box<dyn Iterator<Item = CountedBatch> + Send + 'a>),
    Json(Conversions, Box<JsonBatches>),
    End,
}

impl Batches<'_> {
    /// The most bytes that a message with the next batch has. `None` after the last.
    pub fn most_bytes(&self) -> Option<usize> {
        response::most_batch_bytes(self.left, self.format)
    }

    pub async fn next(&mut self) -> Result<Option<CountedBatch>, Status> {
        let batch = self.convert().await?;
        if let Some((entries, _)) = &batch {
            self.left = &self.left[usize::try_from(*entries).unwrap_or(usize::MAX)..];
        }
        Ok(batch)
    }

    async fn convert(&mut self) -> Result<Option<CountedBatch>, Status> {
        match std::mem::replace(&mut self.source, Source::End) {
            Source::End => Ok(None),
            Source::Raw(mut batches) => {
                let batch = batches.next();
                self.source = Source::Raw(batches);
                Ok(batch)
            }
            Source::Json(conversions, mut batches) => {
                let work = move || {
                    let batch = batches.next();
                    (batches, batch)
                };
                let (batches, batch) = conversions.run(self.deadline, work).await?;
                self.source = Source::Json(conversions, batches);
                Ok(batch)
            }
        }
    }
}

/// Converts and encodes records, one after another.
struct JsonBatches {
    partition: Partition,
    records: std::vec::IntoIter<Record>,
    /// The encoded entry that did not fit into the last batch. It is small: no memory is reserved for it yet.
    next: Option<EntryBatch>,
}

impl JsonBatches {
    fn new(partition: Partition, records: Vec<Record>) -> Self {
        Self { partition, records: records.into_iter(), next: None }
    }
}

impl Iterator for JsonBatches {
    type Item = CountedBatch;

    fn next(&mut self) -> Option<CountedBatch> {
        let (partition, records) = (self.partition, &mut self.records);
        let mut encoded = |most_bytes: usize| {
            let record = records.as_slice().first()?;
            if response::most_entry_bytes(record, v1::ValueFormat::Json) > most_bytes {
                return None;
            }
            let entry = response::entry(partition, records.next()?, v1::ValueFormat::Json);
            Some(EntryBatch::from(vec![entry]).into_encoded())
        };
        let (mut entries, mut batch) = (1, self.next.take().or_else(|| encoded(usize::MAX))?);
        while let Some(next) = encoded(MAX_BATCH_BYTES) {
            if batch.encoded_len() + next.encoded_len() > MAX_BATCH_BYTES {
                self.next = Some(next);
                break;
            }
            batch.append(&next);
            entries += 1;
        }
        Some((entries, batch))
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

    /// Covers C26.
    #[tokio::test]
    async fn a_batch_holds_at_most_64_kib_or_one_entry() {
        let records = (0..2000).map(|i| record(i, 1000)).chain([record(2000, 1_000_000), record(2001, 1)]);
        let records: Vec<_> = records.collect();
        for (format, shared) in
            [(v1::ValueFormat::Raw, false), (v1::ValueFormat::Raw, true), (v1::ValueFormat::Json, false)]
        {
            let conversions = Conversions::default();
            let mut source = conversions.batches(Partition::new(0).unwrap(), &records, format, shared, None);
            let mut batches = Vec::new();
            while let Some(most) = source.most_bytes() {
                let batch = source.next().await.unwrap().unwrap();
                assert!(batch.1.encoded_len() <= most, "{} of {most}", batch.1.encoded_len());
                batches.push(batch);
            }
            assert!(source.next().await.unwrap().is_none());
            assert!(batches.iter().all(|(entries, b)| b.encoded_len() <= MAX_BATCH_BYTES || *entries == 1));
            assert!(batches[0].1.encoded_len() > MAX_BATCH_BYTES - 1_100, "{}", batches[0].0);
            let mut offsets = Vec::new();
            for (entries, batch) in batches {
                let read = v1::EntryBatch::decode(&*batch.encode_to_vec()).unwrap();
                assert_eq!(read.entries.len() as u64, entries);
                offsets.extend(read.entries.iter().map(|e| e.offset));
            }
            assert_eq!(offsets, (0..2002).collect::<Vec<_>>());
        }
    }
}
