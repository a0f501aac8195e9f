//! The calls of the files in `steps/`. The program of each language makes them with its generated code, and each of
//! them must end as its file says. `clients/BEHAVIOUR.md` describes the files and the programs.

mod answer;
mod expand;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use answer::{Answer, Expected};
use changelogd_testkit::workspace_root;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const STEPS: &str = "tests/clients/scenario/steps";
/// The files, in the order of their calls.
const FILES: [&str; 8] = ["values", "requests", "watches", "limits", "compression", "ends", "statuses", "responses"];
/// Longer than any call that ends well, except where a step says otherwise.
const TIMEOUT_MS: u32 = 20_000;
/// What a failure shows. More would hide the first ones.
const MOST_DIFFERENCES: usize = 20;

/// A step of the file, once its shorthands are expanded.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Step {
    name: String,
    /// The ends of the names of variables: `EMBEDDED`. The step is done on each.
    servers: Vec<String>,
    call: String,
    requests: Vec<Value>,
    #[serde(default = "timeout_ms")]
    timeout_ms: u32,
    #[serde(default)]
    gzip: bool,
    cancel_after: Option<u32>,
    /// The largest response. Without it, the library has its own limit.
    max_message_bytes: Option<u32>,
    expect: Expected,
}

fn timeout_ms() -> u32 {
    TIMEOUT_MS
}

fn steps_of_all_files(id: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    for file in FILES {
        let path = format!("{STEPS}/{file}.json");
        let text = fs::read_to_string(workspace_root().join(&path)).map_err(|error| format!("{path}: {error}"))?;
        steps.extend(read(&text, id).map_err(|error| format!("{path}: {error}"))?);
    }
    Ok(steps)
}

fn read(text: &str, id: &str) -> Result<Vec<Step>, String> {
    let steps: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let steps = serde_json::from_value(expand::expanded(&steps, id)?);
    let steps: Vec<Step> = steps.map_err(|error: serde_json::Error| error.to_string())?;
    for step in &steps {
        step.expect.is_possible().map_err(|error| format!("{}: {error}", step.name))?;
    }
    Ok(steps)
}

/// One line for the program of a language.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Call<'a> {
    name: &'a str,
    address: &'a str,
    call: &'a str,
    requests: &'a [Value],
    timeout_ms: u32,
    gzip: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_after: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_message_bytes: Option<u32>,
}

/// The steps for one language, with workspaces of its own.
pub struct Scenario {
    language: &'static str,
    /// One for each step and server.
    steps: Vec<(String, Expected)>,
    calls: PathBuf,
    answers: PathBuf,
}

impl Scenario {
    /// Writes the calls. `variables` name the servers, and `id` makes names of workspaces unique.
    pub fn prepare(language: &'static str, variables: &[(&str, String)], id: &str) -> Result<Self, String> {
        let directory = workspace_root().join("target/clients").join(language);
        let steps = steps_of_all_files(id)?;
        Self::in_directory(&directory, language, steps, variables).map_err(|error| format!("{STEPS}: {error}"))
    }

    fn in_directory(
        directory: &Path,
        language: &'static str,
        steps: Vec<Step>,
        variables: &[(&str, String)],
    ) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let addresses: BTreeMap<_, _> = variables
            .iter()
            .filter_map(|(name, address)| Some((name.strip_prefix("CHANGELOGD_TEST_")?, address.as_str())))
            .collect();
        let (mut lines, mut on_servers) = (String::new(), Vec::new());
        for step in steps {
            for server in &step.servers {
                let address = addresses.get(server.as_str()).ok_or_else(|| format!("there is no server {server}"))?;
                let name = format!("{} on {server}", step.name);
                let Step { call, requests, timeout_ms, gzip, cancel_after, max_message_bytes, .. } = &step;
                let (timeout_ms, gzip) = (*timeout_ms, *gzip);
                let (cancel_after, max_message_bytes) = (*cancel_after, *max_message_bytes);
                let call =
                    Call { name: &name, address, call, requests, timeout_ms, gzip, cancel_after, max_message_bytes };
                lines.push_str(&serde_json::to_string(&call).map_err(|error| text(&error))?);
                lines.push('\n');
                on_servers.push((name, step.expect.clone()));
            }
        }
        let (calls, answers) = (directory.join("scenario-calls.jsonl"), directory.join("scenario-answers.jsonl"));
        fs::create_dir_all(directory).and_then(|()| fs::write(&calls, lines)).map_err(|error| text(&error))?;
        match fs::remove_file(&answers) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(text(&error)),
            _ => {}
        }
        Ok(Self { language, steps: on_servers, calls, answers })
    }

    /// Where the program finds the calls, and where its answers must be.
    pub fn variables(&self) -> [(&'static str, String); 2] {
        [
            ("CHANGELOGD_TEST_SCENARIO", self.calls.display().to_string()),
            ("CHANGELOGD_TEST_ANSWERS", self.answers.display().to_string()),
        ]
    }

    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether the program's answers are those that the steps expect.
    pub fn judge(&self) -> Result<(), String> {
        let path = self.answers.display();
        let text = fs::read_to_string(&self.answers).map_err(|error| format!("no answers: {path}: {error}"))?;
        let answers: Result<Vec<Answer>, _> = text.lines().map(serde_json::from_str).collect();
        let differences = self.differences(&answers.map_err(|error| format!("{path}: {error}"))?);
        if differences.is_empty() {
            return Ok(());
        }
        let shown = &differences[..differences.len().min(MOST_DIFFERENCES)];
        Err(format!("{} differences in {path}:\n    {}", differences.len(), shown.join("\n    ")))
    }

    fn differences(&self, answers: &[Answer]) -> Vec<String> {
        let mut differences = Vec::new();
        for (at, (name, expected)) in self.steps.iter().enumerate() {
            match answers.get(at) {
                None => differences.push(format!("{name}: no answer")),
                Some(answer) if answer.name != *name => {
                    differences.push(format!("{name}: answered as {}", answer.name));
                }
                Some(answer) => {
                    let found = expected.differences(answer, self.language);
                    differences.extend(found.into_iter().map(|difference| format!("{name}: {difference}")));
                }
            }
        }
        let others = answers.iter().skip(self.steps.len());
        differences.extend(others.map(|answer| format!("{}: no such step", answer.name)));
        differences
    }
}
