//! One replay, from its first record to its ends: a state machine over a [`Cluster`], real or simulated.
//!
//! Where a partition ends is the one thing that must not be got wrong. It is the leader's high watermark T, taken after the
//! request, and it is reached by a record at T-1 or beyond, or by an end-of-partition event whose own offset is T or beyond:
//! transaction markers, aborted batches and compacted records occupy offsets and are never delivered. An event below T comes
//! from a reader that lags, and is no end. Time is never an end.
//!
//! Compaction can take a record below T because a later one of its key came above T. That takes at least
//! min.compaction.lag.ms, so if T is reached later than that after it was taken, T is taken again and reading goes on.
//!
//! Compaction can take a tombstone whose key's value has been read already. That takes at least delete.retention.ms, so a
//! replay that takes more than half of it is not called whole, and a stream that follows must have stood at the log's end
//! within it.
//!
//! That the topic is still the same one is asked after the last record and before the end is said: librdkafka adopts a new
//! topic of the same name, and reads on in it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use rdkafka::error::RDKafkaErrorCode as Code;

use super::{
    cluster::{Cluster, Consumer, Message, Offered, Place, Polled},
    offsets::Offsets,
    span::{Span, stable},
};
use crate::{
    log::{
        Class, Counts, MOVING_INTERVAL, PROGRESS_INTERVAL, PartitionEnd, ReadError, ReplayEvent, ReplayRequest, Topic,
        TopicProblem,
    },
    model::{Partition, Record},
    rule::{Rule, holds},
};

/// Records and bytes of a batch.
const BATCH_RECORDS: usize = 512;
const BATCH_BYTES: usize = 256 * 1024;
/// How long a poll waits: the bound on noticing that the caller has gone.
const POLL: Duration = Duration::from_millis(50);
/// How many polls may pass before time, caller and topic are looked at.
const UNCHECKED: u32 = 256;
/// How often an end is taken again before the log is said to move too fast.
const ROUNDS: u32 = 5;
/// Below this a round is short even where min.compaction.lag.ms is 0, where nothing but the cleaner's own pace bounds what it
/// takes: a record that came after the round's end must have had its segment closed and cleaned within it.
pub const SHORT_ROUND: Duration = Duration::from_millis(250);
/// How long a last stable offset may stand still below the high watermark while a stream follows.
const STUCK: Duration = Duration::from_secs(60);

/// What bounds a replay, beside its request's deadline.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How long an open transaction is waited for.
    pub open_transaction_wait: Duration,
    /// How long nothing may come.
    pub no_progress: Duration,
    /// The topic's min.compaction.lag.ms.
    pub min_compaction_lag: Duration,
    /// The topic's delete.retention.ms.
    pub delete_retention: Duration,
}

/// Why a replay stopped before its end.
#[derive(Debug)]
pub enum Stop {
    /// Nobody listens any more.
    Gone,
    /// An error that is owed to the caller.
    Failed(ReadError),
}

impl From<ReadError> for Stop {
    fn from(error: ReadError) -> Self {
        Self::Failed(error)
    }
}

impl From<TopicProblem> for Stop {
    fn from(problem: TopicProblem) -> Self {
        Self::Failed(problem.into())
    }
}

/// Refuses a topic that is no longer the one a request was made for.
pub fn same_topic(expected: &Topic, found: &Topic) -> Result<(), TopicProblem> {
    let topic = expected.name.clone();
    if expected.id != found.id && holds(Rule::R15) {
        return Err(TopicProblem::Recreated { topic, was: expected.id.clone(), now: found.id.clone() });
    }
    if expected.partition_count != found.partition_count && holds(Rule::R16) {
        let (expected, actual) = (expected.partition_count.get(), found.partition_count.get());
        return Err(TopicProblem::PartitionCountChanged { topic, expected, actual, final_: true });
    }
    Ok(())
}

struct Progress {
    span: Span,
    /// Everything below has been seen.
    position: i64,
    counts: Counts,
    rounds: u32,
    done: bool,
    /// While a stream follows, a last stable offset that stands still below the high watermark, and since when.
    stuck: Option<(i64, Instant)>,
    /// While a stream follows, a position that stands still below the last stable offset, and since when.
    starved: Option<(i64, Instant)>,
    /// While a stream follows, the high watermark was below its position when it was last asked for.
    ahead: bool,
    /// Since when a tombstone that is still to be read may have been taken away: when reading began, and, while a stream
    /// follows, when it last stood at the log's end.
    since: Instant,
}

impl Progress {
    fn new(span: Span) -> Self {
        let since = span.taken;
        Self {
            position: span.start,
            span,
            counts: Counts::default(),
            rounds: 0,
            done: false,
            stuck: None,
            starved: None,
            ahead: false,
            since,
        }
    }
}

impl Progress {
    /// Whether a stream that follows can go on as things are. `waited`: until when its caller kept it waiting.
    fn look_at(&mut self, offsets: Offsets, now: Instant, waited: Instant) -> Result<(), ReadError> {
        let Offsets { partition, last_stable, high, .. } = offsets;
        let position = self.position;
        if last_stable == high {
            self.stuck = None;
        } else {
            let since = still_since(&mut self.stuck, last_stable, now);
            if now.saturating_duration_since(since) >= STUCK {
                return Err(ReadError::OpenTransaction { partition, last_stable, high });
            }
        }
        if position >= last_stable {
            self.starved = None;
        } else {
            let since = still_since(&mut self.starved, position, now).max(waited);
            if now.saturating_duration_since(since) >= STUCK {
                let seconds = STUCK.as_secs();
                let cause =
                    format!("partition {partition}: no progress for {seconds} s at offset {position} of {last_stable}");
                return Err(ReadError::Unreachable { cause });
            }
        }
        // Seen once, it may be the answer of a leader that has been replaced.
        if std::mem::replace(&mut self.ahead, position > high) && position > high {
            let cause = format!("its end went back from {position} to {high}");
            return Err(ReadError::Truncated { partition, cause });
        }
        Ok(())
    }
}

/// Since when it has been at this offset: now, if it was seen elsewhere or nowhere before.
fn still_since(seen: &mut Option<(i64, Instant)>, at: i64, now: Instant) -> Instant {
    let since = seen.filter(|(before, _)| *before == at).map_or(now, |(_, since)| since);
    *seen = Some((at, since));
    since
}

/// Records that wait to be sent, of one partition. Unless they are to be kept ([`ReplayRequest::owned_records`]), their keys and values are
/// copied into one buffer: an allocation for each, which another thread gives back, costs more than the copying.
#[derive(Default)]
struct Batch {
    partition: Option<Partition>,
    records: Vec<Record>,
    /// Keys and values, one after another.
    buffer: BytesMut,
    /// Where each record's value ends, which begins where its key ends; `None`: it has none.
    ends: Vec<(usize, Option<usize>)>,
    bytes: usize,
    leader_epoch: i32,
}

impl Batch {
    /// `record` is without its key and value.
    fn push(&mut self, mut record: Record, key: &[u8], value: Option<&[u8]>, keep: bool) {
        self.bytes += record.memory_size() + key.len() + value.map_or(0, <[u8]>::len);
        if keep {
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

    /// With their keys and values.
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

/// A replay on its way.
pub struct Reading<C: Cluster> {
    /// Given back to who runs it: the consumer's end is his.
    pub cluster: C,
    request: ReplayRequest,
    bounds: Bounds,
    partitions: BTreeMap<i32, Progress>,
    batch: Batch,
    unfinished: usize,
    /// Something came since `progressed` was set: the clock is too slow to be asked for each record.
    moved: bool,
    progressed: Instant,
    ticked: Instant,
    /// When an event was last sent, or taken after a wait.
    said: Instant,
    /// When the caller last took what he had kept waiting.
    waited: Instant,
    /// Since when, while a stream follows, leaders do not say their offsets.
    unanswered: Option<Instant>,
    deadline: Instant,
    /// When the first record came.
    pub first_record: Option<Instant>,
    /// What a partition from its low watermark on held; told to who looks after the topic.
    met: Box<dyn FnMut(Partition, Counts, bool) + Send>,
}

impl<C: Cluster> Reading<C> {
    /// Before its first record. `met` is told what partitions held (`true`: all that there is).
    pub fn new(
        cluster: C,
        request: ReplayRequest,
        spans: Vec<Span>,
        bounds: Bounds,
        met: Box<dyn FnMut(Partition, Counts, bool) + Send>,
    ) -> Self {
        let now = cluster.now();
        Self {
            deadline: request.deadline.into_std(),
            unfinished: spans.len(),
            partitions: spans.into_iter().map(|span| (span.partition.number(), Progress::new(span))).collect(),
            batch: Batch::default(),
            moved: false,
            progressed: now,
            ticked: now,
            said: now,
            waited: now,
            unanswered: None,
            first_record: None,
            cluster,
            request,
            bounds,
            met,
        }
    }

    /// Reads until every end, or for ever with `follow`. The consumer, if there had to be one, is left in `slot`.
    pub fn read(&mut self, slot: &mut Option<C::Consumer>) -> Result<(), Stop> {
        // A resumed reader may stand at an end that was cut and has grown again: his epoch is for a consumer to check.
        let nothing_to_read = |p: &Progress| p.position >= p.span.end && p.span.leader_epoch < 0;
        let empty: Vec<i32> =
            self.partitions.iter().filter(|(_, p)| nothing_to_read(p)).map(|(number, _)| *number).collect();
        for number in empty {
            if holds(Rule::R5) {
                self.reached(number)?;
            }
        }
        if self.unfinished == 0 && !self.request.follow {
            return Ok(());
        }
        let places = self.places();
        let consumer = slot.insert(self.cluster.consumer(&places)?);
        let mut unchecked = 0;
        loop {
            // What is there is taken at once; only a reader that has caught up waits.
            let wait = if self.batch.records.is_empty() { POLL } else { Duration::ZERO };
            match consumer.poll(wait) {
                Polled::Record(message) => self.record(&message)?,
                Polled::End { partition, offset } => self.end_event(partition, offset)?,
                Polled::Failed { partition, code, text } => self.failed(partition, code, &text)?,
                Polled::Nothing => {
                    self.flush()?;
                    unchecked = UNCHECKED;
                }
            }
            if self.unfinished == 0 && !self.request.follow {
                return Ok(());
            }
            // A loop that runs dry is checked each time, so a trickle is, too.
            unchecked += 1;
            if unchecked >= UNCHECKED {
                unchecked = 0;
                self.check_time()?;
            }
        }
    }

    fn places(&self) -> Vec<Place> {
        let wanted = self.partitions.values().filter(|p| !p.done || self.request.follow);
        let place =
            |p: &Progress| Place { partition: p.span.partition, offset: p.position, leader_epoch: p.span.leader_epoch };
        wanted.map(place).collect()
    }

    fn record(&mut self, message: &impl Message) -> Result<(), Stop> {
        let (number, offset) = (message.partition(), message.offset());
        if self.first_record.is_none() {
            self.first_record = Some(self.cluster.now());
        }
        // Beyond the end: it tells that the end is reached, unless the end is taken anew beyond it.
        while self.partitions.get(&number).is_some_and(|p| !p.done && offset >= p.span.end) {
            self.reached(number)?;
        }
        let Some(progress) = self.partitions.get_mut(&number) else { return Ok(()) };
        if progress.done && !self.request.follow {
            return Ok(());
        }
        progress.position = offset + 1;
        let epoch = message.leader_epoch();
        progress.span.leader_epoch = epoch;
        // What a partition that is done brings is no progress of the others.
        self.moved |= !progress.done;
        let partition = progress.span.partition;
        let class = self.request.selection.classify(partition, message.key());
        progress.counts.count(class);
        let last = !progress.done && offset >= progress.span.end - 1 && holds(Rule::R2);
        if class == Class::Wanted {
            self.keep(partition, message, epoch)?;
        }
        if last { self.reached(number) } else { Ok(()) }
    }

    fn keep(&mut self, partition: Partition, message: &impl Message, epoch: i32) -> Result<(), Stop> {
        if self.batch.partition.is_some_and(|p| p != partition) {
            self.flush()?;
        }
        let mut renamed = 0;
        let headers = message.headers(&mut renamed);
        if let Some(progress) = self.partitions.get_mut(&partition.number()) {
            progress.counts.lossy_header_names += renamed;
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
        if self.batch.records.len() >= BATCH_RECORDS || self.batch.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// A slow reader pushes back. One who stalls must not hold the replay beyond its deadline, the topic or the process.
    fn send(&mut self, mut event: ReplayEvent) -> Result<(), Stop> {
        loop {
            match self.cluster.offer(event, POLL) {
                Offered::Taken => break,
                Offered::Gone => return Err(Stop::Gone),
                Offered::Full(back) => event = back,
            }
            // A reader who takes his time is no log that stands still.
            self.waited = self.cluster.now();
            self.progressed = self.waited;
            self.check_ended()?;
            self.check_age()?;
        }
        self.said = self.cluster.now();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stop> {
        let Some(partition) = self.batch.partition else { return Ok(()) };
        let batch = std::mem::take(&mut self.batch);
        let leader_epoch = batch.leader_epoch;
        self.send(ReplayEvent::Records { partition, records: batch.into_records(), leader_epoch })
    }

    fn end_event(&mut self, number: i32, offset: i64) -> Result<(), Stop> {
        let Some(progress) = self.partitions.get_mut(&number) else { return Ok(()) };
        if offset > progress.position {
            // Markers and holes: passed, though nothing was delivered.
            progress.position = offset;
            self.moved |= !progress.done;
        }
        let reached = (offset >= progress.span.end || !holds(Rule::R6)) && holds(Rule::R3);
        if !progress.done && reached { self.reached(number) } else { Ok(()) }
    }

    /// The end of this round is reached: the partition is done, unless compaction may have worked beyond the end meanwhile.
    fn reached(&mut self, number: i32) -> Result<(), Stop> {
        // The smallest it has been: what it was lowered to binds the cleaner from then on.
        let lag = self.bounds.min_compaction_lag.min(self.cluster.min_compaction_lag());
        self.bounds.min_compaction_lag = lag;
        let now = self.cluster.now();
        let Some(progress) = self.partitions.get_mut(&number) else { return Ok(()) };
        let took = now.saturating_duration_since(progress.span.taken);
        let nothing_read = progress.position == progress.span.start && progress.span.start == progress.span.end;
        let again = if lag.is_zero() { progress.rounds == 0 || took > SHORT_ROUND } else { took > lag };
        if again && !nothing_read && holds(Rule::R40) {
            let partition = progress.span.partition;
            let patience = self.bounds.open_transaction_wait;
            // A leader that has just been lost is given the time that any progress is given.
            let taken = self.patiently(|of| stable(&mut of.cluster, &[partition], patience, of.deadline))?;
            let Some(Offsets { high, .. }) = taken.offsets.first().copied() else { return Ok(()) };
            let Some(progress) = self.partitions.get_mut(&number) else { return Ok(()) };
            if high < progress.span.end {
                let cause = format!("its end went back from {} to {high}", progress.span.end);
                return Err(ReadError::Truncated { partition, cause }.into());
            }
            // Nothing came after the old end: nothing can have been superseded beyond it.
            if high > progress.span.end {
                progress.rounds += 1;
                if progress.rounds >= ROUNDS {
                    let cause = format!(
                        "after {ROUNDS} rounds its end is {high} and min.compaction.lag.ms is {}",
                        lag.as_millis()
                    );
                    return Err(ReadError::Moved { partition, cause }.into());
                }
                progress.span.end = high;
                progress.span.taken = taken.at;
                progress.span.wall = taken.wall;
                // What is known to be passed already may reach the new end, too.
                return if progress.position >= high { self.reached(number) } else { Ok(()) };
            }
        }
        self.finish(number)
    }

    fn finish(&mut self, number: i32) -> Result<(), Stop> {
        self.flush()?;
        let topic = self.patiently(|of| of.cluster.confirm())?;
        same_topic(&self.request.topic, &topic)?;
        // It may have been lowered meanwhile.
        self.bounds.delete_retention = self.bounds.delete_retention.min(topic.delete_retention);
        self.check_age()?;
        let Some(progress) = self.partitions.get_mut(&number) else { return Ok(()) };
        progress.done = true;
        progress.since = progress.span.taken;
        (self.met)(progress.span.partition, progress.counts, progress.span.whole);
        let end = PartitionEnd {
            partition: progress.span.partition,
            start: progress.span.start,
            end: progress.span.end,
            counts: std::mem::take(&mut progress.counts),
            leader_epoch: progress.span.leader_epoch,
            at_end: progress.span.wall,
        };
        self.unfinished -= 1;
        self.send(ReplayEvent::End(end))
    }

    /// Asks again what can't be answered, for as long as nothing may come: a cluster that has just lost a broker elects others.
    fn patiently<T>(&mut self, mut ask: impl FnMut(&mut Self) -> Result<T, ReadError>) -> Result<T, Stop> {
        let until = self.deadline.min(self.cluster.now() + self.bounds.no_progress);
        loop {
            match ask(self) {
                Ok(answer) => return Ok(answer),
                Err(ReadError::Unreachable { .. }) if self.cluster.now() + POLL < until => {
                    self.cluster.pause(POLL);
                    self.check_ended()?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn failed(&mut self, number: i32, code: Code, text: &str) -> Result<(), Stop> {
        let concerned = self.partitions.get(&number);
        if concerned.is_some_and(|p| p.done) && !self.request.follow {
            return Ok(());
        }
        let partition = concerned.map_or_else(|| self.first_unfinished(), |p| p.span.partition);
        let topic = &self.request.topic.name;
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                if !holds(Rule::R14) {
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
            // The group is never joined; a principal without rights on it can read all the same. Lost connections are
            // mended by librdkafka, or end in no progress.
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
            // Anything else may stand for records that will not come: never to be passed over.
            _ => Err(ReadError::Unreachable { cause: format!("partition {partition}: {text} ({code})") }.into()),
        }
    }

    fn first_unfinished(&self) -> Partition {
        let any = self.partitions.values().min_by_key(|p| (p.done, p.span.partition));
        any.map_or_else(|| Partition::new(0).unwrap_or_else(|| unreachable!("0 is a partition")), |p| p.span.partition)
    }

    /// What ends a replay wherever it is, also while its reader stalls.
    fn check_ended(&mut self) -> Result<(), Stop> {
        if self.cluster.is_gone() {
            return Err(Stop::Gone);
        }
        // A consumer notices this late or never: librdkafka adopts a new topic of the same name, and waits half a minute for
        // one that has gone.
        if let Some(problem) = self.cluster.problem() {
            return Err(problem.into());
        }
        if self.unfinished == 0 {
            return if self.cluster.is_closed() { Err(ReadError::Draining.into()) } else { Ok(()) };
        }
        if self.cluster.now() >= self.deadline {
            let partition = self.first_unfinished();
            let at = self.partitions.get(&partition.number()).map_or((0, 0), |p| (p.position, p.span.end));
            return Err(ReadError::Deadline { partition, position: at.0, end: at.1 }.into());
        }
        Ok(())
    }

    /// A tombstone that is yet to be read must not have been taken away meanwhile.
    fn check_age(&self) -> Result<(), Stop> {
        let limit = self.bounds.delete_retention / 2;
        let now = self.cluster.now();
        let old = |p: &&Progress| (!p.done || self.request.follow) && now.saturating_duration_since(p.since) > limit;
        match self.partitions.values().find(old) {
            Some(progress) if holds(Rule::R9) => {
                let cause = format!(
                    "it has been read for {} ms, and tombstones may be gone after delete.retention.ms / 2 = {} ms",
                    now.saturating_duration_since(progress.since).as_millis(),
                    limit.as_millis()
                );
                Err(ReadError::Moved { partition: progress.span.partition, cause }.into())
            }
            _ => Ok(()),
        }
    }

    fn check_time(&mut self) -> Result<(), Stop> {
        self.check_ended()?;
        let now = self.cluster.now();
        if std::mem::take(&mut self.moved) {
            self.progressed = now;
            if !self.request.follow && now.saturating_duration_since(self.said) >= MOVING_INTERVAL {
                self.send(ReplayEvent::Moving)?;
            }
        }
        let still = now.saturating_duration_since(self.progressed);
        if self.unfinished > 0 && still >= self.bounds.no_progress && holds(Rule::R7) {
            return self.no_progress();
        }
        if self.request.follow && now.saturating_duration_since(self.ticked) >= self.tick_interval() {
            self.ticked = now;
            self.tick()?;
        }
        self.check_age()
    }

    /// Nothing has come for too long: the log went back, or can't be read.
    fn no_progress(&mut self) -> Result<(), Stop> {
        let waiting: Vec<_> = self.partitions.values().filter(|p| !p.done).map(|p| p.span.partition).collect();
        let now = self.cluster.offsets(&waiting, self.deadline)?;
        for Offsets { partition, high, .. } in now.offsets {
            let end = self.partitions.get(&partition.number()).map_or(0, |p| p.span.end);
            if high < end {
                let cause = format!("its end went back from {end} to {high}");
                return Err(ReadError::Truncated { partition, cause }.into());
            }
        }
        let partition = self.first_unfinished();
        let (position, end) = self.partitions.get(&partition.number()).map_or((0, 0), |p| (p.position, p.span.end));
        let seconds = self.bounds.no_progress.as_secs();
        let cause = format!("partition {partition}: no progress for {seconds} s at offset {position} of {end}");
        Err(ReadError::Unreachable { cause }.into())
    }

    /// Often enough to be seen at the end before tombstones may go.
    fn tick_interval(&self) -> Duration {
        PROGRESS_INTERVAL.min(self.bounds.delete_retention / 8).max(Duration::from_millis(100))
    }

    /// A following replay says how far it is, and looks whether anything hides records from it.
    fn tick(&mut self) -> Result<(), Stop> {
        let partitions: Vec<_> = self.partitions.values().filter(|p| p.done).map(|p| p.span.partition).collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let now = self.cluster.now();
        let taken = self.cluster.offsets(&partitions, now + PROGRESS_INTERVAL);
        let mut events = Vec::new();
        for progress in self.partitions.values_mut().filter(|p| p.done) {
            let seen = taken.as_ref().ok().and_then(|taken| {
                let found = taken.offsets.iter().find(|o| o.partition == progress.span.partition);
                found.map(|offsets| (*offsets, taken))
            });
            let mut at_end = None;
            if let Some((offsets, taken)) = seen {
                progress.look_at(offsets, now, self.waited)?;
                // Not beyond it: a log that went back has no end to stand at.
                if offsets.last_stable == offsets.high && progress.position == offsets.high {
                    at_end = Some(taken.wall);
                    progress.since = taken.at;
                }
            } else {
                // An election: what stands still meanwhile is given its time afterwards.
                progress.starved = None;
            }
            (self.met)(progress.span.partition, progress.counts, false);
            events.push(ReplayEvent::Progress {
                partition: progress.span.partition,
                next_offset: progress.position,
                leader_epoch: progress.span.leader_epoch,
                counts: std::mem::take(&mut progress.counts),
                at_end,
            });
        }
        match taken {
            Ok(_) => self.unanswered = None,
            // Of one partition or of all: a stream that says nothing of it would pass for one with nothing to say.
            Err(error) => {
                let since = (*self.unanswered.get_or_insert(now)).max(self.waited);
                if now.saturating_duration_since(since) >= STUCK {
                    return Err(error.into());
                }
            }
        }
        // Progress speaks of what has been delivered.
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
    fn a_kept_record_shares_its_bytes_with_nobody() {
        for keep in [true, false] {
            let mut batch = Batch::default();
            for offset in 0..3 {
                let record = Record { offset, timestamp: None, key: Bytes::new(), value: None, headers: Vec::new() };
                batch.push(record, b"w/t/a", (offset > 0).then_some(b"1"), keep);
            }
            let records = batch.into_records();
            assert!(records.iter().all(|record| record.key == b"w/t/a"[..]));
            assert_eq!(records[0].value, None);
            for value in records[1..].iter().map(|record| record.value.as_ref().unwrap()) {
                assert_eq!((&value[..], value.is_unique()), (&b"1"[..], keep));
            }
            assert!(records.iter().all(|record| record.key.is_unique() == keep));
        }
    }
}
