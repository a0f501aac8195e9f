//! Runs the tests of the client packages in `clients/`: `make clients`.
//!
//! It starts changelogd on the embedded store, on a Unix socket and on Apache Kafka, and a server that follows scripts.
//! Then it runs `clients/…/stage.sh` of each language, which finds the servers by variables. A language passes if the
//! script succeeds, if each behaviour of `clients/BEHAVIOUR.md` has a test that passed, if no test was skipped, and if
//! each call of the scenario ended as its file in `scenario/steps/` says.
//!
//! `--serve` only starts the servers and prints the variables, for tests that are run by hand. `--first-steps` does
//! what the READMEs tell a new user.

mod api;
mod behaviours;
mod first_steps;
mod log;
mod output;
mod readme;
mod scenario;
mod scripted;
mod servers;
mod stage;

use std::process::ExitCode;

use changelogd_testkit::{binary_under_test, stopped};
use clap::Parser;
use futures_util::{StreamExt, stream};
use servers::Servers;

/// The folders of `clients/`.
const LANGUAGES: [&str; 5] = ["go", "java", "python", "rust", "typescript"];
/// Languages that run at the same time: compilers use both processors, tests wait.
const AT_ONCE: usize = 2;

#[derive(Debug, Parser)]
struct Arguments {
    /// Only these languages
    #[arg(long, value_delimiter = ',', value_parser = LANGUAGES)]
    only: Vec<String>,
    /// Start the servers, print their variables, and wait for ^C
    #[arg(long, conflicts_with = "only")]
    serve: bool,
    /// Follow the READMEs instead, each in an empty folder
    #[arg(long, conflicts_with = "serve")]
    first_steps: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = binary_under_test(servers::TARGET) {
        eprintln!("{error}");
        return ExitCode::from(64);
    }
    // What was started ends when `run` is dropped.
    tokio::select! {
        result = run(&arguments) => match result {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        () = stopped() => ExitCode::from(130),
    }
}

/// The languages of `--only`, or all.
fn chosen(only: &[String]) -> impl Iterator<Item = &'static str> {
    LANGUAGES.into_iter().filter(|language| only.is_empty() || only.iter().any(|only| only == language))
}

/// Whether all languages pass.
async fn run(arguments: &Arguments) -> Result<bool, String> {
    let behaviours = behaviours::names()?;
    let servers = Servers::start().await?;
    if arguments.serve {
        for (name, value) in &servers.variables {
            println!("export {name}={value}");
        }
        std::future::pending::<()>().await;
    }
    if arguments.first_steps {
        return first_steps::run(&arguments.only, &servers).await;
    }
    let stages = chosen(&arguments.only).map(|language| stage::run(language, &servers.variables, &behaviours));
    let mut stages = stream::iter(stages).buffer_unordered(AT_ONCE);
    let mut all_pass = true;
    while let Some(stage::Stage { language, took, result }) = stages.next().await {
        let took = took.as_secs_f64();
        match result {
            Ok(calls) => {
                let behaviours = behaviours.len();
                println!("{language:<10} {took:>6.1} s  {behaviours} behaviours, {calls} calls of the scenario");
            }
            Err(what) => {
                all_pass = false;
                println!("{language:<10} {took:>6.1} s  FAILED: {what}");
            }
        }
    }
    Ok(all_pass)
}
