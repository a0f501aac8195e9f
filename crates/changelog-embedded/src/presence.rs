//! Whether the data directory and its files are still those that were opened.
//!
//! A process that has files open does not notice that they are removed: reads and writes go on, and all is lost with
//! the process. So each name must have the device and the inode of the opened file.
//!
//! - **Around each batch**: the name of the directory, and all others that do not change, if the system says that a
//!   name below was removed or moved. If the system can't say so, all names each time, which takes 50 microseconds.
//! - **Each second**: all names, and the files of the engine's lists, which change, and can be many.
//!
//! Does not notice that one of several journals is missing. The next start does.

use std::{
    fs,
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::{
    directory::{ACKED_SEQUENCE, ENGINE, LOCK, MARKER},
    engine_check::{self, KEYSPACES, is_absence},
    name_watch::NameWatch,
};

/// Names of an open store that never change.
#[derive(Debug)]
pub(super) struct Presence {
    dir: Name,
    files: Vec<Name>,
    /// Files that the engine replaces.
    replaced: Vec<PathBuf>,
    engine: PathBuf,
    /// Of the directories that have these names.
    pub(super) watch: Option<NameWatch>,
}

#[derive(Debug)]
struct Name {
    path: PathBuf,
    device_and_inode: (u64, u64),
    /// While it is open, no other file gets its inode.
    _open: File,
}

fn device_and_inode(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Name {
    fn of(path: PathBuf, flags: OFlags) -> io::Result<Self> {
        // The marker may be a pipe, whose opening must not wait.
        let flags = (flags | OFlags::NONBLOCK).bits().cast_signed();
        let open = OpenOptions::new().read(true).custom_flags(flags).open(&path)?;
        Ok(Self { path, device_and_inode: device_and_inode(&open.metadata()?), _open: open })
    }

    /// What is wrong with it. An error other than its absence says nothing about it.
    fn lost(&self, found: io::Result<Metadata>) -> Option<String> {
        match found {
            Ok(found) if device_and_inode(&found) == self.device_and_inode => None,
            Ok(_) => Some(format!("{} is not the one that was opened", self.path.display())),
            Err(error) => is_absence(&error).then(|| missing(&self.path)),
        }
    }
}

impl Presence {
    /// Of a store that is open, so that all of its files exist.
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        let engine = dir.join(ENGINE);
        let files =
            [LOCK.as_ref(), MARKER.as_ref(), ACKED_SEQUENCE.as_ref(), ENGINE.as_ref()].map(|n: &Path| dir.join(n));
        let of_engine = ["version", "keyspaces"].map(|name| engine.join(name));
        let keyspaces = || (0..KEYSPACES).map(|n| engine.join("keyspaces").join(n.to_string()));
        // Before the names are looked up, so that no change is between both.
        let watched = [dir.to_owned(), engine.clone(), engine.join("keyspaces")];
        let watch = NameWatch::of(watched.into_iter().chain(keyspaces()))
            .inspect_err(|cause| {
                let dir = dir.display();
                tracing::info!(%dir, %cause, "no inotify: all names of the store are looked up for each write");
            })
            .ok();
        let of_keyspaces = keyspaces().flat_map(|keyspace| [keyspace.join("tables"), keyspace]);
        let files = files.into_iter().chain(of_engine).chain(of_keyspaces);
        let files = files.map(|path| Name::of(path, OFlags::NOFOLLOW)).collect::<io::Result<_>>()?;
        let replaced = keyspaces().map(|keyspace| keyspace.join("current")).collect();
        // The directory may be a link, and what counts is where the link leads.
        Ok(Self { dir: Name::of(dir.to_owned(), OFlags::empty())?, files, replaced, engine, watch })
    }

    /// A name that is missing, or that another file has now. Takes some microseconds.
    pub(super) fn lost(&self) -> Option<String> {
        if self.watch.as_ref().is_none_or(NameWatch::changed) { self.lost_name() } else { self.lost_directory() }
    }

    fn lost_directory(&self) -> Option<String> {
        self.dir.lost(fs::metadata(&self.dir.path))
    }

    fn lost_name(&self) -> Option<String> {
        let lost = self.lost_directory();
        let lost = lost.or_else(|| self.files.iter().find_map(|name| name.lost(fs::symlink_metadata(&name.path))));
        let lost = lost.or_else(|| {
            let is_missing = |file: &&PathBuf| fs::symlink_metadata(file).is_err_and(|error| is_absence(&error));
            self.replaced.iter().find(is_missing).map(|file| missing(file))
        });
        lost.or_else(|| {
            // A list that is read while the engine creates a journal and removes another may lack both.
            let none = (0..3).all(|_| has_journal(&self.engine) == Some(false));
            none.then(|| format!("{} has no journal", self.engine.display()))
        })
    }

    /// Also a table or a list of tables that is missing. Takes some microseconds for each table.
    pub(super) fn lost_file(&self) -> Option<String> {
        self.lost_name().or_else(|| engine_check::removed(&self.engine).map(|file| missing(&file)))
    }
}

fn missing(file: &Path) -> String {
    format!("{} is missing", file.display())
}

/// `None` if it can't be read.
fn has_journal(engine: &Path) -> Option<bool> {
    let entries = fs::read_dir(engine).ok()?;
    for entry in entries {
        if Path::new(&entry.ok()?.file_name()).extension().is_some_and(|extension| extension == "jnl") {
            return Some(true);
        }
    }
    Some(false)
}
