//! The old names of flags and of their variables. The table is kept until 1.0.
//!
//! An old name is a usage error that gives the new name, and never an alias. A process that ignored an old name would
//! run without the limit that the name sets.

use std::ffi::{OsStr, OsString};

use clap::Command;

use super::{
    UsageError,
    environment::{Environment, variable},
};

/// Old and new flags, without dashes. The variables follow the flags.
pub const RENAMED: [(&str, &str); 6] = [
    ("max-follows", "max-following-streams"),
    ("replay-queue-wait", "replay-queue-timeout"),
    ("max-replays-per-peer", "max-replays-per-client"),
    ("replay-budget", "replay-memory"),
    ("stall-timeout", "client-stall-timeout"),
    ("max-load-bytes", "max-load-memory"),
];

/// Fails if an old name is used for a flag that the command has. The error names every old name that is used.
///
/// A variable counts whatever its value is, an empty one too, because a template that leaves it empty today may fill it
/// tomorrow.
pub(super) fn refuse_old_names(
    command: &Command,
    arguments: &[OsString],
    environment: &impl Environment,
) -> Result<(), UsageError> {
    let variables = environment.names();
    let mut used = Vec::new();
    for (old, new) in RENAMED {
        if !command.get_arguments().any(|a| a.get_long() == Some(new)) {
            continue;
        }
        if arguments.iter().any(|a| is_flag(a, old)) {
            used.push(format!("--{old}: renamed to --{new}"));
        }
        if variables.contains(&variable(old)) {
            used.push(format!("{}: renamed to {}", variable(old), variable(new)));
        }
    }
    if used.is_empty() { Ok(()) } else { Err(UsageError(used.join("; "))) }
}

/// Whether an argument is `--long` or `--long=value`. No flag takes a value that begins with a dash, so it is no value.
fn is_flag(argument: &OsStr, long: &str) -> bool {
    let argument = argument.to_string_lossy();
    let name = argument.strip_prefix("--").and_then(|rest| rest.strip_prefix(long));
    name.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

#[cfg(test)]
mod tests;
