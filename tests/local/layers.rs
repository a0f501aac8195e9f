//! The dependencies between modules that ARCHITECTURE.md allows, checked in the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|e| e == "rs") {
            found.push(entry);
        }
    }
}

/// The names after `crate::`, one by one or in a list.
fn modules(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, matched) in code.match_indices("crate::") {
        let rest = &code[at + matched.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.push(first_word(rest));
            continue;
        };
        let (mut depth, mut item_begins) = (0, true);
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => item_begins = true,
                c if item_begins && !c.is_whitespace() => {
                    found.push(first_word(&list[i..]));
                    item_begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The crates that a path names.
fn crates(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for name in ["rdkafka", "rdkafka_sys", "fjall", "tonic", "tonic_health", "tonic_types", "hyper", "axum"] {
        let named = code.match_indices(name).any(|(at, _)| {
            let before = code[..at].chars().next_back();
            code[at + name.len()..].starts_with("::") && !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
        });
        if named {
            found.push(name.to_owned());
        }
    }
    found
}

/// A module or crate, and the modules that may name it. A module may always name itself.
const RULES: [(&str, &[&str]); 15] = [
    ("rdkafka", &["kafka/"]),
    ("fjall", &["embedded/"]),
    ("tonic", &["proto/", "service/", "server/", "cli/"]),
    ("tonic_types", &["proto/", "service/", "server/", "cli/"]),
    ("tonic_health", &["server/", "cli/"]),
    ("hyper", &["server/"]),
    ("axum", &["server/"]),
    ("log", &["kafka/", "embedded/", "changelog/", "service/", "server/", "app.rs", "testing/"]),
    // The simulation is compiled for tests only. Streams are resumed over its log.
    ("changelog", &["service/", "app.rs", "metrics.rs", "testing/", "kafka/replay/sim/"]),
    ("service", &["server/", "app.rs"]),
    ("server", &["app.rs", "config/", "commands/"]),
    ("kafka", &["store.rs", "metrics.rs", "commands/"]),
    ("embedded", &["app.rs"]),
    ("cli", &["commands/"]),
    ("app", &["commands/"]),
];

#[test]
fn each_layer_uses_only_what_it_may() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 30, "the sources are found");
    let mut broken = Vec::new();
    let mut used = [false; RULES.len()];
    for file in files {
        let name = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        for what in [modules(&code), crates(&code)].concat() {
            let Some(i) = RULES.iter().position(|(w, _)| *w == what) else { continue };
            if RULES[i].1.iter().any(|allowed| name.starts_with(allowed)) {
                used[i] = true;
            } else if !name.starts_with(&format!("{what}/")) {
                broken.push(format!("src/{name} names {what}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    let unused: Vec<_> = RULES.iter().zip(used).filter(|(_, used)| !used).map(|((what, _), _)| what).collect();
    assert!(unused.is_empty(), "a rule that nothing uses can not fail: {unused:?}");
}
