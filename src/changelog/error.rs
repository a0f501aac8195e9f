//! Why a load, a get or a stream did not reach its end.

use super::resume::TokenError;
use crate::{log::ReadError, model::Partition};

/// Why a read failed. None of these is followed by a Snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The log said why.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Every replay slot is taken.
    #[error("{limit} replays are running, which is the limit (--max-replays)")]
    TooManyReplays {
        /// How many may run.
        limit: usize,
    },
    /// Every slot of this peer is taken.
    #[error(
        "{limit} replays of this client are running, which is the limit for one client (--max-replays-per-peer); it is told \
         by its address, on loopback and Unix sockets by its connection"
    )]
    TooManyReplaysOfPeer {
        /// How many it may run.
        limit: usize,
    },
    /// Every slot for following streams is taken.
    #[error("{limit} streams are following, which is the limit (--max-follows)")]
    TooManyFollowingStreams {
        /// How many may follow.
        limit: usize,
    },
    /// Every slot of this peer for following streams is taken.
    #[error(
        "{limit} streams of this client are following, which is the limit for one client, three quarters of --max-follows; it is \
         told by its address, on loopback and Unix sockets by its connection"
    )]
    TooManyFollowingStreamsOfPeer {
        /// How many of its streams may follow.
        limit: usize,
    },
    /// The folded state is over the bound on memory.
    #[error(
        "partition {partition}: the latest values take more than {limit} bytes in memory, which is the limit of one load \
         (--max-load-bytes); ask for fewer entity types, or stream CONTENT_RECORDS"
    )]
    TooLarge {
        /// Where.
        partition: Partition,
        /// The bound, in bytes.
        limit: usize,
    },
    /// All replays together are at the bound on memory.
    #[error(
        "there is no room for {requested} more bytes: the replays of this process hold {reserved} of the {limit} bytes that they may \
         hold together (--replay-budget)"
    )]
    MemoryBudgetExceeded {
        /// The budget, in bytes.
        limit: usize,
        /// What is held.
        reserved: usize,
        /// What was wanted on top.
        requested: usize,
    },
    /// The deadline passed before the log was asked.
    #[error("{0}")]
    Deadline(String),
    /// The resume token does not serve.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A partition out of range.
    #[error("partition {got} is out of range: the topic has {count} partitions, 0 to {}", count - 1)]
    NoSuchPartition {
        /// Asked for.
        got: i32,
        /// The topic's count.
        count: i32,
    },
    /// A workspace outside the partitions asked for.
    #[error("workspace {workspace} is in partition {partition}, which is not among the partitions asked for")]
    WorkspaceNotInPartitions {
        /// As it may be shown.
        workspace: String,
        /// Its partition.
        partition: Partition,
    },
}
