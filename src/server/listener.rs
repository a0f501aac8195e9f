//! Sockets to listen on: TCP or Unix.
//!
//! Promises: an address that is in use is an error before anything is served. A socket file is removed on drop.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd, RawFd},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
};

use crate::{address::Address, open_files};

/// The byte stream of a connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A bound socket. Connections wait until it is served.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds the address. A socket file has mode 0660. One that no process listens on is replaced.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            Address::Unix(path) => {
                remove_stale(path).await?;
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
                Ok(Self::Unix(listener, path.clone()))
            }
        }
    }

    /// The address with the real port.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Address::Tcp),
            Self::Unix(_, path) => Ok(Address::Unix(path.clone())),
        }
    }

    /// Accepts a connection. Returns the address of the client, or `None` over loopback and Unix sockets, where the
    /// address does not tell clients apart. A connection that would take one of the last descriptors is closed.
    pub async fn accept(&self) -> io::Result<Accepted> {
        let (descriptor, accepted): (_, Accepted) = match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                (stream.as_raw_fd(), accepted_tcp(stream, from))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                (stream.as_raw_fd(), (Box::new(stream), None))
            }
        };
        if open_files::is_kept_back(descriptor) {
            return Err(io::Error::other("the last file descriptors are kept for the store and the brokers"));
        }
        Ok(accepted)
    }

    /// The connections that wait to be accepted, but no more than `most`, and none that would take one of the last
    /// descriptors. The system is asked, because the runtime may not know of all.
    pub fn waiting(&self, most: usize) -> Vec<Accepted> {
        self.waiting_unless(most, open_files::is_kept_back)
    }

    fn waiting_unless(&self, most: usize, is_kept_back: impl Fn(RawFd) -> bool) -> Vec<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let Ok(fd) = listener.as_fd().try_clone_to_owned() else { return Vec::new() };
                let listener = std::net::TcpListener::from(fd);
                let waiting = accept_waiting(|| listener.accept(), most, is_kept_back).into_iter();
                let accepted = waiting.map(|(stream, from)| {
                    stream.set_nonblocking(true)?;
                    Ok(accepted_tcp(TcpStream::from_std(stream)?, from))
                });
                accepted.filter_map(io::Result::ok).collect()
            }
            Self::Unix(listener, _) => {
                let Ok(fd) = listener.as_fd().try_clone_to_owned() else { return Vec::new() };
                let listener = std::os::unix::net::UnixListener::from(fd);
                let waiting = accept_waiting(|| listener.accept(), most, is_kept_back).into_iter();
                let accepted = waiting.map(|(stream, _)| {
                    stream.set_nonblocking(true)?;
                    Ok((Box::new(UnixStream::from_std(stream)?) as Box<dyn Io>, None))
                });
                accepted.filter_map(io::Result::ok).collect()
            }
        }
    }
}

/// More than the listen queue of the system holds.
const MAX_WAITING: usize = 8_192;

/// The connections of a listener that does not block.
fn accept_waiting<S: AsRawFd, A>(
    accept: impl Fn() -> io::Result<(S, A)>,
    most: usize,
    is_kept_back: impl Fn(RawFd) -> bool,
) -> Vec<(S, A)> {
    let mut waiting = Vec::new();
    for _ in 0..MAX_WAITING {
        if waiting.len() >= most {
            break;
        }
        match accept() {
            Ok(accepted) if !is_kept_back(accepted.0.as_raw_fd()) => waiting.push(accepted),
            Err(error) if says_nothing(&error) => {}
            // None waits any more, or the next one would take a descriptor that is kept back, too.
            Ok(_) | Err(_) => break,
        }
    }
    waiting
}

/// Whether an error of accept says nothing about the next connection: a client left before it was accepted.
pub fn says_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted)
}

/// A connection, and the address of its client.
pub type Accepted = (Box<dyn Io>, Option<IpAddr>);

fn accepted_tcp(stream: TcpStream, from: SocketAddr) -> Accepted {
    // A small response must not wait until the previous segment is acknowledged. It fails for a client that has left.
    let _ = stream.set_nodelay(true);
    let from = from.ip().to_canonical();
    (Box::new(stream), (!from.is_loopback()).then_some(from))
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = fs::remove_file(path);
        }
    }
}

async fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket is in the way"))
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on the socket"))
        }
        Ok(_) => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Covers S16.
    #[tokio::test]
    async fn those_that_wait_at_a_stop_are_limited_and_leave_the_last_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        for address in [Address::Tcp(([127, 0, 0, 1], 0).into()), Address::Unix(dir.path().join("s"))] {
            let listener = Listener::bind(&address).await.unwrap();
            let mut clients: Vec<Box<dyn std::any::Any>> = Vec::new();
            for _ in 0..10 {
                match listener.address().unwrap() {
                    Address::Tcp(address) => clients.push(Box::new(std::net::TcpStream::connect(address).unwrap())),
                    Address::Unix(path) => {
                        clients.push(Box::new(std::os::unix::net::UnixStream::connect(path).unwrap()));
                    }
                }
            }
            assert_eq!(listener.waiting(0).len(), 0);
            assert_eq!(listener.waiting(3).len(), 3);
            // Two more may be accepted. The one after them gets a descriptor that is kept back, and is closed.
            let accepted = Cell::new(0);
            let is_kept_back = |_| accepted.replace(accepted.get() + 1) >= 2;
            assert_eq!(listener.waiting_unless(10, is_kept_back).len(), 2);
            assert_eq!(accepted.get(), 3);
            assert_eq!(listener.waiting(100).len(), 4, "all that are left");
        }
    }

    /// Covers S6.
    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let address = Address::Unix(dir.path().join("s"));
        drop(std::os::unix::net::UnixListener::bind(dir.path().join("s")).unwrap());
        let live = Listener::bind(&address).await.unwrap();
        assert_eq!(Listener::bind(&address).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        let mode = fs::metadata(dir.path().join("s")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        drop(live);
        assert!(!dir.path().join("s").exists());
    }
}
