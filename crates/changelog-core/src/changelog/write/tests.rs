//! Writes over the memory log.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    changelog::{Ack, Changelog, Limits, Metrics},
    log::{MemoryLog, WriteError},
    model::{Headers, Key, PartitionCount},
    testing::FakeLog,
};

#[tokio::test]
async fn a_write_reads_the_state_of_the_topic_once() {
    let memory = MemoryLog::new(PartitionCount::new(1).unwrap(), Duration::from_secs(1_000));
    let log = Arc::new(FakeLog::new(memory));
    let changelog = Changelog::new(log.clone(), Limits::for_tests(), Metrics::default());
    let target = changelog.write_target();
    target.value_rules().check(b"1").unwrap();
    let record = target.record(Key::parse("ws/t/a").unwrap(), Some("1".into()), Headers::default()).unwrap();
    changelog.write(record, Ack::Durable, None).await.unwrap();
    assert_eq!(log.state_reads(), 1);
}

#[tokio::test]
async fn an_outcome_is_reported_once_and_the_write_is_in_flight_until_it_is_dropped() {
    let memory = MemoryLog::new(PartitionCount::new(1).unwrap(), Duration::from_secs(1_000));
    let changelog = Changelog::new(Arc::new(memory), Limits::for_tests(), Metrics::default());
    let key = Key::parse("ws/t/a").unwrap();
    let record = changelog.write_target().record(key, Some("1".into()), Headers::default()).unwrap();
    let mut accepted = changelog.accept(record).unwrap();
    accepted.outcome().await.unwrap();
    let again = accepted.outcome().await.unwrap_err();
    assert!(matches!(again, WriteError::OutcomeUnknown { by_time: false, .. }), "{again}");
    assert_eq!(changelog.flush(0, Instant::now()).await.remaining, 1);
    drop(accepted);
    assert_eq!(changelog.flush(0, Instant::now()).await.remaining, 0);
}
