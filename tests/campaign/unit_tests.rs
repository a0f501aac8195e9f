//! The unit tests of packages as programs, to run them with other settings.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use changelogd_testkit::workspace_root;

/// Unit tests of a package, selected by a filter of `cargo test`. The empty filter selects all.
#[derive(Debug, Clone, Copy)]
pub struct Suite {
    pub package: &'static str,
    pub filter: &'static str,
}

/// The unit tests of a package.
pub struct Tests {
    pub package: &'static str,
    binary: PathBuf,
    /// Cargo runs them in the directory of their package.
    directory: PathBuf,
}

/// Builds the unit tests of these packages, which are given once each. `feature` is one that each of them has.
pub fn built(packages: &[&'static str], feature: Option<&str>) -> Result<Vec<Tests>, String> {
    let features: Vec<_> =
        feature.into_iter().flat_map(|feature| packages.iter().map(move |p| format!("{p}/{feature}"))).collect();
    let output = Command::new(cargo())
        .current_dir(workspace_root())
        .args(["test", "--locked", "--lib", "--no-run", "--message-format=json", "--features", &features.join(",")])
        .args(packages.iter().flat_map(|package| ["-p", package]))
        .output()
        .expect("cargo runs");
    let failed = || String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(failed());
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let messages: Vec<_> = said.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok()).collect();
    let of = |package: &'static str| {
        let name = package.replace('-', "_");
        let mut own = messages.iter().filter(|m| m["target"]["name"] == *name && m["profile"]["test"] == true);
        own.find_map(|m| {
            let binary = m["executable"].as_str()?.into();
            let directory = Path::new(m["manifest_path"].as_str()?).parent()?.to_owned();
            Some(Tests { package, binary, directory })
        })
        .ok_or_else(|| format!("cargo has built no tests of {package}: {}", failed()))
    };
    packages.iter().copied().map(of).collect()
}

impl Tests {
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(&self.directory);
        command
    }

    /// The names of the tests that these filters select.
    pub fn listed(&self, filters: &[&str]) -> Result<Vec<String>, String> {
        let output = self.command().arg("--list").args(filters).output();
        let output = output.map_err(|error| format!("the tests of {} are not listed: {error}", self.package))?;
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }
}

pub fn cargo() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}
