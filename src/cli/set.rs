//! `changelogd set`.

use std::{
    ffi::{OsStr, OsString},
    io::Read,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use bytes::Bytes;
use clap::builder::{OsStringValueParser, TypedValueParser};
use prost::Message;

use super::{
    args::{ClientArgs, EntityArgs},
    connection::too_large,
    failure::Failure,
    output::Output,
};
use crate::proto::v1;

/// Examples: set ws-1/city/1 '{"name":"Bern"}' · set --workspace ws-1 /city/1 @bern.json ·
/// cat bern.json | set ws-1/city/1 -
#[derive(Debug, clap::Args)]
pub struct SetArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(flatten)]
    pub entity: EntityArgs,
    /// The value: text, @FILE, or - for standard input
    #[arg(allow_hyphen_values = true, value_parser = OsStringValueParser::new().try_map(GivenValue::parse))]
    pub value: GivenValue,
    /// A record header, may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_header)]
    pub header: Vec<v1::Header>,
    /// Do not wait for the store's acknowledgement: `flush` reports which writes failed
    #[arg(long)]
    pub buffered: bool,
}

/// NAME=VALUE.
pub fn parse_header(text: &str) -> Result<v1::Header, String> {
    let (key, value) = text.split_once('=').ok_or("must be NAME=VALUE")?;
    Ok(v1::Header { key: key.to_owned(), value: Some(Bytes::copy_from_slice(value.as_bytes())) })
}

/// Where the value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivenValue {
    Text(String),
    /// Its path need not be UTF-8.
    File(PathBuf),
    StandardInput,
}

impl GivenValue {
    fn parse(given: OsString) -> Result<Self, String> {
        match given.as_bytes() {
            b"-" => Ok(Self::StandardInput),
            [b'@', path @ ..] => Ok(Self::File(OsStr::from_bytes(path).into())),
            _ => {
                given.into_string().map(Self::Text).map_err(|_| "must be UTF-8; use @FILE or - for other bytes".into())
            }
        }
    }

    fn read(self) -> Result<Bytes, Failure> {
        let unreadable = |what: String, e: std::io::Error| Failure::Usage(format!("VALUE: {what}: {e}"));
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::File(path) => {
                std::fs::read(&path).map(Bytes::from).map_err(|e| unreadable(path.display().to_string(), e))
            }
            Self::StandardInput => {
                let mut bytes = Vec::new();
                std::io::stdin().read_to_end(&mut bytes).map_err(|e| unreadable("standard input".to_owned(), e))?;
                Ok(bytes.into())
            }
        }
    }
}

pub async fn run(args: SetArgs, output: &mut Output) -> Result<(), Failure> {
    let key = args.entity.full_key();
    let request = v1::SetRequest {
        workspace_id: args.entity.workspace.unwrap_or_default(),
        changelog_id: args.entity.key,
        value: Some(v1::set_request::Value::Raw(args.value.read()?)),
        headers: args.header,
        ack: (if args.buffered { v1::Ack::Buffered } else { v1::Ack::Durable }).into(),
    };
    let args = &args.client;
    let set = async {
        let (mut client, bytes) = (args.client().await?, request.encoded_len());
        if let Some(limit) = args.smaller_request_limit(&mut client, bytes).await {
            return Err(Failure::Failed(too_large(bytes, limit)));
        }
        Ok(client.set(args.unary(request)).await?.into_inner())
    };
    let answer = args.unary_call(set).await.map_err(Failure::of_write)?;
    output.written(&key, answer.position, answer.timestamp)
}
