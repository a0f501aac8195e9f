//! Large values as `google.protobuf.Value`, which takes many times the bytes of the document.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use changelogd::proto::v1;
use prost::Message;
use prost_types::{ListValue, Struct, Value, value::Kind};
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use v1::changelog_service_client::ChangelogServiceClient;

use crate::contract::server::{Client, PATIENCE, TestServer};

const MAX_VALUE_BYTES: usize = 1_000_000;

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn number(n: f64) -> Value {
    value(Kind::NumberValue(n))
}

fn list(values: Vec<Value>) -> Value {
    value(Kind::ListValue(ListValue { values }))
}

/// As many of these as a document of this size holds, and the document.
fn repeated(element: &Value, json: &str, bytes: usize) -> (Value, String) {
    let count = (bytes - 1) / (json.len() + 1);
    (list(vec![element.clone(); count]), format!("[{}]", vec![json; count].join(",")))
}

/// A client with the default limits of the library.
async fn client(server: &TestServer) -> Client {
    let channel = Endpoint::from_shared(format!("http://{}", server.api)).unwrap().connect().await.unwrap();
    ChangelogServiceClient::new(channel)
}

fn get(key: &str) -> v1::GetRequest {
    let value_format = v1::ValueFormat::Json.into();
    v1::GetRequest { changelog_id: key.to_owned(), value_format, ..Default::default() }
}

fn elements() -> Vec<(Value, &'static str)> {
    let object =
        |key: &str, inner| value(Kind::StructValue(Struct { fields: BTreeMap::from([(key.to_owned(), inner)]) }));
    vec![
        (number(1.0), "1"),
        (object("a", number(0.0)), r#"{"a":0}"#),
        (list(vec![number(1.0)]), "[1]"),
        (object("", value(Kind::NullValue(0))), r#"{"":null}"#),
        (value(Kind::StringValue(String::new())), r#""""#),
        (value(Kind::StructValue(Struct::default())), "{}"),
        (list(Vec::new()), "[]"),
        (value(Kind::BoolValue(true)), "true"),
    ]
}

/// Covers C13, C14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_within_the_limit_can_be_sent_as_json() {
    let server = TestServer::in_process(vec!["--store=memory".to_owned()]).await.ready().await;
    let max_request_bytes = server.describe("").await.limits.unwrap().max_request_bytes as usize;
    assert_eq!(max_request_bytes, 6 * MAX_VALUE_BYTES + 64 * 1024);
    for (element, json) in elements() {
        let (value, document) = repeated(&element, json, MAX_VALUE_BYTES);
        assert!(document.len() <= MAX_VALUE_BYTES && document.len() > MAX_VALUE_BYTES - 20);
        let value = Some(v1::set_request::Value::Json((&value).into()));
        let request = v1::SetRequest { changelog_id: "ws/t/a".to_owned(), value, ..Default::default() };
        let size = request.encoded_len();
        server.client.clone().set(request).await.unwrap_or_else(|e| panic!("{json}: {size} bytes: {e:?}"));
        let stored = server.get("ws/t/a").await.unwrap();
        assert_eq!(crate::contract::server::text(&stored), document, "{json}");
    }
}

/// Covers C15.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_is_too_large_as_json_comes_raw_and_fits_a_client_s_default_limit() {
    let server = TestServer::in_process(vec!["--store=memory".to_owned()]).await.ready().await;
    let mut client = client(&server).await;
    for (element, json) in elements() {
        for bytes in [5_000, 300_000, MAX_VALUE_BYTES] {
            let (value, document) = repeated(&element, json, bytes);
            server.set("ws/t/a", &document).await;
            let load = v1::LoadWorkspaceRequest {
                workspace_id: "ws".to_owned(),
                value_format: v1::ValueFormat::Json.into(),
                ..Default::default()
            };
            let mut stream = client.load_workspace(load).await.unwrap().into_inner();
            let Some(v1::load_workspace_response::Event::Batch(batch)) = stream.message().await.unwrap().unwrap().event
            else {
                panic!("a batch")
            };
            let got = client.get(get("ws/t/a")).await.unwrap_or_else(|e| panic!("{json}, {bytes}: {e:?}"));
            let fits = value.encoded_len() <= 3 * 1024 * 1024 + 512 * 1024;
            let expected = match fits {
                true => v1::entry::Value::Json((&value).into()),
                false => v1::entry::Value::Raw(document.into()),
            };
            assert_eq!(batch.entries[0].value.as_ref(), Some(&expected), "{json}, {bytes}");
            assert_eq!(got.into_inner().entry.unwrap().value, Some(expected), "{json}, {bytes}");
        }
    }
}

/// Covers C15.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversions_of_large_values_do_not_hold_up_other_calls() {
    let server = TestServer::process(vec!["--store=memory".to_owned()]).await.ready().await;
    for (element, json) in [(number(1.0), "1"), (number(0.5), "0.5")] {
        server.set("ws/t/a", &repeated(&element, json, MAX_VALUE_BYTES).1).await;
        let client = client(&server).await;
        let mut gets = tokio::task::JoinSet::new();
        for _ in 0..30 {
            let mut client = client.clone();
            gets.spawn(async move { client.get(get("ws/t/a")).await.map(drop) });
        }
        let channel = Endpoint::from_shared(format!("http://{}", server.api)).unwrap().connect().await.unwrap();
        let mut health = HealthClient::new(channel);
        let (started, mut slowest) = (Instant::now(), Duration::ZERO);
        while !gets.is_empty() {
            let asked = Instant::now();
            health.check(HealthCheckRequest::default()).await.unwrap();
            slowest = slowest.max(asked.elapsed());
            while let Some(got) = gets.try_join_next() {
                got.unwrap().unwrap();
            }
            assert!(started.elapsed() < 2 * PATIENCE, "the values come");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(slowest < Duration::from_secs(1), "{json}: a health check took {slowest:?} of {:?}", started.elapsed());
    }
}
