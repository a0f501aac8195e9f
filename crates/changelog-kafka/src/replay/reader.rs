//! One replay, from its first record to its end offsets: a state machine over a [`Cluster`], real or simulated.
//!
//! Promises:
//!
//! - **The end** of a partition is an offset, never a time. It is the leader's high watermark, taken after the request
//!   arrived. A record at `end - 1` or above reaches it, or an end-of-partition event at `end` or above. Transaction
//!   markers, aborted batches and compacted records occupy offsets and are never delivered. An event below the end
//!   comes from a broker that lags, and is ignored.
//! - **No key is missed.** Compaction can remove a record below the end, because a later record of its key came above
//!   the end. That takes at least min.compaction.lag.ms. If reading took longer, the end is taken again and reading
//!   goes on.
//! - **No deletion is missed.** Compaction can remove a tombstone after the replay has read the key's value. That takes
//!   at least delete.retention.ms. A replay that takes more than half of that is an error. A replay that follows must
//!   have been at the end of the log within that time.
//! - **The topic is the same one.** It is queried after a partition's last record and before its end is reported.
//!   Without that, librdkafka would adopt a new topic of the same name and continue in it.
//!
//! How far each partition is stands in [`super::progress`], what ends a replay early in [`super::limits`], and the
//! check of a replay that follows in [`super::follow`].
//!
//! Does not fold, sort or keep records.

use std::time::{Duration, Instant};

use bytes::Bytes;
use changelog_core::{
    log::{Class, Follow, ReadError, ReplayEvent, ReplayRequest, TopicProblem, TruncationCause},
    model::{Header, Partition, Record},
    rule::{Rule, holds},
};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::{
    batch::Batch,
    cluster::{Cluster, Consumer, Message, Offsets, Polled, SendOutcome, StartOffset},
    follow::{FollowCheck, OnCounts},
    limits::{LimitCheck, ReplayLimits, StopReason},
    progress::{PartitionProgress, Partitions},
    range::{ReplayRange, wait_for_stable_offsets},
};
use crate::timeouts::{MAX_UNCHECKED_POLLS, POLL_TIMEOUT};

/// A replay in progress.
pub struct ReplayReader<C: Cluster> {
    pub cluster: C,
    request: ReplayRequest,
    partitions: Partitions,
    limits: LimitCheck,
    follow: FollowCheck,
    batch: Batch,
    /// Records that were read since the caller was last told.
    untold_records: u64,
    /// When the first record was read.
    pub first_record: Option<Instant>,
    on_counts: OnCounts,
}

impl<C: Cluster> ReplayReader<C> {
    /// A replay before its first record.
    pub fn new(
        cluster: C,
        request: ReplayRequest,
        ranges: Vec<ReplayRange>,
        limits: ReplayLimits,
        on_counts: OnCounts,
    ) -> Self {
        let now = cluster.now();
        Self {
            partitions: Partitions::new(ranges, request.follow == Follow::FromStart),
            limits: LimitCheck::new(limits, &request, now),
            follow: FollowCheck::new(now),
            batch: Batch::default(),
            untold_records: 0,
            first_record: None,
            cluster,
            request,
            on_counts,
        }
    }

    /// Reads until every end offset, or without an end if the request follows. A consumer that was needed is left in
    /// `slot`.
    pub fn read(&mut self, slot: &mut Option<C::Consumer>) -> Result<(), StopReason> {
        self.complete_without_consumer()?;
        if self.is_complete() {
            return Ok(());
        }
        let start_offsets = self.start_offsets();
        let consumer = slot.insert(self.cluster.consumer(&start_offsets)?);
        let mut polls_since_check = 0;
        loop {
            // Records that are ready are taken at once. The poll waits only if no batch waits to be sent.
            let wait = if self.batch.is_empty() { POLL_TIMEOUT } else { Duration::ZERO };
            match consumer.poll(wait) {
                Polled::Record(message) => self.record(&message)?,
                Polled::End { partition, offset } => self.end_event(partition, offset)?,
                Polled::Failed { partition, code, text } => self.consumer_failed(partition, code, &text)?,
                Polled::Nothing => {
                    self.flush()?;
                    polls_since_check = MAX_UNCHECKED_POLLS;
                }
            }
            if self.is_complete() {
                return Ok(());
            }
            // A poll that finds nothing forces the checks below, so they also run if records are rare.
            polls_since_check += 1;
            if polls_since_check >= MAX_UNCHECKED_POLLS {
                polls_since_check = 0;
                let checked = self.check_limits(consumer.throttled_until());
                checked.map_err(|stop| stop.because(|| consumer.failure_since(self.limits.last_progress())))?;
            }
        }
    }

    fn is_complete(&self) -> bool {
        self.partitions.all_done() && !self.request.follow.is_on()
    }

    fn complete_without_consumer(&mut self) -> Result<(), StopReason> {
        if !holds(Rule::EmptyPartitionNeedsNoConsumer) {
            return Ok(());
        }
        let empty = self.partitions.iter().filter(|p| !p.done && p.needs_no_consumer());
        let empty: Vec<_> = empty.map(|p| p.range.partition.number()).collect();
        empty.into_iter().try_for_each(|number| self.end_reached(number))
    }

    fn start_offsets(&self) -> Vec<StartOffset> {
        let unread = self.partitions.iter().filter(|p| !p.done || self.request.follow.is_on());
        unread.map(PartitionProgress::start_offset).collect()
    }

    fn record(&mut self, message: &impl Message) -> Result<(), StopReason> {
        let (number, offset) = (message.partition(), message.offset());
        if self.first_record.is_none() {
            self.first_record = Some(self.cluster.now());
        }
        // A record above the end means that the end is reached, unless the end is then taken again above the record.
        while self.partitions.get(number).is_some_and(|p| p.ends_by(offset)) {
            self.end_reached(number)?;
        }
        let Some(progress) = self.partitions.get_mut(number) else { return Ok(()) };
        if progress.done && !self.request.follow.is_on() {
            return Ok(());
        }
        let leader_epoch = message.leader_epoch();
        progress.read(offset, leader_epoch);
        // Records of a partition that is done are no progress of the others.
        if !progress.done {
            self.limits.progressed();
        }
        let partition = progress.range.partition;
        let class = self.request.selection.classify(partition, message.key());
        let bytes = message.key().map_or(0, <[u8]>::len) + message.value().map_or(0, <[u8]>::len);
        progress.counts.count(class, bytes);
        self.untold_records += 1;
        let last = progress.ends_by(offset + 1) && holds(Rule::LastRecordIsEnd);
        if class == Class::Wanted {
            let headers = message.headers(&mut progress.counts.lossy_header_names);
            self.add_to_batch(partition, leader_epoch, message, headers)?;
        }
        if last { self.end_reached(number) } else { Ok(()) }
    }

    fn add_to_batch(
        &mut self,
        partition: Partition,
        leader_epoch: i32,
        message: &impl Message,
        headers: Vec<Header>,
    ) -> Result<(), StopReason> {
        if !self.batch.takes(partition) {
            self.flush()?;
        }
        let (offset, timestamp) = (message.offset(), message.timestamp());
        let record = Record { offset, timestamp, key: Bytes::new(), value: None, headers };
        let (key, value) = (message.key().unwrap_or_default(), message.value());
        self.batch.push((partition, leader_epoch), record, key, value, self.request.owned_records);
        if self.batch.is_full() { self.flush() } else { Ok(()) }
    }

    /// Sends an event, and waits while the caller's channel is full. A caller that stalls can't keep the replay past
    /// its deadline, past a problem with the topic, or past the end of the process.
    fn send(&mut self, mut event: ReplayEvent) -> Result<(), StopReason> {
        loop {
            match self.cluster.send(event, POLL_TIMEOUT) {
                SendOutcome::Sent => break,
                SendOutcome::Abandoned => return Err(StopReason::Abandoned),
                SendOutcome::Full(returned) => event = returned,
            }
            self.limits.was_held_up(self.cluster.now());
            self.limits.lower_delete_retention(self.cluster.delete_retention());
            self.limits.check_ended(&self.cluster, &self.partitions)?;
            self.limits.check_age(&self.cluster, &self.partitions)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StopReason> {
        self.batch.take_event().map_or(Ok(()), |event| self.send(event))
    }

    fn end_event(&mut self, number: i32, offset: i64) -> Result<(), StopReason> {
        let Some(progress) = self.partitions.get_mut(number) else { return Ok(()) };
        if offset > progress.position {
            // Transaction markers and removed records were passed, though nothing was delivered.
            progress.position = offset;
            if !progress.done {
                self.limits.progressed();
            }
        }
        let reached =
            (offset >= progress.range.end || !holds(Rule::EarlyEndEventIsIgnored)) && holds(Rule::UndeliveredTailIsEnd);
        if !progress.done && reached { self.end_reached(number) } else { Ok(()) }
    }

    /// The end of this round is reached. The partition is complete, unless the round was long enough for compaction to
    /// remove a record because of a later one above the end.
    fn end_reached(&mut self, number: i32) -> Result<(), StopReason> {
        let lag = self.limits.lower_min_compaction_lag(self.cluster.min_compaction_lag());
        let now = self.cluster.now();
        let Some(progress) = self.partitions.get(number) else { return Ok(()) };
        if progress.round_was_long(now, lag) && holds(Rule::SlowReplayTakesEndAgain) {
            let partition = progress.range.partition;
            let (max_wait, deadline) = (self.limits.limits().open_transaction_wait, self.limits.deadline());
            // A lost leader has as long to return as any other progress.
            let snapshot = self.limits.retry_unreachable(&mut self.cluster, &self.partitions, |cluster| {
                wait_for_stable_offsets(cluster, &[partition], max_wait, deadline)
            })?;
            let Some(Offsets { high, .. }) = snapshot.offsets.first().copied() else { return Ok(()) };
            let Some(progress) = self.partitions.get_mut(number) else { return Ok(()) };
            if progress.move_end(high, &snapshot, lag)? {
                // The position may be at the new end already.
                return if progress.position >= high { self.end_reached(number) } else { Ok(()) };
            }
        }
        self.complete(number)
    }

    fn complete(&mut self, number: i32) -> Result<(), StopReason> {
        self.flush()?;
        let topic = self.limits.retry_unreachable(&mut self.cluster, &self.partitions, Cluster::fetch_topic)?;
        self.request.topic.check_same(&topic)?;
        self.limits.lower_delete_retention(topic.delete_retention);
        self.limits.check_age(&self.cluster, &self.partitions)?;
        let Some(progress) = self.partitions.get(number) else { return Ok(()) };
        let whole_partition = progress.range.whole_partition;
        let Some(end) = self.partitions.finish(number) else { return Ok(()) };
        (self.on_counts)(end.partition, end.counts, whole_partition);
        self.send(ReplayEvent::End(end))
    }

    fn consumer_failed(&mut self, number: i32, code: Code, text: &str) -> Result<(), StopReason> {
        let progress = self.partitions.get(number);
        if progress.is_some_and(|p| p.done) && !self.request.follow.is_on() {
            return Ok(());
        }
        let partition = progress.map_or_else(|| self.partitions.first_unfinished().0, |p| p.range.partition);
        let topic = &self.request.topic.name;
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                if !holds(Rule::LogGapIsError) {
                    return Ok(());
                }
                Err(ReadError::Truncated { partition, cause: TruncationCause::Other(text.to_owned()) }.into())
            }
            Code::TopicAuthorizationFailed => {
                let what = format!("read topic {topic:?}");
                Err(TopicProblem::NotAuthorized { what, cause: text.to_owned() }.into())
            }
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicId => {
                Err(TopicProblem::NotFound { topic: topic.clone() }.into())
            }
            // The group is never joined, so a principal without rights on it can still read. Lost connections are
            // reconnected by librdkafka, or the replay ends because it makes no progress.
            Code::GroupAuthorizationFailed
            | Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::CoordinatorLoadInProgress
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition => {
                tracing::debug!(%code, text, "a replay goes on over an error");
                Ok(())
            }
            // Any other error may mean records that will not come, so it is never ignored.
            _ => Err(ReadError::Unreachable { cause: format!("partition {partition}: {text} ({code})") }.into()),
        }
    }

    fn check_limits(&mut self, throttled_until: Option<Instant>) -> Result<(), StopReason> {
        self.limits.check_ended(&self.cluster, &self.partitions)?;
        let (now, follow) = (self.cluster.now(), self.request.follow.is_on());
        if let Some(until) = throttled_until {
            self.limits.was_held_up(until.min(now));
        }
        if self.limits.take_progress(now) {
            self.cluster.count_read(std::mem::take(&mut self.untold_records));
        }
        self.limits.check_progress(&mut self.cluster, &self.partitions, now)?;
        if follow && self.follow.is_due(now, self.limits.limits().delete_retention) {
            self.check_follow()?;
        }
        self.limits.lower_delete_retention(self.cluster.delete_retention());
        self.limits.check_age(&self.cluster, &self.partitions)
    }

    fn check_follow(&mut self) -> Result<(), StopReason> {
        let no_stall_before = self.limits.no_stall_before();
        let events =
            self.follow.check(&mut self.cluster, &mut self.partitions, no_stall_before, &mut self.on_counts)?;
        if events.is_empty() {
            return Ok(());
        }
        // The records below the reported offsets must be delivered before them.
        self.flush()?;
        events.into_iter().try_for_each(|event| self.send(event))
    }
}
