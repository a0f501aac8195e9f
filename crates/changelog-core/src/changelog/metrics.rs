//! Metrics of replays and following streams, and of the records that they read. Label values are bounded.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::log::Counts;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RecordClass {
    class: &'static str,
}

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

/// The metrics of a changelog. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    replays: Gauge,
    following_streams: Gauge,
    memory_bytes: Gauge,
    coalesced: Counter,
    records: Family<RecordClass, Counter>,
    lossy_header_names: Counter,
}

impl Metrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "replay_lossy_header_names",
            "Header names that were not UTF-8; each invalid part became U+FFFD",
            self.lossy_header_names.clone(),
        );
        registry.register(
            "replays_running",
            "Loads, gets and streams that replay now (--max-replays)",
            self.replays.clone(),
        );
        registry.register_with_unit(
            "replay_memory",
            "Memory that replays hold of --replay-memory: read ahead, folded or being sent",
            Unit::Bytes,
            self.memory_bytes.clone(),
        );
        registry.register(
            "loads_coalesced",
            "Loads and gets that were answered from the replay of another request (--share-replays)",
            self.coalesced.clone(),
        );
        registry.register(
            "following_streams",
            "Streams that follow now (--max-following-streams)",
            self.following_streams.clone(),
        );
        registry.register(
            "replay_records",
            "Records that replays read, each in one class: valid, foreign (no key, or one outside the grammar), \
             misplaced (wrong partition)",
            self.records.clone(),
        );
    }

    /// Adds the counts of a replay.
    pub(super) fn replayed(&self, counts: Counts) {
        self.lossy_header_names.inc_by(counts.lossy_header_names);
        // Disjoint: the sum over the classes is the number of records read.
        let valid = counts.read.saturating_sub(counts.skipped + counts.misplaced);
        for (class, n) in [("valid", valid), ("foreign", counts.skipped), ("misplaced", counts.misplaced)] {
            if n > 0 {
                self.records.get_or_create(&RecordClass { class }).inc_by(n);
            }
        }
    }

    /// Counts a running replay until the result is dropped.
    pub(super) fn replay_started(&self) -> Running {
        Running::begin(&self.replays)
    }

    /// Counts a following stream until the result is dropped.
    pub(super) fn following_stream_started(&self) -> Running {
        Running::begin(&self.following_streams)
    }

    /// Adds loads that were answered from the replay of another load.
    pub(super) fn loads_coalesced(&self, loads: u64) {
        self.coalesced.inc_by(loads);
    }

    /// Adds bytes to the memory that replays reserve. A negative number releases them.
    pub(super) fn add_replay_memory(&self, more: i64) {
        self.memory_bytes.inc_by(more);
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
        metrics.add_replay_memory(7);
        metrics.replayed(Counts { read: 5, skipped: 2, misplaced: 0, lossy_header_names: 3 });
        let text = text_of(&registry);
        for line in [
            "changelogd_replay_records_total{class=\"valid\"} 3",
            "changelogd_replay_records_total{class=\"foreign\"} 2",
            "changelogd_replay_lossy_header_names_total 3",
            "changelogd_loads_coalesced_total 0",
            "changelogd_replays_running 1",
            "changelogd_replay_memory_bytes 7",
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
            counts.count(class);
            metrics.replayed(counts);
        }
        let mut all = Counts::default();
        for class in classes {
            all.count(class);
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
