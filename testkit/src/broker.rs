//! A real Apache Kafka for tests: one node in a JVM of its own, made from what `tests/kafka/fetch.sh` puts into
//! `target/kafka`.

use std::{
    fmt,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    files::{read_lossy, tail, write},
    java::{broker_arguments, cluster_id, ensure_fetched, format_storage},
    process::{Wrapped, signal},
    random::random,
    run_dir::RunDir,
};

/// A broker that takes longer has failed.
const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

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
    pub(crate) process: Option<Wrapped>,
    bootstrap: String,
    log: PathBuf,
    starts: u32,
    pub(crate) run: RunDir,
    heap: String,
}

/// Why a start failed, as far as that decides what to do next.
pub(crate) enum StartFailure {
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
    pub(crate) fn on(run: RunDir, bootstrap: String, heap: String) -> Self {
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

    /// The file with the first records of a partition.
    pub fn first_segment(&self, topic: &str, partition: i32) -> PathBuf {
        self.run.path().join(format!("data/{topic}-{partition}/00000000000000000000.log"))
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

    pub(crate) fn launch(&mut self) -> Result<(), StartFailure> {
        self.starts += 1;
        self.log = self.run.path().join(format!("broker-{}.log", self.starts));
        write(&self.log, "");
        let mut command = vec!["java".to_owned()];
        command.extend(self.heap.split_whitespace().map(str::to_owned));
        command.extend(broker_arguments(self.run.path()));
        command.extend(["-Dkafka.log.level=info".to_owned(), "kafka.Kafka".to_owned()]);
        command.push(self.run.path().join("server.properties").display().to_string());
        self.process = Some(Wrapped::start(self.run.path(), &self.log, &command));

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
            let exited = process.has_ended();
            if !exited && started.elapsed() < START_WITHIN {
                continue;
            }
            let log = read_lossy(&self.log);
            if log.contains("Address already in use") {
                return Err(StartFailure::PortTaken);
            }
            let what = if exited { "ended while it started" } else { "has not started" };
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
        while !process.has_ended() {
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
pub(crate) fn with_common_properties(mut properties: String, more: &[(&str, &str)]) -> String {
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

/// Below the ephemeral range, so port 0 never gives it. Otherwise a client that reconnects while the broker restarts
/// could get that port as its own.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
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
