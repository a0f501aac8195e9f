//! `changelogd export`.
//!
//! Promises: FILE is whole or not changed, and every line of it can be imported. No link is followed, and no other file
//! is written on the way.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use super::{
    args::ClientArgs,
    events::{Event, incomplete},
    failure::Failure,
    format::Format,
    output::{Output, progress},
    record::not_importable,
};
use crate::{proto::v1, signals::Signals};

/// JSON Lines that `import` reads. A FILE is written under a new name next to it (FILE.….partial), and renamed when it
/// is whole. Exit status 1 if an entry can not be imported.
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

pub async fn run(args: ExportArgs, output: &mut Output) -> Result<(), Failure> {
    let Some(file) = &args.file else { return export(&args, output).await };
    let unwritable = |e: io::Error| Failure::Usage(format!("FILE: {}: {e}", file.display()));
    // Before there is a file to remove.
    let mut signals = Signals::new().map_err(|e| Failure::Failed(format!("signals can't be received: {e}")))?;
    // Dropping it removes it, because a partial file must not look like a complete one.
    let partial = partial(file).map_err(unwritable)?;
    let mut lines = Output::new(Format::Json, Box::new(partial.as_file().try_clone().map_err(unwritable)?));
    let whole = async {
        export(&args, &mut lines).await?;
        lines.flush()
    };
    tokio::select! {
        result = whole => result?,
        () = signals.next() => {
            return Err(Failure::Failed("stopped by a signal; no file was written".to_owned()));
        }
    }
    partial.as_file().sync_all().map_err(unwritable)?;
    partial.persist(file).map_err(|e| unwritable(e.error))?;
    Ok(())
}

/// A new file next to `file`. Its name is free: what someone else has put there is not opened.
fn partial(file: &Path) -> io::Result<NamedTempFile> {
    let Some(name) = file.file_name() else { return Err(io::Error::other("is no name of a file")) };
    match fs::symlink_metadata(file) {
        Ok(found) if !found.is_file() && !found.is_symlink() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "is there, and no regular file"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut prefix = name.to_owned();
    prefix.push(".");
    let directory = file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    // As for other new files, the umask takes permissions away.
    let permissions = Permissions::from_mode(0o666);
    tempfile::Builder::new().prefix(&prefix).suffix(".partial").permissions(permissions).tempfile_in(directory)
}

async fn export(args: &ExportArgs, output: &mut Output) -> Result<(), Failure> {
    let request = v1::StreamAllRequest {
        workspace_ids: args.workspace.clone(),
        content: v1::Content::Latest.into(),
        ..Default::default()
    };
    let client = &args.client;
    let (bar, mut snapshots) = (progress(None), 0);
    let (mut refused, mut first) = (0_u64, None);
    let read = async {
        let mut stream = client.client().await?.stream_all(client.stream(request, false)).await?.into_inner();
        while let Some(message) = stream.message().await? {
            match message.event.map(Event::from) {
                Some(Event::Batch(batch)) => {
                    for entry in &batch.entries {
                        if let Some(why) = not_importable(entry) {
                            refused += 1;
                            first.get_or_insert_with(|| format!("{}: {why}", entry.key));
                        }
                        output.export(entry)?;
                    }
                    bar.inc(batch.entries.len() as u64);
                }
                Some(Event::Snapshot(_)) => snapshots += 1,
                Some(Event::Bookmark(_)) | None => {}
            }
        }
        Ok(())
    };
    client.stream_call(false, read).await?;
    bar.finish_and_clear();
    match first {
        _ if snapshots == 0 => Err(incomplete()),
        Some(first) => Err(Failure::Failed(format!("{refused} entries can not be imported, the first: {first}"))),
        None => Ok(()),
    }
}
