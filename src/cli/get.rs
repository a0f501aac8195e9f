//! `changelogd get`.

use super::{
    args::{ClientArgs, EntityArgs},
    failure::Failure,
    output::Output,
};
use crate::proto::v1;

/// Reads one entity
///
/// On Kafka this replays the workspace's partition. Exit status 1 if the entity is not there.
#[derive(Debug, clap::Args)]
pub struct GetArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    #[command(flatten)]
    pub entity: EntityArgs,
    /// Print the value's bytes and nothing else; a terminal gets control and invisible characters escaped
    #[arg(long)]
    pub raw: bool,
}

pub async fn run(args: GetArgs, output: &mut Output) -> Result<(), Failure> {
    let request = v1::GetRequest {
        workspace_id: args.entity.workspace.unwrap_or_default(),
        changelog_id: args.entity.key,
        ..Default::default()
    };
    let client = &args.client;
    let get = async { Ok(client.client().await?.get(client.unary(request)).await?.into_inner()) };
    let answer = client.unary_call(get).await?;
    let entry = answer.entry.ok_or_else(|| Failure::Failed("the answer has no entry".to_owned()))?;
    match &entry.value {
        Some(v1::entry::Value::Raw(raw)) if args.raw => output.raw(raw),
        _ => output.entry(&entry),
    }
}
