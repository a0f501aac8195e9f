//! What the binary can be told to do.

mod serve;
mod show_config;
mod topic;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::cli::{self, ClientCommand};
use crate::config::{EXIT_USAGE, Parsed, ServeArgs, UsageError};

/// Keeps the state of workspaces in a log-compacted Kafka topic, and loads it whole or says why not.
#[derive(Debug, Parser)]
#[command(name = "changelogd", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant)] // parsed once
enum Command {
    Serve(ServeArgs),
    /// Shows the effective configuration of `serve`, secrets redacted, with where each value came from
    Config(ServeArgs),
    /// Creates or describes the topic; talks to the brokers, not to a sidecar
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    #[command(flatten)]
    Client(ClientCommand),
}

/// The command line.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Does what was asked.
pub fn run(parsed: &Parsed) -> ExitCode {
    let cli = match Cli::from_arg_matches(&parsed.matches) {
        Ok(cli) => cli,
        Err(error) => return refuse(&UsageError(error.to_string())),
    };
    match cli.command {
        Command::Serve(args) => serve::run(args, parsed),
        Command::Config(args) => show_config::run(&args, parsed),
        Command::Topic(command) => topic::run(command),
        Command::Client(command) => match runtime() {
            Ok(runtime) => runtime.block_on(cli::run(command)),
            Err(code) => code,
        },
    }
}

fn refuse(error: &UsageError) -> ExitCode {
    eprintln!("changelogd: {error}");
    ExitCode::from(EXIT_USAGE)
}

fn runtime() -> Result<tokio::runtime::Runtime, ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        eprintln!("changelogd: can't start: {error}");
        ExitCode::FAILURE
    })
}

/// Whether a flag stands on the command line (or in the environment, which looks the same to clap).
fn is_given(parsed: &Parsed, long: &str) -> bool {
    let id = long.replace('-', "_");
    parsed.matches.subcommand().is_some_and(|(_, m)| {
        m.try_contains_id(&id).is_ok() && m.value_source(&id) == Some(clap::parser::ValueSource::CommandLine)
    })
}
