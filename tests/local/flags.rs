//! The flags of `serve` and their variables, as an operator sees them: the help, old names, documents.

use std::os::unix::ffi::OsStrExt;

use changelogd::config::{RENAMED, variable};

use crate::process::{run, text};

/// A flag as the help shows it.
pub struct Flag {
    heading: String,
    /// Without dashes.
    pub name: String,
    /// The placeholder of its value. Empty if it takes none.
    pub value: String,
    /// Lines without indentation.
    pub text: String,
}

/// The flags in the help of a command, in its order.
pub async fn help(command: &str) -> Vec<Flag> {
    let (output, _) = run(&[command, "--help"], &[]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let (mut heading, mut flags) = (String::new(), Vec::<Flag>::new());
    for line in text(&output.stdout).lines() {
        let is_indented = line.starts_with(' ');
        if let Some(words) = line.strip_suffix(':').filter(|_| !is_indented) {
            words.clone_into(&mut heading);
        } else if let Some(spec) = line.strip_prefix("      --") {
            let (name, value) = spec.split_once(' ').unwrap_or((spec, ""));
            flags.push(Flag {
                heading: heading.clone(),
                name: name.to_owned(),
                value: value.trim_matches(['<', '>']).to_owned(),
                text: String::new(),
            });
        } else if let Some(flag) = flags.last_mut().filter(|_| is_indented && !line.trim_start().starts_with("-h,")) {
            flag.text += line.trim();
            flag.text += "\n";
        }
    }
    flags
}

/// The settings that `changelogd config` shows, in its order.
async fn settings() -> Vec<String> {
    let (output, _) = run(&["config"], &[]).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    let setting = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON Lines in a pipe");
        line["setting"].as_str().unwrap().to_owned()
    };
    lines.lines().map(setting).collect()
}

#[tokio::test]
async fn every_flag_of_serve_stands_under_a_heading_and_gives_its_unit_and_default() {
    let flags = help("serve").await;
    let headings: Vec<_> = flags.iter().map(|f| &*f.heading).collect();
    let mut order = headings.clone();
    order.dedup();
    assert_eq!(order, ["Listen", "Store", "Kafka", "Limits", "Logging"], "{headings:?}");
    for Flag { name, value, text, .. } in &flags {
        let has_unit = match &**value {
            // It takes no value.
            "" => true,
            "BYTES" => text.contains("in bytes, from "),
            "DURATION" => text.contains(", from 0ms") || text.contains(", from 1ms"),
            "COUNT" => text.contains(", from 1 to "),
            "ADDRESS" => text.contains("host:port"),
            "LIST" => text.contains("host:port, separated by commas"),
            "FILTER" => text.contains("a level, or target=level pairs"),
            "BOOL" => text.contains("[possible values: true, false]"),
            "STORE" | "VALUES" | "LOG_FORMAT" => text.contains("Possible values:\n- "),
            "DIR" | "FILE" | "NAME" | "ID" | "NAME=VALUE" => true,
            other => panic!("--{name}: what is {other}?"),
        };
        assert!(has_unit, "--{name} <{value}>: no unit or range in {text}");
        let has_default = text.contains("[default: ") || text.contains("By default ");
        assert!(has_default, "--{name}: no default in {text}");
    }
    assert!(flags.len() > 25, "{headings:?}");
}

/// Covers C67.
#[tokio::test]
async fn config_shows_every_flag_of_serve_in_the_order_of_the_help() {
    let flags: Vec<_> = help("serve").await.into_iter().map(|f| f.name).collect();
    assert_eq!(settings().await, flags);
}

/// Covers C69, B24.
#[tokio::test]
async fn an_old_flag_or_variable_is_exit_64_and_one_line_that_names_the_new_one() {
    let flags: Vec<_> = help("serve").await.into_iter().map(|f| f.name).collect();
    for (old, new) in RENAMED {
        assert!(flags.iter().any(|f| f == new), "{new} is no flag of serve");
        assert!(flags.iter().all(|f| f != old), "{old} is a flag of serve");
        let (flag, with_value) = (format!("--{old}"), format!("--{old}=1s"));
        let (old_variable, new_variable) = (variable(old), variable(new));
        let flag_line = format!("changelogd: --{old}: renamed to --{new}\n");
        let variable_line = format!("changelogd: {old_variable}: renamed to {new_variable}\n");
        for command in ["serve", "config"] {
            let both = format!("--{new}=1s");
            for arguments in [&[command, &flag, "1s"][..], &[command, &with_value], &[command, &both, &with_value]] {
                let (output, _) = run(arguments, &[]).await;
                let found = (output.status.code(), text(&output.stderr));
                assert_eq!(found, (Some(64), flag_line.clone()), "{arguments:?}");
            }
            for variables in
                [&[(&*old_variable, "1s")][..], &[(&old_variable, "")], &[(&old_variable, "1s"), (&new_variable, "1s")]]
            {
                let (output, _) = run(&[command], variables).await;
                let found = (output.status.code(), text(&output.stderr));
                assert_eq!(found, (Some(64), variable_line.clone()), "{command}, {variables:?}");
            }
        }
    }
}

/// Covers B24.
#[tokio::test]
async fn an_old_variable_is_refused_also_if_its_value_is_no_text() {
    let output = tokio::process::Command::new(crate::contract::server::binary())
        .arg("serve")
        .env_clear()
        .env("CHANGELOGD_REPLAY_BUDGET", std::ffi::OsStr::from_bytes(b"\xff"))
        .output()
        .await
        .unwrap();
    let expected = "changelogd: CHANGELOGD_REPLAY_BUDGET: renamed to CHANGELOGD_REPLAY_MEMORY\n";
    assert_eq!((output.status.code(), &*text(&output.stderr)), (Some(64), expected));
}

/// Covers C69.
#[tokio::test]
async fn the_help_of_serve_and_the_client_ignore_old_variables() {
    let old = [("CHANGELOGD_MAX_FOLLOWS", "1"), ("CHANGELOGD_ADDR", "unix:/nonexistent")];
    let (output, _) = run(&["serve", "--help"], &old).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    // The error of a client that can't reach its server. It is not a usage error.
    let (output, _) = run(&["get", "ws/t/a"], &old).await;
    assert_eq!(output.status.code(), Some(69), "{}", text(&output.stderr));
    let (output, _) = run(&["get", "--max-follows=1", "ws/t/a"], &[]).await;
    let found = (output.status.code(), text(&output.stderr));
    assert_eq!(found, (Some(64), "changelogd: --max-follows: no such flag; see --help\n".to_owned()));
}

#[test]
fn the_changelog_has_the_table_of_old_and_new_names() {
    let changelog = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/CHANGELOG.md")).unwrap();
    let (_, upgrading) = changelog.split_once("\n### Upgrading\n").expect("a section");
    for (old, new) in RENAMED {
        let row = format!("| `--{old}` | `--{new}` | `{}` | `{}` |", variable(old), variable(new));
        assert!(upgrading.lines().any(|line| line == row), "{row}");
    }
}

#[tokio::test]
async fn the_configuration_document_has_a_row_for_each_flag() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    let mut rows = document.lines();
    for flag in help("serve").await {
        let start = format!("| `--{}` | `{}` | ", flag.name, variable(&flag.name));
        // In the order of the help: a row above the one before is not found.
        assert!(rows.any(|row| row.starts_with(&start)), "docs/configuration.md has no row {start}");
    }
}

/// Covers C67.
#[tokio::test]
async fn the_default_of_a_flag_is_the_same_in_help_document_and_config() {
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md")).unwrap();
    let (output, _) = run(&["config"], &[]).await;
    let lines = text(&output.stdout);
    let shown: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut compared = 0;
    for flag in help("serve").await {
        let default = flag.text.split_once("[default: ").and_then(|(_, rest)| rest.split_once(']'));
        let Some((default, _)) = default else { continue };
        let start = format!("| `--{}` | ", flag.name);
        let row = document.lines().find(|row| row.starts_with(&start)).expect(&start);
        let cell = row.split(" | ").nth(2).unwrap();
        let is_same = cell == format!("`{default}`") || cell.starts_with(&format!("`{default}`;"));
        assert!(is_same, "--{}: {default} in the help, {cell} in the document", flag.name);
        let setting = shown.iter().find(|setting| setting["setting"] == *flag.name).expect(&flag.name);
        assert_eq!(setting["value"], *default, "--{}", flag.name);
        compared += 1;
    }
    assert!(compared > 15, "{compared}");
}
