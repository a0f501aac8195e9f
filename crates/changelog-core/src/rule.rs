//! Rules of docs/contract.md whose code can be taken out, so that the tests can be shown to fail without it.
//!
//! In every build that people run nothing can be taken out: [`holds`] is `true` at compile time. With the feature
//! `take-out-rules`, which a release build refuses, the rule whose id stands in `CHANGELOGD_TAKE_OUT` does not hold.

#[cfg(all(feature = "take-out-rules", not(debug_assertions)))]
compile_error!("take-out-rules breaks promises on purpose: it is for tests, and never for a release build");

/// A rule whose code can be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(feature = "take-out-rules"), allow(dead_code, reason = "some are taken out by code that is not there"))]
pub enum Rule {
    /// A load's end is the leader's high watermark, taken after the request.
    EndIsHighWatermark,
    /// A load ends with the record at its end, and waits for nothing after it.
    LastRecordIsEnd,
    /// A tail of which no record is delivered (markers, aborted batches, holes) is an end.
    UndeliveredTailIsEnd,
    /// Records behind an open transaction are waited for, or the load is an error.
    StableOffsetIsNotEnd,
    /// An empty partition needs no consumer.
    EmptyPartitionNeedsNoConsumer,
    /// An end-of-partition event below the end is ignored.
    EarlyEndEventIsIgnored,
    /// No progress is an error.
    NoProgressIsError,
    /// A replay that ends early is an error.
    BrokenReplayIsError,
    /// A replay takes at most half of delete.retention.ms.
    ReplayWithinDeleteRetention,
    /// A record that is no longer in the log ends a replay with an error.
    LogGapIsError,
    /// A topic that was created again is another topic.
    RecreatedTopicIsError,
    /// A topic that grew is another topic.
    GrownTopicIsError,
    /// A replay that took longer than min.compaction.lag.ms takes its end again and reads on.
    SlowReplayTakesEndAgain,
    /// The changes of a watch start at the end offset of its state, not at the end of the log.
    ChangesStartAtEndOfState,
    /// A resume token with another checksum is refused.
    DamagedTokenIsRefused,
    /// No segment of an entity ID is empty.
    EmptySegmentIsRefused,
    /// An entry of the embedded store is readable only under the key that it was stored under.
    EntryUnderAnotherKeyIsDamage,
    /// A number that an enum does not have is refused.
    UnknownEnumValueIsRefused,
    /// The value of an unknown property of librdkafka is a secret.
    UnknownValueIsSecret,
    /// In a line of an import, null is a value.
    NullIsAValue,
}

impl Rule {
    /// Every rule that can be taken out.
    pub const ALL: [Self; 20] = [
        Self::EndIsHighWatermark,
        Self::LastRecordIsEnd,
        Self::UndeliveredTailIsEnd,
        Self::StableOffsetIsNotEnd,
        Self::EmptyPartitionNeedsNoConsumer,
        Self::EarlyEndEventIsIgnored,
        Self::NoProgressIsError,
        Self::BrokenReplayIsError,
        Self::ReplayWithinDeleteRetention,
        Self::LogGapIsError,
        Self::RecreatedTopicIsError,
        Self::GrownTopicIsError,
        Self::SlowReplayTakesEndAgain,
        Self::ChangesStartAtEndOfState,
        Self::DamagedTokenIsRefused,
        Self::EmptySegmentIsRefused,
        Self::EntryUnderAnotherKeyIsDamage,
        Self::UnknownEnumValueIsRefused,
        Self::UnknownValueIsSecret,
        Self::NullIsAValue,
    ];

    /// Its id in docs/contract.md.
    pub const fn id(self) -> &'static str {
        match self {
            Self::EndIsHighWatermark => "R1",
            Self::LastRecordIsEnd => "R2",
            Self::UndeliveredTailIsEnd => "R3",
            Self::StableOffsetIsNotEnd => "R4",
            Self::EmptyPartitionNeedsNoConsumer => "R5",
            Self::EarlyEndEventIsIgnored => "R6",
            Self::NoProgressIsError => "R7",
            Self::BrokenReplayIsError => "R8",
            Self::ReplayWithinDeleteRetention => "R9",
            Self::LogGapIsError => "R14",
            Self::RecreatedTopicIsError => "R15",
            Self::GrownTopicIsError => "R16",
            Self::SlowReplayTakesEndAgain => "R40",
            Self::ChangesStartAtEndOfState => "R67",
            Self::DamagedTokenIsRefused => "B17",
            Self::EmptySegmentIsRefused => "B3",
            Self::EntryUnderAnotherKeyIsDamage => "R35",
            Self::UnknownEnumValueIsRefused => "B14",
            Self::UnknownValueIsSecret => "S12",
            Self::NullIsAValue => "C65",
        }
    }
}

/// Whether the rule holds: always, except when the tests themselves are tested.
#[cfg(not(feature = "take-out-rules"))]
#[inline]
pub const fn holds(_: Rule) -> bool {
    true
}

/// Whether the rule holds: unless it is taken out.
#[cfg(feature = "take-out-rules")]
pub fn holds(rule: Rule) -> bool {
    static TAKEN_OUT: std::sync::OnceLock<Option<Rule>> = std::sync::OnceLock::new();
    *TAKEN_OUT
        .get_or_init(|| std::env::var_os("CHANGELOGD_TAKE_OUT").and_then(|id| taken_out(id.to_string_lossy().trim())))
        != Some(rule)
}

/// The rule with this id; `none` takes nothing out. Panics at an id that no rule has: a run that takes nothing out by
/// mistake would prove nothing.
#[cfg(any(test, feature = "take-out-rules"))]
fn taken_out(id: &str) -> Option<Rule> {
    if id == "none" {
        return None;
    }
    let rule = Rule::ALL.into_iter().find(|rule| rule.id() == id);
    Some(
        rule.unwrap_or_else(|| {
            panic!("CHANGELOGD_TAKE_OUT: there is no rule {id:?}; it takes an id such as R1, or none")
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers R39.
    #[test]
    fn each_rule_is_taken_out_by_its_own_id() {
        for rule in Rule::ALL {
            assert_eq!(taken_out(rule.id()), Some(rule));
        }
        assert_eq!(taken_out("none"), None);
    }

    /// Covers R39.
    #[test]
    #[should_panic(expected = "there is no rule \"R99\"")]
    fn an_id_that_no_rule_has_panics() {
        taken_out("R99");
    }
}
