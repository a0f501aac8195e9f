//! The latest records of a partition in one step, if they fit into the memory of a replay.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::SystemTime,
};

use changelog_core::{
    blocking::run_blocking,
    log::{Latest, LatestRequest, PartitionEnd, ReadError, StartAt},
};

use super::{
    deliver::unread,
    scan::PartitionScan,
    state::{Published, StoreState},
};

/// Set when it is dropped: the caller has the result, or has left.
struct Caller(Arc<AtomicBool>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Reads on a thread for blocking work, which stops soon after the caller has left.
pub(super) async fn read(
    state: Arc<StoreState>,
    published: Arc<Published>,
    request: LatestRequest,
    at_end: SystemTime,
) -> Result<Option<Latest>, ReadError> {
    let LatestRequest { partition, selection, max_bytes, .. } = request;
    let range = published.range(partition, StartAt::Low)?;
    let scan = PartitionScan::new(state.clone(), published, Arc::new(selection), range);
    let caller = Caller(Arc::default());
    let abandoned = caller.0.clone();
    let read = run_blocking(move || scan.all_in_memory(max_bytes, abandoned))
        .await
        .map_err(|error| unread(&error, partition, range.from))?;
    let read = read.map_err(|unreadable| match ReadError::from(unreadable) {
        ReadError::Corrupt(corrupt) => state.set_corrupt(corrupt.clone()).read_error().unwrap_or(corrupt.into()),
        error => error,
    })?;
    Ok(read.map(|(records, counts)| {
        let end = PartitionEnd::without_epoch(partition, range.from..range.end, counts, at_end);
        Latest { records, end }
    }))
}
