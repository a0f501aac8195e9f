//! The memory limit, for streams: compressed messages, verdicts, and answers before they are made.

use changelogd::proto::v1;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::task::JoinSet;
use tonic::{Status, codec::CompressionEncoding};

use crate::{
    contract::server::{Client, PATIENCE, TestServer, connect, reason},
    memory_limit::{
        MIB, assert_no_room, connection, connection_and_socket, framed, grown_memory, limit, peak_memory, request,
        server, status_of, until,
    },
};

fn mutation(id: u64, key: String, value: &str) -> v1::Mutation {
    v1::Mutation {
        id,
        changelog_id: key,
        change: Some(v1::mutation::Change::Raw(value.to_owned().into())),
        ..Default::default()
    }
}

/// Sends these messages on one `Write` stream. Returns how many verdicts came, and how the stream ended.
async fn write(mut client: Client, messages: Vec<v1::WriteRequest>) -> (usize, Result<(), Status>) {
    let mut verdicts = 0;
    let written = async {
        let mut answers = client.write(tokio_stream::iter(messages)).await?.into_inner();
        while let Some(answer) = answers.message().await? {
            let written = |verdict: &v1::Verdict| matches!(verdict.outcome, Some(v1::verdict::Outcome::Written(_)));
            assert!(answer.verdicts.iter().all(written), "{answer:?}");
            verdicts += answer.verdicts.len();
        }
        Ok(())
    };
    let ended = written.await;
    (verdicts, ended)
}

/// Small messages, many in a frame; messages that are much larger than their compressed form; several clients.
/// Covers S19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_write_streams_are_written_whole_within_the_limit() {
    let server = server(&[]).await;
    for (streams, messages, mutations, value) in
        [(1, 300, 1, 1), (20, 30, 100, 1), (12, 10, 10, 20_000), (6, 4, 4, 900_000)]
    {
        let mut calls = JoinSet::new();
        for stream in 0..streams {
            let client = connect(&server.api).await.send_compressed(CompressionEncoding::Gzip);
            let value = "1".repeat(value);
            let message = |message: u64| v1::WriteRequest {
                mutations: (0..mutations)
                    .map(|n| mutation(message * mutations + n, format!("w{stream}/t/{n}"), &value))
                    .collect(),
            };
            calls.spawn(write(client, (0..messages).map(message).collect()));
        }
        while let Some(call) = calls.join_next().await {
            let (verdicts, ended) = call.unwrap();
            assert!(ended.is_ok(), "{streams} streams of {messages} × {mutations} × {value}: {ended:?}");
            assert_eq!(verdicts as u64, messages * mutations);
        }
        until(&server, "requests", |bytes| bytes == 0).await;
    }
}

/// Calls that fill the part for answers, down to the smallest.
async fn fill_answers(server: &TestServer) -> Vec<impl Sized> {
    let mut held = Vec::new();
    for (key, bytes) in [("a", 60_000), ("b", 4_000), ("c", 300), ("d", 10)] {
        server.set(&format!("s/t/{key}"), &format!("\"{}\"", "x".repeat(bytes))).await;
        let message = framed(&v1::GetRequest { changelog_id: format!("s/t/{key}"), ..Default::default() });
        'calls: loop {
            let mut sender = connection(&server.api, Some(0)).await;
            for _ in 0..100 {
                let get = request(&server.api, "Get", Full::new(message.clone()).boxed());
                let answer = sender.send_request(get).await.unwrap();
                let refused = Status::from_header_map(answer.headers());
                held.push((sender.clone(), answer));
                if let Some(status) = refused {
                    assert_no_room(&status);
                    break 'calls;
                }
            }
        }
    }
    held
}

/// Covers S19, C37.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_of_written_mutations_are_sent_when_answers_have_no_room() {
    let server = server(&["--client-stall-timeout=10m"]).await;
    let (messages, stream) = tokio::sync::mpsc::channel(1);
    let mut client = server.client.clone();
    let mut verdicts = client.write(tokio_stream::wrappers::ReceiverStream::new(stream)).await.unwrap().into_inner();
    let held = fill_answers(&server).await;
    // A stream that is opened now, and one that was opened before.
    let late = (0..10).map(|n| mutation(n, format!("late/t/{n}"), "1")).collect();
    let (written, ended) = write(server.client.clone(), vec![v1::WriteRequest { mutations: late }]).await;
    assert!(ended.is_ok() && written == 10, "{written} {ended:?}");

    // Failures have larger verdicts.
    let mutations = (0..1_000).map(|n| mutation(n, format!("w/t/{n}"), if n % 2 == 0 { "1" } else { "no JSON" }));
    messages.send(v1::WriteRequest { mutations: mutations.collect() }).await.unwrap();
    drop(messages);
    let (mut good, mut bad) = (0, 0);
    while let Some(answer) = verdicts.message().await.unwrap() {
        for verdict in answer.verdicts {
            let is_good = matches!(verdict.outcome, Some(v1::verdict::Outcome::Written(_)));
            *if is_good { &mut good } else { &mut bad } += 1;
        }
    }
    assert_eq!((good, bad), (500, 500));
    drop(held);
    until(&server, "answers", |bytes| bytes == 0).await;
    assert_eq!(server.load("w").await.entries.len(), 500);
    assert_eq!(server.load("late").await.entries.len(), 10);
}

/// Streams grow in small steps. They have no part in what is reserved for small calls.
/// Covers S19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_whose_verdicts_are_not_taken_leave_the_reserve_to_small_calls() {
    let server = server(&["--client-stall-timeout=10m"]).await;
    let (mut streams, mut sockets) = (JoinSet::new(), Vec::new());
    for stream in 0..20 {
        let frames = (0..200_u64).map(move |message| {
            let mutations = (0..250).map(|n| mutation(n, format!("w{stream}/t/{message}-{n}"), "1")).collect();
            Ok(http_body::Frame::data(framed(&v1::WriteRequest { mutations })))
        });
        let call = request(&server.api, "Write", StreamBody::new(tokio_stream::iter(frames)).boxed());
        let (mut sender, socket) = connection_and_socket(&server.api, Some(0)).await;
        sockets.push(socket);
        streams.spawn(async move { drop(sender.send_request(call).await.map(status_of)) });
    }
    let room = limit(&server, "requests").await - 4 * MIB;
    until(&server, "requests", |bytes| bytes > room - MIB).await;
    for n in 0..100 {
        server.set(&format!("ws/t/{n}"), "1").await;
    }
    for socket in sockets {
        // On a slow machine the server has ended a stream, because the rest of a message did not arrive.
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }
    while streams.join_next().await.is_some() {}
    until(&server, "requests", |bytes| bytes == 0).await;
}

/// A refusal says what is wrong, and takes much more than the mutation.
/// Covers S19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_that_are_not_taken_count_as_what_they_take() {
    let arguments = ["--store=memory", "--memory-limit=160000000", "--client-stall-timeout=10m"];
    let server = TestServer::process(arguments.map(str::to_owned).into()).await.ready().await;
    let settled = peak_memory(server.pid());
    let (mut streams, mut sockets) = (JoinSet::new(), Vec::new());
    for _ in 0..30 {
        // Each of these characters has eight in a message.
        let bad = |n| v1::Mutation {
            workspace_id: format!("/{}", "\u{200b}".repeat(80)),
            ..mutation(n, "t/a".to_owned(), "1")
        };
        let message = framed(&v1::WriteRequest { mutations: (0..1_000).map(bad).collect() });
        let frames = (0..17).map(move |_| Ok(http_body::Frame::data(message.clone())));
        let call = request(&server.api, "Write", StreamBody::new(tokio_stream::iter(frames)).boxed());
        let (mut sender, socket) = connection_and_socket(&server.api, Some(0)).await;
        sockets.push(socket);
        streams.spawn(async move { drop(sender.send_request(call).await.map(status_of)) });
    }
    let limit = limit(&server, "requests").await;
    until(&server, "requests", |bytes| bytes > limit / 4 * 3).await;
    let taken = grown_memory(server.pid(), settled);
    assert!(taken < limit as u64 + NOT_COUNTED, "{taken} bytes");
    for socket in sockets {
        // Streams without room have ended already.
        let _ = socket.shutdown(std::net::Shutdown::Both);
    }
    while streams.join_next().await.is_some() {}
    until(&server, "requests", |bytes| bytes == 0).await;
}

/// What a conversion to JSON takes, and what the allocator keeps: none of it is in a part.
const NOT_COUNTED: u64 = 24 * MIB as u64;

/// Clients that take nothing of loads and follows, whose answers are each 3.3 MB of JSON, or 0.9 MB of raw values.
/// Covers S19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_not_made_before_there_is_room_for_them() {
    let value = |format| {
        if format == v1::ValueFormat::Json {
            format!("[{}1]", "1,".repeat(300_000))
        } else {
            format!("\"{}\"", "x".repeat(900_000))
        }
    };
    for format in [v1::ValueFormat::Json, v1::ValueFormat::Raw] {
        let arguments =
            ["--store=memory", "--memory-limit=160000000", "--client-stall-timeout=10m", "--max-replays=30"];
        let server = TestServer::process(arguments.map(str::to_owned).into()).await.ready().await;
        server.set("w/t/large", &value(format)).await;
        let follow = framed(&v1::StreamAllRequest { follow: true, value_format: format.into(), ..Default::default() });
        let load = framed(&v1::LoadWorkspaceRequest {
            workspace_id: "w".to_owned(),
            value_format: format.into(),
            ..Default::default()
        });
        let settled = peak_memory(server.pid());
        let (refusals, mut refused) = tokio::sync::mpsc::unbounded_channel();
        let mut calls = JoinSet::new();
        for (rpc, message, streams) in [("StreamAll", &follow, 7), ("LoadWorkspace", &load, 9)].repeat(3) {
            let sender = connection(&server.api, Some(0)).await;
            for _ in 0..streams {
                let (mut sender, body) = (sender.clone(), Full::new(message.clone()).boxed());
                let (call, refusals) = (request(&server.api, rpc, body), refusals.clone());
                calls.spawn(async move {
                    let status = status_of(sender.send_request(call).await.unwrap()).await;
                    let _ = refusals.send(status);
                });
            }
        }
        // Replays are limited too. Those that wait for room give up after a while.
        let no_room = async {
            while let Some(status) = refused.recv().await {
                match &*reason(&status) {
                    "MEMORY_LIMIT" => return assert_no_room(&status),
                    other => assert!(["TOO_MANY_REPLAYS", "REPLAY_TOO_LARGE"].contains(&other), "{status:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, no_room).await.expect("one finds no room");
        let counted =
            limit(&server, "answers").await + server.metric("changelogd_memory_bytes{part=\"replays\"}").await;
        let taken = grown_memory(server.pid(), settled);
        assert!(taken < counted as u64 + NOT_COUNTED, "{taken} bytes, of which {counted} are in the parts");
    }
}
