//! `changelogd set`.

use std::{io::Read, path::Path};

use bytes::Bytes;

use super::{
    args::{ClientArgs, EntityArgs},
    failure::{Failure, write_failure},
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
    #[arg(allow_hyphen_values = true)]
    pub value: String,
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

fn read_value(given: &str) -> Result<Bytes, Failure> {
    let unreadable = |what: &str, e: std::io::Error| Failure::Usage(format!("VALUE: {what}: {e}"));
    match given.strip_prefix('@') {
        Some(path) => std::fs::read(Path::new(path)).map(Bytes::from).map_err(|e| unreadable(path, e)),
        None if given == "-" => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map_err(|e| unreadable("standard input", e))?;
            Ok(bytes.into())
        }
        None => Ok(Bytes::copy_from_slice(given.as_bytes())),
    }
}

pub async fn run(args: SetArgs, output: &mut Output) -> Result<(), Failure> {
    let key = args.entity.full_key();
    let request = v1::SetRequest {
        workspace_id: args.entity.workspace.unwrap_or_default(),
        changelog_id: args.entity.key,
        value: Some(v1::set_request::Value::Raw(read_value(&args.value)?)),
        headers: args.header,
        ack: (if args.buffered { v1::Ack::Buffered } else { v1::Ack::Durable }).into(),
    };
    let mut client = args.client.client().await?;
    let answer = client.set(args.client.unary(request)).await.map_err(write_failure)?.into_inner();
    output.written(&key, answer.position, answer.timestamp)
}
