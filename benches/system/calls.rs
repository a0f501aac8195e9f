//! The client's side: loads, streams and writes over gRPC. They are counted, and timed from the call to the last
//! message. Each runs as a task of the runtime, as the calls of a service do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use changelogd::proto::v1;
use tokio::task::{JoinHandle, JoinSet};

use super::{
    bench::ms,
    data::Entity,
    sidecar::{Client, limited},
    stats::Samples,
};

/// The longest that one call may take.
const SECONDS: u64 = 300;

/// The result of a load or a stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Read {
    /// The time from the call to its last Snapshot.
    pub ms: f64,
    pub entries: usize,
    /// Records that the log delivered, as the Snapshots say.
    pub records: u64,
}

impl Read {
    /// Fails if a Snapshot is missing, because a figure of a part means nothing.
    pub fn expect(self, entries: usize) -> Result<f64, String> {
        if self.entries == entries {
            Ok(self.ms)
        } else {
            Err(format!("{} entries came where {entries} were to come", self.entries))
        }
    }
}

async fn joined<T>(task: JoinHandle<Result<T, String>>) -> Result<T, String> {
    task.await.map_err(|error| error.to_string())?
}

/// One workspace.
pub async fn load(client: &Client, workspace: &str) -> Result<Read, String> {
    let request = v1::LoadWorkspaceRequest { workspace_id: workspace.to_owned(), ..Default::default() };
    let mut client = client.clone();
    joined(tokio::spawn(async move { load_here(&mut client, request).await })).await
}

/// Loads the same workspace repeatedly.
pub async fn loads(client: &Client, workspace: &str, times: usize, entries: usize) -> Result<Samples, String> {
    let request = v1::LoadWorkspaceRequest { workspace_id: workspace.to_owned(), ..Default::default() };
    let mut client = client.clone();
    joined(tokio::spawn(async move {
        let mut samples = Samples::default();
        for _ in 0..times {
            samples.push(load_here(&mut client, request.clone()).await?.expect(entries)?);
        }
        Ok(samples)
    }))
    .await
}

async fn load_here(client: &mut Client, request: v1::LoadWorkspaceRequest) -> Result<Read, String> {
    use v1::load_workspace_response::Event;
    let (started, mut read) = (Instant::now(), Read::default());
    let failed = |status: tonic::Status| format!("load: {status}");
    let mut stream = client.load_workspace(limited(request, SECONDS)).await.map_err(failed)?.into_inner();
    let mut whole = false;
    while let Some(message) = stream.message().await.map_err(failed)? {
        match message.event {
            Some(Event::Batch(batch)) => read.entries += batch.entries.len(),
            Some(Event::Snapshot(snapshot)) => {
                read.ms = ms(started.elapsed());
                read.records = snapshot.records_read;
                whole = true;
            }
            None => {}
        }
    }
    if whole { Ok(read) } else { Err("load: it ended without a Snapshot".to_owned()) }
}

/// All partitions.
pub async fn stream_all(client: &Client, content: v1::Content) -> Result<Read, String> {
    use v1::stream_all_response::Event;
    let request = v1::StreamAllRequest { content: content.into(), ..Default::default() };
    let mut client = client.clone();
    joined(tokio::spawn(async move {
        let (started, mut read) = (Instant::now(), Read::default());
        let failed = |status: tonic::Status| format!("stream: {status}");
        let mut stream = client.stream_all(limited(request, SECONDS)).await.map_err(failed)?.into_inner();
        while let Some(message) = stream.message().await.map_err(failed)? {
            match message.event {
                Some(Event::Batch(batch)) => read.entries += batch.entries.len(),
                Some(Event::Snapshot(snapshot)) => {
                    read.ms = ms(started.elapsed());
                    read.records += snapshot.records_read;
                }
                Some(Event::Bookmark(_)) | None => {}
            }
        }
        Ok(read)
    }))
    .await
}

/// One durable write's request.
pub fn set_request(entity: &Entity) -> v1::SetRequest {
    v1::SetRequest {
        changelog_id: entity.key.clone(),
        value: Some(v1::set_request::Value::Raw(entity.value.clone())),
        ..Default::default()
    }
}

/// Durable writes, one after another: the milliseconds of each.
pub async fn sets(client: &Client, entities: Vec<Entity>) -> Result<Samples, String> {
    let mut client = client.clone();
    joined(tokio::spawn(async move {
        let mut samples = Samples::default();
        for entity in entities {
            let request = limited(set_request(&entity), SECONDS);
            let started = Instant::now();
            client.set(request).await.map_err(|status| format!("set: {status}"))?;
            samples.push(ms(started.elapsed()));
        }
        Ok(samples)
    }))
    .await
}

/// When the writers stop.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// When each entity is written once.
    Written,
    /// After this time. They write the entities repeatedly.
    Over(Duration),
}

/// Durable writes, this many at a time on one connection: the writes per second, and the milliseconds of each.
pub async fn concurrent_sets(
    client: &Client,
    entities: &Arc<Vec<Entity>>,
    at_a_time: usize,
    until: Until,
) -> Result<(f64, Samples), String> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    let started = Instant::now();
    for _ in 0..at_a_time {
        let (mut client, entities, next) = (client.clone(), entities.clone(), next.clone());
        writers.spawn(async move {
            let mut samples = Samples::default();
            loop {
                let turn = next.fetch_add(1, Relaxed);
                let over = match until {
                    Until::Written => turn >= entities.len(),
                    Until::Over(time) => started.elapsed() >= time,
                };
                if over {
                    return Ok(samples);
                }
                let request = limited(set_request(&entities[turn % entities.len()]), SECONDS);
                let began = Instant::now();
                client.set(request).await.map_err(|status| format!("set: {status}"))?;
                samples.push(ms(began.elapsed()));
            }
        });
    }
    let mut all = Samples::default();
    while let Some(writer) = writers.join_next().await {
        let samples: Result<Samples, String> = writer.map_err(|error| error.to_string())?;
        all.append(samples?);
    }
    Ok((all.len() as f64 / started.elapsed().as_secs_f64(), all))
}
