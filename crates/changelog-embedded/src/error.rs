//! Why the embedded store can't be opened, and which errors of the storage engine mean damage.

use std::{
    io,
    path::{Path, PathBuf},
};

use changelog_core::{
    log::{Corrupt, ReadError},
    model::PartitionCount,
};
use rustix::io::Errno;

/// Why a store is not opened.
///
/// An attempt to open a store changes little in the directory. It changes the lock file and the leftovers of an
/// interrupted creation. The storage engine makes its own changes as it starts. It cuts a journal at the first entry
/// that it can't read, and continues work that it had begun. To examine a damaged store, copy the directory before it
/// is opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the directory open, or another log of this process.
    #[error("data directory {} is in use by another process", dir.display())]
    Locked {
        /// The data directory.
        dir: PathBuf,
    },
    /// The directory has files that do not belong to a store.
    #[error("data directory {} is not a changelogd store: it has no marker file and holds {found:?}", dir.display())]
    Foreign {
        /// The data directory.
        dir: PathBuf,
        /// One of the files.
        found: String,
    },
    /// The store has another format, so another version of changelogd wrote it.
    #[error(
        "data directory {} has store format {stored:?}, this version reads {}: export it with the version that \
         wrote it, and import that into a new directory",
        dir.display(),
        super::layout::VERSION
    )]
    Format {
        /// The data directory.
        dir: PathBuf,
        /// The format in the marker file.
        stored: String,
    },
    /// The store has another partition count, which can't be changed.
    #[error("data directory {} has {stored} partitions, which can't be changed; {asked} were asked for", dir.display())]
    PartitionCount {
        /// The data directory.
        dir: PathBuf,
        /// The store's partition count.
        stored: PartitionCount,
        /// The configured partition count.
        asked: PartitionCount,
    },
    /// A file of the store is a symbolic link, or of another kind than the store makes. It was not opened.
    #[error("data directory {}: {} is {found}, and is not opened", dir.display(), file.display())]
    FileKind {
        /// The data directory.
        dir: PathBuf,
        /// The file.
        file: PathBuf,
        /// What it is, such as `a symbolic link`.
        found: &'static str,
    },
    /// The system gives no files, threads or memory now. Nothing is known to be damaged.
    #[error(
        "data directory {} can't be opened: the system has no files, threads or memory left: {cause}",
        dir.display()
    )]
    OutOfResources {
        /// The data directory.
        dir: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The storage engine panicked. It may be damage, or a fault of changelogd or of the engine.
    #[error(
        "data directory {}: the storage engine panicked as the store was opened: a fault, or damage that it does not \
         recognize; the cause stands before this line; copy the directory before it is opened again",
        dir.display()
    )]
    Panicked {
        /// The data directory.
        dir: PathBuf,
    },
    /// The directory can't be written.
    #[error("data directory {} can't be written: {cause}", dir.display())]
    ReadOnly {
        /// The data directory.
        dir: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// Another I/O error.
    #[error("data directory {} can't be opened: {cause}", dir.display())]
    Io {
        /// The data directory.
        dir: PathBuf,
        /// The system's error.
        cause: io::Error,
    },
    /// The store is damaged. No part of it is served.
    #[error("data directory {}: {corrupt}", dir.display())]
    Corrupt {
        /// The data directory.
        dir: PathBuf,
        /// The damage.
        corrupt: Corrupt,
    },
}

impl OpenError {
    pub(super) fn corrupt(dir: &Path, detail: impl Into<String>) -> Self {
        Self::Corrupt { dir: dir.to_owned(), corrupt: Corrupt { detail: detail.into() } }
    }

    pub(super) fn io(dir: &Path, cause: io::Error) -> Self {
        let dir = dir.to_owned();
        if is_out_of_files(&cause) {
            return Self::OutOfResources { dir, cause };
        }
        match cause.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly { dir, cause },
            _ => Self::Io { dir, cause },
        }
    }

    /// An error of the engine while it recovers. Every error that is not the system's is damage.
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

    /// A system error on one of the engine's files.
    pub(super) fn engine_file(dir: &Path, file: &Path, cause: io::Error) -> Self {
        if is_damage(&cause) {
            return Self::corrupt(dir, format!("{}: {cause}", file.display()));
        }
        Self::io(dir, cause)
    }
}

/// Why an entry of the engine can't be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    Damaged(Corrupt),
    /// The system gives no files or memory now. A later attempt may succeed.
    OutOfFiles(String),
    /// The disk or the system failed in another way, which says nothing about the files.
    Failed(String),
}

impl Unreadable {
    /// `damage` describes what could not be read, if the error means damage.
    pub(super) fn of_engine(error: &fjall::Error, damage: impl FnOnce() -> Corrupt) -> Self {
        match system_error(error) {
            Some(io) if is_out_of_files(io) => Self::OutOfFiles(io.to_string()),
            Some(io) if !is_damage(io) => Self::Failed(format!("the disk can't be read: {io}")),
            _ => Self::Damaged(damage()),
        }
    }
}

impl From<Corrupt> for Unreadable {
    fn from(corrupt: Corrupt) -> Self {
        Self::Damaged(corrupt)
    }
}

impl From<Unreadable> for ReadError {
    fn from(unreadable: Unreadable) -> Self {
        match unreadable {
            Unreadable::Damaged(corrupt) => corrupt.into(),
            Unreadable::OutOfFiles(cause) => Self::OutOfFiles { cause },
            Unreadable::Failed(cause) => Self::Internal { cause },
        }
    }
}

/// The system's error, if it is one.
fn system_error(error: &fjall::Error) -> Option<&io::Error> {
    match error {
        fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => Some(io),
        _ => None,
    }
}

/// Whether the system refused a file, memory or a thread, which it may give later.
pub(super) fn is_out_of_files(error: &io::Error) -> bool {
    let refusals = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::AGAIN, Errno::INTR];
    error.raw_os_error().is_some_and(|number| refusals.iter().any(|errno| errno.raw_os_error() == number))
        || matches!(error.kind(), io::ErrorKind::OutOfMemory | io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock)
}

/// Whether an error means that a file has changed, and not that the system failed.
fn is_damage(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::InvalidData
            // An impossible position in a file.
            | io::ErrorKind::InvalidInput
    )
}

/// Why a commit failed, in words.
pub(super) fn failed_commit(error: &fjall::Error) -> String {
    let cause = match error {
        fjall::Error::Io(io) if io.kind() == io::ErrorKind::StorageFull => format!("the disk is full: {io}"),
        fjall::Error::Io(io) => io.to_string(),
        other => format!("{other:?}"),
    };
    format!("a commit failed: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers R43.
    #[test]
    fn only_changed_files_are_damage() {
        let of = |io: io::Error| {
            let damage = || Corrupt { detail: "damaged".to_owned() };
            let errors = [fjall::Error::Io(clone(&io)), fjall::Error::Storage(fjall::LsmError::Io(io))];
            errors.map(|error| match ReadError::from(Unreadable::of_engine(&error, damage)) {
                ReadError::Corrupt(_) => "damage",
                ReadError::OutOfFiles { .. } => "out of files",
                ReadError::Internal { .. } => "failed",
                other => panic!("{other}"),
            })
        };
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::AGAIN, Errno::INTR] {
            assert_eq!(of(errno.into()), ["out of files"; 2], "{errno}");
        }
        for errno in [Errno::IO, Errno::ACCESS, Errno::PERM, Errno::STALE, Errno::NODEV, Errno::TIMEDOUT, Errno::NOSPC]
        {
            assert_eq!(of(errno.into()), ["failed"; 2], "{errno}");
        }
        assert_eq!(of(Errno::NOENT.into()), ["damage"; 2]);
        for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::InvalidData] {
            assert_eq!(of(kind.into()), ["damage"; 2], "{kind}");
        }
        let unreadable = Unreadable::of_engine(&fjall::Error::Poisoned, || Corrupt { detail: "damaged".to_owned() });
        assert!(matches!(unreadable, Unreadable::Damaged(_)), "{unreadable:?}");
    }

    fn clone(error: &io::Error) -> io::Error {
        error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
    }
}
