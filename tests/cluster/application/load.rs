//! Loads workspaces.

use std::collections::BTreeMap;

use changelogd_client::{Client, Entity, Key};
use serde::{Deserialize, Serialize};

use super::{started, write::set};

const ENTITIES: u64 = 10;

/// What `write` stores. Its key is known when it is written only.
#[derive(Debug, Serialize, Deserialize)]
pub struct Document(serde_json::Value);

impl Entity for Document {
    const TYPE: &'static str = "number";

    fn key(&self) -> Key {
        unreachable!("documents are only read")
    }
}

pub async fn run(client: &Client, workspaces: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let mut all = BTreeMap::new();
    for workspace in workspaces {
        all.insert(workspace, numbers(client, workspace).await?);
    }
    println!("{}", serde_json::to_string(&all)?);
    Ok(())
}

pub async fn once(client: &Client, workspace: &str) -> Result<(), Box<dyn std::error::Error>> {
    started(client).await?;
    for number in 0..ENTITIES {
        set(client, workspace, &format!("e{number}"), number.to_string().into_bytes()).await?;
    }
    let loaded = numbers(client, workspace).await?;
    let expected = (0..ENTITIES).map(|number| (format!("e{number}"), number)).collect::<BTreeMap<_, _>>();
    if loaded != expected {
        return Err(format!("{loaded:?} was loaded, and {expected:?} written").into());
    }
    println!("{}", serde_json::to_string(&loaded)?);
    Ok(())
}

async fn numbers(client: &Client, workspace: &str) -> Result<BTreeMap<String, u64>, Box<dyn std::error::Error>> {
    let loaded: BTreeMap<String, Document> = client.load(workspace).await?;
    let number = |(entity, Document(value)): (String, Document)| match value.as_u64() {
        Some(number) => Ok((entity, number)),
        None => Err(format!("{workspace}/{entity} is no number").into()),
    };
    loaded.into_iter().map(number).collect()
}
