//! Timeouts, ages, delays and bounds of the Kafka store, in one place, because they depend on each other.
//!
//! Times that a user sets are in `Settings`. Times that librdkafka keeps are properties, see `settings.rs`.
//!
//! # Replays
//!
//! A replay is also bounded by its request's deadline, by `Settings::no_progress` (10 s: it reads nothing) and by
//! `Settings::open_transaction_wait` (5 s).
//!
//! | Name | Value | What it is for | Why this value | What must be larger |
//! |---|---|---|---|---|
//! | `POLL_TIMEOUT` | 50 ms | One poll of the consumer, or one wait for room in the caller's channel. | A dropped replay is noticed soon, and an idle follower polls 20 times a second at most. | `Settings::no_progress` |
//! | `MAX_UNCHECKED_POLLS` | 256 | The polls between two checks of the limits, the caller and the topic. | The clock is too slow to be read for each record, and 256 records take about a millisecond. | |
//! | `MAX_BATCH_RECORDS` | 512 | The records of one event. | One wake-up of the caller for many records. | |
//! | `MAX_BATCH_BYTES` | 256 KiB | The bytes of one event, except for its last record. | A channel of a few events stays small in memory. | |
//! | `MIN_STABLE_OFFSET_DELAY` | 1 ms | The first pause before the last stable offset is queried again. It doubles. | After a commit the last stable offset may lag for a moment. | `MAX_STABLE_OFFSET_DELAY` |
//! | `MAX_STABLE_OFFSET_DELAY` | 50 ms | The longest such pause. | The end of a transaction is noticed soon, without many queries. | `Settings::open_transaction_wait` |
//! | `UNREACHABLE_RETRY_DELAY` | 50 ms | The pause before a query of unreachable brokers is sent again. | A new leader is found soon, without a busy loop. | `Settings::no_progress` |
//! | `SHORT_ROUND` | 250 ms | A shorter round is safe even if min.compaction.lag.ms is 0. | A record above the round's end must have its segment closed and cleaned within the round to remove anything below the end. | The time of a broker's cleaner |
//! | `MAX_ROUNDS` | 5 | How often an end is taken again before the replay ends with an error. | A log that grows faster than it is read has no end. | |
//! | `MAX_AGE_DIVISOR` | 2 | A replay may take delete.retention.ms divided by this. | A tombstone may be removed that long after the cleaner first saw it. Half is left for clocks and for the cleaner. | `FOLLOW_CHECK_DIVISOR`, at least twice |
//! | `FOLLOW_CHECK_DIVISOR` | 8 | A replay that follows is checked at least this often in delete.retention.ms. | Several checks find the position at the end of the log before the replay is too old. | |
//! | `MIN_FOLLOW_CHECK_INTERVAL` | 100 ms | The shortest time between two such checks. | A tiny delete.retention.ms must not make a busy loop. | `PROGRESS_INTERVAL` (5 s), the longest time |
//! | `FOLLOW_STALL` | 60 s | How long a replay that follows may be stalled. | An election, a restart of a broker and transaction.timeout.ms (60 s by default) are over by then. | |
//!
//! # Produce
//!
//! A write is also bounded by `Settings::write_timeout` (10 s), which is librdkafka's message.timeout.ms.
//!
//! | Name | Value | What it is for | Why this value | What must be larger |
//! |---|---|---|---|---|
//! | `MAX_COALESCE_WAIT` | 20 ms | How long queued writes wait for the ones in flight. | Longer than a round trip in one region. If the leader is lost or far away, librdkafka's own timeouts take over. | `Settings::write_timeout` |
//! | `COALESCE_CHECK_INTERVAL` | 10 ms | How often the submit thread looks for queues that are overdue. | Half of the wait, so a queue waits for 30 ms at most. | `MAX_COALESCE_WAIT` |
//! | `RETIRE_FLUSH_TIMEOUT` | 1 s | How long a replaced producer may still receive delivery reports. | Many round trips. It runs on a thread of its own. | |
//! | `DISCARD_FLUSH_TIMEOUT` | 250 ms | The same if the topic is deleted or another one. | Most reports will never come, and the check of the producers waits for it. | `RETIRE_FLUSH_TIMEOUT` |
//! | `BATCH_OVERHEAD` | 512 bytes | The bytes of a batch of one record in addition to its key, value and headers. | KIP-98 has 61 bytes, and some for each length. | |

use std::time::Duration;

// Replays

pub const POLL_TIMEOUT: Duration = Duration::from_millis(50);
pub const MAX_UNCHECKED_POLLS: u32 = 256;
pub const MAX_BATCH_RECORDS: usize = 512;
pub const MAX_BATCH_BYTES: usize = 256 * 1024;
pub const MIN_STABLE_OFFSET_DELAY: Duration = Duration::from_millis(1);
pub const MAX_STABLE_OFFSET_DELAY: Duration = Duration::from_millis(50);
pub const UNREACHABLE_RETRY_DELAY: Duration = Duration::from_millis(50);
pub const SHORT_ROUND: Duration = Duration::from_millis(250);
pub const MAX_ROUNDS: u32 = 5;
pub const MAX_AGE_DIVISOR: u32 = 2;
pub const FOLLOW_CHECK_DIVISOR: u32 = 8;
pub const MIN_FOLLOW_CHECK_INTERVAL: Duration = Duration::from_millis(100);
pub const FOLLOW_STALL: Duration = Duration::from_secs(60);

const _: () = {
    assert!(at_most(MIN_STABLE_OFFSET_DELAY, MAX_STABLE_OFFSET_DELAY));
    assert!(at_most(MIN_FOLLOW_CHECK_INTERVAL, crate::log::PROGRESS_INTERVAL));
    assert!(2 * MAX_AGE_DIVISOR <= FOLLOW_CHECK_DIVISOR);
};

// Produce

pub const MAX_COALESCE_WAIT: Duration = Duration::from_millis(20);
pub const COALESCE_CHECK_INTERVAL: Duration = Duration::from_millis(10);
pub const RETIRE_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
pub const DISCARD_FLUSH_TIMEOUT: Duration = Duration::from_millis(250);
pub const BATCH_OVERHEAD: usize = 512;

const _: () = {
    assert!(at_most(COALESCE_CHECK_INTERVAL, MAX_COALESCE_WAIT));
    assert!(at_most(DISCARD_FLUSH_TIMEOUT, RETIRE_FLUSH_TIMEOUT));
};

const fn at_most(small: Duration, large: Duration) -> bool {
    small.as_millis() <= large.as_millis()
}
