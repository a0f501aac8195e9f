//! F3, F4 (R18) and F5: a partition's leader is killed during writes, killed during a load, or frozen.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use changelogd::proto::v1;
use changelogd_testkit::{Mode, Proxy};
use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::{
    clients::{self, State},
    fault::{Fault, PARTITIONS, Stage},
    sidecar::{Client, limited, raw, reason, said},
};

use super::calls::{Tally, a_workspace_in_each, fill, retried, timed_load};

/// Nothing is compacted, so that the log itself can be read afterwards.
const UNCOMPACTED: (&str, &str) = ("min.compaction.lag.ms", "86400000");

/// Covers C45, F3.
pub struct KilledUnderWrites;

const KEYS: usize = 100;

#[async_trait]
impl Fault for KilledUnderWrites {
    fn id(&self) -> &'static str {
        "F3"
    }

    fn title(&self) -> &'static str {
        "a leader is killed in the middle of 1,000,000 writes"
    }

    fn expected(&self) -> &'static str {
        "retried inside: every write acknowledged, once and in its key's order; the last one sent is the last"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let each: u64 = if stage.short { 200 } else { 10_000 };
        let all = each * KEYS as u64;
        let topic = stage.own_topic(PARTITIONS, &[UNCOMPACTED])?;
        let sidecar = stage.own_sidecar(&topic, PARTITIONS, &["--write-timeout=60s"]).await?;
        let (written, begun) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let connections: Vec<_> = (0..8).map(|_| sidecar.client()).collect();
        let writers: Vec<_> = (0..KEYS)
            .map(|k| tokio::spawn(writer(connections[k % connections.len()].clone(), k, each, written.clone())))
            .collect();
        while written.load(Ordering::Relaxed) < all / 2 && !writers.iter().all(tokio::task::JoinHandle::is_finished) {
            sleep(Duration::from_millis(5)).await;
        }
        let leader = stage.blocking(|cluster| {
            let leader = cluster.leader_of(&topic, 0);
            cluster.kill(leader);
            leader
        });
        let killed_at = written.load(Ordering::Relaxed);
        for writer in writers {
            let within = timeout(Duration::from_secs(600), writer).await.map_err(|_| "the writes did not end")?;
            within.map_err(|error| error.to_string())??;
        }
        let took = begun.elapsed();
        if killed_at == all {
            return Err("the writes had ended before the leader was killed".to_owned());
        }
        let flush = v1::FlushRequest { timeout_ms: 60_000, failures_after: 0 };
        let flushed =
            sidecar.client().flush(flush).await.map_err(|status| format!("flush: {}", said(&status)))?.into_inner();
        if flushed.remaining != 0 || !flushed.failures.is_empty() {
            return Err(format!("flush: {} remaining, {:?}", flushed.remaining, flushed.failures.first()));
        }
        retried("the stream of all writes", || in_order(sidecar.client(), each)).await??;
        Ok(format!(
            "broker {leader} killed after {killed_at} of {all} writes of {KEYS} keys; all written after {:.0} s, each \
             once and in order",
            took.as_secs_f64()
        ))
    }
}

/// Writes 1, 2, 3 … to one key, each after the answer to the one before: half of the keys durably, half buffered.
async fn writer(mut client: Client, k: usize, each: u64, written: Arc<AtomicU64>) -> Result<(), String> {
    let ack = if k.is_multiple_of(2) { v1::Ack::Durable } else { v1::Ack::Buffered };
    for n in 1..=each {
        loop {
            let request = v1::SetRequest {
                changelog_id: format!("bulk-{}/t/{k}", k % 20),
                value: raw(&n.to_string()),
                ack: ack.into(),
                ..Default::default()
            };
            match client.set(limited(request, 70)).await {
                Ok(_) => break,
                // The status says that nothing was written, and asks for a retry.
                Err(status) if reason(&status).as_deref() == Some("PRODUCER_QUEUE_FULL") => {
                    sleep(Duration::from_millis(50)).await;
                }
                Err(status) => {
                    return Err(format!("write {n} of key {k} was answered {}: {}", said(&status), status.message()));
                }
            }
        }
        written.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Checks the log: every write of every key is in it, once and in order.
async fn in_order(mut client: Client, each: u64) -> Result<Result<(), String>, Status> {
    use v1::stream_all_response::Event;
    let request = v1::StreamAllRequest { content: v1::Content::Records.into(), ..Default::default() };
    let mut events = client.stream_all(limited(request, 290)).await?.into_inner();
    let (mut last, mut wrong, mut snapshots) = (BTreeMap::<String, u64>::new(), None, 0);
    while let Some(message) = events.message().await? {
        match message.event {
            Some(Event::Batch(batch)) => {
                for entry in batch.entries.into_iter().filter(|entry| entry.key.starts_with("bulk-")) {
                    let number = match &entry.value {
                        Some(v1::entry::Value::Raw(value)) => {
                            std::str::from_utf8(value).ok().and_then(|v| v.parse().ok())
                        }
                        _ => None,
                    };
                    let before = last.insert(entry.key.clone(), number.unwrap_or(0)).unwrap_or(0);
                    if number != Some(before + 1) {
                        wrong = wrong
                            .or(Some(format!("{}: write {number:?} is in the log right after {before}", entry.key)));
                    }
                }
            }
            Some(Event::Snapshot(_)) => snapshots += 1,
            _ => {}
        }
    }
    if snapshots != PARTITIONS || last.len() != KEYS {
        wrong = wrong.or(Some(format!("{snapshots} snapshots, {} keys", last.len())));
    }
    if let Some((key, number)) = last.iter().find(|(_, number)| **number != each) {
        wrong = wrong.or(Some(format!("{key}: the last write in the log is {number}, and {each} was acknowledged")));
    }
    Ok(wrong.map_or(Ok(()), Err))
}

/// Covers R18, F4.
pub struct KilledUnderLoad;

#[async_trait]
impl Fault for KilledUnderLoad {
    fn id(&self) -> &'static str {
        "F4"
    }

    fn title(&self) -> &'static str {
        "a leader is killed in the middle of a load and of a stream"
    }

    fn expected(&self) -> &'static str {
        "a pause; then whole, and the same as undisturbed"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let keys = if stage.short { 3_000 } else { 20_000 };
        let topic = stage.own_topic(1, &[])?;
        let sidecar = stage.own_sidecar(&topic, 1, &[]).await?;
        let client = sidecar.client();
        fill(&client, "big", keys).await?;
        let (load, stream) = (all_of(client.clone()), stream_of(client.clone()));
        let undisturbed = (load.await?, stream.await?);
        let bytes = undisturbed.0.values().map(|(value, _)| value.len() as u64).sum::<u64>();

        let leader = stage.blocking(|cluster| cluster.leader_of(&topic, 0));
        let begun = Instant::now();
        // About 800 kB a second for each of the two readers, so that the fault comes in the middle of their reads.
        stage.cluster.proxies().for_each(|proxy| proxy.set(Mode::Drip(4_096, Duration::from_millis(5))));
        let before = stage.cluster.proxy(leader).passed();
        let (load, stream) = (tokio::spawn(all_of(client.clone())), tokio::spawn(stream_of(client.clone())));
        while stage.cluster.proxy(leader).passed() - before < bytes / 2 {
            if load.is_finished() || stream.is_finished() {
                return Err("a reader had ended before its leader was killed".to_owned());
            }
            sleep(Duration::from_millis(2)).await;
        }
        stage.blocking(|cluster| cluster.kill(leader));
        if load.is_finished() || stream.is_finished() {
            return Err("a reader had ended before its leader was killed".to_owned());
        }
        stage.cluster.proxies().for_each(Proxy::pass);
        let disturbed = (load.await.map_err(|e| e.to_string())??, stream.await.map_err(|e| e.to_string())??);
        if disturbed != undisturbed {
            return Err(format!(
                "not the same: {} and {} keys instead of {} and {}",
                disturbed.0.len(),
                disturbed.1.len(),
                undisturbed.0.len(),
                undisturbed.1.len()
            ));
        }
        Ok(format!(
            "{keys} keys, broker {leader} killed; load and stream the same, after {:.1} s",
            begun.elapsed().as_secs_f64()
        ))
    }
}

async fn all_of(client: Client) -> Result<State, String> {
    let (answer, _) = timed_load(client, "big".to_owned(), 120).await;
    answer.map_err(|status| format!("the load was answered {}: {}", said(&status), status.message()))
}

async fn stream_of(mut client: Client) -> Result<State, String> {
    let workspaces = vec!["big".to_owned()];
    let request =
        v1::StreamAllRequest { workspace_ids: workspaces, content: v1::Content::Records.into(), ..Default::default() };
    let answer = clients::stream(&mut client, request, State::new(), 120).await;
    let (state, snapshots, _) = answer.map_err(|s| format!("the stream was answered {}: {}", said(&s), s.message()))?;
    if snapshots == 1 { Ok(state) } else { Err(format!("the stream ended as OK with {snapshots} snapshots")) }
}

/// Covers R7, F5.
pub struct Paused;

/// The no-progress deadline has no flag: ten seconds, and the time to answer.
const NO_PROGRESS: Duration = Duration::from_secs(12);
const UNAFFECTED: Duration = Duration::from_secs(5);

#[async_trait]
impl Fault for Paused {
    fn id(&self) -> &'static str {
        "F5"
    }

    fn title(&self) -> &'static str {
        "a leader is frozen (SIGSTOP) for a minute"
    }

    fn expected(&self) -> &'static str {
        "its workspaces: whole, or UNAVAILABLE by the no-progress deadline; other workspaces unaffected"
    }

    async fn inject(&self, stage: &mut Stage<'_>) -> Result<String, String> {
        let client = stage.sidecars[0].client();
        let workspaces = a_workspace_in_each(&client, PARTITIONS).await?;
        let leaders: Vec<_> = (0..PARTITIONS).map(|p| stage.leader(p)).collect();
        let victim = leaders[0];
        if leaders.iter().all(|leader| *leader == victim) {
            return Err(format!("broker {victim} leads everything"));
        }
        let last = Instant::now() + Duration::from_secs(if stage.short { 10 } else { 60 });
        stage.blocking(|cluster| cluster.pause(victim));
        let (mut affected, mut slowest, mut slowest_other) = (Tally::default(), Duration::ZERO, Duration::ZERO);
        let mut others = 0;
        while Instant::now() < last {
            let probes = workspaces.iter().map(|w| timed_load(client.clone(), w.clone(), 20));
            for ((answer, took), leader) in join_all(probes).await.into_iter().zip(&leaders) {
                match answer {
                    Ok(_) if *leader == victim => affected.add("OK"),
                    Ok(_) => others += 1,
                    Err(status)
                        if *leader == victim && status.code() == Code::Unavailable && reason(&status).is_some() =>
                    {
                        affected.add(&said(&status));
                    }
                    Err(status) => {
                        let whose = if *leader == victim { "of the frozen broker" } else { "of another broker" };
                        return Err(format!("a load {whose} was answered {}: {}", said(&status), status.message()));
                    }
                }
                let slowest = if *leader == victim { &mut slowest } else { &mut slowest_other };
                *slowest = (*slowest).max(took);
            }
            sleep(Duration::from_millis(200)).await;
        }
        let seen = format!(
            "loads from the frozen leader: {affected}, the slowest after {:.1} s; others: OK × {others}, the slowest \
             after {:.1} s",
            slowest.as_secs_f64(),
            slowest_other.as_secs_f64()
        );
        if slowest > NO_PROGRESS || slowest_other > UNAFFECTED { Err(seen) } else { Ok(seen) }
    }
}
