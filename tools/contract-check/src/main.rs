//! Compares docs/contract.md with the tests: every rule has a test, and every test names rules that exist.
//!
//! A test names the rules that it covers in a line of its documentation, `/// Covers R1, R3.`. The document lists the
//! tests of each rule in a paragraph that begins with `Tests:`. With `--write` this program writes those paragraphs.
//! Without it, the program compares them and fails if they differ.
//!
//! `document` reads the rules, `source` reads the tests, `check` compares them.

mod check;
mod document;
mod source;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use document::Document;

const DOCUMENT: &str = "docs/contract.md";

/// A problem and its place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    file: String,
    line: usize,
    what: String,
}

impl Problem {
    fn new(file: &str, line: usize, what: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, what: what.into() }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let write = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--write"] => true,
        _ => {
            eprintln!("usage: changelogd-contract-check [--write]");
            return ExitCode::from(64);
        }
    };
    match run(&root(), write) {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            for Problem { file, line, what } in &problems {
                eprintln!("{file}:{line}: {what}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace. `cargo run` sets the variable to the directory of this package.
fn root() -> PathBuf {
    env::var("CARGO_MANIFEST_DIR").map_or_else(|_| PathBuf::from("."), |package| Path::new(&package).join("../.."))
}

fn run(root: &Path, write: bool) -> Result<Vec<Problem>, String> {
    let path = root.join(DOCUMENT);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let tests = source::read(root)?;
    let mut document = Document::parse(&text);
    if write {
        let written = check::write(&document, &tests);
        if written != text {
            fs::write(&path, &written).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        document = Document::parse(&written);
    }
    Ok(check::compare(document, tests))
}
