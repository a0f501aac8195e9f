//! What every command needs before its work starts.

use std::process::ExitCode;

use crate::config::{EXIT_USAGE, UsageError};

pub fn refuse(error: &UsageError) -> ExitCode {
    eprintln!("changelogd: {error}");
    ExitCode::from(EXIT_USAGE)
}

pub fn runtime() -> Result<tokio::runtime::Runtime, ExitCode> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        eprintln!("changelogd: can't start: {error}");
        ExitCode::FAILURE
    })
}
