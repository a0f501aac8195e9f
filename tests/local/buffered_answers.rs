//! Answers that HTTP/2 has taken and that are not written to the client's socket: they count as memory, and as open
//! calls.

use std::time::{Duration, Instant};

use changelogd::proto::v1;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpSocket, TcpStream},
};

use crate::{
    contract::server::{PATIENCE, TestServer, handled},
    http2::{DATA, END_STREAM, framed},
    http2::{END_HEADERS, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, frame, head_of, next_frame},
    memory_limit::{MIB, grown_memory, limit, peak_memory, server, until, used},
};

/// A connection whose windows have room for everything, but whose socket has not.
async fn connection(api: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut connection = socket.connect(api.parse().unwrap()).await.unwrap();
    let largest = 0x7fff_ffff_u32;
    let settings = [&4_u16.to_be_bytes()[..], &largest.to_be_bytes()].concat();
    let window = (largest - 65_535).to_be_bytes();
    let opened = [PREFACE, &frame(SETTINGS, 0, 0, &settings), &frame(WINDOW_UPDATE, 0, 0, &window)].concat();
    connection.write_all(&opened).await.unwrap();
    connection
}

async fn call(connection: &mut TcpStream, calls: u32, rpc: &str, message: &impl prost::Message) {
    for call in 0..calls {
        let stream = 2 * call + 1;
        let head = frame(HEADERS, END_HEADERS, stream, &head_of(rpc));
        let data = frame(DATA, END_STREAM, stream, &framed(message));
        connection.write_all(&[head, data].concat()).await.unwrap();
    }
}

fn get() -> v1::GetRequest {
    v1::GetRequest { changelog_id: "w/t/a".to_owned(), ..Default::default() }
}

/// Waits until the server has begun so many calls.
async fn begun(server: &TestServer, rpc: &str, calls: i64) {
    let started = Instant::now();
    while server.metric(&handled(rpc, "OK")).await < calls {
        assert!(started.elapsed() < PATIENCE, "{rpc}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Covers S19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_count_until_they_are_written_to_the_socket() {
    let server = server(&["--client-stall-timeout=10m"]).await;
    for (rpc, value) in [("Get", 120_000), ("LoadWorkspace", 60_000), ("Get", 70_000)] {
        server.set("w/t/a", &format!("\"{}\"", "x".repeat(value))).await;
        let settled = peak_memory(server.pid());
        let mut connections = Vec::new();
        for _ in 0..12 {
            let mut connection = connection(&server.api).await;
            match rpc {
                "Get" => call(&mut connection, 120, rpc, &get()).await,
                _ => {
                    let load = v1::LoadWorkspaceRequest { workspace_id: "w".to_owned(), ..Default::default() };
                    call(&mut connection, 120, rpc, &load).await;
                }
            }
            connections.push(connection);
        }
        // The sockets take some of the answers.
        let waiting = (12 * 120 * value as i64 / 2).min(limit(&server, "answers").await / 2);
        until(&server, "answers", |bytes| bytes > if rpc == "Get" { waiting } else { 0 }).await;
        let counted = limit(&server, "answers").await + limit(&server, "requests").await;
        let taken = grown_memory(server.pid(), settled);
        assert!(taken < (counted + 16 * MIB) as u64, "{rpc} of {value} bytes: {taken}");
        drop(connections);
        for part in ["answers", "requests"] {
            until(&server, part, |bytes| bytes == 0).await;
        }
        assert_eq!(used(&server, "answers").await, 0);
    }
}

/// A client that reads slowly and steadily, while the server stops, and while another connection wants its place.
/// Covers R32, S16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_open_until_their_answers_are_written_to_the_socket() {
    const CALLS: u32 = 60;
    for (displaced, rpc) in [(false, "Get"), (false, "LoadWorkspace"), (true, "Get")] {
        let mut arguments = vec!["--store=memory".to_owned()];
        if displaced {
            // The other place is that of the connection that has made the entry.
            arguments.push("--max-connections=2".to_owned());
        }
        let mut server = TestServer::process(arguments).await.ready().await;
        server.set("w/t/a", &format!("\"{}\"", "x".repeat(100_000))).await;
        let mut client = connection(&server.api).await;
        let calls = if rpc == "Get" {
            call(&mut client, CALLS, rpc, &get()).await;
            CALLS
        } else {
            let load = v1::LoadWorkspaceRequest { workspace_id: "w".to_owned(), ..Default::default() };
            call(&mut client, 8, rpc, &load).await;
            8
        };
        begun(&server, rpc, i64::from(calls)).await;
        let mut others = Vec::new();
        if displaced {
            for _ in 0..3 {
                others.push(connection(&server.api).await);
            }
        } else {
            server.signal("TERM");
        }
        let mut complete = 0;
        while complete < calls {
            let (kind, flags, ..) = next_frame(&mut client).await.expect("every answer is whole");
            if kind == HEADERS && flags & END_STREAM != 0 {
                complete += 1;
            }
            if kind == DATA {
                // 16 KiB each: slower than the server, which would close an idle connection after half a second.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        drop(client);
        if !displaced {
            assert_eq!(server.ended().await, Some(0));
        }
        drop(others);
    }
}
