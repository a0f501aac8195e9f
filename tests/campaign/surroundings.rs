//! What the process is promised to stand up to in its surroundings: clients, memory, processor, log lines, and disk.
//!
//! Each kind of trouble has rules in docs/contract.md, which lists their tests. Those that need no broker are run, and
//! the table says whether all of them passed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::{Duration, Instant},
};

use changelogd_testkit::{skipped_test, workspace_root};
use tokio::process::Command;

use super::{cargo::PACKAGES, report::Report, unit_tests::cargo};

/// They take ten minutes on a machine with two processors. Tests that did not end have not passed.
const TIME_LIMIT: Duration = Duration::from_mins(40);

const CONTRACT: &str = include_str!("../../docs/contract.md");

/// A kind of trouble: what happens, what is promised, and the rules.
struct Kind(&'static str, &'static str, &'static [&'static str]);

const KINDS: [Kind; 29] = [
    Kind("connections that send nothing, or not enough", "they are closed, and keep no other client out", &["S16"]),
    Kind(
        "no file descriptors, threads or memory",
        "a call is refused with OUT_OF_FILES, nothing was written, and nothing counts as damaged",
        &["R43", "S16"],
    ),
    Kind(
        "a stop while clients call, or hold connections and streams",
        "every call gets an answer of ours; without a call in flight it takes less than 2 s",
        &["R32", "S5"],
    ),
    Kind(
        "a store that takes long to open",
        "health is served, calls are answered with STARTING, and a stop does not wait",
        &["S18"],
    ),
    Kind(
        "answers that a client does not take",
        "the stream is reset after --client-stall-timeout; other calls of the connection go on",
        &["S17"],
    ),
    Kind("requests that are not gRPC", "HTTP 415 or 405", &["B27"]),
    Kind(
        "requests that announce much, or arrive slowly",
        "they are within the memory limit, or are refused with MEMORY_LIMIT; small calls go on",
        &["S19"],
    ),
    Kind("large answers that wait", "they are within the memory limit, or are refused with MEMORY_LIMIT", &["S19"]),
    Kind(
        "long lists in requests",
        "at most 10,000 entries, and what streams keep of them is within the memory limit",
        &["S19"],
    ),
    Kind(
        "brokers that do not answer, in a container of 256 MiB",
        "PRODUCER_QUEUE_FULL; the process is not killed, and no accepted write is lost",
        &["S19"],
    ),
    Kind(
        "JSON that takes much memory or time, or is nested deeply",
        "it holds up no other call; beyond 127 levels it is refused; over 3.5 MiB it is returned raw",
        &["C15", "B28"],
    ),
    Kind(
        "a log that is not read, or whose reader is gone",
        "nothing changes for callers; lost lines are counted",
        &["R41"],
    ),
    Kind("floods of log lines", "a few lines a second of each kind, and one with a count", &["R42"]),
    Kind(
        "a full disk, no inodes, a limit of the data directory",
        "DISK_FULL, nothing was written; writes succeed again when there is room",
        &["R45"],
    ),
    Kind(
        "a data directory that is removed or replaced",
        "STORE_GONE and not ready within a second, and nothing is acknowledged",
        &["R46"],
    ),
    Kind(
        "others who may read or write the data directory, symbolic links in it",
        "modes 0600 and 0700; links are refused; writable directories are reported",
        &["R47"],
    ),
    Kind("copies of a data directory that is in use", "each opens to a state that existed, or is refused", &["R48"]),
    Kind("a panic, or a thread that ends", "INTERNAL_FAULT; for a write OUTCOME_UNKNOWN; never damage", &["R44"]),
    Kind("brokers that throttle this client", "a load is late, and not an error", &["R49"]),
    Kind(
        "a clock that is wrong, and timestamps in other units",
        "CLOCK_SKEW for a timestamp that brokers reject; absent where protobuf has no such time",
        &["R50", "C47"],
    ),
    Kind(
        "a delete.retention.ms of milliseconds",
        "a load that can be whole is served; else RETENTION_TOO_SHORT, and a finding",
        &["R9"],
    ),
    Kind("addresses of brokers that can't be reached", "the error names the address and its origin", &["R51"]),
    Kind(
        "certificates, keys and passwords that are replaced",
        "they take effect without a restart and without a failed write; wrong ones replace nothing",
        &["R52", "R53", "R54"],
    ),
    Kind(
        "tokens that expire, and identity providers that fail",
        "one request for all clients, renewed in time; the provider's words, and no secret",
        &["R60", "R61", "R62", "R63", "R64", "R65", "R66"],
    ),
    Kind(
        "wrong settings and properties of Kafka",
        "exit status 64 with the setting and the way out; no secret is shown",
        &["S11", "S12", "B24"],
    ),
    Kind(
        "bytes that are not UTF-8, and text that a terminal would obey",
        "refused or carried unchanged, and escaped where it is shown",
        &["C67", "C81"],
    ),
    Kind(
        "foreign records, and inputs of `import` of any form",
        "each line is carried or refused, and counted; nothing is lost without an error",
        &["C65"],
    ),
    Kind(
        "closed or full outputs, and servers that do not answer",
        "a command ends in time, with its own exit status",
        &["C64", "C68", "C69"],
    ),
    Kind(
        "statuses of the gRPC library, and clients of other languages",
        "ErrorInfo with facts in each status; texts arrive unchanged; Unix sockets work with an option",
        &["C76", "C77", "C78", "C79", "C80", "B35", "B36"],
    ),
];

/// Runs the tests, and writes the table.
pub async fn run(report: &mut Report) {
    let begun = Instant::now();
    let (passed, skipped) = outcomes().await;
    let mut text = String::from("| kind | promised | rules | tests | result |\n|---|---|---|---:|---|\n");
    for Kind(what, promise, rules) in KINDS {
        let tests: BTreeSet<_> = rules.iter().flat_map(|rule| tests_of(rule)).collect();
        let bad: Vec<_> = tests.iter().filter(|test| passed.get(**test) != Some(&true)).collect();
        let result = if tests.is_empty() || !bad.is_empty() {
            report.failure(format!("surroundings, {what}: failed or not run: {bad:?}"));
            format!("**not as expected**: {bad:?}")
        } else {
            let without = skipped.iter().filter(|(test, _)| tests.contains(&**test));
            let without: Vec<_> = without.map(|(test, why)| format!("`{test}`: {why}")).collect();
            if without.is_empty() {
                "as expected".to_owned()
            } else {
                format!("as expected; **not tested here**: {}", without.join("; "))
            }
        };
        let _ = writeln!(text, "| {what} | {promise} | {} | {} | {result} |", rules.join(", "), tests.len());
    }
    let seconds = begun.elapsed().as_secs();
    let failed = passed.values().filter(|passed| !**passed).count();
    let _ = writeln!(text, "\n{} tests ran, and {failed} of them failed; {seconds} s, build included.", passed.len());
    println!("surroundings: {} tests ran, {failed} failed", passed.len());
    for (test, why) in skipped {
        println!("surroundings: not tested here: {test}: {why}");
    }
    report.section("Surroundings", &text);
}

/// Whether each test of this machine passed, by its name, and what tests say that they do not check here. A test of
/// several stores must pass on all.
async fn outcomes() -> (BTreeMap<String, bool>, BTreeSet<(String, String)>) {
    let tests = Command::new(cargo())
        .current_dir(workspace_root())
        .args(["test", "--locked", "--no-fail-fast", "--lib", "--test", "local"])
        // As many as the promise is made for; `make unit` makes 3 rounds.
        .env("CHANGELOGD_TEST_DRAINS", "20")
        .args(PACKAGES.iter().flat_map(|package| ["-p", package]))
        .kill_on_drop(true)
        .output();
    let Ok(output) = tokio::time::timeout(TIME_LIMIT, tests).await else {
        println!("surroundings: the tests did not end in {} s", TIME_LIMIT.as_secs());
        return Default::default();
    };
    let output = output.expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut passed = BTreeMap::new();
    for line in said.lines().filter_map(|line| line.strip_prefix("test ")) {
        let Some((path, outcome)) = line.split_once(" ... ") else { continue };
        let name = path.rsplit("::").next().unwrap_or(path);
        *passed.entry(name.to_owned()).or_insert(true) &= outcome == "ok";
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let skipped = said.lines().filter_map(skipped_test).map(|(test, why)| (test.to_owned(), why.to_owned()));
    (passed, skipped.collect())
}

/// The unit tests and the tests of this machine that the contract lists for a rule.
fn tests_of(rule: &str) -> Vec<&'static str> {
    let heading = format!("### {rule} ");
    let section = CONTRACT.split_once(&heading).map_or("", |(_, rest)| rest.split("\n##").next().unwrap_or(rest));
    let Some((_, list)) = section.split_once("\nTests:\n") else { return Vec::new() };
    let of_this_machine = |item: &&str| item.starts_with("unit:") || item.starts_with("tests/local:");
    let items = list.split("- ").filter(of_this_machine);
    items.flat_map(|item| item.split('`').skip(1).step_by(2)).collect()
}
