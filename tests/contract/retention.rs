//! A log that keeps tombstones for less than a second: what a stream that follows is answered with, and what `Describe`
//! says.

use changelogd::proto::v1;
use futures_util::FutureExt;
use tonic::{Code, Status};

use super::{
    server::{PATIENCE, TestServer},
    statuses::facts,
};

/// Writes until a stream that follows ends with an error.
async fn follow(server: &TestServer) -> Status {
    let request = v1::StreamAllRequest { follow: true, ..Default::default() };
    let ended = async {
        let mut stream = match server.client.clone().stream_all(request).await {
            Ok(stream) => stream.into_inner(),
            Err(refused) => return refused,
        };
        loop {
            server.set("ws/t/followed", "1").await;
            while let Some(message) = stream.message().now_or_never() {
                match message {
                    Ok(message) => assert!(message.is_some(), "it does not end without an error"),
                    Err(status) => return status,
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("it ends in time")
}

/// `setting` is what sets the time on this store, and `millis` the time.
pub async fn a_stream_that_follows_is_refused_and_the_setting_is_named(
    server: &TestServer,
    setting: &str,
    millis: &str,
) {
    let status = follow(server).await;
    let facts = facts(&status, Code::FailedPrecondition, "RETENTION_TOO_SHORT", setting);
    assert_eq!(facts["deleteRetentionMs"], millis);
    assert!(facts["readMs"].parse::<u64>().is_ok() && facts.contains_key("partition"), "{facts:?}");
    let way_out = format!("half of {setting}, which is {millis} ms: raise it");
    assert!(status.message().contains(&way_out), "{status:?}");
    let findings = server.describe("").await.findings;
    let found = findings.iter().find(|f| f.code == "SHORT_DELETE_RETENTION").expect("a finding");
    assert_eq!(found.severity(), v1::Severity::Error);
    for part in [&format!("{setting} is {millis} ms"), "RETENTION_TOO_SHORT", "raise it"] {
        assert!(found.message.contains(part), "{}", found.message);
    }
}
