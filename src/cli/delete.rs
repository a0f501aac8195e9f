//! `changelogd delete`.

use super::{
    args::{ClientArgs, EntityArgs},
    failure::Failure,
    output::Output,
    set::parse_header,
};
use crate::proto::v1;

/// Deletes one entity
///
/// To delete an entity that is not there is no failure.
#[derive(Debug, clap::Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(flatten)]
    pub entity: EntityArgs,
    /// A header of the tombstone, may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_header)]
    pub header: Vec<v1::Header>,
    /// Do not wait for the store's acknowledgement: `flush` reports which writes failed
    #[arg(long)]
    pub buffered: bool,
}

pub async fn run(args: DeleteArgs, output: &mut Output) -> Result<(), Failure> {
    let key = args.entity.full_key();
    let request = v1::DeleteRequest {
        workspace_id: args.entity.workspace.unwrap_or_default(),
        changelog_id: args.entity.key,
        headers: args.header,
        ack: (if args.buffered { v1::Ack::Buffered } else { v1::Ack::Durable }).into(),
    };
    let client = &args.client;
    let delete = async { Ok(client.client().await?.delete(client.unary(request)).await?.into_inner()) };
    let answer = client.unary_call(delete).await.map_err(Failure::of_write)?;
    output.written(&key, answer.position, answer.timestamp)
}
