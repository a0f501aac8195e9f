//! The application of the example charts: an HTTP server that is ready.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// As in the examples.
const ADDRESS: &str = "0.0.0.0:8080";
const AT_MOST: Duration = Duration::from_secs(5);

pub async fn run() -> io::Result<()> {
    let listener = TcpListener::bind(ADDRESS).await?;
    let answers = async {
        loop {
            let (stream, _) = listener.accept().await?;
            // One at a time: only the kubelet asks.
            let _ = timeout(AT_MOST, answer(stream)).await;
        }
    };
    tokio::select! {
        ended = answers => ended,
        () = super::stopped() => Ok(()),
    }
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut request = [0; 1024];
    let _ = stream.read(&mut request).await?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await
}
