//! Spans of OpenTelemetry, sent over OTLP (gRPC) if OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
//! is set. Names and attributes follow the semantic conventions for RPC and messaging. The SDK reads the other
//! variables of OpenTelemetry: sampler, resource, queue, headers.
//!
//! Promises: without an endpoint nothing is recorded. A collector that is slow or away holds up no call: spans wait in
//! the SDK's bounded queue, and are dropped if it is full. No span has a key, a value, a header of a record or a cause.

use std::{env, fmt, sync::Arc, time::Duration};

use changelog_core::model::{Header, Headers};
use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::{SpanKind, Status, TraceContextExt, Tracer, TracerProvider},
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracer, SdkTracerProvider},
};

use crate::config::{ServeArgs, StoreChoice, UsageError};

/// How long a stop waits until the collector has the last spans.
const SHUTDOWN_TIME: Duration = Duration::from_secs(1);

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

/// The spans of a process.
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    propagator: TraceContextPropagator,
    /// The topic of Kafka; `None` on another store, which is no messaging system.
    topic: Option<String>,
    in_records: bool,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traces").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// A setting of the exporter. One for traces wins over one for all signals.
fn exporter_variable(name: &str) -> Option<(String, String)> {
    let names = [format!("OTEL_EXPORTER_OTLP_TRACES_{name}"), format!("OTEL_EXPORTER_OTLP_{name}")];
    names.into_iter().find_map(|name| variable(&name).map(|value| (name, value)))
}

/// The SDK ignores what it can't read. Then all spans would be refused later, or wait for another time.
fn check_exporter_variables() -> Result<(), UsageError> {
    let wrong = |name: &str, wanted: &str| Err(UsageError(format!("{name}: must be {wanted}")));
    if let Some((name, value)) = exporter_variable("HEADERS")
        && !value.split(',').all(|pair| pair.split_once('=').is_some_and(|(key, _)| !key.trim().is_empty()))
    {
        return wrong(&name, "key=value pairs, separated by commas");
    }
    let queue = ["MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE", "SCHEDULE_DELAY", "EXPORT_TIMEOUT"];
    let queue = queue.iter().map(|name| format!("OTEL_BSP_{name}"));
    let numbers = queue.filter_map(|name| variable(&name).map(|value| (name, value)));
    for (name, value) in numbers.chain(exporter_variable("TIMEOUT")) {
        if value.parse::<u64>().is_err() {
            return wrong(&name, "a whole number");
        }
    }
    let takes_ratio = variable("OTEL_TRACES_SAMPLER").is_some_and(|sampler| sampler.ends_with("traceidratio"));
    if takes_ratio
        && let Some(value) = variable("OTEL_TRACES_SAMPLER_ARG")
        && !value.parse().is_ok_and(|ratio: f64| (0.0..=1.0).contains(&ratio))
    {
        return wrong("OTEL_TRACES_SAMPLER_ARG", "a number from 0 to 1");
    }
    Ok(())
}

impl Traces {
    /// What the environment asks for; `None` if there are to be no traces. Must be called on a tokio runtime.
    pub fn from_environment(args: &ServeArgs) -> Result<Option<Arc<Self>>, UsageError> {
        let is_off = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let exporter = variable("OTEL_TRACES_EXPORTER");
        if is_off || exporter.as_deref() == Some("none") {
            return Ok(None);
        }
        let Some((name, endpoint)) = exporter_variable("ENDPOINT") else {
            let wrong = "--trace-context-in-records: needs traces: set OTEL_EXPORTER_OTLP_ENDPOINT";
            return if args.trace_context_in_records { Err(UsageError(wrong.to_owned())) } else { Ok(None) };
        };
        if let Some(other) = exporter.filter(|name| name != "otlp") {
            return Err(UsageError(format!("OTEL_TRACES_EXPORTER: {other:?} is not in this build: use otlp or none")));
        }
        if let Some((name, other)) = exporter_variable("PROTOCOL").filter(|(_, protocol)| protocol != "grpc") {
            return Err(UsageError(format!("{name}: {other:?} is not in this build: use grpc")));
        }
        check_exporter_variables()?;
        // The exporter's own error would show the URL, which may have a password.
        if !endpoint.starts_with("http://") {
            let wrong = "must be http://host:port, because TLS to a collector is not in this build";
            return Err(UsageError(format!("{name}: {wrong}")));
        }
        let exporter = SpanExporter::builder().with_tonic().build();
        let wrong = "OTEL_EXPORTER_OTLP_…: one of endpoint, headers, timeout and compression is not valid";
        let exporter = exporter.map_err(|_| UsageError(wrong.to_owned()))?;
        let is_named = variable("OTEL_SERVICE_NAME").is_some()
            || variable("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|list| list.contains("service.name="));
        let resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
        let resource = if is_named { resource } else { resource.with_service_name("changelogd") };
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
        Ok(Some(Arc::new(Self {
            tracer: provider.tracer("changelogd"),
            provider,
            propagator: TraceContextPropagator::new(),
            topic: (args.store() == StoreChoice::Kafka).then(|| args.kafka.topic.clone()),
            in_records: args.trace_context_in_records,
        })))
    }

    /// The span of a call of the API. Its parent is the caller's, by the W3C headers `traceparent` and `tracestate`.
    pub fn call(self: &Arc<Self>, method: &'static str, headers: &HeaderMap) -> CallSpan {
        let parent = self.propagator.extract_with_context(&Context::new(), &HttpHeaders::new(headers));
        let (name, method) = match method {
            "unknown" => ("grpc".to_owned(), "_OTHER".to_owned()),
            method => {
                let full = format!("changelog.v1.ChangelogService/{method}");
                (full.clone(), full)
            }
        };
        let attributes = [KeyValue::new("rpc.system.name", "grpc"), KeyValue::new("rpc.method", method)];
        let builder = self.tracer.span_builder(name).with_kind(SpanKind::Server).with_attributes(attributes);
        let context = parent.with_span(builder.start_with_context(&self.tracer, &parent));
        CallSpan(Some(Arc::new(Recorded { traces: self.clone(), context })))
    }

    /// Sends what is left, for a limited time. Blocks.
    pub fn shutdown(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(SHUTDOWN_TIME) {
            tracing::warn!(%error, "the last spans may not have reached the collector");
        }
    }
}

#[derive(Debug)]
struct Recorded {
    traces: Arc<Traces>,
    context: Context,
}

/// The span of a call. Empty without traces.
#[derive(Debug, Clone, Default)]
pub struct CallSpan(Option<Arc<Recorded>>);

/// What is known of a call at its end.
#[derive(Debug, Clone, Copy)]
pub struct CallResult<'a> {
    pub code: &'static str,
    /// Whether the fault is the server's.
    pub is_server_fault: bool,
    pub reason: Option<&'a str>,
    pub partition: Option<i32>,
    pub records: u64,
    pub entries: u64,
}

impl CallSpan {
    pub fn end(&self, result: CallResult<'_>) {
        let Some(Recorded { context, .. }) = self.0.as_deref() else { return };
        let span = context.span();
        if span.is_recording() {
            span.set_attribute(KeyValue::new("rpc.response.status_code", result.code));
            if result.is_server_fault {
                span.set_attribute(KeyValue::new("error.type", result.code));
                // A description could name a key.
                span.set_status(Status::error(""));
            }
            if let Some(reason) = result.reason {
                span.set_attribute(KeyValue::new("changelogd.reason", reason.to_owned()));
            }
            if let Some(partition) = result.partition {
                span.set_attribute(KeyValue::new("changelogd.partition", i64::from(partition)));
            }
            for (name, count) in [("changelogd.records", result.records), ("changelogd.entries", result.entries)] {
                if count > 0 {
                    span.set_attribute(KeyValue::new(name, i64::try_from(count).unwrap_or(i64::MAX)));
                }
            }
        }
        span.end();
    }

    /// A write, from here to its acknowledgement; a buffered one, until it is accepted.
    pub fn send(&self) -> StoreSpan {
        self.store("send", "append", SpanKind::Producer)
    }

    /// A replay that a load or a get waits for. Others may share it.
    pub fn replay(&self) -> StoreSpan {
        self.store("receive", "replay", SpanKind::Client)
    }

    /// `messaging` is the operation on Kafka, `other` that on another store.
    fn store(&self, messaging: &'static str, other: &'static str, kind: SpanKind) -> StoreSpan {
        let Some(Recorded { traces, context }) = self.0.as_deref() else { return StoreSpan::default() };
        let builder = match &traces.topic {
            Some(topic) => {
                traces.tracer.span_builder(format!("{messaging} {topic}")).with_kind(kind).with_attributes([
                    KeyValue::new("messaging.system", "kafka"),
                    KeyValue::new("messaging.operation.name", messaging),
                    KeyValue::new("messaging.operation.type", messaging),
                    KeyValue::new("messaging.destination.name", topic.clone()),
                ])
            }
            None => traces.tracer.span_builder(other).with_kind(SpanKind::Internal),
        };
        let context = context.with_span(builder.start_with_context(&traces.tracer, context));
        StoreSpan(Some(Recorded { traces: traces.clone(), context }))
    }

    /// The headers of a record, with the context of this call; see [`StoreSpan::in_headers`]. For a `Write` stream,
    /// whose mutations have no spans of their own.
    pub fn in_headers(&self, headers: Headers) -> Headers {
        match self.0.as_deref() {
            Some(recorded) => recorded.in_headers(headers),
            None => headers,
        }
    }
}

/// The span of what a call asks of the store. Ends when it is dropped.
#[derive(Debug, Default)]
pub struct StoreSpan(Option<Recorded>);

impl StoreSpan {
    /// The headers of a record, with this span's context if --trace-context-in-records asks for it. A context that the
    /// caller sent in the headers stays. So do headers that leave no room for one.
    pub fn in_headers(&self, headers: Headers) -> Headers {
        match &self.0 {
            Some(recorded) => recorded.in_headers(headers),
            None => headers,
        }
    }

    /// An acknowledged record.
    pub fn appended(&self, partition: i32, offset: i64) {
        let Some(Recorded { traces, context }) = &self.0 else { return };
        if traces.topic.is_some() {
            context.span().set_attribute(KeyValue::new("messaging.destination.partition.id", partition.to_string()));
            context.span().set_attribute(KeyValue::new("messaging.kafka.offset", offset));
        }
    }

    /// The replay has ended.
    pub fn replayed(&self, partition: i32, records: u64, is_shared: bool) {
        let Some(Recorded { traces, context }) = &self.0 else { return };
        let (span, records) = (context.span(), i64::try_from(records).unwrap_or(i64::MAX));
        if traces.topic.is_some() {
            span.set_attribute(KeyValue::new("messaging.destination.partition.id", partition.to_string()));
            span.set_attribute(KeyValue::new("messaging.batch.message_count", records));
        }
        span.set_attribute(KeyValue::new("changelogd.replay.shared", is_shared));
    }

    /// The type of the error is the reason of its status.
    pub fn failed(&self, reason: impl FnOnce() -> Option<String>) {
        let Some(Recorded { context, .. }) = &self.0 else { return };
        let reason = reason().unwrap_or_else(|| "_OTHER".to_owned());
        context.span().set_attribute(KeyValue::new("error.type", reason));
        context.span().set_status(Status::error(""));
    }
}

impl Drop for StoreSpan {
    fn drop(&mut self) {
        if let Some(Recorded { context, .. }) = &self.0 {
            context.span().end();
        }
    }
}

impl Recorded {
    fn in_headers(&self, headers: Headers) -> Headers {
        let is_there = |header: &Header| header.key.eq_ignore_ascii_case(TRACEPARENT);
        if !self.traces.in_records || headers.as_slice().iter().any(is_there) {
            return headers;
        }
        let mut all = RecordHeaders(headers.as_slice().to_vec());
        self.traces.propagator.inject_context(&self.context, &mut all);
        Headers::new(all.0).unwrap_or(headers)
    }
}

struct HttpHeaders<'a> {
    headers: &'a HeaderMap,
    /// Of all headers of this name, in their order, as W3C Trace Context wants it.
    tracestate: String,
}

impl<'a> HttpHeaders<'a> {
    fn new(headers: &'a HeaderMap) -> Self {
        let parts: Vec<_> = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok()).collect();
        Self { headers, tracestate: parts.join(",") }
    }
}

impl Extractor for HttpHeaders<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        if key.eq_ignore_ascii_case(TRACESTATE) {
            return Some(&*self.tracestate).filter(|state| !state.is_empty());
        }
        self.headers.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.headers.keys().map(http::HeaderName::as_str).collect()
    }
}

struct RecordHeaders(Vec<Header>);

impl Injector for RecordHeaders {
    fn set(&mut self, key: &str, value: String) {
        let is_there = self.0.iter().any(|header| header.key.eq_ignore_ascii_case(key));
        if !value.is_empty() && !is_there {
            self.0.push(Header { key: key.to_owned(), value: Some(value.into()) });
        }
    }
}
