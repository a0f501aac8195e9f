//! One connection: when the server closes it.
//!
//! Promises: a connection is closed if its first bytes do not come in time, or if it has no call for too long. It is
//! closed if another connection has its place, and on a stop. None of these cuts an open call of the API. A call that
//! comes meanwhile is answered. After the last frame no call begins.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::FutureExt;
use hyper_util::server::graceful::GracefulConnection;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{activity::Activity, listener::Io, open_connections::Admitted};

/// How long a connection that is being closed may take to pass on its last frames, and to learn of its end.
const CLOSE_GRACE: Duration = Duration::from_millis(500);

/// Bytes that are read on after the last frame: what the windows of a connection let a client send, and metadata.
const MAX_READ_ON: usize = 8 * 1024 * 1024;

/// A younger connection has most likely been made for a call that is on its way. The call may take this long to arrive.
const NEW_CONNECTION: Duration = Duration::from_secs(1);
const FIRST_CALL_GRACE: Duration = Duration::from_millis(250);

/// When a connection is closed.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Bytes that a client sends before anything else.
    pub first_bytes: usize,
    pub first_bytes_timeout: Duration,
    pub idle_timeout: Duration,
    /// How long the socket may take no bytes although some wait. Then the client reads nothing.
    pub write_timeout: Duration,
}

/// Why a connection ended. The text is the label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The client closed it, or broke the protocol.
    ByClient,
    NoFirstBytes,
    Idle,
    /// It does not read what is sent.
    NotReading,
    /// Another connection took its place.
    Displaced,
    /// It never had a place.
    Refused,
    Stopped,
}

impl Ended {
    pub fn label(self) -> &'static str {
        match self {
            Self::ByClient => "client",
            Self::NoFirstBytes => "no_first_bytes",
            Self::Idle => "idle",
            Self::NotReading => "not_reading",
            Self::Displaced => "displaced",
            Self::Refused => "refused",
            Self::Stopped => "stop",
        }
    }
}

/// Runs a connection until it ends.
pub async fn run<C>(connection: C, admitted: Admitted, limits: ConnectionLimits, stopped: CancellationToken) -> Ended
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let Admitted { activity, cut, .. } = admitted;
    let ended = run_until_closed(connection, &activity, limits, cut, stopped).await;
    if activity.had_place() { ended } else { Ended::Refused }
}

async fn run_until_closed<C>(
    connection: C,
    activity: &Activity,
    limits: ConnectionLimits,
    cut: CancellationToken,
    stopped: CancellationToken,
) -> Ended
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        result = &mut connection => {
            if let Err(error) = result {
                // Clients that speak HTTP/1.1, TLS or something else end here, too. That is not an error of the server.
                tracing::debug!(%error, "a connection ended");
            }
            return Ended::ByClient;
        }
        ended = too_quiet(activity, limits) => ended,
        () = not_reading(activity, limits.write_timeout) => return Ended::NotReading,
        () = without_place(activity) => Ended::Displaced,
        () = cut.cancelled() => Ended::Displaced,
        () = stopped.cancelled() => Ended::Stopped,
    };
    if ended == Ended::NoFirstBytes || ended == Ended::Displaced && activity.bytes_read() < limits.first_bytes {
        return ended;
    }
    if ended == Ended::Stopped && activity.is_new(NEW_CONNECTION) {
        // After a GOAWAY the client's library would not send the call for which it has connected.
        tokio::select! {
            _ = &mut connection => return Ended::ByClient,
            () = sleep(FIRST_CALL_GRACE) => {}
        }
    }
    connection.as_mut().graceful_shutdown();
    if cut.is_cancelled() {
        // Sends what it can send at once: GOAWAY. The place is needed now.
        let _ = connection.now_or_never();
        return ended;
    }
    tokio::select! {
        _ = &mut connection => {}
        () = quiet(activity) => {}
        () = not_reading(activity, limits.write_timeout) => {}
        () = cut.cancelled() => {}
    }
    ended
}

/// Completes when the connection has no place, and no call comes any more. Calls that come before are refused with the
/// reason. After a GOAWAY, libraries fail some calls without one.
async fn without_place(activity: &Activity) {
    loop {
        activity.place_lost().await;
        let quiet_since = activity.idle_since().unwrap_or_else(Instant::now);
        sleep_until(quiet_since + FIRST_CALL_GRACE).await;
        if activity.leave(FIRST_CALL_GRACE) {
            return;
        }
    }
}

/// Completes when the socket has taken no bytes for too long although some wait. The transport buffers answers for it,
/// so their streams may have ended.
async fn not_reading(activity: &Activity, timeout: Duration) {
    loop {
        let now = Instant::now();
        let until = activity.write_blocked_since().unwrap_or(now) + timeout;
        if until <= now {
            return;
        }
        sleep_until(until).await;
    }
}

/// Completes when the first bytes are late, or no call has been open for too long.
async fn too_quiet(activity: &Activity, limits: ConnectionLimits) -> Ended {
    let first_bytes_until = Instant::now() + limits.first_bytes_timeout;
    loop {
        let now = Instant::now();
        let idle_until = activity.idle_since().unwrap_or(now) + limits.idle_timeout;
        let has_begun = activity.bytes_read() >= limits.first_bytes;
        if !has_begun && first_bytes_until <= now {
            return Ended::NoFirstBytes;
        }
        if idle_until <= now {
            return Ended::Idle;
        }
        sleep_until(if has_begun { idle_until } else { idle_until.min(first_bytes_until) }).await;
    }
}

/// Completes when no call has been open for a moment.
async fn quiet(activity: &Activity) {
    loop {
        activity.idle().await;
        let Some(since) = activity.idle_since() else { continue };
        sleep_until(Instant::now().max(since) + CLOSE_GRACE).await;
        if activity.idle_since() == Some(since) {
            return;
        }
    }
}

/// The bytes of a connection. Counts what is read.
///
/// Promise: a client that is still sending when the server closes the connection receives the last frames, which say
/// why. If a socket with unread bytes is closed, the system resets the connection, and writes of the client fail.
pub struct CountedIo {
    io: Box<dyn Io>,
    activity: Arc<Activity>,
    read_on: Option<ReadOn>,
}

/// The limits of what is read after the last frame.
struct ReadOn {
    until: Pin<Box<Sleep>>,
    left: usize,
}

impl CountedIo {
    pub fn new(io: Box<dyn Io>, activity: Arc<Activity>) -> Self {
        Self { io, activity, read_on: None }
    }

    /// Reads until the client has closed its side, or a limit is reached.
    fn poll_read_on(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = || Box::pin(sleep(CLOSE_GRACE));
        let limits = self.read_on.get_or_insert_with(|| ReadOn { until: until(), left: MAX_READ_ON });
        let mut bytes = [0; 4096];
        while limits.left > 0 && limits.until.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut bytes);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                break;
            }
            limits.left = limits.left.saturating_sub(buf.filled().len());
        }
        Poll::Ready(())
    }
}

impl AsyncRead for CountedIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.activity.count_read(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for CountedIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.activity.set_write_blocked(written.is_pending());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, slices);
        self.activity.set_write_blocked(written.is_pending());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // HTTP/2 passes on the calls that it has read before the error that closes the connection.
        self.activity.close();
        if self.read_on.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
        }
        self.poll_read_on(cx).map(Ok)
    }
}
