//! Settings of a topic under which writes or loads are refused, each with what is wrong.

use std::time::Instant;

use changelogd::proto::v1;
use changelogd_testkit::{shared_broker, shared_oracle};
use tonic::Code;

use crate::{
    contract::{
        retention::a_stream_that_follows_is_refused_and_the_setting_is_named,
        server::{PATIENCE, TestServer, reason},
    },
    servers::topic,
    topic_care::{load, set},
};

async fn finding(server: &TestServer, code: &str) -> Option<v1::Finding> {
    server.describe("").await.findings.into_iter().find(|f| f.code == code)
}

/// Covers R50.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_timestamp_is_clock_skew_and_names_the_clock_and_the_range() {
    let (topic, arguments) = topic(1);
    let server = TestServer::in_process(arguments).await.ready().await;
    let allow = |ms: &str| {
        let oracle = shared_oracle();
        oracle.config(shared_broker().bootstrap(), &topic, &[("message.timestamp.before.max.ms", ms)]).unwrap();
    };
    set(&server).await.unwrap();
    // A record is some time on its way. For the broker, this clock is behind by that.
    allow("0");
    let started = Instant::now();
    // The changed configuration is known within a second.
    let refused = loop {
        match set(&server).await {
            Err(status) if status.message().contains("from 0 ms") => break status,
            Ok(()) | Err(_) => assert!(started.elapsed() < PATIENCE, "no record is late"),
        }
    };
    assert_eq!((refused.code(), &*reason(&refused)), (Code::FailedPrecondition, "CLOCK_SKEW"), "{refused:?}");
    assert!(refused.message().contains("nothing was written"), "{}", refused.message());
    for named in ["this machine's clock is at 20", "from 0 ms before", "message.timestamp.before.max.ms"] {
        assert!(refused.message().contains(named), "{}", refused.message());
    }
    let found = finding(&server, "CLOCK_SKEW").await.expect("a finding");
    assert_eq!(found.severity(), v1::Severity::Error);
    assert!(found.message.contains("this machine's clock is at"), "{}", found.message);
    load(&server).await.expect("loads are served meanwhile");
    allow("9223372036854775807");
    while let Err(status) = set(&server).await {
        assert_eq!(reason(&status), "CLOCK_SKEW");
        assert!(started.elapsed() < PATIENCE, "{status:?}");
    }
    assert_eq!(finding(&server, "CLOCK_SKEW").await, None, "it goes with the first write that is accepted");
}

/// Covers R9.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_without_retention_of_tombstones_is_refused_as_such_and_serves_empty_partitions() {
    let (topic, arguments) = topic(1);
    shared_oracle().config(shared_broker().bootstrap(), &topic, &[("delete.retention.ms", "0")]).unwrap();
    let server = TestServer::in_process(arguments).await.ready().await;
    load(&server).await.expect("nothing is to be read");
    set(&server).await.unwrap();
    let refused = load(&server).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused)), (Code::FailedPrecondition, "RETENTION_TOO_SHORT"), "{refused:?}");
    assert!(refused.message().contains("delete.retention.ms, which is 0"), "{}", refused.message());
    a_stream_that_follows_is_refused_and_the_setting_is_named(&server, "delete.retention.ms", "0").await;
}
