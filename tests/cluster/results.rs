//! What the applications of a case have written, and whether it is still there.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde::Deserialize;

use super::{command::target, stage::exec};

/// What an application keeps in its file.
#[derive(Debug, Deserialize)]
pub struct Outcome {
    /// Answers until SIGTERM.
    pub before: BTreeMap<String, u64>,
    /// Answers to calls that began after it.
    pub after: BTreeMap<String, u64>,
    pub acknowledged: BTreeMap<String, u64>,
    pub has_ended: bool,
}

/// The folder that the pods of a case share. Every user may write to it.
pub fn folder(case: &str) -> Result<PathBuf, String> {
    use std::os::unix::fs::PermissionsExt;
    let folder = target("run/results").join(case);
    fs::create_dir_all(&folder)
        .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)))
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

/// By pod.
pub fn outcomes(case: &str) -> Result<BTreeMap<String, Outcome>, String> {
    let folder = target("run/results").join(case);
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", folder.display());
    let mut outcomes = BTreeMap::new();
    for entry in fs::read_dir(&folder).map_err(|error| wrong(&error))?.flatten() {
        let name = entry.file_name().display().to_string();
        if let Some(pod) = name.strip_suffix(".json") {
            let bytes = fs::read(entry.path()).map_err(|error| wrong(&error))?;
            outcomes.insert(pod.to_owned(), serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?);
        }
    }
    Ok(outcomes)
}

/// Adds up answers of all pods.
pub fn sum<'a>(all: impl Iterator<Item = &'a BTreeMap<String, u64>>) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for (kind, count) in all.flatten() {
        *sum.entry(kind.clone()).or_default() += count;
    }
    sum
}

/// Loads the workspaces of all pods through a pod that runs. An error names the first acknowledged write that is lost.
pub async fn nothing_lost(case: &str, object: &str, outcomes: &BTreeMap<String, Outcome>) -> Result<usize, String> {
    let mut command = vec!["/usr/local/bin/application", "load"];
    command.extend(outcomes.keys().map(String::as_str));
    let loaded = exec(case, object, "orders", &command).await?;
    let loaded: BTreeMap<String, BTreeMap<String, u64>> =
        serde_json::from_str(&loaded).map_err(|error| format!("the application printed {loaded}: {error}"))?;
    for (pod, outcome) in outcomes {
        for (entity, acknowledged) in &outcome.acknowledged {
            let there = loaded.get(pod).and_then(|entities| entities.get(entity)).copied();
            // A write without an answer may be there, too.
            if there.is_none_or(|there| there < *acknowledged) {
                return Err(format!("LOST: {pod}/{entity} has {there:?}, and {acknowledged} was acknowledged"));
            }
        }
    }
    Ok(outcomes.values().map(|outcome| outcome.acknowledged.len()).sum())
}
