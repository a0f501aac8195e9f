//! The command line: the commands of the server, and those of the client in `cli`.

mod config;
mod serve;
mod start;
#[cfg(feature = "kafka")]
mod topic;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::{
    cli::{self, ClientCommand},
    config::{Parsed, ServeArgs, UsageError},
};
pub use start::print;
use start::{refuse, runtime};

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
    #[cfg(feature = "kafka")]
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    #[command(flatten)]
    Client(ClientCommand),
}

/// The definition of the command line, for the parser.
pub fn command() -> clap::Command {
    Cli::command()
}

pub fn run(parsed: &Parsed) -> ExitCode {
    let cli = match Cli::from_arg_matches(&parsed.matches) {
        Ok(cli) => cli,
        Err(error) => return refuse(&UsageError(error.to_string())),
    };
    match cli.command {
        Command::Serve(args) => serve::run(args, parsed),
        Command::Config(args) => config::run(&args, parsed),
        #[cfg(feature = "kafka")]
        Command::Topic(command) => topic::run(command),
        Command::Client(command) => match runtime() {
            Ok(runtime) => {
                let code = runtime.block_on(cli::run(command));
                // The command has ended. A thread may still wait for an input or a resolver that does not answer.
                runtime.shutdown_background();
                code
            }
            Err(code) => code,
        },
    }
}
