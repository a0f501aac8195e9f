//! Replays over a simulated cluster: the same code that reads a real one, in worlds made of a seed each.
//!
//! `CHANGELOGD_TEST_SEEDS` says how many worlds (200); `CHANGELOGD_TEST_SEED` plays one of them again.

mod resume;
mod rules;
mod world;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use rdkafka::error::RDKafkaErrorCode as Code;

use self::world::{Dice, Kind, Millis, Shared, TROUBLES, Transaction, Trouble, World};
use super::{
    cluster::{Cluster, Consumer, Message, Offered, Place, Polled},
    offsets::{Offsets, Taken},
    reading::{Bounds, Reading, Stop, same_topic},
    span,
};
use crate::{
    log::{PartitionEnd, ReadError, ReplayEvent, ReplayRequest, Selection, StartAt, Topic, TopicProblem},
    model::{Header, Partition, Record},
};

/// A record as it was fetched: later it may be gone from the log.
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

/// Where a consumer is in a partition.
#[derive(Debug)]
struct Position {
    offset: i64,
    epoch: i32,
    /// An end is said once.
    said: Option<i64>,
    failed: bool,
}

/// Does what librdkafka does: reads ahead, passes markers and holes, says an end when it finds itself at one, adopts a new topic
/// of the same name, and notices a cut that it has read beyond.
struct SimulatedConsumer {
    world: Shared,
    positions: std::cell::RefCell<BTreeMap<i32, Position>>,
    ahead: std::cell::RefCell<VecDeque<Polled<Fetched>>>,
}

impl SimulatedConsumer {
    fn fetch(&self, world: &mut World) {
        let mut ahead = self.ahead.borrow_mut();
        for (number, at) in self.positions.borrow_mut().iter_mut() {
            let partition = Partition::new(*number).expect("a partition");
            let Some(part) = world.parts.get(number) else { continue };
            if at.failed || part.deaf || part.frozen_until > world.now {
                continue;
            }
            let failed = |code| Polled::Failed { partition: *number, code, text: "simulated".to_owned() };
            if part.cuts.iter().any(|(epoch, cut)| *epoch > at.epoch && *cut < at.offset) {
                at.failed = true;
                ahead.push_back(failed(Code::LogTruncation));
                continue;
            }
            if at.offset < part.low || at.offset > part.high {
                at.failed = true;
                ahead.push_back(failed(Code::AutoOffsetReset));
                continue;
            }
            at.epoch = part.epoch;
            let end = world.visible(partition);
            let wanted = |s: &&world::Slot| (at.offset..end).contains(&s.offset);
            let delivered = |kind| match kind {
                Kind::Plain => true,
                Kind::Marker => false,
                Kind::InTransaction(n) => part.transactions[n] == Transaction::Committed,
            };
            let slots: Vec<_> = part.slots.iter().filter(wanted).take(4).cloned().collect();
            for slot in &slots {
                at.offset = slot.offset + 1;
                if delivered(slot.kind) {
                    ahead.push_back(Polled::Record(Fetched {
                        partition: *number,
                        offset: slot.offset,
                        key: slot.key.clone(),
                        // The topic goes into the value, so that a test can tell where a record came from.
                        value: slot.value.map(|v| format!("{}:{v}", world.topic).into_bytes()),
                        epoch: slot.epoch,
                    }));
                }
            }
            if slots.is_empty() && at.offset <= end {
                at.offset = end;
                if at.said != Some(end) {
                    at.said = Some(end);
                    ahead.push_back(Polled::End { partition: *number, offset: end });
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
        let took = world.dice.pick(&[0, 0, 1, 5]);
        world.step(took);
        if self.ahead.borrow().is_empty() {
            self.fetch(&mut world);
        }
        if let Some(next) = self.ahead.borrow_mut().pop_front() {
            return next;
        }
        world.step(wait.as_millis() as Millis);
        Polled::Nothing
    }
}

struct SimulatedCluster {
    world: Shared,
    /// The topic that the request was for.
    topic: Arc<Topic>,
    events: Vec<ReplayEvent>,
    /// When each partition's end was said, and the topic of that time.
    ends: Vec<(PartitionEnd, Millis, Arc<Topic>)>,
    /// What happens after so many ends were said.
    after_ends: Option<(usize, Happening)>,
}

type Happening = Box<dyn FnOnce(&mut World) + Send>;

impl SimulatedCluster {
    fn new(world: &Shared, topic: &Arc<Topic>) -> Self {
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

    fn offsets(&mut self, partitions: &[Partition], _: Instant) -> Result<Taken, ReadError> {
        let mut world = self.world.borrow_mut();
        let (at, wall) = (world.instant(), world.wall());
        world.step(1);
        let mut offsets = Vec::new();
        for partition in partitions {
            let part = world.parts.get(&partition.number());
            let frozen = part.is_none_or(|p| p.frozen_until > world.now);
            if frozen {
                return Err(ReadError::Unreachable { cause: "its leader says nothing".to_owned() });
            }
            let Some(part) = part else { continue };
            let (low, high, last_stable) = (part.low, part.high, part.last_stable());
            offsets.push(Offsets { partition: *partition, low, last_stable, high });
        }
        Ok(Taken { offsets, at, wall })
    }

    fn confirm(&mut self) -> Result<Arc<Topic>, ReadError> {
        let mut world = self.world.borrow_mut();
        world.step(1);
        Ok(world.described())
    }

    fn problem(&self) -> Option<TopicProblem> {
        let world = self.world.borrow();
        let (topic, count, _) = world.watched;
        same_topic(&self.topic, &World::topic_of(topic, count, world.delete_retention)).err()
    }

    fn min_compaction_lag(&self) -> Duration {
        Duration::from_millis(self.world.borrow().min_compaction_lag)
    }

    fn consumer(&mut self, places: &[Place]) -> Result<SimulatedConsumer, ReadError> {
        let mut world = self.world.borrow_mut();
        world.consumers += 1;
        let position = |place: &Place| {
            let epoch = if place.leader_epoch < 0 { i32::MAX } else { place.leader_epoch };
            (place.partition.number(), Position { offset: place.offset, epoch, said: None, failed: false })
        };
        let positions = places.iter().map(position).collect::<BTreeMap<_, _>>();
        Ok(SimulatedConsumer { world: self.world.clone(), positions: positions.into(), ahead: VecDeque::new().into() })
    }

    fn offer(&mut self, event: ReplayEvent, wait: Duration) -> Offered {
        let mut world = self.world.borrow_mut();
        if world.stall.is_some_and(|(from, until)| (from..until).contains(&world.now)) {
            world.step(wait.as_millis() as Millis);
            return Offered::Full(event);
        }
        let slow = world.troubles.contains(&Trouble::SlowReader);
        if let ReplayEvent::End(end) = &event {
            self.ends.push((*end, world.now, world.described()));
            if self.after_ends.as_ref().is_some_and(|(ends, _)| *ends == self.ends.len())
                && let Some((_, happens)) = self.after_ends.take()
            {
                happens(&mut world);
            }
        } else if slow {
            let took = world.dice.pick(&[0, 10, 300, 3_000]);
            world.step(took);
        }
        self.events.push(event);
        Offered::Taken
    }

    fn is_gone(&self) -> bool {
        false
    }

    fn is_closed(&self) -> bool {
        false
    }
}

/// How a load went.
struct Outcome {
    asked: Millis,
    /// High watermarks when it was asked for.
    highs: HashMap<i32, i64>,
    topic: u64,
    records: Vec<(Partition, Record)>,
    ends: Vec<(PartitionEnd, Millis, Arc<Topic>)>,
    error: Option<ReadError>,
    /// What the topic was for the caller.
    served: Arc<Topic>,
}

const DEADLINE: Duration = Duration::from_secs(300);
const NO_PROGRESS: Duration = Duration::from_secs(10);

fn bounds(world: &World) -> Bounds {
    Bounds {
        open_transaction_wait: Duration::from_secs(5),
        no_progress: NO_PROGRESS,
        min_compaction_lag: Duration::from_millis(world.min_compaction_lag),
        delete_retention: Duration::from_millis(world.delete_retention),
    }
}

/// Loads every partition of the world, as the log does: the topic, the ends, the records.
fn load(world: &Shared) -> Outcome {
    let (request, bounds, asked, highs, topic) = {
        let world = world.borrow();
        let topic = world.described();
        let request = ReplayRequest {
            selection: Selection::all(topic.partition_count),
            partitions: world.parts.keys().map(|p| (Partition::new(*p).unwrap(), StartAt::Low)).collect(),
            topic,
            follow: false,
            owned_records: false,
            deadline: (world.instant() + DEADLINE).into(),
        };
        let bounds = bounds(&world);
        let highs = world.parts.iter().map(|(p, part)| (*p, part.high)).collect();
        (request, bounds, world.now, highs, world.topic)
    };
    let served = request.topic.clone();
    let mut cluster = SimulatedCluster::new(world, &served);
    let mut outcome = Outcome { asked, highs, topic, records: Vec::new(), ends: Vec::new(), error: None, served };
    let spans = match span::spans(&mut cluster, &request, bounds.open_transaction_wait) {
        Ok(spans) => spans,
        Err(error) => {
            outcome.error = Some(error);
            return outcome;
        }
    };
    let mut reading = Reading::new(cluster, request, spans, bounds, Box::new(|_, _, _| {}));
    match reading.read(&mut None) {
        Ok(()) => {}
        Err(Stop::Failed(error)) => outcome.error = Some(error),
        Err(Stop::Gone) => panic!("nobody goes"),
    }
    for event in reading.cluster.events {
        if let ReplayEvent::Records { partition, records, .. } = event {
            outcome.records.extend(records.into_iter().map(|r| (partition, r)));
        }
    }
    outcome.ends = reading.cluster.ends;
    outcome
}

/// What the contract says of a load that called a partition whole.
fn check(world: &World, outcome: &Outcome) -> Result<(), String> {
    for (end, said, topic) in &outcome.ends {
        let partition = end.partition.number();
        let fail = |what: String| Err(format!("partition {partition}, {end:?}: {what}"));
        if **topic != *outcome.served {
            return fail(format!("the topic is {topic:?} by now"));
        }
        // A log that was cut meanwhile ends where it ends.
        let cut = world.parts.get(&partition).is_some_and(|p| !p.cuts.is_empty());
        if end.end < outcome.highs[&partition] && !cut {
            return fail(format!("its high watermark was {} when it was asked for", outcome.highs[&partition]));
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
        owed(world, (outcome.topic, partition), outcome.asked, *said, &state).or_else(fail)?;
    }
    Ok(())
}

/// What is known of each key: the offset of its last record, and whether that is a value.
type State<'a> = HashMap<&'a str, (i64, bool)>;

/// Whether a state that was asked for then and said to be whole now holds what it must: what was acknowledged before, or a later
/// value; and nothing that had been deleted before.
fn owed(
    world: &World,
    (topic, partition): (u64, i32),
    asked: Millis,
    said: Millis,
    state: &State<'_>,
) -> Result<(), String> {
    let of_partition = || world.writes.iter().filter(|w| (w.topic, w.partition) == (topic, partition));
    let mut owed: HashMap<&str, &world::Write> = HashMap::new();
    for write in of_partition() {
        if write.acknowledged <= asked && write.gone.is_none_or(|at| at > said) {
            let last = owed.entry(&write.key).or_insert(write);
            if write.offset > last.offset {
                *last = write;
            }
        }
    }
    for (key, write) in owed {
        let found = state.get(key);
        let deleted_since = || {
            let mut later = of_partition().filter(|w| &*w.key == key && w.offset > write.offset);
            later.any(|w| w.value.is_none() && w.acknowledged <= said)
        };
        match (write.value, found) {
            (_, Some((offset, _))) if *offset >= write.offset => {}
            (None, None | Some((_, false))) => {}
            (Some(_), None | Some((_, false))) if deleted_since() => {}
            _ => return Err(format!("{write:?} was acknowledged before {asked}, found {found:?}")),
        }
    }
    Ok(())
}

/// One world: a few loads, with things happening before, between and under them.
fn play(seed: u64) -> Result<(bool, Vec<Trouble>), String> {
    let mut dice = Dice::new(!seed);
    let mut troubles: Vec<_> = TROUBLES.into_iter().filter(|_| dice.one_in(5)).collect();
    if dice.one_in(4) {
        troubles.clear();
    }
    let world: Shared = Shared::new(World::new(seed, troubles.clone()));
    let mut whole = false;
    for _ in 0..3 {
        for _ in 0..dice.below(80) {
            let took = dice.pick(&[0, 1, 20, 200]);
            world.borrow_mut().step(took);
        }
        if !troubles.contains(&Trouble::Pinned) {
            world.borrow_mut().settle();
        }
        if world.borrow().count != world.borrow().parts.len() as i64 {
            // It has grown: whoever adopts it now has records in the wrong places.
            break;
        }
        let outcome = load(&world);
        let world = world.borrow();
        check(&world, &outcome).map_err(|e| {
            let (lag, retention) = (world.min_compaction_lag, world.delete_retention);
            format!("{e}; lag {lag} ms, retention {retention} ms, {troubles:?}, ends {:?}", outcome.ends)
        })?;
        let took = Duration::from_millis(world.now - outcome.asked);
        if took > DEADLINE + 3 * NO_PROGRESS {
            return Err(format!("it took {took:?}"));
        }
        match &outcome.error {
            None if outcome.ends.len() != outcome.highs.len() => {
                return Err(format!("it ended without error and without all ends: {:?}", outcome.ends));
            }
            None => whole = true,
            // A world that writes faster than it is read, or that forgets tombstones at once, may outrun a reader; a transaction
            // of the world's own may still be open when patience ends.
            Some(ReadError::Moved { .. } | ReadError::OpenTransaction { .. }) => {}
            Some(error) if troubles.is_empty() => return Err(format!("without any trouble: {error}")),
            Some(_) => {}
        }
    }
    Ok((whole, troubles))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|v| v.parse().ok())
}

#[test]
fn r1_r3_r4_r6_r9_r14_r15_r16_r40_in_every_world_a_load_is_whole_or_says_why_not() {
    if let Some(seed) = number("CHANGELOGD_TEST_SEED") {
        println!("{:?}", play(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}")));
        return;
    }
    let seeds = number("CHANGELOGD_TEST_SEEDS").unwrap_or(200);
    let (mut whole, mut met) = (0, HashMap::<Trouble, u64>::new());
    for seed in 0..seeds {
        match std::panic::catch_unwind(|| play(seed)) {
            Ok(Ok((loaded, troubles))) => {
                whole += u64::from(loaded);
                for trouble in troubles {
                    *met.entry(trouble).or_default() += 1;
                }
            }
            Ok(Err(error)) => panic!("seed {seed} (CHANGELOGD_TEST_SEED={seed} plays it again): {error}"),
            Err(panic) => {
                println!("seed {seed} panicked (CHANGELOGD_TEST_SEED={seed} plays it again)");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("simulation: {seeds} seeds, {whole} with a whole load");
    assert!(whole * 2 > seeds, "a simulation in which hardly anything succeeds proves nothing: {whole} of {seeds}");
    assert!(seeds < 200 || met.len() == TROUBLES.len(), "every trouble is met: {met:?}");
}
