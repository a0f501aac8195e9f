//! A file that another process writes, and that this program reads meanwhile and afterwards.

use std::{
    fs::{self, File},
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    process::Stdio,
};

use changelogd_testkit::workspace_root;

/// A log file below target/clients. Its name may be taken by another file later: this one is read and written on.
pub struct Log {
    file: File,
    pub path: PathBuf,
}

impl Log {
    pub fn create(name: impl AsRef<Path>) -> Result<Self, String> {
        let path = workspace_root().join("target/clients").join(name);
        let file = create(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        Ok(Self { file, path })
    }

    /// For the process.
    pub fn writer(&self) -> io::Result<Stdio> {
        self.file.try_clone().map(Stdio::from)
    }

    /// All that has been written. What can't be read is missing, and so is what is looked for in it.
    pub fn text(&self) -> String {
        let (mut file, mut bytes) = (&self.file, Vec::new());
        let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

fn create(path: &Path) -> io::Result<File> {
    fs::create_dir_all(path.parent().expect("it is in a directory"))?;
    // A process of an earlier run may still write to a file of this name.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The place of the next read is shared with the process. It must not be that of the next write.
    File::options().create_new(true).read(true).append(true).open(path)
}
