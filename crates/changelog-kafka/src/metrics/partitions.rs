//! Offsets of partitions, and how long an open transaction has hidden records.
//!
//! Promises: at most [`MAX_PARTITION_SERIES`] partitions have series. A metric says how many others there are.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use changelog_core::{metrics::saturated, model::PartitionCount};
use parking_lot::Mutex;
use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{replay::cluster::Offsets, timeouts::MAX_PARTITION_SERIES};

type OfPartition = [(&'static str, i32); 1];

/// A last stable offset below the high watermark, and since when it has been seen.
#[derive(Debug, Clone, Copy)]
struct Open {
    last_stable: i64,
    since: Instant,
}

/// The metrics of partitions. Clones share their values.
#[derive(Debug, Clone, Default)]
pub struct PartitionMetrics {
    partitions: Gauge,
    without_series: Gauge,
    low: Family<OfPartition, Gauge>,
    end: Family<OfPartition, Gauge>,
    open_transaction: Family<OfPartition, Gauge<f64, AtomicU64>>,
    open: Arc<Mutex<HashMap<i32, Open>>>,
}

impl PartitionMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("kafka_partitions", "Partitions of the topic", self.partitions.clone());
        registry.register(
            "kafka_partitions_without_series",
            "Partitions above the first 256, whose offsets have no series",
            self.without_series.clone(),
        );
        registry.register("kafka_partition_low_offset", "The low watermark of a partition", self.low.clone());
        registry.register("kafka_partition_end_offset", "The high watermark of a partition", self.end.clone());
        registry.register_with_unit(
            "kafka_partition_open_transaction",
            "How long the same open transaction has hidden records of a partition, so that loads wait and fail",
            Unit::Seconds,
            self.open_transaction.clone(),
        );
    }

    /// How many partitions of the topic have series.
    pub fn with_series(count: PartitionCount) -> i32 {
        count.get().min(MAX_PARTITION_SERIES)
    }

    /// The topic is known, so its series exist from now on.
    pub fn set_count(&self, count: PartitionCount) {
        self.partitions.set(saturated(count.get()));
        self.without_series.set(saturated(count.get() - Self::with_series(count)));
        for partition in 0..Self::with_series(count) {
            let labels = [("partition", partition)];
            drop(self.low.get_or_create(&labels));
            drop(self.end.get_or_create(&labels));
            drop(self.open_transaction.get_or_create(&labels));
        }
    }

    /// The offsets that are known as of now. Others keep their last values. But what is not known must not look like a
    /// transaction that stays open, so that time begins again once one is seen.
    pub fn set_offsets(&self, offsets: &[Offsets], now: Instant) {
        let mut open = self.open.lock();
        open.retain(|number, _| {
            let is_known = offsets.iter().any(|of| of.partition.number() == *number);
            if !is_known {
                self.open_transaction.get_or_create(&[("partition", *number)]).set(0.0);
            }
            is_known
        });
        for Offsets { partition, low, last_stable, high } in offsets.iter().copied() {
            let (number, labels) = (partition.number(), [("partition", partition.number())]);
            self.low.get_or_create(&labels).set(low);
            self.end.get_or_create(&labels).set(high);
            if last_stable == high {
                open.remove(&number);
            } else if open.get(&number).is_none_or(|open| open.last_stable != last_stable) {
                open.insert(number, Open { last_stable, since: now });
            }
            let time = open.get(&number).map(|open| now.saturating_duration_since(open.since));
            self.open_transaction.get_or_create(&labels).set(time.unwrap_or_default().as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::encoding::text::encode;

    use super::*;

    /// Covers C83.
    #[test]
    fn the_time_of_an_open_transaction_counts_while_it_is_the_same() {
        let (metrics, mut registry, begun) = (PartitionMetrics::default(), Registry::default(), Instant::now());
        metrics.register(&mut registry);
        let count = PartitionCount::new(i64::from(MAX_PARTITION_SERIES) + 3).unwrap();
        metrics.set_count(count);
        let partition = count.partition(1).unwrap();
        let seconds_after = |seconds, last_stable| {
            let offsets = [Offsets { partition, low: 1, last_stable, high: 9 }];
            metrics.set_offsets(&offsets, begun + Duration::from_secs(seconds));
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start)).expect("a line").to_owned();
            assert_eq!(line("kafka_partition_end_offset{partition=\"1\"} "), "9");
            assert_eq!(line("kafka_partitions_without_series "), "3");
            assert!(!text.contains("partition=\"256\""), "{text}");
            line("kafka_partition_open_transaction_seconds{partition=\"1\"} ").parse::<f64>().unwrap()
        };
        let times: Vec<_> =
            [(0, 5), (10, 5), (20, 5), (30, 6), (40, 6), (50, 9)].map(|(s, stable)| seconds_after(s, stable)).into();
        assert_eq!(times, [0.0, 10.0, 20.0, 0.0, 10.0, 0.0]);
        assert_eq!((seconds_after(60, 7), seconds_after(70, 7)), (0.0, 10.0));
        // Offsets of another partition only.
        let other = Offsets { partition: count.partition(2).unwrap(), low: 0, last_stable: 0, high: 0 };
        metrics.set_offsets(&[other], begun + Duration::from_secs(75));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(text.contains("kafka_partition_open_transaction_seconds{partition=\"1\"} 0.0"), "{text}");
        assert_eq!((seconds_after(80, 7), seconds_after(90, 7)), (0.0, 10.0));
    }
}
