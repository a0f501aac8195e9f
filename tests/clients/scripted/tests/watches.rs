//! The scripts of `Watch`.

use super::*;
use crate::api::WatchEvent;

impl Tested {
    /// The first `most` events of a watch, or those up to its end. `Synced` and bookmarks are their tokens.
    pub(super) async fn watch(
        &mut self,
        workspace: &str,
        token: &str,
        most: usize,
    ) -> (Vec<String>, Result<(), Status>) {
        let request =
            WatchRequest { workspace_id: workspace.to_owned(), resume_token: token.into(), ..Default::default() };
        let mut stream = match self.client.watch(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return (Vec::new(), Err(status)),
        };
        let named = |name, token| format!("{name} {}", String::from_utf8(token).unwrap());
        let mut events = Vec::new();
        while events.len() < most {
            match stream.message().await {
                Ok(Some(message)) => events.push(match message.event.expect("an event") {
                    WatchEvent::Batch(batch) => shown(&batch),
                    WatchEvent::Synced(synced) => named("synced", synced.snapshot.unwrap().resume_token),
                    WatchEvent::Bookmark(bookmark) => named("bookmark", bookmark.resume_token),
                    WatchEvent::Later(_) => "later".to_owned(),
                }),
                Ok(None) => return (events, Ok(())),
                Err(status) => return (events, Err(status)),
            }
        }
        (events, Ok(()))
    }

    /// The events of a watch that the server ends as draining.
    async fn drained(&mut self, workspace: &str, token: &str) -> Vec<String> {
        let (events, end) = self.watch(workspace, token, 12).await;
        assert_refused(&end.unwrap_err(), Code::Unavailable, "DRAINING");
        events
    }

    /// The status of a watch without an event.
    async fn refused(&mut self, workspace: &str, token: &str) -> Status {
        let (events, end) = self.watch(workspace, token, 1).await;
        assert_eq!(events, [""; 0]);
        end.unwrap_err()
    }
}

/// An entry as [`shown`].
fn set(id: &str, offset: i64) -> String {
    format!(r#"deployment/{id}@{offset} {{"name":"{id}","version":{offset}}}"#)
}

fn delete(id: &str, offset: i64) -> String {
    format!("deployment/{id}@{offset} deleted")
}

#[tokio::test]
async fn a_watch_breaks_and_is_resumed() {
    let mut tested = start().await;
    let state = [set("a", 0), "synced token-1".to_owned()];
    let changes = [set("a", 1), "bookmark token-2".to_owned(), set("b", 2)];
    assert_eq!(tested.drained("resume.1", "").await, [&state[..], &changes].concat());
    let missed = [set("b", 2), delete("a", 3)];
    assert_eq!(tested.drained("resume.1", "token-2").await, missed);
    let rest = [set("c", 4), "synced token-3".to_owned()];
    assert_eq!(tested.drained("resume.1", "token-2").await, [&missed[..], &rest].concat());
    let (events, _) = tested.watch("resume.1", "token-3", 2).await;
    assert_eq!(events, ["synced token-4".to_owned(), set("d", 5)]);
    tested.cancelled("resume.1").await;
    assert_refused(&tested.refused("resume.1", "token-1").await, Code::InvalidArgument, "TOKEN_INVALID");
    assert_eq!(tested.observed("resume.1").await["calls"], 5);
}

fn token(name: &str, number: u32) -> String {
    format!("{name} token-{number}")
}

#[tokio::test]
async fn a_watch_resumes_in_a_log_that_lost_records() {
    let mut tested = start().await;
    let before = [set("a", 0), token("synced", 1), set("z", 1), token("bookmark", 2)];
    let after = [set("a", 2), set("b", 3), set("a", 4), set("c", 5), set("e", 6)];
    assert_eq!(tested.drained("lost.1", "").await, [&before[..], &after].concat());
    let (events, _) = tested.watch("lost.1", "token-2", 6).await;
    let other = r#"deployment/e@6 {"name":"e","version":60}"#.to_owned();
    assert_eq!(events, [set("a", 2), set("b", 3), set("c", 4), other, token("synced", 3), set("d", 7)]);

    let state = [set("a", 0), token("synced", 1), set("b", 1)];
    assert_eq!(tested.drained("phantom.1", "").await, state);
    assert_eq!(tested.drained("phantom.1", "token-1").await, [set("b", 1)]);
    let (events, _) = tested.watch("phantom.1", "token-1", 3).await;
    assert_eq!(events, [set("c", 1), token("synced", 2), set("d", 2)]);
    let (events, _) = tested.watch("phantom.1", "", 5).await;
    assert_eq!(events, [set("a", 0), set("c", 1), set("d", 2), token("synced", 3), set("e", 3)]);
    assert_refused(&tested.refused("phantom.1", "token-2").await, Code::InvalidArgument, "TOKEN_INVALID");
}

#[tokio::test]
async fn a_watch_has_many_changes() {
    let mut tested = start().await;
    let both = format!("{}, {}", set("x1", 1), set("x2", 2));
    assert_eq!(tested.drained("many-2.1", "").await, [set("a", 0), token("synced", 1), both.clone()]);
    let (events, _) = tested.watch("many-2.1", "token-1", 3).await;
    assert_eq!(events, [both, token("synced", 2), set("b", 3)]);
    let (events, _) = tested.watch("many-2.1", "", 2).await;
    assert_eq!(events, [set("b", 3), token("synced", 2)]);
}

#[tokio::test]
async fn a_watch_fails_again_and_again() {
    let mut tested = start().await;
    for _ in 0..2 {
        assert_refused(&tested.refused("too-large.1", "").await, Code::ResourceExhausted, "REPLAY_TOO_LARGE");
    }
    assert_eq!(tested.drained("stuck.1", "").await, [set("a", 0), token("synced", 1)]);
    for _ in 0..2 {
        let (events, end) = tested.watch("stuck.1", "token-1", 9).await;
        assert_eq!(events, [set("b", 1)]);
        assert_refused(&end.unwrap_err(), Code::DeadlineExceeded, "DEADLINE");
    }
    for _ in 0..3 {
        assert_refused(&tested.refused("outage.1", "").await, Code::Unavailable, "BROKERS_UNREACHABLE");
    }
    let (events, _) = tested.watch("outage.1", "", 2).await;
    assert_eq!(events, [set("a", 0), token("synced", 1)]);
    for _ in 0..5 {
        let (events, end) = tested.watch("lagging.1", "", 9).await;
        assert_eq!(events, [set("a", 0), token("synced", 1)]);
        assert_refused(&end.unwrap_err(), Code::OutOfRange, "RESYNC_REQUIRED");
    }
    assert_eq!(tested.drained("lagging.1", "").await, [set("a", 0), token("synced", 1), set("b", 1)]);
    let (events, _) = tested.watch("lagging.1", "token-1", 3).await;
    assert_eq!(events, [set("b", 1), token("synced", 2), set("c", 2)]);
}

#[tokio::test]
async fn a_watch_is_refused_for_a_while() {
    let mut tested = start().await;
    let asked = |status: &Status, reason| {
        assert_refused(status, Code::ResourceExhausted, reason);
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_millis(200)));
    };
    asked(&tested.refused("crowded.1", "").await, "TOO_MANY_REPLAYS");
    let (events, end) = tested.watch("crowded.1", "", 9).await;
    assert_eq!(events, [set("a", 0), "synced token-1".to_owned()]);
    assert_eq!(code_and_reason(&end.unwrap_err()), (Code::Cancelled, None));
    asked(&tested.refused("crowded.1", "token-1").await, "TOO_MANY_FOLLOWS");
    assert_refused(&tested.refused("crowded.1", "token-1").await, Code::DeadlineExceeded, "DEADLINE");
    let (events, _) = tested.watch("crowded.1", "token-1", 2).await;
    assert_eq!(events, [set("b", 1), "synced token-2".to_owned()]);
    assert_eq!(tested.observed("crowded.1").await["calls"], 5);
}

#[tokio::test]
async fn a_watch_must_start_again() {
    let mut tested = start().await;
    for (workspace, code, reason) in [
        ("resync.1", Code::OutOfRange, "RESYNC_REQUIRED"),
        ("moved.1", Code::Aborted, "LOG_MOVED"),
        ("truncated.1", Code::Aborted, "LOG_TRUNCATED"),
    ] {
        let synced = "synced token-1".to_owned();
        assert_eq!(tested.drained(workspace, "").await, [set("a", 0), synced, set("a", 9)]);
        assert_refused(&tested.refused(workspace, "token-1").await, code, reason);
        let (events, _) = tested.watch(workspace, "", 3).await;
        assert_eq!(events, [set("b", 7), "synced token-2".to_owned(), set("c", 8)]);
        assert_refused(&tested.refused(workspace, "token-2").await, Code::InvalidArgument, "TOKEN_INVALID");
    }
    let (events, end) = tested.watch("recreated.1", "", 9).await;
    assert_eq!(events, [set("a", 0), "synced token-1".to_owned()]);
    assert_refused(&end.unwrap_err(), Code::FailedPrecondition, "TOPIC_RECREATED");
}

#[tokio::test]
async fn a_watch_ends_without_synced() {
    let mut tested = start().await;
    let (events, end) = tested.watch("unsynced.1", "", 9).await;
    assert_eq!(events, [set("a", 0)]);
    end.unwrap();
    assert_eq!(tested.drained("unsynced.1", "").await, [set("a", 0)]);
    let (events, _) = tested.watch("unsynced.1", "", 2).await;
    assert_eq!(events, [set("b", 1), "synced token-1".to_owned()]);
    assert_refused(&tested.refused("unsynced.1", "token-1").await, Code::InvalidArgument, "TOKEN_INVALID");
}

#[tokio::test]
async fn a_watch_hangs_or_has_events_of_a_later_version() {
    let mut tested = start().await;
    timeout(Duration::from_millis(50), tested.watch("hang.1", "", 1)).await.expect_err("no answer");
    tested.cancelled("hang.1").await;
    let (events, _) = tested.watch("unknown-event.1", "", 5).await;
    let [later, synced] = ["later", "synced token-1"].map(str::to_owned);
    assert_eq!(events, [later.clone(), set("a", 0), synced, later, set("b", 1)]);
}

#[tokio::test]
async fn a_resumed_watch_is_not_answered() {
    let mut tested = start().await;
    assert_eq!(tested.drained("mute-2.1", "").await, [set("a", 0), token("synced", 1)]);
    for _ in 0..2 {
        timeout(Duration::from_millis(50), tested.watch("mute-2.1", "token-1", 1)).await.expect_err("no message");
        tested.cancelled("mute-2.1").await;
    }
    let (events, _) = tested.watch("mute-2.1", "token-1", 1).await;
    assert_eq!(events, [set("b", 1)]);
    assert_refused(&tested.refused("mute-2.1", "token-2").await, Code::InvalidArgument, "TOKEN_INVALID");
}
