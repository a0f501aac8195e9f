//! Writes: a key's partition, the log's acknowledgement, and what is owed to the caller when it does not come in time.

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::{Changelog, Flushed, flush::Ticket};
use crate::{
    log::{NewRecord, Pending, WriteError},
    model::{Headers, Key, Position},
};

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

/// An accepted write that somebody waits for. If the waiting ends early, the write is still counted until it is settled.
struct Awaited {
    pending: Option<Pending>,
    ticket: Option<Ticket>,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        if let (Some(pending), Some(ticket)) = (self.pending.take(), self.ticket.take()) {
            tokio::spawn(async move {
                let _ = pending.await;
                drop(ticket);
            });
        }
    }
}

fn outcome<T>(answer: Result<Result<T, WriteError>, impl Sized>) -> Result<T, WriteError> {
    answer.unwrap_or_else(|_| {
        Err(WriteError::OutcomeUnknown { by_time: false, cause: "the store gave no answer".to_owned() })
    })
}

impl Changelog {
    /// Writes a change. The log has accepted it, in the order of the calls, before this first waits. `None` with
    /// [`Ack::Buffered`].
    pub async fn write(
        &self,
        change: Change,
        ack: Ack,
        deadline: Option<Instant>,
    ) -> Result<Option<Written>, WriteError> {
        let topic = self.topic_for_write()?;
        let partition = topic.partition_count.of_workspace(change.key.workspace_bytes());
        let key = change.key.clone();
        let ticket = self.writes.accept(partition, key.clone());
        let pending =
            self.log.append(NewRecord { partition, key: change.key, value: change.value, headers: change.headers })?;
        match ack {
            Ack::Buffered => {
                let writes = self.writes.clone();
                tokio::spawn(async move {
                    if let Err(error) = outcome(pending.await) {
                        tracing::warn!(partition = partition.number(), %error, "a buffered write failed");
                        // Before the ticket is settled: a flush that waited for it must name it.
                        writes.fail(partition, key, error);
                    }
                    drop(ticket);
                });
                Ok(None)
            }
            Ack::Durable => {
                let mut awaited = Awaited { pending: Some(pending), ticket: Some(ticket) };
                let answer = match (deadline, awaited.pending.as_mut()) {
                    (Some(deadline), Some(pending)) => {
                        timeout_at(deadline, pending).await.map_err(|_| WriteError::OutcomeUnknown {
                            by_time: true,
                            cause: "the deadline passed before the acknowledgement; the record stays queued".to_owned(),
                        })?
                    }
                    (None, Some(pending)) => pending.await,
                    (_, None) => unreachable!("set above"),
                };
                awaited.pending = None;
                let appended = outcome(answer)?;
                let position = Position { partition, offset: appended.offset };
                Ok(Some(Written { position, timestamp: appended.timestamp }))
            }
        }
    }

    /// Waits for every write accepted before the call; see `Flush` in the .proto.
    pub async fn flush(&self, failures_after: u64, deadline: Instant) -> Flushed {
        self.writes.flush(failures_after, deadline).await
    }
}
