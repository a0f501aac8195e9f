//! `StreamAll` and resume tokens.

use std::time::Duration;

use bytes::Bytes;
use changelog_core::model::PartitionCount;
use changelogd::proto::v1;
use tonic::{Code, Status};
use v1::stream_all_response::Event;

use super::server::{PATIENCE, TestServer, field, reason, text};

fn all() -> v1::StreamAllRequest {
    v1::StreamAllRequest::default()
}

fn latest() -> v1::StreamAllRequest {
    v1::StreamAllRequest { content: v1::Content::Latest.into(), ..all() }
}

/// Twelve workspaces with a live, a changed and a deleted entity each.
async fn fill(server: &TestServer) {
    for w in 0..12 {
        server.set(&format!("w{w}/a/live"), "1").await;
        server.set(&format!("w{w}/b/changed"), "1").await;
        server.set(&format!("w{w}/a/deleted"), "1").await;
        server.set(&format!("w{w}/b/changed"), "2").await;
        server.delete(&format!("w{w}/a/deleted")).await;
    }
}

/// Covers C17, C23, C25, C26, C28, R8, R36.
pub async fn records_come_in_offset_order_with_one_snapshot_for_each_partition(server: TestServer) {
    fill(&server).await;
    let streamed = server.stream(all()).await.unwrap();
    let count = server.describe("").await.partition_count;
    let mut partitions: Vec<_> = streamed.snapshots.iter().map(|s| s.partition).collect();
    partitions.sort_unstable();
    assert_eq!(partitions, (0..count).collect::<Vec<_>>(), "one snapshot a partition, also of empty ones");
    for snapshot in &streamed.snapshots {
        let entries: Vec<_> = streamed.entries.iter().filter(|e| e.partition == snapshot.partition).collect();
        assert!(entries.is_sorted_by(|a, b| a.offset < b.offset));
        assert!(entries.iter().all(|e| (snapshot.start_offset..snapshot.end_offset).contains(&e.offset)));
        assert_eq!(snapshot.entries + snapshot.tombstones, entries.len() as u64);
        assert_eq!(snapshot.records_read, entries.len() as u64, "nothing was filtered out");
    }
    let state = streamed.state();
    assert_eq!(state.len(), 24);
    assert!((0..12).all(|w| state[&format!("w{w}/b/changed")] == "2"));
    assert_eq!(streamed.entries.iter().filter(|e| e.is_tombstone).count(), 12);
}

/// Covers C28, R10.
pub async fn latest_values_leave_out_deleted_keys(server: TestServer) {
    fill(&server).await;
    let streamed = server.stream(latest()).await.unwrap();
    assert_eq!(streamed.entries.len(), 24, "each key once");
    assert!(streamed.entries.iter().all(|e| !e.is_tombstone));
    assert_eq!(streamed.snapshots.iter().map(|s| s.entries).sum::<u64>(), 24);
    assert_eq!(streamed.snapshots.iter().map(|s| s.tombstones).sum::<u64>(), 12);
    let typed = v1::StreamAllRequest { entity_types: vec!["b".to_owned()], ..latest() };
    assert_eq!(server.stream(typed).await.unwrap().entries.len(), 12);
}

/// Covers C24, B15.
pub async fn only_the_partitions_needed_are_read(server: TestServer) {
    fill(&server).await;
    let count = PartitionCount::new(server.describe("").await.partition_count.into()).unwrap();
    let home = |w: &str| count.of_workspace(w.as_bytes()).number();
    let by_workspace = v1::StreamAllRequest { workspace_ids: vec!["w1".to_owned(), "w1".to_owned()], ..all() };
    let streamed = server.stream(by_workspace).await.unwrap();
    assert_eq!(streamed.snapshots.iter().map(|s| s.partition).collect::<Vec<_>>(), [home("w1")]);
    assert!(streamed.entries.iter().all(|e| e.key.starts_with("w1/")));
    assert_eq!(streamed.state().len(), 2);

    let by_partition = v1::StreamAllRequest { partitions: vec![home("w1")], ..all() };
    let streamed = server.stream(by_partition).await.unwrap();
    assert_eq!(streamed.snapshots.len(), 1);
    assert!(streamed.entries.iter().all(|e| e.partition == home("w1")));

    let both = v1::StreamAllRequest { partitions: vec![home("w1")], workspace_ids: vec!["w1".to_owned()], ..all() };
    assert_eq!(server.stream(both).await.unwrap().state().len(), 2);
    let elsewhere = v1::StreamAllRequest {
        partitions: vec![(home("w1") + 1) % count.get()],
        workspace_ids: vec!["w1".to_owned()],
        ..all()
    };
    refused(&server, elsewhere, "workspace_ids").await;
    for bad in [-1, count.get()] {
        refused(&server, v1::StreamAllRequest { partitions: vec![bad], ..all() }, "partitions").await;
    }
}

async fn refused(server: &TestServer, request: v1::StreamAllRequest, at: &str) {
    let status = server.stream(request).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status), &*field(&status)), (Code::InvalidArgument, "ARGUMENT_INVALID", at));
}

/// Covers C32, C34, C49.
pub async fn a_stream_resumes_after_its_newest_token_and_delivers_tombstones(server: TestServer) {
    for request in [all(), latest()] {
        fill(&server).await;
        let first = server.stream(request.clone()).await.unwrap();
        let mut state = first.state();
        server.set("w0/a/new", "3").await;
        server.delete("w1/a/live").await;
        server.set("w2/b/changed", "4").await;
        let rest = v1::StreamAllRequest { resume_token: first.token(), ..request };
        let second = server.stream(rest.clone()).await.unwrap();
        assert_eq!(second.entries.len(), 3, "only what changed");
        assert_eq!(second.entries.iter().filter(|e| e.is_tombstone).count(), 1, "tombstones in either content");
        for entry in &second.entries {
            if entry.is_tombstone {
                state.remove(&entry.key);
            } else {
                state.insert(entry.key.clone(), text(entry));
            }
        }
        assert_eq!(state, server.stream(latest()).await.unwrap().state());
        let third = v1::StreamAllRequest { resume_token: second.token(), ..rest };
        assert_eq!(server.stream(third).await.unwrap().entries.len(), 0);
    }
}

/// Covers C33, C34.
pub async fn a_load_s_token_resumes_a_stream_of_its_workspace_and_types(server: TestServer) {
    fill(&server).await;
    let loaded = server.load_types("w1", &["a"]).await;
    server.set("w1/a/new", "1").await;
    server.set("w1/b/other-type", "1").await;
    server.delete("w1/a/live").await;
    let request = v1::StreamAllRequest {
        workspace_ids: vec!["w1".to_owned()],
        entity_types: vec!["a".to_owned()],
        resume_token: loaded.snapshot.resume_token.clone(),
        ..all()
    };
    let streamed = server.stream(request.clone()).await.unwrap();
    assert_eq!(streamed.entries.iter().map(|e| &*e.key).collect::<Vec<_>>(), ["w1/a/new", "w1/a/live"]);
    let other = v1::StreamAllRequest { workspace_ids: vec!["w2".to_owned()], ..request };
    invalid(server.stream(other).await.unwrap_err());
}

fn invalid(status: Status) {
    let found = (status.code(), reason(&status), field(&status));
    assert_eq!(found, (Code::InvalidArgument, "TOKEN_INVALID".to_owned(), "resume_token".to_owned()), "{status:?}");
}

/// Covers C32, C49, B17.
pub async fn malformed_tokens_and_those_of_another_scope_are_invalid(server: TestServer) {
    fill(&server).await;
    let token = server.stream(all()).await.unwrap().token();
    let with = |token: &[u8]| v1::StreamAllRequest { resume_token: Bytes::copy_from_slice(token), ..all() };
    let mut damaged = token.to_vec();
    damaged[3] ^= 1;
    for bytes in [&b"x"[..], &[0; 64], &token[..token.len() - 1], &damaged] {
        invalid(server.stream(with(bytes)).await.unwrap_err());
    }
    for scope in [
        v1::StreamAllRequest { content: v1::Content::Latest.into(), ..with(&token) },
        v1::StreamAllRequest { entity_types: vec!["a".to_owned()], ..with(&token) },
        v1::StreamAllRequest { partitions: vec![0], ..with(&token) },
        v1::StreamAllRequest { workspace_ids: vec!["w1".to_owned()], ..with(&token) },
    ] {
        invalid(server.stream(scope).await.unwrap_err());
    }
}

/// Covers C49, B17.
pub async fn tokens_of_another_topic_require_a_resync(server: TestServer) {
    // A token of another store, with the same scope.
    let elsewhere = TestServer::in_process(vec![
        "--store=memory".to_owned(),
        format!("--partitions={}", server.describe("").await.partition_count),
    ])
    .await
    .ready()
    .await;
    fill(&elsewhere).await;
    let token = elsewhere.stream(all()).await.unwrap().token();
    let status = server.stream(v1::StreamAllRequest { resume_token: token, ..all() }).await.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::OutOfRange, "RESYNC_REQUIRED"), "{status:?}");
}

/// Covers C49, B17.
pub async fn tokens_of_another_version_require_a_resync(server: TestServer) {
    // Version 2 and a content of which this version knows nothing, version 0 with the content of version 1, and
    // version 255 without content. The last four bytes are the checksum.
    for token in [
        &b"\x02not protobuf\xec\xec\x93\xb7"[..],
        b"\x00\x0a\x02id\x10\x04\x1a\x05scope\x22\x09\x08\x02\x10\x07\x18\x06\x20\xe8\x07\xc2\x34\x28\x98",
        b"\xff\xff\x00\x00\x00",
    ] {
        let request = v1::StreamAllRequest { resume_token: Bytes::from_static(token), ..all() };
        let status = server.stream(request).await.unwrap_err();
        assert_eq!((status.code(), &*reason(&status)), (Code::OutOfRange, "RESYNC_REQUIRED"), "{status:?}");
        assert!(status.message().contains("version"), "{status:?}");
    }
    // A damaged version is damage, and not another version.
    let mut damaged = server.stream(all()).await.unwrap().token().to_vec();
    damaged[0] = 2;
    invalid(server.stream(v1::StreamAllRequest { resume_token: damaged.into(), ..all() }).await.unwrap_err());
}

/// Covers C29, C30, C32.
pub async fn a_following_stream_delivers_changes_and_bookmarks(server: TestServer) {
    fill(&server).await;
    let request = v1::StreamAllRequest { follow: true, ..latest() };
    let mut follower = server.client.clone().stream_all(request.clone()).await.unwrap().into_inner();
    let mut ends = server.describe("").await.partition_count;
    while ends > 0 {
        match next(&mut follower).await {
            Event::Snapshot(_) => ends -= 1,
            Event::Batch(batch) => assert!(batch.entries.iter().all(|e| !e.is_tombstone)),
            Event::Bookmark(_) => {}
        }
    }
    server.set("w0/a/new", "1").await;
    server.delete("w0/a/new").await;
    let mut seen = Vec::new();
    let token = loop {
        match next(&mut follower).await {
            Event::Batch(batch) => {
                seen.extend(batch.entries.into_iter().filter(|e| e.key == "w0/a/new").map(|e| e.is_tombstone));
            }
            Event::Bookmark(bookmark) if seen.last() == Some(&true) => break bookmark.resume_token,
            Event::Bookmark(_) => {}
            Event::Snapshot(_) => panic!("one snapshot a partition"),
        }
    };
    // A store that is always compacted may have removed the first of the two before it was read.
    assert!(seen == [false, true] || seen == [true], "{seen:?}");
    drop(follower);
    server.set("w5/a/later", "1").await;
    let resumed = v1::StreamAllRequest { resume_token: token, follow: false, ..request };
    let rest = server.stream(resumed).await.unwrap();
    assert_eq!(rest.entries.iter().map(|e| &*e.key).collect::<Vec<_>>(), ["w5/a/later"]);
}

/// Covers C30.
pub async fn a_bookmark_comes_even_when_nothing_matches(server: TestServer) {
    let request = v1::StreamAllRequest { workspace_ids: vec!["nobody".to_owned()], follow: true, ..all() };
    let mut follower = server.client.clone().stream_all(request).await.unwrap().into_inner();
    assert!(matches!(next(&mut follower).await, Event::Snapshot(_)));
    for _ in 0..2 {
        let event = tokio::time::timeout(Duration::from_secs(10), next(&mut follower)).await;
        assert!(matches!(event.expect("a bookmark at least every 10 s"), Event::Bookmark(_)));
    }
}

async fn next(stream: &mut tonic::Streaming<v1::StreamAllResponse>) -> Event {
    let message = tokio::time::timeout(PATIENCE, stream.message()).await.expect("an event in time");
    message.expect("no error").expect("no end").event.expect("an event")
}
