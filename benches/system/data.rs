//! The data that is written: entities as a service would have them, JSON documents of a given size, and the cities of
//! the world. No value is one repeated byte: the report says how much snappy compresses the values.

use std::fmt::Write as _;

use bytes::Bytes;
use changelog_core::model::PartitionCount;
use changelogd_testkit::{Random, workspace_root};
use serde_json::value::RawValue;

/// One entity.
#[derive(Debug, Clone)]
pub struct Entity {
    pub key: String,
    pub value: Bytes,
}

impl Entity {
    pub fn partition(&self, count: i32) -> i32 {
        let workspace = self.key.split('/').next().unwrap_or_default();
        PartitionCount::new(count.into()).expect("a count").of_workspace(workspace.as_bytes()).number()
    }

    pub fn len(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

/// The name of a workspace.
pub fn workspace(number: usize) -> String {
    format!("ws-{number:04}")
}

/// This many records: `changes` of each entity of `workspaces`, one workspace after the other. Each value has `bytes`
/// bytes.
pub fn entities(workspaces: usize, records: usize, changes: usize, bytes: usize) -> impl Iterator<Item = Entity> {
    let mut random = Random::new((records * 31 + bytes) as u64);
    let each = (records / workspaces / changes).max(1);
    (0..records).map(move |i| {
        let entity = i / workspaces % each;
        let key = format!("{}/deployment/dep-{entity:06}", workspace(i % workspaces));
        Entity { key, value: document(&mut random, bytes).into() }
    })
}

const WORDS: [&str; 48] = [
    "alpha", "amber", "anchor", "batch", "beacon", "billing", "bridge", "broker", "canary", "cargo", "catalog",
    "cedar", "cinder", "cluster", "copper", "delta", "ember", "falcon", "fleet", "gateway", "harbor", "indexer",
    "invoice", "ivory", "jobs", "kernel", "ledger", "lotus", "mailer", "marble", "meadow", "metrics", "nickel",
    "orbit", "orders", "payments", "pepper", "planner", "quartz", "relay", "search", "session", "signal", "sparrow",
    "thunder", "users", "velvet", "worker",
];
const STATES: [&str; 5] = ["running", "pending", "failed", "degraded", "stopped"];

fn one_of<'a>(random: &mut Random, list: &[&'a str]) -> &'a str {
    list[random.below(list.len() as u64) as usize]
}

fn time(random: &mut Random) -> String {
    let mut below = |bound| random.below(bound);
    format!(
        "2026-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        1 + below(12),
        1 + below(28),
        below(24),
        below(60),
        below(60),
        below(1000)
    )
}

/// A deployment, with as much history as its size requires.
fn document(random: &mut Random, bytes: usize) -> String {
    let mut text = format!("{{\"id\":\"{:016x}\"", random.number());
    let (first, second) = (one_of(random, &WORDS), one_of(random, &WORDS));
    let (status, at) = (one_of(random, &STATES), time(random));
    let version = [random.below(4), random.below(40), random.below(90)];
    let _ = write!(
        text,
        ",\"name\":\"{first}-{second}\",\"status\":\"{status}\",\"version\":\"v{}.{}.{}\",\"replicas\":{},\
         \"updated\":\"{at}\"",
        version[0],
        version[1],
        version[2],
        1 + random.below(12)
    );
    if bytes > 500 {
        text.push_str(",\"history\":[");
        while text.len() + 200 < bytes {
            let (what, by, at) = (one_of(random, &STATES), one_of(random, &WORDS), time(random));
            let (ms, node) = (random.below(90_000), random.number() >> 32);
            let _ = write!(
                text,
                "{{\"at\":\"{at}\",\"to\":\"{what}\",\"by\":\"{by}\",\"node\":\"{node:08x}\",\"ms\":{ms}}},"
            );
        }
        text.pop();
        text.push(']');
    }
    text.push_str(",\"note\":\"");
    while text.len() + 2 < bytes {
        text.push_str(one_of(random, &WORDS));
        text.push(' ');
    }
    text.truncate(bytes.saturating_sub(2));
    text.push_str("\"}");
    text
}

/// The cities of the world (GeoNames, CC-BY-4.0), in the order of the file; a country is a workspace.
pub fn cities() -> Result<Vec<Entity>, String> {
    #[derive(serde::Deserialize)]
    struct City {
        country: String,
    }
    let file = workspace_root().join("target/cities/cities-1.1.64.json");
    let json = std::fs::read_to_string(&file)
        .map_err(|error| format!("{}: {error}; tests/cities/fetch.sh fetches it", file.display()))?;
    let documents: Vec<&RawValue> = serde_json::from_str(&json).map_err(|error| error.to_string())?;
    let entity = |(place, document): (usize, &&RawValue)| {
        let City { country } = serde_json::from_str(document.get())?;
        let value = Bytes::copy_from_slice(document.get().as_bytes());
        Ok(Entity { key: format!("{country}/city/{place}"), value })
    };
    let entities: Result<_, serde_json::Error> = documents.iter().enumerate().map(entity).collect();
    entities.map_err(|error| error.to_string())
}

/// The ratio by which snappy makes values smaller: each alone, and a megabyte of them at a time as in a full batch.
pub fn compression(entities: impl Iterator<Item = Entity>) -> (f64, f64) {
    const BATCH: usize = 1_000_000;
    let mut snappy = snap::raw::Encoder::new();
    let mut size = |bytes: &[u8]| snappy.compress_vec(bytes).map_or(bytes.len(), |small| small.len());
    let (mut whole, mut alone, mut batched, mut batch) = (0, 0, 0, Vec::new());
    for entity in entities {
        whole += entity.value.len();
        alone += size(&entity.value);
        batch.extend_from_slice(&entity.value);
        if batch.len() >= BATCH {
            batched += size(&batch);
            batch.clear();
        }
    }
    batched += size(&batch);
    (whole as f64 / alone as f64, whole as f64 / batched as f64)
}
