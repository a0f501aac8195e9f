//! The faults of simulated worlds. A world decides when one happens, and does it.

/// A fault that a world may have. Without faults a load must be complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A transaction stays open.
    OpenTransaction,
    /// Records are deleted from the low end.
    Deleted,
    /// A new leader lacks the end of the log.
    Truncated,
    /// The topic is deleted and created again.
    Recreated,
    /// The topic gets one more partition.
    Grown,
    /// A leader does not answer.
    Frozen,
    /// A broker delays its answers by a quota.
    Throttled,
    /// The broker that is read from lags behind the leader.
    Lagging,
    /// The caller reads slowly.
    SlowReader,
    /// A new leader has the whole log.
    Elected,
}

pub const FAULTS: [Fault; 9] = [
    Fault::OpenTransaction,
    Fault::Deleted,
    Fault::Truncated,
    Fault::Recreated,
    Fault::Grown,
    Fault::Frozen,
    Fault::Throttled,
    Fault::Lagging,
    Fault::SlowReader,
];
