//! Other tests of the project that the campaign runs: the simulation with many seeds, and the suite with a rule taken
//! out, which must fail.

use std::{collections::BTreeSet, fmt::Write as _, process::Command, time::Instant};

use changelog_core::rule::Rule;
use changelogd_testkit::workspace_root;

use super::{
    fuzz,
    report::Report,
    unit_tests::{Suite, Tests, built, cargo},
};

/// The packages whose unit tests are run with a fresh seed.
pub const PACKAGES: [&str; 4] = ["changelog-core", "changelog-kafka", "changelog-embedded", "changelogd"];

const SIMULATION: Suite = Suite { package: "changelog-kafka", filter: "replay::sim" };
/// The tests that must fail when a rule is taken out.
const NOTICE: [Suite; 2] =
    [Suite { package: "changelog-core", filter: "changelog::" }, Suite { package: "changelog-kafka", filter: "" }];
/// Tests of settings are left out: they look at the very values that taking out a rule changes. So are the corpora of
/// fuzz targets: the properties must notice without them.
const LEFT_OUT: [&str; 2] = ["settings::tests", fuzz::CORPUS];

/// The tests that must fail without this rule. If it has a fuzz target, that alone must notice.
fn notice(rule: Rule) -> Vec<Suite> {
    let target = fuzz::TARGETS.iter().find(|target| target.rule == rule);
    target.map_or(NOTICE.to_vec(), |target| vec![target.suite])
}

/// All suites of which one must notice.
fn suites() -> Vec<Suite> {
    NOTICE.into_iter().chain(fuzz::TARGETS.iter().map(|target| target.suite)).collect()
}

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
        Rule::ChangesStartAtEndOfState => "the changes of a watch start at the end of the log when they are asked for",
        Rule::DamagedTokenIsRefused => "a resume token's checksum is not compared",
        Rule::EmptySegmentIsRefused => "an entity ID may have empty segments",
        Rule::EntryUnderAnotherKeyIsDamage => "an entry's checksum leaves out its key",
        Rule::UnknownEnumValueIsRefused => "an unknown value of an enum means its default",
        Rule::UnknownValueIsSecret => "the value of an unknown Kafka property is shown",
        Rule::NullIsAValue => "in a line of an import, null is taken for no value",
    }
}

/// Runs the simulation with this many seeds, from `first` on.
/// Covers R37.
pub fn simulation(first: u64, seeds: u64, report: &mut Report) {
    let begun = Instant::now();
    let output = Command::new(cargo())
        .current_dir(workspace_root())
        .args(["test", "--locked", "-p", SIMULATION.package, "--lib", SIMULATION.filter, "--", "--nocapture"])
        .env("CHANGELOGD_TEST_FIRST_SEED", first.to_string())
        .env("CHANGELOGD_TEST_SEEDS", seeds.to_string())
        .output()
        .expect("cargo runs");
    // The seed of a world that failed is in a panic, which goes to stderr.
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
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
            let failed = said.lines().find(|l| l.contains("runs it again") || l.ends_with(" ... FAILED"));
            let failed = failed.or_else(|| said.lines().next_back()).unwrap_or("cargo printed nothing").to_owned();
            println!("simulation: {failed}");
            report.failure(format!("simulation: {failed}"));
            report.section("Simulation", &format!("**failed**: {failed}"));
        }
    }
}

/// Runs the unit tests with this seed for the inputs of property tests. `make test` always uses the same seed.
pub fn properties(seed: u64, cases: u64, report: &mut Report) {
    let begun = Instant::now();
    let output = Command::new(cargo())
        .current_dir(workspace_root())
        .args(["test", "--locked", "--no-fail-fast", "--lib"])
        .args(PACKAGES.iter().flat_map(|package| ["-p", package]))
        .args(["--", "--skip", SIMULATION.filter, "--skip", fuzz::MODULE])
        .env("PROPTEST_RNG_SEED", seed.to_string())
        .env("PROPTEST_CASES", cases.to_string())
        .output()
        .expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = said.lines().filter_map(|l| l.strip_prefix("test result: ok. ")?.split_once(" passed"));
    let passed: Vec<_> = passed.filter_map(|(count, _)| count.parse::<u64>().ok()).collect();
    let failed: Vec<_> = said.lines().filter(|l| l.ends_with(" ... FAILED")).collect();
    let again = format!("PROPTEST_RNG_SEED={seed} PROPTEST_CASES={cases} runs them again");
    let text = if output.status.success() && passed.len() == PACKAGES.len() {
        format!(
            "test result: ok. {} passed, with {cases} cases for each property (a 16th for those on disk), and seed \
             {seed}; {} s.",
            passed.iter().sum::<u64>(),
            begun.elapsed().as_secs()
        )
    } else {
        report.failure(format!("properties: {} ({again})", failed.join(", ")));
        format!("**failed**: {} ({again})", failed.join(", "))
    };
    println!("properties: {text}");
    report.section("Properties", &text);
}

/// Runs the suite with each rule taken out, one after another. It must fail each time, and pass with none taken out.
/// Covers R39.
pub fn taken_out(report: &mut Report) {
    let packages: BTreeSet<_> = suites().iter().chain([&SIMULATION]).map(|suite| suite.package).collect();
    let packages: Vec<_> = packages.into_iter().collect();
    let binaries = match built(&packages, Some("take-out-rules")) {
        Ok(binaries) => binaries,
        Err(error) => return report.failure(format!("tests of the tests: {error}")),
    };
    let mut text = String::from(
        "The suite with one rule's code taken out (feature `take-out-rules`, which a release build refuses). It must \
         fail.\n\n\
         | rule | what remains without it | tests that fail |\n|---|---|---|\n",
    );
    let release = Command::new(cargo())
        .current_dir(workspace_root())
        .args(["check", "--locked", "--release", "-p", "changelogd", "--lib", "--features", "take-out-rules"])
        .output()
        .expect("cargo runs");
    if release.status.success() || !String::from_utf8_lossy(&release.stderr).contains("never for a release build") {
        report.failure("a release build with rules that can be taken out is not refused");
    }
    if let Err(error) = filters_match(&binaries) {
        report.failure(format!("tests of the tests: {error}"));
    }
    let (_, failed) = run(&binaries, &suites(), "none");
    if !failed.is_empty() {
        report.failure(format!("tests of the tests: with no rule taken out these fail: {}", by_package(&failed)));
    }
    let _ = writeln!(text, "| none | all rules | {} |", failed.len());
    for rule in Rule::ALL {
        let (id, without) = (rule.id(), without(rule));
        let (ended, failed) = run(&binaries, &notice(rule), id);
        if failed.is_empty() {
            report.failure(format!("tests of the tests: without {id} nothing fails ({ended})"));
        }
        println!("without {id}: {} tests fail", failed.len());
        let _ = writeln!(text, "| {id} | {without} | {} |", by_package(&failed));
    }
    report.section("Tests of the tests", &text);
}

/// A test that failed.
struct Failed {
    package: &'static str,
    name: String,
}

/// Each filter must match a test. A filter that matches none would leave out its tests unnoticed.
fn filters_match(binaries: &[Tests]) -> Result<(), String> {
    for Suite { package, filter } in [SIMULATION].into_iter().chain(suites()) {
        let tests = binaries.iter().find(|tests| tests.package == package).ok_or("a package without tests")?;
        if tests.listed(&[filter])?.is_empty() {
            return Err(format!("the filter {filter:?} matches no test of {package}"));
        }
    }
    for left_out in LEFT_OUT {
        let mut skipped = 0;
        for tests in binaries {
            skipped += tests.listed(&[])?.len() - tests.listed(&["--skip", left_out])?.len();
        }
        if skipped == 0 {
            return Err(format!("the filter --skip {left_out} matches no test"));
        }
    }
    Ok(())
}

/// The tests of these suites that fail with the rule of this id taken out, and how each package's run ended.
fn run(binaries: &[Tests], suites: &[Suite], id: &str) -> (String, Vec<Failed>) {
    let (mut ends, mut failed) = (Vec::new(), Vec::new());
    for tests in binaries {
        let filters: Vec<_> = suites.iter().filter(|s| s.package == tests.package).map(|s| s.filter).collect();
        if filters.is_empty() {
            continue;
        }
        let output = tests
            .command()
            .args(filters)
            .args(LEFT_OUT.iter().flat_map(|left_out| ["--skip", left_out]))
            .arg("--test-threads=4")
            .env("CHANGELOGD_TAKE_OUT", id)
            .env("RUST_BACKTRACE", "0")
            .output()
            .expect("the tests run");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = said.lines().filter_map(|l| l.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        let names = names.filter_map(|name| name.rsplit("::").next());
        failed.extend(names.map(|name| Failed { package: tests.package, name: name.to_owned() }));
        ends.push(format!("{}: {}", tests.package, output.status));
    }
    (ends.join(", "), failed)
}

/// The names of failed tests, after the name of their package.
fn by_package(failed: &[Failed]) -> String {
    let packages: BTreeSet<_> = failed.iter().map(|test| test.package).collect();
    let of = |package: &str| {
        let names = failed.iter().filter(|test| test.package == package).map(|test| format!("`{}`", test.name));
        format!("{package}: {}", names.collect::<Vec<_>>().join(", "))
    };
    packages.into_iter().map(of).collect::<Vec<_>>().join("; ")
}
