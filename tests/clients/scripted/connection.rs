//! A connection that a call can close, or leave open without another byte.

use std::{
    future::pending,
    io,
    net::{self, Shutdown},
    sync::Arc,
};

use tokio::{
    io::{copy, sink},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

#[derive(Clone)]
pub struct Connection {
    closed: CancellationToken,
    silent: CancellationToken,
    /// Another handle of the socket, so that the connection outlives its server.
    socket: Arc<net::TcpStream>,
}

impl Connection {
    /// The stream is to be used as before.
    pub fn of(stream: TcpStream) -> io::Result<(Self, TcpStream)> {
        let stream = stream.into_std()?;
        let socket = Arc::new(stream.try_clone()?);
        let connection = Self { closed: CancellationToken::new(), silent: CancellationToken::new(), socket };
        Ok((connection, TcpStream::from_std(stream)?))
    }

    /// Closes the connection. The call gets no answer.
    pub async fn close<T>(&self) -> T {
        self.closed.cancel();
        pending().await
    }

    /// Answers nothing from now on, also no ping. The connection stays open until the client closes it.
    pub async fn silence<T>(&self) -> T {
        self.silent.cancel();
        pending().await
    }

    /// Serves until the connection is closed by either side.
    pub async fn run<T>(self, serving: impl Future<Output = T>) {
        tokio::select! {
            // `serving` first, so that it sends the answers to earlier calls.
            biased;
            _ = serving => {}
            () = self.closed.cancelled() => {}
            () = self.silent.cancelled() => {
                // Nothing else reads: `serving` is no longer polled.
                let _ = self.until_the_client_closes().await;
            }
        }
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    async fn until_the_client_closes(&self) -> io::Result<()> {
        let mut socket = TcpStream::from_std(self.socket.try_clone()?)?;
        copy(&mut socket, &mut sink()).await.map(drop)
    }
}
