//! The open connections of a port. At the limit, one without a call gives its place to a new one.
//!
//! Promises: of the connections without a call, the one that has had none for the longest time loses its place. One
//! with an open call never does. A connection without a place is still read for a moment, so that each of its calls is
//! answered. It gets the next place that is free.

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

/// The time between two calls of a client that calls all the time. Meanwhile its connection keeps its place.
pub const BETWEEN_CALLS: Duration = Duration::from_millis(250);

/// Connections without a place that are still read. Each has a descriptor and the memory of a connection.
pub const MAX_WITHOUT_PLACE: usize = 16;

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
    /// Cancelled when the connection is to end at once.
    pub cut: CancellationToken,
}

/// The open connections of a port.
#[derive(Debug)]
pub struct OpenConnections {
    counts: ConnectionCounts,
    open: HashMap<u64, Open>,
    /// Every connection with a place once, by when another one may take it, as far as is known.
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    without_place: HashMap<u64, Open>,
    last_number: u64,
    no_search_before: Instant,
}

#[derive(Debug)]
struct Open {
    client: Option<IpAddr>,
    activity: Arc<Activity>,
    cut: CancellationToken,
}

impl OpenConnections {
    pub fn new(counts: ConnectionCounts) -> Self {
        Self {
            counts,
            open: HashMap::new(),
            queue: BinaryHeap::new(),
            without_place: HashMap::new(),
            last_number: 0,
            no_search_before: Instant::now(),
        }
    }

    /// Connections that have a place.
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Gives a new connection a place. Takes it from another one if necessary. If each has a call, the new connection
    /// has none.
    pub fn admit(&mut self, client: Option<IpAddr>) -> Admitted {
        let has_place = self.make_room_of(client) && self.make_room();
        self.last_number += 1;
        let (number, cut) = (self.last_number, CancellationToken::new());
        let activity = if has_place { Activity::new() } else { Activity::without_place() };
        let open = Open { client, activity: activity.clone(), cut: cut.clone() };
        if has_place {
            self.queue.push(Reverse((Instant::now(), number)));
            self.open.insert(number, open);
        } else {
            self.keep_without_place(number, open);
        }
        Admitted { number, activity, cut }
    }

    /// Forgets a connection that has ended. Its place goes to one that has none.
    pub fn ended(&mut self, number: u64) {
        self.without_place.remove(&number);
        self.open.remove(&number);
        if self.queue.len() > 2 * self.open.len() + 64 {
            self.queue.retain(|Reverse((_, number))| self.open.contains_key(number));
        }
        self.give_places();
    }

    /// Ends a connection at once, because its descriptor is needed.
    pub fn cut_one(&mut self) {
        if !self.cut_without_place() && self.displace() {
            self.cut_without_place();
        }
    }

    pub fn are_some_without_place(&self) -> bool {
        !self.without_place.is_empty()
    }

    /// Gives places to connections that have none. One that calls also gets that of a connection that does not.
    pub fn give_places(&mut self) {
        let waiting = self.without_place.iter();
        let mut waiting: Vec<_> =
            waiting.map(|(number, open)| (!open.activity.called_within(BETWEEN_CALLS), *number)).collect();
        waiting.sort_unstable();
        for (is_quiet, number) in waiting {
            let Some(client) = self.without_place.get(&number).map(|open| open.client) else { continue };
            let has_room = if is_quiet {
                self.open.len() < self.counts.max && !self.is_at_limit(client)
            } else {
                self.make_room_of(client) && self.make_room()
            };
            if has_room
                && self.without_place.get(&number).is_some_and(|open| open.activity.get_place())
                && let Some(open) = self.without_place.remove(&number)
            {
                let from = open.activity.displaceable_from(BETWEEN_CALLS).unwrap_or_else(Instant::now);
                self.queue.push(Reverse((from, number)));
                self.open.insert(number, open);
            }
        }
    }

    fn make_room(&mut self) -> bool {
        self.open.len() < self.counts.max || self.displace()
    }

    fn make_room_of(&mut self, client: Option<IpAddr>) -> bool {
        !self.is_at_limit(client) || self.displace_of(client)
    }

    fn is_at_limit(&self, client: Option<IpAddr>) -> bool {
        let of_client = |open: &&Open| open.client == client;
        self.counts.max_per_client.is_some_and(|max| self.open.values().filter(of_client).count() >= max)
    }

    /// Takes the place of the connection that has been without a call for the longest time.
    fn displace(&mut self) -> bool {
        let now = Instant::now();
        if now < self.no_search_before {
            return false;
        }
        // Each connection is looked at twice at most: once to correct its place in the queue.
        for _ in 0..2 * self.queue.len() {
            let Some(Reverse((known, number))) = self.queue.pop() else { break };
            let Some(open) = self.open.get(&number) else { continue };
            match open.activity.displaceable_from(BETWEEN_CALLS) {
                Some(from) if from <= known && known <= now && self.take_place(number) => return true,
                from => self.queue.push(Reverse((from.unwrap_or(now), number))),
            }
            if known > now {
                // Nor may the others be displaced yet.
                break;
            }
        }
        self.no_search_before = now + SEARCH_PAUSE;
        false
    }

    /// As [`Self::displace`], among the connections of one client.
    fn displace_of(&mut self, client: Option<IpAddr>) -> bool {
        let of_client = self.open.iter().filter(|(_, open)| open.client == client);
        let idle = of_client
            .filter_map(|(number, open)| open.activity.displaceable_from(BETWEEN_CALLS).map(|from| (from, *number)));
        idle.min().is_some_and(|(from, number)| from <= Instant::now() && self.take_place(number))
    }

    /// Takes the place of a connection, unless it has got a call. Returns whether it did.
    fn take_place(&mut self, number: u64) -> bool {
        if !self.open.get(&number).is_some_and(|open| open.activity.lose_place()) {
            return false;
        }
        if let Some(open) = self.open.remove(&number) {
            self.keep_without_place(number, open);
        }
        true
    }

    fn keep_without_place(&mut self, number: u64, open: Open) {
        if self.without_place.len() >= MAX_WITHOUT_PLACE {
            self.cut_without_place();
        }
        self.without_place.insert(number, open);
    }

    /// Ends the connection without a place that has been quiet for the longest time. Returns whether there was one.
    fn cut_without_place(&mut self) -> bool {
        let quiet = self.without_place.iter().map(|(number, open)| (open.activity.idle_since(), *number));
        let Some(open) = quiet.min().and_then(|(_, number)| self.without_place.remove(&number)) else { return false };
        open.cut.cancel();
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn connections(max: usize, max_per_client: Option<usize>) -> OpenConnections {
        OpenConnections::new(ConnectionCounts { max, max_per_client })
    }

    /// What happens to a port. The number chooses one of the connections with a place, or of the others.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        Connect,
        Begin(usize),
        End(usize),
        Leave(usize),
        CallWithoutPlace(usize),
        GiveUp(usize),
        LeaveWithoutPlace(usize),
        GivePlaces,
    }

    fn a_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Connect),
            4 => (0..8_usize).prop_map(Step::Begin),
            4 => (0..8_usize).prop_map(Step::End),
            1 => (0..8_usize).prop_map(Step::Leave),
            2 => (0..8_usize).prop_map(Step::CallWithoutPlace),
            1 => (0..8_usize).prop_map(Step::GiveUp),
            1 => (0..8_usize).prop_map(Step::LeaveWithoutPlace),
            2 => Just(Step::GivePlaces),
        ]
    }

    /// A connection, as it should be.
    struct Modelled {
        admitted: Admitted,
        call: Option<super::super::activity::OpenCall>,
        quiet_since: Instant,
        begun: bool,
        has_given_up: bool,
    }

    impl Modelled {
        fn displaceable_from(&self) -> Instant {
            self.quiet_since + if self.begun { BETWEEN_CALLS } else { Duration::ZERO }
        }
    }

    /// Two lists, in the order in which connections came.
    #[derive(Default)]
    struct Model {
        max: usize,
        with_place: Vec<Modelled>,
        without_place: Vec<Modelled>,
    }

    impl Model {
        fn admitted(&mut self, admitted: Admitted) {
            let now = Instant::now();
            let has_place = self.make_room();
            assert_eq!(admitted.activity.had_place(), has_place);
            let (call, begun, has_given_up) = (None, false, false);
            let new = Modelled { admitted, call, quiet_since: now, begun, has_given_up };
            if has_place { self.with_place.push(new) } else { self.keep_without_place(new) }
        }

        fn make_room(&mut self) -> bool {
            if self.with_place.len() < self.max {
                return true;
            }
            let now = Instant::now();
            let idle = self.with_place.iter().enumerate();
            let idle = idle.filter(|(_, c)| c.call.is_none() && c.displaceable_from() <= now);
            let Some((at, _)) = idle.min_by_key(|(_, c)| (c.displaceable_from(), c.admitted.number)) else {
                return false;
            };
            let victim = self.with_place.remove(at);
            self.keep_without_place(victim);
            true
        }

        fn keep_without_place(&mut self, connection: Modelled) {
            if self.without_place.len() == MAX_WITHOUT_PLACE {
                let quiet = self.without_place.iter().enumerate();
                let (at, _) = quiet.min_by_key(|(_, c)| (c.quiet_since, c.admitted.number)).unwrap();
                assert!(self.without_place.remove(at).admitted.cut.is_cancelled());
            }
            self.without_place.push(connection);
        }

        fn give_places(&mut self) {
            let now = Instant::now();
            let is_quiet = |c: &Modelled| !c.begun || now.duration_since(c.quiet_since) >= BETWEEN_CALLS;
            let mut waiting: Vec<_> = self.without_place.iter().map(|c| (is_quiet(c), c.admitted.number)).collect();
            waiting.sort_unstable();
            for (is_quiet, number) in waiting {
                let has_room = if is_quiet { self.with_place.len() < self.max } else { self.make_room() };
                let mut places = self.without_place.iter();
                let at = places.position(|c| c.admitted.number == number && !c.has_given_up);
                if let Some(at) = at.filter(|_| has_room) {
                    self.with_place.push(self.without_place.remove(at));
                }
            }
        }
    }

    proptest! {
        /// Covers S16.
        #[test]
        fn the_connection_that_is_idle_for_the_longest_time_gives_its_place(
            steps in prop::collection::vec(a_step(), 1..120), max in 1..6_usize,
        ) {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let mut port = connections(max, None);
                let mut model = Model { max, ..Model::default() };
                for step in steps {
                    tokio::time::advance(2 * SEARCH_PAUSE).await;
                    let now = Instant::now();
                    match step {
                        Step::Connect => model.admitted(port.admit(None)),
                        Step::Begin(at) => {
                            if let Some(connection) = model.with_place.get_mut(at).filter(|c| c.call.is_none()) {
                                connection.call = connection.admitted.activity.begin();
                                prop_assert!(connection.call.is_some());
                                connection.begun = true;
                            }
                        }
                        Step::End(at) => {
                            if let Some(connection) = model.with_place.get_mut(at).filter(|c| c.call.is_some()) {
                                (connection.call, connection.quiet_since) = (None, now);
                            }
                        }
                        Step::Leave(at) if at < model.with_place.len() => {
                            port.ended(model.with_place.remove(at).admitted.number);
                            model.give_places();
                        }
                        Step::CallWithoutPlace(at) => {
                            if let Some(connection) = model.without_place.get_mut(at) {
                                prop_assert!(connection.admitted.activity.begin().is_none());
                                (connection.begun, connection.quiet_since) = (true, now);
                            }
                        }
                        Step::GiveUp(at) => {
                            if let Some(connection) = model.without_place.get_mut(at) {
                                let gives_up = connection.has_given_up
                                    || now.duration_since(connection.quiet_since) >= BETWEEN_CALLS;
                                prop_assert_eq!(connection.admitted.activity.leave(BETWEEN_CALLS), gives_up);
                                connection.has_given_up = gives_up;
                            }
                        }
                        Step::LeaveWithoutPlace(at) if at < model.without_place.len() => {
                            port.ended(model.without_place.remove(at).admitted.number);
                            model.give_places();
                        }
                        Step::GivePlaces => {
                            port.give_places();
                            model.give_places();
                        }
                        Step::Leave(_) | Step::LeaveWithoutPlace(_) => {}
                    }
                    prop_assert_eq!(port.count(), model.with_place.len());
                    let open = model.with_place.iter().chain(&model.without_place);
                    prop_assert!(open.into_iter().all(|c| !c.admitted.cut.is_cancelled()), "cut although it may stay");
                    prop_assert_eq!(port.without_place.len(), model.without_place.len());
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
        let other = port.admit(modest);
        let mut admitted = Vec::new();
        for _ in 0..50 {
            tokio::time::advance(Duration::from_millis(1)).await;
            admitted.push(port.admit(greedy));
        }
        let kept: Vec<_> = admitted.iter().filter(|a| !a.cut.is_cancelled()).map(|a| a.number).collect();
        assert_eq!(kept, (33..=51).collect::<Vec<_>>(), "with a place, or one of the {MAX_WITHOUT_PLACE} without");
        assert!(other.activity.begin().is_some());
        assert_eq!(port.count(), 4);
        let busy: Vec<_> = admitted.iter().filter_map(|a| a.activity.begin()).collect();
        assert_eq!(busy.len(), 3, "the newest three have the places");
        assert!(!port.admit(greedy).activity.had_place(), "all have a call");
        assert!(port.admit(None).activity.had_place());
    }

    /// Covers S16.
    #[tokio::test(start_paused = true)]
    async fn connections_that_come_and_go_leave_nothing_behind() {
        let mut port = connections(10, None);
        for _ in 0..10_000 {
            let admitted = port.admit(None);
            port.ended(admitted.number);
        }
        assert!(port.queue.len() <= 65 && port.open.is_empty(), "{}", port.queue.len());
    }
}
