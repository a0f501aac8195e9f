//! Sockets to listen on: TCP or Unix.
//!
//! Promises: an address that is in use is an error before anything is served. A socket file is removed on drop. `[::]`
//! is all addresses, of IPv4 too, and works on a machine without IPv6.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream},
};

use crate::{address::Address, open_files};

/// The byte stream of a connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A bound socket. Connections wait until it is served.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener),
    /// Both loopback addresses, with the same port.
    Loopbacks(TcpListener, TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds the address. A socket file has mode 0660. One that no process listens on is replaced.
    pub async fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) if address.ip() == Ipv6Addr::UNSPECIFIED => {
                Ok(Self::Tcp(bind_all(address.port(), TcpSocket::new_v6).await?))
            }
            Address::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            Address::Localhost(port) => bind_loopbacks(*port, async |address| TcpListener::bind(address).await).await,
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
            Self::Loopbacks(listener, _) => listener.local_addr().map(|address| Address::Localhost(address.port())),
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
            Self::Loopbacks(one, other) => {
                let (stream, from) = tokio::select! {
                    accepted = one.accept() => accepted?,
                    accepted = other.accept() => accepted?,
                };
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

    /// Lets one more connection wait at most. The system resets those that wait when the listener is dropped, and
    /// without this a busy machine collects many between the last accept and the drop.
    pub fn shorten_queue(&self) {
        let shorten = |fd: BorrowedFd<'_>| {
            if let Err(error) = rustix::net::listen(fd, 0) {
                tracing::debug!(%error, "the queue of a port can't be shortened");
            }
        };
        match self {
            Self::Tcp(listener) => shorten(listener.as_fd()),
            Self::Loopbacks(one, other) => [one, other].into_iter().for_each(|listener| shorten(listener.as_fd())),
            Self::Unix(listener, _) => shorten(listener.as_fd()),
        }
    }

    /// The connections that wait to be accepted, but no more than `most`, and none that would take one of the last
    /// descriptors. The system is asked, because the runtime may not know of all.
    pub fn waiting(&self, most: usize) -> Vec<Accepted> {
        self.waiting_unless(most, open_files::is_kept_back)
    }

    fn waiting_unless(&self, most: usize, is_kept_back: impl Fn(RawFd) -> bool) -> Vec<Accepted> {
        match self {
            Self::Tcp(listener) => waiting_tcp(listener, most, is_kept_back),
            Self::Loopbacks(one, other) => {
                let mut waiting = waiting_tcp(one, most, &is_kept_back);
                waiting.extend(waiting_tcp(other, most - waiting.len(), is_kept_back));
                waiting
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

/// As long as tokio's own.
const LISTEN_QUEUE: u32 = 1024;

/// Binds all addresses, of IPv6 and of IPv4, whatever net.ipv6.bindv6only says. On a machine without IPv6 those of
/// IPv4.
async fn bind_all(port: u16, socket: impl Fn() -> io::Result<TcpSocket>) -> io::Result<TcpListener> {
    let bind = || {
        let socket = socket()?;
        rustix::net::sockopt::set_ipv6_v6only(&socket, false)?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv6Addr::UNSPECIFIED, port).into())?;
        socket.listen(LISTEN_QUEUE)
    };
    match bind() {
        Err(error) if is_missing(&error) => {
            tracing::info!(%error, "[::] is served as 0.0.0.0: the system has no IPv6");
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

/// How often another free port is tried, if the one of one loopback is taken on the other.
const FREE_PORT_ATTEMPTS: u32 = 16;

/// Binds both loopbacks. A machine may lack one of them: then the other serves alone.
async fn bind_loopbacks(port: u16, bind: impl AsyncFn(SocketAddr) -> io::Result<TcpListener>) -> io::Result<Listener> {
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    for attempt in 1.. {
        let one = bind((v4, port).into()).await;
        let same = one.as_ref().map_or(Ok(port), |listener| listener.local_addr().map(|address| address.port()))?;
        let other = bind((v6, same).into()).await;
        let (served, missing, error) = match (one, other) {
            (Ok(one), Ok(other)) => return Ok(Listener::Loopbacks(one, other)),
            (Ok(_), Err(error))
                if port == 0 && error.kind() == io::ErrorKind::AddrInUse && attempt < FREE_PORT_ATTEMPTS =>
            {
                continue;
            }
            (Ok(one), Err(error)) if is_missing(&error) => (one, v6, error),
            (Err(error), Ok(other)) if is_missing(&error) => (other, v4, error),
            (Err(error), _) => return Err(of_loopback((v4, port).into(), &error)),
            (_, Err(error)) => return Err(of_loopback((v6, same).into(), &error)),
        };
        tracing::warn!(%missing, %error, "localhost is served on one loopback only: the system lacks the other");
        return Ok(Listener::Tcp(served));
    }
    unreachable!("the last attempt returns")
}

/// The caller knows only the name that both have.
fn of_loopback(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{address}: {error}"))
}

/// Whether the system has no such address: its family is off, or the loopback has only the other one.
fn is_missing(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    error.kind() == io::ErrorKind::AddrNotAvailable || code == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn waiting_tcp(listener: &TcpListener, most: usize, is_kept_back: impl Fn(RawFd) -> bool) -> Vec<Accepted> {
    let Ok(fd) = listener.as_fd().try_clone_to_owned() else { return Vec::new() };
    let listener = std::net::TcpListener::from(fd);
    let waiting = accept_waiting(|| listener.accept(), most, is_kept_back).into_iter();
    let accepted = waiting.map(|(stream, from)| {
        stream.set_nonblocking(true)?;
        Ok(accepted_tcp(TcpStream::from_std(stream)?, from))
    });
    accepted.filter_map(io::Result::ok).collect()
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
                    Address::Localhost(_) => unreachable!("no address of this test"),
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

    /// Covers S5.
    #[tokio::test]
    async fn at_most_one_connection_waits_between_the_last_accept_and_the_end_of_a_port() {
        let listener = Listener::bind(&Address::Tcp(([127, 0, 0, 1], 0).into())).await.unwrap();
        let Ok(Address::Tcp(address)) = listener.address() else { unreachable!("no other address") };
        let connect = || std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(50));
        let earlier: Vec<_> = (0..3).map(|_| connect().unwrap()).collect();
        listener.shorten_queue();
        assert_eq!(listener.waiting(10).len(), earlier.len(), "those that waited before it");
        let later: Vec<_> = (0..5).filter_map(|_| connect().ok()).collect();
        assert_eq!(later.len(), 1);
        drop(listener);
        assert_eq!(connect().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    fn error_of(errno: rustix::io::Errno) -> io::Result<TcpListener> {
        Err(io::Error::from_raw_os_error(errno.raw_os_error()))
    }

    /// Covers S6.
    #[tokio::test]
    async fn all_addresses_are_served_with_and_without_ipv6() {
        let v6 = TcpSocket::new_v6;
        let without = || Err(io::Error::from_raw_os_error(rustix::io::Errno::AFNOSUPPORT.raw_os_error()));
        let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
        for (listener, is_dual) in [(bind_all(0, without).await, false), (bind_all(0, v6).await, has_ipv6)] {
            let listener = listener.unwrap();
            let port = listener.local_addr().unwrap().port();
            let listener = Listener::Tcp(listener);
            drop(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap());
            assert_eq!(listener.accept().await.unwrap().1, None, "a client of the loopback has no address of its own");
            let by_v6 = std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, port));
            assert_eq!(by_v6.is_ok(), is_dual, "{by_v6:?}");
            let (all, taken) = (Address::Tcp((Ipv6Addr::UNSPECIFIED, port).into()), io::ErrorKind::AddrInUse);
            assert_eq!(Listener::bind(&all).await.unwrap_err().kind(), taken);
        }
    }

    /// The clients' addresses of as many accepted connections.
    async fn accepted(listener: &Listener, count: usize) -> usize {
        for _ in 0..count {
            listener.accept().await.unwrap();
        }
        count
    }

    /// Covers S6.
    #[tokio::test]
    async fn localhost_is_served_on_both_loopbacks_with_one_port() {
        if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
            // The next test is about such a machine.
            return changelogd_testkit::skipped("this machine has no IPv6 loopback");
        }
        let listener = Listener::bind(&Address::Localhost(0)).await.unwrap();
        let Ok(Address::Localhost(port)) = listener.address() else { panic!("{:?}", listener.address()) };
        for round in 1..3 {
            let v4 = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            let v6 = std::net::TcpStream::connect((Ipv6Addr::LOCALHOST, port)).unwrap();
            match round {
                1 => assert_eq!(accepted(&listener, 2).await, 2),
                _ => assert_eq!(listener.waiting(1).len() + listener.waiting(9).len(), 2),
            }
            drop((v4, v6));
        }
        for address in [Address::Localhost(port), Address::Tcp((Ipv6Addr::LOCALHOST, port).into())] {
            assert_eq!(Listener::bind(&address).await.unwrap_err().kind(), io::ErrorKind::AddrInUse, "{address}");
        }
    }

    /// Covers S6.
    #[tokio::test]
    async fn localhost_is_served_on_the_loopback_that_the_machine_has() {
        use rustix::io::Errno;
        for errno in [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT] {
            for missing in [true, false] {
                let without = async |address: SocketAddr| {
                    if address.is_ipv6() == missing {
                        return error_of(errno);
                    }
                    // IPv6 may be missing here.
                    TcpListener::bind((Ipv4Addr::LOCALHOST, address.port())).await
                };
                let listener = bind_loopbacks(0, without).await.unwrap();
                assert!(matches!(listener, Listener::Tcp(_)), "{listener:?}");
            }
        }
        for port in [0, 1] {
            let taken = async |address: SocketAddr| {
                if address.is_ipv6() {
                    return error_of(Errno::ADDRINUSE);
                }
                TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await
            };
            let error = bind_loopbacks(port, taken).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "a port that another process has");
            assert!(error.to_string().starts_with("[::1]:"), "{error}");
        }
        let none = async |_: SocketAddr| error_of(Errno::ADDRNOTAVAIL);
        assert!(bind_loopbacks(0, none).await.is_err());
    }

    /// Covers S6.
    #[tokio::test]
    async fn another_free_port_is_taken_if_one_loopback_has_it_in_use() {
        let tried = Cell::new(0);
        let bind = async |address: SocketAddr| match (address.is_ipv6(), tried.replace(tried.get() + 1)) {
            (true, 1) => error_of(rustix::io::Errno::ADDRINUSE),
            // IPv6 may be missing here.
            _ => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await,
        };
        assert!(matches!(bind_loopbacks(0, bind).await.unwrap(), Listener::Loopbacks(..)));
        assert_eq!(tried.get(), 4);
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
