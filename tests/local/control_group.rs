//! Control groups of Linux, version 1 or 2, for a process under test.

use std::{
    fs,
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::process::Command;

use crate::contract::server::binary;

static NEXT: AtomicUsize = AtomicUsize::new(0);

/// A group with one limit. Removed when it is dropped, if its processes have ended.
pub struct ControlGroup {
    path: PathBuf,
    file: &'static str,
}

impl ControlGroup {
    /// `None` if none can be made here.
    pub fn of_memory(bytes: i64) -> Option<Self> {
        Self::new("memory", "memory.limit_in_bytes", "memory.max", &bytes.to_string())
    }

    /// As [`ControlGroup::of_memory`], for threads. It has no limit yet.
    pub fn of_threads() -> Option<Self> {
        Self::new("pids", "pids.max", "pids.max", "max")
    }

    fn new(controller: &str, version_1: &'static str, version_2: &'static str, limit: &str) -> Option<Self> {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
            let (root, file) = match controllers {
                "" => (PathBuf::from("/sys/fs/cgroup"), version_2),
                some if some.split(',').any(|c| c == controller) => {
                    (PathBuf::from("/sys/fs/cgroup").join(controller), version_1)
                }
                _ => continue,
            };
            let name = format!("changelogd-test-{}-{}", std::process::id(), NEXT.fetch_add(1, SeqCst));
            let path = root.join(path).join(name);
            if fs::create_dir(&path).is_ok() {
                let made = Self { path, file };
                if made.path.join(file).exists() && made.set(limit) {
                    return Some(made);
                }
            }
        }
        None
    }

    /// Changes the limit.
    pub fn set(&self, limit: &str) -> bool {
        fs::write(self.path.join(self.file), limit).is_ok()
    }

    /// The binary in this group.
    pub fn command(&self) -> Command {
        println!("in the control group {}", self.path.display());
        let mut shell = Command::new("sh");
        let script = format!("echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"", self.path.display());
        shell.arg("-c").arg(script).arg(binary()).stdin(Stdio::null());
        shell
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.path);
    }
}
