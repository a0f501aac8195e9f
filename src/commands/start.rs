//! What every command needs before its work starts.

use std::process::ExitCode;

use crate::{
    config::{EXIT_USAGE, UsageError},
    telemetry::{LogFormat, exit_message},
};

pub fn refuse(error: &UsageError) -> ExitCode {
    exit_message(LogFormat::Text, &error.to_string());
    ExitCode::from(EXIT_USAGE)
}

pub fn runtime() -> Result<tokio::runtime::Runtime, ExitCode> {
    build_runtime().map_err(|error| {
        exit_message(LogFormat::Text, &error);
        ExitCode::FAILURE
    })
}

pub fn build_runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| format!("can't start: {error}"))
}
