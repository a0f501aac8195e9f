//! A real Prometheus that scrapes the servers of a test. Debian's package `prometheus` has the programs.

use std::{
    collections::BTreeSet,
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
};

use crate::contract::server::PATIENCE;

/// A scrape and an evaluation of the rules each second.
const INTERVAL: &str = "1s";

/// It ends with this value.
pub struct Prometheus {
    address: String,
    _child: Child,
    _dir: TempDir,
}

pub fn command(program: &str) -> Command {
    let found =
        std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).exists()));
    assert!(found, "there is no {program}: install the Debian package prometheus");
    Command::new(program)
}

/// Head and body of the answer. In HTTP/1.0 it comes in one piece.
async fn http_get(address: &str, path: &str) -> io::Result<(String, String)> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    Ok((head.to_owned(), body.to_owned()))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn chart_file(name: &str) -> String {
    fs::read_to_string(root().join("helm/changelogd/files").join(name)).unwrap()
}

impl Prometheus {
    /// Scrapes these admin ports, each with the label `pod`, and evaluates these rules.
    pub async fn start(rules: &str, targets: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("prometheus").tempdir_in(root().join("target")).unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("rules.yaml", rules);
        let mut config = format!(
            "global: {{ scrape_interval: {INTERVAL}, scrape_timeout: {INTERVAL}, evaluation_interval: {INTERVAL} }}\n\
             rule_files: [rules.yaml]\nscrape_configs:\n  - job_name: changelogd\n    static_configs:\n"
        );
        for (pod, admin) in targets {
            config += &format!("      - {{ targets: [\"{admin}\"], labels: {{ namespace: test, pod: {pod} }} }}\n");
        }
        write("prometheus.yaml", &config);
        // Prometheus does not say which port it got, so it is given one that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let log = fs::File::create(Path::new(&at("log"))).unwrap();
        let child = command("prometheus")
            .arg(format!("--config.file={}", at("prometheus.yaml")))
            .arg(format!("--storage.tsdb.path={}", at("data")))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let started = Instant::now();
        while !http_get(&address, "/-/ready").await.is_ok_and(|(head, _)| head.contains(" 200 ")) {
            assert!(started.elapsed() < PATIENCE, "{}", fs::read_to_string(at("log")).unwrap());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Self { address, _child: child, _dir: dir }
    }

    async fn get(&self, path: &str) -> Value {
        let (_, body) = http_get(&self.address, path).await.unwrap();
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// The series of an instant query, now.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        let encoded = utf8_percent_encode(expression, NON_ALPHANUMERIC);
        let data = self.get(&format!("/api/v1/query?query={encoded}")).await;
        data["result"].as_array().cloned().unwrap_or_default()
    }

    /// The names and expressions of the rules.
    pub async fn rules(&self) -> Vec<(String, String)> {
        let data = self.get("/api/v1/rules").await;
        let groups = data["groups"].as_array().cloned().unwrap_or_default().into_iter();
        let rules = groups.flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default());
        let text = |rule: &Value, name: &str| rule[name].as_str().unwrap_or_default().to_owned();
        rules.map(|rule| (text(&rule, "name"), text(&rule, "query"))).collect()
    }

    /// The alerts that fire now.
    pub async fn firing(&self) -> BTreeSet<String> {
        let data = self.get("/api/v1/alerts").await;
        let alerts = data["alerts"].as_array().cloned().unwrap_or_default().into_iter();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        firing.filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned())).collect()
    }
}
