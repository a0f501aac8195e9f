//! Quotas of a broker.

use std::time::Duration;

use changelog_kafka::Settings;
use changelogd_testkit::{shared_broker, shared_oracle};

use crate::kit::*;

/// Covers R49.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_below_its_read_quota_is_late_and_whole() {
    const VALUES: u64 = 150;
    let topic = created(1, &[]);
    let bootstrap = shared_broker().bootstrap();
    let writer = started(settings(&topic)).await;
    append_all(&writer, (0..VALUES).map(|i| record(1, &format!("w/t/{i}"), Some(&noise(10_000, i))))).await;
    // A broker counts ten seconds together. So 1.5 MB are more than one answer and more than the quota allows at once.
    shared_oracle().quota(bootstrap, &topic, "consumer_byte_rate", 100_000).unwrap();
    let no_progress = Duration::from_secs(1);
    let mut throttled = Settings { no_progress, ..settings(&topic) };
    throttled.properties.push(("client.id".to_owned(), topic.clone()));
    let reader = started(throttled).await;
    let (records, ends) = read(&reader, &[0]).await.expect("late, and not unreachable");
    assert_eq!((records.len() as u64, ends[0].end), (VALUES, VALUES as i64));
}
