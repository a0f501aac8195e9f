//! Loads that wait for the same partition share one replay of it.
//!
//! A replay of a partition costs the same whoever it is for, so a storm of loads need not cost one each. One replay at a time is
//! under way of a partition. Of those who wait one is the next driver: he waits for a turn among the replays, and for the
//! partition, and then takes along all who wait. The replay's end offsets are taken after the last of them has come, so each of
//! them reads what was acknowledged before it began; who comes later waits for the next one. A storm costs two. A replay that
//! stands still holds nobody up: the next one begins beside it, up to a few.
//!
//! Promises: a rider's end is his own. His deadline, his going away and his bound on memory end no other's ride; the replay goes
//! on for as long as there is anybody to read for. Each holds a part of his own peer's share until he has sent what he got. What
//! is folded is folded once for all who asked for the same, and is held of the budget, with the turn, until the last of them has
//! sent it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    Changelog, LoadError, Peer,
    bus::{Bus, Way},
    snapshot::MatchCounts,
    stream::ended_early,
    turns::{PeerPermit, ReplayPermit},
};
use crate::{
    log::{PartitionEnd, Selection, StoreKind, Topic},
    model::{Partition, Record},
};

/// Replays of one partition that stand still while another is under way.
const BESIDE: usize = 4;

/// The latest records of what was asked for, whole.
#[derive(Debug, Clone)]
pub struct Ride {
    /// In the order of their last change; no tombstones.
    pub records: Arc<Vec<Record>>,
    /// What matched.
    pub matched: MatchCounts,
    /// The proof.
    pub end: PartitionEnd,
    /// It was read for others, too: as many may hold what they got, and send it as slowly as they like.
    pub shared: bool,
    /// Held for as long as anybody holds a part of what was read in it.
    pub(super) _permit: Arc<ReplayPermit>,
}

/// A ride that one load was given, and what it holds for it.
#[derive(Debug)]
pub struct Arrived {
    /// What was read.
    pub ride: Ride,
    _peer_permit: PeerPermit,
}

/// Where what was read goes.
pub type Seat = oneshot::Sender<Result<Ride, LoadError>>;

/// Somebody who waits for a replay.
#[derive(Debug)]
struct Rider {
    selection: Selection,
    deadline: Instant,
    since: Instant,
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
    /// Those that stand still, beside it.
    beside: Arc<Semaphore>,
    /// One of those who wait holds this: only he takes a turn from others.
    driver: Arc<Semaphore>,
    waiting: Vec<Rider>,
}

/// Who waits where. No larger than the topic's partitions, and those who wait.
#[derive(Debug, Default)]
pub struct Rides {
    stops: Mutex<HashMap<Place, Stop>>,
}

impl Rides {
    fn wait_at(&self, place: &Place, rider: Rider) -> [Arc<Semaphore>; 3] {
        let mut stops = self.stops.lock().unwrap_or_else(PoisonError::into_inner);
        let one = || Arc::new(Semaphore::new(1));
        let beside = || Arc::new(Semaphore::new(BESIDE));
        let new = || Stop { replay: one(), beside: beside(), driver: one(), waiting: Vec::new() };
        let stop = stops.entry(place.clone()).or_insert_with(new);
        // Those who have gone: else a partition whose replay stands still would collect them.
        stop.waiting.retain(|rider| !rider.seat.is_closed());
        stop.waiting.push(rider);
        [stop.driver.clone(), stop.replay.clone(), stop.beside.clone()]
    }

    /// Those who wait, or those of them who have waited for so long.
    fn take_along(&self, place: &Place, since: Duration) -> Vec<Rider> {
        let mut stops = self.stops.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(stop) = stops.get_mut(place) else { return Vec::new() };
        let (taken, left) = std::mem::take(&mut stop.waiting).into_iter().partition(|r| r.since.elapsed() >= since);
        stop.waiting = left;
        taken
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
    ) -> Result<Arrived, LoadError> {
        let peer_permit = self.replays.acquire_peer(peer, deadline).await?;
        let ((seat, ride), (boarded, boarding)) = (oneshot::channel(), oneshot::channel());
        let rider = Rider { selection, deadline, since: Instant::now(), boarded, seat };
        let arrived = arrived(ride, partition, deadline);
        if !self.shares_replays() {
            let permit = self.replays.acquire_shared(deadline).await?;
            self.depart(topic.clone(), partition, vec![rider], permit, None);
            return Ok(Arrived { ride: arrived.await?, _peer_permit: peer_permit });
        }
        let place = Place { topic: topic.id.clone(), partition };
        let [driver, replay, beside] = self.rides.wait_at(&place, rider);
        let drive = async {
            // Closed never: the wait ends with the load.
            let _driver = driver.acquire_owned().await.ok();
            let permit = match self.replays.acquire_shared(deadline).await {
                Err(error @ LoadError::TooManyReplays { .. }) => {
                    // There is none for those either who have waited as long.
                    for rider in self.rides.take_along(&place, self.limits.replay_queue_timeout) {
                        let _ = rider.seat.send(Err(error.clone()));
                    }
                    return Err(error);
                }
                permit => permit?,
            };
            let way = replay.acquire_owned().await.ok().map(|alone| Way { _alone: alone, beside });
            // This one is among them.
            let riders = self.rides.take_along(&place, Duration::ZERO);
            self.depart(topic.clone(), partition, riders, permit, way);
            Ok(())
        };
        tokio::pin!(arrived);
        let ride = tokio::select! {
            biased;
            ride = &mut arrived => ride,
            // Who is taken along needs no turn of his own, and is not to be told that there is none.
            _ = boarding => arrived.await,
            driven = drive => match driven {
                Ok(()) => arrived.await,
                Err(error) => Err(error),
            },
        };
        Ok(Arrived { ride: ride?, _peer_permit: peer_permit })
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
        permit: ReplayPermit,
        under_way: Option<Way>,
    ) {
        let mut aboard = Vec::new();
        for rider in riders.into_iter().filter(|rider| !rider.seat.is_closed()) {
            // Before anything else runs: his time to wait for a turn may be over at any moment.
            let _ = rider.boarded.send(());
            aboard.push((rider.selection, rider.deadline, rider.seat));
        }
        let (log, metrics, limit) = (self.log.clone(), self.metrics.clone(), self.limits.max_load_memory);
        metrics.loads_coalesced(aboard.len().saturating_sub(1) as u64);
        tokio::spawn(async move {
            let mut bus = Bus::new(partition, aboard, permit, under_way, limit);
            if let Some(ended) = bus.run(&*log, topic, &metrics).await {
                bus.arrive(&ended);
            }
        });
    }
}

async fn arrived(
    ride: oneshot::Receiver<Result<Ride, LoadError>>,
    partition: Partition,
    deadline: Instant,
) -> Result<Ride, LoadError> {
    let late = |_| LoadError::Deadline(format!("the deadline passed while partition {partition} was replayed"));
    timeout_at(deadline, ride).await.map_err(late)?.unwrap_or_else(|_| Err(ended_early(partition)))
}
