//! Tables without targets: sizes of values, throughput against concurrency, and the cities of the world.

use std::{fmt::Write as _, sync::Arc};

use changelogd::proto::v1;
use tokio::task::block_in_place;

use super::{
    bench::{Bench, settle},
    calls::{self, Until},
    data::{Entity, cities as read_cities, compression, entities},
    empty::Empty,
    raw,
    report::cells_of,
    stats::{Pairs, Samples},
    writes::{BURST, SHORT_BURST, sets_in_turns},
};

const PARTITIONS: i32 = 10;

/// The sizes of values, and the effect of their size on a durable write.
pub async fn sizes(bench: &mut Bench) -> Result<(), String> {
    let mut text = String::from(
        "The ratio by which snappy makes the values smaller: each alone, and a megabyte of them together as in a full \
         batch.\n\n\
         | values | bytes on average | alone | in batches |\n|---|---:|---:|---:|\n",
    );
    let mut line = |name: &str, list: Vec<Entity>| {
        let bytes: usize = list.iter().map(|entity| entity.value.len()).sum();
        let average = bytes as f64 / list.len() as f64;
        let (alone, batched) = compression(list.into_iter());
        let _ = writeln!(text, "| {name} | {average:.0} | {alone:.2} | {batched:.2} |");
    };
    for (name, bytes) in [("generated, 200 bytes", 200), ("generated, 2 KB", 2_000), ("generated, 20 KB", 20_000)] {
        line(name, entities(100, 8_000_000 / bytes, 1, bytes).collect());
    }
    match read_cities() {
        Ok(cities) => line("cities of the world", cities),
        Err(reason) => bench.report.not_run("sizes", &reason),
    }
    bench.report.section("Values", &text);
    let mut measured = Vec::new();
    for (name, bytes) in [("200 bytes", 200), ("2 KB", 2_000), ("20 KB", 20_000)] {
        let in_turns = sets_in_turns(bench, bytes, bench.number(200, 20)).await?;
        measured.push((format!("Set, {name}"), in_turns.ours));
        measured.push((format!("awaited raw produce, {name}"), in_turns.reference));
    }
    let rows: Vec<_> = measured.iter().map(|(name, samples)| (&**name, samples)).collect();
    bench
        .report
        .section("Set to Kafka, durable, one after another, by the size of the value, milliseconds", &cells_of(&rows));
    Ok(())
}

/// 1, 2, 4, ... 64 durable writes at a time: Kafka, embedded, and a server that does nothing.
pub async fn concurrency(bench: &mut Bench) -> Result<(), String> {
    const NAMES: [&str; 3] = ["Set, Kafka", "Set, embedded", "a unary server that does nothing"];
    let topic = bench.empty_topic(PARTITIONS).await?;
    let kafka = bench.sidecar(&topic, &[]).await?;
    let embedded = bench.embedded(&bench.directory().join("concurrency")).await?;
    let empty = Empty::start().await?;
    let clients = [kafka.client(), embedded.client(), empty.client()];
    let entities = Arc::new(entities(100, 10_000, 1, 200).collect::<Vec<_>>());
    let until = Until::Over(if bench.short { SHORT_BURST } else { BURST });
    let mut text = String::from("Values of 200 bytes, one connection; a second: the median of five.\n\n| at a time |");
    for name in NAMES {
        let _ = write!(text, " {name}, a second | p50 ms | p99 ms |");
    }
    let _ = writeln!(text, "\n|---:|{}", "---:|".repeat(9));
    let mut curves = NAMES.map(|name| (name, Vec::new()));
    for at_a_time in [1, 2, 4, 8, 16, 32, 64] {
        let mut rates: [Samples; 3] = Default::default();
        let mut latencies: [Samples; 3] = Default::default();
        for _ in 0..5 {
            for (i, client) in clients.iter().enumerate() {
                let (rate, latency) = calls::concurrent_sets(client, &entities, at_a_time, until).await?;
                rates[i].push(rate);
                latencies[i].append(latency);
            }
        }
        let _ = write!(text, "| {at_a_time} |");
        for i in 0..3 {
            let (rate, latency) = (rates[i].median(), &latencies[i]);
            let _ = write!(text, " {rate:.0} | {:.3} | {:.3} |", latency.median(), latency.quantile(0.99));
            curves[i].1.push((at_a_time as f64, rate));
        }
        text.push('\n');
    }
    bench.report.section("Throughput against concurrency, Set, durable", &text);
    let title = "Durable Set: throughput against concurrency";
    bench.report.plot("throughput", title, "calls at a time", "calls a second", &curves)
}

/// A country, and the world, of real cities.
pub async fn cities(bench: &mut Bench) -> Result<(), String> {
    const COUNTRY: &str = "US";
    let cities = read_cities()?;
    let entries = cities.iter().filter(|city| city.key.starts_with("US/")).count();
    let partition = cities.iter().find(|city| city.key.starts_with("US/")).map_or(0, |city| city.partition(PARTITIONS));
    let topic = bench.topic(PARTITIONS, cities.into_iter()).await?;
    let sidecar = bench.sidecar(&topic, &[]).await?;
    let (client, bootstrap) = (sidecar.client(), bench.bootstrap()?);
    let ends = block_in_place(|| raw::ends(&bootstrap, &topic.name, PARTITIONS))?;
    let all: Vec<_> = (0..PARTITIONS).zip(ends).collect();
    let its: Vec<_> = all.iter().copied().filter(|(number, _)| *number == partition).collect();
    let replay = |partitions: &[(i32, i64)]| block_in_place(|| raw::replay(&bootstrap, &topic.name, partitions));
    let (mut country, mut world) = (Pairs::default(), Pairs::default());
    for round in 0..=bench.rounds {
        let ours = calls::load(&client, COUNTRY).await?.expect(entries)?;
        settle().await;
        let raw = replay(&its)?.ms;
        settle().await;
        let everything = calls::stream_all(&client, v1::Content::Records).await?.expect(topic.records as usize)?;
        settle().await;
        let raw_everything = replay(&all)?.ms;
        settle().await;
        if round > 0 {
            country.push(ours, raw);
            world.push(everything, raw_everything);
        }
    }
    let mut text = String::from("| | ms | raw tuned replay, ms | ratio |\n|---|---:|---:|---:|\n");
    let names = [
        (format!("LoadWorkspace, {entries} cities of the USA"), country),
        (format!("StreamAll, {} cities in {PARTITIONS} partitions", topic.records), world),
    ];
    for (name, pairs) in names {
        let (ours, raw) = (pairs.ours.spread(), pairs.reference.spread());
        let _ = writeln!(text, "| {name} | {ours} | {raw} | {} |", pairs.ratio());
    }
    bench.report.section("Cities of the world (GeoNames), Kafka", &text);
    Ok(())
}
