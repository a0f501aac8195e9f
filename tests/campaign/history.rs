//! The calls of clients and their answers, with the times of both.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde_json::json;
use tonic::Status;

use super::sidecar::said;

/// What a client knows about its write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged, at this partition's offset.
    Acked(i64),
    /// Refused with our ErrorInfo, and with a code that promises that nothing was written.
    Nothing,
    /// Any other answer: the write may have happened, may still happen, or may never happen.
    Unknown,
}

/// A set, or a delete (no value).
#[derive(Debug, Clone)]
pub struct Write {
    pub client: usize,
    pub key: String,
    pub value: Option<String>,
    pub call: u64,
    pub end: u64,
    pub outcome: Outcome,
}

/// A read that was answered OK: each key that it covered, with value and offset if the key was there.
#[derive(Debug, Clone)]
pub struct Load {
    pub client: usize,
    pub how: &'static str,
    pub call: u64,
    pub end: u64,
    pub keys: BTreeMap<String, Option<(String, i64)>>,
    /// The reason why it must not count as whole: a `Snapshot` is missing.
    pub not_whole: Option<String>,
}

#[derive(Debug, Default, Clone)]
pub struct History {
    pub writes: Vec<Write>,
    pub loads: Vec<Load>,
    /// The number of refusals, by call and answer.
    pub refused: BTreeMap<String, u64>,
    /// Each refusal: the time of its answer, and its whole text.
    pub refusals: Vec<(u64, String)>,
}

/// A history that is being recorded, shared by its clients.
pub struct Recorder {
    begun: Instant,
    history: Mutex<History>,
}

impl Recorder {
    pub fn new() -> Self {
        Self { begun: Instant::now(), history: Mutex::default() }
    }

    /// Nanoseconds since the history began, of a clock that does not jump.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).expect("584 years")
    }

    pub fn write(&self, write: Write) {
        self.lock().writes.push(write);
    }

    pub fn load(&self, load: Load) {
        self.lock().loads.push(load);
    }

    pub fn refused(&self, what: &str, status: &Status) {
        let (now, what) = (self.now(), format!("{what}: {}", said(status)));
        let mut history = self.lock();
        history.refusals.push((now, format!("{what}: {}", status.message())));
        *history.refused.entry(what).or_default() += 1;
    }

    pub fn so_far(&self) -> History {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    /// The number of calls, failed ones included.
    pub fn operations(&self) -> u64 {
        let refused_reads =
            self.refused.iter().filter(|(what, _)| !is_write(what)).map(|(_, count)| count).sum::<u64>();
        (self.writes.len() + self.loads.len()) as u64 + refused_reads
    }

    /// Writes the file for the checker: a line for each operation on a key.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for write in &self.writes {
            let (outcome, offset) = match write.outcome {
                Outcome::Acked(offset) => ("ok", Some(offset)),
                Outcome::Nothing => ("nothing", None),
                Outcome::Unknown => ("unknown", None),
            };
            let kind = if write.value.is_some() { "set" } else { "delete" };
            let line = json!({"client": write.client, "kind": kind, "key": write.key, "value": write.value,
                "outcome": outcome, "offset": offset, "call": write.call, "return": write.end});
            writeln!(file, "{line}")?;
        }
        for load in &self.loads {
            for (key, entry) in &load.keys {
                let (value, offset) = entry.as_ref().map_or((None, None), |(v, o)| (Some(v), Some(o)));
                let line = json!({"client": load.client, "kind": "read", "key": key, "value": value,
                    "found": entry.is_some(), "outcome": "ok", "offset": offset, "call": load.call,
                    "return": load.end, "how": load.how});
                writeln!(file, "{line}")?;
            }
        }
        file.flush()
    }

    /// Writes a file for readers: the time and the call of each refusal.
    pub fn save_refusals(&self, path: &Path) -> std::io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for (at, what) in &self.refusals {
            writeln!(file, "{:.3} {what}", *at as f64 / 1e9)?;
        }
        file.flush()
    }
}

/// Whether the name of a refusal is that of a write.
pub fn is_write(what: &str) -> bool {
    what.starts_with("set") || what.starts_with("delete")
}
