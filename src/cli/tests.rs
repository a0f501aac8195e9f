//! The commands against a service that misbehaves on purpose. The tests of the process run them against the real one.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use clap::Parser;
use futures_util::Stream;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

use super::*;
use crate::proto::v1::{self, changelog_service_server as server};

#[derive(Default)]
struct Service {
    /// The number of writes that are answered with UNAVAILABLE first.
    unavailable: AtomicU32,
    /// Whether that carries our ErrorInfo.
    ours: bool,
    writes: Mutex<Vec<(String, Option<Vec<u8>>)>>,
}

impl Service {
    fn refusal(&self) -> Result<(), Status> {
        let before = self.unavailable.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match (before, self.ours) {
            (Err(_), _) => Ok(()),
            (Ok(_), true) => {
                let details = ErrorDetails::with_error_info("BROKERS_UNREACHABLE", "changelogd", HashMap::new());
                Err(Status::with_error_details(tonic::Code::Unavailable, "nothing was written", details))
            }
            (Ok(_), false) => Err(Status::unavailable("a proxy")),
        }
    }
}

type Answer<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl server::ChangelogService for Service {
    async fn set(&self, request: Request<v1::SetRequest>) -> Result<Response<v1::SetResponse>, Status> {
        self.refusal()?;
        let request = request.into_inner();
        let Some(v1::set_request::Value::Raw(value)) = request.value else { return Err(Status::internal("no value")) };
        self.writes.lock().unwrap().push((request.changelog_id, Some(value.to_vec())));
        Ok(Response::new(v1::SetResponse::default()))
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Result<Response<v1::DeleteResponse>, Status> {
        self.refusal()?;
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

    async fn stream_all(&self, _: Request<v1::StreamAllRequest>) -> Result<Response<Self::StreamAllStream>, Status> {
        Ok(Response::new(Box::pin(futures_util::stream::empty())))
    }

    async fn describe(&self, _: Request<v1::DescribeRequest>) -> Result<Response<v1::DescribeResponse>, Status> {
        Ok(Response::new(v1::DescribeResponse::default()))
    }

    async fn get(&self, _: Request<v1::GetRequest>) -> Result<Response<v1::GetResponse>, Status> {
        Err(Status::not_found("absent"))
    }

    type WriteStream = Answer<v1::WriteResponse>;

    async fn write(
        &self,
        _: Request<tonic::Streaming<v1::WriteRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        Err(Status::unimplemented(""))
    }

    type WatchStream = Answer<v1::WatchResponse>;

    async fn watch(&self, _: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

async fn serve(service: Service) -> (SocketAddr, Arc<Service>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = Arc::new(service);
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let api = server::ChangelogServiceServer::from_arc(service.clone());
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
    let (address, _) = serve(Service { unavailable: 1.into(), ..Service::default() }).await;
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
    let (code, service) = import(Service { unavailable: 3.into(), ours: true, ..Service::default() }, line, &[]).await;
    assert!(is(code, 0));
    assert_eq!(service.writes.lock().unwrap().len(), 1);
    let (code, service) = import(Service { unavailable: 1.into(), ..Service::default() }, line, &[]).await;
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
