//! Addresses to listen on: TCP or Unix.

use std::{
    ffi::OsStr,
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    str::FromStr,
};

/// Where to listen: `127.0.0.1:50051`, `[::1]:50051`, `localhost:50051` or `unix:/path/to.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP address. Port 0 takes a free port.
    Tcp(SocketAddr),
    /// Both loopback addresses, with the same port. Clients resolve the name to either. Port 0 takes a free port.
    Localhost(u16),
    /// The path of a socket file.
    Unix(PathBuf),
}

impl Address {
    /// Whether only this machine or pod can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Localhost(_) | Self::Unix(_) => true,
        }
    }
}

/// The path of `unix:/path` or `unix:///path`. A path is bytes, and need not be UTF-8.
pub fn unix_path(text: &OsStr) -> Option<PathBuf> {
    let path = text.as_bytes().strip_prefix(b"unix:")?;
    Some(OsStr::from_bytes(path.strip_prefix(b"//").unwrap_or(path)).into())
}

impl Address {
    /// Parses an argument.
    pub fn parse(text: &OsStr) -> Result<Self, String> {
        let wanted = "must be host:port or unix:/path";
        match (unix_path(text), text.to_str()) {
            (Some(path), _) if path.as_os_str().is_empty() => Err("a path must follow unix:".to_owned()),
            (Some(path), _) => Ok(Self::Unix(path)),
            (None, Some(text)) => Self::parse_tcp(text, wanted),
            (None, None) => Err(format!("{wanted}, and is not UTF-8")),
        }
    }

    fn parse_tcp(text: &str, wanted: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Tcp(address));
        }
        if let Some((name, port)) = text.rsplit_once(':')
            && name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case("localhost")
        {
            return port.parse().map(Self::Localhost).map_err(|e| format!("{wanted}: the port: {e}"));
        }
        let mut resolved = text.to_socket_addrs().map_err(|e| format!("{wanted}: {e}"))?;
        resolved.next().map(Self::Tcp).ok_or_else(|| format!("{wanted}: the name has no address"))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text.as_ref())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Localhost(port) => write!(f, "localhost:{port}"),
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
        for bad in ["", "unix:", "50051", "127.0.0.1", "127.0.0.1:99999", "http://127.0.0.1:1", "localhost:99999"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
        for both in ["localhost:7", "LOCALHOST:7", "localhost.:7"] {
            assert_eq!(both.parse(), Ok(Address::Localhost(7)));
        }
        assert_eq!(Address::Localhost(7).to_string(), "localhost:7");
    }

    /// Covers C69.
    #[test]
    fn a_socket_file_may_have_any_bytes_and_a_host_must_be_utf8() {
        let bytes = |bytes: &'static [u8]| OsStr::from_bytes(bytes);
        assert_eq!(Address::parse(bytes(b"unix:/run/\xff.sock")), Ok(Address::Unix(bytes(b"/run/\xff.sock").into())));
        assert!(Address::parse(bytes(b"\xff:1")).unwrap_err().contains("UTF-8"));
    }
}
