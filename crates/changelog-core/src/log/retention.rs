//! For how long a log must keep tombstones, so that its readers see them.
//!
//! A reader has half of that time: see [`ReadError::too_slow`](super::ReadError::too_slow).

use std::time::Duration;

use super::{Finding, Severity};

/// With a shorter time, a reader that takes half of it gets an error of the configuration. A read takes some
/// milliseconds, and more on a busy machine, so to start it again would not help.
pub const MIN_DELETE_RETENTION: Duration = Duration::from_secs(1);
/// A shorter time is a finding. A read of a large partition takes minutes, and a token may be stored for some.
const SHORT_DELETE_RETENTION: Duration = Duration::from_mins(10);
/// What sets the time on Kafka.
pub const DELETE_RETENTION_PROPERTY: &str = "delete.retention.ms";
/// What sets the time on the embedded and the memory store.
pub const DELETE_RETENTION_FLAG: &str = "--delete-retention";

/// The finding for tombstones that stay for a short time. `setting` names what sets it, and `reader` the readers that
/// it ends.
pub fn short_retention(retention: Duration, setting: &str, reader: &str) -> Option<Finding> {
    let (severity, outcome) = match retention {
        _ if retention < MIN_DELETE_RETENTION => (Severity::Error, "fails with RETENTION_TOO_SHORT"),
        _ if retention < SHORT_DELETE_RETENTION => (Severity::Warning, "is ended"),
        _ => return None,
    };
    let millis = retention.as_millis();
    let message = format!(
        "{setting} is {millis} ms: {reader} for longer than half of it {outcome}, because tombstones may be removed \
         meanwhile; raise it (24 h is the default)"
    );
    Some(Finding { severity, code: "SHORT_DELETE_RETENTION", message })
}

/// The same for a log whose loads read one snapshot, so that no time limits them.
pub fn short_retention_of_followers(retention: Duration) -> Option<Finding> {
    short_retention(retention, DELETE_RETENTION_FLAG, "a stream that follows and is behind")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers R9, R12.
    #[test]
    fn a_short_retention_is_a_finding_that_names_its_setting_and_the_way_out() {
        let found = |millis| short_retention_of_followers(Duration::from_millis(millis));
        assert_eq!(found(600_000), None);
        for (millis, severity, outcome) in [
            (599_999, Severity::Warning, "is ended"),
            (1_000, Severity::Warning, "is ended"),
            (999, Severity::Error, "RETENTION_TOO_SHORT"),
            (0, Severity::Error, "RETENTION_TOO_SHORT"),
        ] {
            let Finding { severity: is, code, message } = found(millis).expect("a finding");
            assert_eq!((is, code), (severity, "SHORT_DELETE_RETENTION"));
            for part in [&format!("--delete-retention is {millis} ms"), outcome, "raise it"] {
                assert!(message.contains(part), "{message}");
            }
        }
    }
}
