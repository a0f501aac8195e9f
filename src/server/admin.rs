//! The admin port. It speaks HTTP/1.1 and is read-only:
//!
//! | path       | response                                                          |
//! |------------|-------------------------------------------------------------------|
//! | `/metrics` | metrics, in the format that `Accept` prefers                      |
//! | `/livez`   | 200 as long as the process serves                                 |
//! | `/readyz`  | 200 if writes and loads are possible, 503 and the cause otherwise |

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    BoxError, Router,
    body::Body as AxumBody,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE, VARY},
    },
    response::IntoResponse,
    routing::get,
};
use bytes::Bytes;
use changelog_core::log::{TopicProblem, TopicState};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tower::Service;

use super::{
    activity::{Activity, OpenCall},
    health::Health,
    metrics_format::MetricsFormat,
    opening::Opening,
};
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

async fn render(State(admin): State<Admin>, headers: HeaderMap) -> impl IntoResponse {
    let _scrape = admin.metrics.scrape();
    admin.metrics.refresh(admin.opening.get().ok().map(|open| &open.changelog));
    for part in admin.memory.parts() {
        admin.metrics.set_memory(part.name(), part.used());
    }
    let format = MetricsFormat::accepted_by(&headers);
    let text = match format {
        MetricsFormat::Text => admin.metrics.plain_text(),
        MetricsFormat::OpenMetrics => admin.metrics.open_metrics(),
    };
    ([(CONTENT_TYPE, format.content_type()), (VARY, ACCEPT.as_str())], text)
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

/// The paths, for one connection. A request is a call of the connection until its response is sent.
#[derive(Debug, Clone)]
pub struct AdminService {
    router: Router,
    activity: Arc<Activity>,
}

impl AdminService {
    pub fn new(router: Router, activity: &Arc<Activity>) -> Self {
        Self { router, activity: activity.clone() }
    }
}

impl<B> Service<Request<B>> for AdminService
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<CountedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    /// A router is always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let open = self.activity.begin();
        let mut router = self.router.clone();
        Box::pin(async move {
            let response = match &open {
                Some(_) => router.call(request).await?,
                None => {
                    (StatusCode::SERVICE_UNAVAILABLE, "the port has all connections that it may have\n").into_response()
                }
            };
            Ok(response.map(|inner| CountedBody { inner, _open: open }))
        })
    }
}

/// The body of a response, with the call that it belongs to.
#[derive(Debug)]
pub struct CountedBody {
    inner: AxumBody,
    _open: Option<OpenCall>,
}

impl Body for CountedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
