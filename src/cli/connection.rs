//! Connections and calls to the sidecar, with their timeouts.

use std::{error::Error, time::Duration};

use futures_util::TryFutureExt;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};
use tonic::{
    Request, Status, TimeoutExpired,
    transport::{Channel, Endpoint},
};

use super::{
    args::{ClientArgs, Target},
    failure::{Failure, causes, sources},
};
use crate::proto::v1::{self, changelog_service_client::ChangelogServiceClient};

pub type Client = ChangelogServiceClient<Channel>;

/// The timeout of a unary call without --timeout.
const UNARY: Duration = Duration::from_secs(30);
/// The timeout of a stream without --timeout. A stream that follows has none.
const STREAM: Duration = Duration::from_secs(600);
const CONNECT: Duration = Duration::from_secs(5);
/// The server is pinged this long after its last frame. A watch has no timeout, and would wait forever on a connection
/// that was lost without a sign. The client packages have the same two values.
pub const KEEPALIVE: Duration = Duration::from_secs(30);
/// A connection whose ping is not answered for this long is lost.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The server ends a call at its deadline with a reason. It gets this much more to do so.
const GRACE: Duration = Duration::from_secs(1);
/// Each server takes a message of this size. It is the least of `Limits.max_request_bytes`, and the default of gRPC.
const ALWAYS_TAKEN: usize = 4 * 1024 * 1024;

impl ClientArgs {
    pub async fn channel(&self) -> Result<Channel, Failure> {
        let unreachable = |cause: String| Failure::Unreachable { addr: self.addr.to_string(), cause, write: false };
        let uri = match &self.addr {
            Target::Uri(uri) => uri,
            // No name is resolved. Servers refuse a path as the authority of a request.
            Target::Unix(_) => "http://localhost",
        };
        let endpoint = Endpoint::from_shared(uri.to_owned()).map_err(|e| Failure::Usage(format!("--addr: {e}")))?;
        let limit = self.timeout.map_or(CONNECT, |timeout| timeout.min(CONNECT));
        // With small windows, loads would be slower than the sidecar reads them.
        let endpoint = endpoint
            .connect_timeout(limit)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            // Otherwise hyper starts its timer only at a frame that comes after the head of an answer. A connection
            // that is lost before that frame would never be pinged.
            .keep_alive_while_idle(true)
            .initial_stream_window_size(4 * 1024 * 1024)
            .initial_connection_window_size(8 * 1024 * 1024);
        let connect = async {
            match self.addr.clone() {
                Target::Uri(_) => endpoint.connect().await,
                Target::Unix(path) => {
                    let connector =
                        tower::service_fn(move |_: Uri| UnixStream::connect(path.clone()).map_ok(TokioIo::new));
                    endpoint.connect_with_connector(connector).await
                }
            }
        };
        let connected =
            timeout(limit, connect).await.map_err(|_| unreachable(format!("no connection in {limit:?}")))?;
        connected.map_err(|error| unreachable(causes(&error)))
    }

    pub async fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(self.channel().await?).max_decoding_message_size(usize::MAX))
    }

    /// How long a unary call may take.
    pub fn unary_timeout(&self) -> Duration {
        self.timeout.unwrap_or(UNARY)
    }

    /// The request of a unary call.
    pub fn unary<T>(&self, message: T) -> Request<T> {
        Self::with(message, Some(self.unary_timeout()))
    }

    /// The request of a streaming call.
    pub fn stream<T>(&self, message: T, follow: bool) -> Request<T> {
        Self::with(message, self.stream_timeout(follow))
    }

    fn stream_timeout(&self, follow: bool) -> Option<Duration> {
        self.timeout.or((!follow).then_some(STREAM))
    }

    fn with<T>(message: T, timeout: Option<Duration>) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        request
    }

    /// Ends a unary call of a server that does not answer, connection included.
    pub async fn unary_call<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        within(self.unary_timeout(), GRACE, work).await
    }

    /// Ends a stream of a server that does not send, connection included.
    pub async fn stream_call<T>(
        &self,
        follow: bool,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match self.stream_timeout(follow) {
            Some(limit) => within(limit, GRACE, work).await,
            None => work.await,
        }
    }

    /// The most bytes of a request, asked for only if `bytes` may be more. `None` if they fit, or if nothing is known.
    pub async fn smaller_request_limit(&self, client: &mut Client, bytes: usize) -> Option<usize> {
        if bytes <= ALWAYS_TAKEN {
            return None;
        }
        let limit = self.limits(client).await?.max_request_bytes as usize;
        (bytes > limit).then_some(limit)
    }

    /// The largest value that the sidecar takes, if it says so.
    pub async fn max_value_bytes(&self, client: &mut Client) -> Option<usize> {
        let limit = self.limits(client).await?.max_value_bytes as usize;
        (limit > 0).then_some(limit)
    }

    async fn limits(&self, client: &mut Client) -> Option<v1::Limits> {
        let describe = client.describe(self.unary(v1::DescribeRequest::default()));
        timeout(self.unary_timeout(), describe).await.ok()?.ok()?.into_inner().limits
    }
}

/// Of a call that ends at its client, `grace` after its limit.
pub async fn within<T>(
    limit: Duration,
    grace: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let late =
        || Failure::from(Status::deadline_exceeded(format!("the server did not answer within {limit:?} (--timeout)")));
    match timeout(limit.saturating_add(grace), work).await {
        Ok(Err(Failure::Status { status, .. })) if is_timeout(&status) => Err(late()),
        Ok(result) => result,
        Err(_) => Err(late()),
    }
}

/// Whether tonic's client ended a call at its deadline. Its status says so, and neither how long that was nor why.
fn is_timeout(status: &Status) -> bool {
    sources(status).any(<dyn Error>::is::<TimeoutExpired>)
}

/// Why a message was not sent.
pub fn too_large(bytes: usize, limit: usize) -> String {
    format!("the message has {bytes} bytes, and the server takes at most {limit}: nothing was written")
}
