//! `Watch`: state, `Synced`, changes, and tokens.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use changelogd::proto::v1::{self, watch_response::Event};
use tonic::{Code, Status};

use super::{
    busy,
    server::{TestServer, field, reason, text},
    watching::Watching,
};

pub fn of(workspace: &str) -> v1::WatchRequest {
    v1::WatchRequest { workspace_id: workspace.to_owned(), ..Default::default() }
}

async fn fill(server: &TestServer) {
    for w in ["w1", "w2"] {
        server.set(&format!("{w}/a/live"), "1").await;
        server.set(&format!("{w}/b/changed"), "1").await;
        server.set(&format!("{w}/a/deleted"), "1").await;
        server.set(&format!("{w}/b/changed"), "2").await;
        server.delete(&format!("{w}/a/deleted")).await;
    }
}

fn keys(entries: &[v1::Entry]) -> Vec<&str> {
    entries.iter().map(|entry| &*entry.key).collect()
}

/// Covers C71, C42, R67.
pub async fn a_watch_delivers_the_state_then_synced_then_changes(server: TestServer) {
    fill(&server).await;
    let mut watching = Watching::start(&server, of("w1")).await;
    let (state, snapshot) = watching.synced().await;
    assert_eq!(keys(&state), ["w1/a/live", "w1/b/changed"], "each once, in the order of the last change");
    assert_eq!((snapshot.entries, snapshot.tombstones), (2, 1));
    let loaded = server.load("w1").await;
    assert_eq!(state, loaded.entries, "the state is that of a load");
    server.set("w2/a/live", "2").await;
    let created = server.set("w1/a/new", "3").await;
    server.delete("w1/a/live").await;
    let changes = watching.until(|entry| entry.key == "w1/a/live").await;
    assert_eq!(keys(&changes), ["w1/a/new", "w1/a/live"], "of the workspace only");
    assert_eq!((changes[0].offset, text(&changes[0])), (created.offset, "3".to_owned()));
    assert!(changes[1].is_tombstone);
    let values = watching.seen.values();
    assert_eq!(values, BTreeMap::from([("w1/a/new", "3"), ("w1/b/changed", "2")]));
}

/// Covers C71.
pub async fn a_watch_of_an_unknown_workspace_is_synced_and_sees_its_first_entity(server: TestServer) {
    let mut watching = Watching::start(&server, of("nobody")).await;
    let (state, snapshot) = watching.synced().await;
    assert_eq!((state.len(), snapshot.entries), (0, 0));
    server.set("nobody/t/1", "1").await;
    assert_eq!(keys(&watching.until(|_| true).await), ["nobody/t/1"]);
}

/// Covers C71.
pub async fn a_watch_of_types_delivers_only_those(server: TestServer) {
    fill(&server).await;
    let request = v1::WatchRequest { entity_types: vec!["b".to_owned()], ..of("w1") };
    let mut watching = Watching::start(&server, request).await;
    assert_eq!(keys(&watching.synced().await.0), ["w1/b/changed"]);
    server.set("w1/a/live", "5").await;
    server.set("w1/b/new", "6").await;
    assert_eq!(keys(&watching.until(|_| true).await), ["w1/b/new"]);
}

/// Covers C71.
pub async fn a_watch_resumes_with_what_changed_each_entity_once(server: TestServer) {
    fill(&server).await;
    let mut watching = Watching::start(&server, of("w1")).await;
    watching.synced().await;
    server.set("w1/a/before", "1").await;
    watching.until(|entry| entry.key == "w1/a/before").await;
    let token = watching.bookmark().await;
    let mut seen = watching.seen;
    drop(watching.events);
    server.set("w1/a/before", "2").await;
    server.set("w1/a/new", "1").await;
    server.set("w1/a/before", "3").await;
    server.delete("w1/a/live").await;
    assert_eq!(seen.resume(), token, "the newest token");
    let request = v1::WatchRequest { resume_token: token, ..of("w1") };
    let mut watching = Watching::resumed(&server, request, seen).await;
    let (missed, snapshot) = watching.synced().await;
    assert_eq!(keys(&missed), ["w1/a/new", "w1/a/before", "w1/a/live"], "what changed, deletes too");
    assert!(missed[2].is_tombstone && text(&missed[1]) == "3");
    assert_eq!((snapshot.entries, snapshot.tombstones), (2, 1));
    assert!(snapshot.start_offset <= missed[0].offset && missed[2].offset < snapshot.end_offset);
    server.set("w1/a/last", "1").await;
    assert_eq!(keys(&watching.until(|_| true).await), ["w1/a/last"]);
}

/// Covers C71, C33.
pub async fn tokens_of_loads_streams_and_watches_serve_each_other(server: TestServer) {
    fill(&server).await;
    let stream = |token: &Bytes, content: v1::Content| v1::StreamAllRequest {
        workspace_ids: vec!["w1".to_owned()],
        content: content.into(),
        resume_token: token.clone(),
        ..Default::default()
    };
    let mut tokens = vec![server.load("w1").await.snapshot.resume_token];
    for content in [v1::Content::Records, v1::Content::Latest] {
        tokens.push(server.stream(stream(&Bytes::new(), content)).await.unwrap().token());
    }
    let mut watching = Watching::start(&server, of("w1")).await;
    tokens.push(watching.synced().await.1.resume_token);
    tokens.push(watching.bookmark().await);
    server.set("w1/a/new", "1").await;
    for token in &tokens {
        let request = v1::WatchRequest { resume_token: token.clone(), ..of("w1") };
        let mut watching = Watching::start(&server, request).await;
        assert_eq!(keys(&watching.synced().await.0), ["w1/a/new"]);
    }
    for token in &tokens[3..] {
        let streamed = server.stream(stream(token, v1::Content::Records)).await.unwrap();
        assert_eq!(keys(&streamed.entries), ["w1/a/new"]);
    }
}

/// Covers C71, C49, B17.
pub async fn a_watch_refuses_a_token_that_it_can_not_resume_from(server: TestServer) {
    fill(&server).await;
    let token = server.load("w1").await.snapshot.resume_token;
    let mut damaged = token.to_vec();
    damaged[3] ^= 1;
    let other = server.load("w2").await.snapshot.resume_token;
    let types = server.load_types("w1", &["a"]).await.snapshot.resume_token;
    let everything = server.stream(v1::StreamAllRequest::default()).await.unwrap().token();
    for token in [Bytes::from_static(b"x"), damaged.into(), other, types, everything] {
        let status = refused(&server, v1::WatchRequest { resume_token: token, ..of("w1") }).await;
        let found = (status.code(), &*reason(&status), &*field(&status));
        assert_eq!(found, (Code::InvalidArgument, "TOKEN_INVALID", "resume_token"), "{status:?}");
    }
    let count = server.describe("").await.partition_count;
    let arguments = vec!["--store=memory".to_owned(), format!("--partitions={count}")];
    let elsewhere = TestServer::in_process(arguments).await.ready().await;
    fill(&elsewhere).await;
    let token = elsewhere.load("w1").await.snapshot.resume_token;
    let status = refused(&server, v1::WatchRequest { resume_token: token, ..of("w1") }).await;
    assert_eq!((status.code(), &*reason(&status)), (Code::OutOfRange, "RESYNC_REQUIRED"), "{status:?}");
}

/// The status of a watch that has no event.
async fn refused(server: &TestServer, request: v1::WatchRequest) -> Status {
    match server.client.clone().watch(request).await {
        Err(status) => status,
        Ok(events) => events.into_inner().message().await.expect_err("it is refused"),
    }
}

/// Covers C71, C30.
pub async fn a_bookmark_comes_to_a_watch_even_when_nothing_matches(server: TestServer) {
    let mut watching = Watching::start(&server, of("nobody")).await;
    watching.synced().await;
    for _ in 0..2 {
        let bookmark = tokio::time::timeout(Duration::from_secs(10), watching.bookmark()).await;
        bookmark.expect("a bookmark at least every 10 s");
    }
}

/// Covers C71, C53, R32.
pub async fn a_draining_server_gives_a_watch_its_last_token_and_the_reason(mut server: TestServer) {
    server.set("w1/t/a", "1").await;
    let mut watching = Watching::start(&server, of("w1")).await;
    watching.synced().await;
    server.set("w1/t/b", "1").await;
    watching.until(|entry| entry.key == "w1/t/b").await;
    server.stop().await;
    let mut last = None;
    let status = loop {
        match watching.next().await {
            Ok(event) => last = Some(event),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "DRAINING"), "{status:?}");
    assert!(matches!(last, Some(Event::Bookmark(_))), "{last:?}");
}

/// Covers C71, R67.
pub async fn watches_of_a_busy_workspace_are_ordered_unique_whole_and_final(server: TestServer) {
    busy::watch_while_writing(&server, async |_| true).await.assert_whole();
}

/// One by one: a later write of a key may remove the one before from the log.
/// Covers C71.
pub async fn each_change_of_one_entity_comes_to_a_watch_that_keeps_up(server: TestServer) {
    let mut watching = Watching::start(&server, of("w1")).await;
    watching.synced().await;
    for n in 0..20 {
        let position = match n % 3 {
            2 => server.delete("w1/a/one").await,
            _ => server.set("w1/a/one", &n.to_string()).await,
        };
        let changes = watching.until(|_| true).await;
        let came: Vec<_> = changes.iter().map(|change| (change.offset, change.is_tombstone)).collect();
        assert_eq!(came, [(position.offset, n % 3 == 2)]);
    }
}
