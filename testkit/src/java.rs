//! Kafka's jars, and what every JVM of the tests has in common.
//!
//! Brokers are those of the newest Kafka, or of the version in `CHANGELOGD_TEST_KAFKA`. Java's client is always that of
//! the newest.

use std::{
    path::Path,
    process::{Command, Stdio},
    sync::OnceLock,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    files::{kafka_target, kafka_tests},
    random::random,
};

/// Names an older Kafka for the brokers of the tests, such as `3.9`. There must be a `tests/kafka/pom-3.9.xml`.
pub const OLDER_KAFKA: &str = "CHANGELOGD_TEST_KAFKA";
/// The beginning of the version in `tests/kafka/pom.xml`.
const NEWEST: &str = "4.";

/// The version in [`OLDER_KAFKA`], if it is set.
fn older() -> Option<&'static str> {
    static OLDER: OnceLock<Option<String>> = OnceLock::new();
    OLDER.get_or_init(|| std::env::var(OLDER_KAFKA).ok().filter(|version| !version.is_empty())).as_deref()
}

/// The beginning of the version that brokers must have.
pub fn expected_kafka() -> String {
    older().map_or_else(|| NEWEST.to_owned(), |version| format!("{version}."))
}

/// Fetches Kafka and compiles the oracle, once a process.
///
/// # Panics
/// With what to install or what failed, if that isn't possible.
pub(crate) fn ensure_fetched() {
    static FETCHED: OnceLock<Result<(), String>> = OnceLock::new();
    let fetched = FETCHED.get_or_init(|| {
        fetch(None)?;
        older().map_or(Ok(()), fetch_older)
    });
    if let Err(message) = fetched {
        panic!("no Kafka to test with: {message}");
    }
}

/// Fetches the brokers of an older Kafka, such as `3.9`. The error says what to install or what failed.
pub fn fetch_older(version: &str) -> Result<(), String> {
    fetch(Some(version))
}

fn fetch(version: Option<&str>) -> Result<(), String> {
    let script = kafka_tests().join("fetch.sh");
    let output = Command::new(&script)
        .args(version)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {}: {error}", script.display()))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

pub(crate) fn cluster_id() -> String {
    let mut id = [random().to_be_bytes(), random().to_be_bytes()].concat();
    id[0] &= 0x3f; // a leading dash would look like an option
    URL_SAFE_NO_PAD.encode(id)
}

pub(crate) fn format_storage(run: &Path, cluster_id: &str, more: &[&str]) {
    let output = Command::new("java")
        .args(["-Xmx128m", "-XX:TieredStopAtLevel=1"])
        .args(broker_arguments(run))
        .args(["kafka.tools.StorageTool", "format", "--cluster-id", cluster_id])
        .args(more)
        .arg("--config")
        .arg(run.join("server.properties"))
        .stdin(Stdio::null())
        .output()
        .expect("cannot run java");
    assert!(
        output.status.success(),
        "kafka's StorageTool could not format {}: {}{}",
        run.display(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// For a JVM with the oracle. `run` holds the files that it would leave in `/tmp`.
pub(crate) fn oracle_arguments(run: &Path) -> Vec<String> {
    jvm_arguments(run, &kafka_target())
}

/// For a JVM with a broker or its tools.
pub(crate) fn broker_arguments(run: &Path) -> Vec<String> {
    jvm_arguments(run, &older().map_or_else(kafka_target, |version| kafka_target().join(version)))
}

/// Common to every JVM here. Its jars are in `libs` of this directory.
fn jvm_arguments(run: &Path, kafka: &Path) -> Vec<String> {
    vec![
        "-XX:-UsePerfData".to_owned(),
        "-Djava.awt.headless=true".to_owned(),
        format!("-Djava.io.tmpdir={}", run.display()),
        format!("-Dlog4j2.configurationFile={}", kafka_tests().join("log4j2.properties").display()),
        "-cp".to_owned(),
        // Our own classes: the oracle, and what brokers load of ours.
        format!("{}/classes:{}/libs/*", kafka_target().display(), kafka.display()),
    ]
}
