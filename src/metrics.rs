//! Prometheus metrics, in one registry that the process owns. Label values are bounded: RPC names, codes, classes.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use crate::{kafka, log::Counts};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rpc {
    rpc: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcCode {
    rpc: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecordClass {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Aborted {
    reason: &'static str,
}

/// Counted as running until it is dropped.
#[derive(Debug)]
pub struct Running(Gauge);

impl Running {
    fn begin(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<RpcCode, Counter>,
    durations: Family<Rpc, Histogram>,
    in_flight: Family<Rpc, Gauge>,
    records: Family<RecordClass, Counter>,
    lossy_header_names: Counter,
    ready: Gauge,
    replays: Gauge,
    replay_memory: Gauge,
    following_streams: Gauge,
    loads_coalesced: Counter,
    replays_aborted: Family<Aborted, Counter>,
    kafka: kafka::Metrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("changelogd");
        let calls = Family::<RpcCode, Counter>::default();
        // 0.1 ms to 26 s
        let durations =
            Family::<Rpc, Histogram>::new_with_constructor(|| Histogram::new(exponential_buckets(1e-4, 4.0, 10)));
        let in_flight = Family::<Rpc, Gauge>::default();
        let records = Family::<RecordClass, Counter>::default();
        let lossy_header_names = Counter::default();
        registry.register(
            "replay_lossy_header_names",
            "Header names that were not UTF-8; each invalid part became U+FFFD",
            lossy_header_names.clone(),
        );
        let ready = Gauge::default();
        let (replays, replay_memory, following_streams) = (Gauge::default(), Gauge::default(), Gauge::default());
        registry.register(
            "replays_running",
            "Loads, gets and streams that replay now (--max-replays)",
            replays.clone(),
        );
        registry.register_with_unit(
            "replay_memory",
            "Memory that replays hold of --replay-memory: read ahead, folded or being sent",
            Unit::Bytes,
            replay_memory.clone(),
        );
        let loads_coalesced = Counter::default();
        registry.register(
            "loads_coalesced",
            "Loads and gets that were answered from the replay of another request (--share-replays)",
            loads_coalesced.clone(),
        );
        registry.register(
            "following_streams",
            "Streams that follow now (--max-following-streams)",
            following_streams.clone(),
        );
        let replays_aborted = Family::<Aborted, Counter>::default();
        registry.register(
            "replays_aborted",
            "Replays that ended because the log changed while they read it, by reason",
            replays_aborted.clone(),
        );
        let kafka = kafka::Metrics::default();
        kafka.register(&mut registry);
        registry.register("rpc_calls", "Calls answered, by RPC and status code", calls.clone());
        registry.register_with_unit(
            "rpc_duration",
            "From a call's arrival to its last byte",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("rpc_in_flight", "Calls that are being answered", in_flight.clone());
        registry.register(
            "replay_records",
            "Records that replays read, each in one class: valid, foreign (no key, or one outside the grammar), \
             misplaced (wrong partition)",
            records.clone(),
        );
        registry.register("ready", "1 if writes and loads are possible, as far as is known", ready.clone());
        registry.register("build", "The version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        Self {
            registry,
            calls,
            durations,
            in_flight,
            records,
            lossy_header_names,
            ready,
            replays,
            replay_memory,
            following_streams,
            loads_coalesced,
            replays_aborted,
            kafka,
        }
    }

    pub fn call_started(&self, rpc: &'static str) {
        self.in_flight.get_or_create(&Rpc { rpc }).inc();
    }

    /// Also called for a call whose client left.
    pub fn call_ended(&self, rpc: &'static str, code: &'static str, duration: Duration) {
        self.in_flight.get_or_create(&Rpc { rpc }).dec();
        self.calls.get_or_create(&RpcCode { rpc, code }).inc();
        self.durations.get_or_create(&Rpc { rpc }).observe(duration.as_secs_f64());
    }

    /// Adds the counts of a replay.
    pub fn replayed(&self, counts: Counts) {
        self.lossy_header_names.inc_by(counts.lossy_header_names);
        // Disjoint: the sum over the classes is the number of records read.
        let valid = counts.read.saturating_sub(counts.skipped + counts.misplaced);
        for (class, n) in [("valid", valid), ("foreign", counts.skipped), ("misplaced", counts.misplaced)] {
            if n > 0 {
                self.records.get_or_create(&RecordClass { class }).inc_by(n);
            }
        }
    }

    pub fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    /// Counts a running replay until the result is dropped.
    pub fn replay_started(&self) -> Running {
        Running::begin(&self.replays)
    }

    /// Adds loads that were answered from the replay of another load.
    pub fn loads_coalesced(&self, loads: u64) {
        self.loads_coalesced.inc_by(loads);
    }

    /// Counts a following stream until the result is dropped.
    pub fn following_stream_started(&self) -> Running {
        Running::begin(&self.following_streams)
    }

    /// Adds bytes to the memory that replays reserve. A negative number releases them.
    pub fn add_replay_memory(&self, more: i64) {
        self.replay_memory.inc_by(more);
    }

    /// Counts a replay that ended with ABORTED. The reason is that of the status.
    pub fn replay_aborted(&self, reason: &'static str) {
        self.replays_aborted.get_or_create(&Aborted { reason }).inc();
    }

    /// The metrics of the Kafka store.
    pub fn kafka(&self) -> &kafka::Metrics {
        &self.kafka
    }

    /// In the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::Class;

    /// Covers C50, R13.
    #[test]
    fn counts_are_rendered_as_metrics() {
        let metrics = Metrics::new();
        metrics.call_started("Set");
        metrics.call_ended("Set", "OK", Duration::from_millis(1));
        metrics.replay_aborted("LOG_MOVED");
        metrics.kafka().producers_replaced.inc();
        let running = metrics.replay_started();
        drop(metrics.replay_started());
        metrics.add_replay_memory(7);
        metrics.replayed(Counts { read: 5, skipped: 2, misplaced: 0, lossy_header_names: 3 });
        let text = metrics.render();
        for line in [
            "changelogd_rpc_calls_total{rpc=\"Set\",code=\"OK\"} 1",
            "changelogd_rpc_in_flight{rpc=\"Set\"} 0",
            "changelogd_rpc_duration_seconds_count{rpc=\"Set\"} 1",
            "changelogd_replay_records_total{class=\"valid\"} 3",
            "changelogd_replay_records_total{class=\"foreign\"} 2",
            "changelogd_replay_lossy_header_names_total 3",
            "changelogd_loads_coalesced_total 0",
            "changelogd_replays_aborted_total{reason=\"LOG_MOVED\"} 1",
            "changelogd_producers_replaced_total 1",
            "changelogd_replays_running 1",
            "changelogd_replay_memory_bytes 7",
            "changelogd_following_streams 0",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        drop(running);
        assert!(metrics.render().contains("changelogd_replays_running 0"));
    }

    /// Covers C50.
    #[test]
    fn the_sum_over_the_record_classes_is_the_number_of_records_read() {
        let metrics = Metrics::new();
        let classes =
            [Class::Foreign, Class::Misplaced, Class::Misplaced, Class::Unwanted, Class::Wanted, Class::Wanted];
        for class in classes {
            let mut counts = Counts::default();
            counts.count(class);
            metrics.replayed(counts);
        }
        let mut all = Counts::default();
        for class in classes {
            all.count(class);
        }
        metrics.replayed(all);
        let text = metrics.render();
        let of = |class: &str| {
            let start = format!("changelogd_replay_records_total{{class=\"{class}\"}} ");
            let value = text.lines().find_map(|line| line.strip_prefix(&start)).expect("the class is rendered");
            value.parse::<u64>().unwrap()
        };
        assert_eq!((of("valid"), of("foreign"), of("misplaced")), (6, 2, 4));
        let lines = text.lines().filter(|line| line.starts_with("changelogd_replay_records_total{"));
        let sum: u64 = lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
        assert_eq!(sum, 2 * classes.len() as u64);
    }
}
