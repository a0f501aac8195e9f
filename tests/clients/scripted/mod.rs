//! A server of the API that does what the name of a workspace says. `clients/BEHAVIOUR.md` has the scripts.
//!
//! Does not: keep entities. tonic's own server is not used, because it answers a call at its deadline, with CANCELLED.
//! Here a client must notice its deadline itself.

mod connection;
mod failure;
mod first_message;
mod observed;
mod reads;
mod script;
#[cfg(test)]
mod tests;
mod watches;
mod writes;

use std::{io, net::SocketAddr, sync::Arc};

use connection::Connection;
use first_message::FirstMessage;
use futures_util::{StreamExt, stream};
use hyper::{
    server::conn::http2,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use observed::Observed;
use reads::{Answer, End};
use script::{no_script, script_of, workspace_of};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Request, Response, Status, Streaming, codec::CompressionEncoding, codegen::BoxStream};
use writes::Write;

use crate::api::{
    LoadWorkspaceResponse, WatchResponse,
    v1::{
        Entry, FlushRequest, FlushResponse, GetRequest, GetResponse, LoadWorkspaceRequest, SetRequest, SetResponse,
        StreamAllRequest, StreamAllResponse, WatchRequest, WriteRequest, WriteResponse,
        changelog_service_server::{ChangelogService, ChangelogServiceServer},
        entry::Value,
    },
};

/// What changelogd leaves unread of a stream and of a connection. A stalled stream leaves room for other calls.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Larger than any message that a test sends, so that the length of a wrong one is counted.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// A running server. It ends when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    _serving: AbortOnDropHandle<()>,
}

impl Server {
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, _serving: AbortOnDropHandle::new(tokio::spawn(serve(listener))) })
    }
}

async fn serve(listener: TcpListener) {
    let observed = Arc::<Observed>::default();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(serve_connection(stream, observed.clone()))),
                Err(error) => return eprintln!("the scripted server ends: {error}"),
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection(stream: TcpStream, observed: Arc<Observed>) {
    let _ = stream.set_nodelay(true);
    let (connection, stream) = match Connection::of(stream) {
        Ok(both) => both,
        Err(error) => return eprintln!("the scripted server loses a connection: {error}"),
    };
    let service = ChangelogServiceServer::new(Scripted { observed, connection: connection.clone() })
        .max_decoding_message_size(MAX_MESSAGE)
        .accept_compressed(CompressionEncoding::Gzip);
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    let service = TowerToHyperService::new(service);
    let watched = service_fn(move |request| service.call(FirstMessage::watched(request)));
    let serving = http2.serve_connection(TokioIo::new(stream), watched);
    connection.run(serving).await;
}

/// The service of one connection.
struct Scripted {
    observed: Arc<Observed>,
    connection: Connection,
}

#[tonic::async_trait]
impl ChangelogService for Scripted {
    async fn set(&self, request: Request<SetRequest>) -> Result<Response<SetResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let is_compressed = extensions.get::<FirstMessage>().is_some_and(FirstMessage::is_compressed);
        let workspace = workspace_of(&request.workspace_id, &request.changelog_id);
        let nth = self.observed.call(workspace, "Set", &metadata);
        match script_of(workspace) {
            "hang" => self.observed.clone().no_end(workspace.to_owned()).await,
            "disconnect" => self.connection.close().await,
            "silent" => self.connection.silence().await,
            // The metadata names the encoding of messages that are compressed.
            "gzip" if metadata.get("grpc-encoding").is_some_and(|encoding| encoding == "gzip") && is_compressed => {
                Ok(Response::new(SetResponse::default()))
            }
            script => writes::set(script, nth, &metadata).map(Response::new),
        }
    }

    async fn flush(&self, request: Request<FlushRequest>) -> Result<Response<FlushResponse>, Status> {
        Ok(Response::new(writes::flush(request.get_ref().failures_after)))
    }

    /// Not counted.
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let request = request.get_ref();
        let workspace = workspace_of(&request.workspace_id, &request.changelog_id);
        let (_, what) = request.changelog_id.split_once('/').unwrap_or_default();
        match what {
            "observed/calls" => {}
            // A client tells a server that it cancels, and gets no answer to that.
            "observed/cancelled" => self.observed.cancelled(workspace).await,
            _ => return Err(no_script(script_of(workspace))),
        }
        let counts = serde_json::to_vec(&self.observed.of(workspace));
        let value = Value::Raw(counts.map_err(|error| Status::internal(error.to_string()))?);
        let key = format!("{workspace}/{what}");
        Ok(Response::new(GetResponse { entry: Some(Entry { key, value: Some(value), ..Default::default() }) }))
    }

    async fn load_workspace(
        &self,
        request: Request<LoadWorkspaceRequest>,
    ) -> Result<Response<BoxStream<LoadWorkspaceResponse>>, Status> {
        let (metadata, _, LoadWorkspaceRequest { workspace_id, .. }) = request.into_parts();
        self.observed.call(&workspace_id, "LoadWorkspace", &metadata);
        match script_of(&workspace_id) {
            "hang" => self.observed.clone().no_end(workspace_id).await,
            "disconnect" => self.connection.close().await,
            script => Ok(self.streamed(reads::load(script, &workspace_id, &metadata)?, &workspace_id)),
        }
    }

    async fn stream_all(
        &self,
        request: Request<StreamAllRequest>,
    ) -> Result<Response<BoxStream<StreamAllResponse>>, Status> {
        let (metadata, _, request) = request.into_parts();
        let workspace = request.workspace_ids.first().map_or("", String::as_str);
        self.observed.call(workspace, "StreamAll", &metadata);
        Ok(self.streamed(reads::stream(script_of(workspace), workspace)?, workspace))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<BoxStream<WatchResponse>>, Status> {
        let (metadata, _, WatchRequest { workspace_id, resume_token, .. }) = request.into_parts();
        let nth = self.observed.call(&workspace_id, "Watch", &metadata);
        match script_of(&workspace_id) {
            "hang" => self.observed.clone().no_end(workspace_id).await,
            script => Ok(self.streamed(watches::watch(script, &workspace_id, nth, &resume_token)?, &workspace_id)),
        }
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<BoxStream<WriteResponse>>, Status> {
        let (metadata, _, messages) = request.into_parts();
        Ok(Response::new(Write::new(messages, metadata, self.observed.clone(), self.connection.clone()).verdicts()))
    }
}

impl Scripted {
    fn streamed<T: Send + 'static>(&self, answer: Answer<T>, workspace: &str) -> Response<BoxStream<T>> {
        let events = stream::iter(answer.events.into_iter().map(Ok));
        Response::new(match answer.end {
            End::Ok => Box::pin(events),
            End::Status(status) => Box::pin(events.chain(stream::iter([Err(status)]))),
            End::Never => {
                let no_end = self.observed.clone().no_end(workspace.to_owned());
                Box::pin(events.chain(stream::once(no_end)))
            }
        })
    }
}
