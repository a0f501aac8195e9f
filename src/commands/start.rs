//! What every command needs before its work starts.

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
};

use parking_lot::Mutex;

use crate::{
    config::{EXIT_USAGE, UsageError},
    telemetry::{LogFormat, exit_message},
};

pub fn refuse(error: &UsageError) -> ExitCode {
    exit_message(LogFormat::Text, &error.to_string());
    ExitCode::from(EXIT_USAGE)
}

/// Prints the text of a command that has succeeded.
pub fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        // A closed pipe is not a failure, because `| head` ends before the output does.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            exit_message(LogFormat::Text, &format!("output can't be written: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

pub fn runtime() -> Result<tokio::runtime::Runtime, ExitCode> {
    check_threads().and_then(|()| build_runtime()).map_err(|error| {
        exit_message(LogFormat::Text, &error);
        ExitCode::FAILURE
    })
}

/// The threads must have been checked.
pub fn build_runtime() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| format!("can't start: {error}"))
}

/// Next to the threads of the runtime: one writes the log, one opens the store, and one measures how far that is.
const OTHER_THREADS: usize = 3;

/// Returns an error if the system gives too few threads to start with. Libraries panic then, or wait without end.
pub fn check_threads() -> Result<(), String> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    spare_threads(processors + OTHER_THREADS).map_err(|error| {
        format!("can't start: the system gives too few threads (ulimit -u, or the pids of the control group): {error}")
    })
}

/// Returns an error if this number of threads can't run at the same time.
fn spare_threads(count: usize) -> io::Result<()> {
    let (release, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let mut threads = Vec::new();
    let spawned = (0..count).try_for_each(|_| {
        let held = held.clone();
        // Each waits until the channel is closed.
        threads.push(thread::Builder::new().spawn(move || held.lock().recv().is_ok())?);
        Ok(())
    });
    drop(release);
    for thread in threads {
        let _ = thread.join();
    }
    spawned
}
