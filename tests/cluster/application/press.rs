//! Many large writes and loads at the same time, to see whether changelogd keeps to its memory.

use std::{sync::Arc, time::Duration};

use changelogd_client::Client;
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{counts::Counts, load::Document, started, write::set};

const WRITERS: u64 = 48;
const LOADERS: u64 = 16;
const VALUE_BYTES: usize = 400_000;
/// Values of a workspace, so that a load has 8 MB.
const ENTITIES: u64 = 20;
const WORKSPACES: u64 = 12;

pub async fn run(client: &Client, span: Duration) -> Result<(), Box<dyn std::error::Error>> {
    started(client).await?;
    let (writes, loads) = (Arc::<Counts>::default(), Arc::<Counts>::default());
    let (end, value) = (Instant::now() + span, format!("\"{}\"", "x".repeat(VALUE_BYTES)));
    let mut tasks = JoinSet::new();
    for task in 0..WRITERS {
        let (client, writes, value) = (client.clone(), writes.clone(), value.clone().into_bytes());
        tasks.spawn(async move {
            let mut number = task;
            while Instant::now() < end {
                let (workspace, entity) = (workspace(number), format!("e{}", number / WORKSPACES % ENTITIES));
                writes.add(&set(&client, &workspace, &entity, value.clone()).await);
                number += WRITERS + 1;
            }
        });
    }
    for task in 0..LOADERS {
        let (client, loads) = (client.clone(), loads.clone());
        tasks.spawn(async move {
            let mut number = task;
            while Instant::now() < end {
                // The package tries a refused load again, so one that fails was refused five times.
                let workspace = workspace(number);
                let Ok(loaded) = timeout_at(end, client.load::<Document>(&workspace)).await else { return };
                loads.add(&loaded);
                number += 1;
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    let printed: Value = json!({ "writes": &*writes, "loads": &*loads });
    println!("{printed}");
    Ok(())
}

fn workspace(number: u64) -> String {
    format!("press-{}", number % WORKSPACES)
}
