//! The open connections of a port. At the limit, one without a call gives its place to a new one.
//!
//! Promises: of the connections without a call, the one that has had none for the longest time loses its place. One
//! with an open call never does. A connection without a place is still read for a moment, so that each of its calls is
//! answered. It gets the next place that is free.

use std::{
    collections::{BTreeSet, HashMap},
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
    /// Every connection with a place once, by when another one may take it at the earliest, as far as is known.
    queue: BTreeSet<(Instant, u64)>,
    without_place: HashMap<u64, Open>,
    last_number: u64,
    no_search_before: Instant,
}

#[derive(Debug)]
struct Open {
    client: Option<IpAddr>,
    activity: Arc<Activity>,
    cut: CancellationToken,
    /// Under which time a connection with a place is in the queue.
    queued: Instant,
}

impl OpenConnections {
    pub fn new(counts: ConnectionCounts) -> Self {
        Self {
            counts,
            open: HashMap::new(),
            queue: BTreeSet::new(),
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
        let open = Open { client, activity: activity.clone(), cut: cut.clone(), queued: Instant::now() };
        if has_place {
            self.keep_with_place(number, open);
        } else {
            self.keep_without_place(number, open);
        }
        Admitted { number, activity, cut }
    }

    /// Forgets a connection that has ended. Its place goes to one that has none.
    pub fn ended(&mut self, number: u64) {
        self.without_place.remove(&number);
        self.remove_with_place(number);
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
            // While it is looked at, it is not one of those without a place: a connection that loses its place for it
            // must not be one too many.
            let Some(mut open) = self.without_place.remove(&number) else { continue };
            let has_place = open.activity.get_place(|| {
                if is_quiet {
                    self.open.len() < self.counts.max && !self.is_at_limit(open.client)
                } else {
                    self.make_room_of(open.client) && self.make_room()
                }
            });
            if has_place {
                open.queued = open.activity.displaceable_from(BETWEEN_CALLS).unwrap_or_else(Instant::now);
                self.keep_with_place(number, open);
            } else {
                self.without_place.insert(number, open);
            }
        }
    }

    fn keep_with_place(&mut self, number: u64, open: Open) {
        self.queue.insert((open.queued, number));
        self.open.insert(number, open);
    }

    fn remove_with_place(&mut self, number: u64) -> Option<Open> {
        let open = self.open.remove(&number)?;
        self.queue.remove(&(open.queued, number));
        Some(open)
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
            let Some((known, number)) = self.queue.first().copied() else { break };
            if known > now {
                // Nor may the others be displaced yet.
                break;
            }
            let from = self.open.get(&number).and_then(|open| open.activity.displaceable_from(BETWEEN_CALLS));
            if from.is_some_and(|from| from <= known) && self.take_place(number) {
                return true;
            }
            // One with a call keeps its place for this time at least.
            self.queue_under(from.unwrap_or(now + BETWEEN_CALLS), number);
        }
        self.no_search_before = now + SEARCH_PAUSE;
        false
    }

    fn queue_under(&mut self, from: Instant, number: u64) {
        if let Some(mut open) = self.remove_with_place(number) {
            open.queued = from;
            self.keep_with_place(number, open);
        }
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
        if let Some(open) = self.remove_with_place(number) {
            self.keep_without_place(number, open);
        }
        true
    }

    fn keep_without_place(&mut self, number: u64, open: Open) {
        // It may be the quietest itself, which is cut.
        self.without_place.insert(number, open);
        if self.without_place.len() > MAX_WITHOUT_PLACE {
            self.cut_without_place();
        }
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
mod tests;
