//! P10: the time of a load grows with the partition along a straight line, and hardly steeper than librdkafka's own.

use std::fmt::Write as _;

use super::{
    bench::{Bench, settle},
    calls,
    data::{entities, workspace},
    loads::raw_replay,
    report::{Row, Verdict},
    stats::{Line, Pairs},
};

/// Below this, a line does not count as straight.
const STRAIGHT: f64 = 0.99;

/// P10
pub async fn run(bench: &mut Bench) -> Result<(), String> {
    let sizes: &[usize] = if bench.short {
        &[1_000, 3_000, 10_000, 30_000]
    } else {
        &[1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000]
    };
    let mut measured = Vec::new();
    for records in sizes {
        // The loaded workspace is one of a hundred.
        let topic = bench.topic(1, entities(100, *records, 1, 200)).await?;
        let sidecar = bench.sidecar(&topic, &[]).await?;
        let client = sidecar.client();
        let mut pairs = Pairs::default();
        for round in 0..=bench.rounds {
            let ours = calls::load(&client, &workspace(round)).await?.expect(records / 100)?;
            settle().await;
            let reference = raw_replay(bench, &topic)?;
            settle().await;
            if round > 0 {
                pairs.push(ours, reference);
            }
        }
        measured.push((*records as f64, pairs));
    }
    judge(bench, &measured)
}

fn judge(bench: &mut Bench, measured: &[(f64, Pairs)]) -> Result<(), String> {
    let medians = |of: fn(&Pairs) -> f64| measured.iter().map(|(x, pairs)| (*x, of(pairs))).collect::<Vec<_>>();
    let (ours, reference) = (medians(|p| p.ours.median()), medians(|p| p.reference.median()));
    let (line, limit) = (Line::fit(&ours), Line::fit(&reference));
    let said = |line: &Line| {
        let Line { intercept, slope, r_squared } = line;
        format!("{intercept:.2} ms + {:.3} µs a record, R² {r_squared:.5}", slope * 1e3)
    };
    // The slope of each round's points, for the spread of their ratios.
    let mut slopes = Pairs::default();
    for round in 0..bench.rounds {
        let points = |of: fn(&Pairs) -> &super::stats::Samples| {
            measured.iter().filter_map(|(x, pairs)| Some((*x, of(pairs).at(round)?))).collect::<Vec<_>>()
        };
        slopes.push(Line::fit(&points(|p| &p.ours)).slope, Line::fit(&points(|p| &p.reference)).slope);
    }
    let work = format!(
        "LoadWorkspace of 1 % of the records, partitions of {:.0} to {:.0} records",
        measured.first().map_or(0.0, |m| m.0),
        measured.last().map_or(0.0, |m| m.0)
    );
    bench.report.row(Row {
        id: "P10",
        work: format!("{work}: a straight line"),
        ours: said(&line),
        reference: format!("{}, raw tuned replay", said(&limit)),
        ratio: String::new(),
        target: format!("R² ≥ {STRAIGHT}"),
        verdict: Verdict::of(line.r_squared >= STRAIGHT),
    });
    let ratio = super::stats::Spread { middle: line.slope / limit.slope, ..slopes.ratio() };
    bench.report.row(Row {
        id: "P10",
        work: format!("{work}: slope"),
        ours: format!("{:.3} µs a record", line.slope * 1e3),
        reference: format!("{:.3} µs a record, raw tuned replay", limit.slope * 1e3),
        ratio: ratio.to_string(),
        target: "≤ 1.25".to_owned(),
        verdict: Verdict::of(ratio.middle <= 1.25),
    });
    let mut text = String::from(
        "Medians. The residual is the measured time minus that of the line.\n\n\
         | records | LoadWorkspace, ms | residual | raw tuned replay, ms | residual | ratio |\n\
         |---:|---:|---:|---:|---:|---:|\n",
    );
    for (((x, ours), (_, reference)), (_, pairs)) in ours.iter().zip(&reference).zip(measured) {
        let (beside, beside_limit) = (ours - line.at(*x), reference - limit.at(*x));
        let _ = writeln!(
            text,
            "| {x:.0} | {ours:.2} | {beside:+.2} | {reference:.2} | {beside_limit:+.2} | {} |",
            pairs.ratio()
        );
    }
    bench.report.section("P10, load time against records", &text);
    let series = [("changelogd", ours), ("raw tuned replay", reference)];
    bench.report.plot("load-time", "Load time against records", "records of the partition", "ms", &series)
}
