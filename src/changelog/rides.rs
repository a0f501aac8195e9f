//! Loads that wait for the same partition share one replay of it.
//!
//! A replay of a partition costs the same whoever it is for, so a storm of loads need not cost one each. A load waits for a turn
//! among the replays and for the partition, of which one replay at a time is under way; whoever has both first takes along all
//! who wait for that partition then. The replay's end offsets are taken after the last of them has come, so each of them reads
//! what was acknowledged before it began; who comes later waits for the next one. A storm costs two.
//!
//! Promises: a rider's end is its own. Its deadline, its going away and its bound on memory end no other's ride; the replay goes
//! on for as long as there is anybody to read for. What is folded is folded once for all who asked for the same, and is held of
//! the budget, with the turn, until the last of them has sent it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    Changelog, LoadError, Peer,
    snapshot::{Fold, Matched},
    stream::broke_off,
    turns::Turn,
};
use crate::{
    log::{Keys, Log, PartitionEnd, ReplayEvent, ReplayRequest, Selection, StartAt, StoreKind, Topic},
    metrics::Metrics,
    model::{KeyRef, Partition, Record},
    rule::{Rule, holds},
};

/// How often a replay looks whether anybody is left to read for.
const LOOK: Duration = Duration::from_millis(250);

/// The latest records of what was asked for, whole.
#[derive(Debug, Clone)]
pub struct Ride {
    /// In the order of their last change; no tombstones.
    pub records: Arc<Vec<Record>>,
    /// What matched.
    pub matched: Matched,
    /// The proof.
    pub end: PartitionEnd,
    /// Held for as long as anybody holds a part of what was read in it.
    _turn: Arc<Turn>,
}

type Seat = oneshot::Sender<Result<Ride, LoadError>>;

/// Somebody who waits for a replay.
#[derive(Debug)]
struct Rider {
    selection: Selection,
    deadline: Instant,
    /// Told when a replay is to begin for him.
    boarded: oneshot::Sender<()>,
    seat: Seat,
}

/// One partition of one topic: an id that is another is another log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    topic: String,
    partition: Partition,
}

#[derive(Debug)]
struct Stop {
    /// One replay at a time.
    replay: Arc<Semaphore>,
    waiting: Vec<Rider>,
}

/// Who waits where. No larger than the topic's partitions, and those who wait.
#[derive(Debug, Default)]
pub struct Rides {
    stops: Mutex<HashMap<Place, Stop>>,
}

impl Rides {
    fn wait_at(&self, place: &Place, rider: Rider) -> Arc<Semaphore> {
        let mut stops = self.stops.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Stop { replay: Arc::new(Semaphore::new(1)), waiting: Vec::new() };
        let stop = stops.entry(place.clone()).or_insert_with(new);
        // Those who have gone: else a partition whose replay stands still would collect them.
        stop.waiting.retain(|rider| !rider.seat.is_closed());
        stop.waiting.push(rider);
        stop.replay.clone()
    }

    fn take_along(&self, place: &Place) -> Vec<Rider> {
        let mut stops = self.stops.lock().unwrap_or_else(PoisonError::into_inner);
        stops.get_mut(place).map(|stop| std::mem::take(&mut stop.waiting)).unwrap_or_default()
    }
}

impl Changelog {
    /// The latest records of one partition that are selected, read from its low watermark to its end.
    pub(super) async fn ride(
        &self,
        topic: &Arc<Topic>,
        partition: Partition,
        selection: Selection,
        peer: Peer,
        deadline: Instant,
    ) -> Result<Ride, LoadError> {
        let ((seat, ride), (boarded, boarding)) = (oneshot::channel(), oneshot::channel());
        let rider = Rider { selection, deadline, boarded, seat };
        if !self.shares_replays() {
            let turn = self.replays.take(peer, deadline).await?;
            self.depart(topic.clone(), partition, vec![rider], turn, None);
            return arrived(ride, partition, deadline).await;
        }
        let place = Place { topic: topic.id.clone(), partition };
        let replay = self.rides.wait_at(&place, rider);
        let arrived = arrived(ride, partition, deadline);
        let drive = async {
            let turn = self.replays.take(peer, deadline).await?;
            let permit = replay.acquire_owned().await.ok();
            // This one is among them.
            self.depart(topic.clone(), partition, self.rides.take_along(&place), turn, permit);
            Ok::<_, LoadError>(())
        };
        tokio::pin!(arrived);
        tokio::select! {
            biased;
            ride = &mut arrived => return ride,
            // Who is taken along needs no turn of his own, and is not to be told that there is none.
            _ = boarding => {}
            driven = drive => driven?,
        }
        arrived.await
    }

    fn shares_replays(&self) -> bool {
        self.limits.share_replays && self.log.kind() == StoreKind::Kafka
    }

    /// On a task of its own: it is not this caller's alone.
    fn depart(
        &self,
        topic: Arc<Topic>,
        partition: Partition,
        riders: Vec<Rider>,
        turn: Turn,
        under_way: Option<OwnedSemaphorePermit>,
    ) {
        let riders: Vec<_> = riders.into_iter().filter(|rider| !rider.seat.is_closed()).collect();
        let (log, metrics, limit) = (self.log.clone(), self.metrics.clone(), self.limits.max_load_bytes);
        metrics.loads_rode_along(riders.len().saturating_sub(1) as u64);
        tokio::spawn(async move {
            let mut bus = Bus::new(partition, riders, turn, limit);
            let ended = bus.run(&*log, topic, &metrics).await;
            // The next may begin before these have sent what they got.
            drop(under_way);
            bus.arrive(ended);
        });
    }
}

async fn arrived(
    ride: oneshot::Receiver<Result<Ride, LoadError>>,
    partition: Partition,
    deadline: Instant,
) -> Result<Ride, LoadError> {
    let late = |_| LoadError::Deadline(format!("the deadline passed while partition {partition} was replayed"));
    timeout_at(deadline, ride).await.map_err(late)?.unwrap_or_else(|_| Err(broke_off(partition)))
}

/// All who asked for the same.
struct Group {
    selection: Selection,
    fold: Fold,
    seats: Vec<Seat>,
}

impl Group {
    fn nobody_waits(&self) -> bool {
        self.seats.iter().all(Seat::is_closed)
    }

    fn end(self, error: &LoadError) {
        for seat in self.seats {
            // He may have gone.
            let _ = seat.send(Err(error.clone()));
        }
    }
}

/// One replay, and for whom.
struct Bus {
    partition: Partition,
    groups: Vec<Group>,
    turn: Turn,
    /// Bytes that one load may hold.
    limit: usize,
    deadline: Instant,
}

impl Bus {
    fn new(partition: Partition, riders: Vec<Rider>, turn: Turn, limit: usize) -> Self {
        let deadline = riders.iter().map(|rider| rider.deadline).max().unwrap_or_else(Instant::now);
        let mut groups: Vec<Group> = Vec::new();
        for rider in riders {
            // He may have gone since.
            let _ = rider.boarded.send(());
            match groups.iter_mut().find(|group| group.selection == rider.selection) {
                Some(group) => group.seats.push(rider.seat),
                None => {
                    groups.push(Group { selection: rider.selection, fold: Fold::new(limit), seats: vec![rider.seat] })
                }
            }
        }
        Self { partition, groups, turn, limit, deadline }
    }

    /// What all of them want, and perhaps more.
    fn selection(&self) -> Option<Selection> {
        let [first, others @ ..] = &*self.groups else { return None };
        if others.is_empty() {
            return Some(first.selection.clone());
        }
        let mut workspaces = HashSet::new();
        for group in &self.groups {
            match &group.selection.keys {
                Keys::All => return Some(Selection::all(first.selection.partition_count)),
                Keys::Workspaces(some) => workspaces.extend(some.iter().cloned()),
                Keys::One(key) => {
                    workspaces.insert(key.workspace());
                }
            }
        }
        let keys = Keys::Workspaces(workspaces);
        Some(Selection { keys, types: HashSet::new(), partition_count: first.selection.partition_count })
    }

    /// `None`: nobody is left.
    async fn run(
        &mut self,
        log: &dyn Log,
        topic: Arc<Topic>,
        metrics: &Metrics,
    ) -> Option<Result<PartitionEnd, LoadError>> {
        let request = ReplayRequest {
            topic,
            partitions: vec![(self.partition, StartAt::Low)],
            selection: self.selection()?,
            follow: false,
            deadline: self.deadline,
        };
        let mut replay = match self.while_wanted(log.replay(request)).await? {
            Ok(replay) => replay,
            Err(error) => return Some(Err(error.into())),
        };
        loop {
            match self.while_wanted(replay.next()).await? {
                Some(Ok(ReplayEvent::Records { records, .. })) => self.fold(records),
                Some(Ok(ReplayEvent::End(end))) => {
                    metrics.replayed(end.counts);
                    return Some(Ok(end));
                }
                Some(Ok(ReplayEvent::Progress { .. })) => {}
                Some(Err(error)) => return Some(Err(error.into())),
                None if !holds(Rule::R8) => return Some(Ok(PartitionEnd::of_nothing(self.partition))),
                None => return Some(Err(broke_off(self.partition))),
            }
            if self.nobody_waits() {
                return None;
            }
        }
    }

    /// `None` as soon as nobody is left to wait for it.
    async fn while_wanted<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        loop {
            match tokio::time::timeout(LOOK, &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if self.nobody_waits() => return None,
                Err(_) => {}
            }
        }
    }

    fn nobody_waits(&self) -> bool {
        self.groups.iter().all(Group::nobody_waits)
    }

    fn fold(&mut self, records: Vec<Record>) {
        if let [only] = &mut *self.groups {
            if let Err(error) = only.fold.apply(records) {
                let error = error.in_partition(self.partition);
                self.groups.remove(0).end(&error);
                return;
            }
        } else {
            self.sort_out(records);
        }
        self.hold();
    }

    /// To each group what it asked for. One that nobody waits for any more is let go, as one that holds too much.
    fn sort_out(&mut self, records: Vec<Record>) {
        let mut wanted: Vec<Vec<Record>> = self.groups.iter().map(|_| Vec::new()).collect();
        for record in records {
            // Selected records have keys in the grammar.
            let Ok(key) = KeyRef::parse(&record.key) else { continue };
            for (group, wanted) in self.groups.iter().zip(&mut wanted) {
                if group.selection.wants(key) {
                    wanted.push(record.clone());
                }
            }
        }
        let mut to_let_go = Vec::new();
        for (index, (group, wanted)) in self.groups.iter_mut().zip(wanted).enumerate() {
            if group.nobody_waits() || group.fold.apply(wanted).is_err() {
                to_let_go.push(index);
            }
        }
        for index in to_let_go.into_iter().rev() {
            let error = LoadError::TooLarge { partition: self.partition, limit: self.limit };
            self.groups.remove(index).end(&error);
        }
    }

    /// Of the process's budget. Where there is no room, the largest is told so, and the others go on.
    fn hold(&mut self) {
        loop {
            let held = self.groups.iter().map(|group| group.fold.weight()).sum();
            let Err(error) = self.turn.hold(held) else { return };
            let largest = self.groups.iter().enumerate().max_by_key(|(_, group)| group.fold.weight());
            let Some((largest, _)) = largest else { return };
            self.groups.remove(largest).end(&error);
        }
    }

    fn arrive(self, ended: Option<Result<PartitionEnd, LoadError>>) {
        let Some(ended) = ended else { return };
        let turn = Arc::new(self.turn);
        for group in self.groups {
            let end = match &ended {
                Ok(end) => *end,
                Err(error) => {
                    group.end(error);
                    continue;
                }
            };
            let (records, matched) = group.fold.finish(false);
            let ride = Ride { records: Arc::new(records), matched, end, _turn: turn.clone() };
            for seat in group.seats {
                let _ = seat.send(Ok(ride.clone()));
            }
        }
    }
}
