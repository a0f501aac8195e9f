//! P6: a stream of mutations with a verdict for each, next to a raw producer with a delivery callback.

use std::time::Instant;

use changelogd::proto::v1;
use tokio::task::block_in_place;

use super::{
    bench::{Bench, settle},
    data::{Entity, entities},
    producers::Bulk,
    report::{Row, Verdict},
    sidecar::{Client, limited},
    stats::Pairs,
};

const PARTITIONS: i32 = 10;
/// Mutations per message. The API accepts 1,000.
const EACH: usize = 500;
const SECONDS: u64 = 120;

fn messages(entities: &[Entity]) -> Vec<v1::WriteRequest> {
    let mutation = |(id, entity): (usize, &Entity)| v1::Mutation {
        id: id as u64,
        changelog_id: entity.key.clone(),
        change: Some(v1::mutation::Change::Raw(entity.value.clone())),
        ..Default::default()
    };
    let mutations: Vec<_> = entities.iter().enumerate().map(mutation).collect();
    mutations.chunks(EACH).map(|chunk| v1::WriteRequest { mutations: chunk.to_vec() }).collect()
}

/// Returns after the last verdict, with the mutations per second.
async fn write(client: &Client, messages: Vec<v1::WriteRequest>, mutations: usize) -> Result<f64, String> {
    use v1::verdict::Outcome;
    let mut client = client.clone();
    let writing = tokio::spawn(async move {
        let failed = |status: tonic::Status| format!("Write: {status}");
        let started = Instant::now();
        let requests = limited(tokio_stream::iter(messages), SECONDS);
        let mut verdicts = client.write(requests).await.map_err(failed)?.into_inner();
        let mut written = 0;
        while let Some(message) = verdicts.message().await.map_err(failed)? {
            for verdict in message.verdicts {
                match verdict.outcome {
                    Some(Outcome::Written(_)) => written += 1,
                    other => return Err(format!("Write: mutation {} was answered {other:?}", verdict.id)),
                }
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        if written == mutations {
            Ok(mutations as f64 / seconds)
        } else {
            Err(format!("Write: {written} verdicts for {mutations} mutations"))
        }
    });
    writing.await.map_err(|error| error.to_string())?
}

/// P6
pub async fn mutations(bench: &mut Bench) -> Result<(), String> {
    let topic = bench.empty_topic(PARTITIONS).await?;
    let sidecar = bench.sidecar(&topic, &[]).await?;
    let client = sidecar.client();
    let raw = Bulk::new(&bench.bootstrap()?)?;
    let entities: Vec<_> = entities(100, bench.number(200_000, 20_000), 1, 200).collect();
    let mut pairs = Pairs::default();
    for round in 0..=bench.rounds {
        let ours = write(&client, messages(&entities), entities.len()).await?;
        settle().await;
        let copies = entities.clone().into_iter();
        let reference = block_in_place(|| {
            let started = Instant::now();
            raw.produce(&topic.name, PARTITIONS, copies)?;
            Ok::<_, String>(entities.len() as f64 / started.elapsed().as_secs_f64())
        })?;
        settle().await;
        if round > 0 {
            pairs.push(ours, reference);
        }
    }
    bench.report.row(Row {
        id: "P6",
        work: format!("Write, {} mutations in one stream, each acknowledged, 200 bytes", entities.len()),
        ours: format!("{} a second", pairs.ours.spread()),
        reference: format!("{} a second, raw producer with a delivery callback", pairs.reference.spread()),
        ratio: pairs.ratio().to_string(),
        target: "≥ 0.5".to_owned(),
        verdict: Verdict::of(pairs.ratio().middle >= 0.5),
    });
    Ok(())
}
