//! The properties file of a running server changes: what it does, logs and describes.

use std::{fs, time::Instant};

use changelogd::proto::v1;
use tempfile::TempDir;

use crate::{
    contract::server::{PATIENCE, TestServer},
    mock_cluster::MockKafka,
};

const PASSWORD: &str = "hunter2";

struct Server(TestServer);

impl Server {
    async fn finding(&self) -> Option<v1::Finding> {
        self.0.describe("").await.findings.into_iter().find(|f| f.code == "SETTINGS_NOT_REPLACED")
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
        self.0.set("ws/t/a", "1").await;
        self.0.load("ws").await;
    }

    async fn replaced(&self) -> bool {
        self.0.metric("changelogd_kafka_settings_replaced_total").await == 1
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
    let arguments = kafka.arguments(1).into_iter().chain([flag]).collect();
    let server = Server(TestServer::process(arguments).await.ready().await);
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
    let lines = server.0.log.lock().unwrap().clone();
    let count = |text: &str| lines.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count("the properties changed and can't be used"), 1, "one warning when it begins: {lines}");
    assert_eq!(count("the properties changed: clients are replaced"), 1, "{lines}");
    assert!(!lines.contains(PASSWORD), "{lines}");
}
