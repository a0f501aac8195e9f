//! A changelogd under test: the real binary, as a process, with its log kept in a file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use changelogd::proto::v1::{self, changelog_service_client::ChangelogServiceClient};
use changelogd_testkit::binary_under_test;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};
use tonic::transport::{Channel, Endpoint};

/// The target of the Makefile that builds the binary to test.
pub const TARGET: &str = "make campaign";

pub type Client = ChangelogServiceClient<Channel>;

pub struct Sidecar {
    child: Child,
    pub api: String,
    pub admin: String,
    /// The file with its log lines.
    pub log: PathBuf,
    arguments: Vec<String>,
}

/// The binary to test. `main` has checked that there is one.
pub fn binary() -> PathBuf {
    binary_under_test(TARGET).unwrap_or_else(|error| panic!("{error}"))
}

impl Sidecar {
    /// Returns when it serves. Kafka may still be unreachable then.
    pub async fn start(log: &Path, arguments: Vec<String>) -> Result<Self, String> {
        let (child, api, admin) = launch(log, &arguments, "127.0.0.1:0").await?;
        Ok(Self { child, api, admin, log: log.to_owned(), arguments })
    }

    /// A client that connects when it must, repeatedly. It notices a half-open connection within three seconds.
    pub fn client(&self) -> Client {
        client(&self.api)
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// SIGKILL.
    #[allow(dead_code, reason = "for faults of the sidecar itself")]
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("killed");
    }

    /// Starts it again on the same address, with the same arguments.
    #[allow(dead_code, reason = "for faults of the sidecar itself")]
    pub async fn restart(&mut self) -> Result<(), String> {
        let _ = self.child.kill().await;
        (self.child, self.api, self.admin) = launch(&self.log, &self.arguments, &self.api).await?;
        Ok(())
    }

    /// The admin port's answer: the code and the body.
    pub async fn http(&self, path: &str) -> Result<(u16, String), String> {
        let ask = async {
            let mut stream = TcpStream::connect(&self.admin).await?;
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = timeout(Duration::from_secs(5), ask).await.map_err(|_| format!("{path}: no answer in 5 s"))?;
        let answer = answer.map_err(|error| format!("{path}: {error}"))?;
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.ok_or_else(|| format!("{path}: answered {answer:?}"))?;
        Ok((code, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
    }

    /// Waits until writes and loads are possible: until it says that it is ready, and a write and a load succeed.
    pub async fn answers(&self, within: Duration) -> Result<Duration, String> {
        let started = Instant::now();
        loop {
            let missing = match self.answers_now().await {
                Ok(()) => return Ok(started.elapsed()),
                Err(missing) => missing,
            };
            if started.elapsed() > within {
                return Err(format!("the sidecar does not answer again after {within:?}: {missing}"));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn answers_now(&self) -> Result<(), String> {
        let (code, body) = self.http("/readyz").await?;
        if code != 200 {
            return Err(body);
        }
        let mut client = self.client();
        // Enough keys for every partition to have one, almost certainly.
        for i in 0..8 {
            let workspace_id = format!("recovery-{i}");
            let set = v1::SetRequest {
                workspace_id: workspace_id.clone(),
                changelog_id: "/t/e".to_owned(),
                value: raw("1"),
                ..Default::default()
            };
            client.set(limited(set, 5)).await.map_err(|status| format!("set: {}", said(&status)))?;
            let load = v1::LoadWorkspaceRequest { workspace_id, ..Default::default() };
            let mut stream =
                client.load_workspace(limited(load, 5)).await.map_err(|s| format!("load: {}", said(&s)))?.into_inner();
            while stream.message().await.map_err(|status| format!("load: {}", said(&status)))?.is_some() {}
        }
        Ok(())
    }

    /// Threads and open files, now.
    pub fn threads_and_files(&self) -> (usize, usize) {
        let count = |what: &str| fs::read_dir(format!("/proc/{}/{what}", self.pid())).map_or(0, Iterator::count);
        (count("task"), count("fd"))
    }

    /// The most memory that it ever had, in MiB.
    pub fn peak_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("VmHWM:"));
        line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) / 1024
    }
}

async fn launch(log: &Path, arguments: &[String], listen: &str) -> Result<(Child, String, String), String> {
    let file =
        fs::File::options().create(true).append(true).open(log).map_err(|e| format!("{}: {e}", log.display()))?;
    let mut child = Command::new(binary())
        .args(["serve", "--admin-listen=127.0.0.1:0", "--log-format=json"])
        .arg(format!("--listen={listen}"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot start {}: {error}", binary().display()))?;
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut file = tokio::fs::File::from_std(file);
    let serving = async {
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = file.write_all(format!("{line}\n").as_bytes()).await;
            if let Ok(line) = serde_json::from_str::<serde_json::Value>(&line)
                && line["message"] == "serving"
            {
                return Ok((
                    line["api"].as_str().unwrap_or("").to_owned(),
                    line["admin"].as_str().unwrap_or("").to_owned(),
                ));
            }
        }
        Err(format!("the sidecar ended before it served, see {}", log.display()))
    };
    let served = timeout(Duration::from_secs(30), serving).await.map_err(|_| "the sidecar does not serve in 30 s")?;
    let (api, admin) = served?;
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let _ = file.write_all(format!("{line}\n").as_bytes()).await;
        }
        let _ = file.flush().await;
    });
    Ok((child, api, admin))
}

/// As [`Sidecar::client`], to any address.
pub fn client(address: &str) -> Client {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let endpoint = endpoint
        .connect_timeout(Duration::from_secs(2))
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(1));
    Client::new(endpoint.connect_lazy()).max_decoding_message_size(usize::MAX)
}

/// A request with a deadline.
pub fn limited<T>(message: T, seconds: u64) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(Duration::from_secs(seconds));
    request
}

pub fn raw(value: &str) -> Option<v1::set_request::Value> {
    Some(v1::set_request::Value::Raw(value.as_bytes().to_vec().into()))
}

/// The reason in our ErrorInfo. None if the status is not ours.
pub fn reason(status: &tonic::Status) -> Option<String> {
    use tonic_types::StatusExt;
    let details = status.get_error_details();
    details.error_info().filter(|i| i.domain == changelogd::proto::DOMAIN).map(|i| i.reason.clone())
}

/// Code and reason, as a table shows them.
pub fn said(status: &tonic::Status) -> String {
    let code = changelogd::proto::code_name(status.code());
    reason(status).map_or_else(|| format!("{code} without our ErrorInfo"), |reason| format!("{code} {reason}"))
}
