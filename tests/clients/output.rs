//! Which tests passed and which were skipped, by what the test runners of the packages print.
//!
//! A test that failed need not be found: the runner's exit status says so. One that is neither passed nor skipped here
//! is missing.

use std::collections::BTreeSet;

#[cfg(test)]
mod tests;

/// The tests of one package.
#[derive(Debug, Default)]
pub struct Tests {
    passed: BTreeSet<String>,
    /// What a failure shows: names, or a line that counts them.
    pub skipped: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Passed,
    Skipped,
}

impl Tests {
    pub fn read(output: &str) -> Self {
        let mut tests = Self::default();
        for (outcome, name) in output.lines().filter_map(outcome) {
            match outcome {
                Outcome::Passed => drop(tests.passed.insert(plain(name))),
                Outcome::Skipped => tests.skipped.push(name.to_owned()),
            }
        }
        tests
    }

    /// Whether the test of this behaviour passed.
    pub fn has_passed(&self, behaviour: &str) -> bool {
        self.passed.contains(&plain(behaviour))
    }
}

/// A name without what the languages spell differently: `TestAKeyIsSplit`, `test_a_key_is_split`, `aKeyIsSplit()`.
fn plain(name: &str) -> String {
    let plain: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    plain.strip_prefix("test").map_or_else(|| plain.clone(), str::to_owned)
}

fn outcome(line: &str) -> Option<(Outcome, &str)> {
    [go, cargo, pytest, node, surefire].into_iter().find_map(|runner| runner(line))
}

/// `--- PASS: TestName (0.01s)`. A part of a test is indented.
fn go(line: &str) -> Option<(Outcome, &str)> {
    let (word, name) = line.trim_start().strip_prefix("--- ")?.split_once(": ")?;
    let outcome = match word {
        "PASS" => Outcome::Passed,
        "SKIP" => Outcome::Skipped,
        _ => return None,
    };
    Some((outcome, name.split(" (").next()?))
}

/// `test module::name ... ok`.
fn cargo(line: &str) -> Option<(Outcome, &str)> {
    let (name, word) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let outcome = match word.split(',').next()? {
        "ok" => Outcome::Passed,
        "ignored" => Outcome::Skipped,
        _ => return None,
    };
    Some((outcome, name.rsplit("::").next()?))
}

/// `tests/test_file.py::test_name[parameter] PASSED [ 4%]`.
fn pytest(line: &str) -> Option<(Outcome, &str)> {
    let mut words = line.split_whitespace();
    let path = words.next().filter(|word| word.contains("::"))?;
    let outcome = words.find_map(|word| match word {
        "PASSED" => Some(Outcome::Passed),
        // A test that may fail says nothing.
        "SKIPPED" | "XFAIL" | "XPASS" => Some(Outcome::Skipped),
        _ => None,
    })?;
    Some((outcome, path.split('[').next()?.rsplit("::").next()?))
}

/// `✔ name (1.2ms)`, the reporter `spec`. A part of a test is indented.
fn node(line: &str) -> Option<(Outcome, &str)> {
    let (mark, name) = line.trim_start().split_once(' ')?;
    let outcome = match mark {
        "✔" | "﹣" if name.contains(" # SKIP") || name.contains(" # TODO") => Outcome::Skipped,
        "✔" => Outcome::Passed,
        "﹣" => Outcome::Skipped,
        _ => return None,
    };
    Some((outcome, name.split(" (").next()?))
}

/// `[INFO] package.Class.name -- Time elapsed: 0.1 s`, the format `plain`. A line that counts says what was skipped.
fn surefire(line: &str) -> Option<(Outcome, &str)> {
    if let Some((_, counts)) = line.split_once("Tests run: ") {
        let (_, skipped) = counts.split_once("Skipped: ")?;
        return (!skipped.starts_with('0')).then_some((Outcome::Skipped, line));
    }
    let (name, time) = line.split_once(" -- Time elapsed: ")?;
    // `<<< FAILURE!` or `<<< ERROR!`.
    if time.contains("<<<") {
        return None;
    }
    Some((Outcome::Passed, name.rsplit('.').next()?))
}
