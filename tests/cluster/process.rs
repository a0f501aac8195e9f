//! A program that runs until it is stopped, with a log of its own.

use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use super::command::target;

const STOPS_WITHIN: Duration = Duration::from_secs(20);
/// From nothing, the API server takes about ten seconds on two processors.
const STARTS_WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);
/// The end of the log that a failure shows.
const SHOWN_LINES: usize = 25;

/// It is killed when this is dropped. [`Process::stop`] ends it in order.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    pub fn start(name: &str, mut command: Command) -> Result<Self, String> {
        let log = target(&format!("log/{name}.log"));
        let file = fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        let copy = file.try_clone().map_err(|error| format!("{}: {error}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot run {name}: {error}"))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Waits until `is_ready` is true. It is an error if the program ends before.
    pub async fn until<F: Future<Output = bool>>(&mut self, is_ready: impl Fn() -> F) -> Result<(), String> {
        let began = Instant::now();
        while !is_ready().await {
            let has_ended = self.child.try_wait().is_ok_and(|ended| ended.is_some());
            if has_ended || began.elapsed() > STARTS_WITHIN {
                let what = if has_ended { "has ended" } else { "is not ready" };
                let (name, took, log) = (&self.name, began.elapsed().as_secs(), self.log.display());
                return Err(format!("{name} {what} after {took} s; the end of {log}:\n{}", self.last_lines()));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    pub async fn stop(mut self) -> Result<(), String> {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid as i32)) {
            let _ = kill_process(pid, Signal::TERM);
        }
        match timeout(STOPS_WITHIN, self.child.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => {
                let _ = self.child.kill().await;
                Err(format!("{} did not stop within {STOPS_WITHIN:?} and was killed", self.name))
            }
        }
    }

    fn last_lines(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}
