//! P1, P2, P3, P7: loads and streams from Kafka, next to raw replays of the same partition.

use std::time::Instant;

use changelogd::proto::v1;
use tokio::task::{JoinSet, block_in_place};

use super::{
    bench::{Bench, Flag, Topic, flag, ms, settle},
    calls,
    data::workspace,
    raw::{self, Untuned},
    report::{Row, Verdict, cells_of},
    stats::{Pairs, Samples},
};

const RAW: &str = "raw tuned replay of the partition";

/// The milliseconds of a raw replay of partition 0, all of it.
pub fn raw_replay(bench: &Bench, topic: &Topic) -> Result<f64, String> {
    let bootstrap = bench.bootstrap()?;
    let replayed = block_in_place(|| raw::replay(&bootstrap, &topic.name, &[(0, topic.records as i64)]))?;
    if (replayed.records, replayed.bytes) == (topic.records, topic.bytes) {
        Ok(replayed.ms)
    } else {
        Err(format!("a raw replay read {replayed:?} of {topic:?}"))
    }
}

/// P1
pub async fn one_of_many(bench: &mut Bench) -> Result<(), String> {
    let topic = bench.large().await?;
    let sidecar = bench.sidecar(&topic, &[]).await?;
    let client = sidecar.client();
    let entries = (topic.records / 100) as usize;
    let mut pairs = Pairs::default();
    // The first round warms up.
    for round in 0..=bench.rounds {
        let ours = calls::load(&client, &workspace(round % 100)).await?;
        if ours.records != topic.records {
            return Err(format!("{} of {} records were read", ours.records, topic.records));
        }
        let ours = ours.expect(entries)?;
        settle().await;
        let reference = raw_replay(bench, &topic)?;
        settle().await;
        if round > 0 {
            pairs.push(ours, reference);
        }
    }
    let work = format!("LoadWorkspace, {entries} entries of a partition of {}", topic.shown());
    bench.report.row(Row::of_times("P1", work, &pairs, RAW, 1.25));
    Ok(())
}

/// P3
pub async fn everything(bench: &mut Bench) -> Result<(), String> {
    let topic = bench.large().await?;
    let sidecar = bench.sidecar(&topic, &[]).await?;
    let client = sidecar.client();
    let mut pairs = Pairs::default();
    for round in 0..=bench.rounds {
        let ours = calls::stream_all(&client, v1::Content::Records).await?.expect(topic.records as usize)?;
        settle().await;
        let reference = raw_replay(bench, &topic)?;
        settle().await;
        if round > 0 {
            pairs.push(ours, reference);
        }
    }
    let work = format!("StreamAll, CONTENT_RECORDS, of {}", topic.shown());
    bench.report.row(Row::of_times("P3", work, &pairs, RAW, 1.6));
    Ok(())
}

/// P2
pub async fn small(bench: &mut Bench) -> Result<(), String> {
    let topic = bench.small().await?;
    let bootstrap = bench.bootstrap()?;
    let sidecar = bench.sidecar(&topic, &[]).await?;
    let client = sidecar.client();
    let (loads, raws) = (bench.number(100, 10), bench.number(20, 3));
    let untuned = |how| block_in_place(|| raw::untuned(&bootstrap, &topic.name, topic.records as i64, how));
    // The first group creates the broker's topic of group offsets.
    calls::loads(&client, &workspace(0), 10, 100).await?;
    untuned(Untuned::Subscribed)?;
    let (mut ours, mut tuned, mut assigned, mut last) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    let (mut beside_tuned, mut beside_default) = (Pairs::default(), Pairs::default());
    for round in 0..bench.rounds {
        let ours_now = calls::loads(&client, &workspace(round % 18), loads, 100).await?;
        settle().await;
        let mut tuned_now = Samples::default();
        for _ in 0..raws {
            tuned_now.push(raw_replay(bench, &topic)?);
        }
        settle().await;
        let subscribed = untuned(Untuned::Subscribed)?;
        assigned.push(untuned(Untuned::Assigned)?.end);
        settle().await;
        beside_tuned.push(ours_now.median(), tuned_now.median());
        beside_default.push(ours_now.median(), subscribed.end);
        last.push(subscribed.last_record);
        ours.append(ours_now);
        tuned.append(tuned_now);
    }
    let work = format!("LoadWorkspace, 100 entries of a partition of {} records", topic.records);
    for (name, q, most) in [("p50", 0.5, 10.0), ("p99", 0.99, 50.0)] {
        let ratio = if q < 0.9 { beside_tuned.ratio().to_string() } else { String::new() };
        bench.report.row(Row {
            id: "P2",
            work: format!("{work}, {name} of {}", ours.len()),
            ours: format!("{:.2} ms", ours.quantile(q)),
            reference: format!("{:.2} ms, {RAW}", tuned.quantile(q)),
            ratio,
            target: format!("≤ {most} ms"),
            verdict: Verdict::of(ours.quantile(q) <= most),
        });
    }
    let faster = beside_default.inverse();
    bench.report.row(Row {
        id: "P2",
        work: format!("{work}, median of {} medians", bench.rounds),
        ours: format!("{} ms", beside_default.ours.spread()),
        reference: format!(
            "{} ms, librdkafka's defaults, subscribed, until the event of the end",
            beside_default.reference.spread()
        ),
        ratio: format!("1 / {faster}"),
        target: "at least 100 times faster".to_owned(),
        verdict: Verdict::of(faster.middle >= 100.0),
    });
    bench.report.note(&format!(
        "P2's consumer with defaults subscribes alone in its group. The broker delays a first member for 0 ms \
         (group.initial.rebalance.delay.ms, 3 s by default). In addition only enable.partition.eof is set. The end is \
         the event of that setting, one fetch.wait.max.ms (500 ms by default) after the last record. The consumer has \
         that record after {} ms, without knowing that it is the last. Assigned at the beginning without a group, it \
         is at the end after {} ms.",
        last.spread(),
        assigned.spread()
    ));
    bench.report.distribution(
        "load-latency",
        "LoadWorkspace, 1,800 records",
        &[("changelogd", &ours), (RAW, &tuned)],
    )?;
    bench.report.section(
        "P2, milliseconds",
        &cells_of(&[("LoadWorkspace", &ours), (RAW, &tuned), ("librdkafka's defaults, assigned", &assigned)]),
    );
    Ok(())
}

/// P7
pub async fn many_of_one_partition(bench: &mut Bench) -> Result<(), String> {
    const LOADS: usize = 64;
    const CONNECTIONS: usize = 8;
    let topic = bench.large().await?;
    let (more, how): (&[&str], _) = match flag("--share-replays") {
        Flag::Switch => (&["--share-replays"], "with --share-replays"),
        Flag::Setting => (&[], "--share-replays as it is by default"),
        Flag::Missing => (&[], "this binary has no --share-replays"),
    };
    let sidecar = bench.sidecar(&topic, more).await?;
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| sidecar.client()).collect();
    let entries = (topic.records / 100) as usize;
    let mut pairs = Pairs::default();
    for round in 0..=bench.rounds {
        let started = Instant::now();
        let mut running = JoinSet::new();
        for i in 0..LOADS {
            let client = clients[i % CONNECTIONS].clone();
            running.spawn(async move { calls::load(&client, &workspace(i)).await?.expect(entries) });
        }
        while let Some(done) = running.join_next().await {
            done.map_err(|error| error.to_string())??;
        }
        let all = ms(started.elapsed());
        settle().await;
        let one = calls::load(&clients[0], &workspace(round)).await?.expect(entries)?;
        settle().await;
        if round > 0 {
            pairs.push(all, one);
        }
    }
    let work = format!(
        "{LOADS} LoadWorkspace at a time, {CONNECTIONS} connections, of one partition of {}; {how}",
        topic.shown()
    );
    bench.report.row(Row::of_times("P7", work, &pairs, "one of them alone", 4.0));
    Ok(())
}
