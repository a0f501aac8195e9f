//! The open connections of a port. At the limit, one without a call gives its place to a new one.
//!
//! Promises: of the connections without a call, the one that has had none for the longest time is closed. One with an
//! open call never is.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::activity::Activity;

/// After a search found no connection without a call, the next search waits this long. At a full port each new
/// connection would look at all others.
const SEARCH_PAUSE: Duration = Duration::from_millis(20);

/// How many connections a port may have.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionCounts {
    pub max: usize,
    /// Of one IP address. Loopback and a Unix socket count as one.
    pub max_per_client: Option<usize>,
}

/// A connection that was admitted.
#[derive(Debug, Clone)]
pub struct Admitted {
    pub number: u64,
    pub activity: Arc<Activity>,
    /// Cancelled when another connection needs the place.
    pub displaced: CancellationToken,
}

/// The open connections of a port.
#[derive(Debug)]
pub struct OpenConnections {
    counts: ConnectionCounts,
    open: HashMap<u64, Open>,
    /// Every connection once, by the last known start of its time without a call.
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    last_number: u64,
    no_search_before: Instant,
}

#[derive(Debug)]
struct Open {
    client: Option<IpAddr>,
    activity: Arc<Activity>,
    displaced: CancellationToken,
}

impl OpenConnections {
    pub fn new(counts: ConnectionCounts) -> Self {
        Self {
            counts,
            open: HashMap::new(),
            queue: BinaryHeap::new(),
            last_number: 0,
            no_search_before: Instant::now(),
        }
    }

    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Gives a new connection a place. Closes another one for it if necessary. `None` if no connection can be closed.
    pub fn admit(&mut self, client: Option<IpAddr>) -> Option<Admitted> {
        if let Some(max) = self.counts.max_per_client {
            let of_client = |open: &&Open| open.client == client;
            if self.open.values().filter(of_client).count() >= max {
                self.displace_of(client)?;
            }
        }
        if self.open.len() >= self.counts.max {
            self.displace()?;
        }
        self.last_number += 1;
        let (number, activity, displaced) = (self.last_number, Activity::new(), CancellationToken::new());
        self.queue.push(Reverse((Instant::now(), number)));
        self.open.insert(number, Open { client, activity: activity.clone(), displaced: displaced.clone() });
        Some(Admitted { number, activity, displaced })
    }

    /// Forgets a connection that has ended.
    pub fn ended(&mut self, number: u64) {
        self.open.remove(&number);
        if self.queue.len() > 2 * self.open.len() + 64 {
            self.queue.retain(|Reverse((_, number))| self.open.contains_key(number));
        }
    }

    /// Closes the connection that has been without a call for the longest time.
    pub fn displace(&mut self) -> Option<()> {
        let now = Instant::now();
        if now < self.no_search_before {
            return None;
        }
        // Each connection is looked at twice at most: once to correct its place in the queue.
        for _ in 0..2 * self.queue.len() {
            let Reverse((known, number)) = self.queue.pop()?;
            let Some(open) = self.open.get(&number) else { continue };
            match open.activity.idle_since() {
                Some(since) if since <= known && self.close(number) => return Some(()),
                since => self.queue.push(Reverse((since.unwrap_or(now), number))),
            }
        }
        self.no_search_before = now + SEARCH_PAUSE;
        None
    }

    /// As [`Self::displace`], among the connections of one client.
    fn displace_of(&mut self, client: Option<IpAddr>) -> Option<()> {
        let idle = self.open.iter().filter(|(_, open)| open.client == client);
        let idle = idle.filter_map(|(number, open)| open.activity.idle_since().map(|since| (since, *number)));
        let (_, number) = idle.min()?;
        self.close(number).then_some(())
    }

    /// Closes a connection, unless it has got a call. Returns whether it did.
    fn close(&mut self, number: u64) -> bool {
        let displaced = self.open.get(&number).is_some_and(|open| open.activity.displace());
        if displaced && let Some(open) = self.open.remove(&number) {
            open.displaced.cancel();
        }
        displaced
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn connections(max: usize, max_per_client: Option<usize>) -> OpenConnections {
        OpenConnections::new(ConnectionCounts { max, max_per_client })
    }

    /// What happens to a port.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Connect,
        Begin(usize),
        End(usize),
        Leave(usize),
    }

    fn a_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Connect),
            2 => (0..8_usize).prop_map(Step::Begin),
            2 => (0..8_usize).prop_map(Step::End),
            1 => (0..8_usize).prop_map(Step::Leave),
        ]
    }

    proptest! {
        /// The model has a list, in the order of the last calls.
        /// Covers S16.
        #[test]
        fn the_connection_that_is_idle_for_the_longest_time_gives_its_place(
            steps in prop::collection::vec(a_step(), 1..80), max in 1..6_usize,
        ) {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let mut port = connections(max, None);
                // Open connections, the one that was busy last at the end, with its open call.
                let mut model: Vec<(Admitted, Option<super::super::activity::OpenCall>)> = Vec::new();
                for step in steps {
                    tokio::time::advance(2 * SEARCH_PAUSE).await;
                    match step {
                        Step::Connect => {
                            let victim = model.iter().position(|(_, call)| call.is_none());
                            let admitted = port.admit(None);
                            match (model.len() == max, victim) {
                                (false, _) => {}
                                (true, Some(victim)) => {
                                    let (victim, _) = model.remove(victim);
                                    prop_assert!(victim.displaced.is_cancelled());
                                    prop_assert!(victim.activity.begin().is_none(), "no call begins any more");
                                }
                                (true, None) => {
                                    prop_assert!(admitted.is_none());
                                    continue;
                                }
                            }
                            model.push((admitted.expect("a place"), None));
                        }
                        Step::Begin(at) if at < model.len() && model[at].1.is_none() => {
                            model[at].1 = model[at].0.activity.begin();
                        }
                        Step::End(at) if at < model.len() && model[at].1.is_some() => {
                            let (admitted, call) = model.remove(at);
                            drop(call);
                            model.push((admitted, None));
                        }
                        Step::Leave(at) if at < model.len() => port.ended(model.remove(at).0.number),
                        Step::Begin(_) | Step::End(_) | Step::Leave(_) => {}
                    }
                    prop_assert_eq!(port.count(), model.len());
                    prop_assert!(model.iter().all(|(open, _)| !open.displaced.is_cancelled()));
                }
                Ok(())
            })?;
        }
    }

    /// Covers S16.
    #[tokio::test(start_paused = true)]
    async fn a_client_at_its_own_limit_displaces_its_own_connections_only() {
        let mut port = connections(100, Some(3));
        let (greedy, modest) = (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()));
        let other = port.admit(modest).unwrap();
        let mut admitted = Vec::new();
        for _ in 0..50 {
            tokio::time::advance(Duration::from_millis(1)).await;
            admitted.push(port.admit(greedy).unwrap());
        }
        assert!(!other.displaced.is_cancelled());
        let open: Vec<_> = admitted.iter().filter(|a| !a.displaced.is_cancelled()).map(|a| a.number).collect();
        assert_eq!((open, port.count()), (vec![49, 50, 51], 4));
        let _busy: Vec<_> = admitted.iter().map(|a| a.activity.begin()).collect();
        assert!(port.admit(greedy).is_none(), "all have a call");
        assert!(port.admit(None).is_some());
    }

    /// Covers S16.
    #[tokio::test(start_paused = true)]
    async fn connections_that_come_and_go_leave_nothing_behind() {
        let mut port = connections(10, None);
        for _ in 0..10_000 {
            let admitted = port.admit(None).unwrap();
            port.ended(admitted.number);
        }
        assert!(port.queue.len() <= 65 && port.open.is_empty(), "{}", port.queue.len());
    }
}
