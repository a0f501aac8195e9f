//! The properties file of a running server changes: what it does, logs and describes.

use std::{
    fs,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Instant,
};

use changelogd::proto::v1;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::{
    contract::server::{Client, PATIENCE, binary, connect, http_get, raw},
    mock_cluster::MockKafka,
};

const PASSWORD: &str = "hunter2";

struct Server {
    client: Client,
    admin: String,
    stderr: Arc<Mutex<String>>,
    _child: Child,
}

impl Server {
    async fn start(arguments: Vec<String>) -> Self {
        let mut child = Command::new(binary())
            .args(["serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json"])
            .args(arguments)
            .env_clear()
            .stderr(Stdio::piped())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let serving = loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").unwrap();
            let line: serde_json::Value = serde_json::from_str(&line.expect("it serves")).unwrap();
            if line["message"] == "serving" {
                break line;
            }
        };
        let stderr = Arc::<Mutex<String>>::default();
        let all = stderr.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                *all.lock().unwrap() += &format!("{line}\n");
            }
        });
        let address = |name: &str| serving[name].as_str().expect("an address").to_owned();
        Self { client: connect(&address("api")).await, admin: address("admin"), stderr, _child: child }
    }

    async fn finding(&self) -> Option<v1::Finding> {
        let described = self.client.clone().describe(v1::DescribeRequest::default()).await.expect("described");
        described.into_inner().findings.into_iter().find(|f| f.code == "SETTINGS_NOT_REPLACED")
    }

    /// Waits until the finding is so.
    async fn wait(&self, what: &str, is: impl Fn(Option<&v1::Finding>) -> bool) {
        let started = Instant::now();
        loop {
            let found = self.finding().await;
            if is(found.as_ref()) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{what}: {found:?}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    async fn writes_and_loads(&self) {
        let value = v1::SetRequest { changelog_id: "ws/t/a".to_owned(), value: raw("1"), ..Default::default() };
        self.client.clone().set(value).await.expect("written");
        let load = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
        let mut stream = self.client.clone().load_workspace(load).await.expect("a stream").into_inner();
        while stream.message().await.expect("a whole load").is_some() {}
    }

    async fn replaced(&self) -> bool {
        http_get(&self.admin, "/metrics").await.1.contains("changelogd_kafka_settings_replaced_total 1\n")
    }
}

/// Covers R52, R54, S12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_properties_file_is_a_finding_and_a_right_one_takes_effect() {
    let (kafka, directory) = (MockKafka::start(1), TempDir::new().unwrap());
    let file = directory.path().join("client.properties");
    let write = |text: &str| fs::write(&file, format!("{text}\nsasl.password={PASSWORD}\n")).unwrap();
    write("client.id=first");
    let flag = format!("--kafka-properties-file={}", file.display());
    let server = Server::start(kafka.arguments(1).into_iter().chain([flag]).collect()).await;
    let started = Instant::now();
    while http_get(&server.admin, "/readyz").await.0 != 200 {
        assert!(started.elapsed() < PATIENCE, "ready");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    server.writes_and_loads().await;
    for (text, words) in [
        ("ssl.key.location=/nonexistent", ["Kafka property ssl.key.location", "/nonexistent"]),
        ("sasl.pasword=hunter2", ["Kafka property sasl.pasword", "the nearest is sasl.password"]),
        ("sasl.password hunter2", ["--kafka-properties-file", "line 1: must be name=value"]),
    ] {
        write(text);
        let is_named = |found: Option<&v1::Finding>| {
            found.is_some_and(|f| words.iter().all(|word| f.message.contains(word)) && !f.message.contains(PASSWORD))
        };
        server.wait(words[0], is_named).await;
        assert_eq!(server.finding().await.unwrap().severity(), v1::Severity::Warning);
        server.writes_and_loads().await;
        assert!(!server.replaced().await, "{text}");
    }
    write("client.id=second");
    server.wait("no finding", |found| found.is_none()).await;
    assert!(server.replaced().await);
    server.writes_and_loads().await;
    let lines = server.stderr.lock().unwrap().clone();
    let count = |text: &str| lines.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("the properties changed and can't be used"), 1, "one warning when it begins: {lines}");
    assert_eq!(count("the properties changed: clients are replaced"), 1, "{lines}");
    assert!(!lines.contains(PASSWORD), "{lines}");
}
