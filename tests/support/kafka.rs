//! A real Apache Kafka for tests ([`Broker`]), and Java's own client to compare with ([`Oracle`]).
//!
//! Both are JVMs made from what `tests/kafka/fetch.sh` puts into `target/kafka`. All calls block; a test on a
//! current-thread runtime that needs its other tasks meanwhile wraps them in `spawn_blocking`.
//!
//! ```no_run
//! let broker = kafka::shared_broker();
//! let oracle = kafka::shared_oracle();
//! let topic = kafka::unique_topic("orders");
//! oracle.create(broker.bootstrap(), &topic, 10, 1, &[("cleanup.policy", "compact")])?;
//! ```
//!
//! No broker outlives its test process, however that ends: see [`WRAPPER`].

#![allow(dead_code, unused_imports, reason = "a binary that includes this uses the part that it needs")]

#[path = "cluster.rs"]
mod cluster;
#[path = "oracle.rs"]
mod oracle;
#[path = "proxy.rs"]
mod proxy;

pub use cluster::*;
pub use oracle::*;
pub use proxy::*;

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tempfile::TempDir;

/// A broker that takes longer has failed.
const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// Runs the broker as its child, and kills it when stdin ends. The kernel closes stdin when the test process ends in
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

/// Fetches Kafka and compiles the oracle, once a process.
///
/// # Panics
/// With what to install or what failed, if that isn't possible.
pub fn ensure_fetched() {
    static FETCHED: OnceLock<Result<(), String>> = OnceLock::new();
    let fetched = FETCHED.get_or_init(|| {
        let script = kafka_tests().join("fetch.sh");
        let output = Command::new(&script)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run {}: {error}", script.display()))?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
    if let Err(message) = fetched {
        panic!("no Kafka to test with: {message}");
    }
}

/// One broker for the whole process, for tests that do not stop it and that ignore topics of other tests.
pub fn shared_broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(Broker::start)
}

/// A topic name that no other test, run or process uses.
pub fn unique_topic(prefix: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{count}-{:06x}", std::process::id(), random() & 0xff_ffff)
}

/// One KRaft node with its own ports and directory: broker and controller in one, or a part of a [`Cluster`].
///
/// Methods that disturb it take `&mut self`, so that no test disturbs the shared one. Its heap is 512 MiB, or as
/// `KAFKA_HEAP_OPTS` sets it.
pub struct Broker {
    process: Option<BrokerProcess>,
    bootstrap: String,
    log: PathBuf,
    starts: u32,
    run: RunDir,
    heap: String,
}

struct BrokerProcess {
    pid: u32,
    wrapper: Child,
    /// When it is closed, the wrapper knows that this process has ended.
    _alive: ChildStdin,
}

/// Why a start failed, as far as that decides what to do next.
enum StartFailure {
    PortTaken,
    Other(String),
}

impl Broker {
    /// # Panics
    /// If no broker runs within a minute; with the end of its log.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts it with these properties. They are added to those in [`server_properties`], or replace them. `{port}` and
    /// `{controller}` in them stand for its ports.
    ///
    /// # Panics
    /// As [`Broker::start`].
    pub fn start_with(properties: &[(&str, &str)]) -> Self {
        ensure_fetched();
        for _ in 0..5 {
            let run = RunDir::create();
            let [port, controller_port] = free_ports();
            let text = server_properties(run.path(), port, controller_port, properties)
                .replace("{port}", &port.to_string())
                .replace("{controller}", &controller_port.to_string());
            write(&run.path().join("server.properties"), &text);
            format_storage(run.path(), &cluster_id(), &["--standalone"]);
            let heap = std::env::var("KAFKA_HEAP_OPTS").unwrap_or_else(|_| "-Xms512m -Xmx512m".to_owned());
            let mut broker = Self::on(run, format!("127.0.0.1:{port}"), heap);
            match broker.launch() {
                Ok(()) => return broker,
                // Another process took the port between our check and the broker's bind.
                Err(StartFailure::PortTaken) => {}
                Err(StartFailure::Other(message)) => panic!("{message}"),
            }
        }
        panic!("kafka found its ports taken five times in a row");
    }

    /// Not started yet, in a directory that is formatted, with `server.properties` that listen where `bootstrap` says.
    fn on(run: RunDir, bootstrap: String, heap: String) -> Self {
        Self { process: None, bootstrap, log: PathBuf::new(), starts: 0, run, heap }
    }

    /// `127.0.0.1:port`, for `bootstrap.servers`; stays the same over restarts.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The version that the running broker logged.
    pub fn version(&self) -> String {
        let log = read_lossy(&self.log);
        let version = log.split("Kafka version: ").nth(1);
        let version = version.and_then(|rest| rest.split_whitespace().next());
        version.unwrap_or("unknown").to_owned()
    }

    /// The JVM's process id.
    ///
    /// # Panics
    /// If it doesn't run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the broker is not running").pid
    }

    /// The end of the broker's log, for a test's own failure message.
    pub fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// Ends it without a shutdown (SIGKILL). Idempotent.
    pub fn kill(&mut self) {
        self.end("KILL");
    }

    /// Lets it shut down in order (SIGTERM). Idempotent.
    pub fn stop(&mut self) {
        self.resume();
        self.end("TERM");
    }

    /// Freezes it (SIGSTOP): connections stay open and get no answers.
    pub fn pause(&mut self) {
        signal(self.pid(), "STOP");
    }

    /// Continues after [`Broker::pause`].
    pub fn resume(&mut self) {
        if let Some(process) = &self.process {
            signal(process.pid, "CONT");
        }
    }

    /// Starts it again on the same directory and ports, after a [`Broker::stop`] if it runs. After a [`Broker::kill`]
    /// it takes three seconds more: the controller keeps the old session until it times out.
    ///
    /// # Panics
    /// As [`Broker::start`].
    pub fn restart(&mut self) {
        self.stop();
        match self.launch() {
            Ok(()) => {}
            Err(StartFailure::PortTaken) => panic!("another process took {} before the restart", self.bootstrap),
            Err(StartFailure::Other(message)) => panic!("{message}"),
        }
    }

    fn launch(&mut self) -> Result<(), StartFailure> {
        self.starts += 1;
        self.log = self.run.path().join(format!("broker-{}.log", self.starts));
        write(&self.log, "");
        let mut wrapper = Command::new("sh")
            .args(["-c", WRAPPER, "kafka-wrapper"])
            .arg(self.run.path())
            .arg(&self.log)
            .arg("java")
            .args(self.heap.split_whitespace())
            .args(jvm_arguments(self.run.path()))
            .args(["-Dkafka.log.level=info", "kafka.Kafka"])
            .arg(self.run.path().join("server.properties"))
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
        self.process = Some(BrokerProcess { pid, wrapper, _alive: alive });

        self.wait_until_started().inspect_err(|_| self.end("KILL"))
    }

    fn wait_until_started(&mut self) -> Result<(), StartFailure> {
        let started = Instant::now();
        loop {
            thread::sleep(POLL);
            if read_lossy(&self.log).contains("Kafka Server started") && TcpStream::connect(&self.bootstrap).is_ok() {
                return Ok(());
            }
            let process = self.process.as_mut().expect("launch has set the process");
            let exited = process.wrapper.try_wait().expect("the wrapper is a child of ours");
            if exited.is_none() && started.elapsed() < START_WITHIN {
                continue;
            }
            let log = read_lossy(&self.log);
            if log.contains("Address already in use") {
                return Err(StartFailure::PortTaken);
            }
            let what = if exited.is_some() { "ended while it started" } else { "has not started" };
            return Err(StartFailure::Other(format!(
                "kafka {what}, after {:.1} s; the end of its log:\n{}",
                started.elapsed().as_secs_f64(),
                tail(&self.log)
            )));
        }
    }

    fn end(&mut self, how: &str) {
        let Some(mut process) = self.process.take() else { return };
        let since = Instant::now();
        let mut how = how;
        // The wrapper reaps the broker and ends at once, so while it runs the id is the broker's.
        while process.wrapper.try_wait().expect("the wrapper is a child of ours").is_none() {
            if !how.is_empty() {
                signal(process.pid, how);
                how = "";
            } else if since.elapsed() > STOP_WITHIN {
                signal(process.pid, "KILL");
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broker({})", self.bootstrap)
    }
}

/// The settings of a test broker that is its own controller, unless the test gives others.
fn server_properties(run: &Path, port: u16, controller_port: u16, more: &[(&str, &str)]) -> String {
    let node = format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={}
",
        run.join("data").display()
    );
    with_common_properties(node, more)
}

/// The settings of every test broker, after those of this one.
fn with_common_properties(mut properties: String, more: &[(&str, &str)]) -> String {
    properties.push_str(
        "# On, to show that it isn't us who create topics.
auto.create.topics.enable=true
num.partitions=1

# One node holds all of the internal topics, and one partition of each is there sooner.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0

# What a cluster does in minutes happens while a test looks on.
log.cleaner.enable=true
log.cleaner.backoff.ms=200
log.initial.task.delay.ms=200
log.retention.check.interval.ms=200
log.segment.delete.delay.ms=200
transaction.abort.timed.out.transaction.cleanup.interval.ms=200

# The default is a quarter of the heap.
log.cleaner.dedupe.buffer.size=8388608

# How long a killed broker is kept out for; a stall of this machine should not look like a death.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
",
    );
    for (name, value) in more {
        properties.push_str(&format!("{name}={value}\n"));
    }
    properties
}

fn cluster_id() -> String {
    let mut id = [random().to_be_bytes(), random().to_be_bytes()].concat();
    id[0] &= 0x3f; // a leading dash would look like an option
    URL_SAFE_NO_PAD.encode(id)
}

fn format_storage(run: &Path, cluster_id: &str, more: &[&str]) {
    let output = Command::new("java")
        .args(["-Xmx128m", "-XX:TieredStopAtLevel=1"])
        .args(jvm_arguments(run))
        .args(["kafka.tools.StorageTool", "format", "--cluster-id", cluster_id])
        .args(more)
        .arg("--config")
        .arg(run.join("server.properties"))
        .stdin(Stdio::null())
        .output()
        .expect("cannot run java");
    assert!(
        output.status.success(),
        "kafka's StorageTool could not format {}: {}{}",
        run.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Common to every JVM here. `run` holds the files that it would leave in `/tmp`.
fn jvm_arguments(run: &Path) -> Vec<String> {
    vec![
        "-XX:-UsePerfData".to_owned(),
        "-Djava.awt.headless=true".to_owned(),
        format!("-Djava.io.tmpdir={}", run.display()),
        format!("-Dlog4j2.configurationFile={}", kafka_tests().join("log4j2.properties").display()),
        "-cp".to_owned(),
        format!("{0}/classes:{0}/libs/*", kafka_target().display()),
    ]
}

/// A directory under `target/kafka/runs`, removed when this value is dropped. If this process ends before, the wrapper
/// or a later run removes it.
struct RunDir {
    dir: TempDir,
    /// Locked for as long as this process lives, so that other processes know that the directory is in use.
    lock: File,
}

impl RunDir {
    fn create() -> Self {
        let runs = kafka_target().join("runs");
        fs::create_dir_all(&runs).unwrap_or_else(|error| panic!("cannot create {}: {error}", runs.display()));
        let all = open_lock(&runs.join("lock"));
        all.lock().expect("cannot lock the directory of runs");
        sweep(&runs);
        let dir = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(&runs)
            .unwrap_or_else(|error| panic!("cannot create a directory in {}: {error}", runs.display()));
        let lock = open_lock(&lock_path(dir.path()));
        lock.lock().expect("cannot lock a new run's directory");
        Self { dir, lock }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // Another process may remove a directory without a lock file, so the file is removed last.
        let _ = fs::remove_dir_all(self.dir.path());
        let _ = fs::remove_file(lock_path(self.dir.path()));
    }
}

/// Removes the directories of processes that ended together with their wrappers.
fn sweep(runs: &Path) {
    let names: BTreeSet<_> = fs::read_dir(runs)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().with_extension(""))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("run-")))
        .collect();
    for dir in names {
        if open_lock(&lock_path(&dir)).try_lock().is_err() {
            continue; // its process lives
        }
        let pid = read_lossy(&dir.join("pid"));
        let command_line = read_lossy(&Path::new("/proc").join(pid.trim()).join("cmdline"));
        if let Ok(pid) = pid.trim().parse()
            && command_line.contains(&*dir.to_string_lossy())
        {
            signal(pid, "KILL");
        }
        let _ = fs::remove_dir_all(&dir);
        let _ = fs::remove_file(lock_path(&dir));
    }
}

fn lock_path(dir: &Path) -> PathBuf {
    dir.with_extension("lock")
}

fn open_lock(path: &Path) -> File {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()))
}

/// Below the ephemeral range, so port 0 never gives it. Otherwise a client that reconnects while the broker restarts
/// could get that port as its own.
fn free_ports<const N: usize>() -> [u16; N] {
    let mut taken = Vec::new(); // held until all are found, so that they differ
    for _ in 0..1_000 {
        let port = 20_000 + (random() % 12_000) as u16;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            taken.push((port, listener));
        }
        if taken.len() == N {
            return std::array::from_fn(|i| taken[i].0);
        }
    }
    panic!("no {N} free ports between 20000 and 32000 on 127.0.0.1");
}

fn random() -> u64 {
    RandomState::new().hash_one(Instant::now())
}

/// Through sh, which has `kill` built in where no `kill` is installed. A process that is gone already is fine.
fn signal(pid: u32, name: &str) {
    let script = format!("kill -{name} {pid}");
    let _ = Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status();
}

/// The workspace's directory. More than one of its packages compiles this file.
pub fn workspace() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().find(|directory| directory.join("Cargo.lock").exists()).expect("a workspace has a lock file")
}

fn kafka_tests() -> PathBuf {
    workspace().join("tests/kafka")
}

fn kafka_target() -> PathBuf {
    workspace().join("target/kafka")
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn tail(path: &Path) -> String {
    let text = read_lossy(path);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(80)..].join("\n")
}
