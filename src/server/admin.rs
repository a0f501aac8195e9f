//! The admin port. It speaks HTTP/1.1 and is read-only:
//!
//! | path       | response                                                          |
//! |------------|-------------------------------------------------------------------|
//! | `/metrics` | Prometheus metrics (OpenMetrics text)                             |
//! | `/livez`   | 200 as long as the process serves                                 |
//! | `/readyz`  | 200 if writes and loads are possible, 503 and the cause otherwise |

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use changelog_core::log::{TopicProblem, TopicState};

use super::{health::Health, opening::Opening};
use crate::{memory::CallMemory, metrics::Metrics};

#[derive(Debug, Clone)]
struct Admin {
    metrics: Arc<Metrics>,
    health: Health,
    opening: Arc<Opening>,
    memory: CallMemory,
}

pub fn admin_router(metrics: Arc<Metrics>, health: Health, opening: Arc<Opening>, memory: CallMemory) -> Router {
    Router::new()
        .route("/metrics", get(render))
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Admin { metrics, health, opening, memory })
}

async fn render(State(admin): State<Admin>) -> impl IntoResponse {
    if let Ok(open) = admin.opening.get() {
        admin.metrics.set_memory("queues", open.changelog.queued_bytes() as u64);
    }
    for part in admin.memory.parts() {
        admin.metrics.set_memory(part.name(), part.used());
    }
    ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], admin.metrics.render())
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    if admin.health.is_ready() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let cause = match admin.opening.get() {
        Err(progress) => progress,
        Ok(open) => match &*open.changelog.topic_state().borrow() {
            TopicState::Ready(_) => "draining".to_owned(),
            TopicState::Unreachable { cause, .. } => cause.clone(),
            TopicState::Invalid(problem) => TopicProblem::to_string(problem),
            TopicState::Failed(failure) => failure.to_string(),
        },
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {cause}\n"))
}
