//! A Kafka log of the test's own on the shared broker, without gRPC, and short functions to write to it and to read it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use changelog_core::{
    log::{
        Follow, Log, NewRecord, PartitionEnd, ReadError, Replay, ReplayEvent, ReplayRequest, Selection, StartAt,
        TopicState, WriteError,
    },
    model::{Headers, Key, Partition, PartitionCount, Record},
};
use changelog_kafka::{KafkaLog, Metrics, Settings};
use changelogd_testkit::{shared_broker, shared_oracle, unique_topic};
use tokio::time::timeout;

use crate::servers::COMPACTED;

/// A test that takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn created(partitions: i32, more: &[(&str, &str)]) -> String {
    let topic = unique_topic("log");
    let configs = [&COMPACTED[..], more].concat();
    shared_oracle().create(shared_broker().bootstrap(), &topic, partitions, 1, &configs).expect("the topic is created");
    topic
}

pub fn settings(topic: &str) -> Settings {
    Settings { open_transaction_wait: Duration::from_millis(500), ..Settings::new(shared_broker().bootstrap(), topic) }
}

pub async fn started(settings: Settings) -> KafkaLog {
    let log = KafkaLog::start(settings, Metrics::default()).expect("good settings");
    let mut state = log.topic_state();
    let ready = timeout(PATIENCE, state.wait_for(|s| matches!(s, TopicState::Ready(_)))).await;
    assert!(ready.is_ok_and(|r| r.is_ok()), "never ready: {:?}", log.topic_state().borrow());
    log
}

pub async fn on(partitions: i32) -> (String, KafkaLog) {
    let topic = created(partitions, &[]);
    let log = started(settings(&topic)).await;
    (topic, log)
}

pub fn partition(number: i32) -> Partition {
    Partition::new(number).expect("a partition")
}

pub fn record(count: i32, key: &str, value: Option<&[u8]>) -> NewRecord {
    let key = Key::parse(key).expect("a key");
    NewRecord {
        partition: PartitionCount::new(count.into()).expect("a count").of_workspace(key.workspace_bytes()),
        key,
        value: value.map(Bytes::copy_from_slice),
        headers: Headers::default(),
    }
}

pub async fn append(log: &KafkaLog, record: NewRecord) -> i64 {
    log.append(record).expect("accepted").await.expect("answered").expect("written").position.offset
}

/// Does not wait for each answer. Waits while the queue is full.
pub async fn append_all(log: &KafkaLog, records: impl Iterator<Item = NewRecord>) {
    let mut pending = Vec::new();
    for record in records {
        loop {
            match log.append(record.clone()) {
                Ok(one) => break pending.push(one),
                Err(WriteError::QueueFull { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("{error}"),
            }
        }
    }
    for one in pending {
        one.await.expect("answered").expect("written");
    }
}

pub async fn request(log: &KafkaLog, starts: &[(i32, StartAt)], follow: Follow) -> ReplayRequest {
    let began = Instant::now();
    let topic = loop {
        match log.topic().await {
            Ok(topic) => break topic,
            // A broker that is busy with other tests may be silent for a while.
            Err(error) => {
                assert!(matches!(&error, ReadError::Unreachable { .. }) && began.elapsed() < PATIENCE, "{error}")
            }
        }
    };
    ReplayRequest {
        selection: Selection::all(topic.partition_count),
        topic,
        partitions: starts.iter().map(|(p, s)| (partition(*p), *s)).collect(),
        follow,
        owned_records: false,
        deadline: tokio::time::Instant::now() + PATIENCE,
    }
}

pub async fn next(replay: &mut Replay) -> Option<Result<ReplayEvent, ReadError>> {
    timeout(PATIENCE, replay.next()).await.expect("a replay says something in time")
}

pub async fn drain(mut replay: Replay) -> Result<(Vec<Record>, Vec<PartitionEnd>), ReadError> {
    let (mut records, mut ends) = (Vec::new(), Vec::new());
    while let Some(event) = next(&mut replay).await {
        match event? {
            ReplayEvent::Records { records: batch, .. } => records.extend(batch),
            ReplayEvent::End(end) => ends.push(end),
            ReplayEvent::Progress { .. } => panic!("nothing follows"),
        }
    }
    Ok((records, ends))
}

pub async fn read_from(
    log: &KafkaLog,
    starts: &[(i32, StartAt)],
) -> Result<(Vec<Record>, Vec<PartitionEnd>), ReadError> {
    let request = request(log, starts, Follow::No).await;
    drain(log.replay(request).await?).await
}

pub async fn read(log: &KafkaLog, partitions: &[i32]) -> Result<(Vec<Record>, Vec<PartitionEnd>), ReadError> {
    let starts: Vec<_> = partitions.iter().map(|p| (*p, StartAt::Low)).collect();
    read_from(log, &starts).await
}

/// Bytes that cannot be compressed.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed + 1);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// More than a consumer reads ahead: 6,000 records of 10 kB, in the partition of workspace `w`.
pub async fn fill(log: &KafkaLog, count: i32) {
    append_all(log, (0..6_000).map(|i| record(count, &format!("w/t/{i}"), Some(&noise(10_000, i))))).await;
}

/// A log that is replayed: of one partition, with more than a consumer reads ahead. The first event has been taken.
pub async fn on_and_replaying() -> (String, KafkaLog, Replay) {
    let (topic, log) = on(1).await;
    fill(&log, 1).await;
    let asked = request(&log, &[(0, StartAt::Low)], Follow::No).await;
    let mut replay = log.replay(asked).await.expect("a replay");
    next(&mut replay).await.expect("an event").expect("no error");
    (topic, log, replay)
}

pub fn keys(records: &[Record]) -> Vec<&str> {
    records.iter().map(|r| std::str::from_utf8(&r.key).expect("a key")).collect()
}

/// Reads until the replay fails. Returns the error.
pub async fn followed_until_it_fails(mut replay: Replay) -> ReadError {
    loop {
        match next(&mut replay).await.expect("a replay that follows does not end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    }
}
