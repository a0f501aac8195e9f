//! What ends a replay before its end: its deadline, its age, no progress, a problem with the topic, and a caller that
//! has left.
//!
//! Does not read records. The reader says when it made progress and when its caller kept it waiting.

use std::time::{Duration, Instant};

use changelog_core::{
    log::{DELETE_RETENTION_PROPERTY, ReadError, ReplayRequest, TopicProblem, TruncationCause},
    rule::{Rule, holds},
};

use super::{
    cluster::{Cluster, Offsets},
    progress::{PartitionProgress, Partitions},
};
use crate::timeouts::{MAX_AGE_DIVISOR, UNREACHABLE_RETRY_DELAY};

/// What bounds a replay, in addition to its request's deadline.
#[derive(Debug, Clone, Copy)]
pub struct ReplayLimits {
    /// How long a replay waits for an open transaction.
    pub open_transaction_wait: Duration,
    /// How long a replay may read nothing.
    pub no_progress: Duration,
    /// The topic's min.compaction.lag.ms.
    pub min_compaction_lag: Duration,
    /// The topic's delete.retention.ms.
    pub delete_retention: Duration,
}

/// Why a replay stopped before its end.
#[derive(Debug)]
pub enum StopReason {
    /// The caller has dropped the replay.
    Abandoned,
    /// An error to be sent to the caller.
    Failed(ReadError),
}

impl StopReason {
    /// Adds why nothing was read, if that is known.
    pub fn because(mut self, why: impl FnOnce() -> Option<String>) -> Self {
        if let Self::Failed(ReadError::NoProgress { cause, .. }) = &mut self {
            *cause = why();
        }
        self
    }
}

impl From<ReadError> for StopReason {
    fn from(error: ReadError) -> Self {
        Self::Failed(error)
    }
}

impl From<TopicProblem> for StopReason {
    fn from(problem: TopicProblem) -> Self {
        Self::Failed(problem.into())
    }
}

/// Checks a replay against its limits.
pub struct LimitCheck {
    limits: ReplayLimits,
    deadline: Instant,
    follow: bool,
    /// Something was read since `last_progress` was set. The clock is not read for each record, because it is too slow.
    progress_since_check: bool,
    last_progress: Instant,
    /// Time before this is no stall of the log.
    no_stall_before: Instant,
}

impl LimitCheck {
    pub fn new(limits: ReplayLimits, request: &ReplayRequest, now: Instant) -> Self {
        Self {
            limits,
            deadline: request.deadline.into_std(),
            follow: request.follow.is_on(),
            progress_since_check: false,
            last_progress: now,
            no_stall_before: now,
        }
    }

    pub fn limits(&self) -> ReplayLimits {
        self.limits
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    pub fn last_progress(&self) -> Instant {
        self.last_progress
    }

    pub fn no_stall_before(&self) -> Instant {
        self.no_stall_before
    }

    /// Takes the topic's min.compaction.lag.ms as of now. Returns the smallest value so far, because the cleaner
    /// follows a lowered one at once.
    pub fn lower_min_compaction_lag(&mut self, current: Duration) -> Duration {
        self.limits.min_compaction_lag = self.limits.min_compaction_lag.min(current);
        self.limits.min_compaction_lag
    }

    /// Takes the topic's delete.retention.ms as of now, which may have been lowered.
    pub fn lower_delete_retention(&mut self, current: Duration) {
        self.limits.delete_retention = self.limits.delete_retention.min(current);
    }

    /// Something of a partition that is not done was read.
    pub fn progressed(&mut self) {
        self.progress_since_check = true;
    }

    /// Until then the caller kept the reader waiting, or a broker delayed its answers by a quota. That time is no stall
    /// of the log.
    pub fn was_held_up(&mut self, until: Instant) {
        self.no_stall_before = self.no_stall_before.max(until);
        self.last_progress = self.last_progress.max(until);
    }

    /// Whether something was read since the last call.
    pub fn take_progress(&mut self, now: Instant) -> bool {
        let progressed = std::mem::take(&mut self.progress_since_check);
        if progressed {
            self.last_progress = now;
        }
        progressed
    }

    /// What ends a replay at any time, also while its caller takes nothing.
    pub fn check_ended(&self, cluster: &impl Cluster, partitions: &Partitions) -> Result<(), StopReason> {
        if cluster.is_abandoned() {
            return Err(StopReason::Abandoned);
        }
        // A consumer notices this late or never. librdkafka adopts a new topic of the same name, and waits half a
        // minute for a deleted one.
        if let Some(problem) = cluster.problem() {
            return Err(problem.into());
        }
        if partitions.all_done() {
            return if cluster.is_closed() { Err(ReadError::Draining.into()) } else { Ok(()) };
        }
        if cluster.now() >= self.deadline {
            let (partition, position, end) = partitions.first_unfinished();
            return Err(ReadError::Deadline { partition, position, end }.into());
        }
        Ok(())
    }

    /// Fails if a tombstone that is still to be read may have been removed meanwhile.
    pub fn check_age(&self, cluster: &impl Cluster, partitions: &Partitions) -> Result<(), StopReason> {
        let retention = self.limits.delete_retention;
        let limit = retention / MAX_AGE_DIVISOR;
        let now = cluster.now();
        let age = |p: &PartitionProgress| now.saturating_duration_since(p.complete_as_of);
        let is_read = |p: &PartitionProgress| self.follow || !p.done && !p.reads_nothing();
        match partitions.iter().find(|p| is_read(p) && age(p) > limit) {
            Some(progress) if holds(Rule::ReplayWithinDeleteRetention) => {
                let (partition, read) = (progress.range.partition, age(progress));
                Err(ReadError::too_slow(partition, read, retention, DELETE_RETENTION_PROPERTY).into())
            }
            _ => Ok(()),
        }
    }

    /// Fails if nothing was read for too long: the log was truncated, or it can't be read.
    pub fn check_progress(
        &self,
        cluster: &mut impl Cluster,
        partitions: &Partitions,
        now: Instant,
    ) -> Result<(), StopReason> {
        let stalled = now.saturating_duration_since(self.last_progress);
        if partitions.all_done() || stalled < self.limits.no_progress || !holds(Rule::NoProgressIsError) {
            return Ok(());
        }
        let snapshot = cluster.offsets(&partitions.which(false), self.deadline)?;
        for Offsets { partition, high, .. } in snapshot.offsets {
            let end = partitions.get(partition.number()).map_or(0, |p| p.range.end);
            if high < end {
                let cause = TruncationCause::EndWentBack { was: end, high };
                return Err(ReadError::Truncated { partition, cause }.into());
            }
        }
        let (partition, position, end) = partitions.first_unfinished();
        let seconds = self.limits.no_progress.as_secs();
        Err(ReadError::NoProgress { partition, position, end, seconds, cause: None }.into())
    }

    /// Retries a query while the brokers are unreachable, for as long as the replay may make no progress. A cluster
    /// that has just lost a broker elects new leaders within that time.
    pub fn retry_unreachable<C: Cluster, T>(
        &self,
        cluster: &mut C,
        partitions: &Partitions,
        mut query: impl FnMut(&mut C) -> Result<T, ReadError>,
    ) -> Result<T, StopReason> {
        let until = self.deadline.min(cluster.now() + self.limits.no_progress);
        loop {
            match query(cluster) {
                Ok(answer) => return Ok(answer),
                Err(ReadError::Unreachable { .. }) if cluster.now() + UNREACHABLE_RETRY_DELAY < until => {
                    cluster.pause(UNREACHABLE_RETRY_DELAY);
                    self.check_ended(cluster, partitions)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
