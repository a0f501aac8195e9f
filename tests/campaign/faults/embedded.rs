//! F22 and F23: the embedded store is damaged, its disk is full or read-only, or a second process wants it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use changelogd::proto::v1;
use tempfile::TempDir;
use tonic::{Code, Status};

use super::{
    calls::Tally,
    own::{Clients, Content, Verdict},
    process::{NotStarted, Process},
};
use crate::{
    fault::{Fault, Stage},
    sidecar::{Client, limited, raw, reason, said},
};

pub fn all() -> Vec<Box<dyn Fault>> {
    vec![Box::new(Damage), Box::new(Disk)]
}

const PATIENCE: Duration = Duration::from_secs(60);
const WORKSPACES: usize = 3;
const PLAIN: [&str; 3] = ["sh", "-c", r#"exec "$@""#];

fn on(dir: &Path) -> Vec<String> {
    vec![format!("--data-dir={}", dir.display())]
}

fn temporary() -> Result<TempDir, String> {
    tempfile::tempdir().map_err(|error| format!("no directory: {error}"))
}

async fn set(client: &mut Client, key: &str) -> Result<(), Status> {
    let set = v1::SetRequest { changelog_id: key.to_owned(), value: raw("1"), ..Default::default() };
    client.set(limited(set, 20)).await.map(drop)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A copy of a store, in a directory of its own.
fn copy(from: &Path) -> Result<TempDir, String> {
    let to = temporary()?;
    for file in files(from) {
        let target = to.path().join(file.strip_prefix(from).expect("it is in it"));
        let made = fs::create_dir_all(target.parent().expect("it has one")).and_then(|()| fs::copy(&file, &target));
        made.map_err(|error| format!("{} can't be copied: {error}", file.display()))?;
    }
    Ok(to)
}

/// Covers R34, R35, F22.
struct Damage;

#[async_trait]
impl Fault for Damage {
    fn id(&self) -> &'static str {
        "F22"
    }

    fn title(&self) -> &'static str {
        "embedded store: SIGKILL under load, then a flipped bit, or a torn last write"
    }

    fn expected(&self) -> &'static str {
        "a flipped bit: not started, or DATA_LOSS STORE_CORRUPT, or everything acknowledged; a torn write: everything \
         acknowledged"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let dir = temporary()?;
        let mut process = Process::start(&PLAIN, &[], &on(dir.path())).await.map_err(|e| e.to_string())?;
        let mut clients = Clients::start(&process.api, WORKSPACES, &Content::new(), true);
        clients.served(if stage.short { 60 } else { 600 }, PATIENCE).await?;
        process.kill().await;
        clients.stop().await?;
        // A start that reads everything again, and cuts the journal to the bytes in use.
        let mut process = Process::start(&PLAIN, &[], &on(dir.path())).await.map_err(|e| e.to_string())?;
        match clients.verdict(&process.api).await {
            Verdict::Exact => {}
            other => return Err(format!("after SIGKILL: {other:?}")),
        }
        process.kill().await;
        let engine: Vec<_> =
            files(&dir.path().join("engine")).into_iter().filter(|f| f.metadata().is_ok_and(|m| m.len() > 0)).collect();
        let mut told = Tally::default();
        for n in 0..if stage.short { 12 } else { 60 } {
            let file = &engine[n % engine.len()];
            told.add(&flip(stage, &clients, dir.path(), file).await?);
        }
        let torn = torn(&clients, dir.path(), &engine).await?;
        let kinds: std::collections::BTreeSet<_> =
            engine.iter().filter_map(|f| f.extension()?.to_str()).map(|e| format!(".{e}")).collect();
        let acked = clients.end().await?;
        Ok(format!("bits of files {kinds:?} flipped: {told}; {torn}; {acked}"))
    }
}

/// Flips one bit at a place where bytes are written.
async fn flip(stage: &mut Stage<'_>, clients: &Clients, dir: &Path, file: &Path) -> Result<String, String> {
    let copied = copy(dir)?;
    let victim = copied.path().join(file.strip_prefix(dir).expect("it is in it"));
    let mut bytes = fs::read(&victim).map_err(|error| error.to_string())?;
    let written = bytes.iter().rposition(|b| *b != 0).map_or(1, |last| last + 1);
    let (at, bit) = (stage.random.below(written as u64) as usize, stage.random.below(8));
    bytes[at] ^= 1 << bit;
    fs::write(&victim, bytes).map_err(|error| error.to_string())?;
    let place = format!("bit {bit} of byte {at} of {written} in {}", file.display());
    match Process::start(&PLAIN, &[], &on(copied.path())).await {
        Err(NotStarted::Ended(words)) if words.contains("corrupt") => Ok("not started, said to be corrupt".to_owned()),
        Err(other) => Err(format!("{place}: not started, and not said to be corrupt: {other}")),
        Ok(process) => match clients.verdict(&process.api).await {
            Verdict::Exact => Ok("everything there".to_owned()),
            Verdict::Refused(status) if reason(&status).as_deref() == Some("STORE_CORRUPT") => {
                match set(&mut process.client(), "own-0/t/0").await {
                    Err(status) if status.code() == Code::DataLoss => Ok(said(&status)),
                    other => Err(format!("{place}: after STORE_CORRUPT a write was answered {other:?}")),
                }
            }
            other => Err(format!("{place}: {other:?}")),
        },
    }
}

/// Appends the start of a batch to the journal, as a crash leaves it.
async fn torn(clients: &Clients, dir: &Path, engine: &[PathBuf]) -> Result<String, String> {
    let journal = engine.iter().filter(|f| f.extension().is_some_and(|e| e == "jnl")).max();
    let journal = journal.ok_or("there is no journal")?;
    let copied = copy(dir)?;
    let victim = copied.path().join(journal.strip_prefix(dir).expect("it is in it"));
    let bytes = fs::read(&victim).map_err(|error| error.to_string())?;
    let written = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    let start = &bytes[..(written / 3).min(150)];
    fs::write(&victim, [&bytes[..], start].concat()).map_err(|error| error.to_string())?;
    let process = Process::start(&PLAIN, &[], &on(copied.path())).await.map_err(|e| format!("a torn write: {e}"))?;
    match clients.verdict(&process.api).await {
        Verdict::Exact => {}
        other => return Err(format!("a torn write: {other:?}")),
    }
    set(&mut process.client(), "later/t/1").await.map_err(|s| format!("after a torn write: {s:?}"))?;
    Ok("a torn write: started, everything there, writes go on".to_owned())
}

/// Covers R35, F23.
struct Disk;

/// Runs on a file system of 48 MiB, in a mount namespace that ends with the process.
const SMALL_DISK: &str = r#"mount -t tmpfs -o size=48m none "$DIR" && exec "$@""#;
const READ_ONLY: &str = r#"mount --bind "$DIR" "$DIR" && mount -o remount,bind,ro "$DIR" && exec "$@""#;
/// A write beyond the limit then fails as on a full disk. Without this, a signal would end the process.
const NO_SIGNAL: &str = r#"trap '' XFSZ; exec "$@""#;

#[async_trait]
impl Fault for Disk {
    fn id(&self) -> &'static str {
        "F23"
    }

    fn title(&self) -> &'static str {
        "embedded store: the disk is full, files can't grow, the directory is read-only, a second process comes"
    }

    fn expected(&self) -> &'static str {
        "RESOURCE_EXHAUSTED DISK_FULL or FAILED_PRECONDITION STORE_READ_ONLY, or not started; no acknowledged write is \
         lost"
    }

    async fn inject(&self, _stage: &mut Stage<'_>) -> Result<String, String> {
        Ok([full().await?, cannot_grow().await?, read_only().await?, second().await?].join("; "))
    }
}

/// Whether this machine allows mounts. Not every container does.
async fn mounts() -> bool {
    let try_it = tokio::process::Command::new("unshare").args(["-m", "sh", "-c", "mount -t tmpfs none /mnt"]).output();
    try_it.await.is_ok_and(|output| output.status.success())
}

async fn full() -> Result<String, String> {
    if !mounts().await {
        return Ok("a full disk: not tried, nothing can be mounted here".to_owned());
    }
    let dir = temporary()?;
    let script = ["unshare", "-m", "sh", "-c", SMALL_DISK];
    let process = Process::start(&script, &[("DIR", dir.path())], &on(&dir.path().join("data"))).await;
    let process = process.map_err(|error| format!("on a small disk: {error}"))?;
    let mut client = process.client();
    let mut clients = Clients::start(&process.api, WORKSPACES, &Content::new(), true);
    clients.served(20, PATIENCE).await?;
    let balloon = PathBuf::from(format!("/proc/{}/root{}/balloon", process.pid(), dir.path().display()));
    let _ = fs::write(&balloon, vec![1; 48 << 20]); // until there is no more
    let since = Instant::now();
    let status = loop {
        match set(&mut client, "full/t/1").await {
            Err(status) => break status,
            Ok(()) if since.elapsed() > PATIENCE => return Err("writes go on, on a full disk".to_owned()),
            Ok(()) => {}
        }
    };
    if status.code() != Code::ResourceExhausted || reason(&status).as_deref() != Some("DISK_FULL") {
        return Err(format!("on a full disk, a write was answered {}: {}", said(&status), status.message()));
    }
    let loads = Instant::now();
    while clients.loads_since(loads) < WORKSPACES {
        if loads.elapsed() > PATIENCE {
            return Err("on a full disk nothing is loaded".to_owned());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fs::remove_file(&balloon).map_err(|error| format!("{}: {error}", balloon.display()))?;
    clients.served(10, PATIENCE).await.map_err(|error| format!("when there is space again: {error}"))?;
    clients.stop().await?;
    let own = clients.end().await?;
    Ok(format!("a full disk: {}, loads go on, writes again when there is space ({own})", said(&status)))
}

async fn cannot_grow() -> Result<String, String> {
    let dir = temporary()?;
    let process = Process::start(&["sh", "-c", NO_SIGNAL], &[], &on(dir.path())).await;
    let mut process = process.map_err(|error| error.to_string())?;
    let mut clients = Clients::start(&process.api, WORKSPACES, &Content::new(), true);
    clients.served(20, PATIENCE).await?;
    // Its journal is created at its full size, and written from the start.
    let mut limit = tokio::process::Command::new("prlimit");
    limit.args(["--fsize=4096:4096", "--pid"]).arg(process.pid().to_string());
    let limited = limit.output().await.map_err(|error| format!("cannot run prlimit: {error}"))?;
    if !limited.status.success() {
        return Err(format!("prlimit: {}", String::from_utf8_lossy(&limited.stderr)));
    }
    let loads = Instant::now();
    let told = clients.refused_by(&["STORE_READ_ONLY", "DISK_FULL"], PATIENCE).await?;
    process.kill().await;
    clients.stop().await?;
    let process =
        Process::start(&PLAIN, &[], &on(dir.path())).await.map_err(|e| format!("after it, without a limit: {e}"))?;
    match clients.verdict(&process.api).await {
        Verdict::Exact => {}
        other => return Err(format!("after it, without a limit: {other:?}")),
    }
    let reads = clients.loads_since(loads);
    Ok(format!(
        "files that can't grow: {}, {reads} loads meanwhile, everything acknowledged there after a restart",
        said(&told)
    ))
}

async fn read_only() -> Result<String, String> {
    if !mounts().await {
        return Ok("a read-only directory: not tried, nothing can be mounted here".to_owned());
    }
    let dir = temporary()?;
    drop(Process::start(&PLAIN, &[], &on(&dir.path().join("data"))).await.map_err(|e| e.to_string())?);
    let script = ["unshare", "-m", "sh", "-c", READ_ONLY];
    match Process::start(&script, &[("DIR", dir.path())], &on(&dir.path().join("data"))).await {
        Err(NotStarted::Ended(words)) if words.contains("can't be written") => {
            Ok("a read-only directory: not started, and said so".to_owned())
        }
        Err(other) => Err(format!("on a read-only directory: {other}")),
        Ok(process) => match set(&mut process.client(), "ws/t/1").await {
            Err(status) if reason(&status).as_deref() == Some("STORE_READ_ONLY") => {
                Ok(format!("a read-only directory: {}", said(&status)))
            }
            other => Err(format!("on a read-only directory, a write was answered {other:?}")),
        },
    }
}

async fn second() -> Result<String, String> {
    let dir = temporary()?;
    let first = Process::start(&PLAIN, &[], &on(dir.path())).await.map_err(|e| e.to_string())?;
    match Process::start(&PLAIN, &[], &on(dir.path())).await {
        Err(NotStarted::Ended(words)) if words.contains("in use by another process") => {}
        Err(other) => return Err(format!("a second process: {other}")),
        Ok(_) => return Err("a second process has started on the directory".to_owned()),
    }
    set(&mut first.client(), "ws/t/1").await.map_err(|s| format!("beside a second process: {s:?}"))?;
    Ok("a second process: not started, and said so; the first goes on".to_owned())
}
