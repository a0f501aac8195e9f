//! How far following streams are behind.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

use crate::log::PROGRESS_INTERVAL;

/// A stream that is not behind says so once in a [`PROGRESS_INTERVAL`]. One that has missed some of them lags.
const LAGGING_AFTER: Duration = Duration::from_secs(3 * PROGRESS_INTERVAL.as_secs());

/// When each following stream had delivered all records of its partitions.
#[derive(Debug, Default)]
pub struct Followers(Mutex<Streams>);

#[derive(Debug, Default)]
struct Streams {
    last: u64,
    /// At most as many as may follow.
    at_end: HashMap<u64, SystemTime>,
}

/// How far all streams are behind.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lag {
    pub lagging: u64,
    /// Of the stream that is behind most.
    pub longest: Duration,
}

/// One stream, until it is dropped.
#[derive(Debug)]
pub struct Follower {
    followers: Arc<Followers>,
    number: u64,
}

impl Followers {
    /// `at_end` is when the stream had delivered all records.
    pub fn start(self: &Arc<Self>, at_end: SystemTime) -> Follower {
        let mut streams = self.0.lock();
        streams.last += 1;
        let number = streams.last;
        streams.at_end.insert(number, at_end);
        Follower { followers: self.clone(), number }
    }

    pub fn lag(&self, now: SystemTime) -> Lag {
        let mut all = Lag::default();
        for at_end in self.0.lock().at_end.values() {
            let lag = now.duration_since(*at_end).unwrap_or_default();
            all.longest = all.longest.max(lag);
            all.lagging += u64::from(lag > LAGGING_AFTER);
        }
        all
    }
}

impl Follower {
    pub fn at_end(&self, at_end: SystemTime) {
        self.followers.0.lock().at_end.insert(self.number, at_end);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.followers.0.lock().at_end.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_that_is_behind_most_counts_until_it_ends() {
        let (followers, begun) = (Arc::<Followers>::default(), SystemTime::UNIX_EPOCH);
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(followers.lag(begun), Lag::default());
        let (slow, fast) = (followers.start(begun), followers.start(begun));
        fast.at_end(after(15));
        assert_eq!(followers.lag(after(15)), Lag { lagging: 0, longest: Duration::from_secs(15) });
        assert_eq!(followers.lag(after(16)), Lag { lagging: 1, longest: Duration::from_secs(16) });
        drop(slow);
        assert_eq!(followers.lag(after(16)), Lag { lagging: 0, longest: Duration::from_secs(1) });
        assert_eq!(followers.lag(begun).longest, Duration::ZERO, "a clock that went back");
    }
}
