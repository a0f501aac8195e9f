//! The commands against a service that misbehaves on purpose. The tests of the process run them against the real one.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use changelogd_testkit::{Mode, Proxy};
use clap::Parser;
use futures_util::{Stream, StreamExt};
use tokio::{
    net::TcpListener,
    sync::Notify,
    time::{Instant, pause, resume, timeout},
};
use tonic::{Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

use super::{
    connection::{KEEPALIVE, KEEPALIVE_TIMEOUT},
    *,
};
use crate::proto::v1::{self, changelog_service_server as server};

/// A key and its value, or that it is deleted.
type Write = (String, Option<Vec<u8>>);

#[derive(Clone, Default)]
struct Service {
    /// The number of writes that are answered with UNAVAILABLE first.
    unavailable: Arc<AtomicU32>,
    /// The number of `Write` streams that end with UNAVAILABLE before their first message is read.
    refused_streams: Arc<AtomicU32>,
    /// Whether that carries our ErrorInfo.
    ours: bool,
    /// `Write` reads, and answers nothing.
    silent: bool,
    /// What `Describe` says of requests.
    max_request_bytes: u32,
    /// What `StreamAll` delivers before a Snapshot.
    entries: Vec<v1::Entry>,
    /// A `Watch`, or a `StreamAll` that follows, has begun. Both stay open, and deliver nothing.
    follows: Arc<Notify>,
    writes: Arc<Mutex<Vec<Write>>>,
}

impl Service {
    fn refusal(&self, count: &AtomicU32) -> Result<(), Status> {
        let before = count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match (before, self.ours) {
            (Err(_), _) => Ok(()),
            (Ok(_), true) => {
                let details = ErrorDetails::with_error_info("BROKERS_UNREACHABLE", "changelogd", HashMap::new());
                Err(Status::with_error_details(tonic::Code::Unavailable, "nothing was written", details))
            }
            (Ok(_), false) => Err(Status::unavailable("a proxy")),
        }
    }

    fn verdict(&self, mutation: v1::Mutation) -> v1::Verdict {
        let outcome = match self.refusal(&self.unavailable) {
            Ok(()) => {
                let value = match mutation.change {
                    Some(v1::mutation::Change::Raw(raw)) => Some(raw.to_vec()),
                    _ => None,
                };
                self.writes.lock().unwrap().push((mutation.changelog_id, value));
                v1::verdict::Outcome::Written(v1::Written::default())
            }
            Err(status) => v1::verdict::Outcome::Error((&status).into()),
        };
        v1::Verdict { id: mutation.id, outcome: Some(outcome) }
    }
}

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl server::ChangelogService for Service {
    async fn set(&self, request: Request<v1::SetRequest>) -> Result<Response<v1::SetResponse>, Status> {
        self.refusal(&self.unavailable)?;
        let request = request.into_inner();
        let Some(v1::set_request::Value::Raw(value)) = request.value else { return Err(Status::internal("no value")) };
        self.writes.lock().unwrap().push((request.changelog_id, Some(value.to_vec())));
        Ok(Response::new(v1::SetResponse::default()))
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
        self.refusal(&self.unavailable)?;
        self.writes.lock().unwrap().push((request.into_inner().changelog_id, None));
        Ok(Response::new(v1::DeleteResponse::default()))
    }

    async fn flush(&self, _: Request<v1::FlushRequest>) -> Result<Response<v1::FlushResponse>, Status> {
        Ok(Response::new(v1::FlushResponse { remaining: 1, ..Default::default() }))
    }

    type LoadWorkspaceStream = Answer<v1::LoadWorkspaceResponse>;

    async fn load_workspace(
        &self,
        _: Request<v1::LoadWorkspaceRequest>,
    ) -> Result<Response<Self::LoadWorkspaceStream>, Status> {
        let entry = v1::Entry { key: "w/t/a".to_owned(), ..Default::default() };
        let batch = v1::load_workspace_response::Event::Batch(vec![entry].into());
        // An end without a Snapshot.
        let events = [Ok(v1::LoadWorkspaceResponse { event: Some(batch) })];
        Ok(Response::new(Box::pin(futures_util::stream::iter(events))))
    }

    type StreamAllStream = Answer<v1::StreamAllResponse>;

    async fn stream_all(
        &self,
        request: Request<v1::StreamAllRequest>,
    ) -> Result<Response<Self::StreamAllStream>, Status> {
        use v1::stream_all_response::Event;
        if request.into_inner().follow {
            self.follows.notify_one();
            return Ok(Response::new(Box::pin(futures_util::stream::pending())));
        }
        let event = |event| Ok(v1::StreamAllResponse { event: Some(event) });
        let events = match self.entries.clone() {
            none if none.is_empty() => vec![],
            some => vec![event(Event::Batch(some.into())), event(Event::Snapshot(v1::Snapshot::default()))],
        };
        Ok(Response::new(Box::pin(futures_util::stream::iter(events))))
    }

    async fn describe(&self, _: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        let limits = v1::Limits { max_request_bytes: self.max_request_bytes, ..Default::default() };
        Ok(Response::new(v1::DescribeResponse { limits: Some(limits), ..Default::default() }))
    }

    async fn get(&self, _: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        Err(Status::not_found("absent"))
    }

    type WriteStream = Answer<v1::WriteResponse>;

    async fn write(
        &self,
        request: Request<tonic::Streaming<v1::WriteRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        if let Err(status) = self.refusal(&self.refused_streams) {
            if !self.ours {
                // What was not sent would be sent again.
                let _ = request.into_inner().message().await;
            }
            return Err(status);
        }
        let service = self.clone();
        let answer = move |message: Result<v1::WriteRequest, Status>| {
            let service = service.clone();
            async move {
                let mutations = message?.mutations;
                if service.silent {
                    std::future::pending::<()>().await;
                }
                let verdicts = mutations.into_iter().map(|mutation| service.verdict(mutation));
                Ok(v1::WriteResponse { verdicts: verdicts.collect() })
            }
        };
        Ok(Response::new(Box::pin(request.into_inner().then(answer))))
    }

    type WatchStream = Answer<v1::WatchResponse>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        self.follows.notify_one();
        Ok(Response::new(Box::pin(futures_util::stream::pending())))
    }
}

fn count(number: u32) -> Arc<AtomicU32> {
    Arc::new(number.into())
}

async fn serve(service: Service) -> (SocketAddr, Arc<Service>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = Arc::new(service);
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let api = server::ChangelogServiceServer::from_arc(service.clone()).max_decoding_message_size(usize::MAX);
    tokio::spawn(Server::builder().add_service(api).serve_with_incoming(incoming));
    (address, service)
}

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: ClientCommand,
}

async fn exit(address: SocketAddr, arguments: &[&str]) -> ExitCode {
    let addr = format!("--addr={address}");
    let whole = [&["x", arguments[0], &addr], &arguments[1..]].concat();
    run(Cli::try_parse_from(whole).unwrap_or_else(|e| panic!("{e}")).command).await
}

fn is(code: ExitCode, expected: u8) -> bool {
    format!("{code:?}") == format!("{:?}", ExitCode::from(expected))
}

/// Covers C19, C22, C69.
#[tokio::test]
async fn exit_statuses_tell_failed_from_unavailable() {
    let (address, _) = serve(Service { unavailable: count(1), ..Service::default() }).await;
    assert!(is(exit(address, &["set", "w/t/a", "1"]).await, 69));
    assert!(is(exit(address, &["set", "w/t/a", "1"]).await, 0));
    assert!(is(exit(address, &["get", "w/t/a"]).await, 1));
    assert!(is(exit(address, &["flush"]).await, 1), "writes remain");
    assert!(is(exit(address, &["load", "w"]).await, 1), "a load without its Snapshot is incomplete");
    assert!(is(exit(address, &["stream"]).await, 1));
    assert!(is(exit(address, &["export"]).await, 1));
    assert!(is(exit(address, &["set", "w/t/a", "@/nonexistent"]).await, 64));
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert!(is(exit(closed, &["get", "w/t/a"]).await, 69));
}

/// Covers C65.
#[tokio::test]
async fn an_incomplete_export_leaves_no_file() {
    let (address, _) = serve(Service::default()).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("all.jsonl");
    assert!(is(exit(address, &["export", file.to_str().unwrap()]).await, 1));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

async fn import(service: Service, lines: &str, arguments: &[&str]) -> (ExitCode, Arc<Service>) {
    let (address, service) = serve(service).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, lines.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap();
    let code = exit(address, &[&["import", path], arguments].concat()).await;
    (code, service)
}

/// Covers C65.
#[tokio::test]
async fn import_applies_the_lines_of_one_key_in_file_order() {
    use std::fmt::Write;
    let mut lines = String::new();
    for n in 0..500 {
        let _ = writeln!(lines, "{{\"key\":\"w/t/{}\",\"value\":{{ \"n\":{n} }}}}", n % 7);
    }
    lines.push_str("{\"key\":\"w/t/3\",\"deleted\":true}\n\n{\"snapshot\":{}}\n");
    let (code, service) = import(Service::default(), &lines, &[]).await;
    assert!(is(code, 0));
    let writes = service.writes.lock().unwrap();
    assert_eq!(writes.len(), 501);
    for key in 0..7 {
        let of_key: Vec<_> =
            writes.iter().filter(|(k, _)| *k == format!("w/t/{key}")).map(|(_, v)| v.clone()).collect();
        let mut expected: Vec<_> =
            (0..500).filter(|n| n % 7 == key).map(|n| Some(format!("{{ \"n\":{n} }}").into_bytes())).collect();
        expected.extend((key == 3).then_some(None));
        assert_eq!(of_key, expected);
    }
}

/// Covers C54, C56, C65.
#[tokio::test]
async fn import_retries_only_writes_that_were_certainly_not_written() {
    let line = "{\"key\":\"w/t/a\",\"value\":1}\n";
    let (code, service) = import(Service { unavailable: count(3), ours: true, ..Service::default() }, line, &[]).await;
    assert!(is(code, 0));
    assert_eq!(service.writes.lock().unwrap().len(), 1);
    let (code, service) = import(Service { unavailable: count(1), ..Service::default() }, line, &[]).await;
    assert!(is(code, 1), "a proxy's UNAVAILABLE says nothing about what was written");
    assert_eq!(service.writes.lock().unwrap().len(), 0);
}

/// Covers C65.
#[tokio::test]
async fn bad_lines_are_reported_and_stop_the_import_at_a_limit() {
    let good = "{\"key\":\"w/t/a\",\"value\":1}\n";
    let (code, service) = import(Service::default(), &format!("{{\n{good}nonsense\n"), &[]).await;
    assert!(is(code, 1));
    assert_eq!(service.writes.lock().unwrap().len(), 1);
    let (code, service) = import(Service::default(), &format!("{{\n{good}"), &["--max-failures=1"]).await;
    assert!(is(code, 1));
    assert_eq!(service.writes.lock().unwrap().len(), 0);
}

/// Covers C54, C56, C65.
#[tokio::test]
async fn import_opens_a_stream_again_that_ended_before_anything_was_written() {
    let lines = "{\"key\":\"w/t/a\",\"value\":1}\n{\"key\":\"w/t/b\",\"value\":null}\n";
    let refused = |ours| Service { refused_streams: count(2), ours, ..Service::default() };
    let (code, service) = import(refused(true), lines, &[]).await;
    assert!(is(code, 0));
    let null = Some(b"null".to_vec());
    assert_eq!(
        *service.writes.lock().unwrap(),
        [("w/t/a".to_owned(), Some(b"1".to_vec())), ("w/t/b".to_owned(), null)]
    );
    let (code, service) = import(refused(true), lines, &["--retry-for=1ms"]).await;
    assert!(is(code, 1), "it is sent again for a limited time");
    assert_eq!(service.writes.lock().unwrap().len(), 0);
    let (code, service) = import(refused(false), lines, &["--max-failures=1"]).await;
    assert!(is(code, 1), "a proxy's UNAVAILABLE says nothing about what was written");
    assert_eq!(service.writes.lock().unwrap().len(), 0);
}

/// Covers C65, C69.
#[tokio::test]
async fn import_gives_up_a_server_that_answers_nothing() {
    let lines: Vec<_> = (0..1_000).map(|n| format!("{{\"key\":\"w/t/{n}\",\"value\":1}}\n")).collect();
    let silent = Service { silent: true, ..Service::default() };
    let (code, service) = import(silent, &lines.concat(), &["--timeout=100ms", "--max-failures=1"]).await;
    assert!(is(code, 1));
    assert_eq!(service.writes.lock().unwrap().len(), 0);
}

/// Covers C65.
#[tokio::test]
async fn import_does_not_send_what_would_end_the_stream() {
    let value = "x".repeat(5_000_000);
    let lines = format!("{{\"key\":\"w/t/a\",\"value\":\"{value}\"}}\n{{\"key\":\"w/t/b\",\"value\":1}}\n");
    for (max_request_bytes, written) in [(4_500_000, 1), (6_000_000, 2)] {
        let (code, service) = import(Service { max_request_bytes, ..Service::default() }, &lines, &[]).await;
        assert!(is(code, u8::from(written < 2)));
        assert_eq!(service.writes.lock().unwrap().len(), written);
    }
}

/// Covers C16, C65.
#[tokio::test]
async fn an_export_that_can_not_be_imported_leaves_no_file() {
    let header = |key: &str| v1::Header { key: key.to_owned(), value: None };
    let value = || Some(v1::entry::Value::Raw("1".into()));
    for (headers, value, status) in [
        (vec![header("h"), header("h")], value(), 0),
        (vec![header("")], value(), 1),
        (vec![header("h"); 65], value(), 1),
        (vec![header(&"h".repeat(20_000))], value(), 1),
        (vec![], None, 1),
    ] {
        let entries = vec![v1::Entry { key: "w/t/a".to_owned(), headers, value, ..Default::default() }];
        let (address, _) = serve(Service { entries, ..Service::default() }).await;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("all.jsonl");
        assert!(is(exit(address, &["export", file.to_str().unwrap()]).await, status));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), usize::from(status == 0));
        assert!(is(exit(address, &["export"]).await, status), "also in a pipe");
    }
}

/// Covers C68.
#[tokio::test]
async fn health_is_69_whatever_else_than_a_serving_sidecar_is_at_the_address() {
    // A server of HTTP/1, one that closes at once, and a gRPC server without the health service.
    for answer in [Some(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..]), Some(b""), None] {
        let address = match answer {
            None => serve(Service::default()).await.0,
            Some(answer) => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                tokio::spawn(async move {
                    while let Ok((mut connection, _)) = listener.accept().await {
                        let _ = tokio::io::AsyncWriteExt::write_all(&mut connection, answer).await;
                    }
                });
                address
            }
        };
        assert!(is(exit(address, &["health", "--timeout=5s"]).await, 69), "{answer:?}");
    }
}

/// Covers C69.
#[tokio::test]
async fn a_follower_of_a_lost_connection_ends_as_unavailable_once_a_ping_is_not_answered() {
    let (address, service) = serve(Service::default()).await;
    for arguments in [&["watch", "w"][..], &["stream", "--follow"]] {
        let proxy = Proxy::start(&address.to_string());
        let proxied = proxy.address().parse().unwrap();
        let lost = async {
            service.follows.notified().await;
            proxy.set(Mode::HalfOpen);
            // The clock jumps from timer to timer when nothing else is to be done.
            pause();
            Instant::now()
        };
        let ended = timeout(10 * (KEEPALIVE + KEEPALIVE_TIMEOUT), exit(proxied, arguments));
        let (code, since) = tokio::join!(ended, lost);
        let (code, took) = (code.expect("it ends"), since.elapsed());
        resume();
        assert!(is(code, 69), "{arguments:?}: {code:?}");
        // The timers of tokio are exact to a millisecond.
        assert!(took <= KEEPALIVE + KEEPALIVE_TIMEOUT + Duration::from_secs(1), "{arguments:?}: {took:?}");
        assert!(took >= KEEPALIVE_TIMEOUT, "{arguments:?}: {took:?}");
    }
}
