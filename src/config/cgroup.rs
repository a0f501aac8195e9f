//! The memory limit of the control group: `memory.max` in version 2, `memory.limit_in_bytes` in version 1. Of nested
//! groups the lowest limit applies.
//!
//! Does not: read the memory of the machine, or notice a limit that changes while the process runs.

use std::{fs, path::Path, sync::OnceLock};

/// The limit in bytes when it was first asked for; `None` if there is none or it is not known.
pub fn memory_limit() -> Option<u64> {
    // Shares of the limit are computed in several places, and must be of the same one.
    static LIMIT: OnceLock<Option<u64>> = OnceLock::new();
    *LIMIT.get_or_init(|| {
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        tightest(&groups, Path::new("/sys/fs/cgroup"))
    })
}

/// The lowest limit of the groups in /proc/self/cgroup. Its lines have the form `hierarchy:controllers:path`.
fn tightest(groups: &str, root: &Path) -> Option<u64> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (directory, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            some if some.split(',').any(|c| c == "memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        // In a container the root is its own group, while the path may be that of the host.
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let text = fs::read_to_string(directory.join(group).join(file)).unwrap_or_default();
            // No limit is "max" in version 2, and a very large number in version 1.
            limits.extend(text.trim().parse::<u64>().ok().filter(|limit| *limit < 1 << 60));
        }
    }
    limits.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers K6.
    #[test]
    fn the_tightest_limit_of_either_cgroup_version_is_found() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let found = |groups| tightest(groups, root.path());
        assert_eq!(found("0::/\n"), None);
        put("memory.max", "max\n");
        assert_eq!(found("0::/\n"), None);
        put("pod/memory.max", "268435456\n");
        put("pod/container/memory.max", "max\n");
        assert_eq!(found("0::/pod/container\n"), Some(268_435_456));
        put("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(found("4:cpu,memory:/elsewhere\n1:name=systemd:/pod\n"), None);
        put("memory/memory.limit_in_bytes", "1000\n");
        assert_eq!(found("4:cpu,memory:/elsewhere\n0::/pod\n"), Some(1000));
    }
}
