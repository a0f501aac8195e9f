//! The fault campaign: `make campaign`. Every fault is injected into a real cluster while clients work, what they were told is
//! checked, and a table is written. It ends with 1 if a fault was not answered as expected, a history has no explanation,
//! or an acknowledged write is not there.

mod check;
mod clients;
mod fault;
mod faults;
mod history;
#[path = "../support/kafka.rs"]
mod kafka;
mod random;
mod report;
mod run;
mod sidecar;

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
    /// Where the clients' random choices begin; by default another each time
    #[arg(long)]
    seed: Option<u64>,
    /// Where to write the report as Markdown
    #[arg(long)]
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
    let begun = Instant::now();
    let faults: Vec<_> = faults::all().into_iter().filter(|f| wanted(&arguments.only, f.id())).collect();
    let unknown =
        arguments.only.iter().find(|only| !faults.iter().any(|f| wanted(std::slice::from_ref(*only), f.id())));
    if let Some(unknown) = unknown {
        eprintln!(
            "there is no fault {unknown}; there are {}",
            faults::all().iter().map(|f| f.id()).collect::<Vec<_>>().join(", ")
        );
        return ExitCode::from(64);
    }
    println!("seed {seed}; {} faults, {} s each", faults.len(), arguments.seconds);

    let mut report = Report::default();
    let mut campaign = run::Campaign::start(&arguments, seed);
    for fault in faults {
        campaign.run(fault.as_ref(), &mut report).await;
    }

    let kafka = campaign.cluster.version();
    let facts =
        Facts { command: arguments.command.clone(), kafka, seed, seconds: arguments.seconds, took: begun.elapsed() };
    print!("{}", report.text(&facts));
    if let Some(path) = &arguments.report {
        if let Some(directory) = path.parent() {
            let _ = fs::create_dir_all(directory);
        }
        fs::write(path, report.markdown(&facts))
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `F6` means all of `F6-cut`, `F6-delay` and so on.
fn wanted(only: &[String], id: &str) -> bool {
    only.is_empty() || only.iter().any(|only| id.eq_ignore_ascii_case(only) || id.starts_with(&format!("{only}-")))
}
