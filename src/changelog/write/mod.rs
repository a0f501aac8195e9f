//! Writes: a key's partition, the log's acknowledgement, and what is owed to the caller when it does not come in time.

mod in_flight;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::Changelog;
use crate::{
    log::{NewRecord, Pending, WriteError},
    model::{Headers, Key, Partition, Position},
};

pub use in_flight::{FailedWrite, Flushed, InFlightWrites, Undelivered};

use in_flight::InFlightGuard;

/// When a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// After the log's acknowledgement.
    Durable,
    /// When it is accepted.
    Buffered,
}

/// One change of one entity.
#[derive(Debug, Clone)]
pub struct Change {
    /// Which.
    pub key: Key,
    /// The new value; `None` deletes.
    pub value: Option<Bytes>,
    /// Stored with it.
    pub headers: Headers,
}

/// Where an acknowledged write is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Its place in the log.
    pub position: Position,
    /// The log's timestamp, in milliseconds since 1970.
    pub timestamp: Option<i64>,
}

/// A write that the log has accepted, in the order of the calls. Whoever lets go of it leaves it in flight.
#[derive(Debug)]
pub struct AcceptedWrite {
    partition: Partition,
    /// Until the log has answered.
    pending: Option<Pending>,
    /// A flush waits for it.
    guard: Option<InFlightGuard>,
}

impl AcceptedWrite {
    /// Where it goes.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// What became of it.
    pub async fn outcome(mut self) -> Result<Written, WriteError> {
        self.wait().await
    }

    /// As above; still to be settled.
    async fn wait(&mut self) -> Result<Written, WriteError> {
        let answer = match &mut self.pending {
            Some(pending) => pending.await,
            None => unreachable!("it is asked for once"),
        };
        self.pending = None;
        let appended = answer.unwrap_or_else(|_| {
            Err(WriteError::OutcomeUnknown { by_time: false, cause: "the store gave no answer".to_owned() })
        })?;
        let position = Position { partition: self.partition, offset: appended.offset };
        Ok(Written { position, timestamp: appended.timestamp })
    }
}

impl Drop for AcceptedWrite {
    /// If the waiting ends early, the write is still counted until it is settled.
    fn drop(&mut self) {
        if let (Some(pending), Some(guard)) = (self.pending.take(), self.guard.take()) {
            tokio::spawn(async move {
                let _ = pending.await;
                drop(guard);
            });
        }
    }
}

impl Changelog {
    /// Hands a change to the log, at once, or says why not: nothing is written then.
    pub fn accept(&self, change: Change) -> Result<AcceptedWrite, WriteError> {
        let topic = self.topic_for_write()?;
        let partition = topic.partition_count.of_workspace(change.key.workspace_bytes());
        let guard = self.writes.accept(partition, change.key.clone());
        let record = NewRecord { partition, key: change.key, value: change.value, headers: change.headers };
        let pending = self.log.append(record)?;
        Ok(AcceptedWrite { partition, pending: Some(pending), guard: Some(guard) })
    }

    /// Writes a change. The log has accepted it, in the order of the calls, before this first waits. `None` with
    /// [`Ack::Buffered`].
    pub async fn write(
        &self,
        change: Change,
        ack: Ack,
        deadline: Option<Instant>,
    ) -> Result<Option<Written>, WriteError> {
        match ack {
            Ack::Buffered => {
                let (key, writes) = (change.key.clone(), self.writes.clone());
                let mut accepted = self.accept(change)?;
                tokio::spawn(async move {
                    if let Err(error) = accepted.wait().await {
                        let partition = accepted.partition;
                        tracing::warn!(partition = partition.number(), %error, "a buffered write failed");
                        // Before it is settled: a flush that waited for it must name it.
                        writes.record_failure(partition, key, error);
                    }
                });
                Ok(None)
            }
            Ack::Durable => {
                let outcome = self.accept(change)?.outcome();
                let Some(deadline) = deadline else { return outcome.await.map(Some) };
                let late = |_| WriteError::OutcomeUnknown {
                    by_time: true,
                    cause: "the deadline passed before the acknowledgement; the record stays queued".to_owned(),
                };
                timeout_at(deadline, outcome).await.map_err(late)?.map(Some)
            }
        }
    }

    /// Waits for every write accepted before the call; see `Flush` in the .proto.
    pub async fn flush(&self, failures_after: u64, deadline: Instant) -> Flushed {
        self.writes.flush(failures_after, deadline).await
    }
}
