//! Prometheus metrics, in one registry that the process owns.
//!
//! Promises: values of labels are from fixed lists, except for the numbers of partitions, which are bounded. Every
//! series exists from the start, but for those of partitions, which exist once the topic is known. A gauge with a limit
//! has one for the limit, with `limit` in its name.

mod calls;
mod process;
mod refusals;
mod topic_state;

use std::{sync::atomic::AtomicU64, time::Duration};

use changelog_core::{
    changelog::{self, Changelog},
    metrics::{Series, approximate, durations, saturated},
};
use parking_lot::{Mutex, MutexGuard};
use prometheus_client::{
    encoding::{prometheus_text, text},
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use tonic::Code;

pub use calls::{ApiMethod, METHODS};

use self::{calls::CallMetrics, refusals::Refusals, topic_state::TopicStates};
use crate::telemetry;

const PREFIX: &str = "changelogd";
const PORTS: [&str; 3] = ["api", "health", "admin"];
/// Why connections end.
pub const CONNECTION_ENDS: [&str; 7] =
    ["client", "no_first_bytes", "idle", "not_reading", "displaced", "refused", "stop"];
/// Replays and queues are measured, the others are reserved of.
const MEMORY_PARTS: [&str; 7] = ["replays", "queues", "requests", "answers", "lists", "conversions", "probes"];
/// Of replays that end with ABORTED.
const ABORTED: [&str; 2] = ["LOG_TRUNCATED", "LOG_MOVED"];
/// The commit that was built. The build does not ask git, which an image lacks.
const COMMIT: Option<&str> = option_env!("CHANGELOGD_COMMIT");

/// The metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: CallMetrics,
    refusals: Refusals,
    mutations: Histogram,
    ready: Gauge,
    draining: Gauge,
    topic_states: TopicStates,
    connections: Series<Gauge, 1>,
    connection_limits: Series<Gauge, 1>,
    connections_ended: Series<Counter, 2>,
    memory: Series<Gauge, 1>,
    memory_limits: Series<Gauge, 1>,
    container_limit: Gauge<f64, AtomicU64>,
    changelog: changelog::Metrics,
    replays_aborted: Series<Counter, 1>,
    scrape: Mutex<()>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn by<M: Clone, const N: usize>(label: &'static str, values: [&'static str; N], new: fn() -> M) -> Series<M, 1> {
    Series::new(values.map(|value| [(label, value)]), new)
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let ends =
            PORTS.into_iter().flat_map(|port| CONNECTION_ENDS.map(|reason| [("port", port), ("reason", reason)]));
        let mut metrics = Self {
            registry: Registry::default(),
            calls: CallMetrics::new(),
            refusals: Refusals::new(),
            mutations: durations(),
            ready: Gauge::default(),
            draining: Gauge::default(),
            topic_states: TopicStates::new(),
            connections: by("port", PORTS, Gauge::default),
            connection_limits: by("port", PORTS, Gauge::default),
            connections_ended: Series::new(ends, Counter::default),
            memory: by("part", MEMORY_PARTS, Gauge::default),
            memory_limits: by("part", MEMORY_PARTS, Gauge::default),
            container_limit: Gauge::default(),
            changelog: changelog::Metrics::default(),
            replays_aborted: by("reason", ABORTED, Counter::default),
            scrape: Mutex::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        self.calls.register(&mut self.registry);
        process::register(&mut self.registry);
        let registry = self.registry.sub_registry_with_prefix(PREFIX);
        self.calls.register_own(registry);
        self.refusals.register(registry);
        self.changelog.register(registry);
        registry.register_with_unit(
            "write_mutation_duration",
            "From the arrival of a mutation of Write to its verdict",
            Unit::Seconds,
            self.mutations.clone(),
        );
        self.replays_aborted.register(
            registry,
            "replays_aborted",
            "Replays that ended because the log changed while they read it, by reason",
        );
        self.connections.register(registry, "connections", "Open connections, by port");
        self.connection_limits.register(
            registry,
            "connections_limit",
            "How many connections a port may have; on the API port --max-connections, or fewer if memory or the limit \
             on open files is too small for so many",
        );
        self.connections_ended.register(
            registry,
            "connections_ended",
            "Connections that ended or were refused, by port and reason",
        );
        self.memory.register_with_unit(registry, "memory", "What a part of --memory-limit holds", Unit::Bytes);
        self.memory_limits.register_with_unit(
            registry,
            "memory_limit",
            "What a part of --memory-limit may hold at most",
            Unit::Bytes,
        );
        registry.register_with_unit(
            "memory_container_limit",
            "The memory limit of the container (its control groups) when the process began; +Inf without a limit",
            Unit::Bytes,
            self.container_limit.clone(),
        );
        registry.register("log_lines_lost", "Log lines that stderr did not take", telemetry::lost_lines());
        registry.register("ready", "1 if writes and loads are possible, as far as is known", self.ready.clone());
        registry.register("draining", "1 from the signal to stop on", self.draining.clone());
        self.topic_states.register(registry);
    }

    /// Where a store adds its metrics.
    pub fn registry(&mut self) -> &mut Registry {
        self.registry.sub_registry_with_prefix(PREFIX)
    }

    /// Adds what was built. `libraries` are names and versions of those that a store is linked with.
    pub fn register_build(&mut self, libraries: [(&'static str, String); 2]) {
        let own = [("version", env!("CARGO_PKG_VERSION")), ("commit", COMMIT.unwrap_or("unknown"))];
        let own = own.map(|(name, value)| (name, value.to_owned()));
        let labels: Vec<_> = own.into_iter().chain(libraries).collect();
        self.registry().register("build", "1, with versions and the commit", Info::new(labels));
    }

    pub fn call_started(&self, method: Option<ApiMethod>) {
        if let Some(method) = method {
            self.calls.started(method);
        }
    }

    /// Also called for a call whose client left.
    pub fn call_ended(&self, method: Option<ApiMethod>, code: Code, duration: Duration) {
        if let Some(method) = method {
            self.calls.ended(method, code, duration);
        }
    }

    /// Counts a call or mutation that is answered with a status that has this reason.
    pub fn refused(&self, reason: &str) {
        self.refusals.count(reason);
    }

    /// From the arrival of a mutation of `Write` to its verdict, in seconds.
    pub fn mutations(&self) -> &Histogram {
        &self.mutations
    }

    /// How many connections a port has.
    pub fn set_connections(&self, port: &str, count: usize) {
        set(&self.connections, port, count);
    }

    pub fn set_connections_limit(&self, port: &str, limit: usize) {
        set(&self.connection_limits, port, limit);
    }

    /// A connection ended, or was refused. The reason is one of [`CONNECTION_ENDS`].
    pub fn connection_ended(&self, port: &str, reason: &str) {
        if let Some(ended) = self.connections_ended.get([port, reason]) {
            ended.inc();
        }
    }

    /// What a part of the memory limit holds.
    pub fn set_memory(&self, part: &str, bytes: u64) {
        set(&self.memory, part, bytes);
    }

    pub fn set_memory_limit(&self, part: &str, bytes: u64) {
        set(&self.memory_limits, part, bytes);
    }

    /// The memory limit of the container. `None` without one.
    pub fn set_container_limit(&self, bytes: Option<u64>) {
        self.container_limit.set(bytes.map_or(f64::INFINITY, approximate));
    }

    pub fn set_ready(&self, ready: bool) {
        self.ready.set(i64::from(ready));
    }

    pub fn set_draining(&self) {
        self.draining.set(1);
    }

    /// Sets what follows no event. `None` before the store is open.
    pub fn refresh(&self, changelog: Option<&Changelog>) {
        let Some(changelog) = changelog else { return };
        changelog.refresh_metrics();
        self.set_memory("queues", changelog.queue().bytes as u64);
        self.set_memory("replays", changelog.replay_memory() as u64);
        self.topic_states.set(Some(&changelog.topic_state().borrow()));
    }

    /// The metrics of the changelog.
    pub fn changelog(&self) -> &changelog::Metrics {
        &self.changelog
    }

    /// Counts a replay that ended with ABORTED. The reason is that of the status.
    pub fn replay_aborted(&self, reason: &str) {
        if let Some(aborted) = self.replays_aborted.get([reason]) {
            aborted.inc();
        }
    }

    /// Held while gauges are set and read, because of several states exactly one holds.
    pub fn scrape(&self) -> MutexGuard<'_, ()> {
        self.scrape.lock()
    }

    /// In the OpenMetrics text format 1.0.0.
    pub fn open_metrics(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }

    /// In Prometheus' text format 0.0.4.
    pub fn plain_text(&self) -> String {
        let mut text = String::new();
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }
}

fn set(gauges: &Series<Gauge, 1>, value: &str, number: impl TryInto<i64>) {
    if let Some(gauge) = gauges.get([value]) {
        gauge.set(saturated(number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_rendered_as_metrics() {
        let metrics = Metrics::new();
        let set = ApiMethod::named("Set");
        metrics.call_started(set);
        metrics.call_ended(set, Code::Ok, Duration::from_millis(1));
        metrics.replay_aborted("LOG_MOVED");
        let labels = "grpc_type=\"unary\",grpc_service=\"changelog.v1.ChangelogService\",grpc_method=\"Set\"";
        for text in [metrics.open_metrics(), metrics.plain_text()] {
            for line in [
                &*format!("grpc_server_handled_total{{{labels},grpc_code=\"OK\"}} 1"),
                &*format!("grpc_server_started_total{{{labels}}} 1"),
                &*format!("changelogd_calls_in_flight{{{labels}}} 0"),
                &*format!("grpc_server_handling_seconds_count{{{labels}}} 1"),
                "changelogd_loads_coalesced_total 0",
                "changelogd_replays_aborted_total{reason=\"LOG_MOVED\"} 1",
                "changelogd_following_streams 0",
                "changelogd_topic_state{state=\"starting\",reason=\"STARTING\"} 1",
            ] {
                assert!(text.contains(line), "{line} in {text}");
            }
        }
    }

    /// Covers C80.
    #[test]
    fn families_have_the_names_of_their_samples_and_no_units_in_the_older_format() {
        let metrics = Metrics::new();
        let (text, open) = (metrics.plain_text(), metrics.open_metrics());
        assert!(text.contains("# TYPE grpc_server_handled_total counter\n") && !text.contains("# UNIT"), "{text}");
        assert!(open.contains("# TYPE grpc_server_handled counter\n") && open.contains("# UNIT"), "{open}");
        assert!(open.ends_with("# EOF\n") && !text.contains("# EOF"));
    }
}
