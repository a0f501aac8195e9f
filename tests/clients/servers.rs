//! What the tests of a package call: changelogd on the embedded store, on a Unix socket and on Apache Kafka, both
//! stores with opaque values, and the scripted server.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use changelogd_testkit::{Broker, binary_under_test, unique_topic};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{log::Log, scripted};

/// The target of the Makefile that builds the binary under test.
pub const TARGET: &str = "make clients";

const ON_A_PORT: &str = "127.0.0.1:0";
const READY_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// A client that reads nothing is to be ended soon.
const OPAQUE: [&str; 2] = ["--values=opaque", "--client-stall-timeout=2s"];

/// All servers. They end when this is dropped, in this order.
pub struct Servers {
    _changelogd: [Sidecar; 5],
    _scripted: scripted::Server,
    _broker: Broker,
    _directory: TempDir,
    /// The variables by which tests find the servers.
    pub variables: [(&'static str, String); 6],
}

impl Servers {
    pub async fn start() -> Result<Self, String> {
        // Not below target/, because the path of a Unix socket has at most 107 bytes.
        let directory = tempfile::tempdir().map_err(|error| format!("no directory: {error}"))?;
        let path = |name| directory.path().join(name).display().to_string();
        let socket = path("api.sock");
        let embedded = |name, listen: &str, more: &[&str]| {
            let fixed = [format!("--listen={listen}"), format!("--data-dir={}", path(name))];
            let arguments = fixed.into_iter().chain(more.iter().map(|flag| (*flag).to_owned())).collect::<Vec<_>>();
            async move { Sidecar::start(name, &arguments).await }
        };
        let (on_port, unix, opaque, (kafka, opaque_kafka, broker), scripted) = tokio::try_join!(
            embedded("embedded", ON_A_PORT, &[]),
            embedded("unix", &format!("unix:{socket}"), &[]),
            embedded("opaque", ON_A_PORT, &OPAQUE),
            on_kafka(),
            async { scripted::Server::start().await.map_err(|error| format!("the scripted server: {error}")) },
        )?;
        let variables = [
            ("CHANGELOGD_TEST_EMBEDDED", on_port.api.clone()),
            ("CHANGELOGD_TEST_ON_KAFKA", kafka.api.clone()),
            ("CHANGELOGD_TEST_OPAQUE", opaque.api.clone()),
            ("CHANGELOGD_TEST_OPAQUE_ON_KAFKA", opaque_kafka.api.clone()),
            ("CHANGELOGD_TEST_UNIX", socket),
            ("CHANGELOGD_TEST_SCRIPTED", scripted.address.to_string()),
        ];
        Ok(Self {
            _changelogd: [on_port, unix, opaque, kafka, opaque_kafka],
            _scripted: scripted,
            _broker: broker,
            _directory: directory,
            variables,
        })
    }

    /// The address of the changelogd on the embedded store.
    pub fn embedded(&self) -> &str {
        &self.variables[0].1
    }
}

/// The second one has opaque values.
async fn on_kafka() -> Result<(Sidecar, Sidecar, Broker), String> {
    let broker = spawn_blocking(Broker::start).await.map_err(|error| format!("no Kafka: {error}"))?;
    let arguments = |more: &[&str]| {
        let topic = format!("--topic={}", unique_topic("clients"));
        let fixed = [format!("--listen={ON_A_PORT}"), format!("--brokers={}", broker.bootstrap()), topic];
        let create = ["--create-topic", "--create-topic-replication-factor=1"];
        let flags = create.iter().chain(more).map(|flag| (*flag).to_owned());
        fixed.into_iter().chain(flags).collect::<Vec<_>>()
    };
    let (plain, opaque) = (arguments(&[]), arguments(&OPAQUE));
    let (plain, opaque) = tokio::try_join!(Sidecar::start("kafka", &plain), Sidecar::start("opaque-kafka", &opaque))?;
    Ok((plain, opaque, broker))
}

/// A changelogd that is ready. It is killed when this is dropped.
struct Sidecar {
    _child: Child,
    api: String,
}

impl Sidecar {
    async fn start(name: &str, arguments: &[String]) -> Result<Self, String> {
        let binary = binary_under_test(TARGET)?;
        let log = Log::create(format!("servers/{name}.log"))?;
        let mut child = Command::new(&binary)
            .args(["serve", "--admin-listen=off", "--log-format=json"])
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.writer().map_err(|error| format!("{}: {error}", log.path.display()))?)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
        let ready = async {
            let api = loop {
                if let Some(api) = serving(&log.text()) {
                    break api;
                }
                if child.try_wait().is_ok_and(|ended| ended.is_some()) {
                    return Err("it has ended".to_owned());
                }
                sleep(POLL).await;
            };
            while !is_ready(&binary, &api).await? {
                sleep(POLL).await;
            }
            Ok(api)
        };
        let began = Instant::now();
        match timeout(READY_WITHIN, ready).await.unwrap_or_else(|_| Err(format!("after {:?}", began.elapsed()))) {
            Ok(api) => Ok(Self { _child: child, api }),
            Err(why) => Err(format!("changelogd is not ready: {why}; see {}", log.path.display())),
        }
    }
}

/// The address in the line that says that it serves.
fn serving(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("\"serving\""))?;
    Some(serde_json::from_str::<serde_json::Value>(line).ok()?["api"].as_str()?.to_owned())
}

async fn is_ready(binary: &Path, api: &str) -> Result<bool, String> {
    let mut health = Command::new(binary);
    health.args(["health", "--addr", api]).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = health.kill_on_drop(true).status().await;
    Ok(status.map_err(|error| format!("cannot run {}: {error}", binary.display()))?.success())
}
