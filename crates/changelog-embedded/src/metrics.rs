//! The metrics of the embedded store.

use std::{io, path::Path, sync::atomic::AtomicU64, time::Instant};

use changelog_core::{
    log::StoreFailure,
    metrics::{Series, approximate, durations, saturated},
};
use prometheus_client::{
    metrics::{gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// The process has no embedded store, or it is not open yet.
const ABSENT: &str = "absent";
const STATES: [&str; 7] = [ABSENT, "writable", "full", "read_only", "corrupt", "gone", "fault"];

fn name_of(failure: &StoreFailure) -> &'static str {
    match failure {
        StoreFailure::ReadOnly { .. } => "read_only",
        StoreFailure::Corrupt(_) => "corrupt",
        StoreFailure::Gone(_) => "gone",
        StoreFailure::Fault { .. } => "fault",
    }
}

pub(super) struct FileSystem {
    free_bytes: u64,
    size_bytes: u64,
}

impl FileSystem {
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(dir)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Self { free_bytes: bytes(stat.f_bavail), size_bytes: bytes(stat.f_blocks) })
    }
}

/// Handles of the metrics that the embedded store sets. Clones share their values.
#[derive(Debug, Clone)]
pub struct Metrics {
    bytes: Gauge,
    needed_bytes: Gauge,
    limit_bytes: Gauge<f64, AtomicU64>,
    free_bytes: Gauge,
    size_bytes: Gauge,
    commits: Histogram,
    states: Series<Gauge, 1>,
}

impl Default for Metrics {
    fn default() -> Self {
        let (limit_bytes, states) = (Gauge::default(), Series::new(STATES.map(|it| [("state", it)]), Gauge::default));
        limit_bytes.set(f64::INFINITY);
        states.set_only([ABSENT]);
        Self {
            bytes: Gauge::default(),
            needed_bytes: Gauge::default(),
            limit_bytes,
            free_bytes: Gauge::default(),
            size_bytes: Gauge::default(),
            commits: durations(),
            states,
        }
    }
}

impl Metrics {
    /// Adds the metrics to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "store",
            "What the files of the embedded store occupy",
            Unit::Bytes,
            self.bytes.clone(),
        );
        registry.register_with_unit(
            "store_needed",
            "What is compared with --data-limit before a set: the files, the merges to come and what stays free; 0 \
             without a limit",
            Unit::Bytes,
            self.needed_bytes.clone(),
        );
        registry.register_with_unit(
            "store_limit",
            "--data-limit; +Inf without a limit",
            Unit::Bytes,
            self.limit_bytes.clone(),
        );
        registry.register_with_unit(
            "store_filesystem_free",
            "What the file system of the data directory still gives to this process",
            Unit::Bytes,
            self.free_bytes.clone(),
        );
        registry.register_with_unit(
            "store_filesystem_size",
            "The size of the file system of the data directory",
            Unit::Bytes,
            self.size_bytes.clone(),
        );
        registry.register_with_unit(
            "store_commit",
            "The commit of a batch by the embedded store, which is nearly all fsync",
            Unit::Seconds,
            self.commits.clone(),
        );
        self.states.register(
            registry,
            "store_state",
            "1 for the state of the embedded store: absent (another store, or not open yet), writable, full, \
             read_only, corrupt, gone or fault",
        );
    }

    pub(super) fn set_limit(&self, limit: Option<u64>) {
        self.limit_bytes.set(limit.map_or(f64::INFINITY, approximate));
    }

    pub(super) fn set_needed(&self, bytes: u64) {
        self.needed_bytes.set(saturated(bytes));
    }

    pub(super) fn set_state(&self, failure: Option<&StoreFailure>, is_full: bool) {
        let works = if is_full { "full" } else { "writable" };
        self.states.set_only([failure.map_or(works, name_of)]);
    }

    pub(super) fn set_room(&self, bytes: u64, file_system: &FileSystem) {
        self.bytes.set(saturated(bytes));
        self.free_bytes.set(saturated(file_system.free_bytes));
        self.size_bytes.set(saturated(file_system.size_bytes));
    }

    /// Measures a commit.
    pub(super) fn commit<T>(&self, commit: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let committed = commit();
        self.commits.observe(begun.elapsed().as_secs_f64());
        committed
    }
}
