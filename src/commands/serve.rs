//! `changelogd serve`.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::start::{refuse, runtime};
use crate::{
    app::{App, StartError},
    config::{Parsed, ServeArgs},
    telemetry,
};

pub fn run(args: ServeArgs, parsed: &Parsed) -> ExitCode {
    match telemetry::parse_filter(&args.log) {
        Ok(filter) => telemetry::start(args.log_format, filter),
        Err(error) => return refuse(&crate::config::UsageError::value("--log", &args.log, error)),
    }
    for name in &parsed.unknown {
        tracing::warn!(name, "this environment variable is no setting of changelogd, and is ignored");
    }
    match runtime() {
        Ok(runtime) => runtime.block_on(serve(args)),
        Err(code) => code,
    }
}

async fn serve(args: ServeArgs) -> ExitCode {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        eprintln!("changelogd: can't start: signals can't be received");
        return ExitCode::FAILURE;
    };
    let store = format!("{:?}", args.store()).to_lowercase();
    let app = match App::start(args).await {
        Ok(app) => app,
        Err(StartError::Usage(error)) => return refuse(&error),
        Err(error) => {
            eprintln!("changelogd: {error}");
            return ExitCode::FAILURE;
        }
    };
    let addresses = app.addresses();
    let shown = |a: &Option<crate::address::Address>| a.as_ref().map_or("off".to_owned(), ToString::to_string);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        store,
        api = %addresses.api,
        admin = shown(&addresses.admin),
        health = shown(&addresses.health),
        "serving"
    );
    let drained = app
        .run(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await;
    let undelivered = drained.undelivered;
    if undelivered.count > 0 {
        let partitions: Vec<_> = undelivered.partitions.iter().map(ToString::to_string).collect();
        let partitions = partitions.join(",");
        tracing::error!(writes = undelivered.count, partitions, "stopped with accepted writes that were not delivered");
        for key in &undelivered.keys {
            tracing::debug!(key, "an accepted write was not delivered");
        }
        return ExitCode::FAILURE;
    }
    tracing::info!(cut_connections = drained.cut_connections, "drained");
    ExitCode::SUCCESS
}
