//! Whether a file may have changed.
//!
//! Promises to notice a file that is written in place, renamed over another one, or reached through another symbolic
//! link. Looks at no contents: [`super::held`] does.

use std::{
    ffi::OsString,
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// More than a directory of certificates has. The rest of a larger one is not looked at.
const MAX_ENTRIES: usize = 10_000;

/// Where a file is and when it changed, as far as its file system says so.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Not set by programs that set `modified`, such as `cp -p`.
    changed: (i64, i64),
}

/// Of the file at a path, behind its symbolic links.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Fingerprint {
    /// There is none, or the system does not let us see it.
    Missing(ErrorKind),
    File(Stamp),
    /// With its entries. A file in it may be written without a change of the directory.
    Directory(Stamp, Vec<(OsString, Option<Stamp>)>),
    /// A pipe or a device, which can't be read twice.
    Other,
}

impl Fingerprint {
    /// Blocks, on a network file system perhaps for long.
    pub fn of(path: &Path) -> Self {
        let look = || -> io::Result<Self> {
            let metadata = fs::metadata(path)?;
            let stamp = Stamp::from(&metadata);
            if metadata.is_file() {
                return Ok(Self::File(stamp));
            }
            if !metadata.is_dir() {
                return Ok(Self::Other);
            }
            let mut entries = Vec::new();
            for entry in fs::read_dir(path)?.take(MAX_ENTRIES) {
                let entry = entry?;
                entries.push((entry.file_name(), fs::metadata(entry.path()).ok().as_ref().map(Stamp::from)));
            }
            entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            Ok(Self::Directory(stamp, entries))
        };
        look().unwrap_or_else(|error| Self::Missing(error.kind()))
    }
}

impl From<&fs::Metadata> for Stamp {
    fn from(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::Write as _,
        os::unix::fs::symlink,
        path::PathBuf,
        time::{Duration, SystemTime},
    };

    use tempfile::TempDir;

    use super::*;

    /// A directory with a file of two bytes.
    fn file() -> (TempDir, PathBuf) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "ab").unwrap();
        (directory, path)
    }

    /// The clock of a file system may stand still for some milliseconds.
    fn until_changed(before: &Fingerprint, path: &Path, change: impl Fn()) {
        let started = std::time::Instant::now();
        while Fingerprint::of(path) == *before {
            assert!(started.elapsed() < Duration::from_secs(5), "the change is not seen: {before:?}");
            change();
        }
    }

    /// Covers R52, R63.
    #[test]
    fn each_way_to_replace_a_file_is_seen() {
        let (directory, path) = file();
        let before = Fingerprint::of(&path);
        assert_eq!(Fingerprint::of(&path), before, "nothing changed");
        until_changed(&before, &path, || fs::write(&path, "cd").unwrap());
        let before = Fingerprint::of(&path);
        // In place, with the time that it had.
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        until_changed(&before, &path, || {
            let mut file = File::options().write(true).open(&path).unwrap();
            file.write_all(b"ef").unwrap();
            file.set_modified(time).unwrap();
        });
        // Renamed over it, of the same size and with the same time.
        let before = Fingerprint::of(&path);
        let other = directory.path().join("other");
        fs::write(&other, "gh").unwrap();
        File::options().write(true).open(&other).unwrap().set_modified(time).unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(Fingerprint::of(&path), before);
        fs::remove_file(&path).unwrap();
        assert_eq!(Fingerprint::of(&path), Fingerprint::Missing(ErrorKind::NotFound));
    }

    /// Kubernetes: the file is a link into `..data`, which is a link to a directory with the time in its name. A new
    /// secret is a new directory, and a link that is renamed over `..data`.
    /// Covers R52, R63.
    #[test]
    fn a_replaced_secret_of_kubernetes_is_seen() {
        let volume = TempDir::new().unwrap();
        let at = |name: &str| volume.path().join(name);
        for (directory, value) in [("..2026_01", "ab"), ("..2026_02", "cd")] {
            fs::create_dir(at(directory)).unwrap();
            fs::write(at(directory).join("tls.crt"), value).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
            File::options().write(true).open(at(directory).join("tls.crt")).unwrap().set_modified(time).unwrap();
        }
        symlink("..2026_01", at("..data")).unwrap();
        symlink("..data/tls.crt", at("tls.crt")).unwrap();
        let before = Fingerprint::of(&at("tls.crt"));
        assert!(matches!(before, Fingerprint::File(_)), "{before:?}");
        symlink("..2026_02", at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
        fs::remove_dir_all(at("..2026_01")).unwrap();
        assert_ne!(Fingerprint::of(&at("tls.crt")), before);
    }

    /// Covers R52, R63.
    #[test]
    fn a_directory_changes_with_its_files() {
        let (directory, path) = file();
        let before = Fingerprint::of(directory.path());
        assert!(matches!(before, Fingerprint::Directory(..)), "{before:?}");
        assert_eq!(Fingerprint::of(directory.path()), before);
        until_changed(&before, directory.path(), || fs::write(&path, "cd").unwrap());
        let before = Fingerprint::of(directory.path());
        fs::write(directory.path().join("second"), "").unwrap();
        assert_ne!(Fingerprint::of(directory.path()), before);
    }

    /// The times of a device change when it is read, and nothing can be read from it again.
    #[test]
    fn a_device_does_not_change() {
        assert_eq!(Fingerprint::of(Path::new("/dev/null")), Fingerprint::Other);
    }
}
