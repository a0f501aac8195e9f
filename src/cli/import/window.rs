//! Which lines of an import are sent, and when.
//!
//! Promises: of each key at most one line is on its way, and the next one is sent when that has its outcome. So lines
//! of a key are applied in the order of the file, also if one is sent again. A line is sent again only if it was
//! certainly not written: the server says so, or the transport has not taken it. What is held is bounded in lines and
//! bytes.
//! Does not: do I/O.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use prost::Message;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::{
    cli::{
        failure::{Tried, describe, reason},
        record::Change,
    },
    proto::v1::{self, mutation},
};

/// Mutations in one message, and their bytes, unless it has one. The server takes 1,000, and 4 MiB.
const MAX_MUTATIONS: usize = 1_000;
const MAX_MESSAGE_BYTES: usize = 256 * 1024;
/// Bytes of all lines that are held, unless it is one. Lines wait for the outcome of an earlier one of their key.
const MAX_HELD_BYTES: usize = 64 * 1024 * 1024;
/// Lines that wait, for each one that may be on its way.
const WAITING_FACTOR: usize = 4;
/// The first pause before a line is sent again, and the longest. Each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The limits of a window.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Lines that are on their way.
    pub in_flight: usize,
    /// How long a line may be on its way.
    pub timeout: Duration,
    /// How long a line is sent again.
    pub retry_for: Duration,
}

/// A line that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Set,
    Deleted,
    Failed { number: u64, key: String, why: String },
}

/// A line that is not done.
#[derive(Debug)]
struct Line {
    number: u64,
    bytes: usize,
    mutation: v1::Mutation,
    pause: Duration,
    /// Set when it is sent for the first time.
    give_up: Option<Instant>,
}

/// The lines that are not done.
#[derive(Debug)]
pub struct Window {
    limits: Limits,
    next_id: u64,
    /// Keys with a line that is ready, on its way or paused, and their later lines.
    keys: HashMap<String, VecDeque<Line>>,
    ready: VecDeque<Line>,
    ready_bytes: usize,
    /// By id, and so in the order of sending.
    in_flight: BTreeMap<u64, (Line, Instant)>,
    /// By the end of the pause.
    paused: BTreeMap<(Instant, u64), Line>,
    held_lines: usize,
    held_bytes: usize,
    outcomes: Vec<Outcome>,
}

/// The message of a mutation with its length in front of it.
pub fn message_bytes(mutation: &v1::Mutation) -> usize {
    let bytes = mutation.encoded_len();
    // The tag and the length.
    bytes + 1 + prost::encoding::encoded_len_varint(bytes as u64)
}

/// The mutation of a line. Its id is given when it is sent.
pub fn mutation(change: Change) -> v1::Mutation {
    v1::Mutation {
        changelog_id: change.key,
        change: Some(change.value.map_or(mutation::Change::Deletion(v1::Deletion {}), mutation::Change::Raw)),
        headers: change.headers,
        ..Default::default()
    }
}

impl Window {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            next_id: 0,
            keys: HashMap::new(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            in_flight: BTreeMap::new(),
            paused: BTreeMap::new(),
            held_lines: 0,
            held_bytes: 0,
            outcomes: Vec::new(),
        }
    }

    /// Whether another line may be added.
    pub fn has_room(&self) -> bool {
        self.held_lines < self.limits.in_flight * (1 + WAITING_FACTOR) && self.held_bytes < MAX_HELD_BYTES
    }

    pub fn add(&mut self, number: u64, mutation: v1::Mutation) {
        let line = Line { number, bytes: message_bytes(&mutation), mutation, pause: FIRST_PAUSE, give_up: None };
        self.held_lines += 1;
        self.held_bytes += line.bytes;
        match self.keys.get_mut(&line.mutation.changelog_id) {
            Some(later) => later.push_back(line),
            None => {
                self.keys.insert(line.mutation.changelog_id.clone(), VecDeque::new());
                self.push_ready(line);
            }
        }
    }

    /// Whether all lines are done.
    pub fn is_empty(&self) -> bool {
        self.held_lines == 0
    }

    pub fn is_any_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether [`Self::take`] returns a mutation.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty() && self.in_flight.len() < self.limits.in_flight
    }

    /// Whether [`Self::take`] would return no more if more lines were added.
    pub fn is_message_full(&self) -> bool {
        self.has_ready() && (self.ready.len() >= MAX_MUTATIONS || self.ready_bytes >= MAX_MESSAGE_BYTES)
    }

    /// The mutations of the next message. They are on their way.
    pub fn take(&mut self, now: Instant) -> Vec<v1::Mutation> {
        let (mut mutations, mut bytes) = (Vec::new(), 0);
        while self.has_ready() && mutations.len() < MAX_MUTATIONS {
            let Some(mut line) = self.ready.pop_front_if(|l| bytes == 0 || bytes + l.bytes <= MAX_MESSAGE_BYTES) else {
                break;
            };
            bytes += line.bytes;
            self.ready_bytes -= line.bytes;
            self.next_id += 1;
            line.give_up.get_or_insert(now + self.limits.retry_for);
            line.mutation.id = self.next_id;
            mutations.push(line.mutation.clone());
            self.in_flight.insert(self.next_id, (line, now));
        }
        mutations
    }

    /// Counts a verdict.
    pub fn verdict(&mut self, verdict: v1::Verdict, now: Instant) {
        // It may have taken too long.
        let Some((line, _)) = self.in_flight.remove(&verdict.id) else { return };
        match verdict.outcome {
            Some(v1::verdict::Outcome::Written(_)) => self.done(line, None),
            Some(v1::verdict::Outcome::Error(error)) => self.failed(line, &error.into(), Tried::Write, now),
            None => {
                let status = Status::unknown("the verdict says nothing that this client knows");
                self.failed(line, &status, Tried::Write, now);
            }
        }
    }

    /// Counts that no more verdicts come for what is on its way. `last_taken` is the id of the last mutation that the
    /// transport has taken.
    pub fn stream_ended(&mut self, status: &Status, last_taken: u64, now: Instant) {
        // One message was too large. This says nothing about those before it.
        let is_of_one_message = status.code() == Code::OutOfRange && reason(status).is_none();
        let status = if is_of_one_message { &Status::unknown(status.message()) } else { status };
        for (id, (line, _)) in std::mem::take(&mut self.in_flight) {
            let tried = if id > last_taken { Tried::UnsentWrite } else { Tried::WriteOfStream };
            self.failed(line, status, tried, now);
        }
    }

    /// When [`Self::tick`] has something to do.
    pub fn next_tick(&self) -> Option<Instant> {
        let late = self.in_flight.first_key_value().map(|(_, (_, sent))| *sent + self.limits.timeout);
        let due = self.paused.first_key_value().map(|((due, _), _)| *due);
        late.into_iter().chain(due).min()
    }

    /// Ends pauses, and waits no longer for verdicts that take too long.
    pub fn tick(&mut self, now: Instant) {
        while let Some(due) = self.paused.first_entry().filter(|entry| entry.key().0 <= now) {
            let line = due.remove();
            self.push_ready(line);
        }
        while let Some(late) = self.in_flight.first_entry().filter(|entry| entry.get().1 + self.limits.timeout <= now) {
            let (line, _) = late.remove();
            let text = format!("the server did not answer within {:?} (--timeout)", self.limits.timeout);
            self.failed(line, &Status::deadline_exceeded(text), Tried::WriteOfStream, now);
        }
    }

    /// What is done since the last call.
    pub fn outcomes(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes)
    }

    /// Gives up lines that are not on their way. Returns how many.
    pub fn give_up_waiting(&mut self) -> usize {
        let before = self.held_lines;
        self.ready.clear();
        self.ready_bytes = 0;
        self.paused.clear();
        self.keys.values_mut().for_each(VecDeque::clear);
        self.held_lines = self.in_flight.len();
        before - self.held_lines
    }

    fn push_ready(&mut self, line: Line) {
        self.ready_bytes += line.bytes;
        self.ready.push_back(line);
    }

    fn failed(&mut self, mut line: Line, status: &Status, tried: Tried, now: Instant) {
        let due = now + line.pause;
        let is_again = match tried {
            // The next call would end in the same way.
            Tried::UnsentWrite => {
                !matches!(status.code(), Code::Unimplemented | Code::Unauthenticated | Code::PermissionDenied)
            }
            // With our ErrorInfo these mean that nothing was written. An unknown outcome is reported and not retried.
            _ => matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) && reason(status).is_some(),
        };
        if is_again && line.give_up.is_some_and(|give_up| due < give_up) {
            line.pause = (line.pause * 2).min(LONGEST_PAUSE);
            self.paused.insert((due, line.mutation.id), line);
        } else {
            self.done(line, Some(describe(status, tried)));
        }
    }

    fn done(&mut self, line: Line, error: Option<String>) {
        self.held_lines -= 1;
        self.held_bytes = self.held_bytes.saturating_sub(line.bytes);
        let Line { number, mutation: v1::Mutation { changelog_id: key, change, .. }, .. } = line;
        match self.keys.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(next) => self.push_ready(next),
            None => drop(self.keys.remove(&key)),
        }
        self.outcomes.push(match (error, change) {
            (Some(why), _) => Outcome::Failed { number, key, why },
            (None, Some(mutation::Change::Deletion(_))) => Outcome::Deleted,
            (None, _) => Outcome::Set,
        });
    }
}

#[cfg(test)]
mod tests;
