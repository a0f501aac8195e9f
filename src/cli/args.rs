//! The arguments that several commands share.

use std::{
    ffi::OsStr,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::builder::{OsStringValueParser, TypedValueParser};
use tonic::transport::Endpoint;

use super::format::Format;
use crate::{address::unix_path, config::parse_duration};

/// How to reach the sidecar, and how to answer.
#[derive(Debug, Clone, clap::Args)]
pub struct ClientArgs {
    /// The sidecar's address: host:port, http://host:port or unix:/path; its variable is CHANGELOGD_ADDR
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    #[arg(value_parser = OsStringValueParser::new().try_map(|text| Target::parse(&text)))]
    pub addr: Target,
    /// How long a call may take, or `wait` waits; by default 30s, streams 10m, none for `watch` and a stream that
    /// follows. The time in which a file or standard input is read does not count
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// text for people, json for JSON Lines; by default text on a terminal and json in a pipe
    #[arg(long, value_enum)]
    pub output: Option<Format>,
}

/// A resume token, base64.
#[derive(Debug, Clone)]
pub struct Token(pub bytes::Bytes);

pub fn parse_token(text: &str) -> Result<Token, String> {
    BASE64_STANDARD.decode(text).map(|bytes| Token(bytes.into())).map_err(|e| format!("must be base64: {e}"))
}

/// Where a sidecar is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Uri(String),
    /// A socket file. Its path need not be UTF-8.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(uri) => f.write_str(uri),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Target {
    fn parse(text: &OsStr) -> Result<Self, String> {
        let wanted = "must be host:port, http://host:port or unix:/path";
        match unix_path(text) {
            Some(path) if path == Path::new("") => return Err("a path must follow unix:".to_owned()),
            Some(path) => return Ok(Self::Unix(path)),
            None => {}
        }
        let Some(text) = text.to_str() else { return Err(format!("{wanted}, and is not UTF-8")) };
        // It would be a secret in messages, and no sidecar asks for it.
        if text.contains('@') {
            return Err(format!("{wanted}, without a user and a password"));
        }
        let uri = match text {
            http if http.starts_with("http://") => http.to_owned(),
            tls if tls.starts_with("https://") => {
                return Err("TLS is not in this version: use http://, or unix:/path".to_owned());
            }
            plain if !plain.contains('/') && has_port(plain) => format!("http://{plain}"),
            _ => return Err(wanted.to_owned()),
        };
        Endpoint::from_shared(uri.clone()).map_err(|e| format!("{wanted}: {e}"))?;
        Ok(Self::Uri(uri))
    }
}

/// Without a port a client would take 80.
fn has_port(address: &str) -> bool {
    address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
}

/// Names one entity.
#[derive(Debug, Clone, clap::Args)]
pub struct EntityArgs {
    /// The workspace, if KEY is relative (`/type/id`)
    #[arg(long, value_name = "ID")]
    pub workspace: Option<String>,
    /// The full key `workspace/type/id`, or `/type/id` with --workspace
    pub key: String,
}

impl EntityArgs {
    /// The full key, for printing.
    pub fn full_key(&self) -> String {
        match &self.workspace {
            Some(workspace) if self.key.starts_with('/') => format!("{workspace}{}", self.key),
            _ => self.key.clone(),
        }
    }
}
