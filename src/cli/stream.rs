//! `changelogd stream`.

use super::{
    args::{ClientArgs, Token, parse_token},
    events::{Event, incomplete, print},
    failure::Failure,
    output::Output,
};
use crate::proto::v1;

/// Streams records or latest values of partitions
///
/// Prints one Snapshot for each partition when its end is reached. Without it the partition is not whole, and the exit
/// status is 1.
#[derive(Debug, clap::Args)]
pub struct StreamArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// Only this partition, may be repeated
    #[arg(long, value_name = "NUMBER")]
    pub partition: Vec<i32>,
    /// Only this workspace, may be repeated
    #[arg(long, value_name = "ID")]
    pub workspace: Vec<String>,
    /// Only this entity type, may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// The latest value of each key instead of every record
    #[arg(long)]
    pub latest: bool,
    /// Continue with every change after the ends, until interrupted
    #[arg(long)]
    pub follow: bool,
    /// Continue after the event that printed this token
    #[arg(long, alias = "resume", value_name = "TOKEN", value_parser = parse_token)]
    pub resume_token: Option<Token>,
}

pub async fn run(args: StreamArgs, output: &mut Output) -> Result<(), Failure> {
    let content = if args.latest { v1::Content::Latest } else { v1::Content::Records };
    let request = v1::StreamAllRequest {
        partitions: args.partition,
        workspace_ids: args.workspace,
        entity_types: args.types,
        content: content.into(),
        resume_token: args.resume_token.map(|token| token.0).unwrap_or_default(),
        follow: args.follow,
        ..Default::default()
    };
    let client = &args.client;
    let stream = async {
        let mut stream = client.client().await?.stream_all(client.stream(request, args.follow)).await?.into_inner();
        let mut snapshots = 0;
        while let Some(message) = stream.message().await? {
            let Some(event) = message.event.map(Event::from) else { continue };
            snapshots += u64::from(matches!(event, Event::Snapshot(_)));
            print(event, output)?;
            if args.follow {
                output.flush()?;
            }
        }
        if snapshots > 0 { Ok(()) } else { Err(incomplete()) }
    };
    client.stream_call(args.follow, stream).await
}
