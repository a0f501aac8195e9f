//! The system benchmarks: `make bench`. They run the release binary as a process, on a real Apache Kafka or on its
//! embedded store, and call it over gRPC.
//!
//! Each row is measured next to a reference in the same run, in turns (ours, reference, ours, reference, ...). Each row
//! has a target, or says that it is only information. The exit status is 1 if a row misses its target or could not run.
//!
//! Does not: compare with figures of another day or machine.

mod admin;
mod bench;
mod calls;
mod data;
mod embedded;
mod empty;
mod facts;
mod flat;
mod loads;
mod peers;
mod plot;
mod producers;
mod raw;
mod report;
mod scale;
mod security;
mod sidecar;
mod stats;
mod stream;
mod tables;
mod watches;
mod writes;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use bench::Bench;
use clap::Parser;
use facts::Facts;

#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// Only these rows or tables
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Small numbers, for trying it
    #[arg(long)]
    short: bool,
    /// Where to write the report as Markdown, with plots in a directory of the same name; by default
    /// docs/benchmarks.md, or target/benchmarks.md if only a part is run
    #[arg(long)]
    report: Option<PathBuf>,
    /// How the report says that it was made
    #[arg(long, default_value = "make bench")]
    command: String,
    /// Run as the server that does nothing, which the benchmark starts itself
    #[arg(long, hide = true)]
    empty_server: bool,
}

/// Rows with targets, then tables without.
const PARTS: [&str; 17] = [
    "P1",
    "P2",
    "P3",
    "P4",
    "P5",
    "P6",
    "P7",
    "P8",
    "P9",
    "P10",
    "P11",
    "V3",
    "V12",
    "sizes",
    "concurrency",
    "cities",
    "security",
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The same runtime as the sidecar's.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    if arguments.empty_server {
        return runtime.block_on(empty::serve());
    }
    let unknown = arguments.only.iter().find(|only| !PARTS.iter().any(|part| only.eq_ignore_ascii_case(part)));
    if let Some(unknown) = unknown {
        eprintln!("there is no {unknown}; there are {}", PARTS.join(", "));
        return ExitCode::from(64);
    }
    if let Err(reason) = changelogd_testkit::binary_under_test(sidecar::TARGET).and_then(|_| raw::check_properties()) {
        eprintln!("{reason}");
        return ExitCode::FAILURE;
    }
    runtime.block_on(run(&arguments))
}

async fn run(arguments: &Arguments) -> ExitCode {
    let report = arguments.report.clone().unwrap_or_else(|| {
        let whole = !arguments.short && arguments.only.is_empty();
        let directory = if whole { "docs" } else { "target" };
        changelogd_testkit::workspace_root().join(directory).join("benchmarks.md")
    });
    let begun = Instant::now();
    let mut bench = Bench::new(arguments.short, report.with_extension(""));
    let wanted = |part: &str| arguments.only.is_empty() || arguments.only.iter().any(|o| o.eq_ignore_ascii_case(part));
    for part in PARTS.into_iter().filter(|part| wanted(part)) {
        let started = Instant::now();
        if let Err(reason) = run_part(&mut bench, part).await {
            bench.report.not_run(part, &reason);
        }
        println!("{part}: {:.1} s", started.elapsed().as_secs_f64());
    }
    let facts = Facts {
        command: arguments.command.clone(),
        kafka: bench.kafka_version(),
        rounds: bench.rounds,
        took: begun.elapsed(),
    };
    print!("\n{}", bench.report.text(&facts));
    if let Err(error) = bench.report.write(&report, &facts) {
        eprintln!("{}: {error}", report.display());
        return ExitCode::FAILURE;
    }
    println!("{}", report.display());
    if bench.report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run_part(bench: &mut Bench, part: &str) -> Result<(), String> {
    match part {
        "P1" => loads::one_of_many(bench).await,
        "P2" => loads::small(bench).await,
        "P3" => loads::everything(bench).await,
        "P4" => writes::one_after_another(bench).await,
        "P5" => writes::many_at_a_time(bench).await,
        "P6" => stream::mutations(bench).await,
        "P7" => loads::many_of_one_partition(bench).await,
        "P8" => flat::run(bench).await,
        "P9" => embedded::loads_and_sets(bench).await,
        "P10" => scale::run(bench).await,
        "P11" => embedded::start(bench).await,
        "V3" => watches::change_to_watcher(bench).await,
        "V12" => admin::queries(bench).await,
        "sizes" => tables::sizes(bench).await,
        "concurrency" => tables::concurrency(bench).await,
        "cities" => tables::cities(bench).await,
        _ => security::connections(bench).await,
    }
}
