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
//! Does not fold, sort or keep records.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::{
    cluster::{Cluster, Consumer, Message, Polled, SendOutcome, StartOffset},
    offsets::Offsets,
    range::{ReplayRange, wait_for_stable_offsets},
};
use crate::{
    log::{
        Class, Counts, MOVING_INTERVAL, PROGRESS_INTERVAL, PartitionEnd, ReadError, ReplayEvent, ReplayRequest, Topic,
        TopicProblem,
    },
    model::{Partition, Record},
    rule::{Rule, holds},
};

/// A batch is sent when it has this many records or bytes.
const MAX_BATCH_RECORDS: usize = 512;
const MAX_BATCH_BYTES: usize = 256 * 1024;
/// How long a poll waits. It bounds how late a dropped replay is noticed.
const POLL_TIMEOUT: Duration = Duration::from_millis(50);
/// How many polls may pass between checks of the time, the caller and the topic.
const MAX_UNCHECKED_POLLS: u32 = 256;
/// How often an end is taken again before the replay ends with an error.
const MAX_ROUNDS: u32 = 5;
/// A shorter round is safe even if min.compaction.lag.ms is 0. A record above the round's end must have its segment
/// closed and cleaned within the round to remove anything below the end.
pub const SHORT_ROUND: Duration = Duration::from_millis(250);
/// How long a replay that follows may be stalled. Three things stall it: a last stable offset below the high watermark,
/// a position below the last stable offset, and leaders that do not return offsets.
const FOLLOW_STALL: Duration = Duration::from_secs(60);

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

/// Rejects a topic that is not the one a request was made for.
pub fn check_same_topic(expected: &Topic, found: &Topic) -> Result<(), TopicProblem> {
    let topic = expected.name.clone();
    if expected.id != found.id && holds(Rule::RecreatedTopicIsError) {
        return Err(TopicProblem::Recreated { topic, was: expected.id.clone(), now: found.id.clone() });
    }
    if expected.partition_count != found.partition_count && holds(Rule::GrownTopicIsError) {
        let (expected, actual) = (expected.partition_count.get(), found.partition_count.get());
        return Err(TopicProblem::PartitionCountChanged { topic, expected, actual });
    }
    Ok(())
}

struct PartitionProgress {
    range: ReplayRange,
    /// Everything below this offset has been read.
    position: i64,
    counts: Counts,
    rounds: u32,
    done: bool,
    /// While following: a last stable offset that stays below the high watermark, and since when.
    lso_stalled: Option<(i64, Instant)>,
    /// While following: a position that stays below the last stable offset, and since when.
    position_stalled: Option<(i64, Instant)>,
    /// While following: the high watermark was below the position at the last check.
    hwm_below_position: bool,
    /// A tombstone written after this time may have been removed before it was read. It is when the end was taken and,
    /// while following, when the position was last at the end of the log.
    complete_as_of: Instant,
}

impl PartitionProgress {
    fn new(range: ReplayRange) -> Self {
        Self {
            position: range.start,
            complete_as_of: range.end_taken_at,
            range,
            counts: Counts::default(),
            rounds: 0,
            done: false,
            lso_stalled: None,
            position_stalled: None,
            hwm_below_position: false,
        }
    }

    /// Checks a replay that follows against new offsets. Time before `consumer_unblocked_at` is no stall of the log,
    /// because the caller kept the reader waiting.
    fn check_offsets(
        &mut self,
        offsets: Offsets,
        now: Instant,
        consumer_unblocked_at: Instant,
    ) -> Result<(), ReadError> {
        let Offsets { partition, last_stable, high, .. } = offsets;
        let position = self.position;
        if last_stable == high {
            self.lso_stalled = None;
        } else {
            let since = stalled_since(&mut self.lso_stalled, last_stable, now);
            if now.saturating_duration_since(since) >= FOLLOW_STALL {
                return Err(ReadError::OpenTransaction { partition, last_stable, high });
            }
        }
        if position >= last_stable {
            self.position_stalled = None;
        } else {
            let since = stalled_since(&mut self.position_stalled, position, now).max(consumer_unblocked_at);
            if now.saturating_duration_since(since) >= FOLLOW_STALL {
                let seconds = FOLLOW_STALL.as_secs();
                let cause =
                    format!("partition {partition}: no progress for {seconds} s at offset {position} of {last_stable}");
                return Err(ReadError::Unreachable { cause });
            }
        }
        // Once is not enough: it may be the response of a leader that has been replaced.
        if std::mem::replace(&mut self.hwm_below_position, position > high) && position > high {
            let cause = format!("its end went back from {position} to {high}");
            return Err(ReadError::Truncated { partition, cause });
        }
        Ok(())
    }
}

/// Since when the offset has been `at`; now, if it was another one before.
fn stalled_since(seen: &mut Option<(i64, Instant)>, at: i64, now: Instant) -> Instant {
    let since = seen.filter(|(before, _)| *before == at).map_or(now, |(_, since)| since);
    *seen = Some((at, since));
    since
}

/// Records of one partition that wait to be sent. Unless the caller asks for owned records
/// ([`ReplayRequest::owned_records`]), their keys and values are copied into one buffer. An allocation for each, freed
/// by another thread, costs more than the copying.
#[derive(Default)]
struct Batch {
    partition: Option<Partition>,
    records: Vec<Record>,
    /// Keys and values, concatenated.
    buffer: BytesMut,
    /// For each record, where its key ends, and where its value ends if it has one.
    ends: Vec<(usize, Option<usize>)>,
    bytes: usize,
    leader_epoch: i32,
}

impl Batch {
    /// Adds a record that comes without its key and value.
    fn push(&mut self, mut record: Record, key: &[u8], value: Option<&[u8]>, owned: bool) {
        self.bytes += record.memory_size() + key.len() + value.map_or(0, <[u8]>::len);
        if owned {
            (record.key, record.value) = (Bytes::copy_from_slice(key), value.map(Bytes::copy_from_slice));
            self.records.push(record);
            return;
        }
        self.buffer.extend_from_slice(key);
        let key_end = self.buffer.len();
        self.buffer.extend_from_slice(value.unwrap_or_default());
        self.ends.push((key_end, value.map(|_| self.buffer.len())));
        self.records.push(record);
    }

    /// The records with their keys and values.
    fn into_records(self) -> Vec<Record> {
        let (mut records, buffer, mut from) = (self.records, self.buffer.freeze(), 0);
        for (record, (key_end, value_end)) in records.iter_mut().zip(self.ends) {
            record.key = buffer.slice(from..key_end);
            record.value = value_end.map(|end| buffer.slice(key_end..end));
            from = value_end.unwrap_or(key_end);
        }
        records
    }
}

/// A replay in progress.
pub struct ReplayReader<C: Cluster> {
    pub cluster: C,
    request: ReplayRequest,
    limits: ReplayLimits,
    partitions: BTreeMap<i32, PartitionProgress>,
    batch: Batch,
    unfinished: usize,
    /// Something was read since `last_progress` was set. The clock is not read for each record, because it is too slow.
    progress_since_check: bool,
    last_progress: Instant,
    last_follow_check: Instant,
    /// When an event was last sent.
    said: Instant,
    /// When the caller last took an event that had waited for room.
    consumer_unblocked_at: Instant,
    /// While following: since when leaders do not return offsets.
    offsets_unavailable_since: Option<Instant>,
    deadline: Instant,
    /// When the first record was read.
    pub first_record: Option<Instant>,
    /// Called with the counts of a partition, and whether they are of the whole partition.
    on_counts: Box<dyn FnMut(Partition, Counts, bool) + Send>,
}

impl<C: Cluster> ReplayReader<C> {
    /// A replay before its first record. `on_counts` gets the counts of a partition, and whether they are of the whole
    /// partition.
    pub fn new(
        cluster: C,
        request: ReplayRequest,
        ranges: Vec<ReplayRange>,
        limits: ReplayLimits,
        on_counts: Box<dyn FnMut(Partition, Counts, bool) + Send>,
    ) -> Self {
        let now = cluster.now();
        Self {
            deadline: request.deadline.into_std(),
            unfinished: ranges.len(),
            partitions: ranges
                .into_iter()
                .map(|range| (range.partition.number(), PartitionProgress::new(range)))
                .collect(),
            batch: Batch::default(),
            progress_since_check: false,
            last_progress: now,
            last_follow_check: now,
            said: now,
            consumer_unblocked_at: now,
            offsets_unavailable_since: None,
            first_record: None,
            cluster,
            request,
            limits,
            on_counts,
        }
    }

    /// Reads until every end offset, or without an end if the request follows. A consumer that was needed is left in
    /// `slot`.
    pub fn read(&mut self, slot: &mut Option<C::Consumer>) -> Result<(), StopReason> {
        // A resumed replay may start at the end of a log that was truncated and has grown again. A consumer checks its
        // leader epoch, so that partition is not complete without one.
        let nothing_to_read = |p: &PartitionProgress| p.position >= p.range.end && p.range.leader_epoch < 0;
        let nothing_left: Vec<i32> =
            self.partitions.iter().filter(|(_, p)| nothing_to_read(p)).map(|(number, _)| *number).collect();
        for number in nothing_left {
            if holds(Rule::EmptyPartitionNeedsNoConsumer) {
                self.end_reached(number)?;
            }
        }
        if self.unfinished == 0 && !self.request.follow {
            return Ok(());
        }
        let start_offsets = self.start_offsets();
        let consumer = slot.insert(self.cluster.consumer(&start_offsets)?);
        let mut polls_since_check = 0;
        loop {
            // Records that are ready are taken at once. The poll waits only if no batch waits to be sent.
            let wait = if self.batch.records.is_empty() { POLL_TIMEOUT } else { Duration::ZERO };
            match consumer.poll(wait) {
                Polled::Record(message) => self.record(&message)?,
                Polled::End { partition, offset } => self.end_event(partition, offset)?,
                Polled::Failed { partition, code, text } => self.consumer_failed(partition, code, &text)?,
                Polled::Nothing => {
                    self.flush()?;
                    polls_since_check = MAX_UNCHECKED_POLLS;
                }
            }
            if self.unfinished == 0 && !self.request.follow {
                return Ok(());
            }
            // A poll that finds nothing forces the checks below, so they also run if records are rare.
            polls_since_check += 1;
            if polls_since_check >= MAX_UNCHECKED_POLLS {
                polls_since_check = 0;
                self.check_time()?;
            }
        }
    }

    fn start_offsets(&self) -> Vec<StartOffset> {
        let unread = self.partitions.values().filter(|p| !p.done || self.request.follow);
        let start_offset = |p: &PartitionProgress| StartOffset {
            partition: p.range.partition,
            offset: p.position,
            leader_epoch: p.range.leader_epoch,
        };
        unread.map(start_offset).collect()
    }

    fn record(&mut self, message: &impl Message) -> Result<(), StopReason> {
        let (number, offset) = (message.partition(), message.offset());
        if self.first_record.is_none() {
            self.first_record = Some(self.cluster.now());
        }
        // A record above the end means that the end is reached, unless the end is then taken again above the record.
        while self.partitions.get(&number).is_some_and(|p| !p.done && offset >= p.range.end) {
            self.end_reached(number)?;
        }
        let Some(progress) = self.partitions.get_mut(&number) else { return Ok(()) };
        if progress.done && !self.request.follow {
            return Ok(());
        }
        progress.position = offset + 1;
        let epoch = message.leader_epoch();
        progress.range.leader_epoch = epoch;
        // Records of a partition that is done are no progress of the others.
        self.progress_since_check |= !progress.done;
        let partition = progress.range.partition;
        let class = self.request.selection.classify(partition, message.key());
        progress.counts.count(class);
        let last = !progress.done && offset >= progress.range.end - 1 && holds(Rule::LastRecordIsEnd);
        if class == Class::Wanted {
            self.add_to_batch(partition, message, epoch)?;
        }
        if last { self.end_reached(number) } else { Ok(()) }
    }

    fn add_to_batch(&mut self, partition: Partition, message: &impl Message, epoch: i32) -> Result<(), StopReason> {
        if self.batch.partition.is_some_and(|p| p != partition) {
            self.flush()?;
        }
        let mut lossy_names = 0;
        let headers = message.headers(&mut lossy_names);
        if let Some(progress) = self.partitions.get_mut(&partition.number()) {
            progress.counts.lossy_header_names += lossy_names;
        }
        let record = Record {
            offset: message.offset(),
            timestamp: message.timestamp(),
            key: Bytes::new(),
            value: None,
            headers,
        };
        self.batch.partition = Some(partition);
        self.batch.leader_epoch = epoch;
        let (key, value) = (message.key().unwrap_or_default(), message.value());
        self.batch.push(record, key, value, self.request.owned_records);
        if self.batch.records.len() >= MAX_BATCH_RECORDS || self.batch.bytes >= MAX_BATCH_BYTES {
            self.flush()
        } else {
            Ok(())
        }
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
            // Time spent on a slow caller is no stall of the log.
            self.consumer_unblocked_at = self.cluster.now();
            self.last_progress = self.consumer_unblocked_at;
            self.check_ended()?;
            self.check_age()?;
        }
        self.said = self.cluster.now();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StopReason> {
        let Some(partition) = self.batch.partition else { return Ok(()) };
        let batch = std::mem::take(&mut self.batch);
        let leader_epoch = batch.leader_epoch;
        self.send(ReplayEvent::Records { partition, records: batch.into_records(), leader_epoch })
    }

    fn end_event(&mut self, number: i32, offset: i64) -> Result<(), StopReason> {
        let Some(progress) = self.partitions.get_mut(&number) else { return Ok(()) };
        if offset > progress.position {
            // Transaction markers and removed records were passed, though nothing was delivered.
            progress.position = offset;
            self.progress_since_check |= !progress.done;
        }
        let reached =
            (offset >= progress.range.end || !holds(Rule::EarlyEndEventIsIgnored)) && holds(Rule::UndeliveredTailIsEnd);
        if !progress.done && reached { self.end_reached(number) } else { Ok(()) }
    }

    /// The end of this round is reached. The partition is complete, unless the round was long enough for compaction to
    /// remove a record because of a later one above the end.
    fn end_reached(&mut self, number: i32) -> Result<(), StopReason> {
        // The smallest value so far, because the cleaner follows a lowered one at once.
        let lag = self.limits.min_compaction_lag.min(self.cluster.min_compaction_lag());
        self.limits.min_compaction_lag = lag;
        let now = self.cluster.now();
        let Some(progress) = self.partitions.get_mut(&number) else { return Ok(()) };
        let elapsed = now.saturating_duration_since(progress.range.end_taken_at);
        let nothing_read = progress.position == progress.range.start && progress.range.start == progress.range.end;
        let take_end_again = if lag.is_zero() { progress.rounds == 0 || elapsed > SHORT_ROUND } else { elapsed > lag };
        if take_end_again && !nothing_read && holds(Rule::SlowReplayTakesEndAgain) {
            let partition = progress.range.partition;
            let max_wait = self.limits.open_transaction_wait;
            // A lost leader has as long to return as any other progress.
            let snapshot = self.retry_unreachable(|of| {
                wait_for_stable_offsets(&mut of.cluster, &[partition], max_wait, of.deadline)
            })?;
            let Some(Offsets { high, .. }) = snapshot.offsets.first().copied() else { return Ok(()) };
            let Some(progress) = self.partitions.get_mut(&number) else { return Ok(()) };
            if high < progress.range.end {
                let cause = format!("its end went back from {} to {high}", progress.range.end);
                return Err(ReadError::Truncated { partition, cause }.into());
            }
            // If nothing came above the old end, nothing above it can have superseded a record.
            if high > progress.range.end {
                progress.rounds += 1;
                if progress.rounds >= MAX_ROUNDS {
                    let cause = format!(
                        "after {MAX_ROUNDS} rounds its end is {high} and min.compaction.lag.ms is {}",
                        lag.as_millis()
                    );
                    return Err(ReadError::Moved { partition, cause }.into());
                }
                progress.range.end = high;
                progress.range.end_taken_at = snapshot.at;
                progress.range.end_taken_at_wall = snapshot.wall;
                // The position may be at the new end already.
                return if progress.position >= high { self.end_reached(number) } else { Ok(()) };
            }
        }
        self.complete(number)
    }

    fn complete(&mut self, number: i32) -> Result<(), StopReason> {
        self.flush()?;
        let topic = self.retry_unreachable(|of| of.cluster.fetch_topic())?;
        check_same_topic(&self.request.topic, &topic)?;
        // The topic's delete.retention.ms may have been lowered meanwhile.
        self.limits.delete_retention = self.limits.delete_retention.min(topic.delete_retention);
        self.check_age()?;
        let Some(progress) = self.partitions.get_mut(&number) else { return Ok(()) };
        progress.done = true;
        progress.complete_as_of = progress.range.end_taken_at;
        (self.on_counts)(progress.range.partition, progress.counts, progress.range.whole_partition);
        let end = PartitionEnd {
            partition: progress.range.partition,
            start: progress.range.start,
            end: progress.range.end,
            counts: std::mem::take(&mut progress.counts),
            leader_epoch: progress.range.leader_epoch,
            at_end: progress.range.end_taken_at_wall,
        };
        self.unfinished -= 1;
        self.send(ReplayEvent::End(end))
    }

    /// Retries a query while the brokers are unreachable, for as long as the replay may make no progress. A cluster
    /// that has just lost a broker elects new leaders within that time.
    fn retry_unreachable<T>(
        &mut self,
        mut query: impl FnMut(&mut Self) -> Result<T, ReadError>,
    ) -> Result<T, StopReason> {
        let until = self.deadline.min(self.cluster.now() + self.limits.no_progress);
        loop {
            match query(self) {
                Ok(answer) => return Ok(answer),
                Err(ReadError::Unreachable { .. }) if self.cluster.now() + POLL_TIMEOUT < until => {
                    self.cluster.pause(POLL_TIMEOUT);
                    self.check_ended()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn consumer_failed(&mut self, number: i32, code: Code, text: &str) -> Result<(), StopReason> {
        let progress = self.partitions.get(&number);
        if progress.is_some_and(|p| p.done) && !self.request.follow {
            return Ok(());
        }
        let partition = progress.map_or_else(|| self.first_unfinished(), |p| p.range.partition);
        let topic = &self.request.topic.name;
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                if !holds(Rule::LogGapIsError) {
                    return Ok(());
                }
                Err(ReadError::Truncated { partition, cause: text.to_owned() }.into())
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

    fn first_unfinished(&self) -> Partition {
        let any = self.partitions.values().min_by_key(|p| (p.done, p.range.partition));
        any.map_or_else(|| Partition::new(0).unwrap_or_else(|| unreachable!("0 is a partition")), |p| p.range.partition)
    }

    /// What ends a replay at any time, also while its caller takes nothing.
    fn check_ended(&mut self) -> Result<(), StopReason> {
        if self.cluster.is_abandoned() {
            return Err(StopReason::Abandoned);
        }
        // A consumer notices this late or never. librdkafka adopts a new topic of the same name, and waits half a
        // minute for a deleted one.
        if let Some(problem) = self.cluster.problem() {
            return Err(problem.into());
        }
        if self.unfinished == 0 {
            return if self.cluster.is_closed() { Err(ReadError::Draining.into()) } else { Ok(()) };
        }
        if self.cluster.now() >= self.deadline {
            let partition = self.first_unfinished();
            let at = self.partitions.get(&partition.number()).map_or((0, 0), |p| (p.position, p.range.end));
            return Err(ReadError::Deadline { partition, position: at.0, end: at.1 }.into());
        }
        Ok(())
    }

    /// Fails if a tombstone that is still to be read may have been removed meanwhile.
    fn check_age(&self) -> Result<(), StopReason> {
        let limit = self.limits.delete_retention / 2;
        let now = self.cluster.now();
        let old = |p: &&PartitionProgress| {
            (!p.done || self.request.follow) && now.saturating_duration_since(p.complete_as_of) > limit
        };
        match self.partitions.values().find(old) {
            Some(progress) if holds(Rule::ReplayWithinDeleteRetention) => {
                let cause = format!(
                    "it has been read for {} ms, and tombstones may be gone after delete.retention.ms / 2 = {} ms",
                    now.saturating_duration_since(progress.complete_as_of).as_millis(),
                    limit.as_millis()
                );
                Err(ReadError::Moved { partition: progress.range.partition, cause }.into())
            }
            _ => Ok(()),
        }
    }

    fn check_time(&mut self) -> Result<(), StopReason> {
        self.check_ended()?;
        let now = self.cluster.now();
        if std::mem::take(&mut self.progress_since_check) {
            self.last_progress = now;
            if !self.request.follow && now.saturating_duration_since(self.said) >= MOVING_INTERVAL {
                self.send(ReplayEvent::Moving)?;
            }
        }
        let stalled = now.saturating_duration_since(self.last_progress);
        if self.unfinished > 0 && stalled >= self.limits.no_progress && holds(Rule::NoProgressIsError) {
            return self.no_progress();
        }
        if self.request.follow && now.saturating_duration_since(self.last_follow_check) >= self.follow_check_interval()
        {
            self.last_follow_check = now;
            self.check_follow()?;
        }
        self.check_age()
    }

    /// Nothing was read for too long: the log was truncated, or it can't be read.
    fn no_progress(&mut self) -> Result<(), StopReason> {
        let waiting: Vec<_> = self.partitions.values().filter(|p| !p.done).map(|p| p.range.partition).collect();
        let now = self.cluster.offsets(&waiting, self.deadline)?;
        for Offsets { partition, high, .. } in now.offsets {
            let end = self.partitions.get(&partition.number()).map_or(0, |p| p.range.end);
            if high < end {
                let cause = format!("its end went back from {end} to {high}");
                return Err(ReadError::Truncated { partition, cause }.into());
            }
        }
        let partition = self.first_unfinished();
        let (position, end) = self.partitions.get(&partition.number()).map_or((0, 0), |p| (p.position, p.range.end));
        let seconds = self.limits.no_progress.as_secs();
        let cause = format!("partition {partition}: no progress for {seconds} s at offset {position} of {end}");
        Err(ReadError::Unreachable { cause }.into())
    }

    /// Often enough to find the position at the end of the log before tombstones may be removed.
    fn follow_check_interval(&self) -> Duration {
        PROGRESS_INTERVAL.min(self.limits.delete_retention / 8).max(Duration::from_millis(100))
    }

    /// Reports the progress of a replay that follows, and checks whether anything hides records from it.
    fn check_follow(&mut self) -> Result<(), StopReason> {
        let partitions: Vec<_> = self.partitions.values().filter(|p| p.done).map(|p| p.range.partition).collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let now = self.cluster.now();
        let snapshot = self.cluster.offsets(&partitions, now + PROGRESS_INTERVAL);
        let mut events = Vec::new();
        for progress in self.partitions.values_mut().filter(|p| p.done) {
            let seen = snapshot.as_ref().ok().and_then(|snapshot| {
                let found = snapshot.offsets.iter().find(|o| o.partition == progress.range.partition);
                found.map(|offsets| (*offsets, snapshot))
            });
            let mut at_end = None;
            if let Some((offsets, snapshot)) = seen {
                progress.check_offsets(offsets, now, self.consumer_unblocked_at)?;
                // Equal, not above: a position above the high watermark is in a truncated log.
                if offsets.last_stable == offsets.high && progress.position == offsets.high {
                    at_end = Some(snapshot.wall);
                    progress.complete_as_of = snapshot.at;
                }
            } else {
                // During an election the position can't move, so its time starts again afterwards.
                progress.position_stalled = None;
            }
            (self.on_counts)(progress.range.partition, progress.counts, false);
            events.push(ReplayEvent::Progress {
                partition: progress.range.partition,
                next_offset: progress.position,
                leader_epoch: progress.range.leader_epoch,
                counts: std::mem::take(&mut progress.counts),
                at_end,
            });
        }
        match snapshot {
            Ok(_) => self.offsets_unavailable_since = None,
            // Whether it is one partition or all: without an error, the caller would take the silence for a quiet log.
            Err(error) => {
                let since = (*self.offsets_unavailable_since.get_or_insert(now)).max(self.consumer_unblocked_at);
                if now.saturating_duration_since(since) >= FOLLOW_STALL {
                    return Err(error.into());
                }
            }
        }
        // The records below the reported offset must be delivered before it.
        self.flush()?;
        for event in events {
            self.send(event)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owned_record_has_its_own_bytes() {
        for owned in [true, false] {
            let mut batch = Batch::default();
            for offset in 0..3 {
                let record = Record { offset, timestamp: None, key: Bytes::new(), value: None, headers: Vec::new() };
                batch.push(record, b"w/t/a", (offset > 0).then_some(b"1"), owned);
            }
            let records = batch.into_records();
            assert!(records.iter().all(|record| record.key == b"w/t/a"[..]));
            assert_eq!(records[0].value, None);
            for value in records[1..].iter().map(|record| record.value.as_ref().unwrap()) {
                assert_eq!((&value[..], value.is_unique()), (&b"1"[..], owned));
            }
            assert!(records.iter().all(|record| record.key.is_unique() == owned));
        }
    }
}
