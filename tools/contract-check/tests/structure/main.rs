//! The structure of the sources: no two files import each other, few files name a store or gRPC, and the functions
//! exist that ARCHITECTURE.md lists.

mod sources;

use std::{collections::BTreeMap, fs};

use sources::{crates, development_crates, root};

#[test]
fn no_two_files_import_each_other() {
    let mut wrong = Vec::new();
    let (shipped, development) = (crates(), development_crates());
    for (i, sources) in shipped.iter().chain(&development).enumerate() {
        let imports: BTreeMap<_, _> = sources.0.iter().map(|(m, source)| (m, sources.imports(m, source))).collect();
        assert!(i >= shipped.len() || imports.values().any(|imported| imported.len() > 3), "imports are found");
        for (module, imported) in &imports {
            let back = imported.iter().filter(|other| *module < other && imports[other].contains(*module));
            wrong.extend(back.map(|other| format!("{} and {}", sources.0[*module].file, sources.0[other].file)));
        }
    }
    assert!(wrong.is_empty(), "these import each other: {wrong:#?}");
}

/// A module of the root package (`crate::…`) or a path into another crate, and the beginnings of the paths of files
/// that may name it. A module may name itself.
const MAY_NAME: [(&str, &[&str]); 14] = [
    // The forms of brokers and properties are parsed with the flags, so that an error names the flag or the variable.
    ("changelog_kafka", &["src/store.rs", "src/commands/", "src/config/kafka.rs"]),
    ("changelog_embedded", &["src/store.rs"]),
    // The simulation is compiled for tests only. Streams are resumed over its log.
    (
        "changelog_core::changelog",
        &["src/service/", "src/server/opening.rs", "src/app.rs", "src/app/", "src/metrics.rs", SIMULATION],
    ),
    // Metrics have the codes of calls.
    ("tonic", &["src/proto/", "src/service/", "src/server/", "src/cli/", "src/metrics"]),
    ("tonic_types", &["src/proto/", "src/service/", "src/server/", "src/cli/"]),
    ("tonic_health", &["src/server/", "src/cli/"]),
    ("opentelemetry", &["src/traces.rs"]),
    ("hyper", &["src/server/", "crates/changelog-kafka/src/token/https.rs"]),
    ("axum", &["src/server/"]),
    ("crate::service", &["src/server/", "src/app.rs"]),
    ("crate::server", &["src/app.rs"]),
    ("crate::store", &["src/app.rs", "src/app/", "src/commands/"]),
    ("crate::cli", &["src/commands/"]),
    ("crate::app", &["src/commands/"]),
];
const SIMULATION: &str = "crates/changelog-kafka/src/replay/sim/";

#[test]
fn each_file_names_only_what_it_may() {
    let (mut wrong, mut is_used) = (Vec::new(), [false; MAY_NAME.len()]);
    for sources in crates() {
        for (module, source, path) in sources.named() {
            for (i, (name, allowed)) in MAY_NAME.iter().enumerate() {
                let is_named = name.split("::").eq(path.iter().take(name.split("::").count()));
                // Other crates have modules of the same names.
                let is_elsewhere = name.starts_with("crate::") && !source.file.starts_with("src/");
                let is_own = module.first().is_some_and(|first| name.strip_prefix("crate::") == Some(first));
                if !is_named || is_elsewhere || is_own {
                    continue;
                }
                if allowed.iter().any(|begin| source.file.starts_with(begin)) {
                    is_used[i] = true;
                } else {
                    wrong.push(format!("{} names {name}", source.file));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let unused: Vec<_> = MAY_NAME.iter().zip(is_used).filter(|(_, used)| !used).map(|((name, _), _)| name).collect();
    assert!(unused.is_empty(), "nothing names these, so this test could not fail: {unused:?}");
}

/// Calls whose steps ARCHITECTURE.md lists in a section of their own, and how many they may take.
const CALLS: [(&str, usize); 2] = [("`Set`", 20), ("`LoadWorkspace`", 35)];

/// A step is a line such as "1. `src/app.rs`: `run` …", with the file and the function.
#[test]
fn the_steps_of_architecture_md_name_functions_that_exist() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let is_step = |line: &&str| line.trim_start_matches(|c: char| c.is_ascii_digit()).starts_with(". ");
    for (call, most) in CALLS {
        let mut sections = text.split("\n## ");
        let section = sections.find(|section| section.lines().next().is_some_and(|heading| heading.contains(call)));
        let section = section.unwrap_or_else(|| panic!("ARCHITECTURE.md has no section about {call}"));
        let steps: Vec<_> = section.lines().filter(is_step).collect();
        assert!((1..=most).contains(&steps.len()), "{call} has {} steps, at most {most} are allowed", steps.len());
        for step in steps {
            let mut code = step.split('`').skip(1).step_by(2);
            let (Some(file), Some(function)) = (code.next(), code.next()) else {
                panic!("a step names a file and a function: {step}");
            };
            let path = match file.split_once('/') {
                Some((short @ ("core" | "kafka" | "embedded"), rest)) => format!("crates/changelog-{short}/src/{rest}"),
                _ => file.to_owned(),
            };
            let source =
                fs::read_to_string(root().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}: {step}"));
            let name = function.rsplit("::").next().unwrap_or_default();
            let defines = |after: &str| after.strip_prefix(name).is_some_and(|rest| rest.starts_with(['(', '<']));
            assert!(source.split("fn ").skip(1).any(defines), "{path} has no function {name}: {step}");
        }
    }
}
