//! Addresses to listen on: TCP or Unix.

use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    str::FromStr,
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
}
