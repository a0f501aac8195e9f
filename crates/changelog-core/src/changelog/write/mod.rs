//! Writes: the partition of a key, the log's acknowledgement, and the outcome that the caller gets.
//!
//! Promises: writes of one partition are applied in the order of the calls. An accepted write counts as in flight until
//! the log reports its outcome, even if its caller has gone.
//! Does not: retry. librdkafka or the caller does.

mod in_flight;
mod target;
#[cfg(test)]
mod tests;

use tokio::time::{Instant, timeout_at};

use super::Changelog;
use crate::{
    log::{Appended, NewRecord, PendingAppend, WriteError},
    model::Partition,
};

pub use in_flight::{FailedWrite, Flushed, InFlightWrites, Undelivered};
pub use target::WriteTarget;

use in_flight::InFlightGuard;

/// When a write returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ack {
    /// After the log has acknowledged the record.
    Durable,
    /// When the log has accepted the record. A later failure is reported by `Flush`.
    Buffered,
}

/// A write that the log has accepted. Dropping it does not cancel the write, which stays in flight.
#[derive(Debug)]
pub struct AcceptedWrite {
    partition: Partition,
    /// `None` after the log has reported the outcome.
    pending: Option<PendingAppend>,
    /// Counts the write as in flight: a flush waits for it.
    guard: Option<InFlightGuard>,
}

impl AcceptedWrite {
    /// The partition of the record.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// Waits for the outcome, which is reported once. The write stays in flight until this is dropped.
    pub async fn outcome(&mut self) -> Result<Appended, WriteError> {
        let no_answer = |cause: &str| WriteError::OutcomeUnknown { by_time: false, cause: cause.to_owned() };
        let Some(pending) = &mut self.pending else { return Err(no_answer("the outcome was reported before")) };
        let outcome = pending.await;
        self.pending = None;
        outcome.unwrap_or_else(|_| Err(no_answer("the store gave no answer")))
    }
}

impl Drop for AcceptedWrite {
    /// A write whose caller stops waiting stays in flight until its outcome is known.
    fn drop(&mut self) {
        if let (Some(pending), Some(guard)) = (self.pending.take(), self.guard.take()) {
            let tasks = guard.tasks().clone();
            tasks.spawn(async move {
                let _ = pending.await;
                drop(guard);
            });
        }
    }
}

impl Changelog {
    /// Passes a record to the log without waiting. The record comes from a fresh [`Changelog::write_target`], which has
    /// checked that writes are possible. On an error nothing is written.
    pub fn accept(&self, record: NewRecord) -> Result<AcceptedWrite, WriteError> {
        let partition = record.partition;
        let guard = self.writes.accept(partition, record.key.clone());
        let pending = self.log.append(record)?;
        Ok(AcceptedWrite { partition, pending: Some(pending), guard: Some(guard) })
    }

    /// Writes a record; see [`Changelog::accept`]. The log accepts it before the first await, so the order of calls is
    /// the order of records. Returns `None` with [`Ack::Buffered`].
    pub async fn write(
        &self,
        record: NewRecord,
        ack: Ack,
        deadline: Option<Instant>,
    ) -> Result<Option<Appended>, WriteError> {
        match ack {
            Ack::Buffered => {
                let (key, writes) = (record.key.clone(), self.writes.clone());
                let mut accepted = self.accept(record)?;
                self.tasks.spawn(async move {
                    if let Err(error) = accepted.outcome().await {
                        let partition = accepted.partition;
                        tracing::warn!(partition = partition.number(), %error, "a buffered write failed");
                        // Before the write leaves the in-flight set: a flush that waited for it must report the
                        // failure.
                        writes.record_failure(partition, key, error);
                    }
                });
                Ok(None)
            }
            Ack::Durable => {
                let mut accepted = self.accept(record)?;
                let Some(deadline) = deadline else { return accepted.outcome().await.map(Some) };
                let late = |_| WriteError::OutcomeUnknown {
                    by_time: true,
                    cause: "the deadline passed before the acknowledgement; the record stays queued".to_owned(),
                };
                timeout_at(deadline, accepted.outcome()).await.map_err(late)?.map(Some)
            }
        }
    }

    /// Waits for every write accepted before the call; see `Flush` in the .proto.
    pub async fn flush(&self, failures_after: u64, deadline: Instant) -> Flushed {
        self.writes.flush(failures_after, deadline).await
    }
}
