//! The fuzz targets with a million cases each. They are unit tests: the modules `fuzz` of the packages.

use std::{fmt::Write as _, time::Instant};

use changelog_core::rule::Rule;

use super::{
    report::Report,
    unit_tests::{Suite, Tests, built},
};

/// What the path of each target's tests contains.
pub const MODULE: &str = "fuzz::";
/// What the name of the test of each target's corpus begins with.
pub const CORPUS: &str = "the_corpus_of_";

/// A fuzz target.
pub struct Target {
    what: &'static str,
    pub suite: Suite,
    /// The rule whose absence it must notice.
    pub rule: Rule,
}

pub const TARGETS: [Target; 6] = [
    Target {
        what: "resume tokens",
        suite: Suite { package: "changelog-core", filter: "resume::token::fuzz::" },
        rule: Rule::DamagedTokenIsRefused,
    },
    Target {
        what: "keys",
        suite: Suite { package: "changelog-core", filter: "model::key::fuzz::" },
        rule: Rule::EmptySegmentIsRefused,
    },
    Target {
        what: "the embedded store's bytes",
        suite: Suite { package: "changelog-embedded", filter: "tests::fuzz::" },
        rule: Rule::EntryUnderAnotherKeyIsDamage,
    },
    Target {
        what: "requests",
        suite: Suite { package: "changelogd", filter: "service::fuzz::" },
        rule: Rule::UnknownEnumValueIsRefused,
    },
    Target {
        what: "Kafka properties and brokers",
        suite: Suite { package: "changelog-kafka", filter: "settings::fuzz::" },
        rule: Rule::UnknownValueIsSecret,
    },
    Target {
        what: "lines of an import",
        suite: Suite { package: "changelogd", filter: "cli::record::fuzz::" },
        rule: Rule::NullIsAValue,
    },
];

/// Cases of a fuzz target for each case of another property, as in the testkit.
const FACTOR: u64 = 8;

/// Runs each property of each target with this many cases.
/// Covers S15.
pub fn run(seed: u64, cases: u64, report: &mut Report) {
    println!("fuzz: seed {seed}, {cases} cases for each property");
    let mut text = format!(
        "Each property with {cases} cases and seed {seed}. \"Tests of the tests\" shows that each target notices a \
         fault.\n\n| target | properties | cases | seconds | |\n|---|---:|---:|---:|---|\n"
    );
    match built(&["changelog-core", "changelog-kafka", "changelog-embedded", "changelogd"], None) {
        Err(error) => report.failure(format!("fuzz: {error}")),
        Ok(binaries) => {
            for target in TARGETS {
                if let Err(error) = row(&target, &binaries, seed, cases, &mut text) {
                    report.failure(format!("fuzz: {}: {error}", target.what));
                }
            }
        }
    }
    report.section("Fuzzing", &text);
}

fn row(target: &Target, binaries: &[Tests], seed: u64, cases: u64, text: &mut String) -> Result<(), String> {
    let Suite { package, filter } = target.suite;
    let tests = binaries.iter().find(|tests| tests.package == package).ok_or("the package has no tests")?;
    let properties = tests.listed(&[filter, "--skip", CORPUS])?.len() as u64;
    let begun = Instant::now();
    let output = tests
        .command()
        .args([filter, "--skip", CORPUS])
        .env("PROPTEST_RNG_SEED", seed.to_string())
        .env("PROPTEST_CASES", (cases / FACTOR).to_string())
        .env("RUST_BACKTRACE", "0")
        .output()
        .map_err(|error| error.to_string())?;
    let seconds = begun.elapsed().as_secs_f64();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed: Vec<_> = said.lines().filter_map(|l| l.strip_prefix("test ")?.strip_suffix(" ... FAILED")).collect();
    let good = output.status.success() && properties > 0;
    let again = format!("PROPTEST_RNG_SEED={seed} PROPTEST_CASES={} cargo test -p {package} {filter}", cases / FACTOR);
    let verdict = if good { "passed".to_owned() } else { format!("**failed**: {} ({again})", failed.join(", ")) };
    println!("fuzz: {}: {properties} properties, {seconds:.1} s, {verdict}", target.what);
    let all = properties * cases;
    let _ = writeln!(text, "| {} | {properties} | {all} | {seconds:.1} | {verdict} |", target.what);
    if good { Ok(()) } else { Err(format!("{} ({again})", failed.join(", "))) }
}
