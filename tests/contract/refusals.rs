//! Bad requests: each is refused with its code, reason and field, and loses nothing.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use changelogd::proto::v1;
use prost::Message;
use tonic::{
    Code, Request, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};
use tonic_types::StatusExt;

use super::server::{TestServer, field, raw, reason};

fn set(workspace: &str, changelog: &str, value: Option<v1::set_request::Value>) -> v1::SetRequest {
    v1::SetRequest {
        workspace_id: workspace.to_owned(),
        changelog_id: changelog.to_owned(),
        value,
        ..Default::default()
    }
}

/// Covers C1, C3, C4, C5, C6, C12, C13, C14, C16, C53, C58, B1, B2, B3, B4, B5, B9, B11, B14.
pub async fn every_bad_request_is_refused_with_code_reason_and_field(server: TestServer) {
    server.set("ws/t/before", "1").await;
    let long_workspace = "w".repeat(256);
    let long_id = format!("/t/{}", "x".repeat(1020));
    let bad_keys = [
        ("", "/t/i", "workspace_id"),
        ("   ", "/t/i", "workspace_id"),
        ("\u{200b}", "/t/i", "workspace_id"),
        ("\u{3164} \u{ad}", "/t/i", "workspace_id"),
        ("", "\u{feff}/t/i", "changelog_id"),
        ("\u{2800}", "\u{2800}/t/i", "workspace_id"),
        ("a/b", "/t/i", "workspace_id"),
        (&long_workspace, "/t/i", "workspace_id"),
        ("w\n", "/t/i", "workspace_id"),
        ("ws", "", "changelog_id"),
        ("ws", "/", "changelog_id"),
        ("ws", "/t", "changelog_id"),
        ("ws", "//i", "changelog_id"),
        ("ws", "/t/", "changelog_id"),
        ("ws", "/t//i", "changelog_id"),
        ("ws", "/t/i/", "changelog_id"),
        ("ws", "/t/i//j", "changelog_id"),
        ("ws", "/t/\0", "changelog_id"),
        ("ws", "/t\u{85}/i", "changelog_id"),
        ("ws", &long_id, "changelog_id"),
        ("ws", "t/i", "changelog_id"),
        ("ws", "other/t/i", "changelog_id"),
        ("", "", "changelog_id"),
        ("", "no-slash", "changelog_id"),
        ("", "//t/i", "workspace_id"),
    ];
    for (workspace, changelog, at) in bad_keys {
        let mut client = server.client.clone();
        let by_set = client.set(set(workspace, changelog, raw("1"))).await.unwrap_err();
        let delete = v1::DeleteRequest {
            workspace_id: workspace.to_owned(),
            changelog_id: changelog.to_owned(),
            ..Default::default()
        };
        let by_delete = client.delete(delete).await.unwrap_err();
        let get = v1::GetRequest {
            workspace_id: workspace.to_owned(),
            changelog_id: changelog.to_owned(),
            ..Default::default()
        };
        let by_get = client.get(get).await.unwrap_err();
        for status in [by_set, by_delete, by_get] {
            expect(&status, "KEY_INVALID", at, &format!("{workspace:?} {changelog:?}"));
            let is_hidden = |c: char| c.is_control() || "\u{200b}\u{ad}\u{feff}\u{2800}\u{3164}".contains(c);
            assert!(!status.message().chars().any(is_hidden), "{status:?}");
        }
    }

    let headers = |n: usize, bytes: usize| {
        let header = v1::Header { key: "k".to_owned(), value: Some(vec![b'x'; bytes].into()) };
        v1::SetRequest { headers: vec![header; n], ..set("ws", "/t/i", raw("1")) }
    };
    let json = |value: &prost_types::Value| v1::set_request::Value::Json(value.into());
    let number = |n| json(&prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(n)) });
    let no_kind = json(&prost_types::Value { kind: None });
    let too_large = format!("\"{}\"", "x".repeat(1_000_000));
    let bad_sets = [
        (set("ws", "/t/i", None), "ARGUMENT_INVALID", "value"),
        (set("ws", "/t/i", raw("{\"a\":")), "VALUE_NOT_JSON", "raw"),
        (set("ws", "/t/i", raw("")), "VALUE_NOT_JSON", "raw"),
        (set("ws", "/t/i", Some(number(f64::NAN))), "VALUE_NOT_JSON", "json"),
        (set("ws", "/t/i", Some(number(f64::NEG_INFINITY))), "VALUE_NOT_JSON", "json"),
        (set("ws", "/t/i", Some(no_kind)), "VALUE_NOT_JSON", "json"),
        (set("ws", "/t/i", raw(&too_large)), "VALUE_TOO_LARGE", "raw"),
        (headers(65, 1), "ARGUMENT_INVALID", "headers"),
        (headers(1, 16_384), "ARGUMENT_INVALID", "headers"),
    ];
    for (request, why, at) in bad_sets {
        let status = server.client.clone().set(request).await.unwrap_err();
        expect(&status, why, at, at);
    }
    let status = server.client.clone().set(set("ws", "/t/i", raw(&too_large))).await.unwrap_err();
    assert!(status.message().contains("1000002") && status.message().contains("at most"), "{status:?}");

    for bad in ["", " ", "\u{feff}", "\u{2800}\u{200d}", "a/b", "w\u{7}"] {
        let load = v1::LoadWorkspaceRequest { workspace_id: bad.to_owned(), ..Default::default() };
        expect(&server.try_load(load).await.unwrap_err(), "KEY_INVALID", "workspace_id", bad);
        let stream =
            v1::StreamAllRequest { workspace_ids: vec!["ws".to_owned(), bad.to_owned()], ..Default::default() };
        expect(&server.stream(stream).await.unwrap_err(), "KEY_INVALID", "workspace_ids[1]", bad);
        let watch = v1::WatchRequest { workspace_id: bad.to_owned(), ..Default::default() };
        expect(&server.client.clone().watch(watch).await.unwrap_err(), "KEY_INVALID", "workspace_id", bad);
    }
    for bad in ["", "a/b", "\n"] {
        let watch = v1::WatchRequest {
            workspace_id: "ws".to_owned(),
            entity_types: vec![bad.to_owned()],
            ..Default::default()
        };
        let status = server.client.clone().watch(watch).await.unwrap_err();
        expect(&status, "ARGUMENT_INVALID", "entity_types[0]", bad);
        let load = v1::LoadWorkspaceRequest {
            workspace_id: "ws".to_owned(),
            entity_types: vec![bad.to_owned()],
            ..Default::default()
        };
        expect(&server.try_load(load).await.unwrap_err(), "ARGUMENT_INVALID", "entity_types[0]", bad);
    }
    // Nothing was lost, and nothing was written.
    assert_eq!(server.load("ws").await.texts(), [("ws/t/before".to_owned(), "1".to_owned())]);
}

fn expect(status: &Status, why: &str, at: &str, of: &str) {
    let found = (status.code(), reason(status), field(status));
    assert_eq!(found, (Code::InvalidArgument, why.to_owned(), at.to_owned()), "{of}: {status:?}");
    assert!(!status.message().is_empty());
}

/// Covers C1, C13, C16, B4, B9.
pub async fn keys_and_values_at_their_limits_are_accepted(server: TestServer) {
    let limit = server.describe("").await.limits.unwrap().max_value_bytes as usize;
    let id = "x".repeat(1024 - "ws/t/".len());
    let value = format!("\"{}\"", "v".repeat(limit - 2));
    let header = v1::Header { key: "k".to_owned(), value: Some(vec![b'h'; 255].into()) };
    let request = v1::SetRequest { headers: vec![header; 64], ..set("ws", &format!("/t/{id}"), raw(&value)) };
    server.client.clone().set(request).await.unwrap();
    server.set(&format!("{}/t/i", "w".repeat(255)), "1").await;
    let entry = server.get(&format!("ws/t/{id}")).await.unwrap();
    assert_eq!(entry.value, Some(v1::entry::Value::Raw(value.into())));
    assert_eq!(entry.headers.len(), 64);
}

/// Covers C2, C3, B5, B7.
pub async fn distinct_bytes_are_distinct_workspaces(server: TestServer) {
    let workspaces = ["caf\u{e9}", "cafe\u{301}", "🦀", "👨‍👩‍👧", "a\u{202e}b", "ab", " ws", "ws "];
    for workspace in workspaces {
        server.client.clone().set(set(workspace, "/t/i", raw("1"))).await.unwrap();
    }
    for workspace in workspaces {
        let loaded = server.load(workspace).await;
        assert_eq!(loaded.entries.iter().map(|e| e.key.clone()).collect::<Vec<_>>(), [format!("{workspace}/t/i")]);
    }
}

/// Covers B14.
pub async fn unknown_enum_values_are_refused_and_unknown_fields_ignored(server: TestServer) {
    let status =
        server.client.clone().set(v1::SetRequest { ack: 99, ..set("ws", "/t/i", raw("1")) }).await.unwrap_err();
    expect(&status, "ARGUMENT_INVALID", "ack", "ack");
    let load = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), value_format: 7, ..Default::default() };
    expect(&server.try_load(load).await.unwrap_err(), "ARGUMENT_INVALID", "value_format", "value_format");
    let watch = v1::WatchRequest { workspace_id: "ws".to_owned(), value_format: 7, ..Default::default() };
    let status = server.client.clone().watch(watch).await.unwrap_err();
    expect(&status, "ARGUMENT_INVALID", "value_format", "value_format");
    let stream = v1::StreamAllRequest { content: -1, ..Default::default() };
    expect(&server.stream(stream).await.unwrap_err(), "ARGUMENT_INVALID", "content", "content");

    let mut bytes = BytesMut::from(&*set("ws", "/t/i", raw("1")).encode_to_vec());
    // Field 1000, a varint.
    bytes.put(&[0xc0, 0x3e, 0x01][..]);
    send(&server, SET, bytes.freeze()).await.unwrap();
    assert_eq!(server.load("ws").await.entries.len(), 1);
}

/// Covers B6.
pub async fn a_string_that_is_not_utf8_is_refused_as_the_caller_s_error(server: TestServer) {
    // Field 1, two bytes.
    let status = send(&server, SET, Bytes::from_static(&[0x0a, 2, 0xff, 0xfe])).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::InvalidArgument, "ARGUMENT_INVALID"), "{status:?}");
    server.set("ws/t/i", "1").await;
}

/// Covers B10.
pub async fn messages_over_the_limit_and_compressed_bombs_are_refused(server: TestServer) {
    let limit = server.describe("").await.limits.unwrap().max_request_bytes as usize;
    let status = server.client.clone().set(set("ws", "/t/i", raw(&"x".repeat(limit + 1)))).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::OutOfRange, "MESSAGE_TOO_LARGE"), "{status:?}");

    let mut compressed = server.client.clone().send_compressed(tonic::codec::CompressionEncoding::Gzip);
    let status = compressed.set(set("ws", "/t/i", raw(&"0".repeat(20 * limit)))).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::OutOfRange, "MESSAGE_TOO_LARGE"), "{status:?}");
    assert_eq!(status.get_error_details().error_info().unwrap().metadata["limit"], limit.to_string());
    compressed.set(set("ws", "/t/i", raw("1"))).await.unwrap();
    assert_eq!(server.load("ws").await.entries.len(), 1);
}

/// Covers S3, B16.
pub async fn a_malformed_timeout_is_ignored_and_a_short_one_is_kept(server: TestServer) {
    for malformed in ["x", "-1S", "1", "99999999999S"] {
        let mut request = Request::new(v1::DescribeRequest::default());
        request.metadata_mut().insert("grpc-timeout", malformed.parse().unwrap());
        server.client.clone().describe(request).await.unwrap_or_else(|e| panic!("{malformed}: {e:?}"));
    }
    // The client's deadline is the only limit of a following stream, so the server must enforce it.
    let mut request = Request::new(v1::StreamAllRequest { follow: true, ..Default::default() });
    request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let started = Instant::now();
    let status = match server.client.clone().stream_all(request).await {
        Err(status) => status,
        Ok(stream) => {
            let mut stream = stream.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("a deadline is not an end"),
                    Err(status) => break status,
                }
            }
        }
    };
    assert_eq!((status.code(), &*reason(&status)), (Code::DeadlineExceeded, "DEADLINE"), "{status:?}");
    assert!(started.elapsed() >= Duration::from_millis(300));
}

const SET: &str = "/changelog.v1.ChangelogService/Set";

/// Sends bytes that no generated client would send.
async fn send(server: &TestServer, path: &'static str, message: Bytes) -> Result<Bytes, Status> {
    let channel = Channel::from_shared(format!("http://{}", server.api)).unwrap().connect().await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(path);
    Ok(grpc.unary(Request::new(message), path, Plain).await?.into_inner())
}

#[derive(Clone, Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, target: &mut EncodeBuf<'_>) -> Result<(), Status> {
        target.put(item);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, source: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        use bytes::Buf;
        let remaining = source.remaining();
        Ok(Some(source.copy_to_bytes(remaining)))
    }
}
