//! The release binary under test, as a process with default settings. So it writes a log line for each call. The lines
//! go straight to a file, which costs this process nothing while it measures.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use changelogd::proto::v1::changelog_service_client::ChangelogServiceClient;
use changelogd_testkit::{binary_under_test, workspace_root};
use tokio::{
    process::{Child, Command},
    time::{interval, sleep},
};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// The target of the Makefile that builds the binary to measure.
pub const TARGET: &str = "make bench";

pub type Client = ChangelogServiceClient<Channel>;

/// The directory of the servers' log lines, below the workspace. They stay there until the next run.
pub const LOGS: &str = "target/tmp/bench-logs";
const SERVES_WITHIN: Duration = Duration::from_secs(30);
const READY_WITHIN: Duration = Duration::from_secs(60);
/// A larger log file is emptied, because writing it to the disk later would disturb an fsync.
const KEPT_LOG: u64 = 32 * 1024 * 1024;

/// A running sidecar. It ends when this is dropped.
pub struct Sidecar {
    child: Child,
    api: String,
}

/// The binary to measure. There is no default, because a debug build would be measured by mistake. `main` has checked
/// that there is one.
pub fn binary() -> PathBuf {
    binary_under_test(TARGET).unwrap_or_else(|error| panic!("{error}"))
}

/// A directory on disk for this run, under target/.
pub fn scratch() -> PathBuf {
    let directory = workspace_root().join("target/tmp");
    fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("cannot make {}: {error}", directory.display()));
    directory
}

impl Sidecar {
    /// Returns when it says that it serves. Kafka may still be unreachable then.
    pub async fn start(arguments: &[String]) -> Result<Self, String> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let logs = workspace_root().join(LOGS);
        let log = logs.join(format!("sidecar-{}.log", STARTED.fetch_add(1, Relaxed)));
        let file = fs::create_dir_all(&logs).and_then(|()| File::options().create(true).append(true).open(&log));
        let file = file.map_err(|error| format!("{}: {error}", log.display()))?;
        file.set_len(0).map_err(|error| error.to_string())?;
        let mut child = Command::new(binary())
            .args(["serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json"])
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file.try_clone().map_err(|error| error.to_string())?)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", binary().display()))?;
        let started = Instant::now();
        let api = loop {
            if let Some(api) = serving(&log) {
                break api;
            }
            if started.elapsed() > SERVES_WITHIN || child.try_wait().is_ok_and(|ended| ended.is_some()) {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(format!(
                    "the sidecar does not serve: {}",
                    said.lines().last().unwrap_or("it said nothing")
                ));
            }
            sleep(Duration::from_millis(1)).await;
        };
        tokio::spawn(async move {
            // This task ends with the runtime.
            let mut each = interval(Duration::from_secs(1));
            loop {
                each.tick().await;
                if file.metadata().is_ok_and(|metadata| metadata.len() > KEPT_LOG) {
                    let _ = file.set_len(0);
                }
            }
        });
        Ok(Self { child, api })
    }

    /// Waits until it says that writes and loads are possible. Writes nothing.
    pub async fn ready(&self) -> Result<(), String> {
        let started = Instant::now();
        let mut health = HealthClient::new(endpoint(&self.api).connect_lazy());
        loop {
            let request = HealthCheckRequest { service: "readiness".to_owned() };
            match health.check(request).await.map(|answer| answer.into_inner().status()) {
                Ok(ServingStatus::Serving) => return Ok(()),
                _ if started.elapsed() < READY_WITHIN => sleep(Duration::from_millis(20)).await,
                Ok(status) => return Err(format!("the sidecar is {}; see {LOGS}", status.as_str_name())),
                Err(status) => return Err(format!("the sidecar does not answer: {status}; see {LOGS}")),
            }
        }
    }

    /// host:port of the API.
    pub fn address(&self) -> &str {
        &self.api
    }

    /// A client with a connection of its own, made at the first call.
    pub fn client(&self) -> Client {
        client(&self.api)
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Threads and open files, now.
    pub fn threads_and_files(&self) -> (usize, usize) {
        let count = |what: &str| fs::read_dir(format!("/proc/{}/{what}", self.pid())).map_or(0, Iterator::count);
        (count("task"), count("fd"))
    }
}

/// The address, when the log has it.
fn serving(log: &Path) -> Option<String> {
    let said = fs::read_to_string(log).ok()?;
    let line = said.lines().find(|line| line.contains("\"serving\""))?;
    Some(serde_json::from_str::<serde_json::Value>(line).ok()?["api"].as_str()?.to_owned())
}

fn endpoint(address: &str) -> Endpoint {
    Endpoint::from_shared(format!("http://{address}")).expect("an address")
}

/// As [`Sidecar::client`], to any address.
pub fn client(address: &str) -> Client {
    Client::new(endpoint(address).connect_lazy()).max_decoding_message_size(usize::MAX)
}

/// A request with a deadline.
pub fn limited<T>(message: T, seconds: u64) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(Duration::from_secs(seconds));
    request
}
