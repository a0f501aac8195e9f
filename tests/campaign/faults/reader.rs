//! F8, F9, F11 and F12: what can go wrong for a reader of the log. An open transaction, an end without a record,
//! tombstones and records that are removed during the read.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use changelogd::proto::v1;
use changelogd_testkit::{OracleError, shared_oracle, unique_topic};
use tonic::{Code, Status};

use super::{
    calls::Tally,
    own::{Clients, Content, SlowReader, fill, is, partition_of, workspace as own_workspace},
    tombstones::{CLEANER, gone, shorten, token, wrong},
};
use crate::{
    clients::{READ, WORKSPACES, load, workspace},
    fault::{Fault, PARTITIONS, Stage},
    sidecar::{Client, limited, raw, reason, said},
};

pub fn all() -> Vec<Box<dyn Fault>> {
    vec![Box::new(OpenTransaction), Box::new(Tails), Box::new(Tombstones), Box::new(Deleted)]
}

const PATIENCE: Duration = Duration::from_secs(30);
/// The sidecar's wait for an open transaction is five seconds.
const TRANSACTION_WAIT: Duration = Duration::from_secs(5);

fn request(workspace: &str) -> v1::LoadWorkspaceRequest {
    v1::LoadWorkspaceRequest { workspace_id: workspace.to_owned(), ..Default::default() }
}

async fn set(client: &mut Client, key: &str, value: &str) -> Result<i64, String> {
    let set = v1::SetRequest { changelog_id: key.to_owned(), value: raw(value), ..Default::default() };
    let answer = client.set(limited(set, 10)).await.map_err(|s| format!("set: {}: {}", said(&s), s.message()))?;
    Ok(answer.into_inner().position.ok_or("no position")?.offset)
}

/// Covers R4, F8.
struct OpenTransaction;

impl OpenTransaction {
    /// Loads, until the end of the window, the partition with the open transaction and another one.
    async fn held(stage: &Stage<'_>, pinned: &str, other: &str, stable: i64, least: i64) -> Result<String, String> {
        let (mut told, mut quick) = (Tally::default(), 0);
        let mut i = 0;
        while i < stage.sidecars.len() || Instant::now() < stage.until() {
            let mut client = stage.sidecars[i % stage.sidecars.len()].client();
            let asked = Instant::now();
            let answer = load(&mut client, request(pinned), READ).await;
            let (Err(status), took) = (answer, asked.elapsed()) else {
                return Err(format!("a load of {pinned} was answered OK behind an open transaction"));
            };
            let (message, high) = (status.message().to_owned(), high(status.message()));
            let names = message.contains(&format!("last stable offset {stable} ")) && high >= Some(least);
            if status.code() != Code::Unavailable || reason(&status).as_deref() != Some("OPEN_TRANSACTION") || !names {
                return Err(format!(
                    "a load behind a transaction that is open from {stable} on was answered {}: {message}",
                    said(&status)
                ));
            }
            if !(TRANSACTION_WAIT / 2..TRANSACTION_WAIT * 2).contains(&took) {
                return Err(format!("OPEN_TRANSACTION was said after {took:?}"));
            }
            told.add(&format!("{} after {:.0} s", said(&status), took.as_secs_f64()));
            let asked = Instant::now();
            let (_, whole) =
                load(&mut client, request(other), READ).await.map_err(|s| format!("another partition: {s:?}"))?;
            if !whole || asked.elapsed() > Duration::from_secs(2) {
                return Err(format!("another partition's load: whole: {whole}, after {:?}", asked.elapsed()));
            }
            quick += 1;
            i += 1;
        }
        Ok(format!("{told}, naming both offsets; {quick} loads of another partition whole meanwhile"))
    }
}

/// The high watermark that a message names.
fn high(message: &str) -> Option<i64> {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    digits(message.split("high watermark ").nth(1)?).parse().ok()
}

#[async_trait]
impl Fault for OpenTransaction {
    fn id(&self) -> &'static str {
        "F8"
    }

    fn title(&self) -> &'static str {
        "a transaction of another client stays open on a partition"
    }

    fn expected(&self) -> &'static str {
        "its loads wait 5 s, then UNAVAILABLE OPEN_TRANSACTION naming the last stable offset and the high watermark; \
         other partitions are loaded; after its commit or abort this one is, too"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let pinned = workspace(0);
        let partition = partition_of(&pinned, PARTITIONS);
        let other = (1..WORKSPACES).map(workspace).find(|w| partition_of(w, PARTITIONS) != partition);
        let other = other.ok_or("all workspaces are in one partition")?;
        let (direct, topic) = (stage.cluster.direct(), stage.topic.to_owned());
        let commit = stage.random.below(2) == 0;
        let id = unique_topic("transaction");
        let hidden = format!("{pinned}/foreign/{id}");
        let sent = stage.blocking(|_| {
            shared_oracle().txn_begin(&direct, &id)?;
            shared_oracle().txn_send(&id, &topic, partition.number(), Some(hidden.as_bytes()), Some(b"1"))
        });
        let stable = sent.map_err(|error| wrong(&error))?.offset;
        let above = format!("{pinned}/foreign/above-{id}");
        let seen = match set(&mut stage.sidecars[0].client(), &above, "2").await {
            Ok(offset) => Self::held(stage, &pinned, &other, stable, offset + 1).await,
            Err(error) => Err(error),
        };
        let ended =
            stage.blocking(|_| if commit { shared_oracle().txn_commit(&id) } else { shared_oracle().txn_abort(&id) });
        ended.map_err(|error| wrong(&error))?;
        let seen = seen?;
        for sidecar in &*stage.sidecars {
            let (state, whole) = load(&mut sidecar.client(), request(&pinned), READ)
                .await
                .map_err(|s| format!("after its end: {s:?}"))?;
            if !whole || state.contains_key(&hidden) != commit || !state.contains_key(&above) {
                return Err(format!(
                    "after its {}, a load has {:?}",
                    if commit { "commit" } else { "abort" },
                    state.keys()
                ));
            }
        }
        Ok(format!("{seen}; whole after its {}", if commit { "commit" } else { "abort" }))
    }
}

/// A partition whose end has no record that a reader gets.
#[derive(Clone, Copy)]
enum Tail {
    CommitMarker,
    AbortMarker,
    AbortedBatchOnly,
}

impl Tail {
    fn write(self, bootstrap: &str, topic: &str, partition: i32, key: &str) -> Result<(), OracleError> {
        let (oracle, id) = (shared_oracle(), unique_topic("transaction"));
        oracle.txn_begin(bootstrap, &id)?;
        for n in 0..if matches!(self, Self::AbortedBatchOnly) { 5 } else { 1 } {
            let value = format!("\"{n}\"");
            oracle.txn_send(&id, topic, partition, Some(key.as_bytes()), Some(value.as_bytes()))?;
        }
        if matches!(self, Self::CommitMarker) { oracle.txn_commit(&id) } else { oracle.txn_abort(&id) }
    }
}

/// Covers R2, R3, F9.
struct Tails;

/// A workspace in a partition that no transaction touches.
const ORDINARY: &str = "ordinary";

#[async_trait]
impl Fault for Tails {
    fn id(&self) -> &'static str {
        "F9"
    }

    fn title(&self) -> &'static str {
        "partitions end in commit markers, abort markers, aborted batches"
    }

    fn expected(&self) -> &'static str {
        "loads are whole, and take no longer than others"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let tails = [Tail::CommitMarker, Tail::AbortMarker, Tail::AbortedBatchOnly];
        let own = stage.own_topic(PARTITIONS, &[])?;
        let sidecar = stage.own_sidecar(&own, PARTITIONS, &[]).await?;
        let (direct, topic) = (stage.cluster.direct(), stage.topic.to_owned());
        let (mut took, mut ordinary) = (Vec::new(), Vec::new());
        set(&mut sidecar.client(), &format!("{ORDINARY}/t/1"), "1").await?;
        let apart = |name: &String| partition_of(name, PARTITIONS) != partition_of(ORDINARY, PARTITIONS);
        let names: Vec<_> = (0..20).map(own_workspace).filter(apart).collect();
        let mut i = 0;
        while i < 3 * tails.len() || Instant::now() < stage.until() {
            let (tail, name) = (tails[i % tails.len()], &names[i % names.len()]);
            let key = format!("{name}/t/{}", i % 2);
            // On the history's topic, where more writes follow, and on a topic of its own, where none follow.
            let written = stage.blocking(|_| {
                let theirs = workspace(i % WORKSPACES);
                let foreign = format!("{theirs}/foreign/1");
                tail.write(&direct, &topic, partition_of(&theirs, PARTITIONS).number(), &foreign)?;
                tail.write(&direct, &own, partition_of(name, PARTITIONS).number(), &key)
            });
            written.map_err(|error| wrong(&error))?;
            let asked = Instant::now();
            let answer = load(&mut sidecar.client(), request(name), READ).await;
            let (state, whole) =
                answer.map_err(|s| format!("a load of such a partition: {}: {}", said(&s), s.message()))?;
            took.push(asked.elapsed());
            let there = state.contains_key(&key);
            if !whole || matches!(tail, Tail::CommitMarker) && !there {
                return Err(format!("a load of such a partition: whole: {whole}, {key} is there: {there}"));
            }
            // The time of a load that ends at a record, on this machine and now.
            let asked = Instant::now();
            load(&mut sidecar.client(), request(ORDINARY), READ)
                .await
                .map_err(|s| format!("an ordinary load: {s:?}"))?;
            ordinary.push(asked.elapsed());
            i += 1;
        }
        took.sort();
        ordinary.sort();
        let (median, slowest, usual) = (took[took.len() / 2], took[took.len() - 1], ordinary[ordinary.len() / 2]);
        if median > 2 * usual + Duration::from_millis(100) || slowest > Duration::from_secs(1).max(5 * usual) {
            return Err(format!("loads took {median:?}, the slowest {slowest:?}, ordinary ones {usual:?}"));
        }
        let _ = stage.blocking(|_| shared_oracle().delete(&direct, &own));
        Ok(format!(
            "{} loads whole; the median took {} ms, the slowest {} ms; of ordinary ones the median took {} ms",
            took.len(),
            median.as_millis(),
            slowest.as_millis(),
            usual.as_millis()
        ))
    }
}

/// The size of the topics that a slow reader reads: more than all buffers between the log and the reader.
const BIG: usize = 900_000;

fn big_keys(stage: &Stage<'_>) -> usize {
    if stage.short { 60 } else { 100 }
}

/// Covers C49, R9, F11.
struct Tombstones;

#[async_trait]
impl Fault for Tombstones {
    fn id(&self) -> &'static str {
        "F11"
    }

    fn title(&self) -> &'static str {
        "readers slower than delete.retention.ms (1 s), while keys are deleted and the cleaner takes their tombstones"
    }

    fn expected(&self) -> &'static str {
        "ABORTED LOG_MOVED, or whole without a deleted key; an old resume token: OUT_OF_RANGE RESYNC_REQUIRED"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let topic = stage.own_topic(1, &CLEANER)?;
        let sidecar = stage.own_sidecar(&topic, 1, &[]).await?;
        let mut client = sidecar.client();
        let doomed: Vec<_> = (0..20).map(|n| format!("doomed/t/{n}")).collect();
        for key in &doomed {
            set(&mut client, key, "1").await?;
        }
        let (_, _, token) = token(&mut client).await?; // now, while a stream can be quick enough
        fill(&mut client, "filling", big_keys(stage), BIG).await?;
        let reader = SlowReader::start(&mut client, bytes::Bytes::new()).await.map_err(|s| format!("{s:?}"))?;
        shorten(stage, &topic)?;
        for key in &doomed {
            let delete = v1::DeleteRequest { changelog_id: key.clone(), ..Default::default() };
            client.delete(limited(delete, 10)).await.map_err(|s| format!("delete: {}", said(&s)))?;
        }
        // Ordinary loads and writes, so that the cleaner has work.
        let clients = Clients::start(&sidecar.api, 2, &Content::new(), true);
        let cleaned = gone(stage, &topic, &doomed).await?;
        stage.hold().await;

        let mut told = Vec::new();
        match reader.drain().await {
            Ok((snapshots, content)) => {
                let kept = doomed.iter().filter(|key| content.contains_key(*key)).count();
                if snapshots != 1 || kept > 0 {
                    return Err(format!(
                        "a slow reader was answered OK with {snapshots} snapshots, and keeps {kept} deleted keys"
                    ));
                }
                told.push("the slow reader: whole, no deleted key".to_owned());
            }
            Err(status) => told.push(aborted(&status, &["LOG_MOVED"]).map(|said| format!("the slow reader: {said}"))?),
        }
        match SlowReader::start(&mut client, token).await {
            Err(status)
                if status.code() == Code::OutOfRange && reason(&status).as_deref() == Some("RESYNC_REQUIRED") =>
            {
                told.push(format!("an old token: {}", said(&status)));
            }
            Err(status) => return Err(format!("an old token was answered {}: {}", said(&status), status.message())),
            Ok(_) => return Err("a token older than delete.retention.ms was resumed from".to_owned()),
        }
        let refused: Vec<_> = clients.refusals_since(stage.begun).into_iter().filter(|r| r.what == "load").collect();
        if let Some(other) = refused.iter().find(|r| aborted(&r.status, &["LOG_MOVED"]).is_err()) {
            return Err(format!("an own load was answered {}: {}", said(&other.status), other.status.message()));
        }
        let own = clients.end().await?;
        let direct = stage.cluster.direct();
        let _ = stage.blocking(|_| shared_oracle().delete(&direct, &topic));
        Ok(format!(
            "tombstones gone after {:.1} s; {}; {own}, {} LOG_MOVED",
            cleaned.as_secs_f64(),
            told.join("; "),
            refused.len()
        ))
    }
}

/// ABORTED for one of these reasons.
fn aborted(status: &Status, reasons: &[&str]) -> Result<String, String> {
    let why = reason(status).unwrap_or_default();
    if status.code() == Code::Aborted && reasons.contains(&&*why) {
        return Ok(said(status));
    }
    Err(format!("a reader was answered {}: {}", said(status), status.message()))
}

/// Covers R14, F12.
struct Deleted;

#[async_trait]
impl Fault for Deleted {
    fn id(&self) -> &'static str {
        "F12"
    }

    fn title(&self) -> &'static str {
        "DeleteRecords passes readers in the middle of their loads"
    }

    fn expected(&self) -> &'static str {
        "ABORTED LOG_TRUNCATED, or FAILED_PRECONDITION while the policy lets records be deleted; never whole; later \
         loads exact"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let topic = stage.own_topic(1, &[])?;
        let sidecar = stage.own_sidecar(&topic, 1, &[]).await?;
        let mut client = sidecar.client();
        let filled = fill(&mut client, &own_workspace(0), big_keys(stage), BIG).await?;
        let content: Content = filled.iter().map(|(key, (value, _))| (key.clone(), value.clone())).collect();
        let reader = SlowReader::start(&mut client, bytes::Bytes::new()).await.map_err(|s| format!("{s:?}"))?;
        let clients = Clients::start(&sidecar.api, 1, &content, false);
        clients.served(2, PATIENCE).await?;

        // Kafka refuses DeleteRecords for a topic that is compacted only.
        let (direct, keep) = (stage.cluster.direct(), 5);
        let low = filled.values().map(|(_, offset)| *offset).max().unwrap_or(0) - keep + 1;
        let left: Content = filled.into_iter().filter(|(_, (_, at))| *at >= low).map(|(k, (v, _))| (k, v)).collect();
        let deletion = Instant::now();
        clients.or_this(left.clone());
        let deleted = stage.blocking(|_| {
            let oracle = shared_oracle();
            oracle.config(&direct, &topic, &[("cleanup.policy", "compact,delete")])?;
            oracle.delete_records(&direct, &topic, 0, low)?;
            oracle.config(&direct, &topic, &[("cleanup.policy", "compact")])
        });
        deleted.map_err(|error| wrong(&error))?;
        let slow = match reader.drain().await {
            Ok((snapshots, content)) => {
                return Err(format!(
                    "a reader that was passed was answered OK: {snapshots} snapshots, {} keys",
                    content.len()
                ));
            }
            Err(status) if is(&status, "TOPIC_NOT_COMPACTED") => said(&status),
            Err(status) => aborted(&status, &["LOG_TRUNCATED", "LOG_MOVED"])?,
        };
        sidecar.answers(PATIENCE).await?;
        let during = clients.told_since(deletion);
        let own = clients.end().await?;
        let again = Clients::start(&sidecar.api, 1, &left, false);
        again.served(3, PATIENCE).await?;
        stage.hold().await;
        let again = again.end().await?;
        let _ = stage.blocking(|_| shared_oracle().delete(&direct, &topic));
        Ok(format!("the passed reader: {slow}; loads meanwhile: {during}; {own}; afterwards {again}"))
    }
}
