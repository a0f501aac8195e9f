//! Replays over a simulated cluster: the code that reads a real cluster, in worlds that are each made from a seed.
//!
//! `CHANGELOGD_TEST_SEEDS` sets the number of worlds (200), and `CHANGELOGD_TEST_FIRST_SEED` the seed of the first (0).
//! `CHANGELOGD_TEST_SEED` runs one of them again.

mod resume;
mod rules;
mod world;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::error::RDKafkaErrorCode as Code;

use self::world::{FAULTS, Fault, Kind, Millis, Rng, SharedWorld, Transaction, World};
use super::{
    cluster::{Cluster, Consumer, Message, Polled, SendOutcome, StartOffset},
    limits::{ReplayLimits, StopReason},
    offsets::{OffsetSnapshot, Offsets},
    range,
    reader::{ReplayReader, check_same_topic},
};
use crate::{
    log::{PartitionEnd, ReadError, ReplayEvent, ReplayRequest, Selection, StartAt, Topic, TopicProblem},
    model::{Header, Partition, Record},
};

/// A record as it was fetched. It may be removed from the log afterwards.
#[derive(Debug, Clone)]
struct Fetched {
    partition: i32,
    offset: i64,
    key: String,
    value: Option<Vec<u8>>,
    epoch: i32,
}

impl Message for Fetched {
    fn partition(&self) -> i32 {
        self.partition
    }
    fn offset(&self) -> i64 {
        self.offset
    }
    fn key(&self) -> Option<&[u8]> {
        Some(self.key.as_bytes())
    }
    fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }
    fn timestamp(&self) -> Option<i64> {
        None
    }
    fn leader_epoch(&self) -> i32 {
        self.epoch
    }
    fn headers(&self, _: &mut u64) -> Vec<Header> {
        Vec::new()
    }
}

/// The position of a consumer in a partition.
#[derive(Debug)]
struct Position {
    offset: i64,
    epoch: i32,
    /// The end that was reported last, because each end is reported once.
    reported_end: Option<i64>,
    failed: bool,
}

/// Does what librdkafka does. It reads ahead, skips markers and holes, and reports the end of a partition. It adopts a
/// new topic of the same name, and detects a truncation below its position.
struct SimulatedConsumer {
    world: SharedWorld,
    positions: std::cell::RefCell<BTreeMap<i32, Position>>,
    fetched: std::cell::RefCell<VecDeque<Polled<Fetched>>>,
}

impl SimulatedConsumer {
    fn fetch(&self, world: &mut World) {
        let mut fetched = self.fetched.borrow_mut();
        for (number, at) in self.positions.borrow_mut().iter_mut() {
            let partition = Partition::new(*number).expect("a partition");
            let Some(log) = world.partitions.get(number) else { continue };
            if at.failed || log.delivers_nothing || log.frozen_until > world.now {
                continue;
            }
            let failed = |code| Polled::Failed { partition: *number, code, text: "simulated".to_owned() };
            if log.cuts.iter().any(|(epoch, cut)| *epoch > at.epoch && *cut < at.offset) {
                at.failed = true;
                fetched.push_back(failed(Code::LogTruncation));
                continue;
            }
            if at.offset < log.low || at.offset > log.high {
                at.failed = true;
                fetched.push_back(failed(Code::AutoOffsetReset));
                continue;
            }
            at.epoch = log.epoch;
            let end = world.visible(partition);
            let wanted = |s: &&world::Slot| (at.offset..end).contains(&s.offset);
            let delivered = |kind| match kind {
                Kind::Plain => true,
                Kind::Marker => false,
                Kind::InTransaction(n) => log.transactions[n] == Transaction::Committed,
            };
            let slots: Vec<_> = log.slots.iter().filter(wanted).take(4).cloned().collect();
            for slot in &slots {
                at.offset = slot.offset + 1;
                if delivered(slot.kind) {
                    fetched.push_back(Polled::Record(Fetched {
                        partition: *number,
                        offset: slot.offset,
                        key: slot.key.clone(),
                        // The value has the topic's number, so that a test knows where a record came from.
                        value: slot.value.map(|v| format!("{}:{v}", world.topic).into_bytes()),
                        epoch: slot.epoch,
                    }));
                }
            }
            if slots.is_empty() && at.offset <= end {
                at.offset = end;
                if at.reported_end != Some(end) {
                    at.reported_end = Some(end);
                    fetched.push_back(Polled::End { partition: *number, offset: end });
                }
            }
        }
    }
}

impl Consumer for SimulatedConsumer {
    type Message<'a> = Fetched;

    fn poll(&self, wait: Duration) -> Polled<Fetched> {
        let mut world = self.world.borrow_mut();
        world.polls += 1;
        let took = world.rng.pick(&[0, 0, 1, 5]);
        world.step(took);
        if self.fetched.borrow().is_empty() {
            self.fetch(&mut world);
        }
        if let Some(next) = self.fetched.borrow_mut().pop_front() {
            return next;
        }
        world.step(wait.as_millis() as Millis);
        Polled::Nothing
    }
}

struct SimulatedCluster {
    world: SharedWorld,
    /// The topic of the request.
    topic: Arc<Topic>,
    events: Vec<ReplayEvent>,
    /// The end of each partition, when it was reported, and the topic of that time.
    ends: Vec<(PartitionEnd, Millis, Arc<Topic>)>,
    /// An action to run after this many ends were reported.
    after_ends: Option<(usize, Action)>,
}

type Action = Box<dyn FnOnce(&mut World) + Send>;

impl SimulatedCluster {
    fn new(world: &SharedWorld, topic: &Arc<Topic>) -> Self {
        Self { world: world.clone(), topic: topic.clone(), events: Vec::new(), ends: Vec::new(), after_ends: None }
    }
}

impl Cluster for SimulatedCluster {
    type Consumer = SimulatedConsumer;

    fn now(&self) -> Instant {
        self.world.borrow().instant()
    }

    fn pause(&mut self, time: Duration) {
        self.world.borrow_mut().step(time.as_millis().max(1) as Millis);
    }

    fn offsets(&mut self, partitions: &[Partition], _: Instant) -> Result<OffsetSnapshot, ReadError> {
        let mut world = self.world.borrow_mut();
        let (at, wall) = (world.instant(), world.wall());
        world.step(1);
        let mut offsets = Vec::new();
        for partition in partitions {
            let log = world.partitions.get(&partition.number());
            let frozen = log.is_none_or(|p| p.frozen_until > world.now);
            if frozen {
                return Err(ReadError::Unreachable { cause: "its leader says nothing".to_owned() });
            }
            let Some(log) = log else { continue };
            let (low, high, last_stable) = (log.low, log.high, log.last_stable());
            offsets.push(Offsets { partition: *partition, low, last_stable, high });
        }
        Ok(OffsetSnapshot { offsets, at, wall })
    }

    fn fetch_topic(&mut self) -> Result<Arc<Topic>, ReadError> {
        let mut world = self.world.borrow_mut();
        world.step(1);
        Ok(world.described())
    }

    fn problem(&self) -> Option<TopicProblem> {
        let world = self.world.borrow();
        let (topic, count, _) = world.watched;
        check_same_topic(&self.topic, &World::topic_of(topic, count, world.delete_retention)).err()
    }

    fn min_compaction_lag(&self) -> Duration {
        Duration::from_millis(self.world.borrow().min_compaction_lag)
    }

    fn consumer(&mut self, start_offsets: &[StartOffset]) -> Result<SimulatedConsumer, ReadError> {
        let mut world = self.world.borrow_mut();
        world.consumers += 1;
        let position = |start: &StartOffset| {
            let epoch = if start.leader_epoch < 0 { i32::MAX } else { start.leader_epoch };
            (start.partition.number(), Position { offset: start.offset, epoch, reported_end: None, failed: false })
        };
        let positions = start_offsets.iter().map(position).collect::<BTreeMap<_, _>>();
        Ok(SimulatedConsumer {
            world: self.world.clone(),
            positions: positions.into(),
            fetched: VecDeque::new().into(),
        })
    }

    fn send(&mut self, event: ReplayEvent, wait: Duration) -> SendOutcome {
        let mut world = self.world.borrow_mut();
        if world.stall.is_some_and(|(from, until)| (from..until).contains(&world.now)) {
            world.step(wait.as_millis() as Millis);
            return SendOutcome::Full(event);
        }
        let slow = world.faults.contains(&Fault::SlowReader);
        if let ReplayEvent::End(end) = &event {
            self.ends.push((*end, world.now, world.described()));
            if self.after_ends.as_ref().is_some_and(|(ends, _)| *ends == self.ends.len())
                && let Some((_, action)) = self.after_ends.take()
            {
                action(&mut world);
            }
        } else if slow {
            let took = world.rng.pick(&[0, 10, 300, 3_000]);
            world.step(took);
        }
        self.events.push(event);
        SendOutcome::Sent
    }

    fn is_abandoned(&self) -> bool {
        false
    }

    fn is_closed(&self) -> bool {
        false
    }
}

/// The outcome of a load.
struct Outcome {
    requested_at: Millis,
    /// The high watermarks at the time of the request.
    high_watermarks: HashMap<i32, i64>,
    topic: u64,
    records: Vec<(Partition, Record)>,
    ends: Vec<(PartitionEnd, Millis, Arc<Topic>)>,
    error: Option<ReadError>,
    /// The topic of the request.
    served: Arc<Topic>,
}

const DEADLINE: Duration = Duration::from_secs(300);
const NO_PROGRESS: Duration = Duration::from_secs(10);

fn limits(world: &World) -> ReplayLimits {
    ReplayLimits {
        open_transaction_wait: Duration::from_secs(5),
        no_progress: NO_PROGRESS,
        min_compaction_lag: Duration::from_millis(world.min_compaction_lag),
        delete_retention: Duration::from_millis(world.delete_retention),
    }
}

/// Loads every partition of the world, in the order of the real log: the topic, the end offsets, the records.
fn load(world: &SharedWorld) -> Outcome {
    let (request, limits, requested_at, high_watermarks, topic) = {
        let world = world.borrow();
        let topic = world.described();
        let request = ReplayRequest {
            selection: Selection::all(topic.partition_count),
            partitions: world.partitions.keys().map(|p| (Partition::new(*p).unwrap(), StartAt::Low)).collect(),
            topic,
            follow: false,
            owned_records: false,
            deadline: (world.instant() + DEADLINE).into(),
        };
        let limits = limits(&world);
        let high_watermarks = world.partitions.iter().map(|(p, log)| (*p, log.high)).collect();
        (request, limits, world.now, high_watermarks, world.topic)
    };
    let served = request.topic.clone();
    let mut cluster = SimulatedCluster::new(world, &served);
    let mut outcome =
        Outcome { requested_at, high_watermarks, topic, records: Vec::new(), ends: Vec::new(), error: None, served };
    let ranges = match range::resolve_ranges(&mut cluster, &request, limits.open_transaction_wait) {
        Ok(ranges) => ranges,
        Err(error) => {
            outcome.error = Some(error);
            return outcome;
        }
    };
    let mut reader = ReplayReader::new(cluster, request, ranges, limits, Box::new(|_, _, _| {}));
    match reader.read(&mut None) {
        Ok(()) => {}
        Err(StopReason::Failed(error)) => outcome.error = Some(error),
        Err(StopReason::Abandoned) => panic!("the caller stays"),
    }
    for event in reader.cluster.events {
        if let ReplayEvent::Records { partition, records, .. } = event {
            outcome.records.extend(records.into_iter().map(|r| (partition, r)));
        }
    }
    outcome.ends = reader.cluster.ends;
    outcome
}

/// Checks the contract for each partition whose end was reported.
fn check(world: &World, outcome: &Outcome) -> Result<(), String> {
    for (end, completed_at, topic) in &outcome.ends {
        let partition = end.partition.number();
        let fail = |what: String| Err(format!("partition {partition}, {end:?}: {what}"));
        if **topic != *outcome.served {
            return fail(format!("the topic is {topic:?} by now"));
        }
        // A log that was truncated meanwhile may end earlier.
        let cut = world.partitions.get(&partition).is_some_and(|p| !p.cuts.is_empty());
        if end.end < outcome.high_watermarks[&partition] && !cut {
            return fail(format!(
                "its high watermark was {} when it was asked for",
                outcome.high_watermarks[&partition]
            ));
        }
        let mut state: HashMap<&str, &Record> = HashMap::new();
        let mut before = -1;
        for (_, record) in outcome.records.iter().filter(|(p, _)| *p == end.partition) {
            if record.offset <= before {
                return fail(format!("offset {} after {before}", record.offset));
            }
            before = record.offset;
            let key = std::str::from_utf8(&record.key).expect("a key");
            let written = world.writes.iter().any(|w| {
                let value = w.value.map(|v| format!("{}:{v}", outcome.topic).into_bytes());
                w.topic == outcome.topic
                    && (w.partition, w.offset, &*w.key) == (partition, record.offset, key)
                    && value.as_deref() == record.value.as_deref()
            });
            if !written {
                return fail(format!("{record:?} was never written"));
            }
            state.insert(key, record);
        }
        let state = state.into_iter().map(|(key, r)| (key, (r.offset, r.value.is_some()))).collect();
        check_state(world, (outcome.topic, partition), outcome.requested_at, *completed_at, &state).or_else(fail)?;
    }
    Ok(())
}

/// By key: the offset of its last record, and whether that record has a value.
type State<'a> = HashMap<&'a str, (i64, bool)>;

/// Checks a state that was requested at one time and reported complete at another. It must have each write acknowledged
/// before the request, or a later one of its key. It must not have a key that was deleted before the request.
fn check_state(
    world: &World,
    (topic, partition): (u64, i32),
    requested_at: Millis,
    completed_at: Millis,
    state: &State<'_>,
) -> Result<(), String> {
    let of_partition = || world.writes.iter().filter(|w| (w.topic, w.partition) == (topic, partition));
    let mut expected: HashMap<&str, &world::Write> = HashMap::new();
    for write in of_partition() {
        if write.acknowledged <= requested_at && write.gone.is_none_or(|at| at > completed_at) {
            let last = expected.entry(&write.key).or_insert(write);
            if write.offset > last.offset {
                *last = write;
            }
        }
    }
    for (key, write) in expected {
        let found = state.get(key);
        let deleted_since = || {
            let mut later = of_partition().filter(|w| &*w.key == key && w.offset > write.offset);
            later.any(|w| w.value.is_none() && w.acknowledged <= completed_at)
        };
        match (write.value, found) {
            (_, Some((offset, _))) if *offset >= write.offset => {}
            (None, None | Some((_, false))) => {}
            (Some(_), None | Some((_, false))) if deleted_since() => {}
            _ => return Err(format!("{write:?} was acknowledged before {requested_at}, found {found:?}")),
        }
    }
    Ok(())
}

/// Runs one world: a few loads, with events before, between and during them.
fn run_seed(seed: u64) -> Result<(bool, Vec<Fault>), String> {
    let mut rng = Rng::new(!seed);
    let mut faults: Vec<_> = FAULTS.into_iter().filter(|_| rng.one_in(5)).collect();
    if rng.one_in(4) {
        faults.clear();
    }
    let world: SharedWorld = SharedWorld::new(World::new(seed, faults.clone()));
    let mut whole = false;
    for _ in 0..3 {
        for _ in 0..rng.below(80) {
            let took = rng.pick(&[0, 1, 20, 200]);
            world.borrow_mut().step(took);
        }
        if !faults.contains(&Fault::OpenTransaction) {
            world.borrow_mut().settle();
        }
        if world.borrow().count != world.borrow().partitions.len() as i64 {
            // The topic has grown, so a load of it would find misplaced records.
            break;
        }
        let outcome = load(&world);
        let world = world.borrow();
        check(&world, &outcome).map_err(|e| {
            let (lag, retention) = (world.min_compaction_lag, world.delete_retention);
            format!("{e}; lag {lag} ms, retention {retention} ms, {faults:?}, ends {:?}", outcome.ends)
        })?;
        let took = Duration::from_millis(world.now - outcome.requested_at);
        if took > DEADLINE + 3 * NO_PROGRESS {
            return Err(format!("it took {took:?}"));
        }
        match &outcome.error {
            None if outcome.ends.len() != outcome.high_watermarks.len() => {
                return Err(format!("it ended without error and without all ends: {:?}", outcome.ends));
            }
            None => whole = true,
            // A world that writes faster than it is read, or purges tombstones at once, may outrun a reader. A
            // transaction may be open for longer than the replay waits.
            Some(ReadError::Moved { .. } | ReadError::OpenTransaction { .. }) => {}
            Some(error) if faults.is_empty() => return Err(format!("without any fault: {error}")),
            Some(_) => {}
        }
    }
    Ok((whole, faults))
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

fn seeds() -> Range<u64> {
    if let Some(seed) = number("CHANGELOGD_TEST_SEED") {
        return seed..seed + 1;
    }
    let first = number("CHANGELOGD_TEST_FIRST_SEED").unwrap_or(0);
    first..first + number("CHANGELOGD_TEST_SEEDS").unwrap_or(200)
}

/// Covers C42, C43, R1, R4, R6, R15, R16, R37, R40.
#[test]
fn in_every_simulated_world_a_load_is_whole_or_an_error() {
    let (mut whole, mut seen) = (0, HashMap::<Fault, u64>::new());
    for seed in seeds() {
        match std::panic::catch_unwind(|| run_seed(seed)) {
            Ok(Ok((loaded, faults))) => {
                whole += u64::from(loaded);
                for fault in faults {
                    *seen.entry(fault).or_default() += 1;
                }
            }
            Ok(Err(error)) => panic!("seed {seed} (CHANGELOGD_TEST_SEED={seed} runs it again): {error}"),
            Err(panic) => {
                println!("seed {seed} panicked (CHANGELOGD_TEST_SEED={seed} runs it again)");
                std::panic::resume_unwind(panic);
            }
        }
    }
    let count = seeds().end - seeds().start;
    println!("simulation: {count} seeds from {}, {whole} with a whole load", seeds().start);
    // One world alone may rightly end with an error.
    assert!(count == 1 || whole * 2 > count, "hardly any load succeeds, which proves nothing: {whole} of {count}");
    assert!(count < 200 || seen.len() == FAULTS.len(), "every fault is seen: {seen:?}");
}
