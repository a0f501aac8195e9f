//! changelogd: the sidecar, and its client.

use std::process::ExitCode;

use changelogd::{
    commands::{self, print},
    config::{self, EXIT_USAGE, Exit, ProcessEnvironment},
    telemetry::{LogFormat, exit_message},
};

fn main() -> ExitCode {
    let command = commands::command();
    // The first argument is the caller's, and the help would show it as the name of the program.
    let arguments = std::iter::once("changelogd".into()).chain(std::env::args_os().skip(1)).collect();
    let arguments = config::flags_after_command(&command, arguments);
    match config::parse(&command, &arguments, &ProcessEnvironment) {
        Ok(parsed) => commands::run(&parsed),
        Err(Exit::Help(help)) => print(&help),
        Err(Exit::Usage(error)) => {
            let json = config::asks_for_json(&arguments, &ProcessEnvironment);
            exit_message(if json { LogFormat::Json } else { LogFormat::Text }, &error.to_string());
            ExitCode::from(EXIT_USAGE)
        }
    }
}
