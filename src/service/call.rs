//! What is known of a call across the layers: its deadline, set by the transport; stats for its log line, set by its RPC.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::time::Instant;
use tonic::Extensions;

pub use crate::changelog::Peer;

/// A call in progress; found in the extensions of its request.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// When the client stops waiting (`grpc-timeout`).
    pub deadline: Option<Instant>,
    /// Who it comes from.
    pub peer: Peer,
    /// For the log line.
    pub stats: std::sync::Arc<CallStats>,
}

impl Call {
    /// That of a request, which has arrived: from here on its RPC answers for the deadline.
    pub fn from_request(extensions: &Extensions) -> Self {
        let call = extensions.get::<Self>().cloned().unwrap_or_default();
        call.stats.mark_received();
        call
    }
}

/// What the log line says beside code and duration. Never values; keys only at debug.
#[derive(Debug, Default)]
pub struct CallStats {
    request_received: AtomicBool,
    partition: Mutex<Option<i32>>,
    entries: AtomicU64,
    records: AtomicU64,
}

impl CallStats {
    /// The RPC has the whole request.
    fn mark_received(&self) {
        self.request_received.store(true, Ordering::Relaxed);
    }

    /// Whether its RPC has the whole request.
    pub fn request_received(&self) -> bool {
        self.request_received.load(Ordering::Relaxed)
    }

    /// The partition it is about.
    pub fn set_partition(&self, partition: i32) {
        *self.partition.lock().unwrap_or_else(PoisonError::into_inner) = Some(partition);
    }

    /// Entries sent.
    pub fn add_entries(&self, n: u64) {
        self.entries.fetch_add(n, Ordering::Relaxed);
    }

    /// Records read.
    pub fn add_records(&self, n: u64) {
        self.records.fetch_add(n, Ordering::Relaxed);
    }

    /// The partition, if it is about one.
    pub fn partition(&self) -> Option<i32> {
        *self.partition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries sent.
    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Records read.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }
}
