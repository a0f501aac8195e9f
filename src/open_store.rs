//! Opens the store in a thread of its own, because that may take long, and reports how far it is.

use std::{convert::Infallible, sync::Arc, time::Duration};

use changelog_core::log::Log;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use crate::{
    app::{Addresses, StartError},
    config::ServeArgs,
    server::Opening,
    store::OpenProgress,
};

/// How often the progress is measured, which lists the open files of the process.
const PROGRESS_PERIOD: Duration = Duration::from_millis(100);
/// A start that takes no longer than the first of these has no line about its progress.
const FIRST_PROGRESS_LINE: Duration = Duration::from_secs(1);
const PROGRESS_LINES: Duration = Duration::from_secs(10);

/// Opens the log, and may block.
pub type OpenLog = Box<dyn FnOnce(&ServeArgs) -> Result<Arc<dyn Log>, StartError> + Send>;

/// Completes when the log is open. The thread goes on if this is dropped.
pub async fn open_store(
    open: OpenLog,
    args: &Arc<ServeArgs>,
    opening: &Opening,
    addresses: &Addresses,
) -> Result<Arc<dyn Log>, StartError> {
    let opening_args = args.clone();
    let log = spawn_blocking(move || open(&opening_args));
    tokio::select! {
        log = log => log.unwrap_or_else(|fault| Err(StartError::Fault(fault.to_string()))),
        never = report_progress(args, opening, addresses) => match never {},
    }
}

async fn report_progress(args: &Arc<ServeArgs>, opening: &Opening, addresses: &Addresses) -> Infallible {
    let mut progress = None;
    let mut next_line = Instant::now() + FIRST_PROGRESS_LINE;
    loop {
        let (before, args) = (progress.take(), args.clone());
        // The disk may be as slow here as it is for the store.
        let measured = spawn_blocking(move || {
            let mut progress = before.unwrap_or_else(|| OpenProgress::new(&args));
            (progress.shown(), progress)
        });
        if let Ok((shown, measured)) = measured.await {
            opening.set_progress(shown);
            progress = Some(measured);
        }
        if Instant::now() >= next_line {
            next_line += PROGRESS_LINES;
            let (admin, health) = (Addresses::shown(&addresses.admin), Addresses::shown(&addresses.health));
            let (api, progress) = (&addresses.api, opening.progress());
            tracing::info!(progress, %api, admin, health, "the store is being opened");
        }
        sleep(PROGRESS_PERIOD).await;
    }
}
