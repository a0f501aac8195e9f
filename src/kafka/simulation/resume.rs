//! Streams over a simulated log, broken off and resumed by token: what the reader knows in the end must be the truth, or he must
//! have been told to start again.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use tokio::sync::watch;

use super::*;
use crate::{
    changelog::{Changelog, Content, Limits, LoadError, Peer, StreamEvent, StreamRequest},
    log::{Description, Log, NewRecord, PendingAppend, Replay, StoreKind, TopicState, WriteError},
};

/// A log on a simulated cluster. A replay is run to its end when it is asked for; its events wait for the reader.
#[derive(Debug)]
struct SimulatedLog {
    world: Shared,
    state: watch::Sender<TopicState>,
}

#[async_trait]
impl Log for SimulatedLog {
    fn kind(&self) -> StoreKind {
        StoreKind::Kafka
    }
    fn topic_state(&self) -> watch::Receiver<TopicState> {
        self.state.subscribe()
    }
    async fn topic(&self) -> Result<Arc<Topic>, ReadError> {
        Ok(self.world.borrow().described())
    }
    fn append(&self, _: NewRecord) -> Result<PendingAppend, WriteError> {
        Err(WriteError::Draining)
    }
    async fn replay(&self, mut request: ReplayRequest) -> Result<Replay, ReadError> {
        let (sender, replay) = Replay::channel();
        let (delivered, stop) = {
            let (topic, bounds) = {
                let world = self.world.borrow();
                same_topic(&request.topic, &world.described())?;
                request.deadline = (world.instant() + DEADLINE).into();
                (world.described(), bounds(&world))
            };
            let mut cluster = SimulatedCluster::new(&self.world, &topic);
            let spans = span::spans(&mut cluster, &request, bounds.open_transaction_wait)?;
            let mut reading = Reading::new(cluster, request, spans, bounds, Box::new(|_, _, _| {}));
            let stop = reading.read(&mut None);
            (reading.cluster.events, stop)
        };
        tokio::spawn(async move {
            for event in delivered {
                if sender.send(Ok(event)).await.is_err() {
                    return;
                }
            }
            if let Err(Stop::Failed(error)) = stop {
                let _ = sender.send(Err(error)).await;
            }
        });
        Ok(replay)
    }
    async fn describe(&self) -> Description {
        unreachable!("nobody asks")
    }
    async fn close(&self, _: tokio::time::Instant) -> u64 {
        0
    }
}

/// A reader who keeps what he knew when he was given his newest token.
#[derive(Default)]
struct Reader {
    known: BTreeMap<String, (i64, bool)>,
    token: bytes::Bytes,
}

enum Round {
    /// All snapshots came.
    Whole,
    /// He stopped listening, or can try again from his token.
    Broken,
    /// He must start again.
    Again,
}

impl Reader {
    async fn round(&mut self, changelog: &Changelog, content: Content, stop_after: u64) -> Round {
        let request = StreamRequest {
            partitions: Vec::new(),
            workspaces: Vec::new(),
            types: HashSet::new(),
            content,
            resume_token: self.token.clone(),
            follow: false,
        };
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let mut streaming = match changelog.stream(request, Peer::default(), deadline).await {
            Ok(streaming) => streaming,
            Err(error) => return Self::told(&error),
        };
        let mut state = self.known.clone();
        for _ in 0..stop_after {
            match streaming.next().await {
                None => return Round::Whole,
                Some(Ok(StreamEvent::Batch { records, .. })) => {
                    for record in records {
                        let key = String::from_utf8(record.key.to_vec()).expect("a key");
                        state.insert(key, (record.offset, record.value.is_some()));
                    }
                }
                Some(Ok(StreamEvent::Snapshot(snapshot))) => {
                    self.token = snapshot.resume_token;
                    self.known.clone_from(&state);
                }
                Some(Ok(StreamEvent::Bookmark(_))) => unreachable!("nothing follows"),
                Some(Err(error)) => return Self::told(&error),
            }
        }
        Round::Broken
    }

    fn told(error: &LoadError) -> Round {
        match error {
            LoadError::Read(ReadError::Unreachable { .. } | ReadError::OpenTransaction { .. }) => Round::Broken,
            _ => Round::Again,
        }
    }
}

async fn play(seed: u64) -> Result<u64, String> {
    let mut dice = Dice::new(!seed);
    let possible = [Trouble::Pinned, Trouble::Deleted, Trouble::Truncated, Trouble::Recreated, Trouble::Frozen];
    let troubles: Vec<_> = possible.into_iter().filter(|_| dice.one_in(4)).collect();
    let mut world = World::new(seed, troubles);
    world.delete_retention = 86_400_000;
    let world = Shared::new(world);
    let topic = world.borrow().described();
    let log = SimulatedLog { world: world.clone(), state: watch::Sender::new(TopicState::Ready(topic)) };
    let changelog = Changelog::new(Arc::new(log), Limits::for_tests(), Arc::default());
    let content = if dice.one_in(2) { Content::Records } else { Content::Latest };
    let (mut reader, mut resumed) = (Reader::default(), 0);
    for _ in 0..8 {
        for _ in 0..dice.below(40) {
            let took = dice.pick(&[0, 1, 20, 200]);
            world.borrow_mut().step(took);
        }
        let stop_after = if dice.one_in(3) { dice.below(6) } else { u64::MAX };
        let asked = world.borrow().now;
        let had_token = !reader.token.is_empty();
        match reader.round(&changelog, content, stop_after).await {
            Round::Broken => {}
            Round::Again => reader = Reader::default(),
            Round::Whole => {
                resumed += u64::from(had_token);
                let world = world.borrow();
                for partition in world.parts.keys() {
                    let state = reader.known.iter().map(|(key, known)| (&**key, *known)).collect();
                    owed(&world, (world.topic, *partition), asked, world.now, &state)?;
                }
            }
        }
    }
    Ok(resumed)
}

#[test]
fn r9_a_resumed_stream_is_never_silently_wrong_in_any_world() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (seeds, mut resumed) = (number("CHANGELOGD_TEST_SEEDS").unwrap_or(200), 0);
    for seed in number("CHANGELOGD_TEST_SEED").map_or(0..seeds, |seed| seed..seed + 1) {
        match runtime.block_on(play(seed)) {
            Ok(times) => resumed += times,
            Err(error) => panic!("seed {seed} (CHANGELOGD_TEST_SEED={seed} plays it again): {error}"),
        }
    }
    println!("resumed {resumed} times over {seeds} seeds");
    assert!(resumed > seeds / 4 || seeds < 10, "hardly any stream was resumed: {resumed}");
}
