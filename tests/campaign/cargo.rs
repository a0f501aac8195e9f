//! Other tests of the project that the campaign runs: the simulation with many seeds, and the suite with a rule taken
//! out, which must fail.

use std::{fmt::Write as _, path::Path, process::Command, time::Instant};

use changelogd::rule::Rule;

use super::report::Report;

/// `cargo test` filters: the tests of the simulation, and those that must fail when a rule is taken out.
const SIMULATION: &str = "kafka::replay::sim";
const NOTICE: [&str; 2] = ["kafka::", "changelog::"];
/// Tests of settings are left out: they look at the very values that taking out a rule changes.
const LEFT_OUT: &str = "settings";

/// What remains when a rule is taken out.
fn without(rule: Rule) -> &'static str {
    match rule {
        Rule::EndIsHighWatermark => "the first request's end offsets serve all later ones",
        Rule::LastRecordIsEnd => "a load ends by an end-of-partition event only",
        Rule::UndeliveredTailIsEnd => "a load ends by a record only",
        Rule::StableOffsetIsNotEnd => "the last stable offset is taken for the end",
        Rule::EmptyPartitionNeedsNoConsumer => "a consumer is made for an empty partition",
        Rule::EarlyEndEventIsIgnored => "any end-of-partition event is an end",
        Rule::NoProgressIsError => "a replay that makes no progress is waited for",
        Rule::BrokenReplayIsError => "a replay that ends early passes for a whole one",
        Rule::ReplayWithinDeleteRetention => "a replay may take longer than tombstones stay",
        Rule::LogGapIsError => "a gap in the log is read over",
        Rule::RecreatedTopicIsError => "a topic that was created again is taken for the old one",
        Rule::GrownTopicIsError => "a topic that grew is taken for the old one",
        Rule::SlowReplayTakesEndAgain => "an end is taken once, however long reading takes",
    }
}

/// Runs the simulation with this many seeds, from `first` on.
/// Covers R37.
pub fn simulation(first: u64, seeds: u64, report: &mut Report) {
    let begun = Instant::now();
    let output = Command::new(cargo())
        .current_dir(root())
        .args(["test", "--locked", "--lib", SIMULATION, "--", "--nocapture"])
        .env("CHANGELOGD_TEST_FIRST_SEED", first.to_string())
        .env("CHANGELOGD_TEST_SEEDS", seeds.to_string())
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find_map(|l| l.split_once("simulation: ")).map(|(_, line)| line.to_owned());
    match line {
        Some(line) if output.status.success() => {
            println!("simulation: {line}");
            let took = begun.elapsed().as_secs_f64();
            report.section(
                "Simulation",
                &format!("{line}; every load whole by the contract, or an error; {took:.0} s, build included."),
            );
        }
        _ => {
            let failed = said.lines().find(|l| l.contains("runs it again")).unwrap_or("it failed").to_owned();
            report.failure(format!("simulation: {failed}"));
            report.section("Simulation", &format!("**failed**: {failed}"));
        }
    }
}

/// Runs the unit tests with this seed for the inputs of property tests. `make test` always uses the same seed.
pub fn properties(seed: u64, cases: u64, report: &mut Report) {
    let begun = Instant::now();
    let output = Command::new(cargo())
        .current_dir(root())
        .args(["test", "--locked", "--lib", "--", "--skip", SIMULATION])
        .env("PROPTEST_RNG_SEED", seed.to_string())
        .env("PROPTEST_CASES", cases.to_string())
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find(|l| l.starts_with("test result: ok.")).and_then(|l| l.split("; ").next());
    let failed: Vec<_> = said.lines().filter(|l| l.ends_with(" ... FAILED")).collect();
    let again = format!("PROPTEST_RNG_SEED={seed} PROPTEST_CASES={cases} runs them again");
    let text = match line {
        Some(line) if output.status.success() => {
            format!(
                "{line}, with {cases} cases for each property that sets no number of its own, and seed {seed}; {} s.",
                begun.elapsed().as_secs()
            )
        }
        _ => {
            report.failure(format!("properties: {} ({again})", failed.join(", ")));
            format!("**failed**: {} ({again})", failed.join(", "))
        }
    };
    println!("properties: {text}");
    report.section("Properties", &text);
}

/// Runs the suite with each rule taken out, one after another. It must fail each time, and pass with none taken out.
/// Covers R39.
pub fn taken_out(report: &mut Report) {
    let built = Command::new(cargo())
        .current_dir(root())
        .args(["test", "--locked", "--lib", "--features", "take-out-rules", "--no-run", "--message-format=json"])
        .output()
        .expect("cargo runs");
    let lines = String::from_utf8_lossy(&built.stdout);
    let binary = lines.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    let binary = binary.filter_map(|l| l["executable"].as_str().map(str::to_owned)).next_back();
    let Some(binary) = binary.filter(|_| built.status.success()) else {
        report.failure(format!("tests of the tests: {}", String::from_utf8_lossy(&built.stderr)));
        return;
    };
    let mut text = String::from(
        "The suite with one rule's code taken out (feature `take-out-rules`, which a release build refuses). It must \
         fail.\n\n\
         | rule | what remains without it | tests that fail |\n|---|---|---|\n",
    );
    let release = Command::new(cargo())
        .current_dir(root())
        .args(["check", "--locked", "--release", "--lib", "--features", "take-out-rules"])
        .output()
        .expect("cargo runs");
    if release.status.success() || !String::from_utf8_lossy(&release.stderr).contains("never for a release build") {
        report.failure("a release build with rules that can be taken out is not refused");
    }
    if let Err(error) = filters_match(&binary) {
        report.failure(format!("tests of the tests: {error}"));
    }
    let (_, failed) = suite(&binary, "none");
    if !failed.is_empty() {
        report.failure(format!("tests of the tests: with no rule taken out these fail: {}", failed.join(", ")));
    }
    let _ = writeln!(text, "| none | all rules | {} |", failed.len());
    for rule in Rule::ALL {
        let (id, without) = (rule.id(), without(rule));
        let (ended, failed) = suite(&binary, id);
        if failed.is_empty() {
            report.failure(format!("tests of the tests: without {id} nothing fails ({ended})"));
        }
        println!("without {id}: {} tests fail", failed.len());
        let names: Vec<_> = failed.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "| {id} | {without} | {} |", names.join(", "));
    }
    report.section("Tests of the tests", &text);
}

/// Each filter must match a test. A filter that matches none would leave out its tests unnoticed.
fn filters_match(binary: &str) -> Result<(), String> {
    for filter in [SIMULATION].into_iter().chain(NOTICE) {
        if listed(binary, &[filter])? == 0 {
            return Err(format!("the filter {filter} matches no test"));
        }
    }
    if listed(binary, &NOTICE)? == listed(binary, &[&NOTICE[..], &["--skip", LEFT_OUT]].concat())? {
        return Err(format!("the filter --skip {LEFT_OUT} matches no test"));
    }
    Ok(())
}

/// How many tests these filters select.
fn listed(binary: &str, filters: &[&str]) -> Result<usize, String> {
    let output = Command::new(binary).current_dir(root()).arg("--list").args(filters).output();
    let output = output.map_err(|error| format!("the tests are not listed: {error}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.ends_with(": test")).count())
}

/// The tests that fail with the rule of this id taken out.
fn suite(binary: &str, id: &str) -> (String, Vec<String>) {
    let output = Command::new(binary)
        .current_dir(root())
        .args(NOTICE)
        .args(["--skip", LEFT_OUT, "--test-threads=4"])
        .env("CHANGELOGD_TAKE_OUT", id)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("the tests run");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = said.lines().filter_map(|l| l.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    let failed = failed.filter_map(|name| name.rsplit("::").next()).map(str::to_owned).collect();
    (output.status.to_string(), failed)
}

fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
