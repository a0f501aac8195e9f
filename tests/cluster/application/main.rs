//! The application next to changelogd in the pods of `make cluster`. Its commands print JSON.

mod answer;
mod counts;
mod fill;
mod load;
mod press;
mod write;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use changelogd_client::{Client, Error};
use clap::{Parser, Subcommand};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};

/// A sidecar that takes longer to start has failed.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

#[derive(Debug, Parser)]
struct Arguments {
    /// By default `answer`
    #[command(subcommand)]
    command: Option<Action>,
    /// The variable with the address of changelogd
    #[arg(long, global = true, default_value = "CHANGELOGD_ADDR")]
    variable: String,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Does nothing until it is stopped
    Pause,
    /// Answers every HTTP request with 200 until it is stopped, as the example of an application would
    Answer,
    /// Writes until SIGTERM, and keeps the acknowledged writes in a file
    Write(write::Options),
    /// Whether `write` has an acknowledged write
    Ready { directory: PathBuf },
    /// Writes ten entities, loads them, and ends
    Once { workspace: Option<String> },
    /// The same in an init container of an example, with the address in `ORDERS_ADDR` if there is such a variable
    Migrate,
    /// The entities of workspaces, with the number in each
    Load { workspaces: Vec<String> },
    /// Writes until the store refuses a write
    Fill,
    /// Writes and loads large values from many tasks
    Press { seconds: u64 },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let client = || client(&arguments.variable);
    match arguments.command.as_ref().unwrap_or(&Action::Answer) {
        Action::Pause => stopped().await,
        Action::Answer => answer::run().await?,
        Action::Write(options) => write::run(&client()?, options).await?,
        Action::Ready { directory } => {
            let file = write::file(directory);
            if !file.exists() {
                return Err(format!("there is no {}", file.display()).into());
            }
        }
        Action::Once { workspace } => load::once(&client()?, workspace.as_deref().unwrap_or("once")).await?,
        Action::Migrate => {
            let client = self::client("ORDERS_ADDR").or_else(|_| client())?;
            load::once(&client, "migrated").await?;
        }
        Action::Load { workspaces } => load::run(&client()?, workspaces).await?,
        Action::Fill => fill::run(&client()?).await?,
        Action::Press { seconds } => press::run(&client()?, Duration::from_secs(*seconds)).await?,
    }
    Ok(())
}

/// A variable that is absent is an error, so that a case does not pass with the default address.
fn client(variable: &str) -> Result<Client, Box<dyn std::error::Error>> {
    let address = std::env::var(variable).map_err(|error| format!("{variable}: {error}"))?;
    Ok(Client::connect(&address)?)
}

/// Waits until changelogd can load, as `changelogd wait` does.
async fn started(client: &Client) -> Result<(), Error> {
    let loads = async {
        while client.load::<load::Document>("started").await.is_err() {
            sleep(POLL).await;
        }
    };
    let late = |_| tonic::Status::deadline_exceeded("changelogd is not ready").into();
    timeout(STARTS_WITHIN, loads).await.map_err(late)
}

/// Waits for TERM or INT.
async fn stopped() {
    let of = |kind| signal(kind).expect("signals can be waited for");
    let (mut terminate, mut interrupt) = (of(SignalKind::terminate()), of(SignalKind::interrupt()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
