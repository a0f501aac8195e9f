//! Metrics of writes: outcomes, their time, the queue of the log, and failures of buffered writes.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use tokio::time::Instant;

use crate::{
    changelog::write::FailuresKept,
    log::{Appended, WriteError, WriteQueue},
    metrics::{Labels, Series, durations, saturated},
};

const WRITTEN: &str = "written";
const NOT_WRITTEN: &str = "not_written";
const UNKNOWN: &str = "unknown";
/// The reason of a write that succeeded.
const OK: &str = "OK";

/// Result and reason of a write.
fn label_values(error: Option<&WriteError>) -> [&'static str; 2] {
    match error {
        None => [WRITTEN, OK],
        Some(error @ WriteError::OutcomeUnknown { .. }) => [UNKNOWN, error.reason()],
        Some(error) => [NOT_WRITTEN, error.reason()],
    }
}

fn all_labels() -> impl Iterator<Item = Labels<2>> {
    let not_written = WriteError::REASONS.into_iter().map(|reason| [NOT_WRITTEN, reason]);
    let others = [[WRITTEN, OK], [UNKNOWN, WriteError::OUTCOME_UNKNOWN]];
    others.into_iter().chain(not_written).map(|[result, reason]| [("result", result), ("reason", reason)])
}

#[derive(Debug, Clone)]
pub struct WriteMetrics {
    outcomes: Series<Counter, 2>,
    /// One of them, because most writes end so.
    written: Counter,
    durations: Histogram,
    queue_writes: Gauge,
    queue_writes_limit: Gauge,
    queue_bytes: Gauge,
    queue_limit_bytes: Gauge,
    queue_fullest: Gauge<f64, AtomicU64>,
    failures: Gauge,
    failures_limit: Gauge,
    failures_dropped: Counter,
}

impl Default for WriteMetrics {
    fn default() -> Self {
        let outcomes = Series::new(all_labels(), Counter::default);
        let written = outcomes.get(label_values(None)).cloned().unwrap_or_default();
        Self {
            outcomes,
            written,
            durations: durations(),
            queue_writes: Gauge::default(),
            queue_writes_limit: Gauge::default(),
            queue_bytes: Gauge::default(),
            queue_limit_bytes: Gauge::default(),
            queue_fullest: Gauge::default(),
            failures: Gauge::default(),
            failures_limit: Gauge::default(),
            failures_dropped: Counter::default(),
        }
    }
}

impl WriteMetrics {
    pub fn register(&self, registry: &mut Registry) {
        self.outcomes.register(
            registry,
            "writes",
            "Sets and deletes that the log was to take, by result (written, not_written, unknown) and reason",
        );
        registry.register_with_unit(
            "write_duration",
            "From the acceptance of a write by the log to its acknowledgement",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "write_queue_writes",
            "Accepted writes without an outcome, in the queue of the log",
            self.queue_writes.clone(),
        );
        registry.register(
            "write_queue_writes_limit",
            "How many writes the queue takes",
            self.queue_writes_limit.clone(),
        );
        registry.register_with_unit(
            "write_queue",
            "Memory of the writes in the queue of the log",
            Unit::Bytes,
            self.queue_bytes.clone(),
        );
        registry.register_with_unit(
            "write_queue_limit",
            "How much memory the queue takes",
            Unit::Bytes,
            self.queue_limit_bytes.clone(),
        );
        registry.register(
            "write_queue_fullest_ratio",
            "The used part of the queue that refuses writes first, of its writes or bytes: each producer has one",
            self.queue_fullest.clone(),
        );
        registry.register(
            "buffered_failures",
            "Failed buffered writes that no Flush has returned yet",
            self.failures.clone(),
        );
        registry.register(
            "buffered_failures_limit",
            "How many failed buffered writes are kept for a Flush",
            self.failures_limit.clone(),
        );
        registry.register(
            "buffered_failures_dropped",
            "Failed buffered writes that no Flush had returned when a newer one took their place",
            self.failures_dropped.clone(),
        );
    }

    /// The log has reported the outcome of a write that it accepted at this time.
    pub fn ended(&self, outcome: &Result<Appended, WriteError>, accepted: Instant) {
        match outcome {
            Ok(_) => {
                self.written.inc();
                self.durations.observe(accepted.elapsed().as_secs_f64());
            }
            Err(error) => self.refused(error),
        }
    }

    /// A write failed, or was not accepted.
    pub fn refused(&self, error: &WriteError) {
        if let Some(count) = self.outcomes.get(label_values(Some(error))) {
            count.inc();
        }
    }

    pub fn set_queue(&self, queue: &WriteQueue) {
        self.queue_writes.set(saturated(queue.writes));
        self.queue_writes_limit.set(saturated(queue.max_writes));
        self.queue_bytes.set(saturated(queue.bytes));
        self.queue_limit_bytes.set(saturated(queue.max_bytes));
        self.queue_fullest.set(queue.fullest);
    }

    pub fn set_failures(&self, failures: FailuresKept) {
        self.failures.set(saturated(failures.not_returned));
        self.failures_limit.set(saturated(failures.max));
        self.failures_dropped.inc_by(failures.dropped.saturating_sub(self.failures_dropped.get()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Corrupt, StoreFailure, TopicProblem};

    /// Covers C83.
    #[test]
    fn each_outcome_has_its_series() {
        let metrics = WriteMetrics::default();
        let text = String::new;
        let errors = [
            TopicProblem::NotFound { topic: text() }.into(),
            WriteError::QueueFull { limit: text() },
            WriteError::TooLarge { limit: 1, got: 2 },
            WriteError::Unreachable { cause: text() },
            WriteError::NotEnoughReplicas { cause: text(), replicas: None },
            WriteError::Draining,
            WriteError::OutOfFiles { cause: text() },
            WriteError::DiskFull { cause: text() },
            WriteError::ReadOnly { cause: text() },
            StoreFailure::Corrupt(Corrupt { detail: text() }).into(),
            WriteError::Fault { cause: text() },
            WriteError::OutcomeUnknown { by_time: false, cause: text() },
        ];
        for error in &errors {
            metrics.refused(error);
            let [result, reason] = label_values(Some(error));
            assert_eq!(metrics.outcomes.get([result, reason]).map(Counter::get), Some(1), "{error}");
        }
        assert_eq!(metrics.outcomes.members().len(), WriteError::REASONS.len() + 2);
        assert_eq!(metrics.written.get(), 0);
    }
}
