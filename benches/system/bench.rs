//! What the benchmarks share: the report, one broker, topics, sidecars, and the number of rounds.

use std::{
    panic::catch_unwind,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use changelog_core::model::PartitionCount;
use changelog_kafka::{
    Settings,
    admin::{self, TopicSpec},
};
use changelogd_testkit::{Broker, unique_topic};
use tempfile::TempDir;
use tokio::{task::block_in_place, time::sleep};

use super::{
    data::{Entity, entities},
    producers,
    report::Report,
    sidecar::{Sidecar, binary, scratch},
};

/// The memory that all replays of a sidecar may hold. It is the default, given as a flag so that a control group's
/// limit has no effect.
pub const REPLAY_MEMORY: u64 = 512 * 1024 * 1024;
/// Remains of a measurement (threads that end, memory that is freed) must not disturb the next one.
const SETTLE: Duration = Duration::from_millis(50);

/// A filled topic.
#[derive(Debug, Clone)]
pub struct Topic {
    pub name: String,
    pub partitions: i32,
    pub records: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

impl Topic {
    /// The description for the report.
    pub fn shown(&self) -> String {
        format!("{} records ({:.0} MB)", self.records, self.bytes as f64 / 1e6)
    }
}

pub struct Bench {
    pub report: Report,
    pub short: bool,
    /// The number of pairs of each row.
    pub rounds: usize,
    broker: OnceLock<Result<Broker, String>>,
    large: Option<Topic>,
    small: Option<Topic>,
    directory: TempDir,
}

impl Bench {
    pub fn new(short: bool, plots: PathBuf) -> Self {
        let directory = tempfile::Builder::new().prefix("bench-").tempdir_in(scratch());
        Self {
            report: Report::new(plots),
            short,
            rounds: if short { 5 } else { 11 },
            broker: OnceLock::new(),
            large: None,
            small: None,
            directory: directory.expect("a directory under target/"),
        }
    }

    /// The first number in a whole run, the second in a short one.
    pub fn number(&self, whole: usize, short: usize) -> usize {
        if self.short { short } else { whole }
    }

    /// A directory on disk, next to the binary.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts it at the first use, so that rows without a broker run where there is no Java.
    fn broker(&self) -> Result<&Broker, String> {
        let start = || {
            block_in_place(|| {
                // The tests' broker runs maintenance very often. Here it must not run during a measurement.
                catch_unwind(|| {
                    Broker::start_with(&[
                        ("log.cleaner.backoff.ms", "15000"),
                        ("log.initial.task.delay.ms", "30000"),
                        ("log.retention.check.interval.ms", "300000"),
                    ])
                })
                .map_err(|panic| {
                    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "the broker does not start".to_owned())
                })
            })
        };
        self.broker.get_or_init(start).as_ref().map_err(Clone::clone)
    }

    pub fn bootstrap(&self) -> Result<String, String> {
        Ok(self.broker()?.bootstrap().to_owned())
    }

    /// None if no row needed a broker.
    pub fn kafka_version(&self) -> Option<String> {
        self.broker.get()?.as_ref().ok().map(Broker::version)
    }

    /// An empty topic, made as `changelogd topic ensure` makes it.
    pub async fn empty_topic(&self, partitions: i32) -> Result<Topic, String> {
        let name = unique_topic("bench");
        let settings = Settings::new(self.bootstrap()?, &name);
        let spec = TopicSpec::new(PartitionCount::new(partitions.into()));
        admin::ensure(&settings, &spec).await.map_err(|error| error.to_string())?;
        Ok(Topic { name, partitions, records: 0, bytes: 0 })
    }

    /// A topic with these in it, in full batches.
    pub async fn topic(&self, partitions: i32, entities: impl Iterator<Item = Entity>) -> Result<Topic, String> {
        let mut topic = self.empty_topic(partitions).await?;
        let started = Instant::now();
        let (records, bytes) =
            block_in_place(|| producers::fill(&self.bootstrap()?, &topic.name, partitions, entities))?;
        (topic.records, topic.bytes) = (records, bytes);
        println!("filled {} in {:.1} s", topic.shown(), started.elapsed().as_secs_f64());
        Ok(topic)
    }

    /// One partition of 200,000 records in 100 workspaces.
    pub async fn large(&mut self) -> Result<Topic, String> {
        if self.large.is_none() {
            let records = self.number(200_000, 20_000);
            self.large = Some(self.topic(1, entities(100, records, 1, 200)).await?);
        }
        self.large.clone().ok_or_else(|| unreachable!("set above"))
    }

    /// One partition of 1,800 records in 18 workspaces.
    pub async fn small(&mut self) -> Result<Topic, String> {
        if self.small.is_none() {
            self.small = Some(self.topic(1, entities(18, 1_800, 1, 200)).await?);
        }
        self.small.clone().ok_or_else(|| unreachable!("set above"))
    }

    /// A sidecar on a topic, ready. It has written nothing.
    pub async fn sidecar(&self, topic: &Topic, more: &[&str]) -> Result<Sidecar, String> {
        let mut arguments = vec![
            format!("--brokers={}", self.bootstrap()?),
            format!("--topic={}", topic.name),
            format!("--partitions={}", topic.partitions),
            format!("--replay-memory={REPLAY_MEMORY}"),
        ];
        arguments.extend(more.iter().map(ToString::to_string));
        Self::ready(&arguments).await
    }

    /// A sidecar on an embedded store of its own, ready.
    pub async fn embedded(&self, directory: &Path) -> Result<Sidecar, String> {
        Self::ready(&[format!("--data-dir={}", directory.display())]).await
    }

    async fn ready(arguments: &[String]) -> Result<Sidecar, String> {
        let sidecar = Sidecar::start(arguments).await?;
        sidecar.ready().await?;
        Ok(sidecar)
    }
}

/// Whether the `serve` command of the binary has a flag, and of which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    Missing,
    /// It takes no value.
    Switch,
    /// It takes one.
    Setting,
}

/// Asks the binary.
pub fn flag(name: &str) -> Flag {
    let help = std::process::Command::new(binary()).args(["serve", "--help"]).output();
    let help = help.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let after = help.lines().find_map(|line| line.trim().strip_prefix(name));
    match after.map(str::trim_start) {
        None => Flag::Missing,
        Some(rest) if rest.starts_with(['<', '[', '=']) => Flag::Setting,
        Some(_) => Flag::Switch,
    }
}

/// Milliseconds.
pub fn ms(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

/// See [`SETTLE`].
pub async fn settle() {
    sleep(SETTLE).await;
}
