//! librdkafka's statistics of all producers, as metrics.
//!
//! Only what an operator needs is read of them. librdkafka counts for each client, and producers are replaced. So
//! counters here grow by differences, and gauges are of the producers that exist.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};
use serde::Deserialize;

use changelog_core::metrics::{approximate, saturated};

/// The state of a connection that is ready for requests.
const UP: &str = "UP";

/// The statistics of one client. librdkafka's STATISTICS.md has the units.
#[derive(Debug, Deserialize)]
struct Statistics {
    msg_cnt: u64,
    msg_size: u64,
    msg_max: u64,
    msg_size_max: u64,
    #[serde(default)]
    brokers: HashMap<String, Broker>,
}

#[derive(Debug, Deserialize)]
struct Broker {
    /// Negative for one that is known by its address only.
    nodeid: i32,
    state: String,
    #[serde(default)]
    txretries: u64,
    #[serde(default)]
    req_timeouts: u64,
    /// In microseconds, since the statistics before.
    #[serde(default)]
    rtt: Window,
    /// In milliseconds, since the statistics before.
    #[serde(default)]
    throttle: Window,
}

#[derive(Debug, Default, Deserialize)]
struct Window {
    sum: u64,
    cnt: u64,
    p99: u64,
}

/// What the last statistics of a client said of now.
#[derive(Debug, Default)]
struct Snapshot {
    brokers: BTreeSet<i32>,
    up: BTreeSet<i32>,
    queue: [u64; 4],
    round_trip_p99_micros: u64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counted {
    retries: u64,
    timeouts: u64,
}

/// The metrics that follow librdkafka's statistics. Clones share their values.
#[derive(Debug, Clone, Default)]
pub struct StatisticsMetrics {
    brokers: Gauge,
    brokers_up: Gauge,
    round_trips: Counter,
    round_trip_seconds: Counter<f64, AtomicU64>,
    round_trip_p99: Gauge<f64, AtomicU64>,
    throttle_seconds: Counter<f64, AtomicU64>,
    retries: Counter,
    timeouts: Counter,
    queue_messages: Gauge,
    queue_messages_limit: Gauge,
    queue_bytes: Gauge,
    queue_limit_bytes: Gauge,
    clients: Arc<Mutex<HashMap<u64, Snapshot>>>,
    last_client: Arc<AtomicU64>,
}

impl StatisticsMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register("kafka_brokers", "Brokers that the producers know", self.brokers.clone());
        registry.register(
            "kafka_brokers_up",
            "Brokers that a producer has a connection to; it connects to those that it needs",
            self.brokers_up.clone(),
        );
        registry.register("kafka_round_trips", "Answers of brokers to producers", self.round_trips.clone());
        registry.register_with_unit(
            "kafka_round_trip",
            "The sum of the round trips of producers to brokers; divide its rate by that of kafka_round_trips_total",
            Unit::Seconds,
            self.round_trip_seconds.clone(),
        );
        registry.register_with_unit(
            "kafka_round_trip_p99",
            "The 99th percentile of the round trips to the slowest broker, in the last interval of the statistics",
            Unit::Seconds,
            self.round_trip_p99.clone(),
        );
        registry.register_with_unit(
            "kafka_throttle",
            "How long brokers delayed their answers to producers because of a quota",
            Unit::Seconds,
            self.throttle_seconds.clone(),
        );
        registry.register(
            "kafka_request_retries",
            "Requests that producers sent again, without those of writes, which librdkafka does not count",
            self.retries.clone(),
        );
        registry.register("kafka_request_timeouts", "Requests of producers that timed out", self.timeouts.clone());
        registry.register(
            "kafka_producer_queue_messages",
            "Messages in the queues of librdkafka",
            self.queue_messages.clone(),
        );
        registry.register(
            "kafka_producer_queue_messages_limit",
            "queue.buffering.max.messages of all producers",
            self.queue_messages_limit.clone(),
        );
        registry.register_with_unit(
            "kafka_producer_queue",
            "Messages in the queues of librdkafka",
            Unit::Bytes,
            self.queue_bytes.clone(),
        );
        registry.register_with_unit(
            "kafka_producer_queue_limit",
            "queue.buffering.max.kbytes of all producers",
            Unit::Bytes,
            self.queue_limit_bytes.clone(),
        );
    }

    /// The limits of all producers together, before the first one gives statistics.
    pub fn set_queue_limits(&self, messages: u64, bytes: u64) {
        self.queue_messages_limit.set(saturated(messages));
        self.queue_limit_bytes.set(saturated(bytes));
    }

    /// For the statistics of a new client.
    pub fn client(&self) -> ClientStatistics {
        let number = self.last_client.fetch_add(1, Relaxed);
        ClientStatistics { metrics: self.clone(), number, counted: Mutex::default() }
    }

    fn show(&self, clients: &HashMap<u64, Snapshot>) {
        let union = |of: fn(&Snapshot) -> &BTreeSet<i32>| clients.values().flat_map(of).collect::<BTreeSet<_>>().len();
        self.brokers.set(saturated(union(|client| &client.brokers)));
        self.brokers_up.set(saturated(union(|client| &client.up)));
        let gauges = [&self.queue_messages, &self.queue_bytes, &self.queue_messages_limit, &self.queue_limit_bytes];
        // Limits stay while there is no client.
        for (i, gauge) in gauges.into_iter().enumerate().filter(|(i, _)| *i < 2 || !clients.is_empty()) {
            gauge.set(saturated(clients.values().map(|client| client.queue[i]).fold(0, u64::saturating_add)));
        }
        let slowest = clients.values().map(|client| client.round_trip_p99_micros).max().unwrap_or_default();
        self.round_trip_p99.set(approximate(slowest) / 1e6);
    }
}

/// The statistics of one client, until it is dropped.
#[derive(Debug)]
pub struct ClientStatistics {
    metrics: StatisticsMetrics,
    number: u64,
    counted: Mutex<Counted>,
}

impl ClientStatistics {
    /// Takes statistics as librdkafka gives them.
    pub fn update(&self, json: &[u8]) {
        match serde_json::from_slice(json) {
            Ok(statistics) => self.add(&statistics),
            Err(error) => tracing::debug!(%error, "statistics of librdkafka could not be read"),
        }
    }

    fn add(&self, statistics: &Statistics) {
        let Self { metrics, .. } = self;
        let brokers = || statistics.brokers.values();
        let now = Counted {
            retries: brokers().map(|broker| broker.txretries).sum(),
            timeouts: brokers().map(|broker| broker.req_timeouts).sum(),
        };
        let before = std::mem::replace(&mut *self.counted.lock(), now);
        metrics.retries.inc_by(now.retries.saturating_sub(before.retries));
        metrics.timeouts.inc_by(now.timeouts.saturating_sub(before.timeouts));
        metrics.round_trips.inc_by(brokers().map(|broker| broker.rtt.cnt).sum());
        metrics.round_trip_seconds.inc_by(approximate(brokers().map(|broker| broker.rtt.sum).sum()) / 1e6);
        metrics.throttle_seconds.inc_by(approximate(brokers().map(|broker| broker.throttle.sum).sum()) / 1e3);
        let ids = |up: bool| {
            let of = brokers().filter(|broker| broker.nodeid >= 0 && (!up || broker.state == UP));
            of.map(|broker| broker.nodeid).collect()
        };
        let Statistics { msg_cnt, msg_size, msg_max, msg_size_max, .. } = *statistics;
        let snapshot = Snapshot {
            brokers: ids(false),
            up: ids(true),
            queue: [msg_cnt, msg_size, msg_max, msg_size_max],
            round_trip_p99_micros: brokers().map(|broker| broker.rtt.p99).max().unwrap_or_default(),
        };
        let mut clients = metrics.clients.lock();
        clients.insert(self.number, snapshot);
        metrics.show(&clients);
    }
}

impl Drop for ClientStatistics {
    fn drop(&mut self) {
        let mut clients = self.metrics.clients.lock();
        if clients.remove(&self.number).is_some() {
            self.metrics.show(&clients);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(id: i32, state: &str, retries: u64, rtt: (u64, u64, u64)) -> String {
        let (sum, cnt, p99) = rtt;
        format!(
            r#"{{"nodeid":{id},"state":"{state}","txretries":{retries},"req_timeouts":1,"toppars":{{}},
            "rtt":{{"min":1,"max":2,"sum":{sum},"cnt":{cnt},"p99":{p99}}},"throttle":{{"sum":500,"cnt":1,"p99":500}}}}"#
        )
    }

    fn statistics(brokers: &[String]) -> Vec<u8> {
        let named: Vec<_> = brokers.iter().enumerate().map(|(i, broker)| format!(r#""b{i}":{broker}"#)).collect();
        let queue = r#""msg_cnt":3,"msg_size":30,"msg_max":100,"msg_size_max":1000"#;
        format!(r#"{{"name":"a",{queue},"topics":{{"t":{{}}}},"brokers":{{{}}}}}"#, named.join(",")).into_bytes()
    }

    /// Covers C83.
    #[test]
    fn counters_grow_by_differences_and_gauges_are_of_the_clients_that_exist() {
        let metrics = StatisticsMetrics::default();
        let (first, second) = (metrics.client(), metrics.client());
        let bootstrap = broker(-1, UP, 0, (0, 0, 0));
        first.update(&statistics(&[bootstrap, broker(1, UP, 2, (3_000, 2, 2_000)), broker(2, "INIT", 0, (0, 0, 0))]));
        first.update(&statistics(&[broker(1, UP, 5, (1_000, 1, 1_000)), broker(2, "INIT", 0, (0, 0, 0))]));
        second.update(&statistics(&[broker(2, UP, 1, (0, 0, 0)), broker(3, "DOWN", 0, (0, 0, 0))]));
        second.update(b"no statistics");
        let gauges = |of: &StatisticsMetrics| {
            [&of.brokers, &of.brokers_up, &of.queue_messages, &of.queue_messages_limit, &of.queue_limit_bytes]
                .map(Gauge::get)
        };
        assert_eq!(gauges(&metrics), [3, 2, 6, 200, 2_000]);
        assert_eq!((metrics.retries.get(), metrics.timeouts.get(), metrics.round_trips.get()), (6, 5, 3));
        assert!((metrics.round_trip_seconds.get() - 0.004).abs() < 1e-9, "{:?}", metrics.round_trip_seconds);
        assert!((metrics.round_trip_p99.get() - 0.001).abs() < 1e-9, "of the last interval");
        assert!((metrics.throttle_seconds.get() - 3.5).abs() < 1e-9, "seven brokers, half a second each");
        drop(first);
        assert_eq!(gauges(&metrics), [2, 1, 3, 100, 1_000]);
        drop(second);
        assert_eq!(gauges(&metrics), [0, 0, 0, 100, 1_000]);
    }
}
