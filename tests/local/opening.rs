//! A store that takes long to open: what is served meanwhile, and that a stop does not wait for it.

use std::{
    process::Stdio,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use changelog_core::{
    log::{Log, MemoryLog},
    model::PartitionCount,
};
use changelogd::{
    app::{Addresses, App, Drained, StartError},
    proto::v1,
};
use tokio::{process::Command, sync::oneshot, task::JoinHandle};
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt;

use crate::{
    contract::server::{
        Client, PATIENCE, TestServer, binary, connect, directory, handled, http_get, reason, serve_args,
    },
    drain::{channel, set_request},
};

/// A process whose store is opened when the test lets it.
pub struct Held {
    pub addresses: Addresses,
    pub open: mpsc::Sender<Opening>,
    stop: Option<oneshot::Sender<()>>,
    app: JoinHandle<Result<Drained, StartError>>,
    /// Of the log that it gets.
    log: Arc<dyn Log>,
}

/// What becomes of the opening.
pub enum Opening {
    Succeeds,
    Fails,
    Panics,
}

impl Held {
    pub async fn start(arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let log: Arc<dyn Log> = Arc::new(MemoryLog::new(PartitionCount::new(10).unwrap(), Duration::from_secs(86_400)));
        let (open, held) = mpsc::channel();
        let given = log.clone();
        let app = App::start_on(serve_args(&arguments), move |_| match held.recv() {
            Ok(Opening::Succeeds) => Ok(given),
            Ok(Opening::Panics) => panic!("as the storage engine may"),
            Ok(Opening::Fails) | Err(_) => Err(StartError::Fault("it can't be opened".to_owned())),
        });
        let app = app.await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let addresses = app.addresses().clone();
        let app = tokio::spawn(app.run(async { drop(stopped.await) }));
        Self { addresses, open, stop: Some(stop), app, log }
    }

    async fn client(&self) -> Client {
        connect(&self.addresses.api.to_string()).await
    }

    async fn channels(&self) -> Vec<Channel> {
        let mut channels = Vec::new();
        for address in [Some(&self.addresses.api), self.addresses.health.as_ref()].into_iter().flatten() {
            channels.push(channel(&address.to_string()).await.unwrap());
        }
        channels
    }

    async fn ended(self) -> Result<Drained, StartError> {
        tokio::time::timeout(PATIENCE, self.app).await.expect("it ends in time").unwrap()
    }
}

/// The answer of each RPC.
async fn answers(client: &Client) -> Vec<(&'static str, Result<(), Status>)> {
    let workspace_id = "ws".to_owned();
    let changelog_id = "ws/t/a".to_owned();
    let mut client = client.clone();
    let load = v1::LoadWorkspaceRequest { workspace_id: workspace_id.clone(), ..Default::default() };
    let delete = v1::DeleteRequest { changelog_id: changelog_id.clone(), ..Default::default() };
    let writes = tokio_stream::iter([v1::WriteRequest::default()]);
    vec![
        ("Set", client.set(set_request("ws/t/a")).await.map(drop)),
        ("Delete", client.delete(delete).await.map(drop)),
        ("Flush", client.flush(v1::FlushRequest::default()).await.map(drop)),
        ("Get", client.get(v1::GetRequest { changelog_id, ..Default::default() }).await.map(drop)),
        ("LoadWorkspace", client.load_workspace(load).await.map(drop)),
        ("StreamAll", client.stream_all(v1::StreamAllRequest::default()).await.map(drop)),
        ("Describe", client.describe(v1::DescribeRequest { workspace_id }).await.map(drop)),
        ("Write", client.write(writes).await.map(drop)),
        ("Watch", client.watch(v1::WatchRequest::default()).await.map(drop)),
    ]
}

/// Covers S18, C49.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_opened_health_is_served_and_calls_are_refused() {
    let mut held = Held::start(&["--health-listen=127.0.0.1:0"]).await;
    let client = held.client().await;
    for (rpc, answer) in answers(&client).await {
        let status = answer.expect_err(rpc);
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "STARTING"), "{rpc}: {status:?}");
        let retry = status.get_error_details().retry_info().and_then(|r| r.retry_delay).expect("a delay");
        assert!(retry > Duration::ZERO && status.message().contains("nothing was done"), "{rpc}: {status:?}");
    }
    let admin = held.addresses.admin.clone().unwrap().to_string();
    assert_eq!(http_get(&admin, "/livez").await.0, 200);
    let (code, body) = http_get(&admin, "/readyz").await;
    assert!(code == 503 && body.contains("the store is being opened"), "{body}");
    let (_, metrics) = http_get(&admin, "/metrics").await;
    assert!(metrics.contains("changelogd_ready 0\n"), "{metrics}");
    assert!(metrics.contains(&(handled("Set", "Unavailable") + " 1\n")), "{metrics}");
    let mut watches = Vec::new();
    let channels = held.channels().await;
    assert_eq!(channels.len(), 2);
    for channel in channels {
        let mut health = HealthClient::new(channel);
        let check = |service: &str| HealthCheckRequest { service: service.to_owned() };
        let live = health.check(check("liveness")).await.unwrap().into_inner().status();
        let ready = health.check(check("")).await.unwrap().into_inner().status();
        assert_eq!((live, ready), (ServingStatus::Serving, ServingStatus::NotServing));
        let mut watch = health.watch(check("readiness")).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
        watches.push(watch);
    }

    held.open.send(Opening::Succeeds).unwrap();
    for mut watch in watches {
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    }
    client.clone().set(set_request("ws/t/a")).await.unwrap();
    assert_eq!(http_get(&admin, "/readyz").await.0, 200);
    drop(held.stop.take());
    assert_eq!(held.ended().await.unwrap().undelivered.count, 0);
}

/// Covers S18.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_the_store() {
    let mut held = Held::start(&["--drain-delay=1h", "--drain-timeout=60s"]).await;
    let client = held.client().await;
    let mut watch = HealthClient::new(held.channels().await.remove(0));
    let mut watch = watch.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let started = Instant::now();
    drop(held.stop.take());
    // Until the port is closed, a call gets one of our answers.
    while let Err(status) = client.clone().set(set_request("ws/t/a")).await {
        match reason(&status).as_str() {
            "STARTING" => {}
            "DRAINING" => break,
            _ => panic!("{status:?}"),
        }
    }
    assert!(watch.message().await.unwrap().is_none(), "it ends");
    let (log, open) = (held.log.clone(), held.open.clone());
    held.ended().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // A store that is open after all is closed again.
    open.send(Opening::Succeeds).unwrap();
    while Arc::strong_count(&log) > 1 {
        assert!(started.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
}

/// Covers S18.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_opened_ends_the_process_with_its_cause() {
    for (opening, expected) in [(Opening::Fails, "it can't be opened"), (Opening::Panics, "as the storage engine may")]
    {
        let held = Held::start(&[]).await;
        held.client().await.set(set_request("ws/t/a")).await.expect_err("not open");
        held.open.send(opening).unwrap();
        let error = held.ended().await.expect_err("it can't serve").to_string();
        assert!(error.contains("fault of changelogd") && error.contains(expected), "{error}");
    }
}

/// The marker file is a pipe, so the store is opened when the test writes the marker to it.
/// Covers S18.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_answers_probes_and_signals_while_its_store_is_opened() {
    let (_keep, path) = directory();
    let arguments = vec![format!("--data-dir={}", path.display())];
    let mut server = TestServer::process(arguments.clone()).await;
    server.set("ws/t/a", "1").await;
    server.stop().await;
    let marker = path.join("store");
    let text = std::fs::read(&marker).unwrap();
    std::fs::remove_file(&marker).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&marker).status().expect("mkfifo runs").success());

    for signal in ["TERM", "INT", "HUP"] {
        let mut server = TestServer::process_that_opens_slowly(arguments.clone()).await;
        let (code, body) = server.http("/readyz").await;
        assert!(code == 503 && body.contains("the store is being opened"), "{body}");
        assert_eq!(server.http("/livez").await.0, 200);
        let status = server.client.clone().set(set_request("ws/t/a")).await.unwrap_err();
        assert_eq!(reason(&status), "STARTING", "{status:?}");
        let asked = Instant::now();
        server.signal(signal);
        assert_eq!(server.ended().await, Some(0), "{signal}");
        assert!(asked.elapsed() < Duration::from_secs(2), "{signal}: {:?}", asked.elapsed());
    }
    let server = TestServer::process_that_opens_slowly(arguments).await;
    tokio::task::spawn_blocking(move || std::fs::write(marker, text)).await.unwrap().unwrap();
    let server = server.ready().await;
    assert_eq!(server.load("ws").await.entries.len(), 1);
}

/// Covers S18, R34.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_journal_is_read_again_while_health_says_how_far_it_is() {
    const RECORDS: usize = 200_000;
    const VALUE: &str =
        r#"{"a":"a value that makes the journal some ten megabytes larger than it would be without it"}"#;
    let (_keep, path) = directory();
    let mut server = TestServer::process(vec![format!("--data-dir={}", path.display())]).await;
    let messages = (0..RECORDS / 1_000).map(|message| {
        let mutation = |n: usize| v1::Mutation {
            changelog_id: format!("ws{}/t/{n}", n % 100),
            change: Some(v1::mutation::Change::Raw(VALUE.into())),
            ..Default::default()
        };
        v1::WriteRequest { mutations: (message * 1_000..(message + 1) * 1_000).map(mutation).collect() }
    });
    let mut verdicts = server.client.clone().write(tokio_stream::iter(messages.collect::<Vec<_>>())).await.unwrap();
    let mut acknowledged = 0;
    while let Some(verdict) = verdicts.get_mut().message().await.unwrap() {
        let written = |verdict: &&v1::Verdict| matches!(verdict.outcome, Some(v1::verdict::Outcome::Written(_)));
        acknowledged += verdict.verdicts.iter().filter(written).count();
    }
    assert_eq!(acknowledged, RECORDS);
    server.signal("KILL");
    server.ended().await;

    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let _process = Command::new(binary())
        .args(["serve", "--listen=127.0.0.1:0", &format!("--admin-listen={admin}")])
        .arg(format!("--data-dir={}", path.display()))
        .env_clear()
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (started, mut seen) = (Instant::now(), Vec::new());
    loop {
        assert!(started.elapsed() < PATIENCE, "{seen:?}");
        if tokio::net::TcpStream::connect(&admin).await.is_err() {
            continue;
        }
        let (code, body) = http_get(&admin, "/readyz").await;
        if code == 200 {
            break;
        }
        if let Some((_, progress)) = body.trim_end().split_once("opened: ") {
            let mut numbers = progress.split(' ').filter_map(|word| word.parse::<u64>().ok());
            seen.push((numbers.next().expect("bytes read"), numbers.next().expect("all bytes")));
        }
    }
    let (last, total) = *seen.last().expect("an answer with the progress");
    assert!(total > 1_000_000 && last <= total && seen.is_sorted(), "{last} of {total}, {} answers", seen.len());
    assert!(seen.iter().any(|(read, _)| *read > 0), "{seen:?}");
}
