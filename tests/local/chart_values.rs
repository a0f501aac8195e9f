//! The values of the chart, compared with the flags of `serve`.

use std::{collections::BTreeSet, fmt::Write, fs, path::PathBuf};

use changelogd::config::variable;

use crate::{
    flags::{Flag, help},
    process::{run, text},
};

fn chart() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/helm/changelogd"))
}

fn templates() -> String {
    let files = fs::read_dir(chart().join("templates")).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|e| e == "tpl"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect()
}

/// The variables that the templates set, for values with names of their own.
fn set_by_templates() -> BTreeSet<String> {
    let templates = templates();
    let names = templates.lines().filter_map(|line| line.trim_start().strip_prefix("- name: "));
    // Deployments of the Go package that came before set some of these.
    let ours = |name: &str| match name {
        "KAFKA_BROKERS" => Some("CHANGELOGD_BROKERS".to_owned()),
        "KAFKA_CHANGELOG_TOPIC" => Some("CHANGELOGD_TOPIC".to_owned()),
        "KAFKA_CHANGELOG_GROUP_ID" => Some("CHANGELOGD_GROUP_ID".to_owned()),
        _ => (name.starts_with("CHANGELOGD_") && !name.contains('{')).then(|| name.to_owned()),
    };
    names.filter_map(ours).collect()
}

/// readTimeout for read-timeout.
fn camel_case(flag: &str) -> String {
    let mut words = flag.split('-');
    let first = words.next().unwrap().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}

/// The number after a word of a flag's text, as in `from 1 to 64`.
fn number_after(text: &str, word: &str) -> Option<u64> {
    let (_, rest) = text.split_once(word)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn schema_of(flag: &Flag) -> String {
    match &*flag.value {
        "DURATION" if flag.text.contains("from 0ms") => {
            r##"{ "$ref": "#/definitions/optionalDurationOrZero" }"##.to_owned()
        }
        "DURATION" => r##"{ "$ref": "#/definitions/optionalDuration" }"##.to_owned(),
        // A switch has no value.
        "BOOL" | "" => r#"{ "type": ["boolean", "null"] }"#.to_owned(),
        "FILE" => r#"{ "type": ["string", "null"], "minLength": 1 }"#.to_owned(),
        "COUNT" | "BYTES" => {
            let least = number_after(&flag.text, ", from ").expect(&flag.name);
            let most = number_after(&flag.text, &format!(", from {least} to "));
            let most = most.map(|most| format!(", \"maximum\": {most}")).unwrap_or_default();
            format!(r#"{{ "type": ["integer", "null"], "minimum": {least}{most} }}"#)
        }
        other => panic!("--{}: a value of the kind {other} has no schema yet", flag.name),
    }
}

/// The first sentence of the help, and the one about the default.
fn comments_of(flag: &Flag) -> [String; 2] {
    let whole = flag.text.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let first = flag.text.lines().next().unwrap().trim_end_matches('.').to_owned() + ".";
    let default = match whole.split_once("[default: ") {
        Some((_, rest)) => format!("Default: {}.", rest.split_once(']').unwrap().0),
        None => {
            let (_, rest) = whole.split_once("By default ").expect(&flag.name);
            let end = rest.find(". ").unwrap_or(rest.len());
            format!("By default {}.", rest[..end].trim_end_matches('.'))
        }
    };
    [first, default]
}

/// Lines of a comment in values.yaml, of at most 120 characters.
fn comment(text: &str) -> String {
    let mut lines = vec![String::from("  #")];
    for word in text.split(' ') {
        if lines.last().unwrap().len() + 1 + word.len() > 120 {
            lines.push("  #".to_owned());
        }
        let line = lines.last_mut().unwrap();
        line.push(' ');
        line.push_str(word);
    }
    lines.join("\n") + "\n"
}

/// The file with another text from `begin` to `end`, which both stay. Without `end` it goes to the end of the file.
fn with_section(file: &str, begin: &str, end: Option<&str>, section: &str) -> String {
    let (before, rest) = file.split_once(begin).expect(begin);
    let after = end.map_or("", |end| &rest[rest.find(end).expect(end)..]);
    format!("{before}{begin}{section}{after}")
}

/// `make chart-values` writes what it would otherwise compare.
/// Covers C62, K9.
#[tokio::test]
async fn each_flag_is_a_value_of_the_chart() {
    let by_templates = set_by_templates();
    let (mut values, mut schema) = (String::new(), Vec::new());
    for flag in help("serve").await.iter().filter(|flag| !by_templates.contains(&variable(&flag.name))) {
        let name = camel_case(&flag.name);
        for text in comments_of(flag) {
            values += &comment(&text);
        }
        writeln!(values, "  {name}: null").unwrap();
        schema.push(format!("        \"{name}\": {}", schema_of(flag)));
    }
    assert!(schema.len() >= 10, "{schema:?}");
    let schema = schema.join(",\n");
    for (file, begin, end, section) in [
        ("values.yaml", "\nconfig:\n", None, &values),
        (
            "values.schema.json",
            concat!(
                "\n    \"config\": {\n      \"type\": \"object\",\n",
                "      \"additionalProperties\": false,\n      \"properties\": {\n"
            ),
            Some("\n      }\n    }"),
            &schema,
        ),
    ] {
        let path = chart().join(file);
        let found = fs::read_to_string(&path).unwrap();
        let expected = with_section(&found, begin, end, section);
        if std::env::var_os("CHANGELOGD_TEST_WRITE_CHART").is_some() {
            fs::write(&path, &expected).unwrap();
        } else {
            assert!(found == expected, "helm/changelogd/{file} differs from the flags: run `make chart-values`");
        }
    }
}

/// Covers C62.
#[tokio::test]
async fn every_variable_that_the_chart_sets_is_a_setting_of_serve() {
    let known: BTreeSet<_> = help("serve").await.iter().map(|f| variable(&f.name)).collect();
    let set = set_by_templates();
    assert!(set.contains("CHANGELOGD_DATA_LIMIT") && set.is_subset(&known), "{set:?}");
}

/// What the schema of the chart says of a value: the name of its definition.
fn definition_in_the_chart(path: &str) -> String {
    let schema = fs::read_to_string(chart().join("values.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let value = path.split('.').fold(&schema, |object, name| &object["properties"][name]);
    value["$ref"].as_str().unwrap_or_default().trim_start_matches("#/definitions/").to_owned()
}

/// Covers C62, K9.
#[tokio::test]
async fn the_chart_takes_each_duration_that_the_flag_takes() {
    let templates = templates();
    let mut compared = 0;
    for flag in help("serve").await.iter().filter(|f| f.value == "DURATION") {
        let name = format!("- name: {}\n", variable(&flag.name));
        let Some((_, rest)) = templates.split_once(&name) else { continue };
        let path: String = rest.split_once(".Values.").unwrap().1.split_whitespace().next().unwrap().to_owned();
        let expected = if flag.text.contains("from 0ms") { "durationOrZero" } else { "duration" };
        assert_eq!(definition_in_the_chart(&path), expected, "--{}", flag.name);
        compared += 1;
    }
    assert!(compared >= 4, "{compared}");
    // A value that may be left out has the same form.
    let schema = fs::read_to_string(chart().join("values.schema.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let pattern = |name: &str| schema["definitions"][name]["pattern"].as_str().expect("a pattern").to_owned();
    assert_eq!(pattern("optionalDuration"), pattern("duration"));
    assert_eq!(pattern("optionalDurationOrZero"), pattern("durationOrZero"));
}

/// The chart computes it itself, because it must refuse before a pod is made.
/// Covers K6.
#[tokio::test]
async fn the_chart_needs_as_much_memory_as_serve() {
    let cases = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chart/refuses.sh")).unwrap();
    let mut compared = 0;
    for case in cases.lines().filter_map(|line| line.strip_prefix("refuses_memory ")) {
        let words: Vec<_> = case.split(' ').collect();
        let value = format!("--max-value-bytes={}", words[0]);
        let store = if case.contains("kafka") { "--brokers=localhost:1" } else { "--store=embedded" };
        let of = |name: &str, default| case.split_once(name).map_or(default, |(_, value)| value).to_owned();
        let replays = format!("--replay-memory={}", of("config.replayMemory=", "2097152"));
        let producers = format!("--producers={}", of("config.producers=", "2"));
        let (output, _) = run(&["serve", "--memory-limit=1", &value, &replays, &producers, store], &[]).await;
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{case}: {message}");
        assert!(message.contains(&format!("at least {} ", words[1])), "{case}: {message}");
        compared += 1;
    }
    assert!(compared >= 4, "{compared}");
}
