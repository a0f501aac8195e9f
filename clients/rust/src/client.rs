//! The connection, and the calls with one answer.

use std::{env, sync::Arc, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout, timeout_at},
};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Endpoint, Uri},
};

use crate::{
    Code, Entity, Entry, Error, Failure, Key, Position,
    backoff::Backoff,
    proto::{self, Ack, changelog_service_client::ChangelogServiceClient, set_request::Value},
};

/// The address of a server on this machine, and in the same pod.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";

/// The timeout of a call with one answer.
const CALL: Duration = Duration::from_secs(30);
/// The timeout of a load, of a stream, and of the state of a watch. It is the server's default.
const LOAD: Duration = Duration::from_secs(5 * 60);
/// A timeout that is longer means this one, because gRPC can't express all of them.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const CONNECT: Duration = Duration::from_secs(5);
/// How often a call is made that is answered with UNAVAILABLE, and the pauses between without their random part.
const ATTEMPTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(1_600);
/// The server keeps that many failures of buffered writes. While more fail meanwhile, a flush must end too.
const KEPT_FAILURES: usize = 10_000;
/// Pings of a connection with calls. They are as frequent as the server's own.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// With the windows of the HTTP/2 standard, loads would be slower than the server reads.
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

pub(crate) type Grpc = ChangelogServiceClient<Channel>;

/// A connection to a changelogd. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    grpc: Grpc,
    address: Arc<str>,
    pub(crate) call_timeout: Duration,
    pub(crate) load_timeout: Duration,
    last_failure: Arc<Mutex<u64>>,
}

/// What [`Client::flush`] has found.
#[derive(Debug, Clone, Default)]
pub struct Flushed {
    /// Writes that are still in flight. 0 if the wait ended in time.
    pub remaining: u64,
    /// Buffered writes that failed since the flush before.
    pub failures: Vec<Failure>,
    /// Failures since then that the server no longer keeps.
    pub omitted: u64,
}

impl Client {
    /// Connects to `host:port` or `unix:/path` with the first call, and again after the connection is lost. Another
    /// address is an error. An empty one means that of [`Self::from_env`].
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn connect(address: &str) -> Result<Self, Error> {
        let variable = env::var("CHANGELOGD_ADDR").unwrap_or_default();
        let address = [address, &variable].into_iter().find(|address| !address.is_empty()).unwrap_or(DEFAULT_ADDRESS);
        let invalid = || Error::local(Code::InvalidArgument, format!("{address:?} is not host:port or unix:/path"));
        let is_host_port = |(host, port): (&str, &str)| !host.is_empty() && port.parse::<u16>().is_ok();
        let endpoint = if address.starts_with("unix:") {
            // Servers refuse a path as the name of the server.
            let origin = Uri::from_static("http://localhost");
            Endpoint::from_shared(address.to_owned()).map(|endpoint| endpoint.origin(origin))
        } else if !address.contains('/') && address.rsplit_once(':').is_some_and(is_host_port) {
            Endpoint::from_shared(format!("http://{address}"))
        } else {
            return Err(invalid());
        };
        let channel = endpoint
            .map_err(|_| invalid())?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            // Otherwise an open stream is pinged only once a message has come after its headers.
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .connect_lazy();
        Ok(Self {
            // A value can be larger than the 4 MiB that tonic takes. The server limits it.
            grpc: Grpc::new(channel).max_decoding_message_size(usize::MAX),
            address: address.into(),
            call_timeout: CALL,
            load_timeout: LOAD,
            last_failure: Arc::default(),
        })
    }

    /// Connects to the address in `CHANGELOGD_ADDR`, or to [`DEFAULT_ADDRESS`] if it is absent or empty.
    ///
    /// # Panics
    ///
    /// Outside of a Tokio runtime.
    pub fn from_env() -> Result<Self, Error> {
        Self::connect("")
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    /// The same connection with another timeout of calls, loads and streams, retries included. The default is 30 s, and
    /// 5 min for loads and streams. [`Self::flush`] has its own timeout besides.
    ///
    /// The changes of [`Self::watch`] have none. Its state must come within the timeout of loads, else it tries again.
    /// Opening a [`Writer`](crate::Writer) has the timeout of calls, and closing it that of loads. Its writes have none.
    #[must_use]
    pub fn with_timeout(&self, timeout: Duration) -> Self {
        let timeout = timeout.min(LONGEST);
        Self { call_timeout: timeout, load_timeout: timeout, ..self.clone() }
    }

    /// As [`Self::with_timeout`], but leaves the timeout of other calls as it is.
    #[must_use]
    pub fn with_load_timeout(&self, timeout: Duration) -> Self {
        Self { load_timeout: timeout.min(LONGEST), ..self.clone() }
    }

    /// The generated client, for what this package has no function for. It has no retries and no timeouts.
    pub fn raw(&self) -> ChangelogServiceClient<Channel> {
        self.grpc.clone()
    }

    /// Stores an entity. It is in the log when this returns.
    pub async fn set<T: Entity>(&self, entity: &T) -> Result<Position, Error> {
        written(self.send_set(entity, Ack::Durable).await?)
    }

    /// Queues an entity to be stored, which is faster. [`Self::flush`] returns those that failed.
    pub async fn set_buffered<T: Entity>(&self, entity: &T) -> Result<(), Error> {
        self.send_set(entity, Ack::Buffered).await.map(drop)
    }

    /// Deletes an entity. Deleting an absent one is no error.
    pub async fn delete(&self, key: &Key) -> Result<Position, Error> {
        written(self.send_delete(key, Ack::Durable).await?)
    }

    /// Queues a delete. [`Self::flush`] returns those that failed.
    pub async fn delete_buffered(&self, key: &Key) -> Result<(), Error> {
        self.send_delete(key, Ack::Buffered).await.map(drop)
    }

    /// Reads one entity. `None` if it is absent or deleted. On Kafka this costs as much as a load.
    pub async fn get<T: Entity>(&self, workspace: &str, id: &str) -> Result<Option<T>, Error> {
        let key = Key::new(workspace, T::TYPE, id);
        let changelog_id = key.changelog_id()?;
        let request = proto::GetRequest { workspace_id: key.workspace, changelog_id, ..Default::default() };
        match self.call(self.call_timeout, request, |mut grpc, request| async move { grpc.get(request).await }).await {
            Ok(answer) => Entry::try_from(answer.entry.unwrap_or_default())?.decode().map(Some),
            Err(error) if error.reason() == Some("KEY_NOT_FOUND") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for at most `timeout` (and 60 s) until the writes that the server has accepted are in the log. Returns the
    /// buffered ones that failed since the flush before, by this client or a clone of it. After an error, the next
    /// flush returns them.
    ///
    /// Flushes of a client and its clones wait for each other. One that has not ended at `timeout` and the timeout of
    /// calls together is an error with DEADLINE_EXCEEDED.
    pub async fn flush(&self, timeout: Duration) -> Result<Flushed, Error> {
        // 0 would mean the server's default.
        let timeout_ms = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX).max(1);
        let limit = timeout.saturating_add(self.call_timeout).min(LONGEST);
        let flushed = async {
            // Held over all answers: flushes at the same time would return the same failures.
            let mut last_failure = self.last_failure.lock().await;
            let mut answer = self.flush_after(*last_failure, timeout_ms, limit).await?;
            let mut flushed = Flushed { remaining: answer.remaining, ..Flushed::default() };
            loop {
                flushed.omitted += answer.failures_omitted;
                let is_last = answer.failures.is_empty();
                flushed.failures.extend(answer.failures.into_iter().map(Failure::from));
                if is_last || flushed.failures.len() >= KEPT_FAILURES {
                    *last_failure = answer.last_failure;
                    return Ok(flushed);
                }
                // An answer has at most 3 MiB of failures. The rest needs no wait.
                answer = self.flush_after(answer.last_failure, 1, limit).await?;
            }
        };
        timeout_at(Instant::now() + limit, flushed).await.map_err(|_| Error::late(limit))?
    }

    async fn flush_after(
        &self,
        failures_after: u64,
        timeout_ms: u32,
        limit: Duration,
    ) -> Result<proto::FlushResponse, Error> {
        let request = proto::FlushRequest { timeout_ms, failures_after };
        self.call(limit, request, |mut grpc, request| async move { grpc.flush(request).await }).await
    }

    async fn send_set<T: Entity>(&self, entity: &T, ack: Ack) -> Result<Option<Position>, Error> {
        let key = entity.key();
        let changelog_id = key.changelog_id()?;
        let request = proto::SetRequest {
            workspace_id: key.workspace,
            changelog_id,
            value: Some(Value::Raw(encode(entity)?)),
            ack: ack.into(),
            ..Default::default()
        };
        let answer = self.call(self.call_timeout, request, |mut grpc, request| async move { grpc.set(request).await });
        Ok(answer.await?.position)
    }

    async fn send_delete(&self, key: &Key, ack: Ack) -> Result<Option<Position>, Error> {
        let (workspace_id, changelog_id) = (key.workspace.clone(), key.changelog_id()?);
        let request = proto::DeleteRequest { workspace_id, changelog_id, ack: ack.into(), ..Default::default() };
        let answer =
            self.call(self.call_timeout, request, |mut grpc, request| async move { grpc.delete(request).await });
        Ok(answer.await?.position)
    }

    /// A call with one request, which tells the server its deadline.
    pub(crate) async fn call<M: Clone, T, F>(
        &self,
        limit: Duration,
        message: M,
        mut call: impl FnMut(Grpc, Request<M>) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let retried = self.retried(limit, |grpc, left| {
            let answer = call(grpc, within(message.clone(), left));
            async move { Ok(answer.await?.into_inner()) }
        });
        retried.await
    }

    /// Calls until the answer is not UNAVAILABLE, at most five times and until the timeout. Waiting for a connection
    /// does not count as a call.
    ///
    /// For a write this is safe only if one writer owns the key: a retry after a broken connection may overwrite a
    /// newer write.
    pub(crate) async fn retried<T, F>(
        &self,
        limit: Duration,
        mut call: impl FnMut(Grpc, Duration) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let end = Instant::now() + limit;
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut attempts = 0;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let error = match timeout(left, call(self.grpc.clone(), left)).await {
                Ok(Err(error)) if error.code() == Code::Unavailable => error,
                Ok(result) => return result,
                Err(_) => return Err(Error::late(limit)),
            };
            attempts += u32::from(!error.is_unreachable());
            let pause = backoff.pause(&error);
            if attempts == ATTEMPTS || Instant::now() + pause >= end {
                return Err(error);
            }
            sleep(pause).await;
        }
    }
}

pub(crate) fn within<T>(message: T, left: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(left);
    request
}

pub(crate) fn encode<T: Entity>(entity: &T) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(entity)
        .map_err(|cause| Error::local(Code::InvalidArgument, format!("{} is not JSON: {cause}", entity.key())))
}

pub(crate) fn written(position: Option<Position>) -> Result<Position, Error> {
    position.ok_or_else(|| Error::local(Code::Internal, "the answer to a durable write has no position"))
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// Reads up to the HEADERS frame of a call.
    async fn call_of(connection: &mut TcpStream) -> std::io::Result<()> {
        connection.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
        connection.read_exact(&mut [0; "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()]).await?;
        loop {
            let mut head = [0; 9];
            connection.read_exact(&mut head).await?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            connection.read_exact(&mut vec![0; length as usize]).await?;
            if head[3] == 1 {
                return Ok(());
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_breaks_during_a_call_is_unavailable() {
        let go_away = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let reset_with_internal_error = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        for last_frame in [&[][..], &go_away, &reset_with_internal_error] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let client = Client::connect(&listener.local_addr().unwrap().to_string()).unwrap();
            let server = async {
                let (mut connection, _) = listener.accept().await.unwrap();
                call_of(&mut connection).await.unwrap();
                connection.write_all(last_frame).await.unwrap();
            };
            let call = async { client.raw().describe(proto::DescribeRequest::default()).await };
            let (status, ()) = tokio::join!(call, server);
            let error = Error::from(status.unwrap_err());
            assert_eq!((error.code(), error.reason()), (Code::Unavailable, None), "{last_frame:?}: {error}");
            assert!(!error.is_unreachable() && !error.is_safe_to_retry());
        }
    }

    #[tokio::test]
    async fn a_call_waits_for_a_server_that_is_not_there_until_its_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let (client, began) = (Client::connect(&address).unwrap(), Instant::now());
        let error = client.with_timeout(3 * FIRST_PAUSE).delete(&Key::new("ws", "type", "id")).await.unwrap_err();
        assert!(error.is_unreachable() && error.code() == Code::Unavailable, "{error}");
        assert!(began.elapsed() >= FIRST_PAUSE, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn an_address_that_is_none_is_an_error() {
        for address in ["localhost", "a b:1", "http://localhost:1", "localhost:", "localhost:65536", ":1"] {
            let error = Client::connect(address).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument, "{address}");
        }
    }
}
