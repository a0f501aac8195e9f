//! A changelog over a log whose replays wait at a gate until the test opens it.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::super::run::STALL_TIMEOUT;
use crate::{
    changelog::{Ack, Changelog, Limits, Load, LoadError, Metrics, Peer},
    log::{Log, MemoryLog, Replay},
    model::{Headers, Key, PartitionCount, WorkspaceId},
    testing::FakeLog,
};

/// What a test controls and sees of the replays of [`gated`].
#[derive(Debug, Clone)]
pub struct Gate {
    /// How many replays were started.
    pub replays: Arc<AtomicUsize>,
    pub permits: Arc<Semaphore>,
    /// Whether replays stall before the gate. Otherwise they read records.
    pub frozen: Arc<AtomicBool>,
}

/// A log that reads whole partitions, as Kafka does.
fn gated(memory: MemoryLog, gate: Gate) -> FakeLog {
    FakeLog::new(memory).reading_whole_partitions().on_replay(move |memory, request| {
        let gate = gate.clone();
        async move {
            gate.replays.fetch_add(1, SeqCst);
            // The end offsets are fixed now. Records come when the gate opens.
            let mut replay = memory.replay(request).await?;
            let (events, gated) = Replay::channel();
            let records_read = gated.records_read();
            let frozen = gate.frozen.load(SeqCst);
            tokio::spawn(async move {
                loop {
                    tokio::select! {
                        biased;
                        () = events.closed() => return,
                        permit = gate.permits.acquire() => {
                            permit.expect("open").forget();
                            break;
                        }
                        () = sleep(STALL_TIMEOUT / 5), if !frozen => records_read.add(1),
                    }
                }
                while let Some(event) = replay.next().await {
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
            });
            Ok(gated)
        }
    })
}

pub struct TestChangelog {
    pub gate: Gate,
    pub changelog: Changelog,
    peers: AtomicUsize,
}

pub type Loading = JoinHandle<Result<Load, LoadError>>;

impl TestChangelog {
    pub fn new(change: impl FnOnce(&mut Limits)) -> Self {
        Self::of(1, change)
    }

    pub fn of(partitions: i64, change: impl FnOnce(&mut Limits)) -> Self {
        let memory = MemoryLog::new(PartitionCount::new(partitions).unwrap(), Duration::from_secs(86_400));
        let gate = Gate {
            replays: Arc::new(AtomicUsize::new(0)),
            permits: Arc::new(Semaphore::new(0)),
            frozen: Arc::new(AtomicBool::new(false)),
        };
        let mut limits = Limits { replay_queue_timeout: Duration::from_secs(60), ..Limits::for_tests() };
        change(&mut limits);
        let log = Arc::new(gated(memory, gate.clone()));
        let changelog = Changelog::new(log, limits, Metrics::default());
        Self { gate, changelog, peers: AtomicUsize::new(1) }
    }

    pub async fn set(&self, key: &str) {
        self.set_value(key, "1").await;
    }

    pub async fn set_value(&self, key: &str, value: &str) {
        let value = Some(value.to_owned().into());
        let record = self.changelog.write_target().record(Key::parse(key).unwrap(), value, Headers::default()).unwrap();
        self.changelog.write(record, Ack::Durable, None).await.unwrap();
    }

    pub fn load(&self, workspace: &str) -> Loading {
        self.load_until(workspace, Instant::now() + Duration::from_secs(60))
    }

    pub fn load_until(&self, workspace: &str, deadline: Instant) -> Loading {
        let (changelog, workspace) = (self.changelog.clone(), WorkspaceId::parse(workspace).unwrap());
        // Each load comes from another client.
        let peer = Peer::Connection(self.peers.fetch_add(1, SeqCst) as u64);
        tokio::spawn(async move { changelog.load(workspace, HashSet::new(), peer, deadline).await })
    }

    pub fn load_of(&self, peer: Peer) -> Loading {
        let (changelog, deadline) = (self.changelog.clone(), Instant::now() + Duration::from_secs(60));
        let workspace = WorkspaceId::parse("ws").unwrap();
        tokio::spawn(async move { changelog.load(workspace, HashSet::new(), peer, deadline).await })
    }

    /// Lets all tasks run until they wait.
    pub async fn settle(&self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    pub fn replays(&self) -> usize {
        self.gate.replays.load(SeqCst)
    }
}

pub fn keys(load: &Load) -> Vec<String> {
    load.records().iter().map(|r| String::from_utf8(r.key.to_vec()).unwrap()).collect()
}

/// A workspace in another of ten partitions than `ws`.
pub fn elsewhere() -> String {
    let count = PartitionCount::new(10).unwrap();
    let home = |w: &str| count.of_workspace(w.as_bytes());
    (0..100).map(|i| format!("w{i}")).find(|w| home(w) != home("ws")).unwrap()
}
