//! The facts of an error, as members of `ErrorInfo.metadata`. The table in docs/operations.md lists their names.
//!
//! Promises: text of a client is cut after 80 characters, and invisible ones are escaped, so a member has at most 801
//! characters. No member has bytes of a value or a secret. Causes that a broker or the system gives as text are in the
//! message only.

use std::fmt::Display;

use changelog_core::{
    changelog::{LoadError, ResyncCause, TokenError},
    log::{MoveCause, ReadError, TopicProblem, TruncationCause, WriteError},
    model::{
        Escaped, HeaderError, Key, KeyError, MAX_HEADER_BYTES, MAX_HEADERS, MAX_KEY_BYTES, MAX_WORKSPACE_BYTES,
        ValueError,
    },
};

use crate::memory::Full;

/// The name of a member and its text.
pub type Fact = (&'static str, String);

/// An error that has facts besides its text.
pub trait Facts {
    fn facts(&self) -> Vec<Fact>;
}

/// A number, or another text that is ours.
pub fn fact(name: &'static str, value: &dyn Display) -> Fact {
    (name, value.to_string())
}

/// Foreign text, escaped and cut as in messages.
pub fn shown(name: &'static str, text: &str) -> Fact {
    unquoted(name, &Escaped(text).to_string())
}

/// The key of an entity.
pub fn key(key: &Key) -> Fact {
    shown("key", key.as_str())
}

/// Text that is escaped already.
fn unquoted(name: &'static str, escaped: &str) -> Fact {
    let inner = escaped.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    (name, inner.unwrap_or(escaped).to_owned())
}

/// What an error got, and its limit.
pub fn limit_and_got(limit: &dyn Display, got: &dyn Display) -> Vec<Fact> {
    vec![fact("limit", limit), fact("got", got)]
}

impl Facts for KeyError {
    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Empty(_) | Self::NotUtf8 => vec![],
            Self::WorkspaceTooLong { got } => limit_and_got(&MAX_WORKSPACE_BYTES, got),
            Self::BlankWorkspace { shown } | Self::SlashInWorkspace { shown } => vec![unquoted("workspace", shown)],
            Self::TooLong { got } => limit_and_got(&MAX_KEY_BYTES, got),
            Self::Incomplete { shown } => vec![unquoted("key", shown)],
            Self::EmptySegment { shown } => vec![unquoted("entityId", shown)],
            Self::Control { code, .. } => vec![("character", format!("U+{code:04X}"))],
            Self::RelativeWithoutWorkspace { shown } => vec![unquoted("changelogId", shown)],
            Self::WorkspaceMismatch { shown, workspace, meant, .. } => {
                vec![unquoted("changelogId", shown), unquoted("workspace", workspace), unquoted("meant", meant)]
            }
        }
    }
}

impl Facts for ValueError {
    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::TooLarge { limit, got } | Self::TooManyMembers { limit, got } => limit_and_got(limit, got),
            Self::NotJson { .. } => vec![],
        }
    }
}

impl Facts for HeaderError {
    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::TooMany { got } => limit_and_got(&MAX_HEADERS, got),
            Self::TooLarge { got } => limit_and_got(&MAX_HEADER_BYTES, got),
            Self::NoKey { index } | Self::NulInKey { index } => vec![fact("header", index)],
        }
    }
}

impl Facts for TopicProblem {
    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::NotFound { topic } | Self::NotCreated { topic, .. } => vec![shown("topic", topic)],
            Self::NotCompacted { topic, policy } => vec![shown("topic", topic), shown("policy", policy)],
            Self::PartitionCountMismatch { topic, expected, actual }
            | Self::PartitionCountChanged { topic, expected, actual } => {
                vec![shown("topic", topic), fact("expected", expected), fact("got", actual)]
            }
            Self::Recreated { topic, was, now } => {
                vec![shown("topic", topic), shown("expected", was), shown("got", now)]
            }
            Self::NotAuthorized { what, .. } => vec![shown("operation", what)],
        }
    }
}

impl Facts for WriteError {
    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Topic(problem) => problem.facts(),
            Self::QueueFull { limit } => vec![shown("limit", limit)],
            Self::TooLarge { limit, got } => limit_and_got(limit, got),
            Self::StoreGone(gone) => vec![shown("directory", &gone.dir.to_string_lossy())],
            Self::NotEnoughReplicas { replicas: Some(replicas), .. } => vec![
                fact("partition", &replicas.partition),
                fact("expected", &replicas.min),
                fact("got", &replicas.in_sync),
            ],
            Self::ClockSkew { clock, .. } => {
                vec![fact("clock", &clock.now), fact("beforeMs", &clock.before_ms), fact("afterMs", &clock.after_ms)]
            }
            Self::Unreachable { .. }
            | Self::NotEnoughReplicas { replicas: None, .. }
            | Self::Draining
            | Self::OutOfFiles { .. }
            | Self::DiskFull { .. }
            | Self::ReadOnly { .. }
            | Self::Corrupt(_)
            | Self::Fault { .. }
            | Self::OutcomeUnknown { .. } => vec![],
        }
    }
}

impl Facts for ReadError {
    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Topic(problem) => problem.facts(),
            Self::EndedEarly { partition } => vec![fact("partition", partition)],
            Self::Truncated { partition, cause } => [vec![fact("partition", partition)], cause.facts()].concat(),
            Self::Moved { partition, cause } => [vec![fact("partition", partition)], cause.facts()].concat(),
            Self::RetentionTooShort { partition, read_ms, retention_ms, .. } => {
                vec![fact("partition", partition), fact("readMs", read_ms), fact("deleteRetentionMs", retention_ms)]
            }
            Self::OpenTransaction { partition, last_stable, high } => {
                vec![fact("partition", partition), fact("lastStableOffset", last_stable), fact("highWatermark", high)]
            }
            Self::OffsetOutOfRange { partition, offset, low, end } => vec![
                fact("partition", partition),
                fact("offset", offset),
                fact("lowWatermark", low),
                fact("highWatermark", end),
            ],
            Self::Deadline { partition, position, end } | Self::NoProgress { partition, position, end, .. } => {
                vec![fact("partition", partition), fact("offset", position), fact("endOffset", end)]
            }
            Self::StoreGone(gone) => vec![shown("directory", &gone.dir.to_string_lossy())],
            Self::Unreachable { .. }
            | Self::Internal { .. }
            | Self::OutOfFiles { .. }
            | Self::Draining
            | Self::Corrupt(_) => vec![],
        }
    }
}

impl Facts for TruncationCause {
    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::EndWentBack { was, high } => vec![fact("endOffset", was), fact("highWatermark", high)],
            Self::Purged { offset } => vec![fact("offset", offset)],
            Self::Other(_) => vec![],
        }
    }
}

impl Facts for MoveCause {
    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::TooSlow { read_ms, retention_ms, .. } => {
                vec![fact("readMs", read_ms), fact("deleteRetentionMs", retention_ms)]
            }
            Self::Purged { offset } => vec![fact("offset", offset)],
            Self::Grew { end, .. } => vec![fact("endOffset", end)],
        }
    }
}

impl Facts for LoadError {
    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Read(error) => error.facts(),
            Self::TooManyReplays { limit }
            | Self::TooManyReplaysOfPeer { limit }
            | Self::TooManyFollowingStreams { limit }
            | Self::TooManyFollowingStreamsOfPeer { limit } => vec![fact("limit", limit)],
            Self::TooLarge { partition, limit } => vec![fact("partition", partition), fact("limit", limit)],
            Self::MemoryBudgetExceeded { limit, reserved, requested } => {
                vec![fact("limit", limit), fact("used", reserved), fact("wanted", requested)]
            }
            Self::NoSuchPartition { got, count } => vec![fact("got", got), fact("partitions", count)],
            Self::WorkspaceNotInPartitions { workspace, partition } => {
                vec![unquoted("workspace", workspace), fact("partition", partition)]
            }
            Self::Deadline { partition, .. } => {
                partition.iter().map(|partition| fact("partition", partition)).collect()
            }
            Self::Token(TokenError::Invalid(_)) => vec![],
            Self::Token(TokenError::Resync(cause)) => cause.facts(),
        }
    }
}

impl Facts for ResyncCause {
    fn facts(&self) -> Vec<Fact> {
        match self {
            Self::Version { got } => vec![fact("got", got)],
            Self::Topic { expected, got } => vec![shown("expected", expected), unquoted("got", got)],
            Self::PartitionCount { expected, got } => vec![fact("expected", expected), fact("got", got)],
            Self::Future { partition, ahead_ms } => vec![fact("partition", partition), fact("aheadMs", ahead_ms)],
            Self::TooOld { partition, age_ms, retention_ms } | Self::EndedLate { partition, age_ms, retention_ms } => {
                vec![fact("partition", partition), fact("ageMs", age_ms), fact("deleteRetentionMs", retention_ms)]
            }
            Self::Log(error) => error.facts(),
        }
    }
}

impl Facts for Full {
    fn facts(&self) -> Vec<Fact> {
        vec![
            fact("part", &self.part),
            fact("limit", &self.limit),
            fact("used", &self.used),
            fact("wanted", &self.wanted),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers C77.
    #[test]
    fn an_error_before_the_log_is_read_has_its_facts() {
        let partition = changelog_core::model::Partition::new(3).unwrap();
        let log = ReadError::OffsetOutOfRange { partition, offset: 9, low: 0, end: 5 };
        let of_log = log.facts();
        let resync = |cause| LoadError::Token(TokenError::Resync(cause));
        let (age_ms, retention_ms) = (600, 1_000);
        let of_age = [("partition", "3"), ("ageMs", "600"), ("deleteRetentionMs", "1000")];
        let deadline = |partition| LoadError::Deadline { what: "before it".to_owned(), partition };
        let expected: [(LoadError, &[(&str, &str)]); 8] = [
            (deadline(None), &[]),
            (deadline(Some(partition)), &[("partition", "3")]),
            (resync(ResyncCause::Version { got: 9 }), &[("got", "9")]),
            (
                resync(ResyncCause::Topic { expected: "a".to_owned(), got: Escaped("b\n").to_string() }),
                &[("expected", "a"), ("got", r"b\n")],
            ),
            (resync(ResyncCause::PartitionCount { expected: 3, got: 4 }), &[("expected", "3"), ("got", "4")]),
            (resync(ResyncCause::Future { partition, ahead_ms: 7 }), &[("partition", "3"), ("aheadMs", "7")]),
            (resync(ResyncCause::TooOld { partition, age_ms, retention_ms }), &of_age),
            (resync(ResyncCause::EndedLate { partition, age_ms, retention_ms }), &of_age),
        ];
        for (error, expected) in expected {
            let expected: Vec<_> = expected.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            assert_eq!(error.facts(), expected, "{error}");
        }
        assert_eq!(resync(ResyncCause::Log(Box::new(log))).facts(), of_log);
    }

    /// Covers C58.
    #[test]
    fn a_fact_is_escaped_and_cut_as_in_messages() {
        assert_eq!(shown("key", "ws/t/\"a\"\n"), ("key", r#"ws/t/\"a\"\n"#.to_owned()));
        let (_, long) = shown("key", &"\u{e9}".repeat(1_000));
        assert_eq!(long, format!("{}…", "\u{e9}".repeat(80)));
        // Text that is no longer quoted.
        assert_eq!(unquoted("key", "\"").1, "\"");
    }
}
