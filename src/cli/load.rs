//! `changelogd load`.

use super::{
    args::ClientArgs,
    events::{Event, incomplete, print},
    failure::Failure,
    output::Output,
};
use crate::proto::v1;

/// Loads the state of one workspace, whole or not at all
///
/// The last line is the Snapshot. Without it the load is not whole, and the exit status is 1.
#[derive(Debug, clap::Args)]
pub struct LoadArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// The workspace
    pub workspace: String,
    /// Only this entity type, may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
}

pub async fn run(args: LoadArgs, output: &mut Output) -> Result<(), Failure> {
    let request =
        v1::LoadWorkspaceRequest { workspace_id: args.workspace, entity_types: args.types, ..Default::default() };
    let client = &args.client;
    let load = async {
        let mut stream = client.client().await?.load_workspace(client.stream(request, false)).await?.into_inner();
        let mut whole = false;
        while let Some(message) = stream.message().await? {
            // A newer server may send events that this client does not know.
            let Some(event) = message.event.map(Event::from) else { continue };
            whole |= matches!(event, Event::Snapshot(_));
            print(event, output)?;
        }
        if whole { Ok(()) } else { Err(incomplete()) }
    };
    client.stream_call(false, load).await
}
