//! A broker and a consumer of a simulated world, through the traits that the real ones implement.
//!
//! The consumer does what librdkafka does. Neither changes a log: only the world does.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use changelog_core::{
    log::{Follow, PartitionEnd, ReadError, ReplayEvent, Topic, TopicProblem},
    model::{Header, Partition},
};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::{
    super::cluster::{Cluster, Consumer, Message, OffsetSnapshot, Offsets, Polled, SendOutcome, StartOffset},
    faults::Fault,
    partition_log::{Kind, Millis, Slot, Transaction},
    world::{FollowFor, SharedWorld, World},
};

/// A record as it was fetched. It may be removed from the log afterwards.
#[derive(Debug, Clone)]
pub struct Fetched {
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
pub struct SimulatedConsumer {
    world: SharedWorld,
    positions: RefCell<BTreeMap<i32, Position>>,
    fetched: RefCell<VecDeque<Polled<Fetched>>>,
}

impl SimulatedConsumer {
    fn fetch(&self, world: &mut World) {
        let mut fetched = self.fetched.borrow_mut();
        for (number, at) in self.positions.borrow_mut().iter_mut() {
            let partition = Partition::new(*number).expect("a partition");
            let Some(log) = world.partitions.get(number) else { continue };
            if at.failed || log.delivers_nothing || log.frozen_until.max(world.throttled_until) > world.now {
                continue;
            }
            let failed = |code| Polled::Failed { partition: *number, code, text: "simulated".to_owned() };
            if log.end_of_epoch(at.epoch) < at.offset {
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
            let wanted = |s: &&Slot| (at.offset..end).contains(&s.offset);
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

    fn throttled_until(&self) -> Option<Instant> {
        let world = self.world.borrow();
        (world.throttled_until > 0).then(|| world.instant_at(world.throttled_until))
    }

    fn failure_since(&self, _: Instant) -> Option<String> {
        None
    }
}

pub struct SimulatedCluster {
    world: SharedWorld,
    /// The topic of the request.
    topic: Arc<Topic>,
    pub events: Vec<ReplayEvent>,
    /// When each event was sent.
    pub sent_at: Vec<Millis>,
    /// When the caller leaves, after an end, or after the start of changes.
    follow_for: Option<FollowFor>,
    leaves_at: Option<Millis>,
    has_left: bool,
    /// The end of each partition, when it was reported, and the topic of that time.
    pub ends: Vec<(PartitionEnd, Millis, Arc<Topic>)>,
    /// An action to run after this many ends were reported.
    pub after_ends: Option<(usize, Action)>,
}

pub type Action = Box<dyn FnOnce(&mut World) + Send>;

impl SimulatedCluster {
    pub fn new(world: &SharedWorld, topic: &Arc<Topic>) -> Self {
        Self {
            world: world.clone(),
            topic: topic.clone(),
            events: Vec::new(),
            sent_at: Vec::new(),
            follow_for: None,
            leaves_at: None,
            has_left: false,
            ends: Vec::new(),
            after_ends: None,
        }
    }

    /// For a replay that follows.
    pub fn follow(&mut self, follow_for: Option<FollowFor>, follow: Follow) {
        self.follow_for = follow_for;
        if follow == Follow::FromStart {
            self.leaves_at = follow_for.map(|follow| self.world.borrow().now + follow.at_least);
        }
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
        self.topic.check_same(&World::topic_of(topic, count, world.delete_retention)).err()
    }

    fn min_compaction_lag(&self) -> Duration {
        Duration::from_millis(self.world.borrow().min_compaction_lag)
    }

    fn delete_retention(&self) -> Duration {
        Duration::from_millis(self.world.borrow().delete_retention)
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

    fn count_read(&mut self, _records: u64) {}

    fn send(&mut self, event: ReplayEvent, wait: Duration) -> SendOutcome {
        let mut world = self.world.borrow_mut();
        if world.stall.is_some_and(|(from, until)| (from..until).contains(&world.now)) {
            world.step(wait.as_millis() as Millis);
            return SendOutcome::Full(event);
        }
        let slow = world.faults.contains(&Fault::SlowReader);
        if let ReplayEvent::End(end) = &event {
            self.ends.push((*end, world.now, world.described()));
            self.leaves_at = self.follow_for.map(|follow| world.now + follow.at_least);
            if self.after_ends.as_ref().is_some_and(|(ends, _)| *ends == self.ends.len())
                && let Some((_, action)) = self.after_ends.take()
            {
                action(&mut world);
            }
        } else if matches!(event, ReplayEvent::Progress { .. }) {
            self.has_left = self.leaves_at.is_some_and(|at| world.now >= at);
        } else if slow {
            let took = world.rng.pick(&[0, 10, 300, 3_000]);
            world.step(took);
        }
        self.events.push(event);
        self.sent_at.push(world.now);
        SendOutcome::Sent
    }

    fn is_abandoned(&self) -> bool {
        let until_progress = self.follow_for.is_some_and(|follow| follow.until_progress);
        self.has_left || !until_progress && self.leaves_at.is_some_and(|at| self.world.borrow().now >= at)
    }

    fn is_closed(&self) -> bool {
        false
    }
}
