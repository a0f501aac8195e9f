//! What an encrypted or an authenticated connection to the brokers costs a load. Each load's consumer makes its own.

use std::panic::catch_unwind;

use changelog_core::model::PartitionCount;
use changelog_kafka::{
    Settings,
    admin::{self, TopicSpec},
};
use changelogd_testkit::{
    guarded::{Guarded, PASSWORD},
    unique_topic,
};
use tokio::task::block_in_place;

use super::{
    bench::{Bench, settle},
    calls,
    data::{entities, workspace},
    producers,
    report::cells_of,
    sidecar::Sidecar,
    stats::{Pairs, Samples},
};

/// PLAINTEXT, SASL and TLS, in turns.
pub async fn connections(bench: &mut Bench) -> Result<(), String> {
    const NAMES: [&str; 3] = ["PLAINTEXT", "SASL_PLAINTEXT (PLAIN)", "SSL (TLS, the broker's certificate)"];
    let started = block_in_place(|| catch_unwind(|| Guarded::start_with(&["service"])));
    let guarded = started.map_err(|_| "no broker with SASL and TLS listeners starts".to_owned())?;
    let (topic, plain) = (unique_topic("bench-security"), guarded.broker.bootstrap().to_owned());
    let settings = Settings::new(&plain, &topic);
    admin::ensure(&settings, &TopicSpec::new(PartitionCount::new(1))).await.map_err(|error| error.to_string())?;
    block_in_place(|| producers::fill(&plain, &topic, 1, entities(18, 1_800, 1, 200)))?;
    let plain = vec![format!("--brokers={plain}"), format!("--topic={topic}"), "--partitions=1".to_owned()];
    let ways = [plain, guarded.with_sasl(&topic, PASSWORD), guarded.with_tls(&guarded.tls, &topic, "good")];
    let mut sidecars = Vec::new();
    for arguments in &ways {
        let sidecar = Sidecar::start(arguments).await?;
        sidecar.ready().await?;
        sidecars.push(sidecar);
    }
    let clients: Vec<_> = sidecars.iter().map(Sidecar::client).collect();
    let loads = bench.number(50, 5);
    let mut all: [Samples; 3] = Default::default();
    let mut beside_plain: [Pairs; 3] = Default::default();
    for round in 0..=bench.rounds {
        let mut medians = [0.0; 3];
        for (i, client) in clients.iter().enumerate() {
            let taken = calls::loads(client, &workspace(round % 18), loads, 100).await?;
            settle().await;
            medians[i] = taken.median();
            if round > 0 {
                all[i].append(taken);
            }
        }
        for (pairs, median) in beside_plain.iter_mut().zip(medians).filter(|_| round > 0) {
            pairs.push(median, medians[0]);
        }
    }
    let rows: Vec<_> = NAMES.into_iter().zip(&all).collect();
    let text = format!(
        "A load of 100 entries of a partition of 1,800 records, over each of one broker's listeners in turns. Its \
         consumer makes new connections, so each load contains their cost: {} of the time over PLAINTEXT with SASL, {} \
         with TLS.\n\n{}",
        beside_plain[1].ratio(),
        beside_plain[2].ratio(),
        cells_of(&rows)
    );
    bench.report.section("What security costs a load, milliseconds", &text);
    Ok(())
}
