//! The machine and the versions that the figures were measured on. The report names them, because figures of two
//! machines cannot be compared.

use std::{fmt::Write as _, fs, process::Command, thread::available_parallelism, time::Duration};

use changelogd_testkit::workspace_root;

use super::sidecar::binary;

/// The facts in the head of the report.
#[derive(Debug, Clone)]
pub struct Facts {
    pub command: String,
    /// None if no row needed a broker.
    pub kafka: Option<String>,
    pub rounds: usize,
    pub took: Duration,
}

impl Facts {
    pub fn markdown(&self) -> String {
        let mut text = String::from("| | |\n|---|---|\n");
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "| {name} | {value} |");
        };
        line("command", format!("`{}`", self.command));
        line(
            "when",
            format!("{}, {:.0} s in all", jiff::Timestamp::now().strftime("%Y-%m-%d"), self.took.as_secs_f64()),
        );
        let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "not known".to_owned());
        line("processor", format!("{processor}, {} of them", available_parallelism().map_or(0, usize::from)));
        line("memory", field("/proc/meminfo", "MemTotal").unwrap_or_else(|| "not known".to_owned()));
        line("kernel", fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned());
        line("Apache Kafka", self.kafka.clone().unwrap_or_else(|| "not run".to_owned()));
        line("librdkafka", rdkafka::util::get_rdkafka_version().1);
        line("rustc", said("rustc", &["--version"]));
        line("commit", commit());
        line("changelogd", said(&binary().to_string_lossy(), &["--version"]));
        line("pairs a row", self.rounds.to_string());
        text
    }
}

/// What the benchmark writes itself makes nothing dirty.
fn commit() -> String {
    let root = workspace_root().to_string_lossy();
    let here = ["-C", &root];
    let commit = said("git", &[&here[..], &["rev-parse", "--short", "HEAD"]].concat());
    let changed =
        said("git", &[&here[..], &["status", "--porcelain", "-uno", "--", ".", ":!docs/benchmarks*"]].concat());
    if changed.is_empty() { commit } else { format!("{commit}-dirty") }
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    output.map_or_else(|| "not known".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
