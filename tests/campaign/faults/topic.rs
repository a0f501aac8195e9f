//! F14 to F16, and R12: the topic is deleted, created again, grows, or gets another cleanup policy. Meanwhile a
//! sidecar's own clients write to it and load it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use changelogd_testkit::{Isolation, Oracle, OracleError, Watched, oracle::Record, shared_oracle};

use super::{
    own::{Clients, Content, is, partition_of, workspace},
    own_watch::{EndedWatch, OwnWatch},
};
use crate::{
    clients::State,
    fault::{Fault, PARTITIONS, Stage},
    sidecar::{Sidecar, said},
};

pub fn all() -> Vec<Box<dyn Fault>> {
    vec![
        Box::new(Deleted),
        Box::new(Recreated { longer: false }),
        Box::new(Recreated { longer: true }),
        Box::new(Grown),
        Box::new(Policy),
    ]
}

const WORKSPACES: usize = 3;
/// The topic is described each second. A busy machine gets one more second.
const NOTICED: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(20);
/// A follower may wait this long for a leader that does not answer.
const WATCH_ENDS_WITHIN: Duration = Duration::from_secs(70);
const COMPACTED: [(&str, &str); 2] = [("cleanup.policy", "compact"), ("min.insync.replicas", "2")];

/// A topic, its sidecar, its clients and a watch of the first workspace.
struct Own {
    topic: String,
    direct: String,
    sidecar: Sidecar,
    clients: Clients,
    watch: Option<OwnWatch>,
}

impl Own {
    async fn start(stage: &mut Stage<'_>) -> Result<Self, String> {
        let topic = stage.own_topic(PARTITIONS, &[])?;
        let sidecar = stage.own_sidecar(&topic, PARTITIONS, &[]).await?;
        let clients = Clients::start(&sidecar.api, WORKSPACES, &Content::new(), true);
        clients.served(12, PATIENCE).await?;
        let mut watch = OwnWatch::start(&sidecar.api, &workspace(0), Watched::of_a_log_that_may_lose()).await?;
        watch.has_changes(PATIENCE).await?;
        Ok(Self { topic, direct: stage.cluster.direct(), sidecar, clients, watch: Some(watch) })
    }

    /// Waits until the watch was ended for one of these reasons.
    async fn watch_ended(&mut self, reasons: &[&str]) -> Result<EndedWatch, String> {
        let watch = self.watch.take().ok_or("there is no watch")?;
        watch.ended(reasons, WATCH_ENDS_WITHIN).await
    }

    /// Runs calls that block: those of the oracle.
    fn ask<T>(&self, what: impl FnOnce(&Oracle, &str, &str) -> Result<T, OracleError>) -> Result<T, String> {
        let asked = tokio::task::block_in_place(|| what(shared_oracle(), &self.direct, &self.topic));
        asked.map_err(|error| format!("the oracle: {error}"))
    }

    /// Waits until loads and writes are refused so, and stays there for a while. Checks the answers meanwhile, and
    /// readiness.
    async fn wrong(&self, stage: &Stage<'_>, since: Instant, why: &str, within: Duration) -> Result<String, String> {
        let noticed = self.clients.refused(since, why, within).await?;
        let told = Instant::now();
        stage.hold().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let calls = self.clients.only_refused(told, why)?;
        let (ready, live) = (self.sidecar.http("/readyz").await?, self.sidecar.http("/livez").await?);
        if ready.0 != 503 || live.0 != 200 {
            return Err(format!("/readyz is {}, /livez {}", ready.0, live.0));
        }
        Ok(format!("{why} after {:.1} s, to all of {calls} later calls; live, not ready", noticed.as_secs_f64()))
    }
}

/// Covers R33, F14.
struct Deleted;

#[async_trait]
impl Fault for Deleted {
    fn id(&self) -> &'static str {
        "F14"
    }

    fn title(&self) -> &'static str {
        "the topic is deleted in the middle of loads and writes"
    }

    fn expected(&self) -> &'static str {
        "FAILED_PRECONDITION TOPIC_NOT_FOUND within two seconds, then at once, also to a watch; it is not created by \
         anybody's asking"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let mut own = Own::start(stage).await?;
        own.ask(|oracle, direct, topic| oracle.delete(direct, topic))?;
        let gone = Instant::now();
        let seen = own.wrong(stage, gone, "TOPIC_NOT_FOUND", NOTICED).await?;
        let watched = own.watch_ended(&["TOPIC_NOT_FOUND"]).await?;
        let (acked, loads) = (own.clients.acked_since(gone).len(), own.clients.loads_since(gone));
        if acked + loads > 0 {
            return Err(format!("{acked} writes and {loads} loads of a topic that was gone were answered OK"));
        }
        if own.ask(|oracle, direct, _| oracle.topics(direct))?.contains(&own.topic) {
            return Err("the topic is there again, and no client created it explicitly".to_owned());
        }
        let watched = said(&watched.status);
        Ok(format!("{seen}; not created again; watch {watched}; {}", own.clients.end().await?))
    }
}

/// Covers C52, R15, F15.
struct Recreated {
    longer: bool,
}

impl Recreated {
    /// Writes the new topic with Java's client. Each workspace's partition becomes shorter, or longer, than it was.
    fn write(&self, own: &Own, before: &[i64]) -> Result<(), String> {
        for number in 0..WORKSPACES {
            let workspace = workspace(number);
            let partition = partition_of(&workspace, PARTITIONS).number();
            let was = before.get(partition as usize).copied().unwrap_or(0);
            for n in 0..if self.longer { was + 10 } else { 1 } {
                let (key, value) = (format!("{workspace}/t/new-{}", n % 3), format!("\"new-{n}\""));
                let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
                own.ask(|oracle, direct, topic| oracle.produce(direct, topic, Some(partition), key, value, &[]))?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Fault for Recreated {
    fn id(&self) -> &'static str {
        if self.longer { "F15-longer" } else { "F15-shorter" }
    }

    fn title(&self) -> &'static str {
        if self.longer {
            "the topic is deleted and created again, longer"
        } else {
            "the topic is deleted and created again, shorter"
        }
    }

    fn expected(&self) -> &'static str {
        "FAILED_PRECONDITION TOPIC_RECREATED until a restart; no load mixes old and new, and no watch for longer than \
         two seconds; after it the new one, whole"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let mut own = Own::start(stage).await?;
        let before = own.ask(|oracle, direct, topic| oracle.describe(direct, topic))?;
        let before: Vec<_> = before.partitions.iter().map(|p| p.high).collect();
        own.ask(|oracle, direct, topic| oracle.delete(direct, topic))?;
        let gone = Instant::now();
        own.ask(|oracle, direct, topic| oracle.create(direct, topic, PARTITIONS, 3, &COMPACTED))?;
        let created = Instant::now();
        self.write(&own, &before)?;
        let since = Instant::now() - created;
        // The time counts from the creation, and writing the content takes a while.
        let seen = own.wrong(stage, created, "TOPIC_RECREATED", NOTICED + since).await?;
        let watched = own.watch_ended(&["TOPIC_RECREATED", "TOPIC_NOT_FOUND", "LOG_TRUNCATED"]).await?;
        if let Some((key, value)) = watched.seen.values().into_iter().find(|(key, _)| key.contains("/new-")) {
            return Err(format!("a watch of the old topic delivered {key} = {value} of the new one"));
        }
        // The clients still write to the new topic, so their records show how long a watch delivers its changes.
        let last = watched.last_change_at.map(|at| at.saturating_duration_since(created));
        if let Some(last) = last.filter(|last| *last > NOTICED + since) {
            return Err(format!("a watch of the old topic delivered a change {last:?} after the new one was created"));
        }
        let loads = own.clients.loads_since(gone);
        if loads > 0 {
            return Err(format!("{loads} loads that were asked for when the old topic was gone were answered OK"));
        }

        // Until the change is noticed, writes go to the existing topic. An acknowledged write must be in it.
        let acked = own.clients.acked_since(gone);
        let dump = own.ask(|oracle, direct, topic| oracle.dump(direct, topic, Isolation::ReadCommitted))?;
        let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|b| String::from_utf8_lossy(b).into_owned());
        let records: Vec<_> = dump.records.iter().map(|r| (text(&r.key).unwrap_or_default(), text(&r.value))).collect();
        let there: BTreeSet<_> = records.iter().cloned().collect();
        if let Some(lost) = acked.iter().find(|write| !there.contains(*write)) {
            return Err(format!("{lost:?} was acknowledged after the deletion, and is not in the new topic"));
        }
        let mixed = records.iter().filter(|(key, _)| !key.contains("/new-")).count();
        let told = own.clients.end().await?;

        let mut content = Content::new();
        for (key, value) in records {
            match value {
                Some(value) => drop(content.insert(key, value)),
                None => drop(content.remove(&key)),
            }
        }
        own.sidecar.restart().await?;
        own.sidecar.answers(PATIENCE).await?;
        let again = Clients::start(&own.sidecar.api, WORKSPACES, &content, false);
        again.served(2 * WORKSPACES, PATIENCE).await?;
        let again = again.end().await?;
        let watched_workspace = workspace(0);
        watched.is_refused(&own.sidecar.api, &watched_workspace, "RESYNC_REQUIRED").await?;
        let state: State = latest(&dump.records, &format!("{watched_workspace}/"));
        let mut started_again = OwnWatch::start(&own.sidecar.api, &watched_workspace, Watched::new()).await?;
        started_again.has(&state, PATIENCE).await?;
        drop(started_again);
        let _ = stage.blocking(|_| shared_oracle().delete(&own.direct, &own.topic));
        Ok(format!(
            "{seen}; {} writes acknowledged and {mixed} in all to the new topic before that was noticed; {told}; watch \
             {}; after the restart: {again}, the watch's token RESYNC_REQUIRED, and its state that of the new topic",
            acked.len(),
            said(&watched.status)
        ))
    }
}

/// The latest values of the keys with this prefix, with their offsets.
fn latest(records: &[Record], prefix: &str) -> State {
    let mut state = State::new();
    for record in records {
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
        match &record.value {
            _ if !key.starts_with(prefix) => {}
            Some(value) => drop(state.insert(key, (String::from_utf8_lossy(value).into_owned(), record.offset))),
            None => drop(state.remove(&key)),
        }
    }
    state
}

/// Covers C52, R16, F16.
struct Grown;

#[async_trait]
impl Fault for Grown {
    fn id(&self) -> &'static str {
        "F16"
    }

    fn title(&self) -> &'static str {
        "the topic gets one partition more"
    }

    fn expected(&self) -> &'static str {
        "FAILED_PRECONDITION PARTITION_COUNT_CHANGED naming both counts, until a restart with the new one"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        const WHY: &str = "PARTITION_COUNT_CHANGED";
        let mut own = Own::start(stage).await?;
        own.ask(|oracle, direct, topic| oracle.add_partitions(direct, topic, PARTITIONS + 1))?;
        let grown = Instant::now();
        let seen = own.wrong(stage, grown, WHY, NOTICED).await?;
        let watched = own.watch_ended(&[WHY]).await?;
        let (was, now) = (format!("{PARTITIONS} are expected"), format!("has {} partitions", PARTITIONS + 1));
        let refusals = own.clients.refusals_since(grown);
        let named = |r: &&super::own::Refusal| {
            is(&r.status, WHY) && r.status.message().contains(&was) && r.status.message().contains(&now)
        };
        let other = refusals.iter().find(|r| is(&r.status, WHY) && !named(r));
        if let Some(other) = other {
            return Err(format!("both counts are not named: {}", other.status.message()));
        }
        let (topic, told) = (own.topic.clone(), own.clients.end().await?);
        drop(own.sidecar);
        let adopting = stage.own_sidecar(&topic, PARTITIONS + 1, &[]).await?;
        watched.is_refused(&adopting.api, &workspace(0), "RESYNC_REQUIRED").await?;
        let direct = stage.cluster.direct();
        let _ = stage.blocking(|_| shared_oracle().delete(&direct, &topic));
        Ok(format!(
            "{seen}; both named; {told}; watch {}, and its token RESYNC_REQUIRED; served by a process that is started \
             with the new count",
            said(&watched.status)
        ))
    }
}

/// Covers C51, R12.
struct Policy;

#[async_trait]
impl Fault for Policy {
    fn id(&self) -> &'static str {
        "R12"
    }

    fn title(&self) -> &'static str {
        "cleanup.policy becomes compact,delete, and is fixed"
    }

    fn expected(&self) -> &'static str {
        "FAILED_PRECONDITION TOPIC_NOT_COMPACTED within a few seconds; served again when it is fixed, without a restart"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let own = Own::start(stage).await?;
        own.ask(|oracle, direct, topic| oracle.config(direct, topic, &[("cleanup.policy", "compact,delete")]))?;
        // The configuration is read after the topic, so the change shows with the second read.
        let seen = own.wrong(stage, Instant::now(), "TOPIC_NOT_COMPACTED", 2 * NOTICED).await?;
        own.ask(|oracle, direct, topic| oracle.config(direct, topic, &[("cleanup.policy", "compact")]))?;
        let fixed = Instant::now();
        own.clients.served(6, PATIENCE).await?;
        let took = fixed.elapsed();
        own.sidecar.answers(PATIENCE).await?;
        let told = own.clients.end().await?;
        let _ = stage.blocking(|_| shared_oracle().delete(&own.direct, &own.topic));
        Ok(format!("{seen}; served {:.1} s after it was fixed; {told}", took.as_secs_f64()))
    }
}
