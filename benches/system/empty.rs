//! A gRPC server that does nothing but answer `Set` with an answer of the usual size. It measures the cost of tonic,
//! prost and the kernel. It is this binary again, in a process of its own like the sidecar.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    process::{ExitCode, Stdio},
    task::{Context, Poll},
};

use changelogd::proto::v1;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, ChildStdin, Command},
};
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, UnaryService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

use super::sidecar::{self, Client};

#[derive(Debug, Clone, Copy)]
struct Nothing;

impl UnaryService<v1::SetRequest> for Nothing {
    type Response = v1::SetResponse;
    type Future = Ready<Result<Response<v1::SetResponse>, Status>>;

    fn call(&mut self, _: Request<v1::SetRequest>) -> Self::Future {
        let position = v1::Position { partition: 7, offset: 123_456 };
        let timestamp = prost_types::Timestamp { seconds: 1_790_000_000, nanos: 123_000_000 };
        ready(Ok(Response::new(v1::SetResponse { position: Some(position), timestamp: Some(timestamp) })))
    }
}

/// Every path is `Set`.
#[derive(Debug, Clone, Copy)]
struct Service;

impl NamedService for Service {
    const NAME: &'static str = "changelog.v1.ChangelogService";
}

impl tower::Service<http::Request<Body>> for Service {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<v1::SetResponse, v1::SetRequest>::default());
            Ok(grpc.unary(Nothing, request).await)
        })
    }
}

/// The main function of the process: prints its address, and serves until its standard input ends.
pub async fn serve() -> ExitCode {
    let incoming = match TcpIncoming::bind(([127, 0, 0, 1], 0).into()) {
        Ok(incoming) => incoming.with_nodelay(Some(true)),
        Err(error) => {
            eprintln!("no port: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", incoming.local_addr().map(|address| address.to_string()).unwrap_or_default());
    let ended = async {
        let _ = tokio::io::stdin().read(&mut [0]).await;
    };
    match Server::builder().add_service(Service).serve_with_incoming_shutdown(incoming, ended).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A running server. It ends when this is dropped.
pub struct Empty {
    child: Child,
    address: String,
    /// The process ends when this is closed, also if this process is killed.
    _alive: ChildStdin,
}

impl Empty {
    pub async fn start() -> Result<Self, String> {
        let this = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new(this)
            .arg("--empty-server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("the empty server does not start: {error}"))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(alive), Some(stdout)) = (stdin, stdout) else {
            return Err("the empty server has no pipes".to_owned());
        };
        let address = BufReader::new(stdout).lines().next_line().await.map_err(|error| error.to_string())?;
        let address = address.ok_or("the empty server says no address")?;
        Ok(Self { child, address, _alive: alive })
    }

    pub fn client(&self) -> Client {
        sidecar::client(&self.address)
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }
}
