//! The transport: connections, their limits, and their drain.
//!
//! It uses hyper directly, because tonic's server does not fit for four reasons:
//!
//! - It answers `grpc-timeout` with CANCELLED. The contract says DEADLINE_EXCEEDED.
//! - It leaves streaming bodies without a deadline.
//! - It switches off hyper's limits on resets and streams, unless each is set.
//! - It waits for connections without limit when it stops.
//!
//! Promises: connections, streams and unread bytes are limited; a stop ends at its deadline, and counts what it cut.
//! Does not: know what an RPC does.

mod admin;
mod health;
mod listener;
mod observe;

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::Instant,
};
use tonic::{codec::CompressionEncoding, service::Routes};

pub use admin::serve_admin;
pub use health::Health;
pub use listener::{Io, Listener};

use crate::{
    metrics::Metrics,
    proto::{self, v1::changelog_service_server::ChangelogServiceServer},
    service::{Peer, Service},
};
use observe::CallService;

/// Limits on connections. Sources: hyper's and h2's documentation, RUSTSEC-2024-0003 (resets), CVE-2023-44487.
const MAX_CONNECTIONS: usize = 1024;
const MAX_STREAMS: u32 = 128;
const MAX_LOCAL_RESETS: usize = 1024;
const MAX_PENDING_RESETS: usize = 20;
const MAX_HEADER_LIST: u32 = 16 * 1024;
/// Unread bytes of one request, and of all requests of a connection. A `Write` stream whose client receives no verdicts
/// is not read. It must leave room for other calls of the connection.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * STREAM_WINDOW;
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The API with health and reflection.
pub fn api_routes(service: Service, health: &Health, max_request_bytes: usize) -> Routes {
    let api = ChangelogServiceServer::new(service)
        .max_decoding_message_size(max_request_bytes)
        .max_encoding_message_size(usize::MAX)
        .accept_compressed(CompressionEncoding::Gzip);
    let routes = Routes::new(api).add_service(health.server());
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let routes = match reflection().build_v1() {
        Ok(v1) => routes.add_service(v1),
        Err(error) => unreachable!("the compiled descriptors are good: {error}"),
    };
    match reflection().build_v1alpha() {
        Ok(v1alpha) => routes.add_service(v1alpha),
        Err(error) => unreachable!("the compiled descriptors are good: {error}"),
    }
}

/// Health only, for a port that can be reachable from outside the pod.
pub fn health_routes(health: &Health) -> Routes {
    Routes::new(health.server())
}

/// Serves until `stop` completes. Then it refuses new connections and streams, and waits for open calls until the
/// instant that `stop` returned. Connections that are still open are cut. Returns how many.
pub async fn serve(
    listener: Listener,
    routes: Routes,
    metrics: Arc<Metrics>,
    stop: impl Future<Output = Instant>,
) -> usize {
    let service = CallService::new(routes.prepare(), metrics);
    let mut connection_number = 0;
    let (draining, _) = watch::channel(false);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    let deadline = loop {
        let accepted = async {
            // At the limit, new connections wait in the listen queue of the system.
            let slot = slots.clone().acquire_owned().await;
            (listener.accept().await, slot)
        };
        tokio::select! {
            deadline = &mut stop => break deadline,
            Some(_) = connections.join_next() => {}
            (accepted, slot) = accepted => match accepted {
                Ok((io, address)) => {
                    connection_number += 1;
                    let peer = address.map_or(Peer::Connection(connection_number), Peer::Address);
                    let connection = serve_connection(io, service.for_peer(peer), draining.subscribe());
                    connections.spawn(async move {
                        let _slot = slot;
                        connection.await;
                    });
                }
                Err(error) => {
                    // Most often no file descriptors are left. The pause avoids a busy loop.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    };
    drop(listener);
    draining.send_replace(true);
    let all_closed = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout_at(deadline, all_closed).await;
    let cut = connections.len();
    connections.shutdown().await;
    cut
}

async fn serve_connection(io: Box<dyn Io>, service: CallService<Routes>, mut draining: watch::Receiver<bool>) {
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_header_list_size(MAX_HEADER_LIST)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
    let mut connection = pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = async { let _ = draining.wait_for(|d| *d).await; } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        // Clients that speak HTTP/1.1, TLS or something else end here, too. That is not an error of the server.
        tracing::debug!(%error, "a connection ended");
    }
}
