//! How far the engine is with its journals while a store is opened.
//!
//! The engine reads its journals one after the other, and reports nothing. Linux shows at which position each open file
//! of a process is read, in `/proc/self/fdinfo`. On other systems nothing is read, as far as is known here.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Bytes of a block in the metadata of a file.
const BLOCK_BYTES: u64 = 512;

/// How much of the journals of a data directory is read while [`EmbeddedLog::open`](crate::EmbeddedLog::open) runs in
/// another thread.
#[derive(Debug)]
pub struct JournalProgress {
    /// The journals in the order in which they are read, with their bytes.
    journals: Vec<(PathBuf, u64)>,
    read_bytes: u64,
}

impl JournalProgress {
    /// Lists the journals, so it must be called before the store is open. Finds none if the directory has no store.
    /// Blocks while the directory is read.
    pub fn new(dir: &Path) -> Self {
        let mut journals: Vec<(u64, PathBuf, u64)> = fs::read_dir(dir.join("engine"))
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let path = entry.ok()?.path().canonicalize().ok()?;
                let number = path.file_name()?.to_str()?.strip_suffix(".jnl")?.parse().ok()?;
                let metadata = path.metadata().ok()?;
                // The engine makes a journal long before it writes to it. The rest of the file has no blocks.
                Some((number, path, metadata.len().min(metadata.blocks() * BLOCK_BYTES)))
            })
            .collect();
        journals.sort();
        Self { journals: journals.into_iter().map(|(_, path, bytes)| (path, bytes)).collect(), read_bytes: 0 }
    }

    /// The bytes of all journals.
    pub fn total_bytes(&self) -> u64 {
        self.journals.iter().map(|(_, bytes)| bytes).sum()
    }

    /// The bytes that are read by now. Blocks while the open files of the process are listed.
    pub fn read_bytes(&mut self) -> u64 {
        let (positions, mut before) = (positions(), 0);
        for (path, bytes) in &self.journals {
            // If a file is open twice, one handle is at 0, because it only appends.
            let position = positions.iter().filter(|(open, _)| open == path).map(|(_, position)| *position).max();
            if let Some(position) = position.filter(|position| *position > 0) {
                self.read_bytes = self.read_bytes.max(before + position.min(*bytes));
            }
            before += bytes;
        }
        self.read_bytes
    }
}

/// The journals that this process has open, and at which positions it reads them.
fn positions() -> Vec<(PathBuf, u64)> {
    let open = fs::read_dir("/proc/self/fd").into_iter().flatten().filter_map(Result::ok);
    open.filter_map(|entry| {
        let path = fs::read_link(entry.path()).ok().filter(|path| path.extension().is_some_and(|e| e == "jnl"))?;
        let info = fs::read_to_string(Path::new("/proc/self/fdinfo").join(entry.file_name())).ok()?;
        Some((path, info.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()?))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _};

    use super::*;

    /// Covers S18.
    #[test]
    fn progress_is_the_position_in_the_journal_that_is_read_after_those_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let engine = dir.path().join("engine");
        assert_eq!(JournalProgress::new(dir.path()).total_bytes(), 0, "no store");
        fs::create_dir(&engine).unwrap();
        for (name, bytes) in [("10.jnl", 40_960), ("9.jnl", 8_192), ("keyspaces", 100), ("11.jnl", 0)] {
            fs::write(engine.join(name), vec![1; bytes]).unwrap();
        }
        // Only its length, as the engine prepares a journal.
        File::options().write(true).open(engine.join("11.jnl")).unwrap().set_len(1 << 26).unwrap();
        let mut progress = JournalProgress::new(dir.path());
        assert_eq!((progress.read_bytes(), progress.total_bytes()), (0, 49_152));
        let read = |name: &str, bytes: usize| {
            let mut file = File::open(engine.join(name)).unwrap();
            file.read_exact(&mut vec![0; bytes]).unwrap();
            file
        };
        // The engine has the last journal open all the time.
        let _appending = File::options().append(true).open(engine.join("11.jnl")).unwrap();
        let first = read("9.jnl", 4_096);
        assert_eq!(progress.read_bytes(), 4_096);
        drop(first);
        assert_eq!(progress.read_bytes(), 4_096, "it never goes back");
        let second = read("10.jnl", 10_000);
        assert_eq!(progress.read_bytes(), 8_192 + 10_000);
        drop(second);
        let last = read("11.jnl", 1_000_000);
        assert_eq!(progress.read_bytes(), progress.total_bytes(), "never more than there is");
        drop(last);
    }
}
