//! A Rust service that keeps a changelog in its own process: no sidecar and no gRPC.
//!
//! It writes three entities of a workspace, deletes one, and loads the workspace, as after a restart.
//!
//! ```sh
//! cargo run -p changelogd-example-embed -- ./example-data
//! ```

use std::{collections::HashSet, error::Error, path::PathBuf, sync::Arc, time::Duration};

use changelog_core::{
    changelog::{Ack, Changelog, Limits, Metrics, Peer},
    model::{Headers, Key, WorkspaceId},
};
use changelog_embedded::{EmbeddedLog, Settings};
use tokio::time::Instant;

/// The longest time that an operation may take.
const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).ok_or("usage: changelogd-example-embed DIRECTORY")?;
    for line in run(directory.into()).await? {
        println!("{line}");
    }
    Ok(())
}

/// Writes, and returns the lines of a load.
async fn run(directory: PathBuf) -> Result<Vec<String>, Box<dyn Error>> {
    // Opening reads the directory, so it blocks.
    let log = tokio::task::spawn_blocking(|| EmbeddedLog::open(Settings::new(directory))).await??;
    let changelog = Changelog::new(Arc::new(log), Limits::default(), Metrics::default());

    for (key, value) in [
        ("acme/user/1", Some(r#"{"name":"Ann"}"#)),
        ("acme/user/2", Some(r#"{"name":"Bob"}"#)),
        ("acme/team/1", Some(r#"{"users":[1]}"#)),
        ("acme/user/2", None),
    ] {
        // The target knows the topic and its rules for values. Read it again for each write, because they change.
        let target = changelog.write_target();
        if let Some(value) = value {
            target.value_rules().check(value.as_bytes())?;
        }
        let record = target.record(Key::parse(key)?, value.map(Into::into), Headers::default())?;
        // With `Durable` the write is on disk when this returns.
        changelog.write(record, Ack::Durable, Some(Instant::now() + TIMEOUT)).await?;
    }

    // A load has every write that was acknowledged before it, or it is an error.
    let workspace = WorkspaceId::parse("acme")?;
    let all_types = HashSet::new();
    let load = changelog.load(workspace, all_types, Peer::default(), Instant::now() + TIMEOUT).await?;
    let mut lines = Vec::new();
    for record in load.records() {
        let value = record.value.as_deref().unwrap_or_default();
        lines.push(format!("{} {}", String::from_utf8_lossy(&record.key), String::from_utf8_lossy(value)));
    }
    lines.push(format!("whole: {} entities", load.snapshot.entries));
    drop(load);

    let undelivered = changelog.drain(Instant::now() + TIMEOUT).await;
    if undelivered.count > 0 {
        return Err(format!("{} writes were not delivered", undelivered.count).into());
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::run;

    #[tokio::test]
    async fn a_service_embeds_a_changelog_without_grpc() {
        let directory = tempfile::tempdir().unwrap();
        let expected = [r#"acme/user/1 {"name":"Ann"}"#, r#"acme/team/1 {"users":[1]}"#, "whole: 2 entities"];
        assert_eq!(run(directory.path().to_owned()).await.unwrap(), expected);
        // After a restart everything is still there, and is written again.
        assert_eq!(run(directory.path().to_owned()).await.unwrap(), expected);
    }
}
