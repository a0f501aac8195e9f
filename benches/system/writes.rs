//! P4, P5: durable writes to Kafka, next to a raw producer and next to a gRPC server that does nothing.

use std::{sync::Arc, time::Duration};

use tokio::task::block_in_place;

use super::{
    bench::Bench,
    calls::{self, Until},
    data::{Entity, entities},
    empty::Empty,
    producers::Awaited,
    report::{Row, Verdict, cells_of},
    sidecar::Client,
    stats::{Pairs, Samples, Spread},
};

const PARTITIONS: i32 = 10;
/// The number of concurrent writes of P5.
const CONCURRENT: usize = 64;
/// The time of a round of P5, and of the table of concurrency.
pub const BURST: Duration = Duration::from_secs(2);
pub const SHORT_BURST: Duration = Duration::from_millis(300);

/// The measurements of ours and of the reference: each call, and the medians of the rounds.
#[derive(Debug, Default)]
pub struct InTurns {
    pub ours: Samples,
    pub reference: Samples,
    pub medians: Pairs,
}

impl InTurns {
    pub fn push(&mut self, ours: Samples, reference: Samples) {
        self.medians.push(ours.median(), reference.median());
        self.ours.append(ours);
        self.reference.append(reference);
    }

    /// The p50 of ours next to that of the reference, and the allowed difference.
    pub fn row(&self, id: &'static str, work: String, reference: &str, above: f64) -> Row {
        let (ours, limit) = (self.ours.median(), self.reference.median());
        Row {
            id,
            work: format!("{work}, p50 of {}", self.ours.len()),
            ours: format!("{ours:.3} ms"),
            reference: format!("{limit:.3} ms, {reference}"),
            ratio: self.medians.ratio().to_string(),
            target: format!("≤ reference + {above} ms"),
            verdict: Verdict::of(ours <= limit + above),
        }
    }
}

/// Writes of values of this size, one after another: through the sidecar, then raw, and again.
pub async fn sets_in_turns(bench: &Bench, bytes: usize, each: usize) -> Result<InTurns, String> {
    let topic = bench.empty_topic(PARTITIONS).await?;
    let sidecar = bench.sidecar(&topic, &[]).await?;
    let client = sidecar.client();
    let raw = Awaited::new(&bench.bootstrap()?)?;
    let entities: Vec<_> = entities(100, each, 1, bytes).collect();
    let mut in_turns = InTurns::default();
    for round in 0..=bench.rounds {
        let ours = calls::sets(&client, entities.clone()).await?;
        let reference = block_in_place(|| {
            entities.iter().map(|e| raw.produce(&topic.name, PARTITIONS, e)).collect::<Result<Samples, String>>()
        })?;
        if round > 0 {
            in_turns.push(ours, reference);
        }
    }
    Ok(in_turns)
}

/// P4
pub async fn one_after_another(bench: &mut Bench) -> Result<(), String> {
    const RAW: &str = "awaited raw produce";
    let each = bench.number(1_000, 100);
    let in_turns = sets_in_turns(bench, 200, each).await?;
    let work = "Set, durable, one after another, 200 bytes".to_owned();
    bench.report.row(in_turns.row("P4", work, RAW, 0.2));
    let empty = Empty::start().await?;
    let unary = calls::sets(&empty.client(), entities(100, each * 2, 1, 200).collect()).await?;
    let (ours, reference) = (&in_turns.ours, &in_turns.reference);
    bench.report.distribution("set-latency-kafka", "Set, durable, Kafka", &[("changelogd", ours), (RAW, reference)])?;
    let rows = [("Set", ours), (RAW, reference), ("a unary call of a server that does nothing", &unary)];
    bench.report.section("P4, milliseconds", &cells_of(&rows));
    Ok(())
}

/// This many at a time for a while: the writes per second.
async fn burst(client: &Client, entities: &Arc<Vec<Entity>>, time: Duration) -> Result<f64, String> {
    Ok(calls::concurrent_sets(client, entities, CONCURRENT, Until::Over(time)).await?.0)
}

/// P5
pub async fn many_at_a_time(bench: &mut Bench) -> Result<(), String> {
    let topic = bench.empty_topic(PARTITIONS).await?;
    let sidecar = bench.sidecar(&topic, &[]).await?;
    let empty = Empty::start().await?;
    let (ours, reference) = (sidecar.client(), empty.client());
    let entities = Arc::new(entities(100, 10_000, 1, 200).collect::<Vec<_>>());
    let time = if bench.short { SHORT_BURST } else { BURST };
    let raw = Awaited::new(&bench.bootstrap()?)?;
    let (mut pairs, mut raws) = (Pairs::default(), Samples::default());
    for round in 0..=bench.rounds {
        let (ours, reference) = (burst(&ours, &entities, time).await?, burst(&reference, &entities, time).await?);
        let raw = block_in_place(|| raw.produce_many(&topic.name, PARTITIONS, &entities, CONCURRENT, time))?;
        if round > 0 {
            pairs.push(ours, reference);
            raws.push(raw);
        }
    }
    // The rate of both together on the same processors, if neither made the other cheaper.
    let both = 1.0 / (1.0 / pairs.reference.median() + 1.0 / raws.median());
    bench.report.note(&format!(
        "P5: a raw producer with {CONCURRENT} records in flight has {} acknowledged per second. A call that does \
         nothing and such a record, one after the other on the same processors, would make {both:.0} per second. That \
         is {:.2} of the calls that do nothing. changelogd reaches {:.2} of it.",
        raws.spread(),
        both / pairs.reference.median(),
        pairs.ours.median() / both
    ));
    let Spread { middle, .. } = pairs.ratio();
    bench.report.row(Row {
        id: "P5",
        work: format!("Set, durable, {CONCURRENT} at a time on one connection, 200 bytes"),
        ours: format!("{} a second", pairs.ours.spread()),
        reference: format!("{} a second, a unary server that does nothing", pairs.reference.spread()),
        ratio: pairs.ratio().to_string(),
        target: "≥ 0.6".to_owned(),
        verdict: Verdict::of(middle >= 0.6),
    });
    Ok(())
}
