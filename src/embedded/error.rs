//! Why the embedded store can't be opened, and what the storage engine's errors mean to us.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{log::Corrupt, model::PartitionCount};

/// Why a store is not opened. Nothing in the directory was changed, but for the lock file, leftovers of a creation that was
/// interrupted, and what the storage engine does before it can be asked: it cuts a journal at the first entry that it can't read, and
/// goes on with what it had begun. Whoever wants to look into a damaged store does so in a copy made before it was opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another log of this one, has it.
    #[error("data directory {} is in use by another process", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// It holds something that is not ours.
    #[error("data directory {} is not a changelogd store: it has no marker file and holds {found:?}", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// One of the names in it.
        found: String,
    },
    /// Written by another version.
    #[error(
        "data directory {} has store format {stored:?}, this version reads {}: export it with the version that wrote it, and import \
         that into a new directory",
        dir.display(),
        super::layout::VERSION
    )]
    Format {
        /// The directory.
        dir: PathBuf,
        /// What the marker says.
        stored: String,
    },
    /// Made with another partition count, which is fixed for ever.
    #[error("data directory {} has {stored} partitions, which can't be changed; {asked} were asked for", dir.display())]
    PartitionCount {
        /// The directory.
        dir: PathBuf,
        /// The store's.
        stored: PartitionCount,
        /// The configured one.
        asked: PartitionCount,
    },
    /// It may not be written.
    #[error("data directory {} can't be written: {cause}", dir.display())]
    ReadOnly {
        /// The directory.
        dir: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// The system failed.
    #[error("data directory {} can't be opened: {cause}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// The system's words.
        cause: io::Error,
    },
    /// It is ours and damaged. It is not served, not even in part.
    #[error("data directory {}: {corrupt}", dir.display())]
    Corrupt {
        /// The directory.
        dir: PathBuf,
        /// What was found.
        corrupt: Corrupt,
    },
}

impl OpenError {
    pub(super) fn corrupt(dir: &Path, detail: impl Into<String>) -> Self {
        Self::Corrupt { dir: dir.to_owned(), corrupt: Corrupt { detail: detail.into() } }
    }

    pub(super) fn io(dir: &Path, cause: io::Error) -> Self {
        let dir = dir.to_owned();
        match cause.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly { dir, cause },
            _ => Self::Io { dir, cause },
        }
    }

    /// The engine's error while it recovers: what is not the system's is damage.
    pub(super) fn engine(dir: &Path, error: fjall::Error) -> Self {
        let io = match error {
            fjall::Error::Locked => return Self::Locked { dir: dir.to_owned() },
            fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => io,
            other => return Self::corrupt(dir, format!("the storage engine can't recover it: {other:?}")),
        };
        if is_damage(&io) {
            return Self::corrupt(dir, format!("the storage engine can't recover it: {io}"));
        }
        Self::io(dir, io)
    }

    /// The system's error of one of the engine's files.
    pub(super) fn engine_file(dir: &Path, file: &Path, cause: io::Error) -> Self {
        if is_damage(&cause) {
            return Self::corrupt(dir, format!("{}: {cause}", file.display()));
        }
        Self::io(dir, cause)
    }
}

/// Whether an error says that a file is not as it was left, and not that the system failed.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            // A place in a file that can't be.
            | io::ErrorKind::InvalidInput
    )
}
