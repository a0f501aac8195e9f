//! The purge of old tombstones, between two batches of the writer.
//!
//! A tombstone is removed when it is older than the retention, counted from its write. What was purged is recorded, so
//! that a reader that may have missed it is rejected.
//!
//! Does not decide when it runs.

use std::collections::HashMap;

use fjall::Readable as _;

use super::{
    error::Unreadable,
    layout,
    space::{Purpose, Wanted},
    writer::{BATCH_BYTES, Writer},
};

/// The most tombstones of one purge. Queued writes are committed before the next one.
const MAX_PURGE_RECORDS: usize = 1024;
/// The most bytes of the entries that remove a tombstone, of which one has its key.
const TOMBSTONE_BYTES: u64 = 1024 + 256;

impl Writer {
    /// Purges tombstones that are older than the retention. Returns whether there are more.
    pub(super) fn purge(&mut self) -> bool {
        if !self.takes_writes() {
            return false;
        }
        match self.try_purge() {
            Ok(more) => more,
            Err(Unreadable::Damaged(corrupt)) => {
                self.state.set_corrupt(corrupt);
                false
            }
            // The next purge tries again.
            Err(Unreadable::OutOfFiles(cause) | Unreadable::Failed(cause)) => {
                tracing::warn!(cause, "old tombstones can't be purged now");
                false
            }
        }
    }

    fn try_purge(&mut self) -> Result<bool, Unreadable> {
        // The purge waits while the disk is full, because a failed commit would make the store read-only.
        let bytes = BATCH_BYTES + MAX_PURGE_RECORDS as u64 * TOMBSTONE_BYTES;
        let wanted = Wanted { bytes, purpose: Purpose::Purge };
        if self.space.check(&self.store, wanted).is_err() || self.check_free_files().is_err() {
            return Ok(false);
        }
        let retention = i64::try_from(self.state.topic.delete_retention.as_millis()).unwrap_or(i64::MAX);
        let oldest = (self.clock)().saturating_sub(retention);
        let (mut batch, mut purged, mut purged_below) = (self.store.batch(), 0, HashMap::new());
        let until = oldest.max(0).to_be_bytes();
        for entry in self.store.db.snapshot().range(&self.store.tombstones, ..&until[..]).take(MAX_PURGE_RECORDS) {
            let damaged = || self.state.damage(format_args!("a tombstone's entry is damaged"));
            let (entry_key, sealed) = entry.into_inner().map_err(|e| {
                Unreadable::of_engine(&e, || self.state.damage(format_args!("the tombstones can't be read: {e:?}")))
            })?;
            let (partition, offset) = layout::position_of_tombstone(&entry_key).ok_or_else(damaged)?;
            let key = layout::unseal(&entry_key, &sealed).ok_or_else(damaged)?;
            let latest = layout::latest_key(partition, key);
            // A write that supersedes a tombstone removes its entry.
            let record = self.latest(&latest)?.filter(|r| r.tombstone && r.offset == offset).ok_or_else(damaged)?;
            self.remove_from_log(&mut batch, partition, record);
            batch.remove(&self.store.latest, latest);
            let below = purged_below.entry(partition).or_insert(self.purged_below[partition.index()]);
            *below = offset.saturating_add(1).max(*below);
            purged += 1;
        }
        for (partition, below) in &purged_below {
            let entry_key = layout::purged_below_key(*partition);
            batch.insert(&self.store.meta, entry_key, layout::seal(&entry_key, &below.to_be_bytes()));
        }
        if purged > 0 {
            self.space.written(wanted);
        }
        if purged > 0 && self.commit(batch).is_ok() {
            for (partition, below) in purged_below {
                self.purged_below[partition.index()] = below;
            }
            self.publish();
            return Ok(purged == MAX_PURGE_RECORDS);
        }
        Ok(false)
    }
}
