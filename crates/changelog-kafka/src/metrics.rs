//! The metrics of the Kafka store.

use prometheus_client::{metrics::counter::Counter, registry::Registry};

/// Handles of the metrics that the Kafka store counts in. Clones share their values.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Producers that were replaced because of a fatal error.
    pub producers_replaced: Counter,
    /// How often changed properties, or the files that they name, replaced the clients.
    pub settings_replaced: Counter,
    /// Attempts to get a token for SASL OAUTHBEARER, also from a file.
    pub token_requests: Counter,
    /// Those that failed.
    pub token_failures: Counter,
}

impl Metrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "producers_replaced",
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
    }
}
