//! Addresses and sockets to listen on: TCP or Unix.
//!
//! Promises: an address that is in use is an error before anything is served; a socket file is removed on drop.

use std::{
    fmt, fs, io,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};

/// Where to listen: `127.0.0.1:50051`, `[::1]:50051`, `localhost:50051` or `unix:/path/to.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP address. Port 0 takes a free port.
    Tcp(SocketAddr),
    /// The path of a socket file.
    Unix(PathBuf),
}

impl Address {
    /// Whether only this machine or pod can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err("a path must follow unix:".to_owned()),
                path => Ok(Self::Unix(path.into())),
            };
        }
        let wanted = "must be host:port or unix:/path";
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        let mut resolved = text.to_socket_addrs().map_err(|e| format!("{wanted}: {e}"))?;
        resolved.next().map(Self::Tcp).ok_or_else(|| format!("{wanted}: the name has no address"))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A connection's bytes.
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
    /// address does not tell clients apart.
    pub async fn accept(&self) -> io::Result<(Box<dyn Io>, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                // A small response must not wait until the previous segment is acknowledged.
                stream.set_nodelay(true)?;
                let from = from.ip().to_canonical();
                Ok((Box::new(stream), (!from.is_loopback()).then_some(from)))
            }
            Self::Unix(listener, _) => Ok((Box::new(listener.accept().await?.0), None)),
        }
    }
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
        Ok(_) if tokio::net::UnixStream::connect(path).await.is_ok() => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on the socket"))
        }
        Ok(_) => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers S6.
    #[test]
    fn addresses_are_parsed_and_loopback_is_recognized() {
        for local in ["127.0.0.1:0", "[::1]:50051", "unix:/run/c.sock", "unix:///run/c.sock", "localhost:1"] {
            assert!(local.parse::<Address>().unwrap().is_local(), "{local}");
        }
        assert!(!"0.0.0.0:50051".parse::<Address>().unwrap().is_local());
        for bad in ["", "unix:", "50051", "127.0.0.1", "127.0.0.1:99999", "http://127.0.0.1:1"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
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
