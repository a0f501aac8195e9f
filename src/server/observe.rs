//! The layer around all calls: whether the API takes calls, metrics, panics, and one log line for each.
//!
//! Promises: every call of a method of the API is counted once, with its status. A call that is dropped before its end
//! counts as CANCELLED. A request that does not arrive completely in time is answered with DEADLINE_EXCEEDED. A call
//! before the store is open is answered with STARTING. While the process drains, a new call is answered with DRAINING,
//! except those that a client needs to find out what became of its writes.
//! Does not: log values or, above debug, keys.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::Either};
use http::{Request, Response};
use http_body::Body;
use tokio::time::Instant;
use tonic::{Code, Status, service::Routes};
use tonic_types::StatusExt;
use tower::Service;

use super::{
    activity::{Activity, MAX_PROBES, Probe},
    call_body::{CallBody, CallEnd, HeldByCall},
    opening::Opening,
    request_head::{Rpc, deadline, not_grpc, rpc_name},
    request_memory::{REQUEST_TIMEOUT, RequestBody, RequestLimits},
    status_headers::{StatusHeaders, encode_message, fault},
};
use crate::{
    memory::Reserved,
    metrics::Metrics,
    proto::code_name,
    service::{
        AnswerMemory, Call, Peer, connection_displaced, draining as draining_status, memory_limit, request_too_slow,
        starting, too_many_probes,
    },
    telemetry::LogLimit,
    traces::{CallResult, Traces},
};

/// Lines a second for failed calls with the same RPC, code and reason.
const MAX_LINES_OF_A_KIND: u64 = 5;

/// How long a refused call may take to send its request. h2 answers what comes after the response with a reset, and
/// closes a connection with many of these. The message of a refused call is most often on its way, and small.
const REFUSED_REQUEST_TIME: Duration = Duration::from_millis(100);
const MAX_REFUSED_REQUEST: usize = 64 * 1024;

/// Codes of faults that are the server's, by the semantic conventions of OpenTelemetry for gRPC.
const SERVER_FAULTS: [Code; 6] =
    [Code::Unknown, Code::DeadlineExceeded, Code::Unimplemented, Code::Internal, Code::Unavailable, Code::DataLoss];

/// What all calls of the API share.
#[derive(Debug)]
pub struct CallState {
    metrics: Arc<Metrics>,
    opening: Arc<Opening>,
    requests: RequestLimits,
    /// Calls of the API, without health and reflection.
    open_calls: Arc<Activity>,
    draining: AtomicBool,
    log_limit: LogLimit<FailedCall>,
    traces: Option<Arc<Traces>>,
}

/// A kind of failed calls, for the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FailedCall {
    pub rpc: &'static str,
    pub code: &'static str,
    pub reason: Option<String>,
}

impl CallState {
    pub fn new(
        metrics: Arc<Metrics>,
        opening: Arc<Opening>,
        requests: RequestLimits,
        traces: Option<Arc<Traces>>,
    ) -> Arc<Self> {
        let (draining, log_limit) = (AtomicBool::new(false), LogLimit::new(MAX_LINES_OF_A_KIND));
        Arc::new(Self { metrics, opening, requests, open_calls: Activity::new(), draining, log_limit, traces })
    }

    /// From now on new calls are refused.
    pub fn refuse_new_calls(&self) {
        self.draining.store(true, SeqCst);
    }

    /// Completes when no call of the API is open.
    pub async fn no_open_calls(&self) {
        self.open_calls.idle().await;
    }

    /// Writes how many failed calls of each kind had no line of their own.
    pub fn log_left_out(&self) {
        for (FailedCall { rpc, code, reason }, calls) in self.log_limit.end_period() {
            tracing::info!(rpc, code, reason, calls, "more calls failed in the same way");
        }
    }
}

/// The layer around the routes.
#[derive(Debug, Clone)]
pub struct CallService {
    /// Health, and on the API port reflection. They are served before the store is open.
    probes: Routes,
    peer: Peer,
    /// Of the connection.
    activity: Arc<Activity>,
    /// `None` on the health port, whose calls are not calls of the API.
    api: Option<Arc<CallState>>,
}

impl CallService {
    pub fn new(probes: Routes, api: Option<Arc<CallState>>) -> Self {
        Self { probes: probes.prepare(), peer: Peer::default(), activity: Activity::new(), api }
    }

    /// Whether it serves health only.
    pub fn is_for_probes(&self) -> bool {
        self.api.is_none()
    }

    /// The same service for the calls of one connection.
    #[must_use]
    pub fn for_connection(&self, peer: Peer, activity: &Arc<Activity>) -> Self {
        Self { peer, activity: activity.clone(), ..self.clone() }
    }

    /// Answers a call that was not begun.
    fn refused(status: &Status, mut guard: Option<CallGuard>) -> CallFuture {
        if let Some(guard) = &mut guard {
            guard.end(status);
        }
        let mut refusal = status.clone().into_http::<tonic::body::Body>();
        encode_message(refusal.headers_mut(), status);
        Box::pin(std::future::ready(Ok(refusal.map(|inner| CallBody::new(inner, guard)))))
    }

    /// As [`Self::refused`], once the request has arrived, or a moment has passed.
    fn refused_after<B>(
        status: &Status,
        guard: Option<CallGuard>,
        mut body: B,
        reserved: Option<Reserved>,
    ) -> CallFuture
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let refusal = Self::refused(status, guard);
        Box::pin(async move {
            let mut left = MAX_REFUSED_REQUEST;
            let arrives = async {
                while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                        Some(less) => left = less,
                        None => return,
                    }
                }
            };
            let _ = tokio::time::timeout(REFUSED_REQUEST_TIME, arrives).await;
            drop(reserved);
            refusal.await
        })
    }
}

type CallFuture = Pin<Box<dyn Future<Output = Result<Response<CallBody<CallGuard>>, Infallible>> + Send>>;

impl<B> Service<Request<B>> for CallService
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<CallBody<CallGuard>>;
    type Error = Infallible;
    type Future = CallFuture;

    /// Routes are always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if let Some(refusal) = not_grpc(&request) {
            return Box::pin(std::future::ready(Ok(refusal.map(|inner| CallBody::new(inner, None)))));
        }
        let rpc = rpc_name(request.uri().path());
        let traces = self.api.as_ref().filter(|_| rpc.ours).and_then(|api| api.traces.as_ref());
        let span = traces.map(|traces| traces.call(rpc.name, request.headers())).unwrap_or_default();
        let call = Call { deadline: deadline(request.headers()), peer: self.peer, span, ..Call::default() };
        let mut guard = self.api.clone().map(|api| CallGuard::begin(rpc, call.clone(), api));
        let mut open_probe = None;
        if self.api.is_some() && !rpc.ours {
            let probe = if rpc.is_check { Probe::Check } else { Probe::Stream };
            let Some(open) = self.activity.begin_probe(probe) else {
                return Self::refused(&too_many_probes(rpc.name, MAX_PROBES), guard);
            };
            open_probe = Some(open);
        }
        let reserved = self.api.as_ref().map(|api| api.requests.open_call(rpc, request.headers())).transpose();
        let reserved = match reserved {
            Ok(reserved) => reserved,
            Err(full) => return Self::refused(&memory_limit(rpc.name, &full), guard),
        };
        let (mut open_calls, mut of_api) = (None, None);
        if let Some(api) = self.api.as_ref().filter(|_| rpc.ours) {
            // Counted before the check, so that a drain waits for a call that it does not refuse.
            let Some(of_connection) = self.activity.begin() else {
                if self.activity.is_closed() {
                    // This says it in the log and the metrics. The client does not get it.
                    return Self::refused(&Status::cancelled("nothing was done: the connection is closed"), guard);
                }
                return Self::refused_after(&connection_displaced(rpc.name), guard, request.into_body(), reserved);
            };
            open_calls = Some((of_connection, api.open_calls.begin()));
            let draining = api.draining.load(SeqCst);
            if draining && matches!(rpc.name, "Flush" | "Describe") {
                // A client that calls these all the time must not hold up the drain.
                open_calls = open_calls.map(|(of_connection, _)| (of_connection, None));
            } else if draining {
                return Self::refused_after(&draining_status(rpc.name), guard, request.into_body(), reserved);
            }
            of_api = match api.opening.get() {
                Ok(open) => Some((open.api.clone(), &api.requests)),
                Err(progress) => {
                    return Self::refused_after(&starting(rpc.name, &progress), guard, request.into_body(), reserved);
                }
            };
        }
        if self.api.is_none() {
            // On the health port these are the only calls.
            self.activity.touch();
        }
        let stats = call.stats.clone();
        let most_bytes = self.api.as_ref().map_or(0, |api| api.requests.max_request_bytes);
        let status = StatusHeaders::new(rpc, &request, most_bytes, &stats);
        let cap = Instant::now() + REQUEST_TIMEOUT;
        let receive_deadline = call.deadline.map_or(cap, |deadline| deadline.min(cap));
        let (api, limits) = of_api.unzip();
        let (head, body) = request.into_parts();
        let (body, memory) = match RequestBody::new(body, rpc.name, limits, &stats) {
            Ok(metered) => metered,
            Err(full) => return Self::refused(&memory_limit(rpc.name, &full), guard),
        };
        let mut request = Request::from_parts(head, body);
        request.extensions_mut().insert(call);
        if let Some(memory) = memory.clone() {
            request.extensions_mut().insert(memory);
        }
        // A panic would end the stream, or the connection, without a status. Its hook has logged it.
        let routed = catch_unwind(AssertUnwindSafe(|| match api {
            Some(mut api) => Either::Left(api.call(request)),
            None => Either::Right(self.probes.call(request)),
        }));
        let Ok(response_future) = routed else {
            return Self::refused(&fault(rpc), guard);
        };
        let response_future = AssertUnwindSafe(response_future).catch_unwind();
        Box::pin(async move {
            let mut response_future = std::pin::pin!(response_future);
            let response = match tokio::time::timeout_at(receive_deadline, &mut response_future).await {
                Ok(response) => response,
                // The RPC has not started: its request has not arrived completely.
                Err(_) if !stats.request_received() => Ok(Ok(request_too_slow().into_http())),
                Err(_) => response_future.await,
            };
            let mut response = match response {
                Ok(response) => response?,
                Err(_) => fault(rpc).into_http(),
            };
            // The RPC has what it needs of the request.
            drop(memory);
            // A response without messages has its status in the headers.
            let ended = status.complete(response.headers_mut());
            if let (Some(guard), Some(status)) = (&mut guard, ended) {
                guard.end(&status);
            }
            let messages = response.extensions().get::<AnswerMemory>().cloned().unwrap_or_default();
            let call = HeldByCall { open_calls, probe: open_probe, memory: reserved };
            Ok(response.map(|inner| CallBody::holding(inner, guard, Some(status), call, messages)))
        })
    }
}

/// Counts a call, and logs it when it ends or is dropped.
#[derive(Debug)]
pub struct CallGuard {
    rpc: Rpc,
    call: Call,
    started: Instant,
    api: Arc<CallState>,
    ended: bool,
}

impl CallGuard {
    fn begin(rpc: Rpc, call: Call, api: Arc<CallState>) -> Self {
        api.metrics.call_started(rpc.method);
        Self { rpc, call, started: Instant::now(), api, ended: false }
    }
}

impl CallEnd for CallGuard {
    fn end(&mut self, status: &Status) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let (code, duration) = (code_name(status.code()), self.started.elapsed());
        self.api.metrics.call_ended(self.rpc.method, status.code(), duration);
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.as_str());
        if let Some(reason) = reason {
            self.api.metrics.refused(reason);
        }
        let stats = &self.call.stats;
        self.call.span.end(CallResult {
            code,
            is_server_fault: SERVER_FAULTS.contains(&status.code()),
            reason,
            partition: stats.partition(),
            records: stats.records(),
            entries: stats.entries(),
        });
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
        // the writes. So are probes, which come every second, and failed calls beyond the first few of a second.
        let kind = || FailedCall { rpc: self.rpc.name, code, reason: reason.map(str::to_owned) };
        if self.rpc.ours && status.code() != Code::Ok && self.api.log_limit.admits(kind()) {
            line!(info);
        } else {
            line!(debug);
        }
        if status.code() != Code::Ok {
            // The cause may name a key.
            tracing::debug!(rpc = self.rpc.name, code, cause = status.message(), "call failed");
        }
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.end(&Status::cancelled("the client went away"));
    }
}
