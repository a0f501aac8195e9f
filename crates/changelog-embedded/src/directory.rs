//! The data directory: which files are in it, with which modes they are created, and which kinds of files are refused.
//!
//! ```text
//!   lock            locked while the store is open
//!   store           the marker: format, id, partition count; never changed; written last when a store is created
//!   acknowledged    the sequence of a batch that was fsynced
//!   engine/         fjall's files (engine.new/ until the marker is written)
//! ```
//!
//! - **Only the owner reaches what is in a new directory.** It has mode 0700, whatever the umask is. Its own files have
//!   0600. The engine creates its files by the umask, which belongs to the process and not to a library.
//! - **No symbolic link is followed**, so that nothing outside of the directory is written or read. The directory
//!   itself may be a link, because its path comes from the operator.
//!
//! Does not change the mode of a directory that exists already. Does not notice a link that another user makes between
//! the check and the start of the engine, which needs a directory that others may write.

use std::{
    fs,
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;

use super::error::OpenError;

pub(super) const LOCK: &str = "lock";
pub(super) const MARKER: &str = "store";
pub(super) const MARKER_NEW: &str = "store.new";
pub(super) const ACKED_SEQUENCE: &str = "acknowledged";
pub(super) const ENGINE: &str = "engine";
pub(super) const ENGINE_NEW: &str = "engine.new";
/// All names that the store uses.
pub(super) const OWN: [&str; 6] = [LOCK, MARKER, MARKER_NEW, ACKED_SEQUENCE, ENGINE, ENGINE_NEW];
/// Files that may be in the directory of a new store: leftovers of an interrupted creation, and what mkfs creates.
const HARMLESS: [&str; 5] = [LOCK, MARKER_NEW, ACKED_SEQUENCE, ENGINE_NEW, "lost+found"];

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Another user with this permission on a directory can replace its files, whatever their modes are.
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Creates the data directory if it is missing, and those above it.
///
/// A directory that others may write is only warned about: Kubernetes gives each `emptyDir` mode 0777, and a volume
/// with an `fsGroup` is writable for that group.
pub(super) fn create(dir: &Path) -> Result<(), OpenError> {
    let fail = |cause| OpenError::io(dir, cause);
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(parent).map_err(fail)?;
    }
    match create_directory(dir) {
        Ok(()) => Ok(()),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {
            let mode = fs::metadata(dir).map_err(fail)?.permissions().mode() & 0o7777;
            if let Some(writers) = other_writers(mode) {
                let (dir, mode) = (dir.display(), format!("{mode:04o}"));
                tracing::warn!(%dir, mode, writers, "others may write in the data directory, and so replace the store");
            }
            Ok(())
        }
        Err(cause) => Err(fail(cause)),
    }
}

/// Which other users may write in a directory with this mode.
fn other_writers(mode: u32) -> Option<&'static str> {
    match (mode & OTHERS_WRITE != 0, mode & GROUP_WRITES != 0) {
        (true, _) => Some("everyone"),
        (false, true) => Some("its group"),
        (false, false) => None,
    }
}

/// Creates a directory for its owner only. An error if there is something of that name, also a link.
pub(super) fn create_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(DIRECTORY_MODE).create(path)?;
    // The umask may have taken away the owner's own permissions.
    fs::set_permissions(path, fs::Permissions::from_mode(DIRECTORY_MODE))
}

/// Creates a file for its owner only, in place of a leftover. Never writes to an existing file, which may have other
/// names (hard links).
pub(super) fn create_file(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
        _ => {}
    }
    options().read(true).write(true).create_new(true).open(path)
}

/// Opens a file without following a link. A created file is for its owner only.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Refuses own files of a wrong kind, before any of them is opened or created.
pub(super) fn check_kinds(dir: &Path) -> Result<(), OpenError> {
    for name in OWN {
        let file = dir.join(name);
        let kind = match fs::symlink_metadata(&file) {
            Ok(metadata) => metadata.file_type(),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
            Err(cause) => return Err(OpenError::io(dir, cause)),
        };
        let found = match name {
            _ if kind.is_symlink() => "a symbolic link",
            ENGINE | ENGINE_NEW if !kind.is_dir() => "not a directory",
            // Opening a pipe would wait for its other end. The marker may be one, because it is only read.
            LOCK | ACKED_SEQUENCE | MARKER_NEW if !kind.is_file() => "not a regular file",
            _ => continue,
        };
        return Err(OpenError::FileKind { dir: dir.to_owned(), file, found });
    }
    Ok(())
}

/// Refuses symbolic links among the engine's files.
pub(super) fn check_engine_kinds(dir: &Path, below: &Path) -> Result<(), OpenError> {
    let fail = |cause| OpenError::engine_file(dir, below, cause);
    for entry in fs::read_dir(below).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let (file, kind) = (entry.path(), entry.file_type().map_err(fail)?);
        if kind.is_symlink() {
            return Err(OpenError::FileKind { dir: dir.to_owned(), file, found: "a symbolic link" });
        }
        if kind.is_dir() {
            check_engine_kinds(dir, &file)?;
        }
    }
    Ok(())
}

/// Refuses files that do not belong to a new store.
pub(super) fn check_harmless(dir: &Path) -> Result<(), OpenError> {
    let names =
        fs::read_dir(dir).and_then(|entries| entries.map(|e| Ok(e?.file_name())).collect::<io::Result<Vec<_>>>());
    let names = names.map_err(|cause| OpenError::io(dir, cause))?;
    match names.iter().find(|name| HARMLESS.iter().all(|harmless| name != harmless)) {
        Some(found) => Err(OpenError::Foreign { dir: dir.to_owned(), found: found.to_string_lossy().into_owned() }),
        None => Ok(()),
    }
}

pub(super) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers R47.
    #[test]
    fn other_users_that_may_write_in_a_directory_are_named() {
        for (mode, writers) in [
            (0o700, None),
            (0o755, None),
            (0o1755, None),
            (0o770, Some("its group")),
            (0o2775, Some("its group")),
            (0o777, Some("everyone")),
            (0o1777, Some("everyone")),
            (0o702, Some("everyone")),
        ] {
            assert_eq!(other_writers(mode), writers, "{mode:o}");
        }
    }
}
