//! Loads from the index of a log, without a replay.
//!
//! Promises: they are as whole as those from a replay. Their records take no more memory than a replay may read ahead,
//! which is reserved before.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::fold::MatchCounts;
use crate::{
    changelog::{Changelog, LoadError, admission::ReplayPermit},
    log::{LatestRequest, PartitionEnd, Selection, Topic},
    model::{Partition, Record},
};

/// The latest records of a partition, without tombstones, and their counts.
pub struct Indexed {
    pub records: Vec<Record>,
    pub matched: MatchCounts,
    pub end: PartitionEnd,
}

impl Changelog {
    /// Reads the latest selected records of one partition from the log's index. `None` means that a replay is needed.
    pub(super) async fn load_from_index(
        &self,
        topic: &Arc<Topic>,
        partition: Partition,
        selection: &Selection,
        permit: &mut ReplayPermit,
        deadline: Instant,
    ) -> Result<Option<Indexed>, LoadError> {
        let begun = Instant::now();
        let request = LatestRequest {
            topic: topic.clone(),
            partition,
            selection: selection.clone(),
            max_bytes: self.limits.read_ahead,
            deadline,
        };
        let late = |_| LoadError::deadline_before_end(partition);
        let latest = match timeout_at(deadline, self.log.latest(request)).await.map_err(late)? {
            Ok(None) => return Ok(None),
            latest => latest,
        };
        let mut replaying = self.metrics.replaying_since(begun);
        let Some(latest) = latest? else { return Ok(None) };
        let (mut records, mut matched) = (latest.records, MatchCounts::default());
        let memory = records.iter().map(Record::memory_size).sum();
        if memory > self.limits.max_load_memory {
            return Err(LoadError::TooLarge { partition, limit: self.limits.max_load_memory });
        }
        permit.reserve_memory(memory)?;
        if !records.is_empty() {
            replaying.records();
        }
        self.metrics.replayed(latest.end.counts);
        matched.count(&records);
        records.retain(|record| !record.is_tombstone());
        Ok(Some(Indexed { records, matched, end: latest.end }))
    }
}
