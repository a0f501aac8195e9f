//! Whether names of some directories were removed, moved or replaced since the last question: inotify(7).
//!
//! The kernel queues an event before the system call that removes a name returns. So the answer is exact for what
//! happens on this machine, and takes one system call. Not noticed: a directory above that is moved, a file system that
//! is mounted over it, and what another machine does on a network file system.

use std::path::Path;

/// The fields exist on Linux only.
#[derive(Debug)]
pub(super) struct NameWatch {
    #[cfg(target_os = "linux")]
    events: rustix::fd::OwnedFd,
}

#[cfg(target_os = "linux")]
impl NameWatch {
    /// Fails if the user has too many of them: `fs.inotify.max_user_instances`, most often 128.
    pub(super) fn of(dirs: impl IntoIterator<Item = impl AsRef<Path>>) -> std::io::Result<Self> {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
        let events = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let of_names = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        let of_itself = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
        for dir in dirs {
            add_watch(&events, dir.as_ref(), of_names | of_itself)?;
        }
        Ok(Self { events })
    }

    /// Also true if the system can't tell.
    pub(super) fn changed(&self) -> bool {
        // Events that don't fit are read the next time.
        let mut events = [0; 4096];
        !matches!(rustix::io::read(&self.events, &mut events), Err(rustix::io::Errno::WOULDBLOCK))
    }
}

#[cfg(not(target_os = "linux"))]
impl NameWatch {
    pub(super) fn of(_: impl IntoIterator<Item = impl AsRef<Path>>) -> std::io::Result<Self> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    pub(super) fn changed(&self) -> bool {
        true
    }
}
