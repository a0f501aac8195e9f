//! changelogd: the sidecar, and its client.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use changelogd::{
    commands,
    config::{self, EXIT_USAGE, Exit, ProcessEnvironment},
    telemetry::{LogFormat, exit_message},
};

fn main() -> ExitCode {
    let command = commands::command();
    let arguments = config::flags_after_command(&command, std::env::args_os().collect());
    match config::parse(&command, &arguments, &ProcessEnvironment) {
        Ok(parsed) => commands::run(&parsed),
        Err(Exit::Help(help)) => match io::stdout().write_all(help.as_bytes()) {
            // A closed pipe is not a failure, because `| head` ends before the output does.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                exit_message(LogFormat::Text, &format!("output can't be written: {error}"));
                ExitCode::FAILURE
            }
            _ => ExitCode::SUCCESS,
        },
        Err(Exit::Usage(error)) => {
            let json = config::asks_for_json(&arguments, &ProcessEnvironment);
            exit_message(if json { LogFormat::Json } else { LogFormat::Text }, &error.to_string());
            ExitCode::from(EXIT_USAGE)
        }
    }
}
