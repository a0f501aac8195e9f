//! The contents of the files that properties name.
//!
//! librdkafka reads these files whenever it makes a client, and each replay has a client. A file that is being replaced
//! must not fail these clients, so they read a copy: what the file had when the settings were checked. Linux keeps the
//! copy in memory. Where that is not possible, clients read the file itself.
//!
//! Promises that a copy is never on a disk. Does not: copy a directory of certificates, which OpenSSL reads entry by
//! entry.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::{self, Read as _},
    path::Path,
    sync::Arc,
};

use super::{
    PropertyError,
    files::{self, Effective},
    fingerprint::Fingerprint,
    path::quoted_path,
};

/// More than the largest revocation list has. Clients read a larger file themselves.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// What one property names.
#[derive(Debug)]
struct HeldFile {
    property: &'static str,
    /// A hash of the contents. That of a directory is of its fingerprint.
    contents: u64,
    copy: Option<File>,
}

impl HeldFile {
    fn read(property: &'static str, path: &Path) -> io::Result<Self> {
        let mut hasher = DefaultHasher::new();
        if path.is_dir() {
            Fingerprint::of(path).hash(&mut hasher);
            return Ok(Self { property, contents: hasher.finish(), copy: None });
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        bytes.hash(&mut hasher);
        let copy = if bytes.len() as u64 > MAX_BYTES { None } else { in_memory(&bytes) };
        Ok(Self { property, contents: hasher.finish(), copy })
    }
}

/// The files of one version of the settings.
#[derive(Debug, Clone, Default)]
pub struct HeldFiles(Arc<Vec<HeldFile>>);

impl HeldFiles {
    /// Reads each file that these properties name. Blocks.
    pub fn read(effective: &Effective<'_>) -> Result<Self, PropertyError> {
        let held = files::named(effective).map(|(property, path)| {
            let shown = quoted_path(&path.to_string_lossy());
            let wrong = |e| PropertyError::new(property, None, format!("{shown} can't be read: {e}"));
            HeldFile::read(property, path).map_err(wrong)
        });
        Ok(Self(Arc::new(held.collect::<Result<_, _>>()?)))
    }

    /// Properties with the paths of the copies, for librdkafka.
    pub fn paths(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.0.iter().filter_map(|held| Some((held.property, path_of(held.copy.as_ref()?))))
    }

    pub fn has_same_contents(&self, other: &Self) -> bool {
        self.0.iter().map(|held| (held.property, held.contents)).eq(other.0.iter().map(|h| (h.property, h.contents)))
    }
}

#[cfg(target_os = "linux")]
fn path_of(copy: &File) -> String {
    use std::os::fd::AsRawFd as _;
    format!("/proc/self/fd/{}", copy.as_raw_fd())
}

/// A file without a name, if the system has such, and if it can be opened again. A container may lack /proc.
#[cfg(target_os = "linux")]
fn in_memory(bytes: &[u8]) -> Option<File> {
    use std::io::Write as _;
    let make = || {
        let mut copy = File::from(rustix::fs::memfd_create(c"kafka-file", rustix::fs::MemfdFlags::CLOEXEC)?);
        copy.write_all(bytes)?;
        File::open(path_of(&copy)).map(|_| copy)
    };
    make().inspect_err(|error| tracing::warn!(%error, "no copy of a file can be kept: clients read it again")).ok()
}

#[cfg(not(target_os = "linux"))]
fn path_of(_: &File) -> String {
    String::new()
}

#[cfg(not(target_os = "linux"))]
fn in_memory(_: &[u8]) -> Option<File> {
    None
}
