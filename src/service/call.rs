//! Facts about a call that several layers need. The transport sets its deadline and client; its RPC sets the figures
//! for the log line.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tokio::time::Instant;
use tonic::Extensions;

pub use crate::changelog::Peer;

/// A call in progress. It is stored in the extensions of its request.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// When the client stops waiting (`grpc-timeout`); `None` if it waits without limit.
    pub deadline: Option<Instant>,
    /// The client.
    pub peer: Peer,
    /// Figures for the log line.
    pub stats: std::sync::Arc<CallStats>,
}

impl Call {
    /// The call of a request that has arrived completely. From now on its RPC is responsible for the deadline.
    pub fn from_request(extensions: &Extensions) -> Self {
        let call = extensions.get::<Self>().cloned().unwrap_or_default();
        call.stats.mark_received();
        call
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
    fn mark_received(&self) {
        self.request_received.store(true, Ordering::Relaxed);
    }

    /// Whether the request has arrived completely.
    pub fn request_received(&self) -> bool {
        self.request_received.load(Ordering::Relaxed)
    }

    pub fn set_partition(&self, partition: i32) {
        *self.partition.lock().unwrap_or_else(PoisonError::into_inner) = Some(partition);
    }

    pub fn add_entries(&self, n: u64) {
        self.entries.fetch_add(n, Ordering::Relaxed);
    }

    pub fn add_records(&self, n: u64) {
        self.records.fetch_add(n, Ordering::Relaxed);
    }

    pub fn partition(&self) -> Option<i32> {
        *self.partition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }
}
