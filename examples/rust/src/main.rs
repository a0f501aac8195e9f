//! The quick start: stores deployments of a workspace, loads them, reads their records, and watches for one change.

use std::{collections::BTreeMap, error::Error, time::Duration};

use changelogd_client::{Change, Client, Entity, Key, Selection, StreamEvent};
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// An entity is stored as JSON. Its key says where.
#[derive(Debug, Serialize, Deserialize)]
struct Deployment {
    workspace: String,
    id: String,
    version: String,
}

impl Entity for Deployment {
    const TYPE: &'static str = "deployment";

    fn key(&self) -> Key {
        Key::new(&self.workspace, Self::TYPE, &self.id)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The address is in CHANGELOGD_ADDR. By default it is 127.0.0.1:50051.
    let client = Client::from_env()?;
    let workspace = Uuid::new_v4().to_string();
    let deployment = |id: &str, version: &str| Deployment {
        workspace: workspace.clone(),
        id: id.to_owned(),
        version: version.to_owned(),
    };

    // A write is in the log when `set` returns. Buffered ones are faster, and flush says which of them failed.
    client.set(&deployment("api", "v1")).await?;
    client.set_buffered(&deployment("web", "v1")).await?;
    client.set_buffered(&deployment("old", "v1")).await?;
    client.delete_buffered(&deployment("old", "v1").key()).await?;
    let flushed = client.flush(Duration::from_secs(10)).await?;
    for failure in &flushed.failures {
        eprintln!("{} was not written: {}", failure.key, failure.error);
    }
    println!("flushed: {} failed, {} in flight", flushed.failures.len(), flushed.remaining);

    // The whole state of the workspace, or an error. Deleted entities are not in it.
    let deployments: BTreeMap<String, Deployment> = client.load(&workspace).await?;
    for (id, deployment) in &deployments {
        println!("loaded: {id} {}", deployment.version);
    }

    // The records in the log. A later record of a key replaces an earlier one, and a tombstone deletes the entity.
    let mut latest = BTreeMap::new();
    let mut records = client.stream(Selection::workspace(&workspace)).await?;
    while let Some(event) = records.try_next().await? {
        match event {
            StreamEvent::Record(record) if record.is_tombstone() => latest.insert(record.key.id, None),
            StreamEvent::Record(record) => {
                let deployment: Deployment = record.decode()?;
                latest.insert(record.key.id, Some(deployment.version))
            }
            // The partition of the workspace is complete.
            StreamEvent::Snapshot(_) => break,
        };
    }
    for (id, version) in latest {
        println!("record: {id} {}", version.as_deref().unwrap_or("deleted"));
    }

    // The state, and then each change. It resumes by itself when the connection breaks.
    let mut changes = client.watch(&workspace, &[Deployment::TYPE]);
    while let Some(change) = changes.try_next().await? {
        match change {
            Change::Loaded(entries) => {
                println!("watching: {} entities", entries.len());
                client.set(&deployment("api", "v2")).await?;
            }
            Change::Changed(entry) => {
                println!("changed: {} {}", entry.key.id, entry.decode::<Deployment>()?.version);
                break;
            }
            Change::Deleted(key) => println!("deleted: {}", key.id),
        }
    }
    Ok(())
}
