//! Rules that promises stand on, by number, so that the suite can be shown to fail when one of them is taken out.
//!
//! In every build that people run nothing can be taken out: [`holds`] is `true` at compile time. With the feature
//! `take-out-rules`, which a release build refuses, the rule that `CHANGELOGD_TAKE_OUT` names does not hold.

#[cfg(all(feature = "take-out-rules", not(debug_assertions)))]
compile_error!("take-out-rules breaks promises on purpose: it is for tests, and never for a release build");

/// A rule whose code can be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "take-out-rules"), allow(dead_code, reason = "some are taken out by code that is not there"))]
pub enum Rule {
    /// A load's end is the leader's high watermark, taken after the request.
    R1,
    /// A load ends with the record at its end, and waits for nothing after it.
    R2,
    /// A tail that nobody is given (markers, aborted batches, holes) is an end.
    R3,
    /// Records behind an open transaction are waited for, or said to be hidden.
    R4,
    /// An empty partition is answered without a consumer.
    R5,
    /// An end-of-partition event below the end is none.
    R6,
    /// No progress is an error.
    R7,
    /// A replay that breaks off is no whole one.
    R8,
    /// A replay is bounded by half of delete.retention.ms.
    R9,
    /// What is no longer in the log ends a replay.
    R14,
    /// A topic that was created anew is another topic.
    R15,
    /// A topic that grew is another topic.
    R16,
    /// A replay that took longer than min.compaction.lag.ms reads on.
    R40,
}

/// Whether the rule holds: always, but in tests of the tests.
#[cfg(not(feature = "take-out-rules"))]
#[inline]
pub const fn holds(_: Rule) -> bool {
    true
}

/// Whether the rule holds: unless it is taken out.
#[cfg(feature = "take-out-rules")]
pub fn holds(rule: Rule) -> bool {
    static TAKEN_OUT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    *TAKEN_OUT.get_or_init(|| std::env::var("CHANGELOGD_TAKE_OUT").unwrap_or_default()) != format!("{rule:?}")
}
