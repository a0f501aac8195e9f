//! Opens a store in a thread of its own, because that may take long, and reports how far it is.

use std::{convert::Infallible, time::Duration};

use tokio::{
    task::{JoinError, spawn_blocking},
    time::{Instant, sleep},
};

/// How often the progress is measured, which lists the open files of the process.
const PROGRESS_PERIOD: Duration = Duration::from_millis(100);
/// A start that takes no longer than the first of these has no line about its progress.
const FIRST_PROGRESS_LINE: Duration = Duration::from_secs(1);
const PROGRESS_LINES: Duration = Duration::from_secs(10);

/// Completes when `open` has returned, or panicked. Its thread goes on if this is dropped. `measure` may block, too.
/// `report` gets what it has measured, and whether a line of the log is due.
pub async fn open_store<T: Send + 'static>(
    open: impl FnOnce() -> T + Send + 'static,
    measure: impl FnMut() -> Option<String> + Send + 'static,
    report: impl Fn(Option<String>, bool),
) -> Result<T, JoinError> {
    let opened = spawn_blocking(open);
    tokio::select! {
        opened = opened => opened,
        never = report_progress(measure, report) => match never {},
    }
}

async fn report_progress<M>(measure: M, report: impl Fn(Option<String>, bool)) -> Infallible
where
    M: FnMut() -> Option<String> + Send + 'static,
{
    let (mut measure, mut next_line) = (Some(measure), Instant::now() + FIRST_PROGRESS_LINE);
    loop {
        let mut shown = None;
        if let Some(mut measuring) = measure.take() {
            // The disk may be as slow here as it is for the store.
            let measured = spawn_blocking(move || {
                let shown = measuring();
                (shown, measuring)
            });
            if let Ok((found, measuring)) = measured.await {
                (shown, measure) = (found, Some(measuring));
            }
        }
        let is_due = Instant::now() >= next_line;
        if is_due {
            next_line += PROGRESS_LINES;
        }
        report(shown, is_due);
        sleep(PROGRESS_PERIOD).await;
    }
}
