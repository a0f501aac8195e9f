//! A running changelogd that a test calls, and short functions to call it.

use std::{
    io,
    path::PathBuf,
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use changelog_core::log::Log;
use changelogd::{app::App, commands, config::ServeArgs, proto::v1};
use clap::{FromArgMatches, Subcommand};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::oneshot,
    task::JoinHandle,
};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use v1::changelog_service_client::ChangelogServiceClient;

pub use super::answers::{Loaded, Streamed, field, raw, reason, text};

pub type Client = ChangelogServiceClient<Channel>;

/// How a test puts a record into the log that no client of changelogd would write.
pub type Foreign = Box<dyn Fn(i32, Option<Bytes>, Option<Bytes>) + Send + Sync>;

enum Running {
    InProcess { stop: Option<oneshot::Sender<()>>, app: Option<JoinHandle<()>> },
    Process(Box<Process>),
}

/// A process that is killed on drop. It has ended then, so its data directory may be opened again.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let until = std::time::Instant::now() + PATIENCE;
        let _ = self.0.start_kill();
        while matches!(self.0.try_wait(), Ok(None)) && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// One changelogd with a topic or a directory of its own.
pub struct TestServer {
    pub client: Client,
    pub admin: String,
    pub api: String,
    pub arguments: Vec<String>,
    /// None if the store has no foreign writers.
    pub foreign: Option<Foreign>,
    /// Whether the store has a topic id. librdkafka's mock cluster has none.
    pub has_id: bool,
    /// Whether a new process with the same arguments finds the writes of this one.
    pub durable: bool,
    /// The log line with which a process began to serve.
    #[allow(dead_code)]
    pub serving: serde_json::Value,
    /// The later lines of a process. Empty for a server in this process.
    #[allow(dead_code)]
    pub log: Arc<Mutex<String>>,
    running: Running,
    /// Values that must live as long: a directory, a mock cluster.
    _kept: Option<Box<dyn std::any::Any + Send + Sync>>,
}

/// The binary of this build, or the one that the variable names (`make release-test`).
pub fn binary() -> PathBuf {
    std::env::var_os("CHANGELOGD_TEST_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_changelogd").into(), PathBuf::from)
}

pub const PATIENCE: Duration = Duration::from_secs(30);

/// `serve` with these arguments, and with port 0 everywhere.
pub fn serve_args(arguments: &[String]) -> ServeArgs {
    let fixed = ["serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"].map(str::to_owned);
    let whole = [&["changelogd".to_owned()][..], &fixed, arguments].concat();
    let matches = commands::command().try_get_matches_from(whole).unwrap_or_else(|e| panic!("{e}"));
    #[derive(Subcommand)]
    #[allow(clippy::large_enum_variant)]
    enum Only {
        Serve(ServeArgs),
    }
    let Only::Serve(args) = Only::from_arg_matches(&matches).unwrap();
    args
}

// Two test binaries use this file, and each uses a part of it.
#[allow(dead_code)]
impl TestServer {
    /// In this process, on the log that the arguments select.
    pub async fn in_process(arguments: Vec<String>) -> Self {
        let app = App::start(serve_args(&arguments)).await.unwrap_or_else(|e| panic!("{e}"));
        Self::run(app, arguments).await
    }

    /// In this process, on a log that the test provides.
    pub async fn on_log(log: Arc<dyn Log>, arguments: Vec<String>) -> Self {
        let app = App::start_on(serve_args(&arguments), |_| Ok(log)).await.unwrap_or_else(|e| panic!("{e}"));
        Self::run(app, arguments).await
    }

    async fn run(app: App, arguments: Vec<String>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (addresses, opened) = (app.addresses().clone(), app.opened());
        let mut running = tokio::spawn(async move {
            app.run(async { drop(stopped.await) }).await.unwrap_or_else(|e| panic!("{e}"));
        });
        tokio::select! {
            () = opened => {}
            ended = &mut running => panic!("it ended before the store was open: {ended:?}"),
        }
        let api = addresses.api.to_string();
        Self {
            client: connect(&api).await,
            admin: addresses.admin.expect("an admin port").to_string(),
            api,
            arguments,
            foreign: None,
            durable: false,
            has_id: true,
            running: Running::InProcess { stop: Some(stop), app: Some(running) },
            serving: serde_json::Value::Null,
            log: Arc::default(),
            _kept: None,
        }
    }

    /// The real binary.
    pub async fn process(arguments: Vec<String>) -> Self {
        Self::spawn(Command::new(binary()), arguments).await
    }

    /// The real binary, whose files may not grow beyond this many blocks of 512 bytes. To it, that is a full disk.
    pub async fn process_with_small_files(blocks: u32, arguments: Vec<String>) -> Self {
        let mut shell = Command::new("sh");
        // If the signal is ignored, the process gets an error instead.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        shell.arg("-c").arg(script).arg(binary());
        Self::spawn(shell, arguments).await
    }

    /// The real binary, started with this umask.
    pub async fn process_with_umask(umask: &str, arguments: Vec<String>) -> Self {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("umask {umask}; exec \"$0\" \"$@\"")).arg(binary());
        Self::spawn(shell, arguments).await
    }

    /// The real binary, which may have this many files open.
    pub async fn process_with_open_files(open_files: usize, arguments: Vec<String>) -> Self {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -n {open_files}; exec \"$0\" \"$@\"")).arg(binary());
        Self::spawn(shell, arguments).await
    }

    pub async fn spawn(command: Command, arguments: Vec<String>) -> Self {
        Self::spawn_until("serving", command, arguments).await
    }

    /// The real binary, which does not get its store open soon.
    pub async fn process_that_opens_slowly(arguments: Vec<String>) -> Self {
        Self::spawn_until("the store is being opened", Command::new(binary()), arguments).await
    }

    async fn spawn_until(message: &str, mut command: Command, arguments: Vec<String>) -> Self {
        let listens = arguments.iter().any(|a| a.starts_with("--listen="));
        let mut child = command
            .args(["serve", "--admin-listen=127.0.0.1:0", "--log-format=json"])
            .args((!listens).then_some("--listen=127.0.0.1:0"))
            .args(&arguments)
            .env_clear()
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut seen = String::new();
        let serving = loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap();
            let line = line.unwrap_or_else(|| panic!("the process ended before it served: {seen}"));
            if let Ok(line) = serde_json::from_str::<serde_json::Value>(&line)
                && line["message"] == message
            {
                break line;
            }
            seen.push_str(&line);
        };
        let log = Arc::<Mutex<String>>::default();
        let later = log.clone();
        // Also because the pipe must not fill up.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                *later.lock().unwrap() += &format!("{line}\n");
            }
        });
        let api = serving["api"].as_str().expect("an address").to_owned();
        Self {
            client: connect(&api).await,
            admin: serving["admin"].as_str().expect("an address").to_owned(),
            api,
            arguments,
            foreign: None,
            durable: false,
            has_id: true,
            running: Running::Process(Box::new(Process(child))),
            serving,
            log,
            _kept: None,
        }
    }

    pub fn keeping(mut self, kept: Box<dyn std::any::Any + Send + Sync>) -> Self {
        self._kept = Some(kept);
        self
    }

    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    pub fn without_id(mut self) -> Self {
        self.has_id = false;
        self
    }

    pub fn with_foreign(mut self, foreign: Foreign) -> Self {
        self.foreign = Some(foreign);
        self
    }

    /// Stops as SIGTERM does, and starts again with the same arguments.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.restart_stopped().await;
    }

    /// Starts again with the same arguments after `stop`.
    pub async fn restart_stopped(&mut self) {
        let next = match self.running {
            Running::InProcess { .. } => Self::in_process(self.arguments.clone()).await,
            Running::Process(_) => Self::process(self.arguments.clone()).await,
        };
        self.take_over(next);
    }

    /// Its tests go on with another process.
    fn take_over(&mut self, next: Self) {
        (self.client, self.admin, self.api) = (next.client, next.admin, next.api);
        (self.running, self.log) = (next.running, next.log);
    }

    /// Ends it with SIGKILL, and starts it again.
    pub async fn kill_and_restart(&mut self) {
        let Running::Process(child) = &mut self.running else { panic!("only a process can be killed") };
        child.0.kill().await.expect("killed");
        let next = Self::process(self.arguments.clone()).await;
        self.take_over(next);
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        match &self.running {
            Running::Process(child) => child.0.id().expect("running"),
            Running::InProcess { .. } => panic!("it has no process of its own"),
        }
    }

    /// The value of a gauge or counter of /metrics, by the start of its line.
    pub async fn metric(&self, name: &str) -> i64 {
        let (_, text) = self.http("/metrics").await;
        let line = text.lines().find_map(|l| l.strip_prefix(name).and_then(|l| l.strip_prefix(' ')));
        line.unwrap_or_else(|| panic!("{name} in {text}")).parse().expect("a number")
    }

    /// Sends a signal to the process.
    pub fn signal(&self, name: &str) {
        let sent = std::process::Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits until the process has ended. Returns its exit status.
    pub async fn ended(&mut self) -> Option<i32> {
        let Running::Process(child) = &mut self.running else { panic!("it has no process of its own") };
        tokio::time::timeout(PATIENCE, child.0.wait()).await.expect("it ends in time").unwrap().code()
    }

    pub async fn stop(&mut self) {
        match &mut self.running {
            Running::InProcess { stop, app } => {
                drop(stop.take());
                if let Some(app) = app.take() {
                    tokio::time::timeout(PATIENCE, app).await.expect("it drains in time").expect("it does not panic");
                }
            }
            Running::Process(child) => {
                assert!(child.0.id().is_some(), "running");
                self.signal("TERM");
                assert_eq!(self.ended().await, Some(0), "it drains");
            }
        }
    }

    pub async fn set(&self, key: &str, value: &str) -> v1::Position {
        let request = v1::SetRequest { changelog_id: key.to_owned(), value: raw(value), ..Default::default() };
        let answer = self.client.clone().set(request).await.unwrap_or_else(|e| panic!("set {key}: {e:?}"));
        answer.into_inner().position.expect("a durable write has a position")
    }

    pub async fn delete(&self, key: &str) -> v1::Position {
        let request = v1::DeleteRequest { changelog_id: key.to_owned(), ..Default::default() };
        let answer = self.client.clone().delete(request).await.unwrap_or_else(|e| panic!("delete {key}: {e:?}"));
        answer.into_inner().position.expect("a durable write has a position")
    }

    pub async fn load(&self, workspace: &str) -> Loaded {
        self.load_types(workspace, &[]).await
    }

    pub async fn load_types(&self, workspace: &str, types: &[&str]) -> Loaded {
        let request = v1::LoadWorkspaceRequest {
            workspace_id: workspace.to_owned(),
            entity_types: types.iter().map(|t| (*t).to_owned()).collect(),
            ..Default::default()
        };
        self.try_load(request).await.unwrap_or_else(|e| panic!("load {workspace}: {e:?}"))
    }

    pub async fn try_load(&self, request: v1::LoadWorkspaceRequest) -> Result<Loaded, Status> {
        use v1::load_workspace_response::Event;
        let mut stream = self.client.clone().load_workspace(request).await?.into_inner();
        let (mut entries, mut snapshot) = (Vec::new(), None);
        while let Some(message) = stream.message().await? {
            assert!(snapshot.is_none(), "the Snapshot is the last event");
            match message.event.expect("an event") {
                Event::Batch(batch) => entries.extend(batch.entries),
                Event::Snapshot(s) => snapshot = Some(s),
            }
        }
        Ok(Loaded { entries, snapshot: snapshot.expect("a load that is OK ends with its Snapshot") })
    }

    pub async fn stream(&self, request: v1::StreamAllRequest) -> Result<Streamed, Status> {
        use v1::stream_all_response::Event;
        let mut stream = self.client.clone().stream_all(request).await?.into_inner();
        let (mut entries, mut snapshots) = (Vec::new(), Vec::new());
        while let Some(message) = stream.message().await? {
            match message.event.expect("an event") {
                Event::Batch(batch) => {
                    assert!(batch.entries.iter().all(|e| e.partition == batch.entries[0].partition));
                    entries.extend(batch.entries);
                }
                Event::Snapshot(s) => snapshots.push(s),
                Event::Bookmark(_) => panic!("a bookmark without follow"),
            }
        }
        Ok(Streamed { entries, snapshots })
    }

    pub async fn get(&self, key: &str) -> Result<v1::Entry, Status> {
        let request = v1::GetRequest { changelog_id: key.to_owned(), ..Default::default() };
        Ok(self.client.clone().get(request).await?.into_inner().entry.expect("an entry"))
    }

    pub async fn describe(&self, workspace: &str) -> v1::DescribeResponse {
        let request = v1::DescribeRequest { workspace_id: workspace.to_owned() };
        self.client.clone().describe(request).await.expect("describe answers").into_inner()
    }

    /// The admin port's answer to a GET: the code and the body.
    pub async fn http(&self, path: &str) -> (u16, String) {
        http_get(&self.admin, path).await
    }

    /// Waits for readiness: the first calls on a new topic may come before the brokers are known.
    pub async fn ready(self) -> Self {
        let started = Instant::now();
        loop {
            let (code, body) = self.http("/readyz").await;
            if code == 200 {
                return self;
            }
            assert!(started.elapsed() < PATIENCE, "not ready in time: {body}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The answer of an admin port to a GET: the code and the body.
pub async fn http_get(address: &str, path: &str) -> (u16, String) {
    let (head, body) = http_get_accepting(address, path, None).await;
    let code = head.split(' ').nth(1).and_then(|c| c.parse().ok()).expect("a status line");
    (code, body)
}

/// The head and the body of the answer to a GET with this `Accept` header.
pub async fn http_get_accepting(address: &str, path: &str, accept: Option<&str>) -> (String, String) {
    try_http_get(address, path, accept).await.expect("the admin port")
}

pub async fn try_http_get(address: &str, path: &str, accept: Option<&str>) -> io::Result<(String, String)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let accept = accept.map(|accept| format!("accept: {accept}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{accept}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((format!("{head}\r\n"), body.to_owned()))
}

pub async fn connect(api: &str) -> Client {
    let address = if api.starts_with("unix:") { api.to_owned() } else { format!("http://{api}") };
    let channel = Endpoint::from_shared(address).unwrap().connect().await.expect("it listens");
    Client::new(channel).max_decoding_message_size(usize::MAX)
}

/// A directory for one embedded store.
pub fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data");
    (directory, path)
}

/// The series that counts calls of a method that ended with this code. Codes have the names of gRPC for Go.
pub fn handled(method: &str, code: &str) -> String {
    let kind = match method {
        "LoadWorkspace" | "StreamAll" | "Watch" => "server_stream",
        "Write" => "bidi_stream",
        _ => "unary",
    };
    let service = "changelog.v1.ChangelogService";
    format!(
        "grpc_server_handled_total{{grpc_type=\"{kind}\",grpc_service=\"{service}\",grpc_method=\"{method}\",\
         grpc_code=\"{code}\"}}"
    )
}
