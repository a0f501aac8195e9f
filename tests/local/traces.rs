//! Spans, as a collector receives them.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use changelogd::proto::v1;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use parking_lot::Mutex;
use tokio::{net::TcpListener, process::Command};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status};

use crate::{
    contract::server::{PATIENCE, TestServer, binary, raw},
    mock_cluster::MockKafka,
};

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn text(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let shown = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |a: &KeyValue| Some((a.key.clone(), shown(a.value.as_ref()?.value.as_ref()?)));
    attributes.iter().filter_map(pair).collect()
}

impl Collector {
    async fn start() -> (Self, SocketAddr, AbortOnDropHandle<()>) {
        let (collector, listener) = (Self::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (address, service) = (listener.local_addr().unwrap(), TraceServiceServer::new(collector.clone()));
        let serve = async move {
            let connections = TcpListenerStream::new(listener);
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(connections).await.unwrap();
        };
        (collector, address, AbortOnDropHandle::new(tokio::spawn(serve)))
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.0.lock();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    fn resource(&self) -> BTreeMap<String, String> {
        let requests = self.0.lock();
        text(&requests[0].resource_spans[0].resource.as_ref().expect("a resource").attributes)
    }

    /// The first span with this name, once it is there.
    async fn span(&self, name: &str) -> Span {
        let started = Instant::now();
        loop {
            let spans = self.spans();
            if let Some(span) = spans.iter().find(|span| span.name == name) {
                return span.clone();
            }
            let names: Vec<_> = spans.iter().map(|span| &span.name).collect();
            assert!(started.elapsed() < PATIENCE, "{name} in {names:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The binary with variables.
async fn server(variables: &[(&str, &str)], arguments: Vec<String>) -> TestServer {
    let mut command = Command::new("env");
    command.args(variables.iter().map(|(name, value)| format!("{name}={value}"))).arg(binary());
    TestServer::spawn(command, arguments).await.ready().await
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn with_parent<T>(message: T, flags: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{PARENT}-{flags}").parse().unwrap());
    // The state of two vendors may come in two headers.
    for state in ["a=1", "b=2"] {
        request.metadata_mut().append("tracestate", state.parse().unwrap());
    }
    request
}

fn set(id: &str) -> v1::SetRequest {
    v1::SetRequest { changelog_id: id.to_owned(), value: raw("1"), ..Default::default() }
}

fn load(workspace: &str) -> v1::LoadWorkspaceRequest {
    v1::LoadWorkspaceRequest { workspace_id: workspace.to_owned(), ..Default::default() }
}

/// Covers C82.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_writes_and_replays_have_spans_in_the_trace_of_the_caller() {
    let (collector, address, _serving) = Collector::start().await;
    let kafka = MockKafka::start(3);
    let endpoint = format!("http://{address}");
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
    ];
    let arguments: Vec<String> = kafka.arguments(3);
    let topic = arguments.iter().find_map(|a| a.strip_prefix("--topic=")).expect("a topic").to_owned();
    let mut server = server(&variables, arguments).await;
    let started = Instant::now();
    while let Err(status) = server.client.clone().set(with_parent(set("ws/t/secret-key"), "01")).await {
        assert!(started.elapsed() < PATIENCE, "{status:?}");
    }
    let mut messages = server.client.clone().load_workspace(with_parent(load("ws"), "01")).await.unwrap().into_inner();
    while messages.message().await.unwrap().is_some() {}
    server.client.clone().set(with_parent(set("no-key"), "01")).await.unwrap_err();
    // The health checks of a probe have none.
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", server.api)).unwrap().connect().await;
    let health = tonic_health::pb::HealthCheckRequest::default();
    tonic_health::pb::health_client::HealthClient::new(channel.unwrap()).check(health).await.unwrap();

    let method = |name: &str| format!("changelog.v1.ChangelogService/{name}");
    let (call, send) = (collector.span(&method("Set")).await, collector.span(&format!("send {topic}")).await);
    assert_eq!((hex(&call.trace_id), hex(&call.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
    assert_eq!((call.kind(), &*call.trace_state), (SpanKind::Server, "a=1,b=2"));
    let attributes = text(&call.attributes);
    assert_eq!(attributes["rpc.system.name"], "grpc");
    assert_eq!(attributes["rpc.method"], method("Set"));
    assert!(attributes.contains_key("rpc.response.status_code"));
    let loading = collector.span(&method("LoadWorkspace")).await;
    let sent: Vec<_> = collector.spans().into_iter().filter(|span| span.name == send.name).collect();
    let written = sent.iter().map(|span| text(&span.attributes)).find(|a| a.contains_key("messaging.kafka.offset"));
    let written = written.expect("an acknowledged write");
    assert_eq!((&*written["messaging.system"], &*written["messaging.destination.name"]), ("kafka", &*topic));
    assert!(written["messaging.destination.partition.id"].parse::<u32>().is_ok());
    assert_eq!((send.kind(), hex(&send.trace_id)), (SpanKind::Producer, TRACE.to_owned()));
    let replay = collector.span(&format!("receive {topic}")).await;
    assert_eq!((replay.kind(), &replay.parent_span_id), (SpanKind::Client, &loading.span_id));
    assert_eq!(text(&replay.attributes)["changelogd.replay.shared"], "false");
    assert_eq!(text(&loading.attributes)["changelogd.entries"], "1");

    let started = Instant::now();
    let refused = loop {
        let refused = |span: &Span| text(&span.attributes).get("changelogd.reason").is_some_and(|r| r == "KEY_INVALID");
        if let Some(span) = collector.spans().into_iter().find(refused) {
            break span;
        }
        assert!(started.elapsed() < PATIENCE, "the span of the refused call");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(text(&refused.attributes)["rpc.response.status_code"], "INVALID_ARGUMENT");
    assert_eq!(refused.status.as_ref().map_or(StatusCode::Unset, |status| status.code()), StatusCode::Unset);
    assert_eq!(collector.resource()["service.name"], "changelogd");
    assert_eq!(collector.resource()["deployment.environment.name"], "test");

    // A caller that is not sampled has no spans. A stop sends those that are left.
    server.client.clone().set(with_parent(set("ws/t/b"), "00")).await.unwrap();
    let describe = with_parent(v1::DescribeRequest::default(), "01");
    server.client.clone().describe(describe).await.unwrap();
    server.stop().await;
    collector.span(&method("Describe")).await;
    let spans = collector.spans();
    let acknowledged =
        spans.iter().filter(|span| text(&span.attributes).contains_key("messaging.kafka.offset")).count();
    assert_eq!(acknowledged, 1, "the call that is not sampled has none");
    assert!(!format!("{spans:?}").contains("secret-key"), "no span names a key");
    assert!(!spans.iter().any(|span| span.name.contains("ealth")), "probes have no spans");
}

/// Covers C82, C16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_context_is_in_records_on_demand_and_never_replaces_that_of_the_caller() {
    let (collector, address, _serving) = Collector::start().await;
    let endpoint = format!("http://{address}");
    let variables = [("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "50")];
    let header = |key: &str, value: &str| v1::Header { key: key.to_owned(), value: Some(value.to_owned().into()) };
    for in_records in [true, false] {
        let flag = in_records.then(|| "--trace-context-in-records".to_owned());
        let arguments = ["--store=memory".to_owned()].into_iter().chain(flag).collect();
        let server = server(&variables, arguments).await;
        let mut own = set("ws/t/own");
        own.headers = vec![header("traceparent", "mine"), header("a", "b")];
        let full: Vec<_> = (0..64).map(|n| header(&n.to_string(), "x")).collect();
        let full = v1::SetRequest { headers: full, ..set("ws/t/full") };
        for request in [set("ws/t/added"), own, full] {
            server.client.clone().set(with_parent(request, "01")).await.unwrap();
        }
        let entries = server.load("ws").await.entries;
        let headers = |id: &str| -> Vec<(String, String)> {
            let entry = entries.iter().find(|entry| entry.key.ends_with(id)).expect("it is there");
            let value = |h: &v1::Header| String::from_utf8(h.value.clone().unwrap_or_default().to_vec()).unwrap();
            entry.headers.iter().map(|h| (h.key.clone(), value(h))).collect()
        };
        assert_eq!(headers("full").len(), 64, "there is no room for one more");
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(headers("own"), [pair("traceparent", "mine"), pair("a", "b")]);
        if !in_records {
            assert_eq!(headers("added"), []);
            continue;
        }
        let added = headers("added");
        let [(name, value), state] = &added[..] else { panic!("two headers: {added:?}") };
        assert_eq!(*state, pair("tracestate", "a=1,b=2"));
        let parts: Vec<_> = value.split('-').collect();
        assert_eq!((&**name, parts[1]), ("traceparent", TRACE));
        let started = Instant::now();
        while !collector.spans().iter().any(|span| span.name == "append" && hex(&span.span_id) == parts[2]) {
            assert!(started.elapsed() < PATIENCE, "the span of the write");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Covers C82.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_holds_up_neither_calls_nor_a_stop() {
    // It accepts connections and answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), closed] {
        let endpoint = format!("http://{address}");
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
            // Longer than this test waits for the end.
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"),
        ];
        let mut server = server(&variables, vec!["--store=memory".to_owned()]).await;
        for n in 0..100 {
            server.set(&format!("ws/t/{n}"), "1").await;
        }
        server.signal("TERM");
        assert_eq!(server.ended().await, Some(0), "{address}");
    }
}

/// Covers C82.
#[test]
fn settings_of_traces_that_this_build_lacks_are_exit_64() {
    for (variables, arguments, words) in [
        (&[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")][..], &[][..], "OTEL_EXPORTER_OTLP_PROTOCOL"),
        (&[("OTEL_TRACES_EXPORTER", "zipkin")], &[], "OTEL_TRACES_EXPORTER"),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "not a URL")], &[], "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:s3cret@127.0.0.1:1")], &[], "OTEL_EXPORTER_OTLP_ENDPOINT"),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:s3cret@ho st:1")], &[], "OTEL_EXPORTER_OTLP_"),
        // The variable that was read is named.
        (&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://s3cret")], &[], "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        (&[("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json")], &[], "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"),
        // What the SDK would ignore.
        (&[("OTEL_EXPORTER_OTLP_HEADERS", "s3cret")], &[], "OTEL_EXPORTER_OTLP_HEADERS"),
        (&[("OTEL_EXPORTER_OTLP_TIMEOUT", "abc")], &[], "OTEL_EXPORTER_OTLP_TIMEOUT"),
        (&[("OTEL_BSP_MAX_QUEUE_SIZE", "many")], &[], "OTEL_BSP_MAX_QUEUE_SIZE"),
        (&[("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "7")], &[], "OTEL_TRACES_SAMPLER_ARG"),
        (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], &["--trace-context-in-records"], "--trace-context-in-records"),
    ] {
        // It ends a server that should not have started.
        let mut command = std::process::Command::new("timeout");
        command
            .arg("60")
            .arg(binary())
            .env_clear()
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
            .envs(variables.iter().copied());
        let output =
            command.args(["serve", "--store=memory", "--listen=127.0.0.1:0"]).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{words}: {text}");
        assert!(text.contains(words) && text.lines().count() == 1, "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}
