//! A log that keeps tombstones for less than a second: what a stream that follows is answered with, and what `Describe`
//! says.

use changelogd::proto::v1;
use futures_util::FutureExt;
use tonic::{Code, Status};

use super::{
    server::{PATIENCE, TestServer, reason},
    statuses::facts,
    watches::of,
    watching::Watching,
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

/// A watch resumes from a token until that is older than half of the retention, which is a few seconds. Then it must
/// start again.
pub async fn a_watch_resumes_until_its_token_is_too_old(server: &TestServer) {
    server.set("ws/t/a", "1").await;
    let mut watching = Watching::start(server, of("ws")).await;
    let (_, snapshot) = watching.synced().await;
    drop(watching);
    server.delete("ws/t/a").await;
    let resumed = v1::WatchRequest { resume_token: snapshot.resume_token, ..of("ws") };
    let (begun, mut times) = (std::time::Instant::now(), 0);
    let status = loop {
        let mut watching = match server.client.clone().watch(resumed.clone()).await {
            Ok(events) => events.into_inner(),
            Err(status) => break status,
        };
        let first = match watching.message().await {
            Ok(message) => message.and_then(|message| message.event).expect("an event"),
            Err(status) => break status,
        };
        let v1::watch_response::Event::Batch(missed) = first else { panic!("the deletion is missing: {first:?}") };
        assert!(missed.entries.len() == 1 && missed.entries[0].is_tombstone, "{missed:?}");
        times += 1;
        assert!(begun.elapsed() < PATIENCE, "the token is accepted");
        // Not as often as possible: a connection that resets many streams is closed.
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(times > 0, "it is accepted at first: {status:?}");
    assert_eq!((status.code(), &*reason(&status)), (Code::OutOfRange, "RESYNC_REQUIRED"), "{status:?}");
    let mut again = Watching::start(server, of("ws")).await;
    assert_eq!(again.synced().await.0.len(), 0, "without the token it is served");
}
