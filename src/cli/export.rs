//! `changelogd export`.

use std::{
    fs::{self, File},
    io::IsTerminal,
    path::PathBuf,
};

use indicatif::ProgressBar;

use super::{
    args::ClientArgs,
    events::{Event, incomplete},
    failure::Failure,
    format::Format,
    output::Output,
};
use crate::proto::v1;

/// JSON Lines that `import` reads. A FILE is written under another name next to it, and renamed when it is whole.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// Only this workspace, may be repeated
    #[arg(long, value_name = "ID")]
    pub workspace: Vec<String>,
    /// Where to; by default standard output
    pub file: Option<PathBuf>,
}

/// A bar or a spinner on standard error, hidden if that is not a terminal.
pub fn progress(length: Option<u64>) -> ProgressBar {
    match (std::io::stderr().is_terminal(), length) {
        (false, _) => ProgressBar::hidden(),
        (true, Some(length)) => ProgressBar::new(length),
        (true, None) => ProgressBar::new_spinner(),
    }
}

pub async fn run(args: ExportArgs, output: &mut Output) -> Result<(), Failure> {
    let Some(file) = &args.file else { return export(&args, output).await };
    let mut partial = file.clone().into_os_string();
    partial.push(".partial");
    let unwritable = |e: std::io::Error| Failure::Usage(format!("FILE: {}: {e}", file.display()));
    let to = File::create(&partial).map_err(unwritable)?;
    let sync = to.try_clone().map_err(unwritable)?;
    let mut lines = Output::new(Format::Json, Box::new(to));
    let result = export(&args, &mut lines).await.and_then(|()| lines.flush());
    let result = result.and_then(|()| {
        sync.sync_all()?;
        Ok(fs::rename(&partial, file)?)
    });
    if result.is_err() {
        // A partial file must not look like a complete one.
        let _ = fs::remove_file(&partial);
    }
    result
}

async fn export(args: &ExportArgs, output: &mut Output) -> Result<(), Failure> {
    let request = v1::StreamAllRequest {
        workspace_ids: args.workspace.clone(),
        content: v1::Content::Latest.into(),
        ..Default::default()
    };
    let mut client = args.client.client().await?;
    let mut stream = client.stream_all(args.client.stream(request, false)).await?.into_inner();
    let (bar, mut snapshots) = (progress(None), 0);
    while let Some(message) = stream.message().await? {
        match message.event.map(Event::from) {
            Some(Event::Batch(batch)) => {
                batch.entries.iter().try_for_each(|entry| output.export(entry))?;
                bar.inc(batch.entries.len() as u64);
            }
            Some(Event::Snapshot(_)) => snapshots += 1,
            Some(Event::Bookmark(_)) | None => {}
        }
    }
    bar.finish_and_clear();
    if snapshots > 0 { Ok(()) } else { Err(incomplete()) }
}
