//! A topic that is deleted, created again, grown, or given another policy while it is read and written.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use changelog_core::{
    log::{
        Follow, Log, ReadError, ReplayEvent, ReplayRequest, Selection, StartAt, Topic, TopicProblem, TopicState,
        WriteError,
    },
    model::Record,
};
use changelog_kafka::{KafkaLog, Metrics};
use changelogd_testkit::{shared_broker, shared_oracle, unique_topic};
use tokio::{task::JoinHandle, time::timeout};

use crate::{kit::*, servers::COMPACTED};

/// Covers R17.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_topic_is_reported_at_once_and_served_once_it_exists() {
    let topic = unique_topic("missing");
    let log = KafkaLog::start(settings(&topic), Metrics::default()).unwrap();
    let asked = Instant::now();
    let error = log.topic().await.unwrap_err();
    println!("missing topic, cold client: {:?}", asked.elapsed());
    assert_eq!(error, ReadError::Topic(TopicProblem::NotFound { topic: topic.clone() }));
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    assert!(matches!(log.append(record(1, "w/t/a", None)), Err(WriteError::Topic(TopicProblem::NotFound { .. }))));
    shared_oracle().create(shared_broker().bootstrap(), &topic, 1, 1, &COMPACTED).unwrap();
    let mut state = log.topic_state();
    timeout(Duration::from_secs(5), state.wait_for(|s| matches!(s, TopicState::Ready(_)))).await.unwrap().unwrap();
    append(&log, record(1, "w/t/a", None)).await;
}

/// Covers C52, R15, R16, F14, F15, F16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_recreated_or_grown_topic_ends_a_following_replay() {
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    for what in ["deleted", "recreated", "grown"] {
        let (topic, log) = on(2).await;
        append(&log, record(2, "w/t/a", Some(b"1"))).await;
        let asked = request(&log, &[(0, StartAt::Low), (1, StartAt::Low)], Follow::AfterEnds).await;
        let replay = log.replay(asked.clone()).await.unwrap();
        match what {
            "grown" => oracle.add_partitions(bootstrap, &topic, 3).unwrap(),
            _ => oracle.delete(bootstrap, &topic).unwrap(),
        }
        if what == "recreated" {
            oracle.create(bootstrap, &topic, 2, 1, &COMPACTED).unwrap();
        }
        let changed = Instant::now();
        let error = followed_until_it_fails(replay).await;
        println!("{what}: a following replay ended after {:?}: {error}", changed.elapsed());
        // A reader can see the new topic's shorter log before the topic watcher does. A second read would then get the
        // topic's error.
        let honest =
            matches!(error, ReadError::Topic(_)) || what == "recreated" && matches!(error, ReadError::Truncated { .. });
        assert!(honest, "{what}: {error}");
        assert!(changed.elapsed() < Duration::from_secs(8), "{what}: {:?}", changed.elapsed());
        // The topic watcher may have looked while the topic was gone, or between two answers.
        let expected = |problem: &TopicProblem| match what {
            "deleted" => matches!(problem, TopicProblem::NotFound { .. }),
            "recreated" => matches!(problem, TopicProblem::Recreated { .. }),
            _ => matches!(problem, TopicProblem::PartitionCountChanged { expected: 2, actual: 3, .. }),
        };
        let seen = loop {
            match log.topic().await {
                Err(ReadError::Topic(problem)) if expected(&problem) => break problem,
                other => assert!(changed.elapsed() < PATIENCE, "{what}: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        println!("{what}: {seen}");
        assert!(matches!(log.append(record(2, "w/t/b", None)), Err(WriteError::Topic(_))), "{what}");
        assert!(matches!(log.replay(asked).await, Err(ReadError::Topic(_))), "{what}");
    }
}

/// If the topic is deleted while a reader stalls, it gets the error within about a second, not at the no-progress
/// deadline.
/// Covers F14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_deleted_during_a_load_is_reported_at_once() {
    let (topic, _log, replay) = on_and_replaying().await;
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    oracle.delete(bootstrap, &topic).unwrap();
    let deleted = Instant::now();
    let error = drain(replay).await.unwrap_err();
    println!("deleted under a load: {:?} later: {error}", deleted.elapsed());
    assert!(matches!(error, ReadError::Topic(TopicProblem::NotFound { .. })), "{error}");
    assert!(deleted.elapsed() < Duration::from_secs(8), "{:?}", deleted.elapsed());
}

/// The time of each call, and its answer.
type Answers<T, E> = JoinHandle<Vec<(Instant, Result<T, E>)>>;

/// The answers to loads and writes while a topic changed.
struct Told {
    log: Arc<KafkaLog>,
    stop: Arc<AtomicBool>,
    loads: Vec<Answers<Vec<Record>, ReadError>>,
    writes: Vec<Answers<i64, WriteError>>,
}

impl Told {
    /// Loads of all partitions and writes, repeatedly. Each load is as slow as a busy caller's.
    fn start(log: KafkaLog, partitions: i32) -> Self {
        let (log, stop) = (Arc::new(log), Arc::new(AtomicBool::new(false)));
        let loads = (0..3).map(|_| {
            let (log, stop) = (log.clone(), stop.clone());
            tokio::spawn(async move {
                let all: Vec<i32> = (0..partitions).collect();
                let mut told = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let asked = Instant::now();
                    let found = match log.topic().await {
                        Ok(topic) => slowly(&log, topic, &all).await,
                        Err(error) => Err(error),
                    };
                    told.push((asked, found));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                told
            })
        });
        let writes = (0..2).map(|task| {
            let (log, stop) = (log.clone(), stop.clone());
            tokio::spawn(async move {
                let mut told = Vec::new();
                for i in 0_u64.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let written = record(partitions, &format!("live-{task}/t/{}", i % 50), Some(b"live"));
                    let asked = Instant::now();
                    let answer = match log.append(written) {
                        Ok(pending) => pending.await.expect("answered").map(|a| a.position.offset),
                        Err(error) => Err(error),
                    };
                    told.push((asked, answer));
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                told
            })
        });
        let (loads, writes) = (loads.collect(), writes.collect());
        Self { log, stop, loads, writes }
    }

    /// Runs until loads and writes have been refused for a while. Returns their answers.
    async fn until_refused(self, changed: Instant, what: &str, wanted: fn(&TopicProblem) -> bool) -> Arc<KafkaLog> {
        loop {
            match self.log.topic().await {
                Err(ReadError::Topic(problem)) if wanted(&problem) => break,
                other => assert!(changed.elapsed() < PATIENCE, "{what}: {other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let known = Instant::now();
        // Both continue for a while: the answers must stay the same from now on.
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.stop.store(true, Ordering::SeqCst);
        let (mut whole, mut refused, mut other) = (0, 0, 0);
        for task in self.loads {
            for (asked, found) in task.await.unwrap() {
                match found {
                    Ok(records) => {
                        // Everything from the topic that is served, and nothing from another one.
                        let old = records.iter().filter(|r| r.value.as_deref() == Some(b"old")).count();
                        let new = records.iter().filter(|r| r.value.as_deref() == Some(b"new")).count();
                        assert_eq!((old, new), (OLD, 0), "{what}: a load that says it is whole");
                        assert!(asked < known, "{what}: whole after the change was known");
                        whole += 1;
                    }
                    Err(error) => {
                        assert!(asked < known || matches!(&error, ReadError::Topic(_)), "{what}: {error}");
                        if matches!(&error, ReadError::Topic(_)) { refused += 1 } else { other += 1 }
                    }
                }
            }
        }
        println!("{what}: loads: {whole} whole, {refused} refused for the topic, {other} otherwise");
        assert!(whole > 0 && refused > 0, "{what}: nothing was under way");
        let (mut written, mut refused, mut first) = (0, 0, None);
        for task in self.writes {
            for (asked, answer) in task.await.unwrap() {
                match answer {
                    Ok(_) => {
                        assert!(asked < known, "{what}: written after the change was known");
                        written += 1;
                    }
                    Err(WriteError::Topic(_)) => {
                        refused += 1;
                        first = Some(first.map_or(asked, |f: Instant| f.min(asked)));
                    }
                    Err(error) => {
                        assert!(asked < known, "{what}: {error}");
                        println!("{what}: a write: {error}");
                    }
                }
            }
        }
        let first = first.expect("writes were refused for the topic").saturating_duration_since(changed);
        println!("{what}: writes: {written} written, {refused} refused, the first {first:?} after the change");
        assert!(written > 0 && first < Duration::from_secs(5), "{what}: {first:?}");
        self.log
    }
}

/// Records that only the old topic has.
const OLD: usize = 400;

async fn slowly(log: &KafkaLog, topic: Arc<Topic>, partitions: &[i32]) -> Result<Vec<Record>, ReadError> {
    let request = ReplayRequest {
        selection: Selection::all(topic.partition_count),
        topic,
        partitions: partitions.iter().map(|p| (partition(*p), StartAt::Low)).collect(),
        follow: Follow::No,
        owned_records: false,
        deadline: tokio::time::Instant::now() + PATIENCE,
    };
    let mut replay = log.replay(request).await?;
    let mut all = Vec::new();
    while let Some(event) = next(&mut replay).await {
        if let ReplayEvent::Records { records, .. } = event? {
            all.extend(records);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    Ok(all)
}

async fn filled(log: &KafkaLog, partitions: i32, count: usize, value: &[u8]) {
    append_all(log, (0..count).map(|i| record(partitions, &format!("w{}/t/{i}", i % 20), Some(value)))).await;
}

/// The topic is served first. Then loads and writes continue while it changes.
async fn under_way(partitions: i32) -> (String, Told) {
    let (topic, log) = on(partitions).await;
    filled(&log, partitions, OLD, b"old").await;
    let told = Told::start(log, partitions);
    tokio::time::sleep(Duration::from_millis(500)).await;
    (topic, told)
}

/// Covers R33, F14.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_deleted_during_loads_and_writes_is_refused_and_not_created() {
    let (topic, told) = under_way(2).await;
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    oracle.delete(bootstrap, &topic).unwrap();
    let gone = |p: &TopicProblem| matches!(p, TopicProblem::NotFound { .. });
    told.until_refused(Instant::now(), "deleted", gone).await;
    // The broker would create the topic at the first request that asks for it in the wrong way.
    assert!(!oracle.topics(bootstrap).unwrap().contains(&topic), "it was created again");
}

async fn recreated(count: usize, what: &str) {
    let (topic, told) = under_way(2).await;
    let (oracle, bootstrap) = (shared_oracle(), shared_broker().bootstrap());
    oracle.delete(bootstrap, &topic).unwrap();
    oracle.create(bootstrap, &topic, 2, 1, &COMPACTED).unwrap();
    let changed = Instant::now();
    let other = started(settings(&topic)).await;
    filled(&other, 2, count, b"new").await;
    let final_ = |p: &TopicProblem| matches!(p, TopicProblem::Recreated { .. });
    let log = told.until_refused(changed, what, final_).await;
    // The state is final, even if the topic is deleted again. A restart adopts the new topic.
    oracle.delete(bootstrap, &topic).unwrap();
    let error = log.topic().await.unwrap_err();
    assert!(matches!(&error, ReadError::Topic(p) if final_(p)), "{what}: {error}");
    oracle.create(bootstrap, &topic, 2, 1, &COMPACTED).unwrap();
    let restarted = started(settings(&topic)).await;
    assert!(read(&restarted, &[0, 1]).await.unwrap().0.is_empty());
    let error = log.topic().await.unwrap_err();
    assert!(matches!(&error, ReadError::Topic(p) if final_(p)), "{what}: {error}");
}

/// Covers C52, R15, F15.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shorter_recreated_topic_is_never_mixed_with_the_old_one() {
    recreated(5, "recreated shorter").await;
}

/// Covers C52, R15, F15.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longer_recreated_topic_is_never_mixed_with_the_old_one() {
    recreated(20_000, "recreated longer").await;
}

/// Covers C52, R16, F16.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_grown_during_loads_and_writes_is_refused_with_both_counts() {
    let (topic, told) = under_way(2).await;
    shared_oracle().add_partitions(shared_broker().bootstrap(), &topic, 3).unwrap();
    let grown = |p: &TopicProblem| matches!(p, TopicProblem::PartitionCountChanged { expected: 2, actual: 3, .. });
    let log = told.until_refused(Instant::now(), "grown", grown).await;
    let message = log.append(record(2, "w/t/a", None)).map(drop).unwrap_err().to_string();
    assert!(message.contains('2') && message.contains('3'), "{message}");
}
