//! The structure of the sources: no two files import each other, and few files name a store or gRPC.

use std::collections::BTreeMap;

use crate::sources::crates;

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
