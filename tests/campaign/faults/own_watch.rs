//! A watch of a workspace of a fault's own topic. It resumes as a client should, until the server says something else.

use std::time::{Duration, Instant};

use changelogd::proto::v1::{self, watch_response::Event};
use changelogd_testkit::Watched;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};
use tonic::{Code, Status};

use crate::{
    clients::{State, text},
    sidecar::{Client, client, limited, reason, said},
    watchers::facts,
};

/// Longer than any of these watches lasts, in seconds.
const WATCH: u64 = 180;

/// A running watch.
pub struct OwnWatch {
    workspace: String,
    running: JoinHandle<Result<(Status, Option<Instant>), String>>,
    watcher: tokio::sync::watch::Receiver<Watched>,
}

/// A watch that the server has ended.
pub struct EndedWatch {
    pub seen: Watched,
    pub status: Status,
    /// When the last change came, if there was one.
    pub last_change_at: Option<Instant>,
}

impl OwnWatch {
    /// Starts it, and waits until the state has come.
    pub async fn start(api: &str, workspace: &str, seen: Watched) -> Result<Self, String> {
        let (sender, mut watcher) = tokio::sync::watch::channel(seen);
        let running = tokio::spawn(follow(client(api), workspace.to_owned(), sender));
        let synced = timeout(Duration::from_secs(30), watcher.wait_for(Watched::is_synced)).await;
        let synced = synced.is_ok_and(|seen| seen.is_ok());
        let watch = Self { workspace: workspace.to_owned(), running, watcher };
        if synced {
            return Ok(watch);
        }
        let workspace = &watch.workspace;
        let error = format!("a watch of {workspace} has not delivered its state");
        if !watch.running.is_finished() {
            watch.running.abort();
            return Err(error);
        }
        let ended = watch.ended(&[], Duration::from_secs(1)).await;
        Err(ended.map_or_else(|why| why, |_| error))
    }

    /// Waits until it has delivered a change.
    pub async fn has_changes(&mut self, within: Duration) -> Result<(), String> {
        match timeout(within, self.watcher.wait_for(|seen| seen.changes() > 0)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(format!("a watch of {} saw no change, and it is written", self.workspace)),
        }
    }

    /// Waits until it has delivered this state.
    pub async fn has(&mut self, state: &State, within: Duration) -> Result<(), String> {
        let expected: Vec<_> = state.iter().map(|(key, (value, offset))| (&**key, (*offset, Some(&**value)))).collect();
        let is_there = |seen: &Watched| {
            let mut live: Vec<_> = seen.state().into_iter().filter(|(_, (_, value))| value.is_some()).collect();
            live.sort_unstable();
            live == expected
        };
        match timeout(within, self.watcher.wait_for(is_there)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(format!("a watch of {} has not delivered what Java reads", self.workspace)),
        }
    }

    /// Waits until the server has ended it. The reason must be one of these.
    pub async fn ended(self, reasons: &[&str], within: Duration) -> Result<EndedWatch, String> {
        let Self { workspace, running, watcher } = self;
        let ended = timeout(within, running).await.map_err(|_| format!("a watch of {workspace} goes on"))?;
        let (status, last_change_at) = ended.map_err(|error| format!("a watch of {workspace} panicked: {error}"))??;
        if !reason(&status).is_some_and(|why| reasons.contains(&&*why)) {
            return Err(format!("a watch of {workspace} was answered {}: {}", said(&status), status.message()));
        }
        let seen = watcher.borrow().clone();
        Ok(EndedWatch { seen, status, last_change_at })
    }
}

impl EndedWatch {
    /// Tries to resume it with its newest token, which must be refused for this reason.
    pub async fn is_refused(&self, api: &str, workspace: &str, why: &str) -> Result<(), String> {
        let (seen, begun) = (self.seen.clone(), Instant::now());
        loop {
            // Its own copy, because nothing of an earlier attempt counts.
            let mut attempt = seen.clone();
            let status = attempt_watch(&mut client(api), workspace, &mut attempt, |_| {}).await?;
            if reason(&status).as_deref() == Some(why) {
                return Ok(());
            }
            if status.code() != Code::Unavailable || begun.elapsed() > Duration::from_secs(30) {
                return Err(format!("the token of a watch of {workspace} was answered {}", said(&status)));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn follow(
    mut client: Client,
    workspace: String,
    sender: tokio::sync::watch::Sender<Watched>,
) -> Result<(Status, Option<Instant>), String> {
    let mut seen = sender.borrow().clone();
    let mut last_change_at = None;
    loop {
        let mut changes = seen.changes();
        let took = |seen: &Watched| {
            if seen.changes() > changes {
                (changes, last_change_at) = (seen.changes(), Some(Instant::now()));
            }
            drop(sender.send_replace(seen.clone()));
        };
        let status = attempt_watch(&mut client, &workspace, &mut seen, took).await;
        let status = status.map_err(|violation| format!("a watch of {workspace}: {violation}"))?;
        if sender.is_closed() {
            return Err(format!("a watch of {workspace} is of no use any more"));
        }
        // Without a reason the answer is not the server's.
        if status.code() != Code::Unavailable && reason(&status).is_some() {
            return Ok((status, last_change_at));
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// One call, until the server or the connection ends it. `seen` has what came; an error is a broken promise.
async fn attempt_watch(
    client: &mut Client,
    workspace: &str,
    seen: &mut Watched,
    mut took: impl FnMut(&Watched),
) -> Result<Status, String> {
    let resume_token = seen.resume().into();
    let request = v1::WatchRequest { workspace_id: workspace.to_owned(), resume_token, ..Default::default() };
    let mut events = match client.watch(limited(request, WATCH)).await {
        Ok(events) => events.into_inner(),
        Err(status) => return Ok(status),
    };
    loop {
        let event = match events.message().await {
            Ok(Some(message)) => message.event.unwrap_or(Event::Batch(v1::EntryBatch::default())),
            Ok(None) => return Err("it ended as OK".to_owned()),
            Err(status) => return Ok(status),
        };
        match event {
            Event::Batch(batch) => {
                for entry in &batch.entries {
                    let value = (!entry.is_tombstone).then(|| text(entry));
                    seen.entry(&entry.key, entry.offset, value.as_deref())?;
                }
            }
            Event::Synced(synced) => seen.synced(facts(&synced.snapshot.unwrap_or_default()))?,
            Event::Bookmark(bookmark) => seen.bookmark(&bookmark.resume_token)?,
        }
        took(seen);
    }
}
