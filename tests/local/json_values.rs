//! Large values as `google.protobuf.Value`, which takes many times the bytes of the document.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use changelogd::proto::{EncodedValue, v1};
use prost::Message;
use prost_types::{ListValue, Struct, Value, value::Kind};
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use v1::changelog_service_client::ChangelogServiceClient;

use crate::{
    container::in_container,
    contract::server::{Client, PATIENCE, TestServer},
    memory_limit::{MIB, grown_memory, peak_memory, used},
};

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

/// A field with a message or text.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field
}

/// Requests of the largest size, whose values are many small parts.
/// Covers C13, S19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_in_many_small_parts_takes_no_more_memory_than_a_conversion_has() {
    const CONTAINER: i64 = 256 * MIB;
    const MAX_VALUE_BYTES: usize = 8_000_000;
    let arguments = vec!["--store=memory".to_owned(), format!("--max-value-bytes={MAX_VALUE_BYTES}")];
    let (server, _group) = in_container(CONTAINER, arguments).await;
    let set = async |bytes: Vec<u8>| {
        let value = Some(v1::set_request::Value::Json(EncodedValue::from_bytes(bytes)));
        let request = v1::SetRequest { changelog_id: "ws/t/a".to_owned(), value, ..Default::default() };
        server.client.clone().set(request).await.map(drop)
    };
    let size = 6 * MAX_VALUE_BYTES;
    let of = |part: &[u8], bytes: usize| part.repeat(bytes / part.len());
    // These are read, in one part and in many, and refused before anything is written: the last part is not UTF-8.
    for parts in [Vec::new(), of(&[0x32, 0], size)] {
        let rest = size - parts.len();
        let refused = set([parts, field(3, &vec![0xff; rest.max(1)])].concat()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    let before = peak_memory(server.pid());
    let entry = |key: &str| field(1, &[field(1, key.as_bytes()), field(2, &[8, 0])].concat());
    let keys: Vec<u8> = (0..MAX_VALUE_BYTES / 16).flat_map(|n| entry(&format!("{n:07}"))).collect();
    let largest = MAX_VALUE_BYTES / 4;
    let nested = [field(1, b"a"), field(2, &field(5, &entry("").repeat(largest / 2)))].concat();
    for (kind, bytes, accepted) in [
        ("empty entries", field(5, &of(&[10, 0], size)), false),
        ("entries with one key", field(5, &of(&entry(""), size)), false),
        ("as many as may be", field(5, &entry("").repeat(largest)), true),
        ("two levels", field(5, &[entry("b").repeat(largest / 2 - 1), field(1, &nested)].concat()), true),
        ("parts of a list", of(&[0x32, 0], size), true),
        ("parts of an object", of(&[0x2a, 0], size), true),
        (
            "parts of a member",
            field(5, &field(1, &[field(1, b"a"), of(&[0x12, 0], size - 100), vec![18, 2, 8, 0]].concat())),
            true,
        ),
        ("empty elements", field(6, &of(&[10, 0], size)), false),
        ("unknown fields", [of(&[0x3a, 0], size), vec![8, 0]].concat(), true),
        ("members", field(5, &keys), true),
    ] {
        let (started, outcome) = (Instant::now(), set(bytes).await);
        println!("{kind}: {:?}, peak {} MiB", started.elapsed(), peak_memory(server.pid()) as i64 / MIB);
        assert_eq!(
            outcome.as_ref().err().map_or(Code::Ok, |status| status.code()),
            match accepted {
                true => Code::Ok,
                false => Code::InvalidArgument,
            },
            "{kind}: {outcome:?}"
        );
    }
    let more = grown_memory(server.pid(), before) as usize;
    // What was stored is a document, too.
    assert!(more < MAX_VALUE_BYTES / 2 * 7 + MAX_VALUE_BYTES + 8 * MIB as usize, "{more}");
    assert_eq!(used(&server, "conversions").await, 0);
}

/// Values that are converted, checked on another thread, or checked at once.
/// Covers C38.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_stream_keeps_the_order_of_small_and_large_values() {
    let server = TestServer::in_process(vec!["--store=memory".to_owned()]).await.ready().await;
    let mutation = |n: usize| {
        let change = match n % 3 {
            0 => v1::mutation::Change::Raw(format!("[{n}{}]", ",1".repeat(100_000)).into()),
            1 => v1::mutation::Change::Json((&list(vec![number(n as f64); 2_000])).into()),
            _ => v1::mutation::Change::Raw(n.to_string().into()),
        };
        v1::Mutation { id: n as u64, changelog_id: "ws/t/a".to_owned(), change: Some(change), ..Default::default() }
    };
    for last in 10..13 {
        let messages = (0..=last).collect::<Vec<_>>();
        let messages =
            messages.chunks(4).map(|some| v1::WriteRequest { mutations: some.iter().copied().map(mutation).collect() });
        let messages = tokio_stream::iter(messages.collect::<Vec<_>>());
        let mut verdicts = server.client.clone().write(messages).await.unwrap().into_inner();
        let mut offsets = Vec::new();
        while let Some(message) = verdicts.message().await.unwrap() {
            offsets.extend(message.verdicts.into_iter().map(|verdict| match verdict.outcome {
                Some(v1::verdict::Outcome::Written(written)) => (verdict.id, written.position.unwrap().offset),
                other => panic!("{other:?}"),
            }));
        }
        let ids: Vec<_> = offsets.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids, (0..=last as u64).collect::<Vec<_>>());
        assert!(offsets.is_sorted_by(|(_, a), (_, b)| a < b), "{offsets:?}");
    }
}
