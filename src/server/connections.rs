//! Connections: their limits, and their drain.
//!
//! hyper is used directly, because tonic's server does not fit for these reasons:
//!
//! - It always installs its own timeout, which answers `grpc-timeout` with CANCELLED and ends with the head of the
//!   response. The contract says DEADLINE_EXCEEDED, also for the messages of a stream.
//! - When it stops, it waits for connections without limit. They can be neither cut nor counted.
//! - After an error it accepts the next connection at once. Without file descriptors that is a busy loop.
//! - It does not limit the number of connections. Limits of hyper on resets and streams that are not set are off.
//!
//! Promises: connections, streams and unread bytes are limited. A stop ends at its deadline, and counts the connections
//! that it cut.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{sync::Semaphore, task::JoinSet, time::Instant};
use tonic::service::Routes;

use super::{
    listener::{Io, Listener},
    observe::CallService,
};
use crate::{metrics::Metrics, service::Peer};

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
    let graceful = GracefulShutdown::new();
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
                    let connection = graceful.watch(connection(io, service.for_peer(peer)));
                    connections.spawn(async move {
                        let _slot = slot;
                        if let Err(error) = connection.await {
                            // Clients that speak HTTP/1.1, TLS or something else end here, too. That is not an error
                            // of the server.
                            tracing::debug!(%error, "a connection ended");
                        }
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
    let drained = async {
        // Joining removes the tasks that have ended, so that only cut connections are counted.
        let joined = async { while connections.join_next().await.is_some() {} };
        tokio::join!(graceful.shutdown(), joined)
    };
    let _ = tokio::time::timeout_at(deadline, drained).await;
    let cut = connections.len();
    connections.shutdown().await;
    cut
}

fn connection(
    io: Box<dyn Io>,
    service: CallService<Routes>,
) -> http2::Connection<TokioIo<Box<dyn Io>>, TowerToHyperService<CallService<Routes>>, TokioExecutor> {
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_header_list_size(MAX_HEADER_LIST)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(service))
}
