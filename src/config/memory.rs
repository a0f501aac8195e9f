//! How --memory-limit is divided. This is the only place that knows the shares.
//!
//! Each part gets what it needs to work at all, and a share of the rest:
//!
//! | part        | counts                                                      | needs                           | share |
//! |-------------|-------------------------------------------------------------|---------------------------------|-------|
//! | replays     | records that are read ahead, folded, or wait to be sent     | --replay-memory, or 2 MiB       | 9/24  |
//! | queues      | writes that wait for the brokers or the disk                | two of the largest writes, each | 6/24  |
//! | requests    | requests, from the announced length until they are answered | the largest request, and 4 MiB  | 4/24  |
//! | answers     | answers, until the client has taken them                    | the largest answer, and 4 MiB   | 3/24  |
//! | lists       | lists of requests that streams keep                         | 4 MiB                           | 1/24  |
//! | conversions | conversions of values to and from JSON, while they run      | the largest conversion          | 1/24  |
//! | probes      | calls of health and reflection on the API port              | 2 MiB                           | 0     |
//!
//! With --replay-memory, replays get no share. The 4 MiB are for calls under 64 KiB.

use super::UsageError;

const MIB: u64 = 1024 * 1024;
/// The limit without a control group.
const DEFAULT_LIMIT: u64 = 1024 * MIB;
/// With less, not even one replay could read ahead.
pub const MIN_REPLAY_MEMORY: u64 = 2 * MIB;
/// What large requests and answers leave to small ones.
pub const SMALL_RESERVE: u64 = 4 * MIB;
/// The lists of one stream: ten thousand workspace IDs of 255 bytes take less.
const MIN_LISTS: u64 = 4 * MIB;
/// Two hundred calls of health and reflection.
const PROBES: u64 = 2 * MIB;
/// Key, headers and frames of one record.
const RECORD_OVERHEAD: u64 = 64 * 1024;
/// Members of objects that a conversion may have whatever the largest value is.
const MIN_MEMBERS: u64 = 16 * 1024;
/// The conversion of a batch of small values.
const BATCH_CONVERSION: u64 = 256 * 1024;
/// A value in `json` form is at most this large.
const MAX_JSON_ANSWER: u64 = 4 * MIB;

/// The parts of the memory limit, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryParts {
    pub limit: u64,
    pub replays: u64,
    /// Of all producers, or of the embedded store.
    pub queues: u64,
    pub requests: u64,
    pub answers: u64,
    pub lists: u64,
    pub conversions: u64,
    pub probes: u64,
}

/// What the parts depend on.
#[derive(Debug, Clone, Copy)]
pub struct MemoryNeeds {
    /// --replay-memory.
    pub replays: Option<u64>,
    pub max_value_bytes: u64,
    /// Queues that each have an equal part.
    pub producers: u64,
}

/// The default of --memory-limit, from the limit of the control group.
pub fn default_limit(control_group: Option<u64>) -> u64 {
    control_group.map_or(DEFAULT_LIMIT, |limit| limit / 10 * 6)
}

/// The size of a request with the largest value, key and headers. A `json` value is larger on the wire than stored: in
/// `[1,1]` a number and its comma take eleven bytes instead of two. At least 4 MiB, which is the usual limit of gRPC.
pub fn max_request_bytes(max_value_bytes: u64) -> u64 {
    (max_value_bytes * 6 + RECORD_OVERHEAD).max(4 * MIB)
}

/// What the conversion of a value takes at most, besides the value. A document is copied as it grows. Members of its
/// objects take up to twice its bytes when it is written, and up to 3.2 times its bytes when it is read.
pub fn max_conversion_bytes(max_value_bytes: u64) -> u64 {
    (max_value_bytes / 2 * 7 + MIN_MEMBERS).max(BATCH_CONVERSION)
}

impl MemoryParts {
    pub fn of(limit: u64, needs: MemoryNeeds) -> Result<Self, UsageError> {
        let least = Self {
            limit,
            replays: needs.replays.unwrap_or(MIN_REPLAY_MEMORY),
            queues: needs.producers * 2 * (needs.max_value_bytes + RECORD_OVERHEAD),
            requests: max_request_bytes(needs.max_value_bytes) + SMALL_RESERVE,
            answers: needs.max_value_bytes.max(MAX_JSON_ANSWER) + RECORD_OVERHEAD + SMALL_RESERVE,
            lists: MIN_LISTS,
            conversions: max_conversion_bytes(needs.max_value_bytes),
            probes: PROBES,
        };
        let sum = least.sum();
        let Some(rest) = limit.checked_sub(sum) else {
            let mut because = format!("--max-value-bytes {}", needs.max_value_bytes);
            if let Some(replays) = needs.replays {
                because += &format!(", --replay-memory {replays}");
            }
            if needs.producers > 1 {
                because += &format!(", --producers {}", needs.producers);
            }
            let reason = format!("it must be at least {sum} ({because})");
            return Err(UsageError::value("--memory-limit", &limit.to_string(), reason));
        };
        let (replays, whole) = if needs.replays.is_some() { (0, 15) } else { (9, 24) };
        let share = |of: u64| rest / whole * of;
        Ok(Self {
            limit,
            replays: least.replays + share(replays),
            queues: least.queues + share(6),
            requests: least.requests + share(4),
            answers: least.answers + share(3),
            lists: least.lists + share(1),
            conversions: least.conversions + share(1),
            probes: least.probes,
        })
    }

    fn sum(&self) -> u64 {
        let Self { limit: _, replays, queues, requests, answers, lists, conversions, probes } = *self;
        let parts = [replays, queues, requests, answers, lists, conversions, probes];
        parts.into_iter().fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(
        limit: u64,
        replays: Option<u64>,
        max_value_bytes: u64,
        producers: u64,
    ) -> Result<MemoryParts, UsageError> {
        MemoryParts::of(limit, MemoryNeeds { replays, max_value_bytes, producers })
    }

    /// Covers K6, S19.
    #[test]
    fn the_memory_limit_is_three_fifths_of_the_control_group_or_one_gibibyte() {
        assert_eq!(default_limit(None), 1024 * MIB);
        assert_eq!(default_limit(Some(1000 * MIB)), 600 * MIB);
        let small = parts(default_limit(Some(256 * MIB)), None, 1_000_000, 2).unwrap();
        assert!(small.replays > 40 * MIB && small.queues > 30 * MIB && small.requests > 20 * MIB, "{small:?}");
    }

    /// docs/configuration.md has the figure.
    /// Covers S19.
    #[test]
    fn the_defaults_need_32_mib() {
        assert!(parts(32 * MIB, None, 1_000_000, 1).is_ok());
        assert!(parts(31 * MIB, None, 1_000_000, 1).is_err());
    }

    /// Covers S19.
    #[test]
    fn a_limit_without_room_for_the_largest_value_is_refused_with_both_figures() {
        for (limit, replays, value, figures) in [
            (512 * MIB, None, 64_000_000, "64000000"),
            (20 * MIB, None, 1_000_000, "1000000"),
            (1024 * MIB, Some(1024 * MIB), 1_000_000, "1073741824"),
            (1024 * MIB, Some(u64::MAX), 1, "18446744073709551615"),
            (0, None, 1, "0"),
        ] {
            let error = parts(limit, replays, value, 2).unwrap_err().to_string();
            assert!(error.contains(&limit.to_string()) && error.contains(figures), "{error}");
        }
        assert!(parts(1024 * MIB, None, 64_000_000, 2).is_ok());
    }

    proptest! {
        /// Covers S19.
        #[test]
        fn the_parts_are_never_more_than_the_limit_and_each_has_what_it_needs(
            limit in 0..8_192 * MIB,
            replays in prop::option::of(MIN_REPLAY_MEMORY..4_096 * MIB),
            value in 1..64_000_001_u64,
            producers in 1..65_u64,
        ) {
            match parts(limit, replays, value, producers) {
                Err(error) => prop_assert!(limit < 4_096 * MIB + 64 * 2 * 65 * MIB + 600 * MIB, "{}", error),
                Ok(parts) => {
                    prop_assert!(parts.sum() <= limit && limit - parts.sum() < 24, "{:?}", parts);
                    prop_assert!(parts.requests >= 6 * value + SMALL_RESERVE);
                    prop_assert!(parts.answers >= value + SMALL_RESERVE);
                    prop_assert!(parts.queues / producers >= 2 * value);
                    prop_assert!(parts.conversions >= max_conversion_bytes(value));
                    prop_assert!(replays.is_none_or(|asked| asked == parts.replays));
                }
            }
        }
    }
}
