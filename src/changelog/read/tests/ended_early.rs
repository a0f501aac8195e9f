//! Reads over a log whose replays end after their first batch, without an end event or an error.

use std::{collections::HashSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{sync::watch, time::Instant};

use crate::{
    changelog::{Ack, Change, Changelog, Content, Limits, Metrics, Peer, StreamEvent, StreamRequest},
    log::{
        Description, Log, MemoryLog, NewRecord, PendingAppend, ReadError, Replay, ReplayEvent, ReplayRequest,
        StoreKind, Topic, TopicState, WriteError,
    },
    model::{Headers, Key, PartitionCount, WorkspaceId},
};

#[derive(Debug)]
struct EndsEarly(MemoryLog);

#[async_trait]
impl Log for EndsEarly {
    fn kind(&self) -> StoreKind {
        StoreKind::Memory
    }
    fn topic_state(&self) -> watch::Receiver<TopicState> {
        self.0.topic_state()
    }
    async fn topic(&self) -> Result<Arc<Topic>, ReadError> {
        self.0.topic().await
    }
    fn append(&self, record: NewRecord) -> Result<PendingAppend, WriteError> {
        self.0.append(record)
    }
    async fn replay(&self, request: ReplayRequest) -> Result<Replay, ReadError> {
        let (events, broken) = Replay::channel();
        let mut whole = self.0.replay(request).await?;
        if let Some(Ok(first @ ReplayEvent::Records { .. })) = whole.next().await {
            let _ = events.send(Ok(first)).await;
        }
        Ok(broken)
    }
    async fn describe(&self) -> Description {
        self.0.describe().await
    }
    async fn close(&self, deadline: Instant) -> u64 {
        self.0.close(deadline).await
    }
}

async fn changelog() -> Changelog {
    let log = EndsEarly(MemoryLog::new(PartitionCount::new(1).unwrap(), Duration::from_secs(1_000)));
    let changelog = Changelog::new(Arc::new(log), Limits::for_tests(), Metrics::default());
    let change = Change { key: Key::parse("ws/t/a").unwrap(), value: Some("1".into()), headers: Headers::default() };
    changelog.write(change, Ack::Durable, None).await.unwrap();
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
