//! The reasons of statuses are in three tables for readers, and in the code. They must be the same there, with the same
//! codes.

use std::collections::BTreeSet;

const STATUS: &str = include_str!("../../src/service/status.rs");
const CODEC: &str = include_str!("../../src/proto/codec.rs");
const LOG_ERRORS: &str = include_str!("../../crates/changelog-core/src/log/error.rs");
const PROTO: &str = include_str!("../../proto/changelog.proto");
const CONTRACT: &str = include_str!("../../docs/contract.md");
const OPERATIONS: &str = include_str!("../../docs/operations.md");

/// A code and a reason, such as `UNAVAILABLE DRAINING`.
type Reasons = BTreeSet<String>;

fn is_reason(word: &str) -> bool {
    word.len() > 5 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
}

/// Words in capitals.
fn reasons(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| is_reason(word))
}

/// `FailedPrecondition` as `FAILED_PRECONDITION`.
fn code(name: &str) -> String {
    let mut code = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !code.is_empty() {
            code.push('_');
        }
        code.push(c.to_ascii_uppercase());
    }
    code
}

fn before_tests(source: &str) -> &str {
    source.split("#[cfg(test)]").next().unwrap()
}

fn of_the_code() -> Reasons {
    let mut found = Reasons::new();
    for call in before_tests(STATUS).split("spec(Code::").skip(1) {
        let (name, rest) = call.split_once(',').expect("a code and a reason");
        match rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            Some((reason, _)) => found.extend([format!("{} {reason}", code(name))]),
            // The reason of a topic's problem.
            None if rest.trim_start().starts_with("problem.reason()") => {
                let table = LOG_ERRORS.split("pub fn reason(&self)").nth(1).expect("its table");
                let table = table.split("\n    }\n").next().unwrap();
                found.extend(reasons(table).map(|reason| format!("{} {reason}", code(name))));
            }
            None if rest.trim_start().starts_with("reason)") => {}
            None => panic!("neither a reason nor a topic's: {name}, {}", &rest[..40]),
        }
    }
    let fields = before_tests(STATUS).split("bad_field(").skip(1).map(|call| call.trim_start());
    let fields = fields.filter_map(|call| call.strip_prefix('"')?.split('"').next());
    let values =
        before_tests(STATUS).split("ValueError::").skip(1).flat_map(|arm| reasons(arm.split(',').next().unwrap()));
    let codec = before_tests(CODEC).split("with_error_info(\"").skip(1).filter_map(|call| call.split('"').next());
    found.extend(fields.chain(values).chain(codec).map(|reason| format!("INVALID_ARGUMENT {reason}")));
    found
}

fn of_the_proto() -> Reasons {
    let table = PROTO.split("reasons\n").nth(1).expect("the table").split("//\n").next().unwrap();
    let (mut found, mut codes) = (Reasons::new(), Vec::new());
    for line in table.lines() {
        let code = line.strip_prefix("//   ").and_then(|line| line.split_once(' ')).map_or("", |(code, _)| code);
        if is_reason(code) {
            codes = vec![code];
        }
        let column = line.get(72..).unwrap_or_default();
        found.extend(reasons(column).flat_map(|reason| codes.iter().map(move |code| format!("{code} {reason}"))));
    }
    found
}

/// The rows of a table with the codes in one column and the reasons in another.
fn of_a_table(document: &str, heading: &str, code_column: usize, reason_column: usize) -> Reasons {
    let table = document.split(heading).nth(1).expect("the heading");
    let rows =
        table.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with('|'));
    let mut found = Reasons::new();
    for row in rows {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let codes: Vec<_> = reasons(cells[code_column].split("with").next().unwrap()).collect();
        for reason in reasons(cells[reason_column]) {
            found.extend(codes.iter().map(|code| format!("{code} {reason}")));
        }
    }
    found
}

/// Covers C53.
#[test]
fn every_reason_of_the_code_is_in_each_table_with_its_code() {
    let code = of_the_code();
    assert!(code.len() > 25, "{code:?}");
    for (name, table) in [
        ("proto/changelog.proto", of_the_proto()),
        ("docs/contract.md", of_a_table(CONTRACT, "\n## Status codes\n", 1, 3)),
        ("docs/operations.md", of_a_table(OPERATIONS, "\n## Reasons\n", 2, 1)),
    ] {
        let missing: Vec<_> = code.difference(&table).collect();
        let unknown: Vec<_> = table.difference(&code).collect();
        assert!(missing.is_empty() && unknown.is_empty(), "{name}: missing {missing:?}, not in the code {unknown:?}");
    }
}
