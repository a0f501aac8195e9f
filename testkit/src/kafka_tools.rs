//! The tools of Apache Kafka, which its scripts in `bin` start: here without the scripts, which Maven does not have.

use std::process::{Command, Stdio};

use crate::java::{ensure_fetched, oracle_arguments};

/// The class that a script of Kafka starts.
fn class(script: &str) -> Option<&'static str> {
    match script {
        "kafka-topics.sh" => Some("org.apache.kafka.tools.TopicCommand"),
        "kafka-transactions.sh" => Some("org.apache.kafka.tools.TransactionsCommand"),
        _ => None,
    }
}

/// Runs a command line that begins with a script of Kafka, and returns what it printed.
///
/// # Errors
/// With the command and what it printed, if the tool refuses it or fails.
pub fn kafka_tool(command: &str) -> Result<String, String> {
    ensure_fetched();
    let mut words = command.split_whitespace();
    let script = words.next().unwrap_or_default();
    let class = class(script).ok_or_else(|| format!("{command}: {script} is no script that is known here"))?;
    let run = tempfile::tempdir().map_err(|error| format!("{command}: {error}"))?;
    let output = Command::new("java")
        .args(["-Xmx128m", "-XX:TieredStopAtLevel=1"])
        .args(oracle_arguments(run.path()))
        .arg(class)
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{command}: java: {error}"))?;
    let said = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat();
    if output.status.success() { Ok(said) } else { Err(format!("{command}: {}: {said}", output.status)) }
}
