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
mod wait;
mod watch;

use std::process::ExitCode;

use args::ClientArgs;
use failure::{Failure, say};
use output::Output;

/// The commands that call a sidecar. The help of each is the documentation of its arguments. Documentation of a variant
/// would replace it.
#[derive(Debug, clap::Subcommand)]
pub enum ClientCommand {
    Set(set::SetArgs),
    Get(get::GetArgs),
    Delete(delete::DeleteArgs),
    Flush(flush::FlushArgs),
    Load(load::LoadArgs),
    Stream(stream::StreamArgs),
    Watch(watch::WatchArgs),
    Describe(describe::DescribeArgs),
    Export(export::ExportArgs),
    Import(import::ImportArgs),
    Health(health::HealthArgs),
    Wait(wait::WaitArgs),
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
            Self::Watch(a) => &a.client,
            Self::Describe(a) => &a.client,
            Self::Export(a) => &a.client,
            Self::Import(a) => &a.client,
            Self::Health(a) => &a.client,
            Self::Wait(a) => &a.client,
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
            Self::Watch(_) => "watch",
            Self::Describe(_) => "describe",
            Self::Export(_) => "export",
            Self::Import(_) => "import",
            Self::Health(_) => "health",
            Self::Wait(_) => "wait",
        }
    }
}

/// Runs one command. The exit status is 0, 1 (failed), 64 (bad usage) or 69 (unavailable).
pub async fn run(command: ClientCommand) -> ExitCode {
    let (name, mut output) = (command.name(), Output::standard(command.client().output));
    let result = match command {
        ClientCommand::Set(args) => set::run(args, &mut output).await,
        ClientCommand::Get(args) => get::run(args, &mut output).await,
        ClientCommand::Delete(args) => delete::run(args, &mut output).await,
        ClientCommand::Flush(args) => flush::run(args, &mut output).await,
        ClientCommand::Load(args) => load::run(args, &mut output).await,
        ClientCommand::Stream(args) => stream::run(args, &mut output).await,
        ClientCommand::Watch(args) => watch::run(args, &mut output).await,
        ClientCommand::Describe(args) => describe::run(args, &mut output).await,
        ClientCommand::Export(args) => export::run(args, &mut output).await,
        ClientCommand::Import(args) => import::run(args, &mut output).await,
        ClientCommand::Health(args) => health::run(args, &mut output).await,
        ClientCommand::Wait(args) => wait::run(args, &mut output).await,
    };
    // What was printed before a failure counts, too.
    let flushed = output.flush();
    match result.and(flushed) {
        // A closed pipe is not a failure, because `| head` ends before the output does.
        Ok(()) | Err(Failure::PipeClosed) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure.line(name, output.format()));
            ExitCode::from(failure.exit_status())
        }
    }
}
