//! The layer around all calls: deadline, metrics, and one log line for each.
//!
//! Promises: every call is counted once, with its status. A call that is dropped before its end counts as CANCELLED. A
//! request that does not arrive completely in time is answered with DEADLINE_EXCEEDED.
//! Does not: log values or, above debug, keys.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::Service;

use crate::{
    metrics::Metrics,
    proto::code_name,
    service::{Call, Peer, request_too_slow},
};

/// The longest time between the start of a request and its last byte.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The layer around the routes.
#[derive(Debug, Clone)]
pub struct CallService<S> {
    inner: S,
    peer: Peer,
    metrics: Arc<Metrics>,
}

impl<S: Clone> CallService<S> {
    /// The same service for the calls of one client.
    pub fn for_peer(&self, peer: Peer) -> Self {
        Self { peer, ..self.clone() }
    }
}

impl<S> CallService<S> {
    pub fn new(inner: S, metrics: Arc<Metrics>) -> Self {
        Self { inner, peer: Peer::default(), metrics }
    }
}

impl<S, B> Service<Request<B>> for CallService<S>
where
    S: Service<Request<B>, Response = Response<tonic::body::Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<CallBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let call = Call { deadline: deadline(request.headers()), peer: self.peer, ..Call::default() };
        let rpc = rpc_name(request.uri().path());
        let mut guard = CallGuard::begin(rpc, call.clone(), self.metrics.clone());
        let stats = call.stats.clone();
        let cap = Instant::now() + REQUEST_TIMEOUT;
        let receive_deadline = call.deadline.map_or(cap, |deadline| deadline.min(cap));
        request.extensions_mut().insert(call);
        let response_future = self.inner.call(request);
        Box::pin(async move {
            let mut response_future = std::pin::pin!(response_future);
            let response = match tokio::time::timeout_at(receive_deadline, &mut response_future).await {
                Ok(response) => response?,
                // The RPC has not started: its request has not arrived completely.
                Err(_) if rpc.ours && !stats.request_received() => request_too_slow().into_http(),
                Err(_) => response_future.await?,
            };
            // A response without messages has its status in the headers.
            if let Some(status) = Status::from_header_map(response.headers()) {
                guard.end(&status);
            }
            Ok(response.map(|inner| CallBody { inner, guard }))
        })
    }
}

/// The messages and trailers of a response, passed through.
#[derive(Debug)]
pub struct CallBody {
    inner: tonic::body::Body,
    guard: CallGuard,
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(status) = frame.trailers_ref().and_then(Status::from_header_map)
        {
            self.guard.end(&status);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Counts a call, and logs it when it ends or is dropped.
#[derive(Debug)]
struct CallGuard {
    rpc: Rpc,
    call: Call,
    started: Instant,
    metrics: Arc<Metrics>,
    ended: bool,
}

impl CallGuard {
    fn begin(rpc: Rpc, call: Call, metrics: Arc<Metrics>) -> Self {
        metrics.call_started(rpc.name);
        Self { rpc, call, started: Instant::now(), metrics, ended: false }
    }

    fn end(&mut self, status: &Status) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let (code, duration) = (code_name(status.code()), self.started.elapsed());
        self.metrics.call_ended(self.rpc.name, code, duration);
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.as_str());
        let stats = &self.call.stats;
        let duration_ms = (duration.as_secs_f64() * 1e6).round() / 1e3;
        let count = |n: u64| (n > 0).then_some(n);
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    rpc = self.rpc.name,
                    code,
                    reason,
                    duration_ms,
                    partition = stats.partition(),
                    records = count(stats.records()),
                    entries = count(stats.entries()),
                    "call"
                )
            };
        }
        // Successful calls are logged at debug: at tens of thousands of writes per second, logging would cost more than
        // the writes. So are probes, which come every second.
        if self.rpc.ours && status.code() != Code::Ok {
            line!(info);
        } else {
            line!(debug);
        }
        if status.code() != Code::Ok {
            // The message may name a key.
            tracing::debug!(rpc = self.rpc.name, code, message = status.message(), "call failed");
        }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.end(&Status::cancelled("the client went away"));
    }
}

/// A name from a fixed list, because it becomes the label of a metric.
#[derive(Debug, Clone, Copy)]
struct Rpc {
    name: &'static str,
    ours: bool,
}

fn rpc_name(path: &str) -> Rpc {
    const OURS: [&str; 9] =
        ["Set", "Delete", "Flush", "LoadWorkspace", "StreamAll", "Describe", "Get", "Write", "Watch"];
    if let Some(method) = path.strip_prefix("/changelog.v1.ChangelogService/") {
        let name = OURS.into_iter().find(|name| *name == method).unwrap_or("unknown");
        return Rpc { name, ours: true };
    }
    let name = match path.split('/').nth(1) {
        Some("grpc.health.v1.Health") => "Health",
        Some("grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection") => "Reflection",
        _ => return Rpc { name: "unknown", ours: true },
    };
    Rpc { name, ours: false }
}

/// The deadline from the client's `grpc-timeout`: at most eight digits and a unit. A malformed one is ignored, as the
/// specification allows. The server's own limits apply then.
fn deadline(headers: &HeaderMap) -> Option<Instant> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    };
    Instant::now().checked_add(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers B16.
    #[test]
    fn malformed_timeouts_are_ignored_and_valid_ones_are_read() {
        let given = |value: &str| {
            let headers =
                HeaderMap::from_iter([(http::header::HeaderName::from_static("grpc-timeout"), value.parse().unwrap())]);
            deadline(&headers).map(|d| d.saturating_duration_since(Instant::now()).as_secs())
        };
        for bad in ["", "S", "1", "-1S", "1.5S", "123456789S", "1x", "S1", "1 S", "é"] {
            assert_eq!(given(bad), None, "{bad}");
        }
        assert!(given("100S").is_some_and(|s| (98..=100).contains(&s)));
        assert!(given("99999999H").is_some());
    }

    #[test]
    fn unknown_paths_share_one_label() {
        assert_eq!(rpc_name("/changelog.v1.ChangelogService/Set").name, "Set");
        assert_eq!(rpc_name("/changelog.v1.ChangelogService/Nope").name, "unknown");
        assert_eq!(rpc_name("/x").name, "unknown");
        assert_eq!(rpc_name("/grpc.health.v1.Health/Check").name, "Health");
    }
}
