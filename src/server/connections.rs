//! A port: accepts connections within its limits, and closes them on a stop.
//!
//! hyper is used directly, because tonic's server does not fit for these reasons:
//!
//! - It always installs its own timeout, which answers `grpc-timeout` with CANCELLED and ends with the head of the
//!   response. The contract says DEADLINE_EXCEEDED, also for the messages of a stream.
//! - When it stops, it waits for connections without limit. They can be neither cut nor counted.
//! - After an error it accepts the next connection at once. Without file descriptors that is a busy loop.
//! - It does not limit the number of connections. Limits of hyper on resets and streams that are not set are off.
//!
//! hyper-util's `GracefulShutdown` does not fit either: it closes all connections at once, and a port also has to close
//! a single one.
//!
//! Promises: connections, streams and unread bytes are limited. A full port serves new connections, as long as one of
//! the others has no call. A stop ends at its deadline, and counts the connections that it cut.

use std::{future::Future, io, net::IpAddr, pin::pin, sync::Arc, time::Duration};

use hyper::server::conn::{http1, http2};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
    service::TowerToHyperService,
};
use tokio::{
    task::JoinSet,
    time::{Instant, Interval, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{
    activity::Activity,
    admin::AdminService,
    connection::{self, ConnectionLimits, CountedIo, Ended},
    listener::{Io, Listener, says_nothing},
    observe::CallService,
    open_connections::{ConnectionCounts, MAX_WITHOUT_PLACE, OpenConnections},
    request_memory::STREAM_WINDOW,
    transport_wait::StreamExecutor,
};
use crate::{metrics::Metrics, open_files, service::Peer, telemetry::LogLimit};

/// Limits on connections. Sources: hyper's and h2's documentation, RUSTSEC-2024-0003 (resets), CVE-2023-44487.
const MAX_STREAMS: u32 = 128;
const MAX_LOCAL_RESETS: usize = 1024;
const MAX_PENDING_RESETS: usize = 20;
const MAX_HEADER_LIST: u32 = 16 * 1024;
/// The same for the health port, whose calls no memory limit counts. A probe makes one call at a time.
const MAX_PROBE_STREAMS: u32 = 8;
const MAX_PROBE_HEADER_LIST: u32 = 4 * 1024;
/// Bytes of one answer that wait for the socket.
const MAX_SEND_BUFFER: usize = 128 * 1024;
/// Unread bytes of all requests of a connection. A `Write` stream whose client receives no verdicts is not read. It
/// must leave room for other calls of the connection.
const CONNECTION_WINDOW: u32 = 16 * STREAM_WINDOW;
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause after an error of the system. Most often no file descriptors are left, and the next attempt would fail.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How often connections without a place get those that others do not use any more.
const GIVE_PLACES: Duration = Duration::from_millis(100);

/// Connections that were cut for others and have not ended yet.
const MAX_ENDING: usize = 16;

/// The preface of HTTP/2 (RFC 9113, section 3.4), and how long a client may take for it.
const PREFACE_BYTES: usize = 24;
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client of the admin port may take for the head of a request, and be silent between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// A port, before it is served.
#[derive(Debug)]
pub struct Port {
    /// `api`, `health` or `admin`, in metrics and the log.
    pub name: &'static str,
    pub listener: Listener,
    pub counts: ConnectionCounts,
    pub idle_timeout: Duration,
    pub client_stall_timeout: Duration,
    pub metrics: Arc<Metrics>,
    pub log_limit: Arc<LogLimit<PortEvent>>,
}

/// What a port may report many times a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortEvent {
    pub port: &'static str,
    pub what: &'static str,
}

impl Port {
    /// The health port and the admin port are for probes and metrics.
    #[must_use]
    pub fn for_probes(mut self) -> Self {
        let max = open_files::max_probe_connections(open_files::limit());
        self.counts = ConnectionCounts { max, max_per_client: Some(max / 4) };
        self
    }

    /// Serves gRPC.
    pub async fn serve_grpc(self, service: CallService, stop: impl Future<Output = Instant>) -> usize {
        let executor = StreamExecutor { limit: self.client_stall_timeout };
        let (max_streams, max_header_list) = if service.is_for_probes() {
            (MAX_PROBE_STREAMS, MAX_PROBE_HEADER_LIST)
        } else {
            (MAX_STREAMS, MAX_HEADER_LIST)
        };
        let connection = |io, peer, activity: &Arc<Activity>| {
            http2::Builder::new(executor)
                .timer(TokioTimer::new())
                .max_concurrent_streams(max_streams)
                .max_local_error_reset_streams(MAX_LOCAL_RESETS)
                .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
                .max_header_list_size(max_header_list)
                .max_send_buf_size(MAX_SEND_BUFFER)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .keep_alive_interval(KEEPALIVE)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)
                .serve_connection(TokioIo::new(io), TowerToHyperService::new(service.for_connection(peer, activity)))
        };
        self.serve(connection, PREFACE_BYTES, stop).await
    }

    /// Serves HTTP/1.1.
    pub async fn serve_http(self, router: axum::Router, stop: impl Future<Output = Instant>) -> usize {
        let connection = |io, _, activity: &Arc<Activity>| {
            let service = AdminService::new(router.clone(), activity);
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(io), TowerToHyperService::new(service))
        };
        self.serve(connection, 1, stop).await
    }

    /// Serves until `stop` completes. Then it accepts no more connections, and waits for open calls until the instant
    /// that `stop` returned. Connections that are still open are cut. Returns how many.
    async fn serve<C>(
        self,
        connection: impl Fn(CountedIo, Peer, &Arc<Activity>) -> C,
        first_bytes: usize,
        stop: impl Future<Output = Instant>,
    ) -> usize
    where
        C: GracefulConnection<Error = hyper::Error> + Send + 'static,
    {
        let limits = ConnectionLimits {
            first_bytes,
            first_bytes_timeout: FIRST_BYTES_TIMEOUT,
            idle_timeout: self.idle_timeout,
            write_timeout: self.client_stall_timeout,
        };
        let mut port = Serving {
            connections: OpenConnections::new(self.counts),
            running: JoinSet::new(),
            stopped: CancellationToken::new(),
            limits,
            connection,
            port: self,
        };
        port.port.metrics.set_connections_limit(port.port.name, port.port.counts.max);
        let mut stop = pin!(stop);
        let mut give_places = give_places_timer();
        let deadline = loop {
            tokio::select! {
                deadline = &mut stop => break deadline,
                Some(ended) = port.running.join_next() => port.ended(ended.ok()),
                _ = give_places.tick(), if port.connections.are_some_without_place() => port.connections.give_places(),
                // Connections that gave their place end soon. Until then they have a descriptor.
                accepted = port.port.listener.accept(), if port.running.len() < port.most_running() => match accepted {
                    Ok((io, client)) => port.start(io, client),
                    Err(error) => port.accept_failed(&error).await,
                },
            }
        };
        while let Some(ended) = port.running.try_join_next() {
            port.ended(ended.ok());
        }
        // Clients whose connections wait to be accepted may have sent calls already.
        port.port.listener.shorten_queue();
        let room = port.most_running().saturating_sub(port.running.len());
        for (io, client) in port.port.listener.waiting(room) {
            port.start(io, client);
        }
        port.close(deadline).await
    }
}

/// It is asked only while some connection has no place. The ticks that it has missed until then are left out: they
/// would come at once, and each looks at all connections.
fn give_places_timer() -> Interval {
    let mut timer = tokio::time::interval(GIVE_PLACES);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}

/// A port that is served.
struct Serving<F> {
    port: Port,
    connection: F,
    limits: ConnectionLimits,
    connections: OpenConnections,
    running: JoinSet<(u64, Ended)>,
    stopped: CancellationToken,
}

impl<F, C> Serving<F>
where
    F: Fn(CountedIo, Peer, &Arc<Activity>) -> C,
    C: GracefulConnection<Error = hyper::Error> + Send + 'static,
{
    /// Connections that may exist at the same time, with those that are about to end.
    fn most_running(&self) -> usize {
        self.port.counts.max + MAX_WITHOUT_PLACE + MAX_ENDING
    }

    fn start(&mut self, io: Box<dyn Io>, client: Option<IpAddr>) {
        let full = self.connections.count() >= self.port.counts.max;
        if full {
            self.warn("the port has all connections that it may have; those without a call make room for new ones");
        }
        let admitted = self.connections.admit(client);
        if !admitted.activity.had_place() {
            self.warn("the calls of a connection are refused: the port has all that it may have, and each has a call");
        }
        let peer = client.map_or(Peer::Connection(admitted.number), Peer::Address);
        let io = CountedIo::new(io, admitted.activity.clone());
        let connection = (self.connection)(io, peer, &admitted.activity);
        let (number, limits, stopped) = (admitted.number, self.limits, self.stopped.clone());
        self.running.spawn(async move { (number, connection::run(connection, admitted, limits, stopped).await) });
        self.port.metrics.set_connections(self.port.name, self.connections.count());
    }

    fn ended(&mut self, ended: Option<(u64, Ended)>) {
        // A connection that panicked gives its place to another one later.
        if let Some((number, ended)) = ended {
            self.connections.ended(number);
            self.port.metrics.connection_ended(self.port.name, ended.label());
        }
        self.port.metrics.set_connections(self.port.name, self.connections.count());
    }

    async fn accept_failed(&mut self, error: &io::Error) {
        if says_nothing(error) {
            return;
        }
        if self.port.log_limit.admits(PortEvent { port: self.port.name, what: "a connection could not be accepted" }) {
            tracing::warn!(port = self.port.name, %error, "a connection could not be accepted");
        }
        // Its descriptor is free when its task has ended.
        self.connections.cut_one();
        tokio::time::sleep(ACCEPT_RETRY).await;
    }

    fn warn(&self, what: &'static str) {
        if self.port.log_limit.admits(PortEvent { port: self.port.name, what }) {
            tracing::warn!(port = self.port.name, connections = self.connections.count(), "{what}");
        }
    }

    /// Closes every connection: at once if it has no call, else after its last one.
    async fn close(self, deadline: Instant) -> usize {
        let Self { port, mut running, stopped, .. } = self;
        drop(port.listener);
        stopped.cancel();
        // Joining removes the tasks that have ended, so that only cut connections are counted.
        let joined = async { while running.join_next().await.is_some() {} };
        let _ = tokio::time::timeout_at(deadline, joined).await;
        let cut = running.len();
        running.shutdown().await;
        port.metrics.set_connections(port.name, 0);
        cut
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// Covers S16.
    #[tokio::test(start_paused = true)]
    async fn a_port_that_was_not_full_for_a_long_time_gives_places_once() {
        let mut timer = give_places_timer();
        tokio::time::advance(Duration::from_secs(24 * 60 * 60)).await;
        let at_once = (0..100).take_while(|_| timer.tick().now_or_never().is_some()).count();
        assert_eq!(at_once, 1);
        let waited_from = Instant::now();
        timer.tick().await;
        assert_eq!(waited_from.elapsed(), GIVE_PLACES);
    }
}
