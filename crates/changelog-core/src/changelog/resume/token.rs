//! Resume tokens: the position of a stream in every partition that it covers, and the scope of the stream.
//!
//! Bytes: a version (1), the protobuf message [`Wire`], and the CRC-32 of both (big-endian).
//!
//! Promises: the encoding of a version does not change, not even by another field. Every version begins with its number
//! and ends with this checksum. So a damaged token is told from one of another version, which requires a resync. A
//! position has one encoding, and others are refused.
//! Does not: protect. A client can make a token; a token grants nothing.

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::{
    log::{PartitionEnd, ReadError, StartAt, Topic},
    model::{Escaped, Partition},
    rule::{Rule, holds},
};

const VERSION: u8 = 1;

/// How far the clock of the process that issued a token may be ahead of ours.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Why a token can not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The token is malformed or of another scope. The request can never succeed.
    #[error("the resume token {0}")]
    Invalid(&'static str),
    /// The token was valid, but the log no longer allows to resume from it. The client must start again without it.
    #[error("the resume token can't be resumed from: {0}; start again without it")]
    Resync(ResyncCause),
}

/// Why a stream can't continue from a token that was valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResyncCause {
    /// Another version of changelogd issued it.
    #[error("it is of version {got}, and this version of changelogd reads version {VERSION}")]
    Version {
        /// The version of the token.
        got: u8,
    },
    /// It is of another topic.
    #[error("it is of topic id {got}, this topic's is {expected}")]
    Topic {
        /// The id of the topic.
        expected: String,
        /// The id in the token, escaped.
        got: String,
    },
    /// The topic has another partition count now.
    #[error("it is of a topic with {got} partitions, this one has {expected}")]
    PartitionCount {
        /// The partition count of the topic.
        expected: i32,
        /// The count in the token.
        got: i32,
    },
    /// Its time is too far ahead of the clock.
    #[error("in partition {partition} it is {ahead_ms} ms in the future: the clock went back, so its age is not known")]
    Future {
        /// The partition.
        partition: Partition,
        /// How far it is ahead, in milliseconds.
        ahead_ms: u128,
    },
    /// It is older than half of the time for which tombstones stay.
    #[error(
        "in partition {partition} it is {age_ms} ms old, and tombstones may be gone after half of delete.retention.ms, \
         which is {retention_ms} ms"
    )]
    TooOld {
        /// The partition.
        partition: Partition,
        /// Its age, in milliseconds.
        age_ms: u128,
        /// How long tombstones stay, in milliseconds.
        retention_ms: u128,
    },
    /// The end was reached when tombstones may have been gone.
    #[error(
        "in partition {partition} the end was reached {age_ms} ms after the token was issued, and tombstones may be \
         gone after delete.retention.ms, which is {retention_ms} ms"
    )]
    EndedLate {
        /// The partition.
        partition: Partition,
        /// The age of the token, in milliseconds.
        age_ms: u128,
        /// How long tombstones stay, in milliseconds.
        retention_ms: u128,
    },
    /// The log does not have its offset any more.
    #[error(transparent)]
    Log(Box<ReadError>),
}

/// The position of a stream in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The next offset to read; `None` if nothing was delivered yet, which means the low watermark.
    pub next: Option<i64>,
    /// The leader epoch of the record before `next`, as the log returned it; negative if it is not known.
    pub leader_epoch: i32,
    /// A time at which the reader had seen the whole log; the start of the stream until then.
    pub as_of: SystemTime,
}

impl Cursor {
    /// The cursor of a stream that has read nothing.
    pub fn start(as_of: SystemTime) -> Self {
        Self { next: None, leader_epoch: -1, as_of }
    }

    /// The cursor of a reader at the end of a partition.
    pub fn at_end(end: &PartitionEnd) -> Self {
        Self { next: Some(end.next), leader_epoch: end.leader_epoch, as_of: end.at_end }
    }

    /// Where the replay starts.
    pub fn start_at(&self) -> StartAt {
        match self.next {
            None => StartAt::Low,
            Some(offset) => StartAt::Offset { offset, leader_epoch: self.leader_epoch },
        }
    }
}

/// A decoded token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    topic_id: String,
    partition_count: i32,
    scope: Bytes,
    /// The position in each partition of the stream.
    pub cursors: BTreeMap<Partition, Cursor>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Wire {
    #[prost(string, tag = "1")]
    topic_id: String,
    #[prost(int32, tag = "2")]
    partition_count: i32,
    #[prost(bytes = "bytes", tag = "3")]
    scope: Bytes,
    #[prost(message, repeated, tag = "4")]
    cursors: Vec<WireCursor>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct WireCursor {
    #[prost(int32, tag = "1")]
    partition: i32,
    #[prost(int64, optional, tag = "2")]
    next: Option<i64>,
    #[prost(sint32, tag = "3")]
    leader_epoch: i32,
    #[prost(int64, tag = "4")]
    as_of_millis: i64,
}

impl Token {
    pub fn new(topic: &Topic, scope: Bytes, cursors: BTreeMap<Partition, Cursor>) -> Self {
        Self { topic_id: topic.id.clone(), partition_count: topic.partition_count.get(), scope, cursors }
    }

    /// The bytes for the client.
    pub fn encode(&self) -> Bytes {
        let mut bytes = self.content();
        let checksum = crc32fast::hash(&bytes);
        bytes.put_u32(checksum);
        bytes.freeze()
    }

    /// The bytes without the checksum.
    fn content(&self) -> BytesMut {
        let wire = Wire {
            topic_id: self.topic_id.clone(),
            partition_count: self.partition_count,
            scope: self.scope.clone(),
            cursors: self
                .cursors
                .iter()
                .map(|(partition, cursor)| WireCursor {
                    partition: partition.number(),
                    next: cursor.next,
                    leader_epoch: cursor.leader_epoch,
                    as_of_millis: millis(cursor.as_of),
                })
                .collect(),
        };
        let mut bytes = BytesMut::with_capacity(wire.encoded_len() + 5);
        bytes.put_u8(VERSION);
        bytes.put(&*wire.encode_to_vec());
        bytes
    }

    /// Decodes the bytes of a client.
    pub fn decode(bytes: &[u8]) -> Result<Self, TokenError> {
        let malformed = || TokenError::Invalid("is malformed: this service did not issue it");
        let (content, checksum) = bytes.split_last_chunk::<4>().ok_or_else(malformed)?;
        let (version, wire) = content.split_first().ok_or_else(malformed)?;
        if crc32fast::hash(content) != u32::from_be_bytes(*checksum) && holds(Rule::DamagedTokenIsRefused) {
            return Err(malformed());
        }
        // After an upgrade or a rollback the client is not at fault.
        if *version != VERSION {
            return Err(TokenError::Resync(ResyncCause::Version { got: *version }));
        }
        let wire = Wire::decode(wire).map_err(|_| malformed())?;
        let mut cursors = BTreeMap::new();
        for cursor in wire.cursors {
            let partition = Partition::new(cursor.partition).ok_or_else(malformed)?;
            let millis = u64::try_from(cursor.as_of_millis).map_err(|_| malformed())?;
            let as_of = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis)).ok_or_else(malformed)?;
            if cursor.next.is_some_and(|next| next < 0) {
                return Err(malformed());
            }
            cursors.insert(partition, Cursor { next: cursor.next, leader_epoch: cursor.leader_epoch, as_of });
        }
        let token = Self { topic_id: wire.topic_id, partition_count: wire.partition_count, scope: wire.scope, cursors };
        // Unknown fields, repeated partitions and other forms of the same message.
        if token.content() == content { Ok(token) } else { Err(malformed()) }
    }

    /// Whether a stream with one of these scopes may continue from this token. The log checks the offsets.
    pub fn check(
        &self,
        topic: &Topic,
        scopes: &[Bytes],
        partitions: &[Partition],
        now: SystemTime,
    ) -> Result<(), TokenError> {
        if !scopes.contains(&self.scope) {
            return Err(TokenError::Invalid(
                "is of another scope: partitions, workspaces, entity types and content must be those of the stream \
                 that issued it",
            ));
        }
        if self.topic_id != topic.id {
            let (expected, got) = (topic.id.clone(), Escaped(&self.topic_id).to_string());
            return Err(TokenError::Resync(ResyncCause::Topic { expected, got }));
        }
        if self.partition_count != topic.partition_count.get() {
            let (expected, got) = (topic.partition_count.get(), self.partition_count);
            return Err(TokenError::Resync(ResyncCause::PartitionCount { expected, got }));
        }
        if !self.cursors.keys().eq(partitions) {
            return Err(TokenError::Invalid("covers other partitions than this stream"));
        }
        // Tombstones are kept for delete.retention.ms. A reader with an older token may have missed deletions. The
        // limit is half of it, because the replay takes time, too.
        let retention = topic.delete_retention;
        for (partition, cursor) in &self.cursors {
            let ahead = cursor.as_of.duration_since(now).unwrap_or_default();
            if cursor.next.is_some() && ahead > CLOCK_SKEW {
                let (partition, ahead_ms) = (*partition, ahead.as_millis());
                return Err(TokenError::Resync(ResyncCause::Future { partition, ahead_ms }));
            }
            let age = now.duration_since(cursor.as_of).unwrap_or_default();
            if cursor.next.is_some() && age > retention / 2 {
                let (partition, age_ms, retention_ms) = (*partition, age.as_millis(), retention.as_millis());
                return Err(TokenError::Resync(ResyncCause::TooOld { partition, age_ms, retention_ms }));
            }
        }
        Ok(())
    }
}

/// The token, or `None` if it is empty: an empty token means that the request has none.
pub fn non_empty(token: &Bytes) -> Option<&Bytes> {
    (!token.is_empty()).then_some(token)
}

/// Cursors of a stream that begins now, at the low watermarks.
pub fn cursors_at_start(partitions: &[Partition]) -> BTreeMap<Partition, Cursor> {
    let now = SystemTime::now();
    partitions.iter().map(|p| (*p, Cursor::start(now))).collect()
}

fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
