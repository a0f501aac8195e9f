//! `changelogd set`.

use std::{
    ffi::{OsStr, OsString},
    fmt::Display,
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
};

use bytes::Bytes;
use clap::builder::{OsStringValueParser, TypedValueParser};
use prost::Message;
use tonic::Status;

use super::{
    args::{ClientArgs, EntityArgs},
    connection::too_large,
    failure::{Failure, reason},
    output::Output,
};
use crate::proto::v1;

const EXAMPLES: &str = r#"Examples:
  changelogd set ws-1/city/1 '{"name":"Bern"}'
  changelogd set --workspace ws-1 /city/1 @bern.json
  cat bern.json | changelogd set ws-1/city/1 -"#;

/// The largest --max-value-bytes. More is not read, because no server takes it.
const MAX_VALUE_BYTES: u64 = 64_000_000;

/// Writes one entity's value
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
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
        match self {
            Self::Text(text) => Ok(text.into()),
            Self::File(path) => read(&path.display(), || File::open(&path)),
            Self::StandardInput => read(&"standard input", || Ok(io::stdin())),
        }
    }
}

/// Reads at most one byte more than a value may have: an input may have no end.
fn read<R: Read>(what: &dyn Display, open: impl FnOnce() -> io::Result<R>) -> Result<Bytes, Failure> {
    let mut bytes = Vec::new();
    let read = open().and_then(|from| from.take(MAX_VALUE_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 <= MAX_VALUE_BYTES => Ok(bytes.into()),
        Ok(_) => {
            Err(Failure::Usage(format!("VALUE: {what}: it has more than {MAX_VALUE_BYTES} bytes, the most of a value")))
        }
        Err(error) => Err(Failure::Usage(format!("VALUE: {what}: {error}"))),
    }
}

/// The byte order mark with which a value begins. JSON has none, and the server names only the place where it failed.
fn byte_order_mark(value: &[u8]) -> Option<&'static str> {
    match value {
        [0xef, 0xbb, 0xbf, ..] => Some("a byte order mark (U+FEFF), which JSON may not have"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("the byte order mark of UTF-16 or UTF-32, and JSON is UTF-8"),
        [_, 0, ..] | [0, ..] => Some("a NUL byte, as text in UTF-16 or UTF-32 does, and JSON is UTF-8"),
        _ => None,
    }
}

fn name_mark(failure: Failure, mark: Option<&str>) -> Failure {
    match (failure, mark) {
        (Failure::Status { status, .. }, Some(mark)) if reason(&status).as_deref() == Some("VALUE_NOT_JSON") => {
            let message = format!("{}: it begins with {mark}", status.message());
            let details = Bytes::copy_from_slice(status.details());
            Failure::from(Status::with_details(status.code(), message, details))
        }
        (other, _) => other,
    }
}

pub async fn run(args: SetArgs, output: &mut Output) -> Result<(), Failure> {
    let key = args.entity.full_key();
    let value = args.value.read()?;
    let mark = byte_order_mark(&value);
    let request = v1::SetRequest {
        workspace_id: args.entity.workspace.unwrap_or_default(),
        changelog_id: args.entity.key,
        value: Some(v1::set_request::Value::Raw(value)),
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
    let answer = args.unary_call(set).await.map_err(|failure| name_mark(failure, mark).of_write())?;
    output.written(&key, answer.position, answer.timestamp)
}
