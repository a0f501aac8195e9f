//! Errors of loads, gets and streams.

use super::resume::TokenError;
use crate::{log::ReadError, model::Partition};

/// Why a load, get or stream did not reach its end. No Snapshot follows any of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The log reported an error.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// All replay permits were in use for the whole queue timeout.
    #[error("{limit} replays are running, which is the limit (--max-replays)")]
    TooManyReplays {
        /// Replays that may run at the same time.
        limit: usize,
    },
    /// The client already runs as many replays as one client may.
    #[error(
        "{limit} replays of this client are running, which is the limit for one client (--max-replays-per-client); \
         clients are told apart by address, on loopback and Unix sockets by connection"
    )]
    TooManyReplaysOfPeer {
        /// Replays that one client may run at the same time.
        limit: usize,
    },
    /// As many streams follow as may follow.
    #[error("{limit} streams are following, which is the limit (--max-following-streams)")]
    TooManyFollowingStreams {
        /// Streams that may follow at the same time.
        limit: usize,
    },
    /// As many streams of this client follow as one client may have.
    #[error(
        "{limit} streams of this client are following, which is the limit for one client, three quarters of \
         --max-following-streams; clients are told apart by address, on loopback and Unix sockets by connection"
    )]
    TooManyFollowingStreamsOfPeer {
        /// Streams of one client that may follow at the same time.
        limit: usize,
    },
    /// The folded records take more memory than one load may use.
    #[error(
        "partition {partition}: the latest values take more than {limit} bytes in memory, which is the limit of one \
         load (--max-load-memory); ask for fewer entity types, or stream CONTENT_RECORDS"
    )]
    TooLarge {
        /// The partition that was read when the limit was reached.
        partition: Partition,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The replays of the process together would take more memory than they may.
    #[error(
        "there is no room for {requested} more bytes: the replays of this process hold {reserved} of the {limit} bytes \
         that they may hold together (--replay-memory)"
    )]
    MemoryBudgetExceeded {
        /// The budget, in bytes.
        limit: usize,
        /// Bytes that are reserved.
        reserved: usize,
        /// Bytes that were requested in addition.
        requested: usize,
    },
    /// The deadline passed.
    #[error("the deadline passed {what}")]
    Deadline {
        /// Before or while what.
        what: String,
        /// The partition that was read, or the first of them; `None` before that.
        partition: Option<Partition>,
    },
    /// The resume token can not be used.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The request names a partition that the topic does not have.
    #[error("partition {got} is out of range: the topic has {count} partitions, 0 to {}", count - 1)]
    NoSuchPartition {
        /// The partition in the request.
        got: i32,
        /// The partition count of the topic.
        count: i32,
    },
    /// The request names partitions, and a workspace in another partition.
    #[error("workspace {workspace} is in partition {partition}, which is not among the partitions asked for")]
    WorkspaceNotInPartitions {
        /// The workspace ID, escaped.
        workspace: String,
        /// The partition of the workspace.
        partition: Partition,
    },
}

impl LoadError {
    /// The deadline passed before a partition was read.
    pub(super) fn deadline_before(what: &str) -> Self {
        Self::Deadline { what: format!("before {what}"), partition: None }
    }

    /// The deadline passed before a partition was read to its end.
    pub(super) fn deadline_before_end(partition: Partition) -> Self {
        Self::Deadline { what: format!("before partition {partition} was read to its end"), partition: Some(partition) }
    }
}
