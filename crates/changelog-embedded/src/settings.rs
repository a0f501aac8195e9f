//! The settings of the embedded store, with their defaults.

use std::{path::PathBuf, time::Duration};

use changelog_core::model::PartitionCount;

use super::metrics::Metrics;

/// The settings of the embedded store.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data directory. It is created if it does not exist.
    pub dir: PathBuf,
    /// The partition count, which is fixed when the store is created. `None` = the store's own, or 10 for a new store.
    pub partition_count: Option<PartitionCount>,
    /// How long a tombstone stays, from its write.
    pub delete_retention: Duration,
    /// How many records may wait to be written.
    pub queue_records: usize,
    /// How many bytes may wait to be written. A single record may have more.
    pub queue_bytes: usize,
    /// Writes are rejected if the file system has less free space than this, in bytes. So there is always room to merge
    /// tables.
    pub reserve_bytes: u64,
    /// Writes are rejected if the file system takes fewer new files (inodes) than this. A file system without a limit
    /// on them is never short of them.
    pub reserve_files: u64,
    /// Writes are rejected if the files of the store could occupy more than this, in bytes, with what the engine may
    /// write and merge later. Other files of the directory do not count. `None` = no limit. With less than
    /// [`MIN_DATA_LIMIT`](crate::MIN_DATA_LIMIT) a store that has reached its limit may stay there.
    pub data_limit: Option<u64>,
    /// How many bytes one replay may hold to sort records. Records above that are read twice.
    pub sort_bytes: usize,
    /// How many bytes the engine may hold that are not in tables yet. Above that, the writer waits until they are. What
    /// they take in memory can be twice that.
    pub write_buffer_bytes: u64,
    /// How many bytes of blocks of tables the engine keeps in memory.
    pub cache_bytes: u64,
    /// How many of its files the engine keeps open, 10 or more. It opens some more for a short time.
    pub cached_files: usize,
    /// Where the store counts.
    pub metrics: Metrics,
}

impl Settings {
    /// The documented defaults for this directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            partition_count: None,
            delete_retention: Duration::from_hours(24),
            queue_records: 100_000,
            queue_bytes: 64 * 1024 * 1024,
            reserve_bytes: 16 * 1024 * 1024,
            reserve_files: 64,
            data_limit: None,
            sort_bytes: 16 * 1024 * 1024,
            write_buffer_bytes: 256 * 1024 * 1024,
            cache_bytes: 32 * 1024 * 1024,
            cached_files: 256,
            metrics: Metrics::default(),
        }
    }
}
