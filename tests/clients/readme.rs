//! What a README tells a new user to type, as one script.
//!
//! A `sh` block is run as it is. A `text` block is what the block before it prints. Any other block is a file, and the
//! line before it ends with the file's name: "`main.go`:". A block after a paragraph that begins with "Not run,
//! because" is left out. All blocks run in one shell, so that `cd` and `export` last.

use std::fmt::Write;

use changelogd_testkit::markdown::{Block, blocks};

/// Ends a file in the script. No block has this line.
const END_OF_FILE: &str = "END-OF-FILE";

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Commands(String),
    File { name: String, text: String },
    Output(String),
}

/// A script, and what its parts print.
#[derive(Debug)]
pub struct Script {
    /// It writes what the part N prints to `$OUTPUT/N`.
    pub text: String,
    /// Numbers of parts, and what they must print.
    pub printed: Vec<(usize, String)>,
}

impl Script {
    pub fn of(document: &str) -> Result<Self, String> {
        let (mut text, mut printed, mut commands) = ("set -eu\n".to_owned(), Vec::new(), None);
        for (number, part) in parts(document)?.into_iter().enumerate() {
            match part {
                Part::Commands(lines) => {
                    let _ = write!(text, "{{\n{lines}}} >\"$OUTPUT/{number}\"\n");
                    commands = Some(number);
                }
                Part::File { name, text: file } => {
                    let folder = name.rsplit_once('/').map_or(".", |(folder, _)| folder);
                    let _ = write!(text, "mkdir -p {folder}\ncat >{name} <<'{END_OF_FILE}'\n{file}{END_OF_FILE}\n");
                }
                Part::Output(expected) => {
                    let number = commands.take().ok_or_else(|| format!("no command prints {expected:?}"))?;
                    printed.push((number, expected));
                }
            }
        }
        Ok(Self { text, printed })
    }
}

fn parts(document: &str) -> Result<Vec<Part>, String> {
    blocks(document).into_iter().filter(Block::is_run).map(part).collect()
}

fn part(block: Block<'_>) -> Result<Part, String> {
    let text: String = block.lines.iter().map(|line| format!("{line}\n")).collect();
    Ok(match block.tag {
        "sh" => Part::Commands(text),
        "text" => Part::Output(text),
        tag => {
            let before = block.paragraph.last().copied().unwrap_or_default();
            let named = before.strip_suffix("`:").and_then(|before| Some(before.rsplit_once('`')?.1.to_owned()));
            let name = named.ok_or_else(|| format!("a {tag} block has no name of a file before it: {before:?}"))?;
            Part::File { name, text }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use changelogd_testkit::workspace_root;

    use super::*;
    use crate::LANGUAGES;

    #[test]
    fn a_document_is_a_script() {
        let document = "# Title\n\nIn an empty folder:\n\n```sh\nmkdir a\ncd a\n```\n\nWrite two lines in\n\
                        `src/main.go`:\n\n```go\npackage main\n```\n\n```sh\necho 1\n```\n\nIt prints:\n\n\
                        ```text\n1\n```\n\nNot run, because it is a part of a\nprogram, `x`:\n\n```go\nx()\n```\n";
        let script = Script::of(document).unwrap();
        let expected = "set -eu\n{\nmkdir a\ncd a\n} >\"$OUTPUT/0\"\nmkdir -p src\ncat >src/main.go <<'END-OF-FILE'\n\
                        package main\nEND-OF-FILE\n{\necho 1\n} >\"$OUTPUT/2\"\n";
        assert_eq!(script.text, expected);
        assert_eq!(script.printed, [(2, "1\n".to_owned())]);
    }

    #[test]
    fn a_block_without_a_meaning_is_an_error() {
        for document in ["```go\nx()\n```\n", "In `main.go`, write:\n\n```go\nx()\n```\n", "```text\n1\n```\n"] {
            Script::of(document).unwrap_err();
        }
    }

    #[test]
    fn each_readme_is_a_script_with_output() {
        for language in LANGUAGES {
            for folder in ["clients", "examples"] {
                let path = workspace_root().join(folder).join(language).join("README.md");
                let script = Script::of(&fs::read_to_string(&path).unwrap());
                let script = script.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                assert!(!script.printed.is_empty(), "{}", path.display());
            }
        }
    }
}
