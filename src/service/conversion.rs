//! Values as `google.protobuf.Value`. A conversion takes some time, and memory for what is read and what is written.
//!
//! Promises: a large value is converted or checked on a thread for blocking work, and few at a time. What a conversion
//! may take is reserved before it begins. What is kept longer is encoded, so its size is that of the message.

use std::{num::NonZero, sync::Arc, thread::available_parallelism};

use bytes::Bytes;
use changelog_core::{
    blocking::{BlockingError, run_blocking},
    model::{Partition, Record, ValueMode, ValueRules},
};
use prost::Message;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};
use tonic::Status;

use super::{
    json_from_value, request,
    response::{self, CountedBatch, MAX_BATCH_BYTES},
    status,
};
use crate::{
    memory::MemoryPart,
    proto::{EncodedValue, EntryBatch, v1},
};

/// Values up to this size are converted at once. That takes less time than the way to another thread and back.
const INLINE_BYTES: usize = 4 * 1024;

/// Documents up to this size are checked at once, which is faster than a conversion: 0.1 ms at most.
const INLINE_CHECK_BYTES: usize = 64 * 1024;

/// Runs conversions. Clones share its limits.
#[derive(Debug, Clone)]
pub struct Conversions {
    permits: Arc<Semaphore>,
    memory: Arc<MemoryPart>,
}

impl Conversions {
    /// Half of the processors convert, and half are left to other work.
    pub fn new(memory: Arc<MemoryPart>) -> Self {
        let processors = available_parallelism().map_or(1, NonZero::get);
        Self { permits: Arc::new(Semaphore::new((processors / 2).max(1))), memory }
    }

    /// Runs work that takes at most `bytes` of memory.
    async fn run<T: Send + 'static>(
        &self,
        deadline: Option<Instant>,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        let converted = async {
            let permit = self.permits.clone().acquire_owned().await;
            let reserved = self.memory.reserve_before(bytes as u64, deadline).await;
            let reserved = reserved.map_err(|full| status::memory_limit("a value is not converted", &full))?;
            // The work holds both, because it goes on if its call is cancelled.
            let work = move || {
                let _held = (permit, reserved);
                work()
            };
            run_blocking(work).await.map_err(|error| match error {
                BlockingError::NoThread(error) => status::no_thread("a value is not converted", &error),
                BlockingError::Panicked => status::internal_fault("a value was not converted"),
            })
        };
        match deadline {
            None => converted.await,
            Some(deadline) => timeout_at(deadline, converted).await.map_err(|_| {
                status::deadline_exceeded("the deadline passed before a value was converted to JSON".to_owned())
            })?,
        }
    }

    /// Checks a value that is stored as it was sent.
    pub async fn check(&self, raw: Bytes, rules: &ValueRules, deadline: Option<Instant>) -> Result<Bytes, Status> {
        let is_small = raw.len() <= INLINE_CHECK_BYTES || raw.len() > rules.max_bytes;
        if is_small || rules.mode == ValueMode::Opaque {
            return request::raw_value(raw, rules);
        }
        let rules = *rules;
        self.run(deadline, 0, move || request::raw_value(raw, &rules)).await?
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
        let bytes = json_from_value::most_conversion_bytes(value.encoded_len(), rules.max_bytes);
        self.run(deadline, bytes, move || request::json_value(&value, &rules)).await?
    }

    /// Raw for a value whose conversion never has room. It is larger than --max-value-bytes: another program wrote it.
    fn format(&self, record: &Record, format: v1::ValueFormat) -> v1::ValueFormat {
        let most = response::most_conversion_bytes(record.value.as_ref().map_or(0, Bytes::len));
        if most as u64 > self.memory.limit() { v1::ValueFormat::Raw } else { format }
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
        let format = self.format(&record, format);
        if format != v1::ValueFormat::Json || bytes <= INLINE_BYTES {
            return Ok(response::entry(partition, record, format));
        }
        let most = response::most_conversion_bytes(bytes);
        self.run(Some(deadline), most, move || response::entry(partition, record, format)).await
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
                Source::Json(self.clone(), Box::new(JsonBatches::new(self.clone(), partition, records.to_vec())))
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
                let most = batches.most_conversion_bytes();
                let work = move || {
                    let batch = batches.next();
                    (batches, batch)
                };
                let (batches, batch) = conversions.run(self.deadline, most, work).await?;
                self.source = Source::Json(conversions, batches);
                Ok(batch)
            }
        }
    }
}

/// Converts and encodes records, one after another.
struct JsonBatches {
    conversions: Conversions,
    partition: Partition,
    records: std::vec::IntoIter<Record>,
    /// The encoded entry that did not fit into the last batch. It is small: no memory is reserved for it yet.
    next: Option<EntryBatch>,
}

impl JsonBatches {
    fn new(conversions: Conversions, partition: Partition, records: Vec<Record>) -> Self {
        Self { conversions, partition, records: records.into_iter(), next: None }
    }

    /// What the largest conversion of the next batch takes. Only the first may be larger than a batch.
    fn most_conversion_bytes(&self) -> usize {
        let first = self.records.as_slice().first().and_then(|record| record.value.as_ref()).map_or(0, Bytes::len);
        let most = response::most_conversion_bytes(first.max(MAX_BATCH_BYTES));
        most.min(usize::try_from(self.conversions.memory.limit()).unwrap_or(usize::MAX))
    }
}

impl Iterator for JsonBatches {
    type Item = CountedBatch;

    fn next(&mut self) -> Option<CountedBatch> {
        let (conversions, partition, records) = (&self.conversions, self.partition, &mut self.records);
        let mut encoded = |most_bytes: usize| {
            let record = records.as_slice().first()?;
            if response::most_entry_bytes(record, v1::ValueFormat::Json) > most_bytes {
                return None;
            }
            let format = conversions.format(record, v1::ValueFormat::Json);
            let entry = response::entry(partition, records.next()?, format);
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
    use futures_util::FutureExt;

    use super::*;
    use crate::{config::max_conversion_bytes, service::value_from_json};

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
            let conversions = conversions(4 * 1024 * 1024);
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

    fn conversions(bytes: u64) -> Conversions {
        Conversions::new(MemoryPart::new("conversions", bytes, 0))
    }

    fn rules(mode: ValueMode) -> ValueRules {
        ValueRules { mode, max_bytes: 1_000_000 }
    }

    fn document(bytes: usize) -> Bytes {
        format!("[{}1]", "1,".repeat(bytes / 2)).into()
    }

    /// Covers C12.
    #[tokio::test]
    async fn a_large_document_is_checked_on_another_thread() {
        let conversions = conversions(0);
        for (value, mode, at_once) in [
            (document(100), ValueMode::Json, true),
            (document(INLINE_CHECK_BYTES - 10), ValueMode::Json, true),
            (document(INLINE_CHECK_BYTES), ValueMode::Json, false),
            (document(900_000), ValueMode::Json, false),
            (document(900_000), ValueMode::Opaque, true),
            // Only its size is looked at.
            (document(2_000_000), ValueMode::Json, true),
        ] {
            let rules = rules(mode);
            let all = u32::try_from(conversions.permits.available_permits()).unwrap();
            let permits = conversions.permits.acquire_many(all).await.unwrap();
            let checked = conversions.check(value.clone(), &rules, None).now_or_never();
            drop(permits);
            assert_eq!(checked.is_some(), at_once, "{mode:?}, {} bytes", value.len());
            let checked = conversions.check(value.clone(), &rules, None).await;
            assert_eq!(checked.is_ok(), value.len() <= rules.max_bytes);
            let wrong = Bytes::from([&value[..], b"x"].concat());
            let checked = conversions.check(wrong, &rules, None).await;
            assert_eq!(checked.is_ok(), mode == ValueMode::Opaque && value.len() < rules.max_bytes);
        }
    }

    /// Covers S19.
    #[tokio::test]
    async fn a_conversion_reserves_what_it_may_take_and_waits_for_room() {
        let conversions = conversions(4_000_000);
        let value = value_from_json::value_from_json(&document(900_000), usize::MAX).unwrap();
        let stored = || {
            conversions.stored(
                value.clone(),
                &const { ValueRules { mode: ValueMode::Json, max_bytes: 1_000_000 } },
                None,
            )
        };
        let held = conversions.memory.reserve(1_000_000).unwrap();
        let mut waiting = std::pin::pin!(stored());
        for _ in 0..100 {
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        drop(held);
        assert!(waiting.await.is_ok());
        assert!(stored().await.is_ok());
        while conversions.memory.used() > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// Covers S19.
    #[tokio::test(start_paused = true)]
    async fn a_conversion_without_room_is_refused() {
        let conversions = conversions(4_000_000);
        let _held = conversions.memory.reserve(3_999_000).unwrap();
        let value = value_from_json::value_from_json(&document(900_000), usize::MAX).unwrap();
        let until = Instant::now() + std::time::Duration::from_secs(60);
        let deadline = Some(until);
        let partition = Partition::new(0).unwrap();
        let mut batches = JsonBatches::new(conversions.clone(), partition, vec![record(0, 100_000)]);
        assert!(batches.next().is_some());
        let refused = [
            conversions.stored(value, &rules(ValueMode::Json), deadline).await.map(drop),
            conversions.entry(partition, record(0, 100_000), v1::ValueFormat::Json, until).await.map(drop),
            conversions
                .batches(partition, &[record(0, 9)], v1::ValueFormat::Json, false, deadline)
                .next()
                .await
                .map(drop),
        ];
        for outcome in refused {
            let status = outcome.unwrap_err();
            assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
        }
        // Without a permit or memory.
        assert_eq!(conversions.memory.used(), 3_999_000);
    }

    /// Covers S19, C15.
    #[tokio::test]
    async fn the_largest_conversion_fits_and_larger_values_of_others_are_returned_raw() {
        for bytes in [1, 1_000, 100_000, 1_000_000, 64_000_000_u64] {
            let (part, value) = (max_conversion_bytes(bytes), bytes as usize);
            let request = crate::config::max_request_bytes(bytes) as usize;
            assert!(json_from_value::most_conversion_bytes(request, value) as u64 <= part, "{bytes}");
            assert!(response::most_conversion_bytes(value.max(MAX_BATCH_BYTES)) as u64 <= part, "{bytes}");
        }
        let conversions = conversions(max_conversion_bytes(1));
        let partition = Partition::new(0).unwrap();
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        for bytes in [10, 100_000] {
            let entry = conversions.entry(partition, record(0, bytes), v1::ValueFormat::Json, deadline).await.unwrap();
            assert!(matches!(entry.value, Some(v1::entry::Value::Raw(_))) == (bytes > 10), "{bytes}");
            let records = [record(0, bytes)];
            let mut batches = conversions.batches(partition, &records, v1::ValueFormat::Json, false, None);
            assert!(batches.next().await.unwrap().is_some());
        }
    }
}
