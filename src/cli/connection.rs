//! How a command reaches the sidecar.

use std::{str::FromStr, time::Duration};

use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use super::{ClientArgs, failure::Failure};
use crate::proto::v1::changelog_service_client::ChangelogServiceClient;

/// The generated client.
pub type Client = ChangelogServiceClient<Channel>;

const UNARY: Duration = Duration::from_secs(30);
const STREAM: Duration = Duration::from_secs(600);
const CONNECT: Duration = Duration::from_secs(5);

/// The sidecar's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(String);

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "must be host:port, http://host:port or unix:/path";
        let uri = match text {
            unix if unix.starts_with("unix:") && unix.len() > "unix:".len() => unix.to_owned(),
            http if http.starts_with("http://") => http.to_owned(),
            tls if tls.starts_with("https://") => {
                return Err("TLS is not in this version: use http://, or unix:/path".to_owned());
            }
            plain if plain.contains(':') && !plain.contains('/') => format!("http://{plain}"),
            _ => return Err(wanted.to_owned()),
        };
        Endpoint::from_shared(uri.clone()).map_err(|e| format!("{wanted}: {e}"))?;
        Ok(Self(uri))
    }
}

impl ClientArgs {
    /// Connects, or says that it can't.
    pub async fn channel(&self) -> Result<Channel, Failure> {
        let endpoint =
            Endpoint::from_shared(self.addr.0.clone()).map_err(|e| Failure::Usage(format!("--addr: {e}")))?;
        // Loads come in as fast as the sidecar reads them.
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .initial_stream_window_size(4 * 1024 * 1024)
            .initial_connection_window_size(8 * 1024 * 1024);
        endpoint.connect().await.map_err(|error| {
            let cause = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            Failure::Unreachable { addr: self.addr.0.clone(), cause }
        })
    }

    /// Connects to the API.
    pub async fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(self.channel().await?).max_decoding_message_size(usize::MAX))
    }

    /// A call that answers once.
    pub fn unary<T>(&self, message: T) -> Request<T> {
        Self::with(message, Some(self.timeout.unwrap_or(UNARY)))
    }

    /// A call that streams.
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
