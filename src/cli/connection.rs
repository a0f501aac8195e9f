//! Connections and calls to the sidecar, with their timeouts.

use std::time::Duration;

use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use super::{args::ClientArgs, failure::Failure};
use crate::proto::v1::changelog_service_client::ChangelogServiceClient;

pub type Client = ChangelogServiceClient<Channel>;

/// The timeout of a unary call without --timeout.
const UNARY: Duration = Duration::from_secs(30);
/// The timeout of a stream without --timeout. A stream that follows has none.
const STREAM: Duration = Duration::from_secs(600);
const CONNECT: Duration = Duration::from_secs(5);

impl ClientArgs {
    pub async fn channel(&self) -> Result<Channel, Failure> {
        let endpoint =
            Endpoint::from_shared(self.addr.0.clone()).map_err(|e| Failure::Usage(format!("--addr: {e}")))?;
        // With small windows, loads would be slower than the sidecar reads them.
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .initial_stream_window_size(4 * 1024 * 1024)
            .initial_connection_window_size(8 * 1024 * 1024);
        endpoint.connect().await.map_err(|error| {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Failure::Unreachable { addr: self.addr.0.clone(), cause }
        })
    }

    pub async fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(self.channel().await?).max_decoding_message_size(usize::MAX))
    }

    /// The request of a unary call.
    pub fn unary<T>(&self, message: T) -> Request<T> {
        Self::with(message, Some(self.timeout.unwrap_or(UNARY)))
    }

    /// The request of a streaming call.
    pub fn stream<T>(&self, message: T, follow: bool) -> Request<T> {
        let default = (!follow).then_some(STREAM);
        Self::with(message, self.timeout.or(default))
    }

    fn with<T>(message: T, timeout: Option<Duration>) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        request
    }
}
