//! grpc.health.v1. The service name `liveness` serves as long as the process does. The empty name, `readiness` and
//! `changelog.v1.ChangelogService` serve while writes and loads are possible.
//!
//! A missing topic turns readiness off. It must not turn liveness off, because a restart would fix nothing.

use std::sync::Arc;

use changelog_core::log::TopicState;
use tokio::sync::watch;
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use crate::metrics::Metrics;

const READINESS: [&str; 3] = ["", "readiness", "changelog.v1.ChangelogService"];

/// The health that probes see.
#[derive(Debug, Clone)]
pub struct Health {
    reporter: HealthReporter,
    ready: watch::Sender<bool>,
}

impl Health {
    /// Starts as live and not ready. Create it before anything listens, because a new reporter says that all services
    /// serve.
    pub async fn new() -> Self {
        let health = Self { reporter: HealthReporter::new(), ready: watch::Sender::new(false) };
        health.reporter.set_service_status("liveness", ServingStatus::Serving).await;
        health.set_ready(false).await;
        health
    }

    pub fn server(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.reporter.clone()))
    }

    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    pub async fn set_ready(&self, ready: bool) {
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in READINESS {
            self.reporter.set_service_status(name, status).await;
        }
        self.ready.send_replace(ready);
    }

    /// Sets readiness from the state of the topic, until the log is gone.
    pub async fn follow(self, mut state: watch::Receiver<TopicState>, metrics: Arc<Metrics>) {
        loop {
            let ready = matches!(*state.borrow_and_update(), TopicState::Ready(_));
            self.set_ready(ready).await;
            metrics.set_ready(ready);
            if state.changed().await.is_err() {
                return;
            }
        }
    }
}
