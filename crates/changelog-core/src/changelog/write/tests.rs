//! Writes over the memory log.

use std::{sync::Arc, time::Duration};

use crate::{
    changelog::{Ack, Changelog, Limits, Metrics},
    log::MemoryLog,
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
