//! One replay: a short-lived consumer on a thread of its own, polled to ends that were fixed before its first record.
//!
//! Where a partition ends is the one thing that must not be got wrong. It is the leader's high watermark T, taken after the
//! request, and it is reached by a record at T-1 or beyond, or by an end-of-partition event whose own offset is T or beyond:
//! transaction markers, aborted batches and compacted records occupy offsets and are never delivered. An event below T comes
//! from a reader that lags, and is no end. Time is never an end.
//!
//! Compaction can take a record below T because a later one of its key came above T. That takes at least
//! min.compaction.lag.ms, so if T is reached later than that after it was taken, T is taken again and reading goes on.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use rdkafka::{
    Offset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer},
    error::RDKafkaErrorCode as Code,
};
use tokio::{
    runtime::Handle,
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::timeout,
};

use super::{
    context::Context,
    native::{self, Message, Polled},
    offsets::{Offsets, Offsetter},
    reaper::Reaper,
    settings::{Role, Settings},
    topic::TopicCare,
};
use crate::{
    log::{
        Class, Counts, PROGRESS_INTERVAL, PartitionEnd, ReadError, ReplayEvent, ReplayRequest, Selection, Topic,
        TopicProblem, TopicState,
    },
    model::{Partition, Record},
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
/// Below this a round is short even where min.compaction.lag.ms is 0: a record that came after its end must have had its
/// segment closed and cleaned within it to take anything away.
const SHORT_ROUND: Duration = Duration::from_secs(1);
/// How long a last stable offset may stand still below the high watermark while a stream follows.
const STUCK: Duration = Duration::from_secs(60);

/// One partition on its way.
pub struct Span {
    pub partition: Partition,
    pub start: i64,
    /// T
    pub end: i64,
    pub leader_epoch: i32,
    /// It is read from the low watermark: what is counted is what the partition holds.
    pub whole: bool,
    pub taken: Instant,
    pub wall: SystemTime,
}

struct Progress {
    span: Span,
    /// Everything below has been seen.
    position: i64,
    counts: Counts,
    rounds: u32,
    done: bool,
    /// A last stable offset that stands still, and since when.
    stuck: Option<(i64, Instant)>,
}

/// Everything a replay's thread needs.
pub struct Job {
    pub settings: Settings,
    pub care: Arc<TopicCare>,
    pub offsetter: Offsetter,
    pub reaper: Reaper,
    pub closed: Arc<AtomicBool>,
    pub request: ReplayRequest,
    pub min_compaction_lag: Duration,
    pub runtime: Handle,
    /// When the request came.
    pub asked: Instant,
    pub events: mpsc::Sender<Result<ReplayEvent, ReadError>>,
}

/// Why a replay stopped before its end.
enum Stop {
    /// Nobody listens any more.
    Gone,
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
    if expected.id != found.id {
        return Err(TopicProblem::Recreated { topic, was: expected.id.clone(), now: found.id.clone() });
    }
    if expected.partition_count != found.partition_count {
        let (expected, actual) = (expected.partition_count.get(), found.partition_count.get());
        return Err(TopicProblem::PartitionCountChanged { topic, expected, actual, final_: true });
    }
    Ok(())
}

/// Records that wait to be sent, of one partition.
#[derive(Default)]
struct Batch {
    partition: Option<Partition>,
    records: Vec<Record>,
    bytes: usize,
    leader_epoch: i32,
}

struct Reading {
    job: Job,
    selection: Selection,
    partitions: BTreeMap<i32, Progress>,
    batch: Batch,
    /// What the watch knows of the topic, at most a second or so old.
    topic: watch::Receiver<TopicState>,
    unfinished: usize,
    /// Something came since `progressed` was set: the clock is too slow to be asked for each record.
    moved: bool,
    progressed: Instant,
    ticked: Instant,
    deadline: Instant,
    first_record: Option<Instant>,
}

impl Job {
    /// Reads until every end, or for ever with `follow`. Blocks: for a thread of its own.
    pub fn run(self, spans: Vec<Span>) {
        let (events, reaper) = (self.events.clone(), self.reaper.clone());
        let now = Instant::now();
        let asked = self.asked;
        let mut reading = Reading {
            selection: self.request.selection.clone(),
            topic: self.care.state(),
            deadline: self.request.deadline.into_std(),
            unfinished: spans.len(),
            partitions: spans.into_iter().map(|span| (span.partition.number(), Progress::new(span))).collect(),
            batch: Batch::default(),
            moved: false,
            progressed: now,
            ticked: now,
            first_record: None,
            job: self,
        };
        let mut consumer = None;
        let stop = reading.read(&mut consumer);
        let micros = |i: Instant| i.saturating_duration_since(asked).as_micros() as u64;
        tracing::debug!(
            offsets_us = micros(now),
            first_record_us = reading.first_record.map(micros),
            end_us = micros(Instant::now()),
            "a replay ended"
        );
        if let Err(Stop::Failed(error)) = stop
            && let Err(TrySendError::Full(error)) = events.try_send(Err(error))
        {
            // The reader stalls. He is owed the error however long he takes, but what was read ahead is let go now.
            if let Some(consumer) = consumer.take() {
                reaper.take(consumer);
            }
            let _ = events.blocking_send(error);
        }
        // The answer is out: now there is time to let go, which may block.
        drop(reading);
        drop(events);
        if let Some(consumer) = consumer {
            reaper.take(consumer);
        }
    }
}

impl Progress {
    fn new(span: Span) -> Self {
        Self { position: span.start, span, counts: Counts::default(), rounds: 0, done: false, stuck: None }
    }
}

impl Reading {
    fn read(&mut self, slot: &mut Option<BaseConsumer<Context>>) -> Result<(), Stop> {
        let empty: Vec<i32> =
            self.partitions.iter().filter(|(_, p)| p.position >= p.span.end).map(|(number, _)| *number).collect();
        for number in empty {
            self.reached(number)?;
        }
        if self.unfinished == 0 && !self.job.request.follow {
            return Ok(());
        }
        let consumer = slot.insert(self.consumer()?);
        let mut unchecked = 0;
        loop {
            // What is there is taken at once; only a reader that has caught up waits.
            let wait = if self.batch.records.is_empty() { POLL } else { Duration::ZERO };
            match native::poll(consumer, wait) {
                Polled::Record(message) => self.record(&message)?,
                Polled::End { partition, offset } => self.end_event(partition, offset)?,
                Polled::Failed { partition, code, text } => self.failed(partition, code, &text)?,
                Polled::Nothing => {
                    self.flush()?;
                    unchecked = UNCHECKED;
                }
            }
            if self.unfinished == 0 && !self.job.request.follow {
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

    fn consumer(&self) -> Result<BaseConsumer<Context>, Stop> {
        let unreachable =
            |e: rdkafka::error::KafkaError| ReadError::Unreachable { cause: format!("a consumer can't be made: {e}") };
        let config = self.job.settings.config(Role::Consumer { queue_kib: self.job.settings.read_ahead_bytes / 1024 });
        let consumer = BaseConsumer::from_config_and_context(&config, Context::default()).map_err(unreachable)?;
        native::take_log_lines(consumer.client());
        let mut list = TopicPartitionList::new();
        let topic = &self.job.settings.topic;
        for (number, progress) in &self.partitions {
            if progress.done && !self.job.request.follow {
                continue;
            }
            // A concrete offset: a logical one waits half a second for a leader to become known.
            list.add_partition_offset(topic, *number, Offset::Offset(progress.position)).map_err(unreachable)?;
            if progress.span.leader_epoch >= 0 {
                native::set_leader_epoch(&mut list, topic, *number, progress.span.leader_epoch);
            }
        }
        consumer.assign(&list).map_err(unreachable)?;
        Ok(consumer)
    }

    fn record(&mut self, message: &Message<'_>) -> Result<(), Stop> {
        let (number, offset) = (message.partition(), message.offset());
        self.first_record.get_or_insert_with(Instant::now);
        // Beyond the end: it tells that the end is reached, unless the end is taken anew beyond it.
        while self.partitions.get(&number).is_some_and(|p| !p.done && offset >= p.span.end) {
            self.reached(number)?;
        }
        let Some(progress) = self.partitions.get_mut(&number) else { return Ok(()) };
        if progress.done && !self.job.request.follow {
            return Ok(());
        }
        progress.position = offset + 1;
        let epoch = message.leader_epoch();
        progress.span.leader_epoch = epoch;
        self.moved = true;
        let partition = progress.span.partition;
        let class = self.selection.classify(partition, message.key());
        progress.counts.count(class);
        let last = !progress.done && offset >= progress.span.end - 1;
        if class == Class::Wanted {
            self.keep(partition, message, epoch)?;
        }
        if last { self.reached(number) } else { Ok(()) }
    }

    fn keep(&mut self, partition: Partition, message: &Message<'_>, epoch: i32) -> Result<(), Stop> {
        if self.batch.partition.is_some_and(|p| p != partition) {
            self.flush()?;
        }
        let mut renamed = 0;
        let headers = message.headers(&mut renamed);
        if let Some(progress) = self.partitions.get_mut(&partition.number()) {
            progress.counts.renamed_headers += renamed;
        }
        let record = Record {
            offset: message.offset(),
            timestamp: message.timestamp(),
            key: bytes::Bytes::copy_from_slice(message.key().unwrap_or_default()),
            value: message.value().map(bytes::Bytes::copy_from_slice),
            headers,
        };
        self.batch.partition = Some(partition);
        self.batch.bytes += record.weight();
        self.batch.leader_epoch = epoch;
        self.batch.records.push(record);
        if self.batch.records.len() >= BATCH_RECORDS || self.batch.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn send(&mut self, event: ReplayEvent) -> Result<(), Stop> {
        match self.job.events.try_send(Ok(event)) {
            Ok(()) => {}
            Err(TrySendError::Closed(_)) => return Err(Stop::Gone),
            Err(TrySendError::Full(event)) => self.wait_and_send(event)?,
        }
        // A reader who took his time is no log that stands still.
        self.progressed = Instant::now();
        Ok(())
    }

    /// A slow reader pushes back. One who stalls must not hold the replay beyond its deadline, the topic or the process.
    fn wait_and_send(&mut self, event: Result<ReplayEvent, ReadError>) -> Result<(), Stop> {
        loop {
            let (events, runtime) = (&self.job.events, &self.job.runtime);
            match runtime.block_on(async { timeout(POLL, events.reserve()).await }) {
                Ok(Ok(place)) => {
                    place.send(event);
                    return Ok(());
                }
                Ok(Err(_)) => return Err(Stop::Gone),
                Err(_) => self.check_ended()?,
            }
        }
    }

    fn flush(&mut self) -> Result<(), Stop> {
        let Batch { partition: Some(partition), records, leader_epoch, .. } = std::mem::take(&mut self.batch) else {
            return Ok(());
        };
        self.send(ReplayEvent::Records { partition, records, leader_epoch })
    }

    fn end_event(&mut self, number: i32, offset: i64) -> Result<(), Stop> {
        let Some(progress) = self.partitions.get_mut(&number) else { return Ok(()) };
        if offset > progress.position {
            // Markers and holes: passed, though nothing was delivered.
            progress.position = offset;
            self.moved = true;
        }
        if !progress.done && offset >= progress.span.end { self.reached(number) } else { Ok(()) }
    }

    /// The end of this round is reached: the partition is done, unless compaction may have worked beyond the end meanwhile.
    fn reached(&mut self, number: i32) -> Result<(), Stop> {
        let lag = self.job.min_compaction_lag;
        let Some(progress) = self.partitions.get_mut(&number) else { return Ok(()) };
        let took = progress.span.taken.elapsed();
        let nothing_read = progress.position == progress.span.start && progress.span.start == progress.span.end;
        let again = if lag.is_zero() { progress.rounds == 0 || took > SHORT_ROUND } else { took > lag };
        if again && !nothing_read {
            let partition = progress.span.partition;
            let patience = self.job.settings.open_transaction_wait;
            let taken = self.job.offsetter.take_stable(&[partition], patience, self.deadline)?;
            let Some(Offsets { high, .. }) = taken.offsets.first().copied() else { return Ok(()) };
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
        let topic = self.job.runtime.block_on(self.job.care.topic())?;
        same_topic(&self.job.request.topic, &topic)?;
        let Some(progress) = self.partitions.get_mut(&number) else { return Ok(()) };
        progress.done = true;
        self.job.care.met(progress.span.partition, progress.counts, progress.span.whole);
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

    fn failed(&mut self, number: i32, code: Code, text: &str) -> Result<(), Stop> {
        let concerned = self.partitions.get(&number);
        if concerned.is_some_and(|p| p.done) && !self.job.request.follow {
            return Ok(());
        }
        let partition = concerned.map_or_else(|| self.first_unfinished(), |p| p.span.partition);
        match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation => {
                Err(ReadError::Truncated { partition, cause: text.to_owned() }.into())
            }
            Code::TopicAuthorizationFailed => {
                let what = format!("read topic {:?}", self.job.settings.topic);
                Err(TopicProblem::NotAuthorized { what, cause: text.to_owned() }.into())
            }
            Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicId => {
                Err(TopicProblem::NotFound { topic: self.job.settings.topic.clone() }.into())
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
    fn check_ended(&self) -> Result<(), Stop> {
        if self.job.events.is_closed() {
            return Err(Stop::Gone);
        }
        // A consumer notices this late or never: librdkafka adopts a new topic of the same name, and waits half a minute for
        // one that has gone.
        if let TopicState::Wrong(problem) = &*self.topic.borrow() {
            return Err(problem.clone().into());
        }
        if self.unfinished == 0 {
            return if self.job.closed.load(Ordering::Acquire) { Err(ReadError::Draining.into()) } else { Ok(()) };
        }
        if Instant::now() >= self.deadline {
            let partition = self.first_unfinished();
            let at = self.partitions.get(&partition.number()).map_or((0, 0), |p| (p.position, p.span.end));
            return Err(ReadError::Deadline { partition, position: at.0, end: at.1 }.into());
        }
        Ok(())
    }

    fn check_time(&mut self) -> Result<(), Stop> {
        self.check_ended()?;
        if std::mem::take(&mut self.moved) {
            self.progressed = Instant::now();
        }
        if self.unfinished > 0 && self.progressed.elapsed() >= self.job.settings.no_progress {
            return self.no_progress();
        }
        if self.job.request.follow && self.ticked.elapsed() >= PROGRESS_INTERVAL {
            self.ticked = Instant::now();
            self.tick()?;
        }
        Ok(())
    }

    /// Nothing has come for too long: the log went back, or can't be read.
    fn no_progress(&self) -> Result<(), Stop> {
        let waiting: Vec<_> = self.partitions.values().filter(|p| !p.done).map(|p| p.span.partition).collect();
        let now = self.job.offsetter.take(&waiting, self.deadline)?;
        for Offsets { partition, high, .. } in now.offsets {
            let end = self.partitions.get(&partition.number()).map_or(0, |p| p.span.end);
            if high < end {
                let cause = format!("its end went back from {end} to {high}");
                return Err(ReadError::Truncated { partition, cause }.into());
            }
        }
        let partition = self.first_unfinished();
        let (position, end) = self.partitions.get(&partition.number()).map_or((0, 0), |p| (p.position, p.span.end));
        let seconds = self.job.settings.no_progress.as_secs();
        let cause = format!("partition {partition}: no progress for {seconds} s at offset {position} of {end}");
        Err(ReadError::Unreachable { cause }.into())
    }

    /// A following replay says how far it is, and looks whether anything hides records from it.
    fn tick(&mut self) -> Result<(), Stop> {
        let partitions: Vec<_> = self.partitions.values().filter(|p| p.done).map(|p| p.span.partition).collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let taken = self.job.offsetter.take(&partitions, Instant::now() + PROGRESS_INTERVAL);
        let mut events = Vec::new();
        for progress in self.partitions.values_mut().filter(|p| p.done) {
            let mut at_end = None;
            if let Ok(taken) = &taken
                && let Some(seen) = taken.offsets.iter().find(|o| o.partition == progress.span.partition)
            {
                let Offsets { partition, last_stable, high, .. } = *seen;
                if last_stable == high {
                    progress.stuck = None;
                    at_end = (progress.position >= high).then_some(taken.wall);
                } else {
                    let (at, since) = *progress.stuck.get_or_insert((last_stable, Instant::now()));
                    if at != last_stable {
                        progress.stuck = Some((last_stable, Instant::now()));
                    } else if since.elapsed() >= STUCK {
                        return Err(ReadError::OpenTransaction { partition, last_stable, high }.into());
                    }
                }
            }
            self.job.care.met(progress.span.partition, progress.counts, false);
            events.push(ReplayEvent::Progress {
                partition: progress.span.partition,
                next_offset: progress.position,
                leader_epoch: progress.span.leader_epoch,
                counts: std::mem::take(&mut progress.counts),
                at_end,
            });
        }
        if let Err(error) = taken
            && self.progressed.elapsed() >= STUCK
        {
            return Err(error.into());
        }
        // Progress speaks of what has been delivered.
        self.flush()?;
        let progressed = self.progressed;
        for event in events {
            self.send(event)?;
        }
        self.progressed = progressed;
        Ok(())
    }
}
