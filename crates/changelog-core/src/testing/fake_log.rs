//! A log over a [`MemoryLog`] whose operations a test can replace.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::{sync::watch, time::Instant};

use crate::log::{
    Description, Log, MemoryLog, NewRecord, PendingAppend, ReadError, Replay, ReplayRequest, StoreKind, Topic,
    TopicState, WriteError, WriteQueue,
};

type Append = dyn Fn(&MemoryLog, NewRecord) -> Result<PendingAppend, WriteError> + Send + Sync;
type ReplayStart = dyn Fn(MemoryLog, ReplayRequest) -> BoxFuture<'static, Result<Replay, ReadError>> + Send + Sync;
type Describe = dyn Fn(MemoryLog) -> BoxFuture<'static, Description> + Send + Sync;
type TopicCheck = dyn Fn() -> Result<Arc<Topic>, ReadError> + Send + Sync;

/// A log over a memory log. Operations that the test does not replace are those of the memory log.
pub struct FakeLog {
    memory: MemoryLog,
    reads_whole_partitions: bool,
    state: watch::Receiver<TopicState>,
    state_reads: AtomicUsize,
    topic: Option<Box<TopicCheck>>,
    append: Box<Append>,
    replay: Box<ReplayStart>,
    describe: Box<Describe>,
}

impl fmt::Debug for FakeLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeLog").field("memory", &self.memory).finish_non_exhaustive()
    }
}

impl FakeLog {
    /// A log that behaves as `memory` does.
    pub fn new(memory: MemoryLog) -> Self {
        Self {
            reads_whole_partitions: memory.reads_whole_partitions(),
            state: memory.topic_state(),
            state_reads: AtomicUsize::new(0),
            topic: None,
            append: Box::new(MemoryLog::append),
            replay: Box::new(|memory, request| Box::pin(async move { memory.replay(request).await })),
            describe: Box::new(|memory| Box::pin(async move { memory.describe().await })),
            memory,
        }
    }

    /// Says that its replays read whole partitions.
    #[must_use]
    pub fn reading_whole_partitions(mut self) -> Self {
        self.reads_whole_partitions = true;
        self
    }

    /// Reports this state of the topic.
    #[must_use]
    pub fn with_state(mut self, state: watch::Receiver<TopicState>) -> Self {
        self.state = state;
        self
    }

    /// How many times [`Log::topic_state`] was called.
    pub fn state_reads(&self) -> usize {
        self.state_reads.load(SeqCst)
    }

    /// Replaces [`Log::topic`].
    #[must_use]
    pub fn on_topic(mut self, topic: impl Fn() -> Result<Arc<Topic>, ReadError> + Send + Sync + 'static) -> Self {
        self.topic = Some(Box::new(topic));
        self
    }

    /// Replaces [`Log::append`].
    #[must_use]
    pub fn on_append(
        mut self,
        append: impl Fn(&MemoryLog, NewRecord) -> Result<PendingAppend, WriteError> + Send + Sync + 'static,
    ) -> Self {
        self.append = Box::new(append);
        self
    }

    /// Replaces [`Log::replay`].
    #[must_use]
    pub fn on_replay<F>(mut self, replay: impl Fn(MemoryLog, ReplayRequest) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Replay, ReadError>> + Send + 'static,
    {
        self.replay = Box::new(move |memory, request| Box::pin(replay(memory, request)));
        self
    }

    /// Replaces [`Log::describe`].
    #[must_use]
    pub fn on_describe<F>(mut self, describe: impl Fn(MemoryLog) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Description> + Send + 'static,
    {
        self.describe = Box::new(move |memory| Box::pin(describe(memory)));
        self
    }
}

#[async_trait]
impl Log for FakeLog {
    fn kind(&self) -> StoreKind {
        self.memory.kind()
    }

    fn topic_state(&self) -> watch::Receiver<TopicState> {
        self.state_reads.fetch_add(1, SeqCst);
        self.state.clone()
    }

    async fn topic(&self) -> Result<Arc<Topic>, ReadError> {
        match &self.topic {
            Some(topic) => topic(),
            None => self.memory.topic().await,
        }
    }

    fn append(&self, record: NewRecord) -> Result<PendingAppend, WriteError> {
        (self.append)(&self.memory, record)
    }

    fn queue(&self) -> WriteQueue {
        self.memory.queue()
    }

    fn reads_whole_partitions(&self) -> bool {
        self.reads_whole_partitions
    }

    async fn replay(&self, request: ReplayRequest) -> Result<Replay, ReadError> {
        (self.replay)(self.memory.clone(), request).await
    }

    async fn describe(&self) -> Description {
        (self.describe)(self.memory.clone()).await
    }

    async fn close(&self, deadline: Instant) -> u64 {
        self.memory.close(deadline).await
    }
}
