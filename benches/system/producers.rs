//! References for writes: librdkafka's producers alone, with the settings that changelogd uses. Also the producer that
//! fills topics.
//!
//! We wait for a delivery report with the C call, because the wrapper's poll does not return before its timeout is
//! over.

#![allow(unsafe_code, reason = "the wrapper costs more than the limit may")]

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext, bindings as c,
    error::{KafkaError, RDKafkaErrorCode as Code},
    producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer},
};

use super::{
    data::Entity,
    raw::{PATIENCE, producer_config, text},
};

/// librdkafka's queue of delivery reports.
struct Reports(*mut c::rd_kafka_queue_t);

impl Drop for Reports {
    fn drop(&mut self) {
        // Safety: the reference is ours, and is destroyed once.
        unsafe { c::rd_kafka_queue_destroy(self.0) }
    }
}

/// One producer, whose caller waits for each delivery report before the next record.
pub struct Awaited {
    // Dropped before the producer that it belongs to.
    reports: Reports,
    producer: BaseProducer,
}

impl Awaited {
    pub fn new(brokers: &str) -> Result<Self, String> {
        let producer: BaseProducer = producer_config(brokers).create().map_err(text)?;
        // Safety: the producer is alive, and outlives the reference.
        let reports = Reports(unsafe { c::rd_kafka_queue_get_main(producer.client().native_ptr()) });
        Ok(Self { reports, producer })
    }

    /// The milliseconds until it was acknowledged.
    pub fn produce(&self, topic: &str, partitions: i32, entity: &Entity) -> Result<f64, String> {
        let started = Instant::now();
        let record = BaseRecord::to(topic).partition(entity.partition(partitions));
        self.producer.send(record.key(&entity.key).payload(&entity.value[..])).map_err(|(error, _)| text(error))?;
        while started.elapsed() < PATIENCE {
            // Safety: the event is destroyed once; its message is read before.
            let code = unsafe {
                let event = c::rd_kafka_queue_poll(self.reports.0, 1_000);
                if event.is_null() {
                    continue;
                }
                let message = c::rd_kafka_event_message_next(event);
                let code = message.as_ref().map(|message| message.err);
                c::rd_kafka_event_destroy(event);
                code
            };
            match code {
                Some(c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR) => {
                    return Ok(started.elapsed().as_secs_f64() * 1e3);
                }
                Some(code) => return Err(format!("a raw write failed: {code:?}")),
                // Another kind of event.
                None => {}
            }
        }
        Err("a raw write is not acknowledged".to_owned())
    }
}

impl Awaited {
    /// With this many records in flight, for this time: the acknowledged records per second.
    pub fn produce_many(
        &self,
        topic: &str,
        partitions: i32,
        entities: &[Entity],
        most: usize,
        time: Duration,
    ) -> Result<f64, String> {
        let (started, mut under_way, mut acknowledged) = (Instant::now(), 0, 0);
        let mut entities = entities.iter().cycle();
        while started.elapsed() < time || under_way > 0 {
            if started.elapsed() > time + PATIENCE {
                return Err("raw writes are not acknowledged".to_owned());
            }
            while under_way < most
                && started.elapsed() < time
                && let Some(entity) = entities.next()
            {
                let record = BaseRecord::to(topic).partition(entity.partition(partitions)).key(&entity.key);
                self.producer.send(record.payload(&entity.value[..])).map_err(|(error, _)| text(error))?;
                under_way += 1;
            }
            // Safety: the event is destroyed once; its messages are read before.
            let (reports, failed) = unsafe {
                let event = c::rd_kafka_queue_poll(self.reports.0, 1_000);
                if event.is_null() {
                    continue;
                }
                let (mut reports, mut failed) = (0, None);
                while let Some(message) = c::rd_kafka_event_message_next(event).as_ref() {
                    reports += 1;
                    if message.err != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                        failed = Some(message.err);
                    }
                }
                c::rd_kafka_event_destroy(event);
                (reports, failed)
            };
            if let Some(code) = failed {
                return Err(format!("a raw write failed: {code:?}"));
            }
            (under_way, acknowledged) = (under_way - reports, acknowledged + reports);
        }
        Ok(acknowledged as f64 / started.elapsed().as_secs_f64())
    }
}

/// Counts delivery reports.
#[derive(Debug, Default)]
struct Counted {
    delivered: AtomicU64,
    failed: AtomicU64,
}

impl ClientContext for Counted {}

impl ProducerContext for Counted {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        if report.is_ok() { &self.delivered } else { &self.failed }.fetch_add(1, Relaxed);
    }
}

/// A producer with a delivery callback, kept from one round to the next.
pub struct Bulk(ThreadedProducer<Counted>);

impl Bulk {
    pub fn new(brokers: &str) -> Result<Self, String> {
        Self::of(&producer_config(brokers))
    }

    fn of(config: &ClientConfig) -> Result<Self, String> {
        config.create_with_context(Counted::default()).map(Self).map_err(text)
    }

    /// Returns when all of them are acknowledged, with their number and their bytes.
    pub fn produce(
        &self,
        topic: &str,
        partitions: i32,
        entities: impl Iterator<Item = Entity>,
    ) -> Result<(u64, u64), String> {
        let counted = self.0.context();
        let before = counted.delivered.load(Relaxed);
        let (mut records, mut bytes) = (0, 0);
        for entity in entities {
            let mut record = BaseRecord::to(topic)
                .partition(entity.partition(partitions))
                .key(&entity.key)
                .payload(&entity.value[..]);
            while let Err((error, back)) = self.0.send(record) {
                if error != KafkaError::MessageProduction(Code::QueueFull) {
                    return Err(text(error));
                }
                std::thread::sleep(Duration::from_micros(200));
                record = back;
            }
            records += 1;
            bytes += entity.len() as u64;
        }
        let queued = Instant::now();
        while counted.delivered.load(Relaxed) < before + records {
            let failed = counted.failed.load(Relaxed);
            if failed > 0 || queued.elapsed() > PATIENCE {
                return Err(format!("{failed} raw writes failed"));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok((records, bytes))
    }
}

/// Fills a topic, in batches as full as possible. Returns the number of records and their bytes.
pub fn fill(
    brokers: &str,
    topic: &str,
    partitions: i32,
    entities: impl Iterator<Item = Entity>,
) -> Result<(u64, u64), String> {
    let mut config = producer_config(brokers);
    config.set("linger.ms", "50");
    Bulk::of(&config)?.produce(topic, partitions, entities)
}
