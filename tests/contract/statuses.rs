//! Statuses that the gRPC library makes, and requests that no client library sends: each error has our ErrorInfo.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use changelogd::proto::v1;
use futures_util::FutureExt;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::server::{PATIENCE, TestServer};

const API: &str = "/changelog.v1.ChangelogService";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const REFLECTIONS: [&str; 2] = [REFLECTION, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"];

/// An answer without its messages.
pub struct Answer {
    pub headers: HeaderMap,
    pub status: Status,
}

/// Calls a method with a body of these frames. `address` is that of a port.
pub async fn call(address: &str, path: &str, headers: &[(&str, &[u8])], frames: &[Vec<u8>]) -> Answer {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let frames: Vec<_> =
        frames.iter().map(|frame| Ok::<_, std::io::Error>(Frame::data(Bytes::from(frame.clone())))).collect();
    let mut request = Request::post(format!("http://{address}{path}")).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let request = request.body(BodyExt::boxed_unsync(body)).unwrap();
    let answered = async {
        let response = sender.send_request(request).await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
        let headers = response.headers().clone();
        let trailers = response.into_body().collect().await.unwrap().trailers().cloned();
        // Without messages the status is in the headers.
        let of = trailers.as_ref().unwrap_or(&headers);
        let status = Status::from_header_map(of).unwrap_or_else(|| panic!("{path}: no status in {of:?}"));
        Answer { headers, status }
    };
    let answer = tokio::time::timeout(PATIENCE, answered).await.unwrap_or_else(|_| panic!("{path}: no answer in time"));
    connection.abort();
    answer
}

/// A message as gRPC frames it.
pub fn framed(flag: u8, announced: usize, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &u32::try_from(announced).unwrap().to_be_bytes(), message].concat()
}

/// Asserts the reason. Returns the facts.
pub fn facts(status: &Status, code: Code, reason: &str, of: &str) -> HashMap<String, String> {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("{of}: no ErrorInfo in {status:?}"));
    assert_eq!((status.code(), &*info.reason), (code, reason), "{of}: {status:?}");
    assert_eq!(info.domain, "changelogd", "{of}");
    assert!(!status.message().is_empty() && status.message().len() <= 1_003, "{of}: {status:?}");
    assert!(info.metadata.values().all(|value| value.chars().count() <= 900), "{of}: {info:?}");
    info.metadata.clone()
}

/// A valid request of each kind of method, by path: one message, or a stream of them.
fn valid_requests() -> BTreeMap<String, Vec<u8>> {
    let set = v1::SetRequest {
        changelog_id: "broken/t/i".to_owned(),
        value: Some(v1::set_request::Value::Raw("1".into())),
        ..Default::default()
    };
    let load = v1::LoadWorkspaceRequest { workspace_id: "broken".to_owned(), ..Default::default() };
    let watch = v1::WatchRequest { workspace_id: "broken".to_owned(), ..Default::default() };
    let mutation = v1::Mutation {
        id: 1,
        changelog_id: "broken/t/i".to_owned(),
        change: Some(v1::mutation::Change::Raw("1".into())),
        ..Default::default()
    };
    let write = v1::WriteRequest { mutations: vec![mutation] };
    BTreeMap::from([
        (format!("{API}/Set"), set.encode_to_vec()),
        (format!("{API}/LoadWorkspace"), load.encode_to_vec()),
        (format!("{API}/Watch"), watch.encode_to_vec()),
        (format!("{API}/Write"), write.encode_to_vec()),
        // Its message has no fields that are set.
        (format!("{API}/StreamAll"), vec![]),
    ])
}

/// Covers C76, C56, B10.
pub async fn a_message_over_the_limit_is_refused_with_the_limit_and_its_size(server: TestServer) {
    let limit = server.describe("").await.limits.unwrap().max_request_bytes as usize;
    for path in valid_requests().keys() {
        for got in [limit + 1, 2 * limit, u32::MAX as usize] {
            // The prefix is enough, as for a client that waits for window updates.
            let status = call(&server.api, path, &[], &[framed(0, got, b"abc")]).await.status;
            let facts = facts(&status, Code::OutOfRange, "MESSAGE_TOO_LARGE", path);
            assert_eq!((&*facts["limit"], &*facts["got"]), (&*limit.to_string(), &*got.to_string()), "{path}");
            assert!(status.message().contains("nothing of it was written"), "{status:?}");
        }
    }
    let status = call(&server.api, CHECK, &[], &[framed(0, 1 << 20, b"")]).await.status;
    let facts = facts(&status, Code::OutOfRange, "MESSAGE_TOO_LARGE", CHECK);
    assert_eq!((&*facts["limit"], &*facts["got"]), ("16384", "1048576"));
    assert_eq!(server.load("broken").await.texts(), []);
}

/// Covers C76, C56, B35.
pub async fn a_request_that_is_not_framed_as_grpc_is_refused_and_nothing_is_written(server: TestServer) {
    for (path, valid) in valid_requests() {
        let bytes = valid.len();
        let whole = framed(0, bytes, &valid);
        let gzip = ("grpc-encoding", &b"gzip"[..]);
        let broken: [(&str, Option<_>, Vec<Vec<u8>>); 8] = [
            ("a flag of the future", None, vec![framed(2, bytes, &valid)]),
            ("another flag", Some(gzip), vec![framed(255, bytes, &valid)]),
            ("compressed without an encoding", None, vec![framed(1, bytes, &valid)]),
            ("compressed with identity", Some(("grpc-encoding", b"identity")), vec![framed(1, bytes, &valid)]),
            ("no gzip", Some(gzip), vec![framed(1, 3, b"abc")]),
            ("cut off in a message", None, vec![framed(0, bytes + 1, &valid)]),
            ("cut off in a prefix", None, vec![vec![0, 0, 0]]),
            ("cut off after a prefix", None, vec![framed(0, 9, b"")]),
        ];
        for (what, header, frames) in broken {
            let headers: Vec<_> = header.into_iter().collect();
            let status = call(&server.api, &path, &headers, &frames).await.status;
            facts(&status, Code::Internal, "REQUEST_MALFORMED", &format!("{path}: {what}"));
            assert!(status.message().contains("nothing of the message was done"), "{what}: {status:?}");
            assert_plain(&status);
        }
        if path.ends_with("/Write") {
            continue;
        }
        let twice = [&whole[..], &whole].concat();
        for (what, frames) in [
            ("no message", vec![]),
            ("two messages in one frame", vec![twice]),
            ("two messages", vec![whole.clone(), whole.clone()]),
            ("a message and a byte", vec![whole.clone(), vec![0]]),
            ("a message and a half", vec![whole.clone(), whole[..5].to_vec()]),
        ] {
            let status = call(&server.api, &path, &[], &frames).await.status;
            facts(&status, Code::Internal, "REQUEST_MALFORMED", &format!("{path}: {what}"));
            assert_plain(&status);
        }
        // In any number of frames, and with empty ones, one message is a request.
        let frames: Vec<_> = whole.iter().flat_map(|byte| [vec![*byte], vec![]]).collect();
        // A watch ends at its deadline only, and a write would leave something.
        let (limit, code): (&[(&str, &[u8])], _) = match path.strip_prefix(API).unwrap() {
            "/Set" => continue,
            "/Watch" => (&[("grpc-timeout", b"1S")], Code::DeadlineExceeded),
            _ => (&[], Code::Ok),
        };
        assert_eq!(call(&server.api, &path, limit, &frames).await.status.code(), code, "{path}");
    }
    for path in [CHECK, "/grpc.health.v1.Health/Watch"] {
        let whole = framed(0, 0, b"");
        for frames in [vec![], vec![whole.repeat(2)], vec![whole.clone(), whole.clone()], vec![whole[..4].to_vec()]] {
            let status = call(&server.api, path, &[], &frames).await.status;
            facts(&status, Code::Internal, "REQUEST_MALFORMED", &format!("{path}: {frames:?}"));
        }
    }
    assert_eq!(server.load("broken").await.texts(), []);
    // The message before a broken one is written, and has its verdict.
    let write = format!("{API}/Write");
    let valid = &valid_requests()[&write];
    let frames = [framed(0, valid.len(), valid), framed(7, 1, b"x")];
    let status = call(&server.api, &write, &[], &frames).await.status;
    facts(&status, Code::Internal, "REQUEST_MALFORMED", "after a message");
    assert_eq!(server.load("broken").await.texts(), [("broken/t/i".to_owned(), "1".to_owned())]);
}

/// The cause is ours, and the text of the gRPC library comes behind it.
fn assert_plain(status: &Status) {
    let causes = ["the request is not framed as gRPC says", "it ends within a message", "more than one message came"];
    let (_, cause) = status.message().split_once("nothing of the message was done: ").expect("a cause");
    assert!(causes.iter().any(|ours| cause.starts_with(ours)), "{status:?}");
}

/// Covers C76, B6.
pub async fn a_message_that_cannot_be_decoded_is_refused_with_a_reason(server: TestServer) {
    // A length beyond the end, a wrong wire type, a tag of field 0, text that is not UTF-8.
    for bytes in [&[0x0a, 100, b'x'][..], &[0x0b], &[0x02, 0], &[0x0a, 1, 0xff]] {
        for path in valid_requests().keys().filter(|path| !path.ends_with("/StreamAll")) {
            let status = call(&server.api, path, &[], &[framed(0, bytes.len(), bytes)]).await.status;
            facts(&status, Code::InvalidArgument, "ARGUMENT_INVALID", &format!("{path}: {bytes:?}"));
        }
        let status = call(&server.api, CHECK, &[], &[framed(0, bytes.len(), bytes)]).await.status;
        facts(&status, Code::Internal, "REQUEST_MALFORMED", CHECK);
    }
    assert_eq!(server.load("broken").await.texts(), []);
}

/// Covers C76, C59, B21.
pub async fn an_unknown_method_is_refused_with_its_path(server: TestServer) {
    let long = format!("{API}/{}", "x".repeat(5_000));
    for path in [
        &format!("{API}/Rename"),
        &format!("{API}/set"),
        &format!("{API}/"),
        "/changelog.v2.ChangelogService/Set",
        "/grpc.health.v1.Health/List",
        "/grpc.reflection.v1.ServerReflection/None",
        "/grpc.reflection.v2.ServerReflection/ServerReflectionInfo",
        "/nothing",
        "/caf\u{e9}",
        "/",
        &*long,
    ] {
        for frames in [vec![], vec![framed(0, 0, b"")]] {
            let status = call(&server.api, path, &[], &frames).await.status;
            let facts = facts(&status, Code::Unimplemented, "UNKNOWN_METHOD", path);
            let cut = path.get(..80).map_or(path.to_owned(), |cut| format!("{cut}…"));
            assert_eq!(facts["path"], cut);
        }
    }
}

/// Covers C76, B36.
pub async fn an_encoding_that_the_server_does_not_have_is_refused_with_those_that_it_has(server: TestServer) {
    let (long, valid) = ([b'z'; 3_000], valid_requests());
    for encoding in [&b"br"[..], b"zstd", b"deflate", b"GZIP", b"gzip, br", b"", b"\xff\xfe", &long] {
        let of_api = valid.iter().map(|(path, message)| (&**path, message.clone(), "gzip"));
        let of_probes = [(CHECK, vec![], "identity"), (REFLECTION, vec![], "identity")];
        for (path, message, accepted) in of_api.chain(of_probes) {
            let frames = [framed(1, message.len(), &message)];
            let Answer { headers, status } = call(&server.api, path, &[("grpc-encoding", encoding)], &frames).await;
            let facts = facts(&status, Code::Unimplemented, "ENCODING_UNSUPPORTED", path);
            let accept = headers["grpc-accept-encoding"].to_str().unwrap();
            assert!(accept.split(',').any(|name| name.trim() == accepted), "{path}: {accept}");
            assert_eq!(facts["accepted"], accept);
            assert!(encoding.len() > 80 || facts["encoding"] == String::from_utf8_lossy(encoding), "{facts:?}");
        }
    }
    assert_eq!(server.load("broken").await.texts(), []);
}

/// Covers C76.
pub async fn health_and_reflection_name_what_they_do_not_know(server: TestServer) {
    // Field 1 of a health request, fields 3, 4 and 5 of a reflection request: a name.
    let named = |field: u8, name: &str| [&[field << 3 | 2, name.len() as u8][..], name.as_bytes()].concat();
    let names = [
        ("changelog.v9.Nothing?", "changelog.v9.Nothing?"),
        ("\u{1b}[31mred\u{7}", "\\u{1b}[31mred\\u{7}"),
        ("a\u{202e}b\u{200b}'", "a\\u{202e}b\\u{200b}'"),
        ("' not found", "' not found"),
        ("", ""),
    ];
    for (name, shown) in names {
        let unknown = |status: &Status, of: &str| {
            assert_eq!(facts(status, Code::NotFound, "NAME_UNKNOWN", of)["name"], shown, "{status:?}");
            assert!(status.message().ends_with(&format!("\"{shown}\"")), "{status:?}");
        };
        // The empty name is a service of health.
        if !name.is_empty() {
            let request = named(1, name);
            unknown(&call(&server.api, CHECK, &[], &[framed(0, request.len(), &request)]).await.status, CHECK);
        }
        for path in REFLECTIONS {
            for request in [named(3, name), named(4, name)] {
                unknown(&call(&server.api, path, &[], &[framed(0, request.len(), &request)]).await.status, path);
            }
        }
    }
    for path in REFLECTIONS {
        let extension = [&[5 << 3 | 2, 3][..], &named(1, "x")].concat();
        let status = call(&server.api, path, &[], &[framed(0, extension.len(), &extension)]).await.status;
        facts(&status, Code::Unimplemented, "NOT_IMPLEMENTED", path);
        let status = call(&server.api, path, &[], &[framed(0, 0, b"")]).await.status;
        facts(&status, Code::InvalidArgument, "ARGUMENT_INVALID", path);
        // tonic-reflection ends the stream without a status of its own.
        for frames in [framed(0, 1, &[0xff]), framed(0, 9, b"cut off"), framed(7, 0, b""), framed(0, 1 << 20, b"")] {
            assert_eq!(call(&server.api, path, &[], &[frames]).await.status.code(), Code::Ok, "{path}");
        }
    }
}

/// Node's library does not decode `%3F` and `%23`.
/// Covers C78.
pub async fn a_message_reaches_the_client_as_the_specification_encodes_it(server: TestServer) {
    for (changelog_id, on_the_wire) in [
        ("other/t/?#[a]{b}", "was \"/other/t/?#[a]{b}\" meant?"),
        ("other/t/100%", "was \"/other/t/100%25\" meant?"),
        ("other/t/%3F", "was \"/other/t/%253F\" meant?"),
        ("other/t/caf\u{e9}", "was \"/other/t/caf%C3%A9\" meant?"),
    ] {
        let set = v1::SetRequest {
            workspace_id: "ws".to_owned(),
            changelog_id: changelog_id.to_owned(),
            value: Some(v1::set_request::Value::Raw("1".into())),
            ..Default::default()
        };
        let message = set.encode_to_vec();
        let frames = [framed(0, message.len(), &message)];
        let Answer { headers, .. } = call(&server.api, &format!("{API}/Set"), &[], &frames).await;
        let found = headers["grpc-message"].to_str().unwrap();
        assert!(found.ends_with(on_the_wire), "{found}");
    }
    // In trailers: after 80 characters a text is cut, in bytes that are not ASCII.
    let load = v1::LoadWorkspaceRequest { workspace_id: format!("{}/", "\u{e9}".repeat(100)), ..Default::default() };
    let status = server.try_load(load).await.unwrap_err();
    assert!(status.message().contains(&format!("\"{}…\"", "\u{e9}".repeat(80))), "{status:?}");
}

/// Covers S5, S10.
pub async fn a_health_watch_of_an_unknown_service_is_answered_and_stays_open_until_a_stop(mut server: TestServer) {
    use ServingStatus::{NotServing, ServiceUnknown, Serving};
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", server.api)).unwrap();
    let mut health = HealthClient::new(channel.connect().await.unwrap());
    let mut watches = Vec::new();
    for (service, status) in [("", Serving), ("changelog.v9.Nothing", ServiceUnknown), ("READINESS", ServiceUnknown)] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut watch = health.watch(request).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), status, "{service}");
        watches.push(watch);
    }
    // Calls after it are answered on the same connection, so an end of a stream would have arrived.
    for service in ["", "liveness", "readiness"] {
        health.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap();
    }
    for watch in &mut watches {
        assert!(watch.message().now_or_never().is_none(), "it is open, and its status has not changed");
    }
    server.stop().await;
    assert_eq!(watches[0].message().await.unwrap().unwrap().status(), NotServing);
    for watch in &mut watches {
        let end = tokio::time::timeout(PATIENCE, watch.message()).await.expect("it ends in time");
        assert!(end.expect("without an error").is_none());
    }
}
