//! Facts about a call that several layers need. The transport sets its deadline and client. Its RPC sets the figures
//! for the log line.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use prost::Message;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};

pub use changelog_core::changelog::Peer;

use super::{status, write_window::Units};
use crate::{
    memory::{Full, MemoryPart, Reserved},
    traces::CallSpan,
};

/// Limits on calls.
#[derive(Debug, Clone, Copy)]
pub struct CallLimits {
    /// The longest time for a load, get or stream. A shorter deadline of the client wins.
    pub read_timeout: Duration,
    /// The longest time for a write. A shorter deadline of the client wins. Longer than the log's own limit, because
    /// the log may still report that nothing was written.
    pub write_timeout: Duration,
    /// The largest request message, in bytes.
    pub max_request_bytes: usize,
}

/// A call in progress. It is stored in the extensions of its request.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// When the client stops waiting (`grpc-timeout`); `None` if it waits without limit.
    pub deadline: Option<Instant>,
    /// The client.
    pub peer: Peer,
    /// Figures for the log line.
    pub stats: Arc<CallStats>,
    pub span: CallSpan,
}

impl Call {
    /// The call of a request that has arrived completely, and its message. From now on its RPC is responsible for the
    /// deadline.
    pub fn from_request<T>(request: Request<T>) -> (Self, T) {
        let call = request.extensions().get::<Self>().cloned().unwrap_or_default();
        call.stats.request_received.store(true, Ordering::Relaxed);
        (call, request.into_inner())
    }

    /// As [`Call::from_request`], for a request of one message. Releases what a compressed message reserved in excess.
    pub fn from_message<T: Message>(request: Request<T>) -> (Self, T) {
        let memory = RequestMemory::of(&request);
        let (call, message) = Self::from_request(request);
        if let Some(memory) = memory {
            memory.decoded(|| message.encoded_len());
            memory.release(RequestBytes::default());
        }
        (call, message)
    }

    /// Runs work that has no end of its own, until the client's deadline.
    pub async fn until_deadline(
        &self,
        doing: &str,
        work: impl Future<Output = Result<(), Status>>,
    ) -> Result<(), Status> {
        let Some(deadline) = self.deadline else { return work.await };
        let late = || status::deadline_exceeded(format!("the call's deadline passed while {doing}"));
        timeout_at(deadline, work).await.unwrap_or_else(|_| Err(late()))
    }

    /// The deadline of the client, or the end of `limit` from now if that is earlier.
    pub fn deadline_within(&self, limit: Duration) -> Instant {
        let end = Instant::now() + limit;
        self.deadline.map_or(end, |deadline| deadline.min(end))
    }
}

/// What the request of a call has reserved. Released when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct RequestMemory(Arc<Mutex<Held>>);

#[derive(Debug)]
struct Held {
    /// The bytes that messages announced.
    messages: Reserved,
    /// For one message after its decompression. Messages are decompressed one after another, into the same buffer.
    decompressed: Reserved,
    /// What that buffer has at most, because of the messages that were decoded.
    buffer: u64,
}

/// Bytes of messages in a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestBytes {
    /// Of all messages together, as they arrive.
    pub arriving: u64,
    /// The largest size that a compressed one may have.
    pub decompressed: u64,
}

/// What a request lacks of what it needs.
struct Missing {
    part: Arc<MemoryPart>,
    bytes: u64,
    whole: u64,
}

impl RequestMemory {
    pub fn new(part: &Arc<MemoryPart>) -> Self {
        Self(Arc::new(Mutex::new(Held { messages: part.nothing(), decompressed: part.nothing(), buffer: 0 })))
    }

    pub fn of<T>(request: &Request<T>) -> Option<Self> {
        request.extensions().get().cloned()
    }

    /// Reserves what more messages need, or refuses at once.
    pub fn add(&self, more: RequestBytes) -> Result<(), Full> {
        let Missing { part, bytes, whole } = self.missing(more);
        if bytes > 0 {
            self.absorb(part.reserve_more(bytes, whole)?, more);
        }
        Ok(())
    }

    /// As [`RequestMemory::add`], but waits for room.
    pub async fn add_when_possible(self, more: RequestBytes) -> Result<(), Full> {
        let Missing { part, bytes, whole } = self.missing(more);
        let reserved = part.reserve_more_before(bytes, whole, None).await?;
        self.absorb(reserved, more);
        Ok(())
    }

    fn missing(&self, more: RequestBytes) -> Missing {
        let held = self.0.lock();
        let (messages, decompressed) = (held.messages.bytes(), held.decompressed.bytes());
        let bytes = more.arriving + more.decompressed.saturating_sub(decompressed);
        Missing { part: held.messages.part().clone(), bytes, whole: messages + decompressed + bytes }
    }

    fn absorb(&self, reserved: Reserved, more: RequestBytes) {
        let mut held = self.0.lock();
        let (messages, decompressed) = reserved.split(more.arriving);
        held.messages.absorb(messages);
        held.decompressed.absorb(decompressed);
    }

    /// Messages of these bytes have been passed on. `decompressed` is what those that are still arriving may need.
    pub fn release(&self, RequestBytes { arriving, decompressed }: RequestBytes) {
        let mut held = self.0.lock();
        let rest = held.messages.bytes().saturating_sub(arriving);
        held.messages.shrink_to(rest);
        let needed = held.buffer.max(decompressed);
        held.decompressed.shrink_to(needed);
    }

    /// A message was decoded, so its size is known.
    pub fn decoded(&self, bytes: impl FnOnce() -> usize) {
        let mut held = self.0.lock();
        if held.decompressed.bytes() > 0 {
            held.buffer = held.buffer.max(BUFFER_GROWTH * bytes() as u64);
        }
    }
}

/// A buffer that grows may become twice as large as what it holds.
const BUFFER_GROWTH: u64 = 2;

/// What messages of an answer hold until they are written to the client's socket.
#[derive(Debug)]
pub enum Kept {
    Memory {
        _reserved: Reserved,
    },
    /// Units of a `Write` stream.
    Units {
        _units: Units,
    },
}

/// What the messages hold that have been passed to the transport since it was last asked, in the extensions of their
/// response.
#[derive(Debug, Clone, Default)]
pub struct AnswerMemory(Arc<Mutex<Vec<Kept>>>);

impl AnswerMemory {
    pub fn add(&self, kept: Kept) {
        self.0.lock().push(kept);
    }

    pub fn take(&self) -> Vec<Kept> {
        std::mem::take(&mut self.0.lock())
    }

    /// The response with what it holds.
    pub fn attach<T>(self, mut response: Response<T>) -> Response<T> {
        response.extensions_mut().insert(self);
        response
    }

    /// A response of one message that has reserved its bytes.
    pub fn of_message<T>(message: T, reserved: Reserved) -> Response<T> {
        let memory = Self::default();
        memory.add(Kept::Memory { _reserved: reserved });
        memory.attach(Response::new(message))
    }
}

/// Figures for the log line of a call. No keys and no values.
#[derive(Debug, Default)]
pub struct CallStats {
    request_received: AtomicBool,
    /// The announced length of a message that is over the limit. 0 if there is none.
    too_large_message: AtomicU64,
    partition: Mutex<Option<i32>>,
    entries: AtomicU64,
    records: AtomicU64,
}

impl CallStats {
    /// Whether the request has arrived completely.
    pub fn request_received(&self) -> bool {
        self.request_received.load(Ordering::Relaxed)
    }

    /// A message is not read, because it is over the limit.
    pub fn set_too_large_message(&self, bytes: u64) {
        self.too_large_message.store(bytes, Ordering::Relaxed);
    }

    pub fn too_large_message(&self) -> Option<u64> {
        Some(self.too_large_message.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0)
    }

    pub fn set_partition(&self, partition: Option<i32>) {
        *self.partition.lock() = partition;
    }

    pub fn add_entries(&self, n: u64) {
        self.entries.fetch_add(n, Ordering::Relaxed);
    }

    pub fn add_records(&self, n: u64) {
        self.records.fetch_add(n, Ordering::Relaxed);
    }

    pub fn partition(&self) -> Option<i32> {
        *self.partition.lock()
    }

    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }
}
