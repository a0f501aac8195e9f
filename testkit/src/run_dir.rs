//! Directories of brokers, which are removed also if the process that made them was killed.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    files::{kafka_target, read_lossy},
    process::signal,
};

/// A directory under `target/kafka/runs`, removed when this value is dropped. If this process ends before, the wrapper
/// or a later run removes it.
pub(crate) struct RunDir {
    dir: TempDir,
    /// Locked for as long as this process lives, so that other processes know that the directory is in use.
    _lock: File,
}

impl RunDir {
    pub(crate) fn create() -> Self {
        let runs = kafka_target().join("runs");
        fs::create_dir_all(&runs).unwrap_or_else(|error| panic!("cannot create {}: {error}", runs.display()));
        let all = open_lock(&runs.join("lock"));
        all.lock().expect("cannot lock the directory of runs");
        sweep(&runs);
        let dir = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(&runs)
            .unwrap_or_else(|error| panic!("cannot create a directory in {}: {error}", runs.display()));
        let lock = open_lock(&lock_path(dir.path()));
        lock.lock().expect("cannot lock a new run's directory");
        Self { dir, _lock: lock }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // Another process may remove a directory without a lock file, so the file is removed last.
        let _ = fs::remove_dir_all(self.dir.path());
        let _ = fs::remove_file(lock_path(self.dir.path()));
    }
}

/// Removes the directories of processes that ended together with their wrappers.
fn sweep(runs: &Path) {
    let names: BTreeSet<_> = fs::read_dir(runs)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().with_extension(""))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("run-")))
        .collect();
    for dir in names {
        if open_lock(&lock_path(&dir)).try_lock().is_err() {
            continue; // its process lives
        }
        let pid = read_lossy(&dir.join("pid"));
        let command_line = read_lossy(&Path::new("/proc").join(pid.trim()).join("cmdline"));
        if let Ok(pid) = pid.trim().parse()
            && command_line.contains(&*dir.to_string_lossy())
        {
            signal(pid, "KILL");
        }
        let _ = fs::remove_dir_all(&dir);
        let _ = fs::remove_file(lock_path(&dir));
    }
}

fn lock_path(dir: &Path) -> PathBuf {
    dir.with_extension("lock")
}

fn open_lock(path: &Path) -> File {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
}
