//! Clients of a fault's own sidecar: one writes and one loads for each workspace. Every load is compared with the
//! writes acknowledged before it. Each key has one writer, so the set of correct loads is known exactly.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use changelog_core::model::{Partition, PartitionCount};
use changelogd::proto::v1;
use tokio::{task::JoinSet, time::sleep};
use tonic::{Code, Status, Streaming};

use crate::{
    clients::{READ, load, nothing_was_written},
    sidecar::{Client, client, limited, raw, reason, said},
};

use super::calls::Tally;

const KEYS: u64 = 5;
/// Longer than any limit of the sidecar here.
const WRITE: u64 = 8;
const PAUSE: Duration = Duration::from_millis(20);

/// The values that are there, by key.
pub type Content = BTreeMap<String, String>;

pub fn workspace(number: usize) -> String {
    format!("own-{number}")
}

/// The partition of a workspace.
pub fn partition_of(workspace: &str, partitions: i32) -> Partition {
    PartitionCount::new(partitions.into()).expect("a count").of_workspace(workspace.as_bytes())
}

/// A write, as its client knows it.
#[derive(Debug, Clone)]
struct Write {
    value: Option<String>,
    call: Instant,
    end: Option<Instant>,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Acked,
    Nothing,
    Unknown,
}

/// A call that was not answered OK.
#[derive(Debug, Clone)]
pub struct Refusal {
    pub what: &'static str,
    pub call: Instant,
    pub took: Duration,
    pub status: Status,
}

#[derive(Default)]
struct Known {
    writes: BTreeMap<String, Vec<Write>>,
    refused: Vec<Refusal>,
    /// The times of the calls of loads that were answered OK.
    loads: Vec<Instant>,
    /// Another content that a load may return, exactly.
    or: Option<Content>,
    wrong: Vec<String>,
}

/// The acknowledged writes that a sidecar returns.
#[derive(Debug)]
#[allow(dead_code, reason = "what it carries is shown")]
pub enum Verdict {
    Exact,
    Refused(Status),
    Wrong(String),
}

/// The clients, while they run.
pub struct Clients {
    known: Arc<Mutex<Known>>,
    stop: Arc<AtomicBool>,
    running: JoinSet<()>,
    writing: bool,
}

impl Clients {
    /// Starts clients on this many workspaces, which already hold `content`. Without `writing` they only load.
    pub fn start(api: &str, workspaces: usize, content: &Content, writing: bool) -> Self {
        let now = Instant::now();
        let there = |value: &String| {
            vec![Write { value: Some(value.clone()), call: now, end: Some(now), outcome: Outcome::Acked }]
        };
        let writes = content.iter().map(|(key, value)| (key.clone(), there(value))).collect();
        let known = Arc::new(Mutex::new(Known { writes, ..Known::default() }));
        let (stop, mut running) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for number in 0..workspaces {
            if writing {
                running.spawn(write_on(client(api), workspace(number), known.clone(), stop.clone()));
            }
            running.spawn(load_on(client(api), workspace(number), known.clone(), stop.clone()));
        }
        Self { known, stop, running, writing }
    }

    /// From now on a load is also right if it returns exactly this, because loads are made on both sides of a change.
    pub fn or_this(&self, content: Content) {
        lock(&self.known).or = Some(content);
    }

    /// Waits until this many writes (if the clients write) and loads, called now or later, were answered OK.
    pub async fn served(&self, calls: usize, within: Duration) -> Result<(), String> {
        let since = Instant::now();
        loop {
            let (writes, loads) = (self.acked_since(since).len(), self.loads_since(since));
            if loads >= calls && (writes >= calls || !self.writing) {
                return Ok(());
            }
            if since.elapsed() > within {
                let told = self.told_since(since);
                return Err(format!(
                    "{writes} writes and {loads} loads were answered OK within {within:?}; answers: {told}"
                ));
            }
            sleep(PAUSE).await;
        }
    }

    /// Waits until a write and a load that were called at `since` or later were refused so. Returns the time that this
    /// took.
    pub async fn refused(&self, since: Instant, why: &str, within: Duration) -> Result<Duration, String> {
        loop {
            let so = |what| self.refusals_since(since).into_iter().find(|r| r.what == what && is(&r.status, why));
            if let (Some(set), Some(load)) = (so("set"), so("load")) {
                return Ok(set.call.max(load.call) - since + set.took.max(load.took));
            }
            if since.elapsed() > within {
                let told = self.told_since(since);
                return Err(format!("{why} was not said to both writes and loads within {within:?}; answers: {told}"));
            }
            sleep(PAUSE).await;
        }
    }

    /// Checks every call from then on: it is refused for this reason, and soon.
    pub fn only_refused(&self, since: Instant, why: &str) -> Result<usize, String> {
        let (acked, loads) = (self.acked_since(since).len(), self.loads_since(since));
        if acked + loads > 0 {
            return Err(format!("{acked} writes and {loads} loads were answered OK where {why} had been said already"));
        }
        let refusals = self.refusals_since(since);
        if let Some(other) = refusals.iter().find(|r| !is(&r.status, why)) {
            return Err(format!(
                "after {why}, a {} was answered {}: {}",
                other.what,
                said(&other.status),
                other.status.message()
            ));
        }
        if let Some(slow) = refusals.iter().find(|r| r.took > Duration::from_secs(1)) {
            return Err(format!("{why} was said to a {} after {:?}", slow.what, slow.took));
        }
        Ok(refusals.len())
    }

    pub fn refusals_since(&self, since: Instant) -> Vec<Refusal> {
        lock(&self.known).refused.iter().filter(|r| r.call >= since).cloned().collect()
    }

    pub fn told_since(&self, since: Instant) -> Tally {
        let mut told = Tally::default();
        self.refusals_since(since).iter().for_each(|r| told.add(&format!("{}: {}", r.what, said(&r.status))));
        told
    }

    /// Keys and values that were acknowledged to calls since then.
    pub fn acked_since(&self, since: Instant) -> Vec<(String, Option<String>)> {
        let known = lock(&self.known);
        let of = |(key, writes): (&String, &Vec<Write>)| {
            let acked = writes.iter().filter(|w| w.outcome == Outcome::Acked && w.call >= since);
            acked.map(|w| (key.clone(), w.value.clone())).collect::<Vec<_>>()
        };
        known.writes.iter().flat_map(of).collect()
    }

    /// The number of loads that were answered OK to calls since then.
    pub fn loads_since(&self, since: Instant) -> usize {
        lock(&self.known).loads.iter().filter(|call| **call >= since).count()
    }

    /// Ends the clients, so that they can be checked. Forgets the answers of a process that has ended.
    pub async fn stop(&mut self) -> Result<(), String> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.running.join_next().await {
            ended.map_err(|error| format!("a client of the fault's own panicked: {error}"))?;
        }
        lock(&self.known).refused.retain(|r| reason(&r.status).is_some());
        Ok(())
    }

    /// What a sidecar returns of all acknowledged writes.
    pub async fn verdict(&self, api: &str) -> Verdict {
        let mut client = client(api);
        let workspaces: BTreeSet<_> =
            lock(&self.known).writes.keys().filter_map(|key| Some(key.split_once('/')?.0.to_owned())).collect();
        for workspace in workspaces {
            let request = v1::LoadWorkspaceRequest { workspace_id: workspace.clone(), ..Default::default() };
            let call = Instant::now();
            match load(&mut client, request, READ).await {
                Err(status) => return Verdict::Refused(status),
                Ok((state, whole)) => {
                    let content = state.into_iter().map(|(key, (value, _))| (key, value)).collect();
                    if let Some(wrong) = wrong(&lock(&self.known).writes, &workspace, &content, call, whole) {
                        return Verdict::Wrong(wrong);
                    }
                }
            }
        }
        Verdict::Exact
    }

    /// Waits until a write that is called from now on is refused for one of these reasons.
    pub async fn refused_by(&self, reasons: &[&str], within: Duration) -> Result<Status, String> {
        let since = Instant::now();
        let so = |r: &Refusal| r.what == "set" && reason(&r.status).is_some_and(|why| reasons.contains(&&*why));
        loop {
            if let Some(refusal) = self.refusals_since(since).into_iter().find(so) {
                return Ok(refusal.status);
            }
            if since.elapsed() > within {
                return Err(format!("no write was refused with {reasons:?}; answers: {}", self.told_since(since)));
            }
            sleep(PAUSE).await;
        }
    }

    /// Ends the clients. Returns an error for the first wrong load, or for a refusal that is not ours.
    pub async fn end(mut self) -> Result<String, String> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.running.join_next().await {
            ended.map_err(|error| format!("a client of the fault's own panicked: {error}"))?;
        }
        let known = lock(&self.known);
        let foreign = known.refused.iter().find(|r| reason(&r.status).is_none());
        if let Some(r) = foreign {
            return Err(format!(
                "a {} was answered {} after {:?}: {}",
                r.what,
                said(&r.status),
                r.took,
                r.status.message()
            ));
        }
        match known.wrong.first() {
            Some(wrong) => Err(format!("{} of {} own loads are wrong: {wrong}", known.wrong.len(), known.loads.len())),
            None => {
                let acked = known.writes.values().flatten().filter(|w| w.outcome == Outcome::Acked).count();
                let writes = if self.writing { format!("{acked} own writes acknowledged, ") } else { String::new() };
                Ok(format!("{writes}{} own loads exact", known.loads.len()))
            }
        }
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// FAILED_PRECONDITION, with this reason.
pub fn is(status: &Status, why: &str) -> bool {
    status.code() == Code::FailedPrecondition && reason(status).as_deref() == Some(why)
}

async fn write_on(mut client: Client, workspace: String, known: Arc<Mutex<Known>>, stop: Arc<AtomicBool>) {
    for n in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("{workspace}/t/{}", n % KEYS);
        let value = (n % 7 != 6).then(|| format!("\"{n}\""));
        let call = Instant::now();
        let place = {
            let mut known = lock(&known);
            let writes = known.writes.entry(key.clone()).or_default();
            writes.push(Write { value: value.clone(), call, end: None, outcome: Outcome::Unknown });
            writes.len() - 1
        };
        let answer = match &value {
            Some(value) => {
                let set = v1::SetRequest { changelog_id: key.clone(), value: raw(value), ..Default::default() };
                client.set(limited(set, WRITE)).await.map(drop)
            }
            None => {
                let delete = v1::DeleteRequest { changelog_id: key.clone(), ..Default::default() };
                client.delete(limited(delete, WRITE)).await.map(drop)
            }
        };
        {
            let mut known = lock(&known);
            let outcome = match &answer {
                Ok(()) => Outcome::Acked,
                Err(status) if nothing_was_written(status) => Outcome::Nothing,
                Err(_) => Outcome::Unknown,
            };
            if let Some(write) = known.writes.get_mut(&key).and_then(|writes| writes.get_mut(place)) {
                (write.end, write.outcome) = (Some(Instant::now()), outcome);
            }
            if let Err(status) = answer {
                known.refused.push(Refusal { what: "set", call, took: call.elapsed(), status });
            }
        }
        sleep(PAUSE).await;
    }
}

async fn load_on(mut client: Client, workspace: String, known: Arc<Mutex<Known>>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let request = v1::LoadWorkspaceRequest { workspace_id: workspace.clone(), ..Default::default() };
        let call = Instant::now();
        let answer = load(&mut client, request, READ).await;
        {
            let mut known = lock(&known);
            match answer {
                Ok((state, whole)) => {
                    known.loads.push(call);
                    let content = state.into_iter().map(|(key, (value, _))| (key, value)).collect();
                    let or = known.or.as_ref() == Some(&content) && whole;
                    if !or && let Some(wrong) = wrong(&known.writes, &workspace, &content, call, whole) {
                        known.wrong.push(wrong);
                    }
                }
                Err(status) => known.refused.push(Refusal { what: "load", call, took: call.elapsed(), status }),
            }
        }
        sleep(PAUSE).await;
    }
}

/// Why a load that ended now is wrong.
fn wrong(
    writes: &BTreeMap<String, Vec<Write>>,
    workspace: &str,
    content: &Content,
    call: Instant,
    whole: bool,
) -> Option<String> {
    if !whole {
        return Some(format!("a load of {workspace} ended as OK without its snapshot"));
    }
    if let Some((key, value)) = content.iter().find(|(key, _)| !writes.contains_key(*key)) {
        return Some(format!("a load of {workspace} has {key} = {}, which was never written here", short(value)));
    }
    let of_it = writes.iter().filter(|(key, _)| key.starts_with(&format!("{workspace}/")));
    of_it.into_iter().find_map(|(key, writes)| {
        let shown = content.get(key);
        let before = writes.iter().rposition(|w| w.outcome == Outcome::Acked && w.end.is_some_and(|end| end < call));
        let may = |(at, w): (usize, &Write)| {
            let late = w.outcome == Outcome::Unknown; // it may come when it likes
            (before.is_none_or(|before| at >= before) && w.outcome != Outcome::Nothing || late)
                && w.value.as_ref() == shown
        };
        let explained = writes.iter().enumerate().any(may) || before.is_none() && shown.is_none();
        let newest = before.and_then(|before| writes.get(before));
        (!explained).then(|| {
            let shown = shown.map(|value| short(value));
            let newest = newest.map(|w| w.value.as_deref().map(short));
            format!("a load shows {key} = {shown:?}, where {newest:?} had been acknowledged before it")
        })
    })
}

fn short(value: &str) -> String {
    value.chars().take(40).collect()
}

/// Sets keys of a workspace to values of this many bytes, which cannot be compressed. Returns the state by key, with
/// offsets.
pub async fn fill(
    client: &mut Client,
    workspace: &str,
    keys: usize,
    bytes: usize,
) -> Result<BTreeMap<String, (String, i64)>, String> {
    let mut random = changelogd_testkit::Random::new(7);
    let mut content = BTreeMap::new();
    for n in 0..keys {
        let words: String = (0..bytes / 16).map(|_| format!("{:016x}", random.number())).collect();
        let (key, value) = (format!("{workspace}/t/{n:04}"), format!("\"{words}\""));
        let set = v1::SetRequest { changelog_id: key.clone(), value: raw(&value), ..Default::default() };
        let answer =
            client.set(limited(set, 20)).await.map_err(|s| format!("filling: {}: {}", said(&s), s.message()))?;
        let offset = answer.into_inner().position.ok_or("a write was acknowledged without a position")?.offset;
        content.insert(key, (value, offset));
    }
    Ok(content)
}

/// A stream of every record. Its reader takes the first records, and then nothing until it is drained.
pub struct SlowReader {
    events: Streaming<v1::StreamAllResponse>,
    snapshots: usize,
    content: Content,
}

impl SlowReader {
    pub async fn start(client: &mut Client, resume_token: bytes::Bytes) -> Result<Self, Status> {
        let content = v1::Content::Records.into();
        let request = v1::StreamAllRequest { content, resume_token, ..Default::default() };
        let events = client.stream_all(limited(request, 120)).await?.into_inner();
        let mut reader = Self { events, snapshots: 0, content: Content::new() };
        reader.take().await?;
        Ok(reader)
    }

    async fn take(&mut self) -> Result<bool, Status> {
        use v1::stream_all_response::Event;
        let Some(message) = self.events.message().await? else { return Ok(false) };
        match message.event {
            Some(Event::Batch(batch)) => {
                for entry in batch.entries {
                    if entry.is_tombstone {
                        self.content.remove(&entry.key);
                    } else if let Some(v1::entry::Value::Raw(raw)) = entry.value {
                        self.content.insert(entry.key, String::from_utf8_lossy(&raw).into_owned());
                    }
                }
            }
            Some(Event::Snapshot(_)) => self.snapshots += 1,
            _ => {}
        }
        Ok(true)
    }

    /// Reads to the end. Returns the number of snapshots and the state, or the error.
    pub async fn drain(mut self) -> Result<(usize, Content), Status> {
        while self.take().await? {}
        Ok((self.snapshots, self.content))
    }
}
