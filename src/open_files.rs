//! The limit on open files of this process (RLIMIT_NOFILE), and the part of it that connections may take.
//!
//! A connection takes one descriptor. The store and the connections to brokers need others. Without one, a write or a
//! load fails, so connections must not take them all.

use std::{io, os::fd::RawFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than this needs no process, and Linux does not allow more by default (fs.nr_open).
const MAX_OPEN_FILES: u64 = 1024 * 1024;

/// With fewer, not even an empty store can be opened.
pub const LEAST: u64 = 64;

/// The fewest and the most connections of the API port.
const MAX_CONNECTIONS: (usize, usize) = (64, 65_536);

/// Raises the limit as far as this process may.
pub fn raise() -> io::Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(MAX_OPEN_FILES).min(MAX_OPEN_FILES);
    if current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })?;
    }
    Ok(())
}

/// The limit in effect.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(MAX_OPEN_FILES)
}

/// What an idle connection takes in memory, and which part of the memory limit all may take in addition to it.
const CONNECTION_BYTES: u64 = 20 * 1024;
const MEMORY_PART: u64 = 10;

/// Connections of the API port that half of `open_files` allows. The other half is for the store, the brokers and the
/// other ports. Nor do they take more than a tenth of the memory limit.
pub fn max_connections(open_files: u64, memory_limit: u64) -> usize {
    let most = (open_files / 2).min(memory_limit / MEMORY_PART / CONNECTION_BYTES);
    usize::try_from(most).unwrap_or(usize::MAX).clamp(MAX_CONNECTIONS.0, MAX_CONNECTIONS.1)
}

/// Connections of the health port, and as many of the admin port. One client may have a quarter. A probe needs one.
pub fn max_probe_connections(open_files: u64) -> usize {
    usize::try_from(open_files / 16).unwrap_or(usize::MAX).clamp(16, 256)
}

/// Descriptors that connections leave to the store and the brokers, whatever the limits of the ports allow. The storage
/// engine takes no writes any more after its own work has met a lack of files.
pub fn kept_back(open_files: u64) -> u64 {
    (open_files / 8).clamp(24, 64)
}

/// Whether a new descriptor is one of those that are kept back. The system gives the lowest number that is free.
pub fn is_kept_back(descriptor: RawFd) -> bool {
    let open_files = limit();
    u64::try_from(descriptor).is_ok_and(|number| number >= open_files.saturating_sub(kept_back(open_files)))
}

/// Files that the embedded store keeps open: an eighth, and no more than the engine's own default.
pub fn cached_files(open_files: u64) -> usize {
    usize::try_from(open_files / 8).unwrap_or(usize::MAX).min(256)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers S16.
    #[test]
    #[allow(clippy::cast_possible_truncation)]
    fn connections_take_half_of_the_open_files_within_bounds() {
        for (open_files, connections) in
            [(0, 64), (64, 64), (256, 128), (1_024, 512), (100_000, 50_000), (1_000_000, 65_536), (u64::MAX, 65_536)]
        {
            assert_eq!(max_connections(open_files, u64::MAX), connections, "{open_files}");
        }
        for (memory_limit, connections) in [(0, 64), (160_000_000, 781), (1 << 30, 5_242), (u64::MAX, 50_000)] {
            assert_eq!(max_connections(100_000, memory_limit), connections, "{memory_limit}");
        }
        for (open_files, kept) in [(64, 24), (256, 32), (1_024, 64), (u64::MAX, 64)] {
            assert_eq!(kept_back(open_files), kept, "{open_files}");
        }
        for open_files in [256, 300, 1_024, 4_096, 65_536] {
            let all = max_connections(open_files, u64::MAX)
                + 2 * max_probe_connections(open_files)
                + cached_files(open_files);
            assert!(open_files as usize - all >= 64, "{open_files}: {all} for connections and the store's files");
        }
    }
}
