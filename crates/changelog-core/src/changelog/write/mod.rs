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

use std::sync::Arc;

use super::{Changelog, metrics::Metrics};
use crate::{
    log::{Appended, PendingAppend, WriteError},
    model::Partition,
};

pub use in_flight::{FailedWrite, FailuresKept, Flushed, InFlightWrites, Undelivered};
pub use target::{PreparedRecord, WriteTarget};

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
    accepted_at: Instant,
    metrics: Arc<Metrics>,
}

impl AcceptedWrite {
    /// The partition of the record.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// Waits for the outcome, without a limit of its own: the log has one. Dropping the future cancels no write.
    pub async fn outcome(mut self) -> Result<Appended, WriteError> {
        self.wait().await
    }

    /// Waits for the outcome once, and keeps the write in flight until this is dropped.
    async fn wait(&mut self) -> Result<Appended, WriteError> {
        let outcome = match &mut self.pending {
            Some(pending) => pending.await,
            None => unreachable!("the outcome is awaited once"),
        };
        self.pending = None;
        let outcome = outcome.unwrap_or_else(|_| Err(no_answer()));
        self.metrics.writes.ended(&outcome, self.accepted_at);
        outcome
    }
}

fn no_answer() -> WriteError {
    WriteError::OutcomeUnknown { by_time: false, cause: "the store gave no answer".to_owned() }
}

impl Drop for AcceptedWrite {
    /// A write whose caller stops waiting stays in flight until its outcome is known.
    fn drop(&mut self) {
        if let (Some(pending), Some(guard)) = (self.pending.take(), self.guard.take()) {
            let (metrics, accepted_at) = (self.metrics.clone(), self.accepted_at);
            guard.tasks().clone().spawn(async move {
                let outcome = pending.await.unwrap_or_else(|_| Err(no_answer()));
                metrics.writes.ended(&outcome, accepted_at);
                drop(guard);
            });
        }
    }
}

impl Changelog {
    /// Passes a record to the log without waiting, so the order of calls is the order of the records of a partition. On
    /// an error nothing is written, and nothing will be.
    pub fn accept(&self, PreparedRecord(record): PreparedRecord) -> Result<AcceptedWrite, WriteError> {
        let partition = record.partition;
        let guard = self.writes.accept(partition, record.key.clone());
        let (pending, accepted_at) = (self.log.append(record)?, Instant::now());
        let metrics = self.metrics.clone();
        Ok(AcceptedWrite { partition, pending: Some(pending), guard: Some(guard), accepted_at, metrics })
    }

    /// Counts a write that was refused before the log accepted it, and is not tried again. [`Changelog::write`] counts
    /// its own.
    pub fn refused(&self, error: &WriteError) {
        self.metrics.writes.refused(error);
    }

    /// Writes a record; see [`Changelog::accept`]. The log accepts it before the first await, so the order of calls is
    /// the order of records.
    ///
    /// With [`Ack::Durable`] it waits for the outcome. If `deadline` passes before, the result is
    /// [`WriteError::OutcomeUnknown`], and the record may still be written. Without a deadline the log's own limit
    /// holds: `--write-timeout` on Kafka. With [`Ack::Buffered`] it returns `None` at once, and a failure is kept for
    /// [`Changelog::flush`].
    pub async fn write(
        &self,
        record: PreparedRecord,
        ack: Ack,
        deadline: Option<Instant>,
    ) -> Result<Option<Appended>, WriteError> {
        let accept = |record| self.accept(record).inspect_err(|error| self.refused(error));
        match ack {
            Ack::Buffered => {
                let (key, writes) = (record.key().clone(), self.writes.clone());
                let mut accepted = accept(record)?;
                self.tasks.spawn(async move {
                    if let Err(error) = accepted.wait().await {
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
                let mut accepted = accept(record)?;
                let Some(deadline) = deadline else { return accepted.wait().await.map(Some) };
                let late = |_| WriteError::OutcomeUnknown {
                    by_time: true,
                    cause: "the deadline passed before the acknowledgement; the record stays queued".to_owned(),
                };
                timeout_at(deadline, accepted.wait()).await.map_err(late)?.map(Some)
            }
        }
    }

    /// Waits until `deadline` for every write accepted before the call, buffered or durable. Returns how many have no
    /// outcome yet, and the kept failures of buffered writes with an id above `failures_after`. 0 returns all of them.
    /// At most 10,000 failures are kept; older ones are counted.
    pub async fn flush(&self, failures_after: u64, deadline: Instant) -> Flushed {
        self.writes.flush(failures_after, deadline).await
    }
}
