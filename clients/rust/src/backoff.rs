//! The pauses between attempts.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use crate::Error;

/// The longest pause that a server can ask for, without the random part.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// Pauses. Each is about twice the one before. `longest` is without the random part.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// The pause after `error`: the next one, or what the server asks for if that is longer. A random part of up to a
    /// quarter of it comes on top. So clients of a server that restarts do not come back all at once.
    pub(crate) fn pause(&mut self, error: &Error) -> Duration {
        let asked = error.retry_after().unwrap_or_default().min(LONGEST_ASKED);
        let least = self.next.max(asked);
        self.next = (self.next * 2).min(self.longest);
        // Each RandomState has another seed.
        let random = RandomState::new().build_hasher().finish();
        least + Duration::from_nanos(random % (least.as_nanos() as u64 / 4 + 1))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::Backoff;
    use crate::{Code, Error, proto};

    const MS: Duration = Duration::from_millis(1);

    fn asking(seconds: i64) -> Error {
        let retry_after = (seconds > 0).then_some(prost_types::Duration { seconds, nanos: 0 });
        Error::from(proto::Error { code: 14, retry_after, ..Default::default() })
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (mut backoff, error) = (Backoff::new(100 * MS, 500 * MS), Error::local(Code::Unavailable, "lost"));
        for least in [100, 200, 400, 500, 500] {
            let pause = backoff.pause(&error);
            assert!(pause >= least * MS && pause <= least * MS * 5 / 4, "{pause:?}");
        }
    }

    #[test]
    fn a_pause_has_a_random_part() {
        // The longer one counts.
        for (backoff, asked, least) in [(100, 0, 100), (4_000, 1, 4_000), (100, 30, 30_000), (100, 3_600, 60_000)] {
            let pause = |_| Backoff::new(backoff * MS, backoff * MS).pause(&asking(asked));
            let pauses: BTreeSet<_> = (0..100).map(pause).collect();
            let (first, last) = (*pauses.first().unwrap(), *pauses.last().unwrap());
            assert!(least * MS <= first && first < last && last <= least * MS * 5 / 4, "{least}: {pauses:?}");
        }
    }
}
