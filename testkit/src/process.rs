//! Processes that tests start: the binary under test, and children that end with this process, however it ends.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
};

/// Runs a program as its child, and kills it when stdin ends. The kernel closes stdin when the test process ends in
/// any way. PR_SET_PDEATHSIG would fire when the *thread* ends that started the child, and test threads end early. The
/// JVM itself cannot read stdin while it is paused.
const WRAPPER: &str = r#"
dir=$1 log=$2
shift 2
exec 3<&0
"$@" </dev/null >>"$log" 2>&1 3<&- &
pid=$!
trap '' HUP INT TERM
echo "$pid" >"$dir/pid"
echo "$pid"
exec >/dev/null 2>&1
(
    while read -r _; do :; done
    : >"$dir/abandoned"
    kill -KILL "$pid"
) <&3 3<&- &
watcher=$!
exec 0</dev/null 3<&-
wait "$pid"
kill -KILL "$watcher"
[ ! -e "$dir/abandoned" ] || rm -rf "$dir" "$dir.lock"
"#;

/// The binary of changelogd that the variable CHANGELOGD_TEST_BINARY names. The command `target` sets the variable.
pub fn binary_under_test(target: &str) -> Result<PathBuf, String> {
    let Some(binary) = std::env::var_os("CHANGELOGD_TEST_BINARY").filter(|binary| !binary.is_empty()) else {
        return Err(format!(
            "CHANGELOGD_TEST_BINARY is not set, and must name the changelogd to run; `{target}` builds one and \
             sets it"
        ));
    };
    let binary = PathBuf::from(binary);
    if binary.is_file() {
        Ok(binary)
    } else {
        Err(format!("CHANGELOGD_TEST_BINARY names {}, and there is no such file", binary.display()))
    }
}

/// A running program that is killed when this process ends.
pub(crate) struct Wrapped {
    pub(crate) pid: u32,
    wrapper: Child,
    /// When it is closed, the wrapper knows that this process has ended.
    _alive: ChildStdin,
}

impl Wrapped {
    /// Runs a program with its output in `log`. `directory` is removed if this process ends before the program.
    pub(crate) fn start(directory: &Path, log: &Path, command: &[String]) -> Self {
        let mut wrapper = Command::new("sh")
            .args(["-c", WRAPPER, "kafka-wrapper"])
            .arg(directory)
            .arg(log)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A process group of its own, so that a ^C to the tests leaves the wrapper alive to clean up.
            .process_group(0)
            .spawn()
            .expect("cannot start sh for the broker");
        let alive = wrapper.stdin.take().expect("stdin of the broker's wrapper is piped");
        let stdout = wrapper.stdout.take().expect("stdout of the broker's wrapper is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the broker's wrapper tells the process id");
        let pid = line.trim().parse().expect("the broker's wrapper tells the process id");
        Self { pid, wrapper, _alive: alive }
    }

    /// Whether it has ended. While it has not, `pid` is the program's: the wrapper reaps it and ends at once.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.wrapper.try_wait().expect("the wrapper is a child of ours").is_some()
    }
}

/// Through sh, which has `kill` built in where no `kill` is installed. A process that is gone already is fine.
pub(crate) fn signal(pid: u32, name: &str) {
    let script = format!("kill -{name} {pid}");
    let _ = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status();
}
