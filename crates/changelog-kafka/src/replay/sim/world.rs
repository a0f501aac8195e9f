//! A cluster made of lists, with a clock that moves only when the cluster is used. One seed decides everything that
//! happens: writes, transactions, the cleaner, elections and administrators act between two calls of a replay.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant, SystemTime},
};

use changelog_core::{
    log::Topic,
    model::{Partition, PartitionCount},
};

use super::{
    faults::Fault,
    partition_log::{Kind, Millis, PartitionLog, Slot, Transaction},
    rng::Rng,
};
use crate::timeouts::SHORT_ROUND;

/// An acknowledged or committed write.
#[derive(Debug, Clone)]
pub struct Write {
    pub topic: u64,
    pub partition: i32,
    pub key: String,
    pub offset: i64,
    pub value: Option<u64>,
    pub acknowledged: Millis,
    /// When the write was lost in an election, or deleted by an administrator.
    pub gone: Option<Millis>,
    /// When the log was truncated below the write.
    pub truncated: Option<Millis>,
}

#[derive(Debug)]
pub struct World {
    pub rng: Rng,
    pub now: Millis,
    pub faults: Vec<Fault>,
    /// The number of times that the topic was created again.
    pub topic: u64,
    pub count: i64,
    pub partitions: BTreeMap<i32, PartitionLog>,
    pub writes: Vec<Write>,
    /// Topics and partitions that were truncated, and then created again.
    truncated: HashSet<(u64, i32)>,
    pub min_compaction_lag: Millis,
    pub delete_retention: Millis,
    /// The topic and partition count that the watcher has seen, and when.
    pub watched: (u64, i64, Millis),
    pub consumers: u64,
    pub polls: u64,
    /// Only time passes, and nothing else happens.
    pub quiet: bool,
    /// A key that is overwritten and cleaned once, during a replay.
    pub overwrite: Option<String>,
    /// min.compaction.lag.ms is lowered to this just before.
    pub lowered_lag: Option<Millis>,
    /// Brokers deliver nothing until then, and say so.
    pub throttled_until: Millis,
    /// The time during which the caller takes nothing.
    pub stall: Option<(Millis, Millis)>,
    /// How long replays follow. `None`: they break at their end.
    pub follow_for: Option<FollowFor>,
    /// Many transactions are aborted, after elections if there are some.
    pub aborts: bool,
    /// When a replay sent the event that its caller got last.
    pub delivered_at: Millis,
    began: Instant,
    wall: SystemTime,
    next_value: u64,
}

/// How long a replay follows after its end before it breaks.
#[derive(Debug, Clone, Copy)]
pub struct FollowFor {
    pub at_least: Millis,
    /// It breaks when it has told its progress, so that nothing comes after the last bookmark.
    pub until_progress: bool,
}

/// A world that a replay, its cluster and its consumer share.
#[derive(Debug, Clone)]
pub struct SharedWorld(Arc<RwLock<World>>);

impl SharedWorld {
    pub fn new(world: World) -> Self {
        Self(Arc::new(RwLock::new(world)))
    }

    pub fn borrow(&self) -> RwLockReadGuard<'_, World> {
        self.0.read().expect("no test has panicked in it")
    }

    pub fn borrow_mut(&self) -> RwLockWriteGuard<'_, World> {
        self.0.write().expect("no test has panicked in it")
    }
}

/// A workspace of a partition.
fn workspace(count: i64, partition: i32) -> String {
    let count = PartitionCount::new(count).expect("a count");
    let mut workspaces = (0..).map(|n| format!("w{n}"));
    let found = workspaces.find(|workspace| count.of_workspace(workspace.as_bytes()).number() == partition);
    found.expect("every partition has workspaces")
}

/// Some keys of a partition.
fn keys(count: i64, partition: i32) -> Vec<String> {
    let workspace = workspace(count, partition);
    (0..5).map(|n| format!("{workspace}/t/{n}")).collect()
}

impl World {
    /// The workspace of all keys of a partition.
    pub fn workspace_of_partition(&self, partition: i32) -> String {
        workspace(self.count, partition)
    }

    pub fn new(seed: u64, faults: Vec<Fault>) -> Self {
        let mut rng = Rng::new(seed);
        let count = 1 + rng.below(3) as i64;
        let mut world = Self {
            now: 0,
            faults,
            topic: 0,
            count,
            partitions: BTreeMap::new(),
            writes: Vec::new(),
            truncated: HashSet::new(),
            min_compaction_lag: rng.pick(&[0, 50, 60_000]),
            delete_retention: rng.pick(&[2_000, 100_000, 86_400_000]),
            watched: (0, count, 0),
            consumers: 0,
            polls: 0,
            quiet: false,
            overwrite: None,
            lowered_lag: None,
            throttled_until: 0,
            stall: None,
            follow_for: None,
            aborts: false,
            delivered_at: 0,
            began: Instant::now(),
            wall: SystemTime::now(),
            next_value: 0,
            rng,
        };
        world.create();
        world
    }

    /// A world in which only the test acts.
    pub fn still(count: i64) -> Self {
        let mut world = Self { count, quiet: true, min_compaction_lag: 60_000, ..Self::new(0, Vec::new()) };
        world.delete_retention = 86_400_000;
        world.watched = (0, count, 0);
        world.create();
        world
    }

    fn create(&mut self) {
        let log = |partition| PartitionLog::new(keys(self.count, partition));
        self.partitions = (0..self.count as i32).map(|p| (p, log(p))).collect();
    }

    pub fn instant(&self) -> Instant {
        self.instant_at(self.now)
    }

    pub fn instant_at(&self, time: Millis) -> Instant {
        self.began + Duration::from_millis(time)
    }

    /// The wall clock stands still, because the age of a token is tested elsewhere.
    pub fn wall(&self) -> SystemTime {
        self.wall
    }

    pub fn described(&self) -> Arc<Topic> {
        Self::topic_of(self.topic, self.count, self.delete_retention)
    }

    pub fn topic_of(topic: u64, count: i64, delete_retention: Millis) -> Arc<Topic> {
        Arc::new(Topic {
            name: "simulated".to_owned(),
            id: format!("id-{topic}"),
            partition_count: PartitionCount::new(count).expect("a count"),
            max_value_bytes: None,
            delete_retention: Duration::from_millis(delete_retention),
        })
    }

    /// Time passes, and one random event may happen.
    pub fn step(&mut self, millis: Millis) {
        self.now += millis;
        if self.now - self.watched.2 > 1_000 {
            self.watched = (self.topic, self.count, self.now);
        }
        if self.polls > 300
            && let Some(key) = self.overwrite.take()
        {
            self.min_compaction_lag = self.lowered_lag.take().unwrap_or(self.min_compaction_lag);
            self.put(0, Kind::Plain, key, Some(0));
            self.put(0, Kind::Plain, "w/t/other".to_owned(), Some(0));
            self.now += self.min_compaction_lag.max(SHORT_ROUND.as_millis() as Millis) + 1;
            for filler in 0..4 {
                self.put(0, Kind::Plain, format!("w/t/filler-{filler}"), Some(0));
            }
            self.now += 1;
            self.clean(0);
        }
        if self.quiet {
            return;
        }
        let partition = self.rng.below(self.partitions.len() as u64) as i32;
        match self.rng.below(16) {
            1 | 2 if self.aborts => self.abort(partition),
            0..=2 => {
                self.write(partition, Kind::Plain);
            }
            3 => self.transaction(partition),
            4 => self.clean(partition),
            5 if self.rng.one_in(6) => self.inject_fault(partition),
            _ => {}
        }
    }

    pub fn write(&mut self, partition: i32, kind: Kind) -> i64 {
        self.next_value += 1;
        let log = self.partitions.get_mut(&partition).expect("a partition");
        let key = log.keys[self.rng.below(log.keys.len() as u64) as usize].clone();
        let value = (!self.rng.one_in(4)).then_some(self.next_value);
        self.put(partition, kind, key, value)
    }

    pub fn put(&mut self, partition: i32, kind: Kind, key: String, value: Option<u64>) -> i64 {
        let log = self.partitions.get_mut(&partition).expect("a partition");
        let (offset, epoch) = (log.high, log.epoch);
        log.high += 1;
        log.slots.push(Slot { offset, kind, key: key.clone(), value, epoch, written: self.now, purge_at: None });
        if kind == Kind::Plain {
            self.acknowledge(partition, key, offset, value);
        }
        offset
    }

    fn acknowledge(&mut self, partition: i32, key: String, offset: i64, value: Option<u64>) {
        let (topic, acknowledged) = (self.topic, self.now);
        self.writes.push(Write { topic, partition, key, offset, value, acknowledged, gone: None, truncated: None });
    }

    /// Opens a transaction, adds to the open one, or ends it.
    fn transaction(&mut self, partition: i32) {
        let log = &self.partitions[&partition];
        match log.open_transaction() {
            None => {
                self.open(partition);
            }
            // With the fault the transaction stays open. Without it the world ends it soon.
            Some(_) if self.faults.contains(&Fault::OpenTransaction) && !self.rng.one_in(4) => {}
            Some(number) if self.rng.one_in(2) => {
                self.write(partition, Kind::InTransaction(number));
            }
            Some(number) => {
                let commit = self.rng.one_in(2);
                self.end(partition, number, commit);
            }
        }
    }

    /// An aborted transaction: offsets of which no record is delivered, often of a later leader than the records below.
    fn abort(&mut self, partition: i32) {
        if self.partitions[&partition].open_transaction().is_some() {
            return;
        }
        if self.faults.contains(&Fault::Elected) && self.rng.one_in(2) {
            self.partitions.get_mut(&partition).expect("a partition").elect();
        }
        let number = self.open(partition);
        self.end(partition, number, false);
    }

    pub fn open(&mut self, partition: i32) -> usize {
        let log = self.partitions.get_mut(&partition).expect("a partition");
        log.transactions.push(Transaction::Open { first: log.high });
        let number = log.transactions.len() - 1;
        self.write(partition, Kind::InTransaction(number));
        number
    }

    pub fn end(&mut self, partition: i32, number: usize, commit: bool) {
        let log = self.partitions.get_mut(&partition).expect("a partition");
        log.transactions[number] = if commit { Transaction::Committed } else { Transaction::Aborted };
        let inside: Vec<_> = log.slots.iter().filter(|s| s.kind == Kind::InTransaction(number)).cloned().collect();
        self.put(partition, Kind::Marker, String::new(), None);
        for slot in inside.into_iter().filter(|_| commit) {
            self.acknowledge(partition, slot.key, slot.offset, slot.value);
        }
    }

    /// Ends open transactions, so that a load has nothing to wait for.
    pub fn settle(&mut self) {
        for partition in 0..self.partitions.len() as i32 {
            if let Some(number) = self.partitions[&partition].open_transaction() {
                self.end(partition, number, true);
            }
        }
    }

    /// Runs Kafka's cleaner.
    pub fn clean(&mut self, partition: i32) {
        // Even without a lag a segment must be closed before it is cleaned.
        let lag = self.min_compaction_lag.max(SHORT_ROUND.as_millis() as Millis);
        let active = self.rng.below(4) as i64;
        let log = self.partitions.get_mut(&partition).expect("a partition");
        log.clean(self.now, lag, self.delete_retention, active);
    }

    fn inject_fault(&mut self, partition: i32) {
        if self.faults.is_empty() {
            return;
        }
        let which = self.rng.below(self.faults.len() as u64) as usize;
        let (now, some) = (self.now, self.rng.below(6) as i64);
        let pause = self.rng.pick(&[100, 2_000, 30_000]);
        let log = self.partitions.get_mut(&partition).expect("a partition");
        match self.faults[which] {
            Fault::OpenTransaction | Fault::SlowReader => {}
            Fault::Deleted => {
                let low = log.delete_below(log.low + some);
                self.lose(partition, |w| w.offset < low);
            }
            Fault::Truncated => {
                let at = (log.high - some).max(log.low);
                self.truncate(partition, at);
            }
            Fault::Recreated => {
                let truncated = self.partitions.iter().filter(|(_, log)| !log.cuts.is_empty());
                self.truncated.extend(truncated.map(|(partition, _)| (self.topic, *partition)));
                self.topic += 1;
                self.create();
                for _ in 0..self.rng.below(30) {
                    let any = self.rng.below(self.partitions.len() as u64) as i32;
                    self.write(any, Kind::Plain);
                }
            }
            Fault::Grown => self.count += 1,
            Fault::Elected => log.elect(),
            Fault::Frozen => log.frozen_until = now + pause,
            Fault::Throttled => self.throttled_until = now + pause,
            Fault::Lagging => log.lag = Some(((log.high - some).max(log.low), now + pause)),
        }
    }

    /// A new leader lacks the log from this offset on.
    pub fn truncate(&mut self, partition: i32, at: i64) {
        let log = self.partitions.get_mut(&partition).expect("a partition");
        log.truncate(at);
        // A real new leader that never had a lost record would still have the records that it superseded. This
        // cluster has removed them, so no load has to find them.
        let there: HashSet<i64> = log.slots.iter().map(|s| s.offset).collect();
        self.lose(partition, |w| w.offset >= at || !there.contains(&w.offset));
        let (topic, now) = (self.topic, self.now);
        let cut = |w: &&mut Write| (w.topic, w.partition) == (topic, partition) && w.offset >= at;
        self.writes.iter_mut().filter(cut).for_each(|w| w.truncated = w.truncated.or(Some(now)));
    }

    /// Whether an election has truncated this partition of the topic.
    pub fn was_truncated(&self, topic: u64, partition: i32) -> bool {
        let now = topic == self.topic && self.partitions.get(&partition).is_some_and(|log| !log.cuts.is_empty());
        now || self.truncated.contains(&(topic, partition))
    }

    fn lose(&mut self, partition: i32, which: impl Fn(&Write) -> bool) {
        let (topic, now) = (self.topic, self.now);
        for write in &mut self.writes {
            if write.topic == topic && write.partition == partition && write.gone.is_none() && which(write) {
                write.gone = Some(now);
            }
        }
    }

    /// The end of the log for a reader: below an open transaction, and not above the end of a lagging broker.
    pub fn visible(&self, partition: Partition) -> i64 {
        let log = &self.partitions[&partition.number()];
        let lag = log.lag.filter(|(_, until)| *until > self.now).map_or(i64::MAX, |(at, _)| at);
        log.last_stable().min(lag)
    }
}
