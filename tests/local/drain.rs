//! A stop: readiness ends first, calls get an answer to the last, and nothing that is silent holds it up.

use std::{
    collections::HashSet,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use changelogd::proto::v1;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::{
    contract::server::{PATIENCE, TestServer, connect, directory, raw, reason},
    http2::{END_HEADERS, HEADERS, PREFACE, closed, frame, head, opened, wait_until_read},
    stalls::asked,
};

pub async fn channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await
}

pub fn set_request(key: &str) -> v1::SetRequest {
    v1::SetRequest { changelog_id: key.to_owned(), value: raw("1"), ..Default::default() }
}

/// Covers S5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_sends_goaway_and_cuts_a_call_that_never_arrives() {
    let mut server = TestServer::process(vec!["--store=memory".to_owned(), "--drain-timeout=2s".to_owned()]).await;
    // One connection has not finished its preface. One holds a call open whose message never comes.
    let mut half_open = TcpStream::connect(&server.api).await.unwrap();
    half_open.write_all(&PREFACE[..10]).await.unwrap();
    let mut idle = opened(&server).await;
    idle.write_all(&frame(HEADERS, END_HEADERS, 1, &head())).await.unwrap();
    // A connection whose preface has not been read is closed without a GOAWAY.
    wait_until_read(&mut idle).await;
    let asked = Instant::now();
    server.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    closed(&mut half_open).await;
    assert!(closed(&mut idle).await, "it is closed with a GOAWAY");
}

/// Everything that may be open while no call of the API is in flight.
/// Covers S5, S10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_call_in_flight_a_stop_takes_less_than_two_seconds() {
    let health_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let more = ["--store=memory", "--drain-timeout=60s", &format!("--health-listen={health_port}")];
    let mut server = TestServer::process(more.map(str::to_owned).to_vec()).await.ready().await;
    let mut watches = Vec::new();
    for address in [&server.api, &health_port] {
        let mut watch = HealthClient::new(channel(address).await.unwrap());
        let mut watch = watch.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        watches.push(watch);
    }
    let (asks, questions) = mpsc::channel(1);
    let mut reflection = ServerReflectionClient::new(channel(&server.api).await.unwrap());
    let message_request = Some(MessageRequest::ListServices(String::new()));
    asks.send(ServerReflectionRequest { host: String::new(), message_request }).await.unwrap();
    let mut answers = reflection.server_reflection_info(ReceiverStream::new(questions)).await.unwrap().into_inner();
    assert!(answers.message().await.unwrap().is_some());
    let mut silent = Vec::new();
    for bytes in [&b""[..], &PREFACE[..20], PREFACE, &[PREFACE, &frame(4, 0, 0, &[])].concat()] {
        for address in [&server.api, &health_port, &server.admin] {
            for _ in 0..10 {
                let mut connection = TcpStream::connect(address).await.unwrap();
                let _ = connection.write_all(bytes).await;
                silent.push(connection);
            }
        }
    }
    let idle = connect(&server.api).await;
    server.set("ws/t/a", "1").await;

    let asked = Instant::now();
    server.signal("TERM");
    for watch in &mut watches {
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        assert!(watch.message().await.unwrap().is_none(), "it ends without an error");
    }
    assert_eq!(server.ended().await, Some(0));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    drop((idle, silent, asks));
}

/// The three steps, with what each of them serves.
/// Covers R32, S5, K2.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_serves_then_refuses_and_then_closes() {
    use v1::stream_all_response::Event;
    let more = ["--store=memory", "--drain-delay=2s", "--drain-timeout=20s"];
    let mut server = TestServer::process(more.map(str::to_owned).to_vec()).await.ready().await;
    let request = v1::StreamAllRequest { follow: true, ..Default::default() };
    let mut following = server.client.clone().stream_all(request).await.unwrap().into_inner();
    let mut health = HealthClient::new(channel(&server.api).await.unwrap());
    // An open call keeps the second step open until the test has seen it.
    let mut held = opened(&server).await;
    held.write_all(&frame(HEADERS, END_HEADERS, 1, &head())).await.unwrap();
    wait_until_read(&mut held).await;

    server.signal("TERM");
    let check = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let started = Instant::now();
    while health.check(check("")).await.unwrap().into_inner().status() == ServingStatus::Serving {
        assert!(started.elapsed() < PATIENCE, "readiness ends");
    }
    // Step 1: not ready, and everything is served, on new connections, too.
    assert_eq!(health.check(check("liveness")).await.unwrap().into_inner().status(), ServingStatus::Serving);
    assert_eq!(server.http("/readyz").await.0, 503);
    connect(&server.api).await.set(set_request("ws/t/first")).await.unwrap();
    server.load("ws").await;

    // Step 2: new calls are refused with their reason.
    let started = Instant::now();
    let status = loop {
        match connect(&server.api).await.set(set_request("ws/t/second")).await {
            Ok(_) => assert!(started.elapsed() < PATIENCE, "the delay ends"),
            Err(status) => break status,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let is_draining = |status: &Status| {
        assert_eq!((status.code(), &*reason(status)), (Code::Unavailable, "DRAINING"), "{status:?}");
    };
    is_draining(&status);
    let mut client = connect(&server.api).await;
    let get = v1::GetRequest { changelog_id: "ws/t/first".to_owned(), ..Default::default() };
    is_draining(&client.get(get).await.unwrap_err());
    let load = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
    is_draining(&client.load_workspace(load).await.unwrap_err());
    is_draining(&client.stream_all(v1::StreamAllRequest::default()).await.unwrap_err());
    is_draining(&client.write(tokio_stream::empty()).await.unwrap_err());
    client.flush(v1::FlushRequest::default()).await.unwrap();
    client.describe(v1::DescribeRequest::default()).await.unwrap();
    assert_eq!(health.check(check("liveness")).await.unwrap().into_inner().status(), ServingStatus::Serving);
    assert_eq!(server.http("/livez").await.0, 200);
    // A stream that follows ends with its reason, after a token from which its client can go on.
    let mut last = None;
    let status = loop {
        match following.message().await {
            Ok(message) => last = message.expect("it does not end well").event,
            Err(status) => break status,
        }
    };
    is_draining(&status);
    assert!(matches!(last, Some(Event::Bookmark(_))), "{last:?}");

    // Step 3: the last call has ended, and the process ends.
    drop(held);
    assert_eq!(server.ended().await, Some(0));
}

/// Covers R32.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_the_process_at_once_and_a_hangup_drains() {
    for first in ["TERM", "INT", "HUP"] {
        let more = ["--store=memory", "--drain-delay=10m"];
        let mut server = TestServer::process(more.map(str::to_owned).to_vec()).await.ready().await;
        server.signal(first);
        let started = Instant::now();
        while server.http("/readyz").await.0 == 200 {
            assert!(started.elapsed() < PATIENCE, "{first}: it drains");
        }
        server.set("ws/t/a", "1").await;
        server.signal("TERM");
        assert_eq!(server.ended().await, Some(1), "{first}");

        let mut server = TestServer::process(vec!["--store=memory".to_owned()]).await;
        server.signal(first);
        assert_eq!(server.ended().await, Some(0), "{first}");
    }
}

/// What became of a write on a connection of its own.
enum Outcome {
    Acknowledged,
    /// The server said why not.
    Refused,
    /// No connection, so nothing was sent.
    NotConnected,
    /// Connected, and no answer of the server.
    Silent {
        /// Bytes that the server sent. It sends its settings to each connection that it accepts.
        received: usize,
        status: Status,
    },
}

/// A connection that counts the bytes that it receives.
struct Counted {
    inner: TcpStream,
    received: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, into);
        self.received.fetch_add(into.filled().len() - before, SeqCst);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

async fn write(api: &str, key: &str) -> Outcome {
    let received = Arc::new(AtomicUsize::new(0));
    let counter = received.clone();
    let connector = tower::service_fn(move |uri: http::Uri| {
        let received = counter.clone();
        async move {
            let inner = TcpStream::connect(uri.authority().unwrap().as_str()).await?;
            // Else its port is in TIME-WAIT for a minute, and no port is left for other tests.
            inner.set_zero_linger()?;
            Ok::<_, io::Error>(TokioIo::new(Counted { inner, received }))
        }
    });
    let endpoint = Endpoint::from_shared(format!("http://{api}")).unwrap();
    let Ok(channel) = endpoint.connect_with_connector(connector).await else { return Outcome::NotConnected };
    let mut client = v1::changelog_service_client::ChangelogServiceClient::new(channel);
    match client.set(set_request(key)).await {
        Ok(_) => Outcome::Acknowledged,
        Err(status) if reason(&status) == "DRAINING" => Outcome::Refused,
        Err(status) => Outcome::Silent { received: received.load(SeqCst), status },
    }
}

/// What one writer has seen until the port was closed.
#[derive(Default)]
struct Seen {
    acknowledged: Vec<String>,
    refused: usize,
    /// Calls that the server accepted and did not answer.
    unanswered: Vec<Status>,
    /// Calls on connections that the server did not accept.
    not_accepted: usize,
}

async fn write_until_the_port_is_closed(api: String, keys: String, calls: Arc<AtomicUsize>) -> Seen {
    let mut seen = Seen::default();
    for n in 0.. {
        let key = format!("{keys}-{n}");
        let outcome = write(&api, &key).await;
        if matches!(outcome, Outcome::NotConnected) {
            return seen;
        }
        // After such a connection there must be no port.
        assert_eq!(seen.not_accepted, 0, "a connection was not accepted while the port was open");
        calls.fetch_add(1, SeqCst);
        match outcome {
            Outcome::Acknowledged => seen.acknowledged.push(key),
            Outcome::Refused => seen.refused += 1,
            Outcome::Silent { received: 0, .. } => seen.not_accepted += 1,
            Outcome::Silent { status, .. } => seen.unanswered.push(status),
            Outcome::NotConnected => unreachable!("it returned"),
        }
    }
    seen
}

/// Each write has a connection of its own, as those of a proxy or a short process. CHANGELOGD_TEST_DRAINS sets the
/// number of rounds.
///
/// The server answers every call on a connection that it accepted. One case is left that no server can answer. The
/// kernel completes connections by itself, and resets one that comes between the last accept and the end of the port.
/// Such a client receives no byte, and its next connection is refused.
/// Covers R32, S5, F21.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_loses_no_acknowledged_write_and_answers_every_call() {
    const CALLS: usize = 10_000;
    const WRITERS: usize = 16;
    /// One waits in the queue of the port. Another one may be in its handshake on the other processor.
    const NOT_ACCEPTED_OF_A_ROUND: usize = 2;
    let rounds = std::env::var("CHANGELOGD_TEST_DRAINS").map_or(3, |n| n.parse().expect("a number of rounds"));
    let (_keep, path) = directory();
    let arguments = [format!("--data-dir={}", path.display()), "--drain-delay=0ms".to_owned()];
    let mut not_accepted = 0;
    for round in 0..rounds {
        let mut server = TestServer::process(arguments.to_vec()).await.ready().await;
        let (mut writers, calls) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        for writer in 0..WRITERS {
            let keys = format!("ws-{round}/t/{writer}");
            writers.spawn(write_until_the_port_is_closed(server.api.clone(), keys, calls.clone()));
        }
        let started = Instant::now();
        while calls.load(SeqCst) < CALLS {
            assert!(started.elapsed() < 4 * PATIENCE, "round {round}: {calls:?} calls");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(writers.len(), WRITERS, "round {round}: all of them write");
        server.signal("TERM");
        assert_eq!(server.ended().await, Some(0));
        let mut all = Seen::default();
        while let Some(writer) = writers.join_next().await {
            let seen = writer.unwrap();
            all.acknowledged.extend(seen.acknowledged);
            all.refused += seen.refused;
            all.unanswered.extend(seen.unanswered);
            all.not_accepted += seen.not_accepted;
        }
        let answered = all.acknowledged.len() + all.refused;
        assert!(answered + all.not_accepted >= CALLS, "round {round}: {answered}");
        assert!(all.unanswered.is_empty(), "round {round}, {} refused: {:?}", all.refused, all.unanswered);
        assert!(all.refused > 0, "round {round}: new calls meet the refusal before the port closes");
        assert!(all.not_accepted <= NOT_ACCEPTED_OF_A_ROUND, "round {round}: {}", all.not_accepted);
        not_accepted += all.not_accepted;

        let mut server = TestServer::process(arguments.to_vec()).await.ready().await;
        let loaded = server.load(&format!("ws-{round}")).await.texts();
        let keys: HashSet<_> = loaded.into_iter().map(|(key, _)| key).collect();
        let lost: Vec<_> = all.acknowledged.iter().filter(|key| !keys.contains(*key)).collect();
        assert!(lost.is_empty(), "{lost:?}");
        server.stop().await;
    }
    println!("{rounds} rounds of {CALLS} calls; {not_accepted} met the end of a port");
}

/// A load that its client takes slowly has all of --drain-timeout, and no more.
/// Covers R32, S5.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_call_may_take_all_of_the_time_of_a_drain_and_is_cut_after_it() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    for (fraction, whole) in [(0.9, true), (10.0, false)] {
        let more = ["--store=memory", "--drain-timeout=4s"];
        let mut server = TestServer::process(more.map(str::to_owned).to_vec()).await.ready().await;
        server.set("ws/t/large", &format!("\"{}\"", "x".repeat(900_000))).await;
        let load = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
        let (_sender, _connection, response) = asked(&server.api, "LoadWorkspace", &load, 65_535).await;
        let begun = Instant::now();
        server.signal("TERM");
        let reading = tokio::spawn(async move {
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                frame?;
                // A part of the answer has 16 KiB.
                tokio::time::sleep(if begun.elapsed() < TIMEOUT.mul_f64(fraction) {
                    TIMEOUT / 40
                } else {
                    Duration::ZERO
                })
                .await;
            }
            Ok::<_, hyper::Error>(())
        });
        assert_eq!(server.ended().await, Some(0));
        assert!(begun.elapsed() < TIMEOUT + Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!(reading.await.unwrap().is_ok(), whole, "{fraction} of the time");
    }
}
