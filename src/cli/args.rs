//! The arguments that several commands share.

use std::{str::FromStr, time::Duration};

use tonic::transport::Endpoint;

use super::format::Format;
use crate::config::parse_duration;

/// How to reach the sidecar, and how to answer.
#[derive(Debug, Clone, clap::Args)]
pub struct ClientArgs {
    /// The sidecar's address: host:port, http://host:port or unix:/path; its variable is CHANGELOGD_ADDR
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:50051")]
    pub addr: Target,
    /// How long a call may take; by default 30s, streams 10m, none for a stream that follows
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// text for people, json for JSON Lines; by default text on a terminal and json in a pipe
    #[arg(long, value_enum)]
    pub output: Option<Format>,
}

/// The URI of a sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(pub String);

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
