//! The machine as the programs of Kubernetes see it: folders, network and kernel settings of their own.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use super::command::{output, target};

/// Where pods reach programs outside of pods, such as brokers. It is on the loopback of this network namespace. It and
/// the other addresses are those that RFC 5737 reserves for documentation.
pub const ADDRESS: &str = "192.0.2.1";
pub const NAME: &str = "node";
pub const PODS: &str = "198.51.100.0/24";
pub const SERVICES: &str = "203.0.113.0/24";
/// All pods are below this control group.
pub const CONTROL_GROUP: &str = "changelogd-cluster";
pub const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// Folders that Kubernetes and containerd write to by their fixed paths. Each is replaced by one below `target/`.
const FOLDERS: [&str; 2] = ["/var/lib", "/var/log"];
/// Kernel settings that the kubelet writes. They are of the whole machine, so it writes to copies.
const KERNEL_SETTINGS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// In the namespaces of this program.
pub async fn prepare() -> Result<(), String> {
    make_control_groups()?;
    // Mounts of the kubelet must be seen by containerd.
    mount(&["--make-rshared", "/"]).await?;
    // Sockets, network namespaces and the data of etcd.
    mount(&["-t", "tmpfs", "tmpfs", "/run"]).await?;
    for folder in FOLDERS {
        let replacement = target("run").join(folder.trim_start_matches('/'));
        fs::create_dir_all(&replacement).map_err(|error| format!("{}: {error}", replacement.display()))?;
        mount(&["--bind", &replacement.display().to_string(), folder]).await?;
    }
    for (number, setting) in KERNEL_SETTINGS.iter().enumerate() {
        let path = Path::new("/proc/sys").join(setting);
        let value = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let copy = written(&format!("kernel-setting-{number}"), &value)?;
        mount(&["--bind", &copy.display().to_string(), &path.display().to_string()]).await?;
    }
    for arguments in [["link", "set", "lo", "up"].as_slice(), &["address", "add", ADDRESS, "dev", "lo"]] {
        let mut ip = Command::new("ip");
        ip.args(arguments);
        output(ip).await?;
    }
    Ok(())
}

/// The kubelet takes the group of all pods only if it exists: one in each hierarchy of version 1, or the only one of
/// version 2.
fn make_control_groups() -> Result<(), String> {
    let root = Path::new(CONTROL_GROUPS);
    let of_version_2 = root.join("cgroup.controllers").exists();
    let hierarchies = if of_version_2 { vec![root.to_owned()] } else { folders(root)? };
    for hierarchy in hierarchies {
        let group = hierarchy.join(CONTROL_GROUP);
        fs::create_dir_all(&group).map_err(|error| format!("{}: {error}", group.display()))?;
        // No process can enter a group without processors and memory nodes. Version 2 inherits them.
        for file in ["cpuset.cpus", "cpuset.mems"].iter().filter(|file| !of_version_2 && group.join(file).exists()) {
            let copied = fs::read(hierarchy.join(file)).and_then(|value| fs::write(group.join(file), value));
            copied.map_err(|error| format!("{}: {error}", group.join(file).display()))?;
        }
    }
    Ok(())
}

fn folders(path: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir() && !path.is_symlink()).collect())
}

async fn mount(arguments: &[&str]) -> Result<(), String> {
    let mut mount = Command::new("mount");
    mount.args(arguments);
    output(mount).await.map(drop)
}

/// A file below `target/cluster/run/`, which only root may read.
pub fn written(name: &str, bytes: &[u8]) -> Result<PathBuf, String> {
    let path = target("run").join(name);
    fs::write(&path, bytes)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o600)))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}
