//! The metrics of the Kafka store.

mod partitions;
mod statistics;

use std::sync::atomic::AtomicU64;

use changelog_core::metrics::{Series, approximate};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};

pub use self::{
    partitions::PartitionMetrics,
    statistics::{ClientStatistics, StatisticsMetrics},
};
use crate::settings::{Expirations, Settings};

const CLIENT: &str = "client";
const CA: &str = "ca";

/// Handles of the metrics that the Kafka store counts in. Clones share their values.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Producers that were replaced because of a fatal error.
    pub producers_replaced: Counter,
    /// How often changed properties, or the files that they name, replaced the clients.
    pub settings_replaced: Counter,
    /// Attempts to get a token for SASL OAUTHBEARER, also from a file.
    pub token_requests: Counter,
    /// Those that failed.
    pub token_failures: Counter,
    pub(crate) statistics: StatisticsMetrics,
    pub(crate) partitions: PartitionMetrics,
    certificates: Series<Gauge<f64, AtomicU64>, 1>,
}

impl Default for Metrics {
    fn default() -> Self {
        let unknown = || {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(f64::INFINITY);
            gauge
        };
        Self {
            producers_replaced: Counter::default(),
            settings_replaced: Counter::default(),
            token_requests: Counter::default(),
            token_failures: Counter::default(),
            statistics: StatisticsMetrics::default(),
            partitions: PartitionMetrics::default(),
            certificates: Series::new([CLIENT, CA].map(|it| [("certificate", it)]), unknown),
        }
    }
}

impl Metrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "kafka_producers_replaced",
            "Kafka producers that met a fatal error and were replaced",
            self.producers_replaced.clone(),
        );
        registry.register(
            "kafka_settings_replaced",
            "Times that a changed properties file, or a file that a property names, replaced the Kafka clients",
            self.settings_replaced.clone(),
        );
        registry.register(
            "kafka_token_requests",
            "Attempts to get a token for SASL OAUTHBEARER, from the identity provider or the token file",
            self.token_requests.clone(),
        );
        registry.register(
            "kafka_token_failures",
            "Attempts to get a token for SASL OAUTHBEARER that failed",
            self.token_failures.clone(),
        );
        self.certificates.register_with_unit(
            registry,
            "kafka_certificate_expiration_timestamp",
            "When the first certificate of the client, or of the authorities, that the properties name expires; +Inf \
             if they name none",
            Unit::Seconds,
        );
        self.statistics.register(registry);
        self.partitions.register(registry);
    }

    /// The limits of the producers' queues, before there are producers.
    pub(crate) fn set_queue_limits(&self, settings: &Settings) {
        let ((messages, bytes), producers) = (settings.queue_limits(), settings.producers as u64);
        self.statistics.set_queue_limits(messages.saturating_mul(producers), (bytes as u64).saturating_mul(producers));
    }

    /// When the certificates of the settings in effect expire.
    pub(crate) fn set_expirations(&self, expirations: &Expirations) {
        for (certificate, expires) in [(CLIENT, expirations.client), (CA, expirations.ca)] {
            if let Some(gauge) = self.certificates.get([certificate]) {
                gauge.set(expires.map_or(f64::INFINITY, approximate));
            }
        }
    }
}
