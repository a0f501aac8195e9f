//! Prometheus metrics, in one registry that the process owns. Label values are bounded: RPC names, codes, classes.

mod plain_text;

use std::time::Duration;

use changelog_core::changelog;
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

use crate::telemetry;

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
struct Port {
    port: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConnectionEnd {
    port: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Aborted {
    reason: &'static str,
}

/// The metrics of one process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MemoryPart {
    part: &'static str,
}

#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<RpcCode, Counter>,
    durations: Family<Rpc, Histogram>,
    in_flight: Family<Rpc, Gauge>,
    ready: Gauge,
    connections: Family<Port, Gauge>,
    connections_ended: Family<ConnectionEnd, Counter>,
    memory: Family<MemoryPart, Gauge>,
    memory_limits: Family<MemoryPart, Gauge>,
    changelog: changelog::Metrics,
    replays_aborted: Family<Aborted, Counter>,
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
        let ready = Gauge::default();
        let changelog = changelog::Metrics::default();
        changelog.register(&mut registry);
        let replays_aborted = Family::<Aborted, Counter>::default();
        registry.register(
            "replays_aborted",
            "Replays that ended because the log changed while they read it, by reason",
            replays_aborted.clone(),
        );
        registry.register("rpc_calls", "Calls answered, by RPC and status code", calls.clone());
        registry.register_with_unit(
            "rpc_duration",
            "From a call's arrival to its last byte",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register("rpc_in_flight", "Calls that are being answered", in_flight.clone());
        let connections = Family::<Port, Gauge>::default();
        registry.register("connections", "Open connections, by port", connections.clone());
        let connections_ended = Family::<ConnectionEnd, Counter>::default();
        registry.register(
            "connections_ended",
            "Connections that ended or were refused, by port and reason",
            connections_ended.clone(),
        );
        let memory = Family::<MemoryPart, Gauge>::default();
        registry.register_with_unit(
            "memory",
            "What a part of --memory-limit holds; replays have replay_memory_bytes",
            Unit::Bytes,
            memory.clone(),
        );
        let memory_limits = Family::<MemoryPart, Gauge>::default();
        registry.register_with_unit(
            "memory_limit",
            "What a part of --memory-limit may hold at most",
            Unit::Bytes,
            memory_limits.clone(),
        );
        registry.register("log_lines_lost", "Log lines that stderr did not take", telemetry::lost_lines());
        registry.register("ready", "1 if writes and loads are possible, as far as is known", ready.clone());
        registry.register("build", "The version", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        Self {
            registry,
            calls,
            durations,
            in_flight,
            ready,
            connections,
            connections_ended,
            memory,
            memory_limits,
            changelog,
            replays_aborted,
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

    /// How many connections a port has.
    pub fn set_connections(&self, port: &'static str, count: usize) {
        self.connections.get_or_create(&Port { port }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A connection ended, or was refused. The reason is from a fixed list.
    pub fn connection_ended(&self, port: &'static str, reason: &'static str) {
        self.connections_ended.get_or_create(&ConnectionEnd { port, reason }).inc();
    }

    /// What a part of the memory limit holds.
    pub fn set_memory(&self, part: &'static str, bytes: u64) {
        self.memory.get_or_create(&MemoryPart { part }).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub fn set_memory_limit(&self, part: &'static str, bytes: u64) {
        self.memory_limits.get_or_create(&MemoryPart { part }).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    /// The metrics of the changelog.
    pub fn changelog(&self) -> &changelog::Metrics {
        &self.changelog
    }

    /// Counts a replay that ended with ABORTED. The reason is that of the status.
    pub fn replay_aborted(&self, reason: &'static str) {
        self.replays_aborted.get_or_create(&Aborted { reason }).inc();
    }

    /// Where a store adds its metrics.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// In the OpenMetrics text format 1.0.0.
    pub fn open_metrics(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// In Prometheus' text format 0.0.4.
    pub fn plain_text(&self) -> String {
        plain_text::from_open_metrics(&self.open_metrics())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_rendered_as_metrics() {
        let metrics = Metrics::new();
        metrics.call_started("Set");
        metrics.call_ended("Set", "OK", Duration::from_millis(1));
        metrics.replay_aborted("LOG_MOVED");
        let text = metrics.open_metrics();
        for line in [
            "changelogd_rpc_calls_total{rpc=\"Set\",code=\"OK\"} 1",
            "changelogd_rpc_in_flight{rpc=\"Set\"} 0",
            "changelogd_rpc_duration_seconds_count{rpc=\"Set\"} 1",
            "changelogd_loads_coalesced_total 0",
            "changelogd_replays_aborted_total{reason=\"LOG_MOVED\"} 1",
            "changelogd_following_streams 0",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }
}
