//! Starts this program again in namespaces of its own, and waits for it. What it holds ends with the namespaces.

use std::{
    env, fs,
    path::Path,
    process::{ExitCode, Stdio},
};

use changelogd_testkit::stopped;
use tokio::process::Command;

use super::{
    arguments::{Arguments, is_wanted},
    cases,
    command::{is_installed, target},
    node::{CONTROL_GROUP, CONTROL_GROUPS},
};

/// Files that Debian has, and their packages. Programs are looked up on PATH.
const NEEDED: [(&str, &str); 11] = [
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("etcd", "etcd-server"),
    ("iptables", "iptables"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("strip", "binutils"),
    ("prometheus", "prometheus"),
    ("curl", "curl"),
    ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
];

pub async fn run(arguments: &Arguments) -> Result<ExitCode, String> {
    let names: Vec<_> = cases::all().iter().map(|case| case.name).collect();
    let is_unknown = |only: &&String| !names.iter().any(|name| is_wanted(&[only.to_string()], name));
    if let Some(unknown) = arguments.only.iter().find(is_unknown) {
        return Err(format!("there is no case {unknown}; there are {}", names.join(", ")));
    }
    check_machine()?;
    // Control groups have names of the whole machine.
    let groups = fs::File::open(CONTROL_GROUPS).map_err(|error| format!("{CONTROL_GROUPS}: {error}"))?;
    groups.try_lock().map_err(|_| "another `make cluster` runs on this machine".to_owned())?;
    prepare()?;
    let ended = again().await?;
    remove_control_groups()?;
    // The logs stay.
    fs::remove_dir_all(target("run")).map_err(|error| format!("{}: {error}", target("run").display()))?;
    Ok(ended)
}

fn check_machine() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("make cluster starts containers and needs root".to_owned());
    }
    let is_there =
        |program: &str| if program.contains('/') { Path::new(program).is_file() } else { is_installed(program) };
    let missing: Vec<_> =
        NEEDED.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!("missing: {}; on Debian, as root: .ci/setup cluster", missing.join(", ")))
}

/// Empty directories. A run that was killed may have left files.
fn prepare() -> Result<(), String> {
    for name in ["run", "log", "failed"] {
        let path = target(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    remove_control_groups()
}

/// Runs this program in its namespaces. Its standard input ends with this process, which is how it learns of that.
async fn again() -> Result<ExitCode, String> {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.arg(env::current_exe().map_err(|error| format!("this program's path: {error}"))?).arg("--inside");
    // ^C is for this process, which then ends the other one in order.
    command.args(env::args_os().skip(1)).stdin(Stdio::piped()).process_group(0);
    let mut child = command.spawn().map_err(|error| format!("cannot run unshare: {error}"))?;
    let alive = child.stdin.take();
    let status = tokio::select! {
        status = child.wait() => status,
        () = stopped() => {
            drop(alive);
            child.wait().await
        }
    };
    let status = status.map_err(|error| format!("unshare: {error}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Control groups do not end with the namespaces. Without processes, they can be removed.
fn remove_control_groups() -> Result<(), String> {
    let root = Path::new(CONTROL_GROUPS);
    let hierarchies = fs::read_dir(root).map_err(|error| format!("{CONTROL_GROUPS}: {error}"))?;
    for hierarchy in hierarchies.flatten().map(|entry| entry.path()).chain([root.to_owned()]) {
        let group = hierarchy.join(CONTROL_GROUP);
        if group.is_dir() {
            remove_group(&group).map_err(|error| format!("{}: {error}", group.display()))?;
        }
    }
    Ok(())
}

/// Those inside first. The files in them cannot be removed, and need not be.
fn remove_group(group: &Path) -> Result<(), std::io::Error> {
    for entry in fs::read_dir(group)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}
