//! `changelogd watch`.

use super::{
    args::{ClientArgs, Token, parse_token},
    failure::Failure,
    format::Format,
    output::Output,
};
use crate::proto::v1::{self, watch_response::Event};

/// Prints the state of one workspace, then its changes, until interrupted
///
/// A line that says `synced` comes after the whole state. Without it the state is not whole. A watch that breaks is not
/// resumed: pass the newest token of `synced` or `bookmark` to --resume-token to continue there. As text, a `bookmark`
/// comes only after changes.
#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// The workspace
    pub workspace: String,
    /// Only this entity type, may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    pub types: Vec<String>,
    /// Continue after the event that printed this token, with what has changed since
    #[arg(long, value_name = "TOKEN", value_parser = parse_token)]
    pub resume_token: Option<Token>,
}

pub async fn run(args: WatchArgs, output: &mut Output) -> Result<(), Failure> {
    let request = v1::WatchRequest {
        workspace_id: args.workspace,
        entity_types: args.types,
        resume_token: args.resume_token.map(|token| token.0).unwrap_or_default(),
        ..Default::default()
    };
    let client = &args.client;
    let watch = async {
        let mut stream = client.client().await?.watch(client.stream(request, true)).await?.into_inner();
        // People who read a workspace that does not change would see nothing but tokens.
        let mut shows_bookmark = output.format() == Format::Json;
        while let Some(message) = stream.message().await? {
            match message.event {
                Some(Event::Batch(batch)) => {
                    batch.entries.iter().try_for_each(|entry| output.entry(entry))?;
                    shows_bookmark = true;
                }
                Some(Event::Synced(synced)) => {
                    output.synced(&synced.snapshot.unwrap_or_default())?;
                    shows_bookmark = output.format() == Format::Json;
                }
                Some(Event::Bookmark(bookmark)) if shows_bookmark => {
                    output.bookmark(&bookmark.resume_token)?;
                    shows_bookmark = output.format() == Format::Json;
                }
                // A newer server may send events that this client does not know.
                Some(Event::Bookmark(_)) | None => {}
            }
            output.flush()?;
        }
        Err(Failure::Failed("incomplete: the watch ended as OK, and a watch has no end".to_owned()))
    };
    client.stream_call(true, watch).await
}
