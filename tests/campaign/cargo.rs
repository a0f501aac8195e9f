//! What the campaign runs of the project's other tests: the simulation with many seeds, and the suite with a rule taken out,
//! which must fail.

use std::{fmt::Write as _, path::Path, process::Command, time::Instant};

use super::report::Report;

/// A rule, what is left when it is taken out, and the tests that must notice.
struct TakenOut {
    rule: &'static str,
    without: &'static str,
}

const RULES: [TakenOut; 13] = [
    TakenOut { rule: "R1", without: "the first request's end offsets serve all later ones" },
    TakenOut { rule: "R2", without: "a load ends by an end-of-partition event only" },
    TakenOut { rule: "R3", without: "a load ends by a record only" },
    TakenOut { rule: "R4", without: "the last stable offset is taken for the end" },
    TakenOut { rule: "R5", without: "a consumer is made for an empty partition" },
    TakenOut { rule: "R6", without: "any end-of-partition event is an end" },
    TakenOut { rule: "R7", without: "nothing is said of a replay that stands still" },
    TakenOut { rule: "R8", without: "a replay that breaks off passes for a whole one" },
    TakenOut { rule: "R9", without: "a replay may take longer than tombstones stay" },
    TakenOut { rule: "R14", without: "a gap in the log is read over" },
    TakenOut { rule: "R15", without: "a topic that was created anew is taken for the old one" },
    TakenOut { rule: "R16", without: "a topic that grew is taken for the old one" },
    TakenOut { rule: "R40", without: "an end is taken once, however long reading takes" },
];

/// The simulation with so many seeds.
pub fn simulation(seeds: u64, report: &mut Report) {
    let begun = Instant::now();
    let output = Command::new(cargo())
        .current_dir(root())
        .args(["test", "--locked", "--lib", "kafka::simulation", "--", "--nocapture"])
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
            let failed = said.lines().find(|l| l.contains("plays it again")).unwrap_or("it failed").to_owned();
            report.failure(format!("simulation: {failed}"));
            report.section("Simulation", &format!("**failed**: {failed}"));
        }
    }
}

/// The suite with each rule taken out, one after another: it must fail each time, and pass with none.
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
        "The suite with one rule's code taken out (feature `take-out-rules`, which a release build refuses): it must fail.\n\n\
         | rule | what is left without it | tests that fail |\n|---|---|---|\n",
    );
    let release = Command::new(cargo())
        .current_dir(root())
        .args(["check", "--locked", "--release", "--lib", "--features", "take-out-rules"])
        .output()
        .expect("cargo runs");
    if release.status.success() || !String::from_utf8_lossy(&release.stderr).contains("never for a release build") {
        report.failure("a release build with rules that can be taken out is not refused");
    }
    let (_, failed) = suite(&binary, "none");
    if !failed.is_empty() {
        report.failure(format!("tests of the tests: with no rule taken out these fail: {}", failed.join(", ")));
    }
    let _ = writeln!(text, "| none | all rules | {} |", failed.len());
    for TakenOut { rule, without } in RULES {
        let (ended, failed) = suite(&binary, rule);
        if failed.is_empty() {
            report.failure(format!("tests of the tests: without {rule} nothing fails ({ended})"));
        }
        println!("without {rule}: {} tests fail", failed.len());
        let names: Vec<_> = failed.iter().map(|name| format!("`{name}`")).collect();
        let _ = writeln!(text, "| {rule} | {without} | {} |", names.join(", "));
    }
    report.section("Tests of the tests", &text);
}

/// The tests that fail with this rule taken out.
fn suite(binary: &str, rule: &str) -> (String, Vec<String>) {
    let output = Command::new(binary)
        .current_dir(root())
        .args(["kafka::", "changelog::", "--skip=settings", "--test-threads=4"])
        .env("CHANGELOGD_TAKE_OUT", rule)
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
