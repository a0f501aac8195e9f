//! `changelogd serve`.

use std::{convert::Infallible, process::ExitCode};

use changelog_core::blocking::run_blocking;
use rustix::{fs::Mode, process::umask};

use super::start::{build_runtime, check_threads};
use crate::{
    app::{Addresses, App, Drained, StartError},
    config::{EXIT_USAGE, Parsed, ServeArgs},
    open_files,
    signals::Signals,
    telemetry::{self, LogFormat, exit_message},
    traces::Traces,
};

/// Why the process ends without having served. The message is written after the last log line.
struct Failed {
    exit_status: ExitCode,
    message: String,
}

impl Failed {
    fn usage(error: &impl ToString) -> Self {
        Self { exit_status: ExitCode::from(EXIT_USAGE), message: error.to_string() }
    }

    fn start(error: &impl ToString) -> Self {
        Self { exit_status: ExitCode::FAILURE, message: error.to_string() }
    }
}

impl From<StartError> for Failed {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Usage(error) => Self::usage(&error),
            error => Self::start(&error),
        }
    }
}

/// Group and others get no permission on what this process creates. The storage engine creates its files by the umask.
const UMASK: Mode = Mode::RWXG.union(Mode::RWXO);

pub fn run(args: ServeArgs, parsed: &Parsed) -> ExitCode {
    // The umask is one for all threads, so it is set before there is another.
    umask(UMASK);
    let format = LogFormat::in_effect(args.log_format);
    run_logged(args, parsed, format).unwrap_or_else(|failed| {
        exit_message(format, &failed.message);
        failed.exit_status
    })
}

fn run_logged(args: ServeArgs, parsed: &Parsed, format: LogFormat) -> Result<ExitCode, Failed> {
    let filter = telemetry::parse_filter(&args.log).map_err(|e| Failed::usage(&e))?;
    check_threads().map_err(|e| Failed::start(&e))?;
    let _logging = telemetry::start(format, filter);
    for name in &parsed.unknown {
        tracing::warn!(name, "this environment variable is no setting of changelogd, and is ignored");
    }
    if let Err(error) = open_files::raise() {
        tracing::warn!(%error, "the limit on open files can't be raised");
    }
    if open_files::limit() < open_files::LEAST {
        let (limit, least) = (open_files::limit(), open_files::LEAST);
        return Err(Failed::start(&format_args!("{limit} files may be open (ulimit -n), at least {least} are needed")));
    }
    let runtime = build_runtime().map_err(|e| Failed::start(&e))?;
    let ended = runtime.block_on(serve(args));
    // A task of the store may wait for a disk that does not answer.
    runtime.shutdown_background();
    ended
}

async fn serve(args: ServeArgs) -> Result<ExitCode, Failed> {
    let mut signals = Signals::new().map_err(|e| Failed::start(&format_args!("signals can't be received: {e}")))?;
    let store = format!("{:?}", args.store()).to_lowercase();
    let asked = args.max_connections.map(|asked| asked as usize);
    let traces = Traces::from_environment(&args).map_err(|e| Failed::usage(&e))?;
    let app = App::start(args).await?.with_traces(traces.clone());
    let (addresses, max_connections, opened) = (app.addresses().clone(), app.max_connections(), app.opened());
    if let Some(asked) = asked.filter(|asked| *asked > max_connections) {
        let open_files = open_files::limit();
        tracing::warn!(
            asked,
            max_connections,
            open_files,
            "--max-connections is more than open files and memory allow"
        );
    }
    let announce = async {
        opened.await;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            store,
            api = %addresses.api,
            admin = Addresses::shown(&addresses.admin),
            health = Addresses::shown(&addresses.health),
            max_connections,
            open_files = open_files::limit(),
            "serving"
        );
        std::future::pending::<Infallible>().await
    };
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let watch = async {
        signals.next().await;
        let _ = stop.send(());
        signals.next().await;
    };
    let mut run = Box::pin(app.run(async { drop(stopped.await) }));
    tokio::select! {
        drained = &mut run => {
            if let Some(traces) = traces {
                // Its thread may wait for the collector.
                let _ = run_blocking(move || traces.shutdown()).await;
            }
            Ok(report(&drained?))
        }
        never = announce => match never {},
        () = watch => {
            // Dropping it would wait for the store.
            std::mem::forget(run);
            tracing::error!("a second signal ended the process before it had drained");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn report(drained: &Drained) -> ExitCode {
    let undelivered = &drained.undelivered;
    if undelivered.count > 0 {
        let partitions: Vec<_> = undelivered.partitions.iter().map(ToString::to_string).collect();
        let partitions = partitions.join(",");
        tracing::error!(writes = undelivered.count, partitions, "stopped with accepted writes that were not delivered");
        for key in &undelivered.keys {
            tracing::debug!(key, "an accepted write was not delivered");
        }
    } else {
        tracing::info!(cut_connections = drained.cut_connections, "drained");
    }
    if let Some(fault) = &drained.fault {
        tracing::error!(fault, "stopped by a fault of changelogd");
    }
    if undelivered.count > 0 || drained.fault.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers R32, R44.
    #[test]
    fn the_exit_status_is_1_after_a_fault_or_with_writes_that_were_not_delivered() {
        let fault = || Some("a port".to_owned());
        for (count, fault, status) in [
            (0, None, ExitCode::SUCCESS),
            (1, None, ExitCode::FAILURE),
            (0, fault(), ExitCode::FAILURE),
            (1, fault(), ExitCode::FAILURE),
        ] {
            let mut drained = Drained { fault, cut_connections: 1, ..Drained::default() };
            drained.undelivered.count = count;
            // An exit code can't be compared.
            assert_eq!(format!("{:?}", report(&drained)), format!("{status:?}"), "{drained:?}");
        }
    }
}
