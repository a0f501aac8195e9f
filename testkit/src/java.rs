//! Kafka's jars, and what every JVM of the tests has in common.

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

/// Fetches Kafka and compiles the oracle, once a process.
///
/// # Panics
/// With what to install or what failed, if that isn't possible.
pub(crate) fn ensure_fetched() {
    static FETCHED: OnceLock<Result<(), String>> = OnceLock::new();
    let fetched = FETCHED.get_or_init(|| {
        let script = kafka_tests().join("fetch.sh");
        let output = Command::new(&script)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot run {}: {error}", script.display()))?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
    if let Err(message) = fetched {
        panic!("no Kafka to test with: {message}");
    }
}

pub(crate) fn cluster_id() -> String {
    let mut id = [random().to_be_bytes(), random().to_be_bytes()].concat();
    id[0] &= 0x3f; // a leading dash would look like an option
    URL_SAFE_NO_PAD.encode(id)
}

pub(crate) fn format_storage(run: &Path, cluster_id: &str, more: &[&str]) {
    let output = Command::new("java")
        .args(["-Xmx128m", "-XX:TieredStopAtLevel=1"])
        .args(jvm_arguments(run))
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

/// Common to every JVM here. `run` holds the files that it would leave in `/tmp`.
pub(crate) fn jvm_arguments(run: &Path) -> Vec<String> {
    vec![
        "-XX:-UsePerfData".to_owned(),
        "-Djava.awt.headless=true".to_owned(),
        format!("-Djava.io.tmpdir={}", run.display()),
        format!("-Dlog4j2.configurationFile={}", kafka_tests().join("log4j2.properties").display()),
        "-cp".to_owned(),
        format!("{0}/classes:{0}/libs/*", kafka_target().display()),
    ]
}
