//! The table of metrics in `docs/operations.md` is made of what a server answers, and of the rules of the alerts.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::Path};

use crate::{
    contract::{moving::Before, server::http_get},
    metrics::kafka,
};

const RULES: &str = include_str!("../../helm/changelogd/files/rules.yaml");
const BEGIN: &str = "<!-- metrics: written by `make metrics-table` -->\n";
const END: &str = "<!-- end of metrics -->\n";

#[derive(Default)]
struct Family {
    kind: String,
    help: String,
    labels: Vec<String>,
}

/// The families of the text format 0.0.4, by name.
fn families(text: &str) -> BTreeMap<String, Family> {
    let mut found = BTreeMap::<String, Family>::new();
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            found.entry(name.to_owned()).or_default().help = help.trim_end_matches('.').to_owned();
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            found.entry(name.to_owned()).or_default().kind = kind.to_owned();
        } else if let Some((series, rest)) = line.split_once('{') {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
                found.contains_key(series.strip_suffix(suffix)?).then(|| series.trim_end_matches(suffix))
            });
            let labels = rest.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
            if let Some(family) = found.get_mut(base.unwrap_or(series)) {
                family.labels = labels.filter(|name| name != "le").collect();
            }
        }
    }
    found
}

/// The alerts whose expression names a metric.
fn alerts(metric: &str) -> Vec<&'static str> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = |text: &str| {
        text.split(|c| !is_of_name(c)).any(|word| {
            let histogram =
                ["_bucket", "_sum", "_count"].iter().any(|suffix| word.strip_suffix(suffix) == Some(metric));
            word == metric || histogram
        })
    };
    let rules = RULES.split("- alert: ").skip(1).filter_map(|rule| {
        let (name, rest) = rule.split_once('\n')?;
        let expression = rest.split("annotations:").next()?;
        names(expression).then_some(name.trim())
    });
    rules.collect()
}

fn limit_of(name: &str, all: &BTreeMap<String, Family>) -> Option<String> {
    let limit = match name.strip_suffix("_bytes") {
        Some(name) => format!("{name}_limit_bytes"),
        None => format!("{name}_limit"),
    };
    let limit = match name {
        "process_open_fds" => "process_max_fds".to_owned(),
        "process_resident_memory_bytes" => "changelogd_memory_container_limit_bytes".to_owned(),
        "changelogd_store_filesystem_free_bytes" => "changelogd_store_filesystem_size_bytes".to_owned(),
        "changelogd_store_needed_bytes" => "changelogd_store_limit_bytes".to_owned(),
        _ => limit,
    };
    all.contains_key(&limit).then_some(limit)
}

fn table(text: &str) -> String {
    let all = families(text);
    let mut table = "| metric | type | labels | meaning | limit | alerts |\n|---|---|---|---|---|---|\n".to_owned();
    for (name, family) in &all {
        let code = |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let limit: Vec<_> = limit_of(name, &all).into_iter().collect();
        let (labels, limit) = (code(&family.labels), code(&limit));
        let Family { kind, help, .. } = family;
        writeln!(table, "| `{name}` | {kind} | {labels} | {help} | {limit} | {} |", alerts(name).join(", ")).unwrap();
    }
    table.replace("|  |", "| |").replace("|  |", "| |")
}

/// Covers C83.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_of_metrics_is_that_of_the_code() {
    let (_kafka, server) = kafka(1, &[]).await;
    let partitions = "changelogd_kafka_partition_end_offset";
    server.set("ws/t/a", "1").await;
    Before::of(&server).await.until(partitions, |now| now.sum(partitions) >= 1.0).await;
    let expected = table(&http_get(&server.admin, "/metrics").await.1);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let document = fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("where the table begins");
    let (written, after) = rest.split_once(END).expect("where it ends");
    if env::var_os("CHANGELOGD_TEST_WRITE_METRICS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}\n{expected}\n{END}{after}")).unwrap();
        return;
    }
    assert_eq!(written.trim(), expected.trim(), "docs/operations.md: run make metrics-table");
}
