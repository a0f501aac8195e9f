//! The pauses between attempts.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use crate::Error;

/// The longest pause that a server can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60);

/// Pauses. Each is about twice the one before.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// The pause after `error`: between half and all of the next one, and at least what the server asks for.
    pub(crate) fn pause(&mut self, error: &Error) -> Duration {
        let half = self.next / 2;
        self.next = (self.next * 2).min(self.longest);
        // Each RandomState has another seed. Clients of a server that restarts must not all come back at once.
        let random = RandomState::new().build_hasher().finish();
        let jitter = Duration::from_nanos(random % (half.as_nanos() as u64 + 1));
        (half + jitter).max(error.retry_after().unwrap_or_default()).min(LONGEST_ASKED)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Backoff;
    use crate::{Code, Error, proto};

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (mut backoff, error) = (Backoff::new(100 * MS, 500 * MS), Error::local(Code::Unavailable, "lost"));
        for longest in [100, 200, 400, 500, 500] {
            let pause = backoff.pause(&error);
            assert!(pause >= longest * MS / 2 && pause <= longest * MS, "{pause:?}");
        }
    }

    #[test]
    fn the_server_asks_for_longer_pauses_within_a_limit() {
        for (asked, seconds) in [(7, 7), (100_000, 60)] {
            let retry_after = Some(prost_types::Duration { seconds: asked, nanos: 0 });
            let error = Error::from(proto::Error { code: 14, retry_after, ..Default::default() });
            assert_eq!(Backoff::new(100 * MS, 500 * MS).pause(&error), Duration::from_secs(seconds));
        }
    }
}
