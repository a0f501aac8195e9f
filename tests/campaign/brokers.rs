//! The tests of `tests/broker` on an older Apache Kafka.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::{Duration, Instant},
};

use changelogd_testkit::{OLDER_KAFKA, fetch_older, skipped_test, workspace_root};
use tokio::process::Command;

use super::{report::Report, unit_tests::cargo};

/// The oldest release that starts as the newest does: with its own controller (KRaft), and one file of properties.
const KAFKA: &str = "3.9";
/// They took ten minutes on two processors that other programs used too. Tests that did not end have not passed.
const TIME_LIMIT: Duration = Duration::from_mins(30);

/// The tests that say nothing more on another version of the brokers, and why.
const LEFT_OUT: [(&str, &str); 3] = [
    ("readme::", "commands of the README"),
    ("cities::", "171,075 records"),
    ("clients::", "clients of changelogd in other languages"),
];

/// The parts of the suite that are counted, by the beginnings of their tests' paths.
const PARTS: [(&str, &str); 4] = [
    ("the contract suite", "broker::"),
    ("the contract suite over the wire", "broker_over_the_wire::"),
    ("the contract suite, through a proxy that looks like Kafka 2.1", "broker_like_2_1::"),
    ("topic identity, truncation, transactions, authorization, quotas and more", ""),
];

/// Fetches the brokers. The error says what failed.
pub fn fetch() -> Result<(), String> {
    fetch_older(KAFKA).map_err(|error| format!("no Kafka {KAFKA} to test with: {}", error.trim()))
}

/// Runs the tests.
/// Covers R36.
pub async fn run(report: &mut Report) {
    let begun = Instant::now();
    let seen = outcomes().await;
    let version = seen.version.as_deref().unwrap_or("of an unknown version");
    let mut text = format!("`tests/broker` with brokers of Apache Kafka {version}.\n\n| tests | passed | failed |\n");
    text.push_str("|---|---:|---:|\n");
    let mut counted = BTreeSet::new();
    for (what, prefix) in PARTS {
        let new = seen.passed.iter().filter(|(path, _)| path.starts_with(prefix));
        let new: Vec<_> = new.filter(|(path, _)| counted.insert((*path).clone())).collect();
        let passed = new.iter().filter(|(_, passed)| **passed).count();
        if passed == 0 {
            report.failure(format!("brokers: none of {what} passed on Kafka {KAFKA}"));
        }
        let _ = writeln!(text, "| {what} | {passed} | {} |", new.len() - passed);
    }
    let failed: Vec<_> = seen.passed.iter().filter(|(_, passed)| !**passed).map(|(path, _)| &**path).collect();
    if !failed.is_empty() || !seen.ended_well {
        let failed = failed.join(", ");
        report.failure(format!("brokers: on Kafka {version} these fail: {failed} ({OLDER_KAFKA}={KAFKA} runs them)"));
        let _ = writeln!(text, "\n**Failed**: {failed}");
    }
    if !seen.version.as_ref().is_some_and(|version| version.starts_with(&format!("{KAFKA}."))) {
        report.failure(format!("brokers: Kafka {KAFKA} was to be tested, and the tests name Kafka {version}"));
    }
    for (test, why) in &seen.skipped {
        let _ = writeln!(text, "\n**Not tested here**: `{test}`: {why}");
    }
    let left_out: Vec<_> = LEFT_OUT.iter().map(|(_, what)| *what).collect();
    let seconds = begun.elapsed().as_secs();
    let _ = writeln!(text, "\nLeft out: {}. {seconds} s, build included.", left_out.join(", "));
    println!("brokers: Kafka {version}: {} tests ran, {} failed, {seconds} s", seen.passed.len(), failed.len());
    report.section("Older brokers", &text);
}

#[derive(Default)]
struct Outcomes {
    /// The version that a broker logged.
    version: Option<String>,
    /// Whether each test passed, by its path.
    passed: BTreeMap<String, bool>,
    /// What tests say that they do not check here.
    skipped: BTreeSet<(String, String)>,
    ended_well: bool,
}

async fn outcomes() -> Outcomes {
    let tests = Command::new(cargo())
        .current_dir(workspace_root())
        .args(["test", "--locked", "--test", "broker", "--", "--show-output"])
        .args(LEFT_OUT.iter().flat_map(|(left_out, _)| ["--skip", left_out]))
        .env(OLDER_KAFKA, KAFKA)
        .kill_on_drop(true)
        .output();
    let Ok(output) = tokio::time::timeout(TIME_LIMIT, tests).await else {
        println!("brokers: the tests did not end in {} s", TIME_LIMIT.as_secs());
        return Outcomes::default();
    };
    let output = output.expect("cargo runs");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let tests = said.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "));
    let skipped = errors.lines().filter_map(skipped_test);
    let outcomes = Outcomes {
        version: said.lines().find_map(|line| line.strip_prefix("broker: Apache Kafka ")).map(str::to_owned),
        passed: tests.map(|(path, outcome)| (path.to_owned(), outcome == "ok")).collect(),
        skipped: skipped.map(|(test, why)| (test.to_owned(), why.to_owned())).collect(),
        ended_well: output.status.success(),
    };
    if !outcomes.ended_well {
        println!("{said}{errors}");
    }
    outcomes
}
