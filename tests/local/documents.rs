//! Each block of a document is run by a test, or says why it is not.

use std::fs;

use changelogd_testkit::markdown::blocks;

/// What tests run or compare, by the block's tag. The READMEs in `clients/` and `examples/` are scripts, which
/// `make first-steps` runs: `tests/clients/readme.rs`.
const CHECKED: [(&str, &[&str]); 9] = [
    // tests/broker/readme.rs
    ("README.md", &["sh", "console", "console kafka"]),
    // tests/broker/cookbook.rs
    ("docs/grpcurl.md", &["console"]),
    // tests/broker/kafka_tools.rs
    ("docs/kafka.md", &["sh kafka"]),
    // `data_directory` runs the backups.
    ("docs/embedded-store.md", &["console"]),
    // `the_service_config_is_that_of_the_go_package`
    ("docs/clients.md", &["json"]),
    // tests/chart/run.sh
    ("helm/changelogd/README.md", &["yaml"]),
    // Pictures.
    ("ARCHITECTURE.md", &["text"]),
    ("docs/semantics.md", &["text"]),
    // Comments of the API file: `make api` writes them.
    ("docs/api.md", &["text"]),
];

#[test]
fn each_block_is_run_or_says_why_it_is_not() {
    let root = env!("CARGO_MANIFEST_DIR");
    let docs = fs::read_dir(format!("{root}/docs")).unwrap().map(|file| file.unwrap().file_name());
    let docs = docs.map(|name| format!("docs/{}", name.into_string().unwrap())).filter(|name| name.ends_with(".md"));
    let others = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "ARCHITECTURE.md", "helm/changelogd/README.md"];
    let mut found = 0;
    for path in docs.chain(others.map(str::to_owned)) {
        let document = fs::read_to_string(format!("{root}/{path}")).unwrap();
        let checked = CHECKED.iter().find(|(name, _)| *name == path).map_or(&[][..], |(_, tags)| tags);
        for block in blocks(&document) {
            found += 1;
            assert!(checked.contains(&block.tag) == block.is_run(), "{path}: {block:?}");
        }
    }
    assert!(found > 40, "{found}");
}

#[test]
fn the_service_config_is_that_of_the_go_package() {
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let blocks = blocks(include_str!("../../docs/clients.md"));
    let document = blocks.iter().find(|block| block.tag == "json").expect("a json block").lines.join("\n");
    let package = include_str!("../../clients/go/client.go").split_once("\nconst serviceConfig = `");
    let package = package.and_then(|(_, rest)| rest.split_once('`')).expect("the constant").0;
    assert_eq!(parsed(&document), parsed(package));
}
