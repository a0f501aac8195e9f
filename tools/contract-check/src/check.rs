//! Compares the rules with the tests, and writes the lists of tests.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    DOCUMENT, Problem,
    document::{Document, Rule},
    source::{Place, Tests},
};

const WIDTH: usize = 120;

/// Everything that is wrong, in the order of files and lines.
pub fn compare(document: Document, tests: Tests) -> Vec<Problem> {
    let mut problems = Vec::new();
    for rule in document.rules.iter().filter(|rule| rule.promised) {
        let wanted = paragraph(rule, &tests);
        let found = rule.tests.clone().map_or(&[][..], |lines| &document.lines[lines]);
        let line = rule.tests.as_ref().map_or(rule.heading, |tests| tests.start) + 1;
        if wanted.is_empty() {
            problems.push(Problem::new(DOCUMENT, rule.heading + 1, format!("{} has no test", rule.id)));
        } else if wanted != found {
            problems.push(Problem::new(DOCUMENT, line, difference(&rule.id, &wanted, found)));
        }
    }
    for test in &tests.tests {
        for id in &test.covers {
            let what = match document.rules.iter().find(|rule| rule.id == *id) {
                None => format!("{} covers {id}, which is no rule of {DOCUMENT}", test.name),
                Some(rule) if !rule.promised => {
                    format!("{} covers {id}, which {DOCUMENT} does not promise yet", test.name)
                }
                Some(_) => continue,
            };
            problems.push(Problem::new(&test.file, test.line, what));
        }
    }
    problems.extend(same_names(&tests));
    problems.extend(document.problems);
    problems.extend(tests.problems);
    problems.sort();
    problems
}

/// Tests that a list could not tell apart: if one of them were removed, the list would stay as it is.
fn same_names(tests: &Tests) -> Vec<Problem> {
    let mut first = BTreeMap::new();
    let mut problems = Vec::new();
    for test in &tests.tests {
        let (file, at) = *first.entry((test.place, &test.name)).or_insert((&test.file, test.at));
        if (file, at) != (&test.file, test.at) {
            let what = format!("{} is also the name of the test in {file}:{at}, which covers rules too", test.name);
            problems.push(Problem::new(&test.file, test.line, what));
        }
    }
    problems
}

/// The document with the lists of tests that the sources give.
pub fn write(document: &Document, tests: &Tests) -> String {
    let mut lines = document.lines.clone();
    // From the end, so that the lines of earlier rules keep their numbers.
    for rule in document.rules.iter().filter(|rule| rule.promised).rev() {
        let wanted = paragraph(rule, tests);
        match &rule.tests {
            Some(found) if wanted.is_empty() => drop(lines.drain(found.start - 1..found.end)),
            Some(found) => drop(lines.splice(found.clone(), wanted)),
            None if wanted.is_empty() => {}
            None => drop(lines.splice(rule.end..rule.end, [String::new()].into_iter().chain(wanted))),
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The lines of a rule's `Tests:` paragraph; none if there is no test.
fn paragraph(rule: &Rule, tests: &Tests) -> Vec<String> {
    let mut by_place: BTreeMap<Place, BTreeSet<&str>> = BTreeMap::new();
    for test in tests.tests.iter().filter(|test| test.covers.contains(&rule.id)) {
        by_place.entry(test.place).or_default().insert(&test.name);
    }
    let mut lines = Vec::new();
    for (place, names) in by_place {
        lines.push(format!("- {}:", tests.named(place)));
        for (i, name) in names.iter().enumerate() {
            let name = format!("`{name}`{}", if i + 1 < names.len() { "," } else { "" });
            let line = lines.last_mut().expect("the place stands there");
            if line.chars().count() + 1 + name.chars().count() > WIDTH {
                lines.push(format!("  {name}"));
            } else {
                line.push(' ');
                line.push_str(&name);
            }
        }
    }
    if !lines.is_empty() {
        lines.insert(0, "Tests:".to_owned());
    }
    lines
}

fn difference(id: &str, wanted: &[String], found: &[String]) -> String {
    let (wanted, found) = (names(wanted), names(found));
    let list = |names: Vec<&String>| names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let (missing, surplus) = (wanted.difference(&found).collect::<Vec<_>>(), found.difference(&wanted).collect());
    let mut what = format!("the tests listed for {id} are not those that cover it; `make contract` writes them");
    for (title, names) in [("not listed", missing), ("listed without covering it", surplus)] {
        if !names.is_empty() {
            what.push_str(&format!("; {title}: {}", list(names)));
        }
    }
    what
}

/// The texts in backquotes.
fn names(lines: &[String]) -> BTreeSet<String> {
    lines.join("\n").split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = "# The contract\n\n## Rules\n\n### R1 One\n\nText.\n\nReason: because.\n\n\
                         ### R2 Two\n\nReason: so.\n\n## Not promised yet\n\n### S7 Later\n\nReason: not there.\n";
    const TESTS: &str = "
        /// Covers R1, R2.
        #[test]
        fn one() {}

        mod inner {
            proptest! {
                /// What it is about.
                /// Covers R2.
                #[test]
                fn two(any in 0..8u8) {}
            }
        }
    ";

    fn read(files: &[(&str, &str)]) -> Tests {
        let mut tests = Tests::default();
        for (file, text) in files {
            tests.read_file(file, text);
        }
        tests
    }

    /// The problems after the lists were written for `before`, and the sources became `after`.
    fn problems(before: &str, after: &str) -> Vec<String> {
        let written = write(&Document::parse(RULES), &read(&[("src/a.rs", before)]));
        found(&written, &[("src/a.rs", after)])
    }

    fn found(document: &str, files: &[(&str, &str)]) -> Vec<String> {
        let problems = compare(Document::parse(document), read(files));
        problems.into_iter().map(|p| format!("{}:{}: {}", p.file, p.line, p.what)).collect()
    }

    fn one_problem(problems: &[String], file_and_line: &str, parts: &[&str]) {
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert!(problems[0].starts_with(&format!("{file_and_line}: ")), "{problems:#?}");
        for part in parts {
            assert!(problems[0].contains(part), "{problems:#?}");
        }
    }

    #[test]
    fn written_lists_compare_equal_and_are_written_the_same_again() {
        let tests = read(&[("src/a.rs", TESTS)]);
        let written = write(&Document::parse(RULES), &tests);
        let paragraph = "### R2 Two\n\nReason: so.\n\nTests:\n- unit: `one`, `two`\n\n## Not promised yet\n";
        assert!(written.contains(paragraph), "{written}");
        assert_eq!(write(&Document::parse(&written), &tests), written);
        assert_eq!(found(&written, &[("src/a.rs", TESTS)]), [""; 0]);
        // A rule whose tests are gone has no list.
        assert_eq!(write(&Document::parse(&written), &Tests::default()), RULES);
    }

    #[test]
    fn a_rule_whose_test_is_removed_fails() {
        let left = TESTS.replace("Covers R1, R2.", "Covers R2.");
        one_problem(&problems(TESTS, &left), "docs/contract.md:5", &["R1 has no test"]);
        let left = TESTS.replace("Covers R2.", "");
        one_problem(&problems(TESTS, &left), "docs/contract.md:18", &["R2", "listed without covering it: `two`"]);
    }

    #[test]
    fn a_test_that_is_not_listed_fails() {
        let more = format!("{TESTS}\n/// Covers R1.\n#[tokio::test]\nasync fn three() {{}}\n");
        one_problem(&problems(TESTS, &more), "docs/contract.md:11", &["R1", "not listed: `three`"]);
    }

    #[test]
    fn an_unknown_id_fails() {
        let unknown = TESTS.replace("Covers R1, R2.", "Covers R1, R2, R99.");
        one_problem(&problems(TESTS, &unknown), "src/a.rs:2", &["one covers R99", "no rule"]);
    }

    #[test]
    fn a_test_for_what_is_not_promised_yet_fails() {
        let early = TESTS.replace("Covers R1, R2.", "Covers R1, R2, S7.");
        one_problem(&problems(TESTS, &early), "src/a.rs:2", &["one covers S7", "not promise yet"]);
    }

    #[test]
    fn a_list_for_what_is_not_promised_yet_fails() {
        let written = write(&Document::parse(RULES), &read(&[("src/a.rs", TESTS)]));
        let listed = format!("{written}\nTests:\n- unit: `one`\n");
        one_problem(&found(&listed, &[("src/a.rs", TESTS)]), "docs/contract.md:23", &["S7 is not promised yet"]);
    }

    #[test]
    fn an_id_twice_and_a_rule_without_a_reason_fail() {
        let twice = format!("{RULES}\n### R1 Again\n\nText.\n");
        let problems = found(&write(&Document::parse(&twice), &read(&[("src/a.rs", TESTS)])), &[("src/a.rs", TESTS)]);
        assert!(problems.iter().any(|p| p.contains("R1 is also the id of the rule in line 5")), "{problems:#?}");
        assert!(
            problems.iter().any(|p| p.contains("R1 has no paragraph that begins with \"Reason:\"")),
            "{problems:#?}"
        );
    }

    #[test]
    fn a_malformed_line_and_one_without_a_test_fail() {
        for malformed in ["/// Covers R1, R2", "/// Covers: R1, R2.", "// Covers R1, R2.", "/// covers R1 and R2."] {
            let text = TESTS.replace("/// Covers R1, R2.", malformed);
            let problems = problems(TESTS, &text);
            assert!(problems.iter().any(|p| p.starts_with("src/a.rs:2: a Covers line has the form")), "{problems:#?}");
        }
        let not_a_test = format!("{TESTS}\n/// Covers R1.\nfn three() {{}}\n");
        one_problem(&problems(TESTS, &not_a_test), "src/a.rs:15", &["belongs to no test"]);
    }

    #[test]
    fn campaign_faults_chart_cases_go_tests_and_make_targets_are_tests() {
        let fault = ("tests/campaign/faults/down.rs", "/// Covers R1.\npub struct Writes;\n");
        let case = ("tests/chart/run.sh", "# Covers R1.\nrefuses 'too old' 1.2\n    # Covers R1.\n    same() {\n");
        let go = ("tools/linearize/main_test.go", "// Covers R2.\nfunc TestIt(t *testing.T) {\n");
        let make = ("Makefile", "# Covers R2.\ndeny: tools ## What it does\n");
        let written = write(&Document::parse(RULES), &read(&[fault, case, go, make]));
        let listed = "Tests:\n- campaign: `down::Writes`\n- chart: `refuses 'too old'`, `same`\n";
        assert!(written.contains(listed), "{written}");
        assert!(written.contains("Tests:\n- tools: `TestIt`\n- make: `deny`\n"), "{written}");
        one_problem(
            &found(&written, &[fault, case, go, make, ("tests/chart/more.sh", "# Covers R1\nrefuses 'a'\n")]),
            "tests/chart/more.sh:1",
            &["has the form"],
        );
    }

    #[test]
    fn the_suite_is_listed_with_the_servers_that_it_runs_on() {
        let mut tests = Tests::default();
        tests.read_suite("(@tests $start, promises:\n    it_holds\n);\n");
        tests.read_file("tests/contract/promises.rs", "/// Covers R1.\npub async fn it_holds(world: World) {}\n");
        tests.read_file(
            "tests/broker/main.rs",
            "contract!(broker_over_the_wire, crate::a);\ncontract!(broker, crate::b);\n",
        );
        tests.read_file("tests/local/main.rs", "contract!(memory, crate::c);\n");
        let written = write(&Document::parse(RULES), &tests);
        let listed = "- memory, Apache Kafka, Apache Kafka over the wire: `it_holds`\n";
        assert!(written.contains(listed), "{written}");
        tests.read_file("tests/local/main.rs", "\ncontract!(other, crate::d);\n");
        assert!(tests.problems[0].what.contains("contract!(other, …)") && tests.problems[0].line == 2);
        // A function that the macro does not name is never run.
        let mut tests = Tests::default();
        tests.read_file("tests/contract/promises.rs", "/// Covers R1.\npub async fn it_holds(world: World) {}\n");
        assert!(tests.problems[0].what.contains("belongs to no test"));
    }

    #[test]
    fn a_test_that_needs_a_capability_is_listed_with_the_servers_that_have_it() {
        let mut tests = Tests::default();
        tests.read_suite(
            "(@tests $start, promises:\n    it_holds\n);\n(@durable $start:path) => {\n(@tests $start, promises:\n    \
             it_survives\n);\n};\n",
        );
        let functions = "/// Covers R1.\npub async fn it_holds() {}\n/// Covers R1.\npub async fn it_survives() {}\n";
        tests.read_file("tests/contract/promises.rs", functions);
        tests.read_file(
            "tests/local/main.rs",
            "contract!(memory, a::b, foreign);\ncontract!(embedded, a::c, durable);\n",
        );
        let written = write(&Document::parse(RULES), &tests);
        assert!(written.contains("- memory, embedded: `it_holds`\n- embedded: `it_survives`\n"), "{written}");
        tests.read_suite("(@other $start:path) => {\n");
        assert!(tests.problems[0].what.contains("no capability other"), "{:?}", tests.problems[0].what);
    }

    #[test]
    fn two_tests_of_one_name_fail() {
        let other = ("src/b.rs", "mod inner {\n/// Covers R2.\n#[test]\nfn one() {}\n}\n");
        let written = write(&Document::parse(RULES), &read(&[("src/a.rs", TESTS), other]));
        let parts = ["one is also the name of the test in src/a.rs:4"];
        one_problem(&found(&written, &[("src/a.rs", TESTS), other]), "src/b.rs:2", &parts);
        // One test may have two lines, and a test in another place is another test.
        let two_lines = TESTS.replace("Covers R1, R2.", "Covers R1.\n/// Covers R2.");
        assert_eq!(problems(&two_lines, &two_lines), [""; 0]);
        let elsewhere = ("tests/local/b.rs", other.1);
        let written = write(&Document::parse(RULES), &read(&[("src/a.rs", TESTS), elsewhere]));
        assert_eq!(found(&written, &[("src/a.rs", TESTS), elsewhere]), [""; 0]);
    }

    #[test]
    fn a_test_that_may_not_run_fails() {
        for attribute in ["ignore", "ignore = \"slow\"", "cfg(feature = \"x\")", "cfg_attr(miri, ignore)"] {
            let ignored = TESTS.replacen("#[test]", &format!("#[{attribute}] #[tokio::test]"), 1);
            one_problem(&problems(TESTS, &ignored), "src/a.rs:2", &["one covers rules, and may not run"]);
        }
        let under_cfg = TESTS.replace("mod inner", "#[cfg(feature = \"x\")] mod inner");
        one_problem(&problems(TESTS, &under_cfg), "src/a.rs:9", &["two covers rules, and may not run"]);
        let of_tests = TESTS.replace("mod inner", "#[cfg(test)] mod inner");
        assert_eq!(problems(TESTS, &of_tests), [""; 0]);
    }

    #[test]
    fn a_covers_line_in_an_odd_form_fails() {
        let odd = [
            "/// Cover R1, R2.",
            "/// Covers r1, r2.",
            "/// Covers R1, R2, R1.",
            "/** Covers R1, R2. */",
            "#[doc = \"Covers R1, R2.\"]",
            "//! Covers R1, R2.",
        ];
        for odd in odd {
            let text = format!("{TESTS}\n{odd}\nfn helper() {{}}\n").replace("//! ", "// ");
            let problems = problems(TESTS, &text);
            assert!(problems.iter().any(|p| p.starts_with("src/a.rs:15: ")), "{odd}: {problems:#?}");
        }
        for odd in ["#Covers R1.", "# covers R1.", "# Covers R1", "## Covers R1."] {
            let case = ("tests/chart/run.sh", format!("{odd}\nrefuses 'a' 1.2\n"));
            let written = write(&Document::parse(RULES), &read(&[("src/a.rs", TESTS)]));
            let found = found(&written, &[("src/a.rs", TESTS), (case.0, &case.1)]);
            one_problem(&found, "tests/chart/run.sh:1", &["has the form"]);
        }
    }

    #[test]
    fn a_function_that_only_the_macro_names_fails() {
        let mut tests = Tests::default();
        tests.read_suite("(@tests $start, promises:\n    // A comment.\n    it_holds\n    it_is_gone\n);\n");
        tests.read_file("tests/contract/promises.rs", "/// Covers R1.\npub async fn it_holds(world: World) {}\n");
        tests.check_suite();
        assert_eq!(tests.problems.len(), 1, "{:?}", tests.problems);
        assert!(tests.problems[0].what.contains("promises::it_is_gone"), "{:?}", tests.problems);
    }

    /// What is wrong with this document, whose lists are those of `TESTS`.
    fn wrong(before: &str, after: &str) -> Vec<String> {
        let written = write(&Document::parse(RULES), &read(&[("src/a.rs", TESTS)]));
        assert!(written.contains(before), "{before}");
        found(&written.replacen(before, after, 1), &[("src/a.rs", TESTS)])
    }

    #[test]
    fn a_rule_has_one_reason_and_nothing_behind_its_tests() {
        let twice = "Reason: because.\n\nReason: and because.";
        one_problem(&wrong("Reason: because.", twice), "docs/contract.md:5", &["R1 has more than one"]);
        one_problem(&wrong("Reason: because.", "Reason:"), "docs/contract.md:5", &["R1 has no paragraph"]);
        for behind in ["Tests:\n- unit: `three`\n", "More.\n"] {
            let after = format!("{behind}\n### R2");
            one_problem(&wrong("### R2", &after), "docs/contract.md:5", &["line 14: nothing stands behind"]);
        }
    }

    #[test]
    fn a_heading_counts_only_outside_code_and_in_its_form() {
        for (begin, end) in [("```", "```"), ("~~~text", "~~~"), ("````", "````"), ("  ```", "```")] {
            let example = format!("Text.\n\n{begin}\n### R1 Again\n\n### Example\n## R2\n{end}");
            assert_eq!(wrong("Text.", &example), [""; 0], "{begin}");
        }
        let problems = wrong("Text.", "Text.\n\n```\ncode");
        assert!(problems.contains(&"docs/contract.md:9: this code block has no end".to_owned()), "{problems:#?}");
        for heading in ["#### R1 One", "## R1 One", "###R1 One", " ### R1 One", "## r1 One"] {
            let problems = wrong("### R1 One", heading);
            let expected = "docs/contract.md:5: the heading of a rule begins with \"### \"".to_owned();
            assert!(problems.contains(&expected), "{heading}: {problems:#?}");
        }
        for heading in ["### r1 One", "###  R1 One", "### R01 One", "### X1 One"] {
            let problems = wrong("### R1 One", heading);
            assert!(problems.iter().any(|p| p.contains("begins with its id")), "{heading}: {problems:#?}");
        }
    }

    #[test]
    fn an_id_that_no_rule_has_and_a_carriage_return_fail() {
        one_problem(&wrong("Text.", "See R2, and (R3)."), "docs/contract.md:7", &["R3 is no rule"]);
        one_problem(&wrong("Text.\n", "Text.\r\n"), "docs/contract.md:1", &["line feed"]);
    }
}
