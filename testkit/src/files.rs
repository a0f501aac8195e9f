//! Directories of the workspace, and short functions for files.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The directory of the workspace.
pub fn workspace_root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is a directory of the workspace")
}

pub(crate) fn kafka_tests() -> PathBuf {
    workspace_root().join("tests/kafka")
}

pub(crate) fn kafka_target() -> PathBuf {
    workspace_root().join("target/kafka")
}

pub(crate) fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

pub(crate) fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

pub(crate) fn tail(path: &Path) -> String {
    let text = read_lossy(path);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(80)..].join("\n")
}

/// Removes a file or a directory, as `rm -r` does. A program may still create files in the directory, which makes a
/// removal fail as "not empty", so it is tried until the name is gone. Panics after a minute.
pub fn remove_tree(path: &Path) {
    let started = Instant::now();
    while let Ok(metadata) = fs::symlink_metadata(path) {
        let removed = if metadata.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        assert!(removed.is_ok() || started.elapsed() < Duration::from_secs(60), "{}: {removed:?}", path.display());
    }
}
