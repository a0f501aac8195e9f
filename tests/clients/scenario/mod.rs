//! The calls of `steps.json`. The program of each language makes them with its generated code, and each of them must
//! end as the file says. `clients/BEHAVIOUR.md` describes both files and the programs.

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

const STEPS: &str = "tests/clients/scenario/steps.json";
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
    expect: Expected,
}

fn timeout_ms() -> u32 {
    TIMEOUT_MS
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
        let text = fs::read_to_string(workspace_root().join(STEPS)).map_err(|error| format!("{STEPS}: {error}"))?;
        let directory = workspace_root().join("target/clients").join(language);
        Self::in_directory(&directory, language, &text, variables, id).map_err(|error| format!("{STEPS}: {error}"))
    }

    fn in_directory(
        directory: &Path,
        language: &'static str,
        steps: &str,
        variables: &[(&str, String)],
        id: &str,
    ) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let steps: Value = serde_json::from_str(steps).map_err(|error| text(&error))?;
        let steps: Vec<Step> = serde_json::from_value(expand::expanded(&steps, id)?).map_err(|error| text(&error))?;
        let addresses: BTreeMap<_, _> = variables
            .iter()
            .filter_map(|(name, address)| Some((name.strip_prefix("CHANGELOGD_TEST_")?, address.as_str())))
            .collect();
        let (mut lines, mut on_servers) = (String::new(), Vec::new());
        for step in steps {
            for server in &step.servers {
                let address = addresses.get(server.as_str()).ok_or_else(|| format!("there is no server {server}"))?;
                let name = format!("{} on {server}", step.name);
                let Step { call, requests, timeout_ms, gzip, cancel_after, .. } = &step;
                let (timeout_ms, gzip, cancel_after) = (*timeout_ms, *gzip, *cancel_after);
                let call = Call { name: &name, address, call, requests, timeout_ms, gzip, cancel_after };
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
