//! Clients that set, delete, get, load and stream at random, and record the answers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use changelogd::proto::v1::{self, mutation, verdict};
use changelogd_testkit::Random;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::{
    history::{Load, Outcome, Recorder, Write},
    sidecar::{Client, limited, raw, reason},
};

pub const WORKSPACES: usize = 6;
pub const KEYS: usize = 5;
/// A call's own deadline, in seconds. It is longer than the sidecars' write timeout, so that they can answer what
/// happened to a write.
const WRITE: u64 = 6;
pub const READ: u64 = 15;

pub fn workspace(number: usize) -> String {
    format!("workspace-{number}")
}

fn keys_of(workspace: &str) -> impl Iterator<Item = String> {
    (0..KEYS).map(move |k| format!("{workspace}/t/{k}"))
}

fn all_keys() -> impl Iterator<Item = String> {
    (0..WORKSPACES).flat_map(|w| keys_of(&workspace(w)).collect::<Vec<_>>())
}

pub type State = BTreeMap<String, (String, i64)>;

pub struct Actor {
    pub number: usize,
    pub client: Client,
    pub random: Random,
    pub recorder: Arc<Recorder>,
    pub partitions: usize,
    /// Values are unique over all clients of a history.
    written: u64,
    /// The token at which a stream of everything ended, and the state there.
    resume: Option<(Bytes, State)>,
}

/// The stop signal for all clients, and whether they may stop already.
#[derive(Clone, Default)]
pub struct Stop(pub Arc<AtomicBool>, pub Arc<AtomicU64>);

impl Actor {
    pub fn new(number: usize, client: Client, random: Random, recorder: Arc<Recorder>, partitions: usize) -> Self {
        Self { number, client, random, recorder, partitions, written: 0, resume: None }
    }

    /// Runs until the stop. Waits for the call that is open then, which takes at most its deadline.
    pub async fn run(mut self, stop: Stop) {
        while !stop.0.load(Ordering::Relaxed) {
            self.act().await;
            stop.1.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(self.random.below(80) + 5)).await;
        }
    }

    async fn act(&mut self) {
        let workspace = workspace(self.random.below(WORKSPACES as u64) as usize);
        let key = format!("{workspace}/t/{}", self.random.below(KEYS as u64));
        match self.random.below(100) {
            0..32 => self.set(key).await,
            32..40 => self.write_stream().await,
            40..52 => self.delete(key).await,
            52..68 => self.get(key).await,
            68..88 => drop(self.load(&workspace).await),
            88..92 => drop(self.stream("stream of latest", v1::Content::Latest, false).await),
            92..95 => drop(self.stream("stream of records", v1::Content::Records, false).await),
            _ => drop(self.stream("resumed stream", v1::Content::Records, true).await),
        }
    }

    async fn set(&mut self, key: String) {
        self.written += 1;
        let value = format!("\"{}-{}\"", self.number, self.written);
        let request = v1::SetRequest { changelog_id: key.clone(), value: raw(&value), ..Default::default() };
        let (mut client, call) = (self.client.clone(), self.recorder.now());
        let answer = answered(WRITE, client.set(limited(request, WRITE))).await;
        self.wrote("set", key, Some(value), call, answer.map(|a| a.position));
    }

    async fn delete(&mut self, key: String) {
        let request = v1::DeleteRequest { changelog_id: key.clone(), ..Default::default() };
        let (mut client, call) = (self.client.clone(), self.recorder.now());
        let answer = answered(WRITE, client.delete(limited(request, WRITE))).await;
        self.wrote("delete", key, None, call, answer.map(|a| a.position));
    }

    /// Writes a few keys at a time in one stream, each key once. A write ends with its verdict. A write without a
    /// verdict may have happened.
    async fn write_stream(&mut self) {
        let (mut mutations, mut open) = (Vec::new(), BTreeMap::new());
        for id in 0..self.random.below(6) + 2 {
            let workspace = workspace(self.random.below(WORKSPACES as u64) as usize);
            let key = format!("{workspace}/t/{}", self.random.below(KEYS as u64));
            if open.values().any(|(other, _)| *other == key) {
                continue;
            }
            self.written += 1;
            let value = (self.random.below(4) > 0).then(|| format!("\"{}-{}\"", self.number, self.written));
            let change = match &value {
                Some(value) => mutation::Change::Raw(Bytes::copy_from_slice(value.as_bytes())),
                None => mutation::Change::Deletion(v1::Deletion {}),
            };
            mutations.push(v1::Mutation { id, changelog_id: key.clone(), change: Some(change), ..Default::default() });
            open.insert(id, (key, value));
        }
        let messages: Vec<_> = mutations.chunks(3).map(|m| v1::WriteRequest { mutations: m.to_vec() }).collect();
        let (mut client, call) = (self.client.clone(), self.recorder.now());
        let writing = async {
            let mut answers = client.write(limited(tokio_stream::iter(messages), WRITE)).await?.into_inner();
            while let Some(answer) = answers.message().await? {
                for verdict in answer.verdicts {
                    let Some((key, value)) = open.remove(&verdict.id) else {
                        panic!("mutation {} was not sent, or has two verdicts", verdict.id);
                    };
                    self.wrote("write", key, value, call, outcome_of(verdict));
                }
            }
            Ok(())
        };
        let ended = timeout(Duration::from_secs(WRITE + 2), writing).await;
        let ended = ended.unwrap_or_else(|_| Err(Status::unknown("the client's library said nothing")));
        assert!(ended.is_err() || open.is_empty(), "a stream ended as OK without the verdicts of {open:?}");
        if let Err(status) = ended {
            self.recorder.refused("write stream", &status);
        }
        for (key, value) in open.into_values() {
            self.wrote("write without a verdict", key, value, call, Err(Status::unknown("no verdict")));
        }
    }

    fn wrote(
        &self,
        what: &str,
        key: String,
        value: Option<String>,
        call: u64,
        answer: Result<Option<v1::Position>, Status>,
    ) {
        let end = self.recorder.now();
        let outcome = match answer {
            Ok(Some(position)) => Outcome::Acked(position.offset),
            Ok(None) => panic!("{what} of {key} was acknowledged as durable without a position"),
            Err(status) => {
                self.recorder.refused(what, &status);
                if nothing_was_written(&status) { Outcome::Nothing } else { Outcome::Unknown }
            }
        };
        self.recorder.write(Write { client: self.number, key, value, call, end, outcome });
    }

    async fn get(&mut self, key: String) {
        let request = v1::GetRequest { changelog_id: key.clone(), ..Default::default() };
        let (mut client, call) = (self.client.clone(), self.recorder.now());
        let entry = match answered(READ, client.get(limited(request, READ))).await {
            Ok(answer) => answer.entry.map(|entry| (text(&entry), entry.offset)),
            Err(status) if reason(&status).as_deref() == Some("KEY_NOT_FOUND") => None,
            Err(status) => return self.recorder.refused("get", &status),
        };
        let state = entry.map(|entry| (key.clone(), entry)).into_iter().collect();
        self.loaded("get", std::iter::once(key), &state, call, None);
    }

    pub async fn load(&mut self, workspace: &str) -> Result<(), Status> {
        let request = v1::LoadWorkspaceRequest { workspace_id: workspace.to_owned(), ..Default::default() };
        let call = self.recorder.now();
        let answer = answered(READ, load(&mut self.client.clone(), request, READ)).await;
        let (state, whole) = answer.inspect_err(|status| self.recorder.refused("load", status))?;
        let not_whole = (!whole).then(|| "it ended as OK without its snapshot".to_owned());
        self.loaded("load", keys_of(workspace), &state, call, not_whole);
        Ok(())
    }

    /// A stream of everything.
    pub async fn stream(&mut self, how: &'static str, content: v1::Content, resumed: bool) -> Result<Load, Status> {
        let (token, state) = self.resume.clone().filter(|_| resumed).unwrap_or_default();
        let request = v1::StreamAllRequest { content: content.into(), resume_token: token, ..Default::default() };
        let call = self.recorder.now();
        let answer = answered(READ, stream(&mut self.client.clone(), request, state, READ)).await;
        let (state, snapshots, token) = answer.inspect_err(|status| {
            self.recorder.refused(how, status);
            // A refused token cannot be used again.
            if resumed && matches!(status.code(), Code::OutOfRange | Code::InvalidArgument) {
                self.resume = None;
            }
        })?;
        let not_whole =
            (snapshots != self.partitions).then(|| format!("{snapshots} snapshots of {} partitions", self.partitions));
        if resumed || self.resume.is_none() && content == v1::Content::Records {
            self.resume = Some((token, state.clone()));
        }
        Ok(self.loaded(how, all_keys(), &state, call, not_whole))
    }

    fn loaded(
        &self,
        how: &'static str,
        keys: impl Iterator<Item = String>,
        state: &State,
        call: u64,
        not_whole: Option<String>,
    ) -> Load {
        let keys = keys.map(|key| (key.clone(), state.get(&key).cloned())).collect();
        let load = Load { client: self.number, how, call, end: self.recorder.now(), keys, not_whole };
        self.recorder.load(load.clone());
        load
    }
}

/// A second limit above the call's own, in case the client's library does not notice the first.
async fn answered<T>(
    seconds: u64,
    call: impl Future<Output = Result<impl Into<Answer<T>>, Status>>,
) -> Result<T, Status> {
    match timeout(Duration::from_secs(seconds + 2), call).await {
        Ok(answer) => answer.map(|answer| answer.into().0),
        Err(_) => Err(Status::unknown("the client's library said nothing")),
    }
}

/// The answer, without its envelope.
struct Answer<T>(T);

impl<T> From<tonic::Response<T>> for Answer<T> {
    fn from(response: tonic::Response<T>) -> Self {
        Self(response.into_inner())
    }
}

impl<A, B> From<(A, B)> for Answer<(A, B)> {
    fn from(answer: (A, B)) -> Self {
        Self(answer)
    }
}

impl<A, B, C> From<(A, B, C)> for Answer<(A, B, C)> {
    fn from(answer: (A, B, C)) -> Self {
        Self(answer)
    }
}

fn outcome_of(verdict: v1::Verdict) -> Result<Option<v1::Position>, Status> {
    match verdict.outcome {
        Some(verdict::Outcome::Written(written)) => Ok(written.position),
        Some(verdict::Outcome::Error(error)) => Err(error.into()),
        None => Err(Status::unknown("a verdict without an outcome")),
    }
}

/// The promise of the table of statuses.
pub fn nothing_was_written(status: &Status) -> bool {
    let codes = [Code::Unavailable, Code::ResourceExhausted, Code::FailedPrecondition, Code::InvalidArgument];
    codes.contains(&status.code()) && reason(status).is_some()
}

/// A workspace's state, and whether its snapshot came last and once.
pub async fn load(
    client: &mut Client,
    request: v1::LoadWorkspaceRequest,
    seconds: u64,
) -> Result<(State, bool), Status> {
    use v1::load_workspace_response::Event;
    let mut events = client.load_workspace(limited(request, seconds)).await?.into_inner();
    let (mut state, mut snapshots, mut last) = (State::new(), 0, false);
    while let Some(message) = events.message().await? {
        last = false;
        match message.event {
            Some(Event::Batch(batch)) => apply(&mut state, batch.entries),
            Some(Event::Snapshot(_)) => (snapshots, last) = (snapshots + 1, true),
            None => {}
        }
    }
    Ok((state, snapshots == 1 && last))
}

/// The state after a stream that began at `state`, how many snapshots came, and the newest token.
pub async fn stream(
    client: &mut Client,
    request: v1::StreamAllRequest,
    mut state: State,
    seconds: u64,
) -> Result<(State, usize, Bytes), Status> {
    use v1::stream_all_response::Event;
    let mut events = client.stream_all(limited(request, seconds)).await?.into_inner();
    let (mut snapshots, mut token) = (0, Bytes::new());
    while let Some(message) = events.message().await? {
        match message.event {
            Some(Event::Batch(batch)) => apply(&mut state, batch.entries),
            Some(Event::Snapshot(snapshot)) => (snapshots, token) = (snapshots + 1, snapshot.resume_token),
            Some(Event::Bookmark(bookmark)) => token = bookmark.resume_token,
            None => {}
        }
    }
    Ok((state, snapshots, token))
}

fn apply(state: &mut State, entries: Vec<v1::Entry>) {
    for entry in entries {
        if entry.is_tombstone {
            state.remove(&entry.key);
        } else {
            let seen = (text(&entry), entry.offset);
            state.insert(entry.key, seen);
        }
    }
}

pub fn text(entry: &v1::Entry) -> String {
    match &entry.value {
        Some(v1::entry::Value::Raw(raw)) => String::from_utf8_lossy(raw).into_owned(),
        other => format!("{other:?}"),
    }
}
