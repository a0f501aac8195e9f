//! Why a log changed too fast for a reader, with the offsets and times.

/// Which records the log lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TruncationCause {
    /// The log ends before an offset that was its end, or was read up to.
    #[error("its end went back from {was} to {high}")]
    EndWentBack {
        /// The earlier end.
        was: i64,
        /// The high watermark.
        high: i64,
    },
    /// Tombstones that the reader has not read were removed.
    #[error("tombstones beyond offset {offset} have been purged")]
    Purged {
        /// The next offset to read.
        offset: i64,
    },
    /// Another cause.
    #[error("{0}")]
    Other(String),
}

/// Why a reader may have missed what compaction removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoveCause {
    /// The reader took longer than half of the time for which tombstones stay.
    #[error(
        "it has been read for {read_ms} ms without reaching the end, and tombstones may be gone after half of \
         {setting}, which is {retention_ms} ms (raise it, if each read takes so long)"
    )]
    TooSlow {
        /// How long the reader was not at the end, in milliseconds.
        read_ms: u128,
        /// How long tombstones stay, in milliseconds.
        retention_ms: u128,
        /// What sets that time.
        setting: &'static str,
    },
    /// Tombstones that the reader has not read were removed.
    #[error("tombstones beyond offset {offset} have been purged")]
    Purged {
        /// The next offset to read.
        offset: i64,
    },
    /// The end was taken again and again, because records came faster than they were read.
    #[error("after {rounds} rounds its end is {end} and min.compaction.lag.ms is {lag_ms}")]
    Grew {
        /// How often the end was taken.
        rounds: u32,
        /// The last end.
        end: i64,
        /// The topic's min.compaction.lag.ms.
        lag_ms: u128,
    },
}
