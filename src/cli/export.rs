//! `changelogd export`.
//!
//! Promises: FILE is whole or not changed. Every line of it can be imported by a sidecar whose --values and
//! --max-value-bytes take the values. No link is followed, and no other file is written on the way.

use std::{
    fs::{self, Metadata, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use changelog_core::model::{ValueMode, ValueRules};
use indicatif::ProgressBar;
use rustix::fs::PROC_SUPER_MAGIC;
use tempfile::NamedTempFile;

use super::{
    args::ClientArgs,
    events::{Event, incomplete},
    failure::{Failure, say, warning},
    format::Format,
    output::{Output, progress},
    record::{Line, not_importable},
};
use crate::{proto::v1, signals::Signals};

/// Writes the latest values as JSON Lines, which `import` reads
///
/// The export has every value that is there. So the importing sidecar needs `--values opaque` if some are no JSON, and
/// a --max-value-bytes as large as the largest. A warning names the setting if values are no JSON, or are larger than
/// the sidecar of this export takes now.
///
/// FILE is written under a new name next to it (FILE.….partial), and renamed when it is whole. A new file has mode
/// 0600, and one that is replaced keeps its mode.
///
/// Exit status 1 if no sidecar takes an entry, because of its headers.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub client: ClientArgs,
    /// Only this workspace, may be repeated
    #[arg(long, value_name = "ID")]
    pub workspace: Vec<String>,
    /// Where to; by default, or with -, standard output
    pub file: Option<PathBuf>,
}

pub async fn run(args: ExportArgs, output: &mut Output) -> Result<(), Failure> {
    let Some(file) = args.file.as_ref().filter(|file| file.as_os_str() != "-") else {
        let format = output.format();
        return export(&args, output, format).await;
    };
    let unwritable = |e: io::Error| Failure::Usage(format!("FILE: {}: {e}", file.display()));
    // Before there is a file to remove.
    let mut signals = Signals::new().map_err(|e| Failure::Failed(format!("signals can't be received: {e}")))?;
    // Dropping it removes it, because a partial file must not look like a complete one.
    let partial = partial(file).map_err(unwritable)?;
    let mut lines = Output::new(Format::Json, Box::new(partial.as_file().try_clone().map_err(unwritable)?));
    let whole = async {
        export(&args, &mut lines, output.format()).await?;
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

/// The mode of a new file.
const MODE: u32 = 0o600;

/// A new file next to `file`. Its name is free: what someone else has put there is not opened.
fn partial(file: &Path) -> io::Result<NamedTempFile> {
    let Some(name) = file.file_name() else { return Err(io::Error::other("is no name of a file")) };
    let mode = replaced_mode(file)?.unwrap_or(MODE);
    let mut prefix = name.to_owned();
    prefix.push(".");
    let partial = tempfile::Builder::new().prefix(&prefix).suffix(".partial").tempfile_in(parent(file))?;
    // Not at its creation, because the umask would take permissions away.
    partial.as_file().set_permissions(Permissions::from_mode(mode))?;
    Ok(partial)
}

fn parent(file: &Path) -> &Path {
    file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// The mode of the file that is replaced. `None` if there is none, or a link, which is replaced by a file. An error if
/// something else than a regular file is at FILE, or at the end of the links there: the caller wanted to write to it.
fn replaced_mode(file: &Path) -> io::Result<Option<u32>> {
    let refused = |why: &str| Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{why}; - is standard output")));
    let found = |found: io::Result<Metadata>| match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    };
    match found(fs::symlink_metadata(file))? {
        None => Ok(None),
        Some(there) if there.is_file() => Ok(Some(there.permissions().mode() & 0o777)),
        Some(there) if there.is_symlink() => match found(fs::metadata(file))? {
            Some(target) if !target.is_file() => refused("is a link to something that is no regular file"),
            _ if leads_through_proc(file)? => refused("is a link to an open file of a process"),
            _ => Ok(None),
        },
        Some(_) => refused("is there, and no regular file"),
    }
}

/// As many links as Linux follows.
const MAX_LINKS: usize = 40;

/// Whether a link is one of /proc, or leads to one, as /dev/stdout does. The open file of a process may be regular.
fn leads_through_proc(link: &Path) -> io::Result<bool> {
    let mut at = link.to_owned();
    for _ in 0..MAX_LINKS {
        if !fs::symlink_metadata(&at).is_ok_and(|found| found.is_symlink()) {
            return Ok(false);
        }
        if rustix::fs::statfs(parent(&at))?.f_type == PROC_SUPER_MAGIC {
            return Ok(true);
        }
        at = parent(&at).join(fs::read_link(&at)?);
    }
    Ok(false)
}

/// Warnings have this format.
async fn export(args: &ExportArgs, output: &mut Output, format: Format) -> Result<(), Failure> {
    let request = v1::StreamAllRequest {
        workspace_ids: args.workspace.clone(),
        content: v1::Content::Latest.into(),
        ..Default::default()
    };
    let client = &args.client;
    // On the terminal of the lines, its own would be mixed into them.
    let bar = if output.is_terminal() { ProgressBar::hidden() } else { progress(None) };
    let (mut snapshots, mut needs) = (0, Needs::default());
    let read = async {
        let mut connected = client.client().await?;
        needs.limit = client.max_value_bytes(&mut connected).await;
        let mut stream = connected.stream_all(client.stream(request, false)).await?.into_inner();
        while let Some(message) = stream.message().await? {
            match message.event.map(Event::from) {
                Some(Event::Batch(batch)) => {
                    for entry in &batch.entries {
                        let line = Line::of(entry, false);
                        needs.add(entry, &line);
                        output.export(&line)?;
                    }
                    bar.inc(batch.entries.len() as u64);
                }
                Some(Event::Snapshot(_)) => snapshots += 1,
                Some(Event::Bookmark(_)) | None => {}
            }
        }
        if snapshots > 0 { Ok(()) } else { Err(incomplete()) }
    };
    let read = client.stream_call(false, read).await;
    bar.finish_and_clear();
    match (read, needs.unmet()) {
        // It counts also if the reader of the output has gone.
        (Ok(()) | Err(Failure::PipeClosed), Some(unmet)) => return Err(unmet),
        (read, _) => read?,
    }
    needs.warnings().iter().for_each(|text| say(&warning("export", text, format)));
    Ok(())
}

/// How many entries, and the key of the first.
#[derive(Default)]
struct Count(u64, String);

impl Count {
    fn add(&mut self, key: &str) {
        if self.0 == 0 {
            key.clone_into(&mut self.1);
        }
        self.0 += 1;
    }
}

/// What the sidecar needs that imports these entries.
#[derive(Default)]
struct Needs {
    /// The largest value that the sidecar of the export takes now, if it said so.
    limit: Option<usize>,
    over_limit: Count,
    largest: usize,
    not_json: Count,
    /// No sidecar takes them.
    refused: Count,
    why_refused: String,
}

impl Needs {
    fn add(&mut self, entry: &v1::Entry, line: &Line) {
        if let Some(why) = not_importable(entry) {
            if self.refused.0 == 0 {
                self.why_refused = why;
            }
            self.refused.add(&entry.key);
        }
        let Some(v1::entry::Value::Raw(value)) = &entry.value else { return };
        self.largest = self.largest.max(value.len());
        if self.limit.is_some_and(|limit| value.len() > limit) {
            self.over_limit.add(&entry.key);
        }
        let json = ValueRules { mode: ValueMode::Json, max_bytes: usize::MAX };
        // A value that stands in its line is JSON.
        if line.value.is_none() && json.check(value).is_err() {
            self.not_json.add(&entry.key);
        }
    }

    fn unmet(&self) -> Option<Failure> {
        let (Count(count, first), why) = (&self.refused, &self.why_refused);
        (*count > 0).then(|| Failure::Failed(format!("{count} entries can not be imported, the first: {first}: {why}")))
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Count(count @ 1.., first) = &self.not_json {
            warnings.push(format!(
                "{count} values are no JSON: only a sidecar with --values opaque imports them, the first: {first}"
            ));
        }
        if let (Count(count @ 1.., first), Some(limit), largest) = (&self.over_limit, self.limit, self.largest) {
            warnings.push(format!(
                "{count} values are larger than this sidecar takes now ({limit} bytes): only a sidecar with \
                 --max-value-bytes {largest} or more imports all of them, the first: {first}"
            ));
        }
        warnings
    }
}
