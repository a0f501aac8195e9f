//! The fault campaign: `make campaign`. It injects every fault into a real cluster while clients work, checks the
//! answers that the clients got, and writes a table.
//!
//! The exit status is 1 if a fault was not answered as expected, if a history has no explanation, or if an acknowledged
//! write is lost.

mod brokers;
mod cargo;
mod check;
mod clients;
mod fault;
mod faults;
mod flat;
mod fuzz;
mod history;
mod kills;
mod report;
mod run;
mod sidecar;
mod surroundings;
mod unit_tests;
mod watchers;

use std::{fs, path::PathBuf, process::ExitCode, time::Instant};

use clap::Parser;
use report::{Facts, Report};

#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// How long each history lasts
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Only these faults
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Histories of six seconds, and small numbers
    #[arg(long)]
    short: bool,
    /// One more fault, chosen by the seed among those that `--only` leaves out
    #[arg(long, requires = "only")]
    one_more: bool,
    /// The seed of the clients' random choices; by default another each time
    #[arg(long)]
    seed: Option<u64>,
    /// Where to write the report as Markdown. The last one wins
    #[arg(long, overrides_with = "report")]
    report: Option<PathBuf>,
    /// How the report says that it was made
    #[arg(long, default_value = "make campaign")]
    command: String,
    /// Keep histories and logs also where nothing was wrong
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.short {
        arguments.seconds = 6;
    }
    let seed = arguments
        .seed
        .unwrap_or_else(|| u64::from(std::process::id()) ^ (jiff::Timestamp::now().as_millisecond() as u64));
    if let Err(error) = changelogd_testkit::binary_under_test(sidecar::TARGET) {
        eprintln!("{error}");
        return ExitCode::from(64);
    }
    let begun = Instant::now();
    let known: Vec<_> = faults::all().iter().map(|f| f.id()).chain(OTHER_PARTS).collect();
    let is_known = |only: &String| known.iter().any(|id| wanted(std::slice::from_ref(only), id));
    if let Some(unknown) = arguments.only.iter().find(|only| !is_known(only)) {
        eprintln!("there is no {unknown}; there are {}", known.join(", "));
        return ExitCode::from(64);
    }
    if arguments.one_more {
        let rest: Vec<_> = faults::all().iter().map(|f| f.id()).filter(|id| !wanted(&arguments.only, id)).collect();
        let chosen = changelogd_testkit::Random::new(seed).below(rest.len() as u64) as usize;
        println!("one more fault, chosen by the seed: {}", rest[chosen]);
        arguments.only.push(rest[chosen].to_owned());
    }
    // Not after the hour that the rest takes.
    if wanted(&arguments.only, BROKERS)
        && let Err(error) = brokers::fetch()
    {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let faults: Vec<_> = faults::all().into_iter().filter(|f| wanted(&arguments.only, f.id())).collect();
    println!("seed {seed}; {} faults, {} s each", faults.len(), arguments.seconds);

    let mut report = Report::default();
    let mut campaign = run::Campaign::start(&arguments, seed);
    let kafka = campaign.cluster.version();
    let facts = |took| Facts {
        command: arguments.command.clone(),
        kafka: kafka.clone(),
        seed,
        seconds: arguments.seconds,
        took,
    };
    for fault in faults {
        campaign.run(fault.as_ref(), &mut report).await;
        // So that an interrupted campaign leaves a report of what it has seen.
        save(&arguments, &report, &facts(begun.elapsed()));
    }
    run_other_parts(&arguments, seed, &campaign, &mut report).await;
    let facts = facts(begun.elapsed());
    print!("{}", report.text(&facts));
    save(&arguments, &report, &facts);
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The parts that are not faults.
const OTHER_PARTS: [&str; 8] = ["kills", "flat", BROKERS, "surroundings", "seeds", "properties", "fuzz", "rules"];
const BROKERS: &str = "brokers";

async fn run_other_parts(arguments: &Arguments, seed: u64, campaign: &run::Campaign, report: &mut Report) {
    let number = |whole, short| if arguments.short { short } else { whole };
    let is_wanted = |what| wanted(&arguments.only, what);
    let keep = campaign.keep();
    if is_wanted("kills") {
        kills::run(&campaign.cluster, number(200, 10), &keep, report).await;
    }
    if is_wanted("flat") {
        flat::run(&campaign.cluster, number(2_000, 160) as usize, &keep, report).await;
    }
    if is_wanted(BROKERS) {
        brokers::run(report).await;
    }
    if is_wanted("surroundings") {
        surroundings::run(report).await;
    }
    if is_wanted("seeds") {
        tokio::task::block_in_place(|| cargo::simulation(seed, number(10_000, 500), report));
    }
    if is_wanted("properties") {
        tokio::task::block_in_place(|| cargo::properties(seed, number(4_096, 512), report));
    }
    if is_wanted("fuzz") {
        tokio::task::block_in_place(|| fuzz::run(seed, number(1_000_000, 16_000), report));
    }
    if is_wanted("rules") {
        tokio::task::block_in_place(|| cargo::taken_out(report));
    }
}

fn save(arguments: &Arguments, report: &Report, facts: &Facts) {
    let Some(path) = &arguments.report else { return };
    if let Some(directory) = path.parent() {
        let _ = fs::create_dir_all(directory);
    }
    fs::write(path, report.markdown(facts)).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// `F6` means all of `F6-cut`, `F6-delay` and so on.
fn wanted(only: &[String], id: &str) -> bool {
    only.is_empty() || only.iter().any(|only| id.eq_ignore_ascii_case(only) || id.starts_with(&format!("{only}-")))
}
