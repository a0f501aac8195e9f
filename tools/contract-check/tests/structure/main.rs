//! The structure of the sources: no two files import each other, few files name a store or gRPC, and the functions
//! exist that ARCHITECTURE.md lists.

mod sources;

use std::{collections::BTreeMap, fs};

use sources::{crates, root};

#[test]
fn no_two_files_import_each_other() {
    let mut wrong = Vec::new();
    for sources in crates() {
        let imports: BTreeMap<_, _> = sources.0.iter().map(|(m, source)| (m, sources.imports(m, source))).collect();
        assert!(imports.values().any(|imported| imported.len() > 3), "imports are found");
        for (module, imported) in &imports {
            let back = imported.iter().filter(|other| *module < other && imports[other].contains(*module));
            wrong.extend(back.map(|other| format!("{} and {}", sources.0[*module].file, sources.0[other].file)));
        }
    }
    assert!(wrong.is_empty(), "these import each other: {wrong:#?}");
}

/// Names of modules and crates, and the modules of the root package that may name them.
const MAY_NAME: [(&[&str], &[&str]); 2] = [
    (&["kafka", "embedded", "changelog_kafka", "changelog_embedded"], &["app", "store", "commands", "main"]),
    (&["tonic", "tonic_types", "tonic_health", "tonic_reflection"], &["proto", "service", "server", "cli"]),
];

#[test]
fn few_files_name_a_store_or_grpc() {
    let mut wrong = Vec::new();
    for (names, allowed) in MAY_NAME {
        let mut is_used = false;
        for sources in crates() {
            for (module, source, first) in sources.first_names() {
                // A module may name itself.
                if !names.contains(&&*first) || module.first() == Some(&first) {
                    continue;
                }
                let is_allowed = module.first().is_some_and(|module| allowed.contains(&&**module));
                if is_allowed && source.file.starts_with("src/") {
                    is_used = true;
                } else {
                    wrong.push(format!("{} names {first}", source.file));
                }
            }
        }
        assert!(is_used, "nothing names {names:?}, so this test could not fail");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
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
