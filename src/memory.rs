//! A part of the memory limit: what is reserved of it, and how many wait for it.
//!
//! Promises: reservations together never exceed the part. A reservation is released when it is dropped. Large ones
//! leave a reserve to those under 64 KiB.
//! Does not: measure memory. What is reserved is known before the memory is used.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{
    config::{MemoryParts, SMALL_RESERVE},
    metrics::Metrics,
};

/// A smaller request or answer may use what is reserved for such.
pub const SMALL: u64 = 64 * 1024;

/// What an entry of a list takes besides its text: it is kept in a vector and in a set.
const LIST_ENTRY_BYTES: usize = 96;

/// How long a message of a stream waits for room. A client that takes nothing holds what it has for
/// --client-stall-timeout.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The parts that calls reserve. Replays and queues of writes have parts of their own.
#[derive(Debug, Clone)]
pub struct CallMemory {
    pub requests: Arc<MemoryPart>,
    pub answers: Arc<MemoryPart>,
    /// Lists of requests that streams keep.
    pub lists: Arc<MemoryPart>,
    /// Conversions of values to and from JSON, while they run.
    pub conversions: Arc<MemoryPart>,
    /// Calls of health and reflection on the API port.
    pub probes: Arc<MemoryPart>,
}

impl CallMemory {
    /// For the gauges.
    pub fn parts(&self) -> [&MemoryPart; 5] {
        [&self.requests, &self.answers, &self.lists, &self.conversions, &self.probes]
    }

    pub fn new(parts: &MemoryParts, metrics: &Metrics) -> Self {
        metrics.set_memory_limit("replays", parts.replays);
        metrics.set_memory_limit("queues", parts.queues);
        let part = |name, limit, reserve| {
            metrics.set_memory_limit(name, limit);
            MemoryPart::new(name, limit, reserve)
        };
        Self {
            requests: part("requests", parts.requests, SMALL_RESERVE),
            answers: part("answers", parts.answers, SMALL_RESERVE),
            lists: part("lists", parts.lists, 0),
            conversions: part("conversions", parts.conversions, 0),
            probes: part("probes", parts.probes, 0),
        }
    }
}

/// What a stream keeps of the lists of its request.
pub fn list_bytes(lists: &[&[String]]) -> u64 {
    lists.iter().flat_map(|entries| entries.iter()).map(|entry| (entry.len() + LIST_ENTRY_BYTES) as u64).sum()
}

/// One part of the memory limit.
#[derive(Debug)]
pub struct MemoryPart {
    /// In metrics and messages.
    name: &'static str,
    limit: u64,
    /// Large reservations leave this much.
    reserve: u64,
    used: AtomicU64,
    /// How many wait for a release.
    waiting: AtomicUsize,
    released: Notify,
}

/// The part has too few bytes left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{part} hold {used} of {limit} bytes, and {wanted} more were wanted (--memory-limit)")]
pub struct Full {
    pub part: &'static str,
    pub limit: u64,
    pub used: u64,
    pub wanted: u64,
}

/// Bytes of a part. Released on drop.
#[derive(Debug)]
pub struct Reserved {
    part: Arc<MemoryPart>,
    bytes: u64,
}

impl MemoryPart {
    pub fn new(name: &'static str, limit: u64, reserve: u64) -> Arc<Self> {
        let (used, waiting) = (AtomicU64::new(0), AtomicUsize::new(0));
        Arc::new(Self { name, limit, reserve, used, waiting, released: Notify::new() })
    }

    /// A reservation that has no bytes yet.
    pub fn nothing(self: &Arc<Self>) -> Reserved {
        Reserved { part: self.clone(), bytes: 0 }
    }

    /// Reserves bytes, or refuses at once.
    pub fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reserved, Full> {
        let mut reserved = self.nothing();
        reserved.set(bytes)?;
        Ok(reserved)
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// How many bytes are reserved.
    pub fn used(&self) -> u64 {
        self.used.load(SeqCst)
    }

    /// Reserves bytes as soon as there is room, and at most until the deadline.
    pub async fn reserve_before(self: &Arc<Self>, bytes: u64, deadline: Option<Instant>) -> Result<Reserved, Full> {
        self.reserve_more_before(bytes, bytes, deadline).await
    }

    /// Reserves bytes of something that has `whole` bytes with them, or refuses at once. What grows in small steps has
    /// no part in the reserve for small ones.
    pub fn reserve_more(self: &Arc<Self>, bytes: u64, whole: u64) -> Result<Reserved, Full> {
        let mut reserved = self.nothing();
        reserved.set_of(bytes, whole)?;
        Ok(reserved)
    }

    /// As [`MemoryPart::reserve_more`], as soon as there is room, and at most until the deadline.
    pub async fn reserve_more_before(
        self: &Arc<Self>,
        bytes: u64,
        whole: u64,
        deadline: Option<Instant>,
    ) -> Result<Reserved, Full> {
        let mut reserved = self.nothing();
        reserved.set_of_before(bytes, whole, deadline).await?;
        Ok(reserved)
    }
}

impl Reserved {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Changes how many bytes are reserved. If there is no room, as many as before stay reserved.
    pub fn set(&mut self, bytes: u64) -> Result<(), Full> {
        self.set_of(bytes, bytes)
    }

    fn set_of(&mut self, bytes: u64, whole: u64) -> Result<(), Full> {
        let MemoryPart { name, limit, reserve, used, .. } = &*self.part;
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else {
            self.shrink(bytes);
            return Ok(());
        };
        let most = if whole < SMALL { *limit } else { limit.saturating_sub(*reserve) };
        let fits = |used: u64| used.checked_add(more).filter(|sum| *sum <= most);
        used.fetch_update(SeqCst, SeqCst, fits).map_err(|used| Full { part: name, limit: most, used, wanted: more })?;
        self.bytes = bytes;
        Ok(())
    }

    pub fn part(&self) -> &Arc<MemoryPart> {
        &self.part
    }

    /// Two reservations: one of these bytes at most, and the rest.
    pub fn split(mut self, bytes: u64) -> (Self, Self) {
        let first = Self { part: self.part.clone(), bytes: self.bytes.min(bytes) };
        self.bytes -= first.bytes;
        (first, self)
    }

    /// Adds the bytes of another reservation of the part.
    pub fn absorb(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Lowers how many bytes are reserved.
    pub fn shrink_to(&mut self, bytes: u64) {
        self.shrink(self.bytes.min(bytes));
    }

    async fn set_of_before(&mut self, bytes: u64, whole: u64, deadline: Option<Instant>) -> Result<(), Full> {
        if self.set_of(bytes, whole).is_ok() {
            return Ok(());
        }
        let part = self.part.clone();
        let end = Instant::now() + MAX_WAIT;
        let end = deadline.map_or(end, |deadline| deadline.min(end));
        let _waiting = Waiting::of(&part);
        loop {
            // Before the attempt, so that no release is missed.
            let released = part.released.notified();
            match self.set_of(bytes, whole) {
                Ok(()) => return Ok(()),
                Err(full) => timeout_at(end, released).await.map_err(|_| full)?,
            }
        }
    }

    fn shrink(&mut self, bytes: u64) {
        let less = self.bytes - bytes;
        self.bytes = bytes;
        if less > 0 {
            self.part.used.fetch_sub(less, SeqCst);
            // One that begins to wait now tries once more before it does.
            if self.part.waiting.load(SeqCst) > 0 {
                self.part.released.notify_waiters();
            }
        }
    }
}

/// One that waits for a release, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn of(part: &'a MemoryPart) -> Self {
        part.waiting.fetch_add(1, SeqCst);
        Self(&part.waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIB: u64 = 1024;

    fn part(limit: u64, reserve: u64) -> Arc<MemoryPart> {
        MemoryPart::new("answers", limit, reserve)
    }

    proptest! {
        /// Covers S19.
        #[test]
        fn reservations_never_exceed_their_part_and_large_ones_leave_the_reserve(
            steps in prop::collection::vec((0..8_usize, 0..400 * KIB), 1..60),
            limit in 0..1024 * KIB,
            reserve in 0..512 * KIB,
        ) {
            let part = part(limit, reserve);
            let mut slots: Vec<Option<Reserved>> = (0..8).map(|_| None).collect();
            let used = |slots: &[Option<Reserved>]| slots.iter().flatten().map(|r| r.bytes).sum::<u64>();
            for (slot, bytes) in steps {
                let others = used(&slots) - slots[slot].as_ref().map_or(0, |r| r.bytes);
                let before = slots[slot].as_ref().map_or(0, |r| r.bytes);
                let most = if bytes < SMALL { limit } else { limit.saturating_sub(reserve) };
                let fits = bytes <= before || others + bytes <= most;
                match slots[slot].as_mut() {
                    None => {
                        let reserved = part.reserve(bytes);
                        prop_assert_eq!(reserved.is_ok(), fits);
                        slots[slot] = reserved.ok();
                    }
                    Some(_) if bytes % 3 == 0 => slots[slot] = None,
                    Some(reserved) => prop_assert_eq!(reserved.set(bytes).is_ok(), fits),
                }
                prop_assert!(used(&slots) <= limit);
                prop_assert_eq!(part.used(), used(&slots));
            }
            drop(slots);
            prop_assert_eq!(part.used(), 0);
        }
    }

    /// Covers S19.
    #[tokio::test(start_paused = true)]
    async fn a_message_waits_for_room_within_its_time() {
        let part = part(100, 0);
        let held = part.reserve(60).unwrap();
        let started = Instant::now();
        let full = part.reserve_before(60, None).await.unwrap_err();
        assert_eq!((full.used, full.wanted, started.elapsed()), (60, 60, MAX_WAIT));
        let soon = Instant::now() + Duration::from_secs(1);
        part.reserve_before(60, Some(soon)).await.unwrap_err();
        assert_eq!(Instant::now(), soon);
        let waiting = tokio::spawn({
            let part = part.clone();
            async move { part.reserve_before(60, None).await.map(|reserved| reserved.bytes) }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(held);
        assert_eq!(waiting.await.unwrap(), Ok(60));
    }
}
