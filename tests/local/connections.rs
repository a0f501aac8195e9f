//! Many connections that say nothing: the ports stay reachable, and clients that call are not disturbed.

use std::time::{Duration, Instant};

use changelogd::{open_files, proto::v1};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tonic::{Code, Status, Streaming, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    contract::server::{Client, PATIENCE, TestServer, connect, directory, raw, reason, try_http_get},
    drain::channel,
    http2::{PREFACE, SETTINGS, frame},
};

/// Connections that send these bytes and then nothing.
async fn mute(address: &str, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    open_files::raise().unwrap();
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = TcpStream::connect(address).await.unwrap();
        // Else its port is in TIME-WAIT for a minute, and too few ports are left for other tests.
        connection.set_zero_linger().unwrap();
        // A connection that another one has displaced may be closed already.
        let _ = connection.write_all(bytes).await;
        connections.push(connection);
    }
    connections
}

async fn is_closed(connection: &mut TcpStream) {
    let mut bytes = [0; 1024];
    let read_to_end = async { while connection.read(&mut bytes).await.is_ok_and(|n| n > 0) {} };
    tokio::time::timeout(PATIENCE, read_to_end).await.expect("the connection is closed");
}

async fn follow(client: &mut Client) -> Streaming<v1::StreamAllResponse> {
    let request = v1::StreamAllRequest { follow: true, ..Default::default() };
    client.stream_all(request).await.unwrap().into_inner()
}

async fn set(client: &mut Client) {
    let request = v1::SetRequest { changelog_id: "ws/t/a".to_owned(), value: raw("1"), ..Default::default() };
    client.set(request).await.unwrap();
}

/// The time that 99 of 100 calls take at most.
async fn p99(client: &mut Client) -> Duration {
    let mut times = Vec::new();
    for _ in 0..1_000 {
        let started = Instant::now();
        set(client).await;
        times.push(started.elapsed());
    }
    times.sort();
    times[times.len() * 99 / 100]
}

async fn memory(more: &[&str]) -> TestServer {
    let arguments = std::iter::once("--store=memory").chain(more.iter().copied()).map(str::to_owned).collect();
    TestServer::process(arguments).await.ready().await
}

/// Waits until the API port has so many connections.
async fn api_connections(server: &TestServer, wanted: impl Fn(i64) -> bool) {
    let started = Instant::now();
    loop {
        let open = server.metric("changelogd_connections{port=\"api\"}").await;
        if wanted(open) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{open} connections");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Each round measures without and with mute connections. On a busy machine one round says little: other programs make
/// either half many times slower. So the median of all rounds decides, and there are more of them until it is below the
/// bound. What the connections cost would be in each round.
/// Covers S16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_mute_connections_do_not_disturb_a_client_that_calls() {
    let server = memory(&[]).await;
    let mut client = connect(&server.api).await;
    let (mut rounds, mut connections) = (Vec::new(), Vec::new());
    let median = |rounds: &[(f64, Duration, Duration)]| rounds[rounds.len() / 2].0;
    while rounds.len() < 3 || median(&rounds) >= 2.0 {
        assert!(rounds.len() < 15, "(disturbed / quiet, quiet, disturbed): {rounds:?}");
        drop(connections);
        api_connections(&server, |open| open <= 2).await;
        let quiet = p99(&mut client).await;
        connections = mute(&server.api, 1_000, b"").await;
        connections.extend(mute(&server.api, 1_000, &PREFACE[..16]).await);
        // On a busy machine some are closed before the last ones are there.
        api_connections(&server, |open| open >= 1_000).await;
        let disturbed = p99(&mut client).await;
        rounds.push((disturbed.div_duration_f64(quiet), quiet, disturbed));
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    set(&mut connect(&server.api).await).await;
    for connection in &mut connections {
        is_closed(connection).await;
    }
    set(&mut client).await;
    assert!(server.metric("changelogd_connections_ended_total{port=\"api\",reason=\"no_first_bytes\"}").await >= 2_000);
}

/// Covers S16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_port_closes_the_connection_that_has_been_idle_for_the_longest_time() {
    let server = memory(&["--max-connections=20"]).await;
    let mut follower = connect(&server.api).await;
    let mut following = follow(&mut follower).await;
    // Each kind of silence.
    let settings = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let partial_headers = [&settings[..], &[0, 0, 50, 1, 4, 0, 0, 0, 1, 0x83]].concat();
    for bytes in [&b""[..], b"P", &PREFACE[..23], PREFACE, &settings, &partial_headers] {
        let connections = mute(&server.api, 100, bytes).await;
        for _ in 0..10 {
            set(&mut connect(&server.api).await).await;
        }
        assert!(server.metric("changelogd_connections{port=\"api\"}").await <= 20, "{} bytes", bytes.len());
        drop(connections);
    }
    // The connection with an open call has stayed.
    server.set("ws/t/followed", "1").await;
    let followed = async {
        loop {
            let message = following.message().await.unwrap().expect("it follows");
            if let Some(v1::stream_all_response::Event::Batch(batch)) = message.event
                && batch.entries.iter().any(|e| e.key == "ws/t/followed")
            {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, followed).await.expect("in time");
}

/// Covers S16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_whose_only_call_is_a_health_watch_is_idle() {
    let server = memory(&["--connection-idle-timeout=300ms"]).await;
    let mut busy = connect(&server.api).await;
    let mut following = follow(&mut busy).await;
    let channel = Endpoint::from_shared(format!("http://{}", server.api)).unwrap().connect().await.unwrap();
    let watch = HealthClient::new(channel).watch(HealthCheckRequest::default()).await.unwrap();
    let mut watch = watch.into_inner();
    let ended = async { while let Ok(Some(_)) = watch.message().await {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("the connection is closed");
    let mut silent = TcpStream::connect(&server.api).await.unwrap();
    silent.write_all(&[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()).await.unwrap();
    is_closed(&mut silent).await;
    // A connection with a call is not idle.
    assert!(following.message().await.unwrap().is_some());
    set(&mut busy).await;
}

/// Covers S10, S16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_and_metrics_are_served_while_a_client_holds_many_connections() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let server = memory(&[&format!("--health-listen={port}")]).await;
    for bytes in [&b""[..], &PREFACE[..16], b"GET /metrics HTTP/1.1\r\n"] {
        let connections = (mute(&port, 400, bytes).await, mute(&server.admin, 400, bytes).await);
        let channel = Endpoint::from_shared(format!("http://{port}")).unwrap().connect().await.unwrap();
        HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(server.http("/livez").await.0, 200);
        for name in ["health", "admin"] {
            let open = server.metric(&format!("changelogd_connections{{port=\"{name}\"}}")).await;
            assert!((0..=64).contains(&open), "{name}: {open}");
        }
        drop(connections);
    }
    // Probes are no calls of the API.
    let (_, metrics) = server.http("/metrics").await;
    assert!(!metrics.contains("rpc=\"Health\""), "{metrics}");
}

/// Covers S16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_few_open_files_the_program_starts_and_says_how_many_connections_it_takes() {
    for (open_files, connections) in [(256, 128), (1_024, 512)] {
        let (keep, path) = directory();
        let data = format!("--data-dir={}", path.display());
        let server = TestServer::process_with_open_files(open_files, vec![data]).await.ready().await;
        assert_eq!(server.serving["max_connections"], connections);
        assert_eq!(server.serving["open_files"], open_files);
        let mute_connections = mute(&server.api, 2 * open_files, PREFACE).await;
        for i in 0..20 {
            server.set(&format!("ws/t/{i}"), "1").await;
        }
        let mut fresh = connect(&server.api).await;
        set(&mut fresh).await;
        assert_eq!(server.load("ws").await.entries.len(), 21);
        drop((mute_connections, server, keep));
    }
}

/// Covers R43.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_leave_files_to_the_store_and_it_is_not_damaged() {
    let (keep, path) = directory();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let arguments = vec![format!("--data-dir={}", path.display()), format!("--health-listen={port}")];
    // Fewer than the connections of the API port and the files of the store.
    let server = TestServer::process_with_open_files(85, arguments).await.ready().await.keeping(Box::new(keep));
    let mut client = server.client.clone();
    // A connection with a call does not give its place to another.
    let follow = v1::StreamAllRequest { follow: true, ..Default::default() };
    let _following = client.stream_all(follow).await.unwrap();
    let mut held = Vec::new();
    for address in [&port, &server.admin, &server.api] {
        held.extend(mute(address, 64, PREFACE).await);
    }
    let is_refusal = |status: &Status| {
        assert_eq!((status.code(), &*reason(status)), (Code::Unavailable, "OUT_OF_FILES"), "{status:?}");
    };
    let mut acknowledged = Vec::new();
    for n in 0..200 {
        let key = format!("ws/t/{n}");
        let request = v1::SetRequest { changelog_id: key.clone(), value: raw("1"), ..Default::default() };
        match client.set(request).await {
            Ok(_) => acknowledged.push(key),
            Err(status) => is_refusal(&status),
        }
        let load = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
        if let Err(status) = server.try_load(load).await {
            is_refusal(&status);
        }
    }
    assert!(held.len() > 85, "the connections would take all files");
    drop(held);
    let started = Instant::now();
    loop {
        let request = v1::SetRequest { changelog_id: "ws/t/last".to_owned(), value: raw("1"), ..Default::default() };
        match client.set(request).await {
            Ok(_) => break,
            Err(status) => is_refusal(&status),
        }
        assert!(started.elapsed() < PATIENCE, "it recovers");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    acknowledged.push("ws/t/last".to_owned());
    // A new connection is closed until the server has seen that the others have left.
    while let Err(error) = try_http_get(&server.admin, "/readyz", None).await {
        assert!(started.elapsed() < PATIENCE, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let loaded: Vec<_> = server.load("ws").await.texts().into_iter().map(|(key, _)| key).collect();
    assert_eq!(loaded, acknowledged);
    let displaced = server.metric("changelogd_connections_ended_total{port=\"api\",reason=\"displaced\"}").await;
    assert!(displaced > 0, "there were too few files for all");
    assert_eq!(server.http("/readyz").await.0, 200);
}

/// Each client that has a connection is answered, although the port has too few places for all.
/// Covers S16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn busy_clients_at_a_full_port_are_answered_or_refused_with_the_reason() {
    const CLIENTS: usize = 12;
    let server = memory(&["--max-connections=4"]).await;
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let api = server.api.clone();
        clients.spawn(async move {
            let (mut served, mut refused, mut silent) = (0, 0, Vec::new());
            let mut connection = connect(&api).await;
            for n in 0..1_000 {
                let request = v1::SetRequest {
                    changelog_id: format!("ws/t/{client}-{n}"),
                    value: raw("1"),
                    ..Default::default()
                };
                match connection.set(request).await {
                    Ok(_) => served += 1,
                    Err(status) if (status.code(), &*reason(&status)) == (Code::Unavailable, "OUT_OF_FILES") => {
                        refused += 1
                    }
                    Err(status) => silent.push(status),
                }
            }
            (served, refused, silent)
        });
    }
    let (mut served, mut refused, mut silent) = (0, 0, Vec::new());
    while let Some(client) = clients.join_next().await {
        let client = client.unwrap();
        served += client.0;
        refused += client.1;
        silent.extend(client.2);
    }
    assert!(served >= 4 * 1_000 && refused > 0, "{served} served, {refused} refused");
    // A library may fail a call by itself when it learns that the server closes the connection.
    assert!(
        silent.len() <= CLIENTS,
        "{} without a reason, {served} served, {refused} refused: {silent:?}",
        silent.len()
    );
}

/// A place that is free goes to a connection that has none.
/// Covers S16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_place_gets_the_next_one() {
    let server = memory(&["--max-connections=1"]).await;
    let mut holder = connect(&server.api).await;
    let following = follow(&mut holder).await;
    let mut waiting = connect(&server.api).await;
    let mut answered = async |wanted: bool| {
        let started = Instant::now();
        loop {
            let request = v1::SetRequest { changelog_id: "ws/t/a".to_owned(), value: raw("1"), ..Default::default() };
            match waiting.set(request).await {
                Ok(_) if wanted => return,
                Ok(_) => panic!("another connection has the place"),
                Err(status) => {
                    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "OUT_OF_FILES"), "{status:?}");
                    if !wanted {
                        return;
                    }
                }
            }
            assert!(started.elapsed() < PATIENCE, "it gets the place");
        }
    };
    answered(false).await;
    drop((following, holder));
    answered(true).await;
}

/// The time of the preface and that of idleness run together.
/// Covers S16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_closed_at_its_time_although_the_time_of_the_preface_is_longer() {
    let server = memory(&["--connection-idle-timeout=300ms"]).await;
    for bytes in [&b""[..], PREFACE, &[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()] {
        let started = Instant::now();
        let mut silent = mute(&server.api, 1, bytes).await;
        is_closed(&mut silent[0]).await;
        // Of these, half a second is for the answer to the GOAWAY.
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    }
}

/// A connection to the admin port.
async fn scraper(server: &TestServer) -> Scraper {
    let stream = TcpStream::connect(&server.admin).await.unwrap();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

type Scraper = hyper::client::conn::http1::SendRequest<http_body_util::Empty<bytes::Bytes>>;

async fn scrape(scraper: &mut Scraper, server: &TestServer, path: &str) -> Result<usize, hyper::Error> {
    scraper.ready().await?;
    let request = http::Request::get(path).header("host", &server.admin).body(http_body_util::Empty::new()).unwrap();
    let response = scraper.send_request(request).await?;
    assert_eq!(response.status(), 200);
    Ok(response.into_body().collect().await?.to_bytes().len())
}

/// Covers S16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scraper_that_asks_again_and_again_keeps_its_connection() {
    let server = memory(&["--connection-idle-timeout=1s"]).await;
    let mut scraper = scraper(&server).await;
    // Longer than the time after which an idle connection is closed.
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(3) {
        scrape(&mut scraper, &server, "/livez").await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Others come, more than the port may have. It is not the one that has been idle for the longest time.
    // A client may have at most 64.
    for _ in 0..3 {
        let others = mute(&server.admin, 70, b"GET /livez HTTP/1.1\r\n").await;
        scrape(&mut scraper, &server, "/metrics").await.unwrap();
        drop(others);
    }
    // Then it is.
    tokio::time::sleep(Duration::from_secs(2)).await;
    scrape(&mut scraper, &server, "/livez").await.unwrap_err();
}

/// Covers S10, S19.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_health_do_not_keep_a_check_out() {
    let server = memory(&[]).await;
    let mut watches = Vec::new();
    let mut watch = async |channels: usize, calls: usize| {
        let (mut open, mut refused) = (0, 0);
        for _ in 0..channels {
            let channel = channel(&server.api).await.unwrap();
            for _ in 0..calls {
                match HealthClient::new(channel.clone()).watch(HealthCheckRequest::default()).await {
                    Ok(stream) => {
                        watches.push((stream, channel.clone()));
                        open += 1;
                    }
                    Err(status) => {
                        assert_eq!(&*reason(&status), "MEMORY_LIMIT", "{status:?}");
                        refused += 1;
                    }
                }
            }
            // On the same connection, too.
            HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
        }
        (open, refused)
    };
    assert_eq!(watch(3, 100).await, (24, 276), "a connection has few of them");
    let (open, refused) = watch(60, 8).await;
    assert!(open > 100 && refused > 100, "{open} open, {refused} refused");
    let fresh = channel(&server.api).await.unwrap();
    HealthClient::new(fresh).check(HealthCheckRequest::default()).await.unwrap();
}
