//! The client commands, which call a running sidecar. They print text on a terminal and JSON Lines in a pipe.

mod args;
mod connection;
mod delete;
mod describe;
mod events;
mod export;
mod failure;
mod flush;
mod format;
mod get;
mod health;
mod import;
mod load;
mod output;
mod record;
mod set;
mod stream;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use args::ClientArgs;
use failure::Failure;
use output::Output;

/// The commands that call a sidecar.
#[derive(Debug, clap::Subcommand)]
pub enum ClientCommand {
    /// Writes one entity's value
    Set(set::SetArgs),
    /// Reads one entity
    Get(get::GetArgs),
    /// Deletes one entity
    Delete(delete::DeleteArgs),
    /// Waits for accepted writes, and reports which buffered ones failed
    Flush(flush::FlushArgs),
    /// Loads the state of one workspace, whole or not at all
    Load(load::LoadArgs),
    /// Streams records or latest values of partitions
    Stream(stream::StreamArgs),
    /// Shows what the sidecar serves, and what is wrong with it
    Describe(describe::DescribeArgs),
    /// Writes the latest values as JSON Lines
    Export(export::ExportArgs),
    /// Reads JSON Lines with `key` and `value`, `value_base64` or `deleted`, and sets or deletes each key
    Import(import::ImportArgs),
    /// Asks grpc.health.v1; the exit status is the answer, 0 or 69
    Health(health::HealthArgs),
}

impl ClientCommand {
    fn client(&self) -> &ClientArgs {
        match self {
            Self::Set(a) => &a.client,
            Self::Get(a) => &a.client,
            Self::Delete(a) => &a.client,
            Self::Flush(a) => &a.client,
            Self::Load(a) => &a.client,
            Self::Stream(a) => &a.client,
            Self::Describe(a) => &a.client,
            Self::Export(a) => &a.client,
            Self::Import(a) => &a.client,
            Self::Health(a) => &a.client,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Set(_) => "set",
            Self::Get(_) => "get",
            Self::Delete(_) => "delete",
            Self::Flush(_) => "flush",
            Self::Load(_) => "load",
            Self::Stream(_) => "stream",
            Self::Describe(_) => "describe",
            Self::Export(_) => "export",
            Self::Import(_) => "import",
            Self::Health(_) => "health",
        }
    }
}

/// Runs one command. The exit status is 0, 1 (failed), 64 (bad usage) or 69 (unavailable).
#[allow(clippy::print_stderr)] // of a client that ends with it
pub async fn run(command: ClientCommand) -> ExitCode {
    let (name, mut output) = (command.name(), Output::standard(command.client().output));
    let result = match command {
        ClientCommand::Set(args) => set::run(args, &mut output).await,
        ClientCommand::Get(args) => get::run(args, &mut output).await,
        ClientCommand::Delete(args) => delete::run(args, &mut output).await,
        ClientCommand::Flush(args) => flush::run(args, &mut output).await,
        ClientCommand::Load(args) => load::run(args, &mut output).await,
        ClientCommand::Stream(args) => stream::run(args, &mut output).await,
        ClientCommand::Describe(args) => describe::run(args, &mut output).await,
        ClientCommand::Export(args) => export::run(args, &mut output).await,
        ClientCommand::Import(args) => import::run(args, &mut output).await,
        ClientCommand::Health(args) => health::run(args, &mut output).await,
    };
    let result = result.and_then(|()| output.flush());
    match result {
        // A closed pipe is not a failure, because `| head` ends before the output does.
        Ok(()) | Err(Failure::PipeClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.line(name, output.format()));
            ExitCode::from(failure.exit_status())
        }
    }
}
