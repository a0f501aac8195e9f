//! Streams over a simulated log that are interrupted and resumed by token. The client's state must be right in the end,
//! or the client must have got an error that tells it to start again. Below are single cases.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use changelog_core::{
    changelog::{Changelog, Content, Limits, LoadError, Metrics, Peer, StreamEvent, StreamRequest},
    log::{
        Counts, Follow, MemoryLog, PROGRESS_INTERVAL, ReadError, Replay, ReplayEvent, ReplayRequest, StartAt,
        TopicState, WriteError,
    },
    testing::FakeLog,
};
use tokio::sync::watch;

use super::{
    super::{limits::StopReason, range, reader::ReplayReader},
    FOUND,
    broker::SimulatedCluster,
    check::check_state,
    faults::Fault,
    load::{DEADLINE, NO_PROGRESS, limits},
    rng::Rng,
    rules::{LIMITS, fill, request, still, stopped_from, whole},
    seeds,
    world::{FollowFor, SharedWorld, World},
};

/// A log on a simulated cluster. A replay runs when it is requested, and its events wait for the client. It breaks
/// at its end. One that follows breaks there, too, or some time after it: see [`World::follow_for`].
pub fn simulated_log(world: &SharedWorld) -> FakeLog {
    let topic = world.borrow().described();
    let memory = MemoryLog::new(topic.partition_count, topic.delete_retention);
    let (described, replayed) = (world.clone(), world.clone());
    FakeLog::new(memory)
        .with_state(watch::Sender::new(TopicState::Ready(topic)).subscribe())
        .on_topic(move || Ok(described.borrow().described()))
        .on_append(|_, _| Err(WriteError::Draining))
        .on_replay(move |_, request| std::future::ready(start_replay(&replayed, request)))
        .on_describe(|_| async { unreachable!("no test describes it") })
}

fn start_replay(world: &SharedWorld, mut request: ReplayRequest) -> Result<Replay, ReadError> {
    let (sender, replay) = Replay::channel();
    let (topic, limits, follow_for) = {
        let world = world.borrow();
        request.topic.check_same(&world.described())?;
        let follow_for = match request.follow {
            Follow::No => None,
            Follow::AfterEnds => world.follow_for,
            Follow::FromStart => Some(world.follow_for.unwrap_or(FollowFor { at_least: 0, until_progress: true })),
        };
        if follow_for.is_none() {
            request.follow = Follow::No;
        }
        request.deadline = (world.instant() + DEADLINE).into();
        (world.described(), limits(&world), follow_for)
    };
    let mut cluster = SimulatedCluster::new(world, &topic);
    cluster.follow(follow_for, request.follow);
    let ranges = range::resolve_ranges(&mut cluster, &request, limits.open_transaction_wait)?;
    let mut reader = ReplayReader::new(cluster, request, ranges, limits, Box::new(|_, _, _| {}));
    let stop = reader.read(&mut None);
    let (delivered, world) = (reader.cluster.sent_at.into_iter().zip(reader.cluster.events), world.clone());
    tokio::spawn(async move {
        for (at, event) in delivered {
            // One event after another, so that the world's clock for the client is that of the event it has.
            while sender.capacity() < sender.max_capacity() && !sender.is_closed() {
                tokio::task::yield_now().await;
            }
            if matches!(event, ReplayEvent::Progress { .. }) {
                tokio::time::advance(PROGRESS_INTERVAL).await;
            }
            if sender.is_closed() {
                return;
            }
            world.borrow_mut().delivered_at = at;
            if sender.send(Ok(event)).await.is_err() {
                return;
            }
        }
        if let Err(StopReason::Failed(error)) = stop {
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(replay)
}

/// A client that keeps the state that belongs to its newest token.
#[derive(Default)]
struct Reader {
    known: BTreeMap<String, (i64, Option<String>)>,
    token: bytes::Bytes,
}

enum Round {
    /// All snapshots were received.
    Whole,
    /// The client stopped reading, or can try again from its token.
    Broken,
    /// The client must start again without a token.
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
            Err(error) => return Self::outcome_of(&error),
        };
        let mut state = self.known.clone();
        for _ in 0..stop_after {
            match streaming.next().await {
                None => return Round::Whole,
                Some(Ok(StreamEvent::Batch { records, .. })) => {
                    for record in records {
                        let key = String::from_utf8(record.key.to_vec()).expect("a key");
                        let value = record.value.map(|value| String::from_utf8(value.to_vec()).expect("a value"));
                        state.insert(key, (record.offset, value));
                    }
                }
                Some(Ok(StreamEvent::Snapshot(snapshot))) => {
                    self.token = snapshot.resume_token;
                    self.known.clone_from(&state);
                }
                Some(Ok(StreamEvent::Bookmark(_))) => unreachable!("nothing follows"),
                Some(Err(error)) => return Self::outcome_of(&error),
            }
        }
        Round::Broken
    }

    fn outcome_of(error: &LoadError) -> Round {
        match error {
            LoadError::Read(
                ReadError::Unreachable { .. }
                | ReadError::NoProgress { .. }
                | ReadError::EndedEarly { .. }
                | ReadError::OpenTransaction { .. },
            ) => Round::Broken,
            _ => Round::Again,
        }
    }
}

async fn run_seed(seed: u64) -> Result<u64, String> {
    let mut rng = Rng::new(!seed);
    let possible = [Fault::OpenTransaction, Fault::Deleted, Fault::Truncated, Fault::Recreated, Fault::Frozen];
    let mut faults: Vec<_> = possible.into_iter().filter(|_| rng.one_in(4)).collect();
    // Chosen apart, so that the other choices of a seed stay.
    if Rng::new(seed ^ 0xe1ec).one_in(2) {
        faults.push(Fault::Elected);
    }
    let mut world = World::new(seed, faults);
    world.delete_retention = 86_400_000;
    let world = SharedWorld::new(world);
    let changelog = Changelog::new(Arc::new(simulated_log(&world)), Limits::for_tests(), Metrics::default());
    let content = if rng.one_in(2) { Content::Records } else { Content::Latest };
    let (mut reader, mut resumed) = (Reader::default(), 0);
    for _ in 0..8 {
        for _ in 0..rng.below(40) {
            let took = rng.pick(&[0, 1, 20, 200]);
            world.borrow_mut().step(took);
        }
        let stop_after = if rng.one_in(3) { rng.below(6) } else { u64::MAX };
        let requested_at = world.borrow().now;
        let had_token = !reader.token.is_empty();
        match reader.round(&changelog, content, stop_after).await {
            Round::Broken => {}
            Round::Again => reader = Reader::default(),
            Round::Whole => {
                resumed += u64::from(had_token);
                let world = world.borrow();
                for (partition, log) in &world.partitions {
                    let known = reader.known.iter().filter(|(key, _)| log.keys.contains(key));
                    let state = known.map(|(key, (offset, value))| (&**key, (*offset, value.as_deref()))).collect();
                    check_state(&world, (world.topic, *partition), requested_at, world.now, &state)?;
                }
            }
        }
    }
    Ok(resumed)
}

/// Covers C49, R1, R4, R37, R40.
#[test]
fn in_every_simulated_world_a_resumed_stream_is_right_or_an_error() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let seeds = seeds();
    let (count, mut resumed) = (seeds.end - seeds.start, 0);
    for seed in seeds.chain(FOUND) {
        match runtime.block_on(run_seed(seed)) {
            Ok(times) => resumed += times,
            Err(error) => panic!("seed {seed} (CHANGELOGD_TEST_SEED={seed} runs it again): {error}"),
        }
    }
    println!("resumed {resumed} times over {count} seeds");
    assert!(resumed > count / 4 || count < 10, "hardly any stream was resumed: {resumed}");
}

/// The offsets of the records of the only partition that a resumed reader gets.
fn resumed(world: &SharedWorld, start: StartAt) -> Vec<i64> {
    let topic = world.borrow().described();
    let mut cluster = SimulatedCluster::new(world, &topic);
    let request = request(world, topic, start, Follow::No);
    let ranges = range::resolve_ranges(&mut cluster, &request, NO_PROGRESS).unwrap();
    let mut reader = ReplayReader::new(cluster, request, ranges, LIMITS, Box::new(|_, _, _| {}));
    reader.read(&mut None).expect("it is whole");
    let records = reader.cluster.events.into_iter().filter_map(|event| match event {
        ReplayEvent::Records { records, .. } => Some(records),
        _ => None,
    });
    records.flatten().map(|record| record.offset).collect()
}

/// The log is truncated, and grows again to exactly the offset of the resume. Only the leader epoch shows it.
/// Covers C49, R14, F13.
#[test]
fn a_resumed_reader_at_an_end_that_was_cut_and_grew_again_gets_an_error() {
    let world = still(1);
    fill(&world, 10);
    let topic = world.borrow().described();
    {
        let mut world = world.borrow_mut();
        let log = world.partitions.get_mut(&0).unwrap();
        log.truncate(5);
    }
    fill(&world, 5);
    let stop = stopped_from(&world, StartAt::Offset { offset: 10, leader_epoch: 0 }, |_| {}, topic);
    assert!(matches!(stop, StopReason::Failed(ReadError::Truncated { .. })), "{stop:?}");
}

/// The log had only aborted records, so its reader knows no leader epoch. It is truncated, and grows again.
/// Covers C49, R14, F13.
#[test]
fn a_resumed_reader_that_had_read_no_record_misses_none_of_a_log_that_was_cut_and_grew_again() {
    for cut in [0, 1] {
        let world = still(1);
        let number = world.borrow_mut().open(0);
        world.borrow_mut().end(0, number, false);
        let end = whole(&world).ends[0].0;
        assert_eq!((end.end, end.counts), (2, Counts::default()));

        world.borrow_mut().partitions.get_mut(&0).unwrap().truncate(cut);
        fill(&world, 4);
        let records = resumed(&world, StartAt::Offset { offset: end.end, leader_epoch: end.leader_epoch });
        assert_eq!(records, [cut, cut + 1, cut + 2, cut + 3]);
    }
}

/// Old brokers do not tell the epoch of a record that was read. What was read is not delivered again.
/// Covers C49.
#[test]
fn a_resumed_reader_of_records_without_an_epoch_starts_at_its_offset() {
    let world = still(1);
    fill(&world, 4);
    assert_eq!(resumed(&world, StartAt::Offset { offset: 3, leader_epoch: -1 }), [3]);
    assert_eq!(resumed(&world, StartAt::Offset { offset: 4, leader_epoch: -1 }), [0; 0]);
}
