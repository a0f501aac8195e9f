//! Reads over a log whose replays end after their first batch, without an end event or an error.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    changelog::{Ack, Changelog, Content, Limits, Metrics, Peer, StreamEvent, StreamRequest},
    log::{Log, MemoryLog, Replay, ReplayEvent},
    model::{Headers, Key, PartitionCount, WorkspaceId},
    testing::FakeLog,
};

async fn changelog() -> Changelog {
    let memory = MemoryLog::new(PartitionCount::new(1).unwrap(), Duration::from_secs(1_000));
    let log = FakeLog::new(memory).on_replay(|memory, request| async move {
        let (events, broken) = Replay::channel();
        let mut whole = memory.replay(request).await?;
        if let Some(Ok(first @ ReplayEvent::Records { .. })) = whole.next().await {
            let _ = events.send(Ok(first)).await;
        }
        Ok(broken)
    });
    let changelog = Changelog::new(Arc::new(log), Limits::for_tests(), Metrics::default());
    let key = Key::parse("ws/t/a").unwrap();
    let record = changelog.write_target().record(key, Some("1".into()), Headers::default()).unwrap();
    changelog.write(record, Ack::Durable, None).await.unwrap();
    changelog
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// Covers C43, R8.
#[tokio::test]
async fn a_load_whose_replay_ends_early_is_an_error() {
    let changelog = changelog().await;
    let error =
        changelog.load(WorkspaceId::parse("ws").unwrap(), HashSet::new(), Peer::default(), soon()).await.unwrap_err();
    assert!(error.to_string().contains("ended before its end offset"), "{error}");
    let error = changelog.get(Key::parse("ws/t/a").unwrap(), Peer::default(), soon()).await.unwrap_err();
    assert!(error.to_string().contains("ended before its end offset"), "{error}");
}

/// Covers C43, R8.
#[tokio::test]
async fn a_stream_whose_replay_ends_early_has_no_snapshot_and_ends_with_an_error() {
    let changelog = changelog().await;
    let request = StreamRequest {
        partitions: Vec::new(),
        workspaces: Vec::new(),
        types: HashSet::new(),
        content: Content::Records,
        resume_token: bytes::Bytes::new(),
        follow: false,
    };
    let mut stream = changelog.stream(request, Peer::default(), soon()).await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert!(matches!(first, StreamEvent::Batch { .. }), "{first:?}");
    let error = stream.next().await.unwrap().unwrap_err();
    assert!(error.to_string().contains("ended before its end offset"), "{error}");
}
