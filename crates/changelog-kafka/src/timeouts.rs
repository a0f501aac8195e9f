//! Timeouts, ages, delays and bounds of the Kafka store, in one place, because they depend on each other.
//!
//! Times that a user sets are in `Settings`. Times that librdkafka keeps are properties, see `settings.rs`. Which
//! delete.retention.ms is too short is the same on each store, see `changelog_core::log::MIN_DELETE_RETENTION`.
//!
//! # Topic and admin queries
//!
//! A caller is answered within five seconds, also if no broker answers. That bounds the waits of this section.
//!
//! | Name | Value | What it is for | Why this value | What must be larger |
//! |---|---|---|---|---|
//! | `MAX_TOPIC_AGE` | 1 s | The age up to which callers share a description of the topic. The topic is queried this often. | Few queries, and a deleted or recreated topic is noticed within about a second. | `LEADER_MAX_AGE` |
//! | `TOPIC_QUERY` | 2 s | One query of the topic or of its configuration. | A slow link needs more than one round trip. | `TOPIC_WAIT`, `CONFIG_WAIT` |
//! | `TOPIC_QUERY_SHORT` | 800 ms | One of several brokers, before the next one is queried. | All brokers that are queried take at most `TOPIC_WAIT` together. | `TOPIC_QUERY` |
//! | `MAX_OTHER_BROKERS` | 3 | The brokers that are queried in addition to the controller and the last responder. | As many as a partition usually has replicas. | |
//! | `METADATA_QUERY` | 1 s | A query of plain metadata, on a cluster without a controller. | It follows a query of the topic that timed out. | `TOPIC_WAIT` less `TOPIC_QUERY` |
//! | `TOPIC_WAIT` | 4 s | The time that a caller waits for all queries of the topic together. | It leaves the caller a second of the five. | 5 s |
//! | `CONFIG_WAIT` | 4 s | The second bound of a query of the configuration. | rust-rdkafka relies on librdkafka's timeout. This one guards against an answer that never comes. | |
//! | `LEADER_MAX_AGE` | 3 s | The age up to which an observed leader is relied on. | A query of the topic takes up to `TOPIC_QUERY`, and the next one starts `MAX_TOPIC_AGE` after it. | |
//! | `ADMIN_QUERY` | 5 s | One query of the `topic` commands. | An operator waits longer than a call does. | |
//! | `MIN_ADMIN_SILENCE` | 5 s | How long no query is answered before the admin client is replaced. It doubles with each replacement. | librdkafka 2.12 can lose its way to brokers that are reachable again. Two queries fit into it. | `TOPIC_QUERY`, at least twice |
//! | `MAX_ADMIN_SILENCE` | 60 s | The longest time until the next replacement. | While the brokers are away, each new client costs some threads and logins. | |
//! | `CREATE_TOPIC_WAIT` | 10 s | The creation of a topic. | The controller waits for the new partitions' leaders. | |
//! | `OFFSETS_QUERY` | 2.5 s | One query of offsets, elections included. | An election on a healthy cluster is over by then. | `DESCRIBE_OFFSETS_WAIT` |
//! | `RETRY_DELAY` | 50 ms | The pause before offsets are queried again. | A new leader is found soon, without a busy loop. | `OFFSETS_QUERY` |
//! | `DESCRIBE_OFFSETS_WAIT` | 4 s | The deadline of the offsets in a description of the log. | As `TOPIC_WAIT`. | 5 s |
//! | `MAX_OFFSET_QUERIES` | 64 | The replays and descriptions that query offsets at a time. | A query of a leader that does not answer holds a blocking thread of the runtime for seconds, even after its caller has left. Without a bound, such calls would fill the runtime's pool. | tokio's 512 blocking threads |
//! | `OFFSETS_INTERVAL` | 10 s | How often the offsets of all partitions are queried for metrics. | Scrapers come every 15 to 60 s. It is one request to each leader. | |
//! | `MAX_PARTITION_SERIES` | 256 | The partitions that have metrics of their own. Those above it have none, and a metric counts them. | Each has three series. | |
//! | `ADMIN_SLACK` | 500 ms | How much longer than its timeout the answer of an admin request is waited for. | librdkafka may report a timeout a moment after the request's own. | |
//! | `DESCRIBE_TOPICS_SLACK` | 100 ms | The same for DescribeTopics. | It is one request to one broker. | `TOPIC_QUERY_SHORT` |
//! | `PRODUCER_CHECK_INTERVAL` | 250 ms | The shortest time between two checks of the producers, for fatal errors and for the topic's limits. While the topic is refused, and after a replacement that failed, they are checked this often. | A producer with a fatal error is replaced within a second, but not in a busy loop. | `PRODUCER_CHECK_FALLBACK` |
//! | `PRODUCER_CHECK_FALLBACK` | 5 s | The time after which the producers are checked if nothing has happened. | Events wake the check. This finds an error without an event. | |
//! | `FILE_CHECK_INTERVAL` | 5 s | How often the properties file and the files that it names are looked at, and read again while they can't be used. | A certificate is replaced minutes before the old one expires. It costs some calls of stat. | |
//! | `SETTINGS_PROBE` | 2 s | One query of an admin client with changed properties. After each, it is known whether a broker has rejected it. | As `TOPIC_QUERY`. | `SETTINGS_WAIT` |
//! | `SETTINGS_WAIT` | 20 s | How long such a client waits for a broker, before the properties in effect are kept. A rejection ends it. It is also the pause of this client between two logins at a broker. | TLS, SCRAM and the query are 8 round trips. So a link may take 2 s for one. | |
//! | `MAX_SETTINGS_RETRY_DELAY` | 5 min | The longest pause before changed properties are tried again that the brokers rejected. The first one is `FILE_CHECK_INTERVAL`, and it doubles. A file that changes ends the pause. | Each try is a failed login, and a directory of users may lock an account after some of them. | |
//! | `RETIRE_CHECK_INTERVAL` | 100 ms | How often a replaced admin client is looked at, whether its last call has ended. | It holds one thread and some memory for so long. | |
//! | `CLOSE_CHECK_INTERVAL` | 5 ms | How often a closing log looks whether all writes are completed. | A drain is short. | |
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
//! | `MAX_AGE_DIVISOR` | 2 | A replay may take delete.retention.ms divided by this. | A tombstone may be removed that long after the cleaner first saw it. The resume token or the state before changes may be as old when a replay starts. | `FOLLOW_CHECK_DIVISOR`, at least twice |
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
//! | `SWAP_FLUSH_TIMEOUT` | 2 s | How long new writes wait while an outdated producer delivers what it has. After that the producer goes on, and the next attempt comes after `Settings::write_timeout`. One that the brokers reject is purged. | Many round trips, and held writes are late. | The 5 s that the server waits longer than `Settings::write_timeout` |
//! | `SWAP_CHECK_INTERVAL` | 1 ms | How often it is looked whether a producer has sent all it has. | A round trip in one data centre, and writes wait for it. | `SWAP_FLUSH_TIMEOUT` |
//! | `BATCH_OVERHEAD` | 512 bytes | The bytes of a batch of one record in addition to its key, value and headers. | KIP-98 has 61 bytes, and some for each length. | |
//!
//! # Tokens of OAUTHBEARER
//!
//! | Name | Value | What it is for | Why this value | What must be larger |
//! |---|---|---|---|---|
//! | `TOKEN_RENEWAL_PERCENT` | 80 | After this part of its remaining life a token is renewed. | As librdkafka and Kafka's clients do. Brokers ask for the next token after 85 % of a session at the earliest. | 100 |
//! | `TOKEN_REQUEST` | 10 s | One request to an identity provider, from its name to the end of its answer. | A provider that takes longer is down. An old token has 20 % of its life for more attempts. | |
//! | `CONNECT_ATTEMPT_DELAY` | 250 ms | The delay before the next address of an identity provider is tried as well. | As RFC 8305 recommends. An address that does not answer must not use up the time of the others. | `TOKEN_REQUEST` |
//! | `MIN_TOKEN_RETRY_DELAY` | 1 s | The first pause after a failure, and the shortest one between two requests. It doubles. | A short outage is over soon, without a busy loop. | `MAX_TOKEN_RETRY_DELAY` |
//! | `MAX_TOKEN_RETRY_DELAY` | 10 s | The longest such pause. | Writes and loads fail until the next attempt, and one request in ten seconds is no load for a provider. | |
//! | `TOKEN_CHECK_INTERVAL` | 2 s | How often the token file and the wall clock are looked at. | Less than the time that a replaced token stays valid, and one system call. | |
//! | `TOKEN_WAIT` | 2 s | How long a query of the topic waits for a token that has not expired. | The query itself has `TOPIC_QUERY` after it. | `TOPIC_WAIT` less `TOPIC_QUERY` |
//! | `ASSUMED_TOKEN_LIFE` | 300 s | The life of a token that an identity provider gives without an expiry. | Providers' shortest usual life. A renewal that is too early costs one request. | |
//! | `MAX_TOKEN_BYTES` | 64 KiB | The length of a token. | Brokers take 512 KiB by default (sasl.server.max.receive.size). Tokens with many groups have some KiB. | `MAX_TOKEN_ANSWER_BYTES` |
//! | `MAX_TOKEN_ANSWER_BYTES` | 256 KiB | The body of an identity provider's answer. | A token, and what stands next to it. | |

use std::time::Duration;

// Topic and admin queries

pub const MAX_TOPIC_AGE: Duration = Duration::from_secs(1);
pub const TOPIC_QUERY: Duration = Duration::from_secs(2);
pub const TOPIC_QUERY_SHORT: Duration = Duration::from_millis(800);
pub const MAX_OTHER_BROKERS: usize = 3;
pub const METADATA_QUERY: Duration = Duration::from_secs(1);
pub const TOPIC_WAIT: Duration = Duration::from_secs(4);
pub const CONFIG_WAIT: Duration = Duration::from_secs(4);
pub const LEADER_MAX_AGE: Duration = Duration::from_secs(3);
pub const ADMIN_QUERY: Duration = Duration::from_secs(5);
pub const MIN_ADMIN_SILENCE: Duration = Duration::from_secs(5);
pub const MAX_ADMIN_SILENCE: Duration = Duration::from_secs(60);
pub const CREATE_TOPIC_WAIT: Duration = Duration::from_secs(10);
pub const OFFSETS_QUERY: Duration = Duration::from_millis(2_500);
pub const RETRY_DELAY: Duration = Duration::from_millis(50);
pub const DESCRIBE_OFFSETS_WAIT: Duration = Duration::from_secs(4);
pub const MAX_OFFSET_QUERIES: usize = 64;
pub const OFFSETS_INTERVAL: Duration = Duration::from_secs(10);
pub const MAX_PARTITION_SERIES: i32 = 256;
pub const ADMIN_SLACK: Duration = Duration::from_millis(500);
pub const DESCRIBE_TOPICS_SLACK: Duration = Duration::from_millis(100);
pub const PRODUCER_CHECK_INTERVAL: Duration = Duration::from_millis(250);
pub const PRODUCER_CHECK_FALLBACK: Duration = Duration::from_secs(5);
pub const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(5);
pub const SETTINGS_PROBE: Duration = Duration::from_secs(2);
pub const SETTINGS_WAIT: Duration = Duration::from_secs(20);
pub const MAX_SETTINGS_RETRY_DELAY: Duration = Duration::from_secs(300);
pub const RETIRE_CHECK_INTERVAL: Duration = Duration::from_millis(100);
pub const CLOSE_CHECK_INTERVAL: Duration = Duration::from_millis(5);

const _: () = {
    assert!(at_most(MAX_TOPIC_AGE.saturating_add(TOPIC_QUERY), LEADER_MAX_AGE));
    assert!(at_most(TOPIC_QUERY.saturating_add(METADATA_QUERY), TOPIC_WAIT));
    assert!(at_most(TOPIC_QUERY_SHORT.saturating_mul(2 + MAX_OTHER_BROKERS as u32), TOPIC_WAIT));
    assert!(at_most(TOPIC_QUERY_SHORT.saturating_add(DESCRIBE_TOPICS_SLACK), TOPIC_QUERY));
    assert!(at_most(TOPIC_QUERY, CONFIG_WAIT));
    assert!(at_most(TOPIC_QUERY.saturating_mul(2), MIN_ADMIN_SILENCE));
    assert!(at_most(MIN_ADMIN_SILENCE, MAX_ADMIN_SILENCE));
    assert!(at_most(PRODUCER_CHECK_INTERVAL, PRODUCER_CHECK_FALLBACK));
    assert!(at_most(OFFSETS_QUERY.saturating_add(RETRY_DELAY), DESCRIBE_OFFSETS_WAIT));
    assert!(at_most(SETTINGS_PROBE, SETTINGS_WAIT));
    assert!(at_most(FILE_CHECK_INTERVAL, MAX_SETTINGS_RETRY_DELAY));
};

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
    assert!(at_most(MIN_FOLLOW_CHECK_INTERVAL, changelog_core::log::PROGRESS_INTERVAL));
    assert!(2 * MAX_AGE_DIVISOR <= FOLLOW_CHECK_DIVISOR);
};

// Produce

pub const MAX_COALESCE_WAIT: Duration = Duration::from_millis(20);
pub const COALESCE_CHECK_INTERVAL: Duration = Duration::from_millis(10);
pub const RETIRE_FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
pub const DISCARD_FLUSH_TIMEOUT: Duration = Duration::from_millis(250);
pub const SWAP_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
pub const SWAP_CHECK_INTERVAL: Duration = Duration::from_millis(1);
pub const BATCH_OVERHEAD: usize = 512;

const _: () = {
    assert!(at_most(COALESCE_CHECK_INTERVAL, MAX_COALESCE_WAIT));
    assert!(at_most(DISCARD_FLUSH_TIMEOUT, RETIRE_FLUSH_TIMEOUT));
    assert!(at_most(SWAP_CHECK_INTERVAL, SWAP_FLUSH_TIMEOUT));
};

// Tokens of OAUTHBEARER

pub const TOKEN_RENEWAL_PERCENT: u32 = 80;
pub const TOKEN_REQUEST: Duration = Duration::from_secs(10);
pub const CONNECT_ATTEMPT_DELAY: Duration = Duration::from_millis(250);
pub const MIN_TOKEN_RETRY_DELAY: Duration = Duration::from_secs(1);
pub const MAX_TOKEN_RETRY_DELAY: Duration = Duration::from_secs(10);
pub const TOKEN_CHECK_INTERVAL: Duration = Duration::from_secs(2);
pub const TOKEN_WAIT: Duration = Duration::from_secs(2);
pub const ASSUMED_TOKEN_LIFE: Duration = Duration::from_secs(300);
pub const MAX_TOKEN_BYTES: usize = 64 * 1024;
pub const MAX_TOKEN_ANSWER_BYTES: usize = 256 * 1024;

const _: () = {
    assert!(TOKEN_RENEWAL_PERCENT < 100);
    assert!(at_most(CONNECT_ATTEMPT_DELAY, TOKEN_REQUEST));
    assert!(at_most(MIN_TOKEN_RETRY_DELAY, MAX_TOKEN_RETRY_DELAY));
    assert!(at_most(TOKEN_WAIT.saturating_add(TOPIC_QUERY), TOPIC_WAIT));
    assert!(MAX_TOKEN_BYTES < MAX_TOKEN_ANSWER_BYTES);
};

const fn at_most(small: Duration, large: Duration) -> bool {
    small.as_millis() <= large.as_millis()
}
