//! Metrics of writes, replays and following streams. Every series exists from the start.

mod followers;
mod writes;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::SystemTime,
};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tokio::time::Instant;

pub(super) use self::followers::Follower;
use self::{followers::Followers, writes::WriteMetrics};
use super::Limits;
use crate::{
    log::Counts,
    metrics::{Series, durations, saturated},
};

/// The classes of records, each read record in one of them.
const CLASSES: [&str; 3] = ["valid", "foreign", "misplaced"];

/// Counted as running until it is dropped.
#[derive(Debug)]
pub(super) struct Running(Gauge);

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

/// A wait for a replay. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    begun: Instant,
    waits: Histogram,
    _counted: Running,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waits.observe(self.begun.elapsed().as_secs_f64());
    }
}

/// A replay, until its ends are reached or it has failed, and this is dropped.
#[derive(Debug)]
pub(super) struct Replaying {
    begun: Instant,
    has_record: bool,
    first_records: Histogram,
    durations: Histogram,
}

impl Replaying {
    /// Records were delivered.
    pub fn records(&mut self) {
        if !std::mem::replace(&mut self.has_record, true) {
            self.first_records.observe(self.begun.elapsed().as_secs_f64());
        }
    }
}

impl Drop for Replaying {
    fn drop(&mut self) {
        self.durations.observe(self.begun.elapsed().as_secs_f64());
    }
}

/// The metrics of a changelog. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    replays: Gauge,
    replays_limit: Gauge,
    replays_waiting: Gauge,
    replay_waits: Histogram,
    replay_durations: Histogram,
    first_records: Histogram,
    following_streams: Gauge,
    following_streams_limit: Gauge,
    lagging_streams: Gauge,
    lag: Gauge<f64, AtomicU64>,
    followers: Arc<Followers>,
    coalesced: Counter,
    records: Series<Counter, 1>,
    bytes: Counter,
    lossy_header_names: Counter,
    pub(super) writes: WriteMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            replays: Gauge::default(),
            replays_limit: Gauge::default(),
            replays_waiting: Gauge::default(),
            replay_waits: durations(),
            replay_durations: durations(),
            first_records: durations(),
            following_streams: Gauge::default(),
            following_streams_limit: Gauge::default(),
            lagging_streams: Gauge::default(),
            lag: Gauge::default(),
            followers: Arc::default(),
            coalesced: Counter::default(),
            records: Series::new(CLASSES.map(|class| [("class", class)]), Counter::default),
            bytes: Counter::default(),
            lossy_header_names: Counter::default(),
            writes: WriteMetrics::default(),
        }
    }
}

impl Metrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        self.writes.register(registry);
        self.register_replays(registry);
        self.register_streams(registry);
    }

    fn register_replays(&self, registry: &mut Registry) {
        registry.register("replays_running", "Loads, gets and streams that replay now", self.replays.clone());
        registry.register(
            "replays_running_limit",
            "How many loads, gets and streams may replay: --max-replays",
            self.replays_limit.clone(),
        );
        registry.register(
            "replays_waiting",
            "Loads, gets and streams that wait for a replay permit",
            self.replays_waiting.clone(),
        );
        registry.register_with_unit(
            "replay_wait",
            "How long a load, get or stream waited for its replay to start, or for the refusal",
            Unit::Seconds,
            self.replay_waits.clone(),
        );
        registry.register_with_unit(
            "replay_duration",
            "From the start of a replay to its end offsets, or to its error",
            Unit::Seconds,
            self.replay_durations.clone(),
        );
        registry.register_with_unit(
            "replay_first_record",
            "From the start of a replay to its first records",
            Unit::Seconds,
            self.first_records.clone(),
        );
        registry.register_with_unit(
            "replay",
            "Keys and values that replays read up to an end, selected or not; a replay that fails counts nothing",
            Unit::Bytes,
            self.bytes.clone(),
        );
        self.records.register(
            registry,
            "replay_records",
            "Records that replays read up to an end, each in one class: valid, foreign (no key, or one outside the \
             grammar), misplaced (wrong partition)",
        );
        registry.register(
            "replay_lossy_header_names",
            "Header names that were not UTF-8; each invalid part became U+FFFD",
            self.lossy_header_names.clone(),
        );
        registry.register(
            "loads_coalesced",
            "Loads and gets that were answered from the replay of another request (--share-replays)",
            self.coalesced.clone(),
        );
    }

    fn register_streams(&self, registry: &mut Registry) {
        registry.register("following_streams", "Streams and watches that follow now", self.following_streams.clone());
        registry.register(
            "following_streams_limit",
            "How many streams and watches may follow: --max-following-streams, or fewer if the memory is too small",
            self.following_streams_limit.clone(),
        );
        registry.register(
            "following_streams_lagging",
            "Streams and watches that have not delivered all records for more than 15 s",
            self.lagging_streams.clone(),
        );
        registry.register_with_unit(
            "follower_lag",
            "Time since the stream that is behind most had delivered all records; up to 10 s is normal",
            Unit::Seconds,
            self.lag.clone(),
        );
    }

    /// For the gauges of the limits.
    pub(super) fn set_limits(&self, limits: &Limits) {
        self.replays_limit.set(saturated(limits.max_replays));
        self.following_streams_limit.set(saturated(limits.max_following_streams));
    }

    pub(super) fn refresh_lag(&self) {
        let lag = self.followers.lag(SystemTime::now());
        self.lagging_streams.set(saturated(lag.lagging));
        self.lag.set(lag.longest.as_secs_f64());
    }

    /// Adds the counts of a replay.
    pub(super) fn replayed(&self, counts: Counts) {
        self.lossy_header_names.inc_by(counts.lossy_header_names);
        self.bytes.inc_by(counts.bytes);
        // Disjoint: the sum over the classes is the number of records read.
        let valid = counts.read.saturating_sub(counts.skipped + counts.misplaced);
        for ((_, class), n) in self.records.members().iter().zip([valid, counts.skipped, counts.misplaced]) {
            class.inc_by(n);
        }
    }

    /// A load, get or stream waits until the result is dropped.
    pub(super) fn replay_awaited(&self) -> Waiting {
        let waits = self.replay_waits.clone();
        Waiting { begun: Instant::now(), waits, _counted: Running::begin(&self.replays_waiting) }
    }

    /// A replay reads until the result is dropped.
    pub(super) fn replaying(&self) -> Replaying {
        self.replaying_since(Instant::now())
    }

    /// As [`Metrics::replaying`], for one that has begun earlier.
    pub(super) fn replaying_since(&self, begun: Instant) -> Replaying {
        let (first_records, durations) = (self.first_records.clone(), self.replay_durations.clone());
        Replaying { begun, has_record: false, first_records, durations }
    }

    /// Counts a running replay until the result is dropped.
    pub(super) fn replay_started(&self) -> Running {
        Running::begin(&self.replays)
    }

    /// Counts a following stream until the result is dropped.
    pub(super) fn following_stream_started(&self) -> Running {
        Running::begin(&self.following_streams)
    }

    /// A stream has delivered all records, and follows until the result is dropped.
    pub(super) fn follower(&self, at_end: SystemTime) -> Follower {
        self.followers.start(at_end)
    }

    /// Adds loads that were answered from the replay of another load.
    pub(super) fn loads_coalesced(&self, loads: u64) {
        self.coalesced.inc_by(loads);
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::log::Class;

    fn registered() -> (Metrics, Registry) {
        let (metrics, mut registry) = (Metrics::default(), Registry::with_prefix("changelogd"));
        metrics.register(&mut registry);
        (metrics, registry)
    }

    fn text_of(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }

    /// Covers C50, R13.
    #[test]
    fn counts_are_rendered_as_metrics() {
        let (metrics, registry) = registered();
        let running = metrics.replay_started();
        drop(metrics.replay_started());
        metrics.replaying().records();
        drop(metrics.replay_awaited());
        metrics.replayed(Counts { read: 5, skipped: 2, misplaced: 0, bytes: 7, lossy_header_names: 3 });
        let text = text_of(&registry);
        for line in [
            "changelogd_replay_records_total{class=\"valid\"} 3",
            "changelogd_replay_records_total{class=\"foreign\"} 2",
            "changelogd_replay_lossy_header_names_total 3",
            "changelogd_loads_coalesced_total 0",
            "changelogd_replays_running 1",
            "changelogd_replays_waiting 0",
            "changelogd_replay_wait_seconds_count 1",
            "changelogd_replay_duration_seconds_count 1",
            "changelogd_replay_first_record_seconds_count 1",
            "changelogd_replay_bytes_total 7",
            "changelogd_following_streams 0",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        drop(running);
        assert!(text_of(&registry).contains("changelogd_replays_running 0"));
    }

    /// Covers C50.
    #[test]
    fn the_sum_over_the_record_classes_is_the_number_of_records_read() {
        let (metrics, registry) = registered();
        let classes =
            [Class::Foreign, Class::Misplaced, Class::Misplaced, Class::Unwanted, Class::Wanted, Class::Wanted];
        for class in classes {
            let mut counts = Counts::default();
            counts.count(class, 1);
            metrics.replayed(counts);
        }
        let mut all = Counts::default();
        for class in classes {
            all.count(class, 1);
        }
        metrics.replayed(all);
        let text = text_of(&registry);
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
