//! The systems whose watch stands next to changelogd's: etcd and nats-server, as processes with default settings, on
//! loopback and with their data on disk. `tools/build.sh bench` builds them.

use std::{
    fs::{self, File},
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use changelogd_testkit::workspace_root;
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use super::sidecar::LOGS;

/// etcd elects itself first, which takes a second or two.
const SERVES_WITHIN: Duration = Duration::from_secs(30);
/// How often etcd finds its ports taken before that is an error.
const TRIES: usize = 5;

/// A running server. It ends when this is dropped.
pub struct Peer {
    _child: Child,
    address: String,
}

/// A program that `tools/build.sh bench` has built.
pub fn program(name: &str) -> PathBuf {
    workspace_root().join("target/tools/bin").join(name)
}

/// The number at the end of the first line that the program's `--version` prints.
pub fn version(name: &str) -> String {
    let said = std::process::Command::new(program(name)).arg("--version").output();
    let said = said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let word = said.lines().next().and_then(|line| line.split_whitespace().last());
    word.map_or_else(|| "of an unknown version".to_owned(), |word| word.trim_start_matches('v').to_owned())
}

impl Peer {
    /// One member. It does not say which port it has if it is given port 0, so the ports are chosen here.
    pub async fn etcd(directory: &Path) -> Result<Self, String> {
        let mut failed = String::new();
        for _ in 0..TRIES {
            let [client, peer] = free_ports().map_err(|error| error.to_string())?;
            let (client, peer) = (format!("127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
            let arguments = [
                format!("--data-dir={}", directory.display()),
                format!("--listen-client-urls=http://{client}"),
                format!("--advertise-client-urls=http://{client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=default={peer}"),
            ];
            let serves = |said: &str| said.contains("ready to serve client requests").then(|| client.clone());
            match Self::start("etcd", &arguments, serves).await {
                // Another process took the port between our check and the bind.
                Err(reason) if reason.contains("address already in use") => failed = reason,
                other => return other,
            }
        }
        Err(failed)
    }

    /// One server with JetStream.
    pub async fn nats(directory: &Path) -> Result<Self, String> {
        let arguments = ["--addr=127.0.0.1", "--port=-1", "--jetstream"].map(str::to_owned).into_iter();
        let arguments: Vec<_> = arguments.chain([format!("--store_dir={}", directory.display())]).collect();
        let serves = |said: &str| {
            let address = said.split("Listening for client connections on ").nth(1)?.lines().next()?;
            said.contains("Server is ready").then(|| address.trim().to_owned())
        };
        Self::start("nats-server", &arguments, serves).await
    }

    /// Returns when its log says that it serves. `serves` then gives the address.
    async fn start(name: &str, arguments: &[String], serves: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let (program, log) = (program(name), workspace_root().join(LOGS).join(format!("{name}.log")));
        let file = fs::create_dir_all(workspace_root().join(LOGS)).and_then(|()| File::create(&log));
        let file = file.map_err(|error| format!("{}: {error}", log.display()))?;
        let mut child = Command::new(&program)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(file.try_clone().map_err(|error| error.to_string())?)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}; tools/build.sh bench builds it", program.display()))?;
        let started = Instant::now();
        loop {
            let said = fs::read_to_string(&log).unwrap_or_default();
            if let Some(address) = serves(&said) {
                return Ok(Self { _child: child, address });
            }
            if started.elapsed() > SERVES_WITHIN || child.try_wait().is_ok_and(|ended| ended.is_some()) {
                let last = said.lines().last().unwrap_or("it said nothing");
                return Err(format!("{name} does not serve: {last}; see {LOGS}"));
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// host:port
    pub fn address(&self) -> &str {
        &self.address
    }
}

fn free_ports() -> io::Result<[u16; 2]> {
    // Both are held until both are found, so that they differ.
    let listeners = [TcpListener::bind(("127.0.0.1", 0))?, TcpListener::bind(("127.0.0.1", 0))?];
    Ok([listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()])
}
