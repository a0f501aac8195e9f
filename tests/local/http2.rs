//! Connections that no client library makes: the announced limits of HTTP/2, floods, and other protocols.

use std::time::{Duration, Instant};

use changelogd::proto::v1;
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Request;

use crate::{
    bounds::{grown_kib, peak_kib},
    contract::server::{PATIENCE, TestServer, connect, handled, raw, reason},
};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const END_STREAM: u8 = 1;
pub const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A message as gRPC frames it.
pub fn framed(message: &impl Message) -> Vec<u8> {
    framed_bytes(&message.encode_to_vec())
}

/// The bytes of a message as gRPC frames them.
pub fn framed_bytes(encoded: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(encoded.len()).unwrap().to_be_bytes(), encoded].concat()
}

/// The header block of a `Set`, as HPACK without tables encodes it.
pub fn head() -> Vec<u8> {
    head_of("Set")
}

/// The header block of a call.
pub fn head_of(rpc: &str) -> Vec<u8> {
    head_of_path(format!("/changelog.v1.ChangelogService/{rpc}").as_bytes())
}

fn head_of_path(path: &[u8]) -> Vec<u8> {
    let content_type = b"application/grpc";
    // POST, http. Path and authority are given by the index of their names. The index of content-type is 31.
    let mut head = vec![0x83, 0x86, 0x04, path.len() as u8];
    head.extend(path);
    head.extend([0x01, 1, b'x', 0x0f, 31 - 15, content_type.len() as u8]);
    head.extend(content_type);
    head
}

/// A connection that has sent its preface and settings.
pub async fn opened(server: &TestServer) -> TcpStream {
    let mut stream = TcpStream::connect(&server.api).await.unwrap();
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    stream
}

/// The next frame: its kind, flags, stream and payload. None at the end of the connection.
pub async fn next_frame(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut header = [0; 9];
    stream.read_exact(&mut header).await.ok()?;
    let mut payload = vec![0; u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((header[3], header[4], u32::from_be_bytes(header[5..].try_into().unwrap()), payload))
}

/// Waits until the server has read everything that was sent before: it answers a PING after that.
pub async fn wait_until_read(stream: &mut TcpStream) {
    stream.write_all(&frame(PING, 0, 0, &[7; 8])).await.unwrap();
    let answered = async {
        loop {
            let (kind, flags, ..) = next_frame(stream).await.expect("the connection stays");
            if (kind, flags) == (PING, ACK) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("the PING is answered in time");
}

/// Reads until the server ends the connection. Returns whether the server sent GOAWAY.
pub async fn closed(stream: &mut (impl AsyncReadExt + Unpin)) -> bool {
    let read = async {
        let mut goaway = false;
        while let Some((kind, ..)) = next_frame(stream).await {
            goaway |= kind == GOAWAY;
        }
        goaway
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the connection is closed")
}

/// Covers S1.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limits_of_http2_are_announced() {
    let server = TestServer::in_process(vec!["--store=memory".to_owned()]).await;
    let mut stream = opened(&server).await;
    let (mut settings, mut window) = (None, None);
    while settings.is_none() || window.is_none() {
        let frame = tokio::time::timeout(PATIENCE, next_frame(&mut stream)).await.expect("a frame in time");
        match frame.expect("the connection stays") {
            (SETTINGS, 0, 0, payload) => settings = Some(payload),
            (WINDOW_UPDATE, _, 0, payload) => window = Some(u32::from_be_bytes(payload.try_into().unwrap())),
            _ => {}
        }
    }
    let settings = settings.unwrap();
    let of = |id: u16| {
        let mut all = settings.chunks(6).filter(|s| s[..2] == id.to_be_bytes());
        all.next().map(|s| u32::from_be_bytes(s[2..].try_into().unwrap()))
    };
    let (concurrent_streams, initial_window, header_list) = (of(3), of(4), of(6));
    assert_eq!((concurrent_streams, initial_window, header_list), (Some(128), Some(256 << 10), Some(16 << 10)));
    assert_eq!(window.unwrap() + 65_535, 4 << 20, "of the connection");
}

/// Sends a flood until the server ends the connection, while another client is served.
async fn refused_alone(what: &str, flood: Vec<u8>) {
    let server = TestServer::process(vec!["--store=memory".to_owned()]).await.ready().await;
    server.set("ws/t/a", "1").await;
    let before = peak_kib(server.pid());
    let (mut read, mut write) = opened(&server).await.into_split();
    // The write fails when the server has closed the connection.
    let flooding = tokio::spawn(async move { write.write_all(&flood).await });
    let goaway = closed(&mut read).await;
    drop(flooding.await.unwrap());
    assert!(goaway, "{what}: it is closed with a GOAWAY");
    for i in 0..100 {
        let started = Instant::now();
        server.set(&format!("ws/t/{i}"), "1").await;
        assert!(started.elapsed() < Duration::from_secs(2), "{what}: others are served");
    }
    let grown = grown_kib(server.pid(), before);
    assert!(grown < 32 * 1024, "{what}: {grown} KiB more at the peak");
}

/// Covers S2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_resets_closes_only_its_own_connection() {
    let head = head();
    let call = |n: u32| {
        let stream = 2 * n + 1;
        [frame(HEADERS, END_HEADERS, stream, &head), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    refused_alone("resets", (0..10_000).flat_map(call).collect()).await;
}

/// Covers S2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_continuations_closes_only_its_own_connection() {
    // A header of 100 bytes, again and again.
    let header = [&[0x00, 1, b'a', 100][..], &[b'x'; 100]].concat();
    let more = frame(CONTINUATION, 0, 1, &header.repeat(100));
    refused_alone("continuations", [frame(HEADERS, 0, 1, &head()), more.repeat(2_000)].concat()).await;
}

/// Covers B19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn huge_metadata_is_refused_and_other_calls_are_unaffected() {
    let server = TestServer::in_process(vec!["--store=memory".to_owned()]).await.ready().await;
    let mut other = connect(&server.api).await;
    let set = || v1::SetRequest { changelog_id: "ws/t/a".to_owned(), value: raw("1"), ..Default::default() };
    other.set(set()).await.unwrap();
    let mut large = Request::new(set());
    large.metadata_mut().insert("x-large", "x".repeat(65_536).parse().unwrap());
    let mut many = Request::new(set());
    for _ in 0..10_000 {
        many.metadata_mut().append("x-many", "1".parse().unwrap());
    }
    for request in [large, many] {
        let status = connect(&server.api).await.set(request).await.unwrap_err();
        // The connection is closed with ENHANCE_YOUR_CALM, before a request reaches the service.
        assert_eq!((status.code(), &*reason(&status)), (tonic::Code::ResourceExhausted, ""), "{status:?}");
        assert!(format!("{status:?}").contains("ENHANCE_YOUR_CALM"), "{status:?}");
        other.set(set()).await.unwrap();
        server.set("ws/t/b", "1").await;
    }
}

/// The HTTP/2 library refuses it by itself, so there is no status of gRPC. The client makes one.
/// Covers C76, B19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_sees_metadata_over_the_limit_as_http_431_and_a_path_that_no_uri_has_as_a_reset() {
    let server = TestServer::in_process(vec!["--store=memory".to_owned()]).await.ready().await;
    let mut client = connect(&server.api).await;
    let set = |bytes: usize| {
        let message = v1::SetRequest { changelog_id: "ws/t/a".to_owned(), value: raw("1"), ..Default::default() };
        let mut request = Request::new(message);
        request.metadata_mut().insert("x-large", "x".repeat(bytes).parse().unwrap());
        request
    };
    client.set(set(15 * 1024)).await.unwrap();
    let status = client.set(set(17 * 1024)).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (tonic::Code::Unknown, ""), "{status:?}");
    assert!(status.message().contains("431"), "{status:?}");
    client.set(set(1)).await.expect("the connection stays");
    for (path, end) in [(&b"/a b"[..], RST_STREAM), (b"/\x07", RST_STREAM), (b"/caf\xe9", GOAWAY)] {
        let mut stream = opened(&server).await;
        stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head_of_path(path))).await.unwrap();
        let ended = async {
            loop {
                let (kind, _, _, payload) = next_frame(&mut stream).await.expect("an end");
                if [HEADERS, RST_STREAM, GOAWAY].contains(&kind) {
                    return (kind, payload);
                }
            }
        };
        let (kind, payload) = tokio::time::timeout(PATIENCE, ended).await.expect("an end in time");
        assert_eq!(kind, end, "{path:?}: {payload:?}");
    }
}

/// A client that is still sending learns why its connection is closed: it is not reset.
///
/// Covers B19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reason_of_a_close_arrives_while_the_client_is_still_sending() {
    let server = TestServer::in_process(vec!["--store=memory".to_owned()]).await.ready().await;
    let header = [&[0x00, 1, b'a', 100][..], &[b'x'; 100]].concat();
    let continuations = frame(CONTINUATION, 0, 1, &header.repeat(100)).repeat(20);
    let on_stream_0 = frame(HEADERS, END_HEADERS, 0, &head());
    let more = frame(PING, 0, 0, &[7; 8]).repeat(10_000);
    for broken in [[frame(HEADERS, 0, 1, &head()), continuations].concat(), on_stream_0] {
        let mut stream = opened(&server).await;
        // One write: the bytes are on their way before the server closes the connection.
        stream.write_all(&[broken, more.clone()].concat()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed");
        read.expect("the connection ends");
        assert!(closed(&mut &answer[..]).await, "with a GOAWAY");
        server.set("ws/t/a", "1").await;
        // A reset would let the next write fail, and libraries report that instead of the GOAWAY.
        assert!(stream.take_error().unwrap().is_none(), "the connection is not reset");
    }
}

/// Its answer could not be sent. The frames come at once, so the connection is closed before the call would begin.
/// Covers B20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_begins_on_a_connection_that_is_closed_already() {
    let set = v1::SetRequest { changelog_id: "ws/t/set".to_owned(), value: raw("1"), ..Default::default() };
    let mutation = v1::Mutation {
        id: 1,
        changelog_id: "ws/t/write".to_owned(),
        change: Some(v1::mutation::Change::Raw("1".into())),
        ..Default::default()
    };
    let write = v1::WriteRequest { mutations: vec![mutation] };
    for (rpc, message) in [("Write", framed(&write)), ("Set", framed(&set))] {
        let server = TestServer::process(vec!["--store=memory".to_owned()]).await.ready().await;
        let mut stream = TcpStream::connect(&server.api).await.unwrap();
        let call = [frame(HEADERS, END_HEADERS, 1, &head_of(rpc)), frame(DATA, END_STREAM, 1, &message)].concat();
        let broken = frame(HEADERS, END_HEADERS, 0, &head());
        stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &call, &broken].concat()).await.unwrap();
        assert!(closed(&mut stream).await, "{rpc}: with a GOAWAY");
        let count = handled(rpc, "Canceled");
        let started = Instant::now();
        while server.metric(&count).await < 1 && started.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let keys = server.load("ws").await.texts();
        assert_eq!(keys, [], "{rpc}: it has not begun");
        assert_eq!(server.metric(&count).await, 1, "{rpc}");
    }
}

/// Covers B20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_of_another_protocol_is_closed() {
    let server = TestServer::in_process(vec!["--store=memory".to_owned()]).await.ready().await;
    let tls_client_hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 32]].concat();
    for bytes in [&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..], &tls_client_hello, &[0; 64], &[0xff; 64]] {
        let mut stream = TcpStream::connect(&server.api).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        closed(&mut stream).await;
        server.set("ws/t/a", "1").await;
    }
}
