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
use tokio::time::Instant;
use tonic::{Request, Response};

pub use changelog_core::changelog::Peer;

use crate::memory::{Full, MemoryPart, Reserved};

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
        let memory = request.extensions().get::<RequestMemory>().cloned();
        let (call, message) = Self::from_request(request);
        if let Some(memory) = memory {
            memory.decoded(|| message.encoded_len());
        }
        (call, message)
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
    reserved: Reserved,
    /// The size of a message is known when it is decoded.
    compressed: bool,
}

impl RequestMemory {
    pub fn new(part: &Arc<MemoryPart>) -> Self {
        Self(Arc::new(Mutex::new(Held { reserved: part.nothing(), compressed: false })))
    }

    /// Reserves the bytes of one more message.
    pub fn add(&self, bytes: u64, compressed: bool) -> Result<(), Full> {
        let mut held = self.0.lock();
        held.compressed |= compressed;
        let all = held.reserved.bytes().saturating_add(bytes);
        held.reserved.set(all)
    }

    /// Releases the bytes of messages.
    pub fn release(&self, bytes: u64) {
        let mut held = self.0.lock();
        let rest = held.reserved.bytes().saturating_sub(bytes);
        // It never needs room.
        let _ = held.reserved.set(rest);
    }

    fn decoded(&self, bytes: impl FnOnce() -> usize) {
        let mut held = self.0.lock();
        if held.compressed {
            let rest = held.reserved.bytes().min(bytes() as u64);
            let _ = held.reserved.set(rest);
        }
    }
}

/// What an answer has reserved, in the extensions of its response.
#[derive(Debug, Clone)]
pub struct AnswerMemory {
    _reserved: Arc<Reserved>,
}

impl AnswerMemory {
    pub fn attach<T>(mut response: Response<T>, reserved: Reserved) -> Response<T> {
        response.extensions_mut().insert(Self { _reserved: Arc::new(reserved) });
        response
    }
}

/// Figures for the log line of a call. No keys and no values.
#[derive(Debug, Default)]
pub struct CallStats {
    request_received: AtomicBool,
    partition: Mutex<Option<i32>>,
    entries: AtomicU64,
    records: AtomicU64,
}

impl CallStats {
    /// Whether the request has arrived completely.
    pub fn request_received(&self) -> bool {
        self.request_received.load(Ordering::Relaxed)
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
