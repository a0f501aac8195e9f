//! The names of the tests that each package must have: the first column of the first table in clients/BEHAVIOUR.md.

use std::fs;

use changelogd_testkit::workspace_root;

const DOCUMENT: &str = "clients/BEHAVIOUR.md";
/// The beginning of the table's first line.
const HEAD: &str = "| test | server |";

pub fn names() -> Result<Vec<String>, String> {
    let text = fs::read_to_string(workspace_root().join(DOCUMENT)).map_err(|error| format!("{DOCUMENT}: {error}"))?;
    let names = of_table(&text);
    if names.is_empty() { Err(format!("{DOCUMENT} has no table that begins with {HEAD:?}")) } else { Ok(names) }
}

fn of_table(text: &str) -> Vec<String> {
    let table = text.lines().skip_while(|line| !line.starts_with(HEAD)).take_while(|line| line.starts_with('|'));
    // Below the head is a line of dashes.
    table.skip(2).filter_map(|row| Some(row.split('|').nth(1)?.trim().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_names_of_tests() {
        let names = names().unwrap();
        assert!(names.contains(&"a_partial_load_is_an_error".to_owned()), "{names:?}");
        for name in names {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        }
    }

    #[test]
    fn other_tables_do_not_count() {
        let text = "| a | b |\n|---|---|\n| no | x |\n\n| test | server | what |\n|---|---|---|\n| one | both | 1 |\n\
                    | two | both | 2 |\n\n| script | call |\n|---|---|\n| other | Set |\n";
        assert_eq!(of_table(text), ["one", "two"]);
        assert_eq!(of_table("no table"), [""; 0]);
    }
}
