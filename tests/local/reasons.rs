//! The reasons of statuses are in the code, and for readers in four tables and in the lists of RPCs. They must be the
//! same there, with the same codes.

use std::collections::{BTreeMap, BTreeSet};

const STATUS: &str = include_str!("../../src/service/status.rs");
const FACTS: &str = include_str!("../../src/service/facts.rs");
const CODEC: &str = include_str!("../../src/proto/codec.rs");
const COUNTED: &str = include_str!("../../src/metrics/refusals.rs");
const LOG_ERRORS: &str = include_str!("../../crates/changelog-core/src/log/error.rs");
const PROTO: &str = include_str!("../../proto/changelog.proto");
const CONTRACT: &str = include_str!("../../docs/contract.md");
const README: &str = include_str!("../../README.md");
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
        ("README.md", of_a_table(README, "| reason | code | what a client does |", 2, 1)),
        ("docs/operations.md", of_a_table(OPERATIONS, "\n## Reasons\n", 2, 1)),
    ] {
        let missing: Vec<_> = code.difference(&table).collect();
        let unknown: Vec<_> = table.difference(&code).collect();
        assert!(missing.is_empty() && unknown.is_empty(), "{name}: missing {missing:?}, not in the code {unknown:?}");
    }
}

#[test]
fn every_reason_of_the_code_is_counted() {
    let list = COUNTED.split("const REASONS:").nth(1).expect("the list").split("];").next().unwrap();
    let counted: BTreeSet<_> = list.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    let of_code = of_the_code().iter().filter_map(|reason| Some(reason.split_once(' ')?.1.to_owned())).collect();
    assert_eq!(counted, of_code);
}

/// Covers C77.
#[test]
fn the_table_of_facts_has_the_members_that_the_code_sets() {
    let named = |source: &'static str, call: &str| {
        let names = before_tests(source).split(call).skip(1).map(|rest| rest.split('"').next().unwrap());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    let mut members = BTreeSet::new();
    for source in [FACTS, STATUS, CODEC] {
        for call in ["fact(\"", "shown(\"", "unquoted(\"", "vec![(\"", "HashMap::from([(\""] {
            members.extend(named(source, call));
        }
    }
    members.extend(["limit", "got"].map(str::to_owned));
    assert!(members.len() > 25, "{members:?}");
    let table = OPERATIONS.split("\n### Facts\n").nth(1).expect("the heading").split("\n## ").next().unwrap();
    let first = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let documented: BTreeSet<_> = first.flat_map(|cell| cell.split('`').step_by(2)).map(str::to_owned).collect();
    let documented: BTreeSet<_> = documented.into_iter().filter(|name| !name.is_empty()).collect();
    assert_eq!(members, documented);
}

/// Covers C79.
#[test]
fn each_page_that_a_user_of_a_unix_socket_reads_has_the_option_and_the_symptom() {
    for (name, page) in [
        ("README.md", README),
        ("docs/clients.md", include_str!("../../docs/clients.md")),
        ("helm/changelogd/README.md", include_str!("../../helm/changelogd/README.md")),
        ("helm/changelogd/templates/NOTES.txt", include_str!("../../helm/changelogd/templates/NOTES.txt")),
    ] {
        let words = ["grpc.default_authority", "overrideAuthority(\"localhost\")"];
        for word in words.into_iter().chain(["INTERNAL", "RST_STREAM", "PROTOCOL_ERROR"]) {
            assert!(page.contains(word), "{name} does not have {word}");
        }
    }
}

/// The items of lists in a comment that begin with codes and a colon, as codes and reasons.
fn of_lists(comment: &str) -> Reasons {
    let mut items = Vec::<String>::new();
    for line in comment.lines() {
        let text = line.trim_start().trim_start_matches('/').trim();
        match text.strip_prefix("- ") {
            Some(first) => items.push(first.to_owned()),
            None if text.is_empty() => items.push(String::new()),
            None => items.last_mut().into_iter().for_each(|item| *item += &format!(" {text}")),
        }
    }
    let mut found = Reasons::new();
    for item in items {
        let Some((codes, list)) = item.split_once(": ") else { continue };
        // What follows a full stop, and what stands in brackets, explains.
        let list = list.split(". ").next().unwrap();
        let list: String = list.split('(').map(|part| part.rsplit(')').next().unwrap()).collect();
        let codes: Vec<_> = codes.split([' ', ',']).filter(|word| !word.is_empty() && *word != "or").collect();
        if codes.iter().all(|code| is_reason(code)) {
            found.extend(reasons(&list).flat_map(|reason| codes.iter().map(move |code| format!("{code} {reason}"))));
        }
    }
    found
}

/// The reasons in the list of each RPC, by its name.
fn of_rpcs() -> BTreeMap<&'static str, Reasons> {
    let (_, service) = PROTO.split_once("\nservice ").unwrap();
    let service = service.split("\n}\n").next().unwrap();
    let (mut lists, mut comment) = (BTreeMap::new(), String::new());
    for line in service.lines() {
        match line.strip_prefix("  rpc ") {
            Some(rpc) => {
                let name = rpc.split('(').next().unwrap();
                assert!(comment.contains("rrors"), "{name} says nothing of its errors");
                lists.insert(name, of_lists(&comment));
                comment.clear();
            }
            None => comment += &format!("{line}\n"),
        }
    }
    lists
}

/// Covers C53.
#[test]
fn each_reason_is_in_the_list_of_an_rpc_or_of_all_with_the_code_of_the_table() {
    let (_, of_all) = PROTO.split_once("Every RPC has these errors").expect("the list for every RPC");
    let of_all = of_lists(of_all.split("COMPATIBILITY").next().unwrap());
    assert!(of_all.len() >= 5, "{of_all:?}");
    let rpcs = of_rpcs();
    assert!(rpcs.len() >= 9, "{rpcs:?}");
    let (table, named) = (of_the_proto(), rpcs.values().fold(of_all, |all, list| &all | list));
    // That of reflection, which is another service.
    let missing: Vec<_> = table.difference(&named).filter(|line| *line != "UNIMPLEMENTED NOT_IMPLEMENTED").collect();
    let unknown: Vec<_> = named.difference(&table).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "in no list {missing:?}, not in the table {unknown:?}");
}

/// The reasons that a function of `status.rs` can return for an error of the core. Those of topics are elsewhere.
fn of_function(name: &str) -> BTreeSet<String> {
    let (_, body) = STATUS.split_once(&format!("fn {name}(")).expect("the function");
    reasons(body.split("\n}\n").next().unwrap()).map(str::to_owned).collect()
}

fn without_codes(list: &Reasons) -> BTreeSet<String> {
    list.iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect()
}

/// Covers C53.
#[test]
fn the_lists_of_the_rpcs_have_what_the_code_returns_for_a_write_and_a_read() {
    let rpcs = of_rpcs();
    let list = |rpc: &str| without_codes(&rpcs[rpc]);
    let missing = &of_function("from_write_error") - &list("Set");
    assert!(missing.is_empty(), "Set: {missing:?}");
    let of_reads = &of_function("from_load_error") | &of_function("from_read_error");
    let missing = &of_reads - &(&list("LoadWorkspace") | &list("StreamAll"));
    assert!(missing.is_empty(), "StreamAll: {missing:?}");
    let only_of_streams = ["TOKEN_INVALID", "RESYNC_REQUIRED", "TOO_MANY_FOLLOWS"].map(str::to_owned);
    let missing = &(&of_reads - &list("LoadWorkspace")) - &only_of_streams.into();
    assert!(missing.is_empty(), "LoadWorkspace: {missing:?}");
    // A call that is refused before its RPC begins.
    for rpc in ["Set", "Flush", "LoadWorkspace", "Describe", "Write"] {
        for reason in ["STARTING", "OUT_OF_FILES", "MEMORY_LIMIT", "DEADLINE"] {
            assert!(list(rpc).contains(reason), "{rpc}: {reason}");
        }
    }
}
