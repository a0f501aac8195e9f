//! Clients that watch a workspace each while others write. They break a watch on purpose, after a bookmark, and resume
//! at the other sidecar. They resume when a watch breaks, and start again when the server says so. What they saw is
//! checked against the writes.

use std::{
    collections::BTreeMap,
    fmt,
    iter::Sum,
    sync::Arc,
    time::{Duration, Instant},
};

use changelogd::proto::v1::{self, watch_response::Event};
use changelogd_testkit::{Random, SnapshotFacts, Watched, Written};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::{Code, Status};

use super::{
    clients::text,
    history::{History, Load, Outcome, Recorder, Write},
    sidecar::{Client, reason, said},
};

/// A bookmark comes at least every 10 s after `Synced`. On a busy machine it may be late.
const BOOKMARK_WITHIN: Duration = Duration::from_secs(30);
/// A state may wait for brokers that are away.
const SILENCE: Duration = Duration::from_secs(75);
/// How long after the last load a watch may take to have delivered everything.
const CATCHES_UP_WITHIN: Duration = Duration::from_secs(30);
/// A watch that breaks on purpose breaks before this many events have come after a bookmark.
const EVENTS_AFTER_BOOKMARK: u64 = 5;

/// What the watches of one history did.
#[derive(Debug, Default, Clone, Copy)]
pub struct WatchCounts {
    pub changes: u64,
    /// Whole states, by a start or a resume.
    pub synced: u64,
    /// The part of `synced` that continued from a token.
    pub resumed: u64,
    pub started_again: u64,
}

impl Sum for WatchCounts {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            changes: sum.changes + one.changes,
            synced: sum.synced + one.synced,
            resumed: sum.resumed + one.resumed,
            started_again: sum.started_again + one.started_again,
        })
    }
}

impl fmt::Display for WatchCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { changes, synced, resumed, started_again } = self;
        write!(f, "{changes} changes watched ({synced} states, {resumed} resumed, {started_again} started again)")
    }
}

impl WatchCounts {
    /// Watches that were never resumed, and one that saw no change, show nothing.
    pub fn show_nothing(all: &[Self]) -> Option<String> {
        let show_something = all.iter().all(|one| one.changes > 0) && all.iter().any(|one| one.resumed > 0);
        (!all.is_empty() && !show_something).then(|| format!("the watches show nothing: {all:?}"))
    }
}

/// What one watcher saw.
#[derive(Debug)]
pub struct Course {
    workspace: String,
    /// The end offset of each `Synced`, and what was known then.
    states: Vec<(i64, Watched)>,
    last: Watched,
    pub counts: WatchCounts,
    /// How often it had to start again, by the reason.
    started_again: BTreeMap<String, u64>,
    /// A broken promise that needs no history to be seen.
    violation: Option<String>,
    random: Random,
    /// The running call has a token, and has not delivered `Synced`.
    resuming: bool,
    /// How many events are left until the watch breaks on purpose.
    breaks_after: Option<u64>,
    /// When `Synced` or the last bookmark came.
    last_token_at: Instant,
}

/// The end of a history: all writers have ended.
pub struct End {
    /// A load after the last write.
    pub load: Load,
    pub history: History,
}

/// Gets the end once all writers have ended.
pub type EndReceiver = watch::Receiver<Option<Arc<End>>>;

/// How a call ended.
enum Ended {
    /// It has delivered everything.
    WithAll,
    OnPurpose,
    Refused(Status),
}

/// Watches at one of two sidecars and then at the other, until it has delivered what the last load has.
pub async fn watch(
    clients: [Client; 2],
    workspace: String,
    random: Random,
    recorder: Arc<Recorder>,
    mut end: EndReceiver,
) -> Course {
    let mut course = Course::new(workspace, random);
    let overdue = overdue(end.clone());
    tokio::pin!(overdue);
    let (mut waits, mut at) = (Duration::from_millis(100), 0);
    loop {
        let request = v1::WatchRequest {
            workspace_id: course.workspace.clone(),
            resume_token: course.last.resume().into(),
            ..Default::default()
        };
        let synced = course.counts.synced;
        let ended = tokio::select! {
            ended = course.attempt(clients[at].clone(), request, &mut end) => ended,
            () = &mut overdue => {
                let workspace = &course.workspace;
                course.violation = Some(format!("a watch of {workspace} has not delivered everything by now"));
                return course;
            }
        };
        let status = match ended {
            Ended::WithAll => return course,
            Ended::OnPurpose => {
                at = 1 - at;
                continue;
            }
            Ended::Refused(status) => status,
        };
        recorder.refused("watch", &status);
        match status.code() {
            Code::OutOfRange | Code::Aborted => course.start_again(&status),
            Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => {}
            // Those of a connection that broke. The server gives a reason.
            Code::Cancelled | Code::Unknown if reason(&status).is_none() => {}
            _ => {
                course.violation = Some(format!("a watch was answered {}: {}", said(&status), status.message()));
                return course;
            }
        }
        waits = if course.counts.synced > synced { Duration::from_millis(100) } else { (waits * 2).min(SILENCE / 50) };
        sleep(waits).await;
    }
}

/// Completes when a watch should long have delivered everything.
async fn overdue(mut end: EndReceiver) {
    // The sender is dropped if the history ends early. Then the task of this watch is, too.
    if end.wait_for(Option::is_some).await.is_err() {
        std::future::pending::<()>().await;
    }
    sleep(CATCHES_UP_WITHIN).await;
}

impl Course {
    fn new(workspace: String, random: Random) -> Self {
        Self {
            workspace,
            states: Vec::new(),
            last: Watched::new(),
            counts: WatchCounts::default(),
            started_again: BTreeMap::new(),
            violation: None,
            random,
            resuming: false,
            breaks_after: None,
            last_token_at: Instant::now(),
        }
    }

    fn start_again(&mut self, status: &Status) {
        self.counts.started_again += 1;
        *self.started_again.entry(said(status)).or_default() += 1;
        self.last.start_again();
    }

    /// One call, until it breaks, or until everything was delivered.
    async fn attempt(&mut self, client: Client, request: v1::WatchRequest, end: &mut EndReceiver) -> Ended {
        (self.resuming, self.breaks_after) = (!request.resume_token.is_empty(), None);
        self.events(client, request, end).await.unwrap_or_else(Ended::Refused)
    }

    async fn events(
        &mut self,
        mut client: Client,
        request: v1::WatchRequest,
        end: &mut EndReceiver,
    ) -> Result<Ended, Status> {
        let opened = timeout(SILENCE, client.watch(request)).await;
        let mut events = opened.map_err(|_| Status::unavailable("the client heard nothing"))??.into_inner();
        loop {
            let is_synced = self.last.is_synced();
            let within = if is_synced { BOOKMARK_WITHIN.saturating_sub(self.last_token_at.elapsed()) } else { SILENCE };
            let message = tokio::select! {
                message = timeout(within, events.message()) => match message {
                    Ok(message) => message?,
                    Err(_) if is_synced => return Err(Status::internal("no bookmark came in time")),
                    Err(_) => return Err(Status::unavailable("the client heard nothing")),
                },
                changed = end.changed(), if end.borrow().is_none() => {
                    changed.map_err(|_| Status::unavailable("the history has ended"))?;
                    if self.has_all(end) {
                        return Ok(Ended::WithAll);
                    }
                    continue;
                }
            };
            let event = message.and_then(|message| message.event);
            self.take(event.ok_or_else(|| Status::ok("a watch ended as OK"))?).map_err(Status::internal)?;
            if self.has_all(end) {
                return Ok(Ended::WithAll);
            }
            match &mut self.breaks_after {
                Some(0) => return Ok(Ended::OnPurpose),
                Some(left) => *left -= 1,
                None => {}
            }
        }
    }

    fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Batch(batch) => batch.entries.iter().try_for_each(|entry| {
                self.counts.changes += u64::from(self.last.is_synced());
                let value = (!entry.is_tombstone).then(|| text(entry));
                self.last.entry(&entry.key, entry.offset, value.as_deref())
            }),
            Event::Synced(synced) => {
                let snapshot = synced.snapshot.unwrap_or_default();
                self.last.synced(facts(&snapshot))?;
                self.counts.synced += 1;
                self.counts.resumed += u64::from(std::mem::take(&mut self.resuming));
                self.last_token_at = Instant::now();
                self.states.push((snapshot.end_offset, self.last.clone()));
                Ok(())
            }
            Event::Bookmark(bookmark) => {
                self.last_token_at = Instant::now();
                // The first bookmark always, so that each watch is resumed.
                if self.breaks_after.is_none() && (self.counts.resumed == 0 || self.random.below(2) == 0) {
                    self.breaks_after = Some(self.random.below(EVENTS_AFTER_BOOKMARK));
                }
                self.last.bookmark(&bookmark.resume_token)
            }
        }
    }

    /// Whether all writers have ended and the watch has what they left.
    fn has_all(&self, end: &EndReceiver) -> bool {
        end.borrow().as_ref().is_some_and(|end| self.has_all_of(end))
    }

    /// Whether it has the entries of the last load, and the last acknowledged delete of each key.
    fn has_all_of(&self, end: &End) -> bool {
        if !self.last.is_synced() {
            return false;
        }
        let prefix = format!("{}/", self.workspace);
        let there = end.load.keys.iter().filter(|(key, _)| key.starts_with(&prefix));
        let there: BTreeMap<_, _> = there
            .filter_map(|(key, entry)| {
                let (value, offset) = entry.as_ref()?;
                (!self.is_foreign(key)).then_some((&**key, (*offset, Some(&**value))))
            })
            .collect();
        let seen = self.last.state().into_iter().filter(|(key, (_, value))| value.is_some() && !self.is_foreign(key));
        let seen: BTreeMap<_, _> = seen.collect();
        seen == there && self.last.differs(&self.written(&end.history), i64::MAX).is_none()
    }

    fn written(&self, history: &History) -> Vec<Written> {
        let prefix = format!("{}/", self.workspace);
        let of_workspace = history.writes.iter().filter(|write| write.key.starts_with(&prefix));
        let written = of_workspace.filter_map(|write| {
            let offset = match write.outcome {
                Outcome::Acked(offset) => Some(offset),
                Outcome::Unknown => None,
                Outcome::Nothing => return None,
            };
            Some(Written { key: write.key.clone(), value: write.value.clone(), offset })
        });
        written.chain(self.foreign()).collect()
    }

    /// Whether a fault has written this key, and not a client. The history does not have such writes.
    fn is_foreign(&self, key: &str) -> bool {
        key.strip_prefix(&*self.workspace).is_some_and(|rest| rest.starts_with("/foreign/"))
    }

    /// What came of the keys that faults have written.
    fn foreign(&self) -> impl Iterator<Item = Written> {
        let came = self.states.iter().map(|(_, seen)| seen).chain([&self.last]).flat_map(Watched::state);
        came.filter(|(key, _)| self.is_foreign(key)).map(|(key, (_, value))| {
            let (key, value) = (key.to_owned(), value.map(str::to_owned));
            Written { key, value, offset: None }
        })
    }

    /// What is wrong with what it saw, by the writes of the history. `allowed` has the reasons for which it may have to
    /// start again.
    pub fn violations(&self, history: &History, allowed: &[&str]) -> Vec<String> {
        let written = self.written(history);
        let states = self.states.iter().map(|(end, seen)| (*end, seen)).chain([(i64::MAX, &self.last)]);
        let wrong = states.filter_map(|(end, seen)| {
            seen.differs(&written, end).map(|what| format!("a watch of {}, at {end}: {what}", self.workspace))
        });
        let not_allowed = |told: &str| !allowed.iter().any(|reason| told.ends_with(reason));
        let again = self.started_again.iter().filter(|(told, _)| not_allowed(told));
        let again = again.map(|(told, times)| {
            format!("a watch of {} had to start again {times} times, because of {told}", self.workspace)
        });
        wrong.chain(self.violation.clone()).chain(again).collect()
    }
}

/// What the snapshot of `Synced` says.
pub fn facts(snapshot: &v1::Snapshot) -> SnapshotFacts<'_> {
    SnapshotFacts {
        start: snapshot.start_offset,
        end: snapshot.end_offset,
        records_read: snapshot.records_read,
        entries: snapshot.entries,
        tombstones: snapshot.tombstones,
        token: &snapshot.resume_token,
    }
}

/// Judges courses that are known to be good or bad, before any result counts.
///
/// # Panics
/// If one of them is not judged as it should be.
pub fn prove() {
    let key = || "w/t/a".to_owned();
    let write = |offset, value: Option<&str>| Write {
        client: 0,
        key: key(),
        value: value.map(str::to_owned),
        call: 0,
        end: 1,
        outcome: Outcome::Acked(offset),
    };
    let entry = |offset, value: Option<&str>| {
        let raw = value.map(|value| v1::entry::Value::Raw(value.as_bytes().to_vec().into()));
        let entry = v1::Entry { key: key(), offset, is_tombstone: value.is_none(), value: raw, ..v1::Entry::default() };
        let mut batch = v1::EntryBatch::default();
        batch.entries.push(entry);
        Event::Batch(batch)
    };
    let synced = || {
        let snapshot = v1::Snapshot {
            end_offset: 4,
            records_read: 2,
            entries: 1,
            resume_token: "token".into(),
            ..v1::Snapshot::default()
        };
        Event::Synced(v1::Synced { snapshot: Some(snapshot) })
    };
    let course = |changes: &[(i64, Option<&str>)]| {
        let mut course = Course::new("w".to_owned(), Random::new(0));
        let changes = changes.iter().map(|(offset, value)| entry(*offset, *value));
        for event in [entry(1, Some("1")), synced()].into_iter().chain(changes) {
            course.take(event).unwrap_or_else(|violation| panic!("{violation}"));
        }
        course
    };
    let writes = vec![write(1, Some("1")), write(5, Some("2")), write(6, None), write(7, None)];
    let history = || History { writes: writes.clone(), ..History::default() };
    let load = Load { client: 0, how: "load", call: 8, end: 9, keys: [(key(), None)].into(), not_whole: None };
    let end = End { load, history: history() };
    let judged = |what: &str, course: &Course, allowed: &[&str], expected: (bool, bool)| {
        let violations = course.violations(&end.history, allowed);
        assert_eq!((violations.is_empty(), course.has_all_of(&end)), expected, "{what}: {violations:?}");
    };
    judged("whole", &course(&[(5, Some("2")), (6, None), (7, None)]), &[], (true, true));
    judged("conflated", &course(&[(7, None)]), &[], (true, true));
    judged("without the last delete", &course(&[(5, Some("2")), (6, None)]), &[], (false, false));
    judged("without changes", &course(&[]), &[], (false, false));
    judged("another value", &course(&[(5, Some("3"))]), &[], (false, false));
    let mut course = course(&[(7, None)]);
    course.start_again(&Status::out_of_range("a token was refused"));
    judged("started again", &course, &[], (false, false));
    judged("started again, as it may", &course, &["without our ErrorInfo"], (true, false));
    let counts = WatchCounts { changes: 1, synced: 2, resumed: 1, started_again: 0 };
    let (unchanged, never_resumed) = (WatchCounts { changes: 0, ..counts }, WatchCounts { resumed: 0, ..counts });
    for (all, show_nothing) in [
        (&[counts, never_resumed][..], false),
        (&[counts, unchanged], true),
        (&[never_resumed, never_resumed], true),
        (&[], false),
    ] {
        assert_eq!(WatchCounts::show_nothing(all).is_some(), show_nothing, "{all:?}");
    }
}
