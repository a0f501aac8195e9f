//! The rules in docs/contract.md.
//!
//! A rule is a heading `### R1 One short sentence`, its text, a paragraph that begins with `Reason:`, and one that
//! begins with `Tests:`. A heading `## …` begins a section. The rules of `## Not promised yet` have no tests.

use std::ops::Range;

use crate::{DOCUMENT, Problem};

const NOT_PROMISED: &str = "## Not promised yet";

/// The document's lines, and the rules in them.
pub struct Document {
    pub lines: Vec<String>,
    pub rules: Vec<Rule>,
    pub problems: Vec<Problem>,
}

/// A rule. Lines count from 0 here, and from 1 in messages.
pub struct Rule {
    pub id: String,
    pub heading: usize,
    /// Whether it is outside the section of rules that are not promised yet.
    pub promised: bool,
    /// The line after the last line of its text.
    pub end: usize,
    /// The paragraph that begins with `Tests:`.
    pub tests: Option<Range<usize>>,
    has_reason: bool,
}

impl Document {
    pub fn parse(text: &str) -> Self {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut document = Self { lines: Vec::new(), rules: Vec::new(), problems: Vec::new() };
        let (mut promised, mut in_code, mut in_rule) = (true, false, false);
        for (at, line) in lines.iter().enumerate() {
            in_code ^= line.starts_with("```");
            if in_code {
                continue;
            }
            if line.starts_with("## ") {
                (promised, in_rule) = (line != NOT_PROMISED, false);
            } else if let Some(heading) = line.strip_prefix("### ") {
                in_rule = document.begin(at, heading, promised);
            } else if let Some(rule) = document.rules.last_mut().filter(|_| in_rule) {
                rule.add(at, line, &lines);
            }
        }
        document.lines = lines;
        document.check();
        document
    }

    fn begin(&mut self, at: usize, heading: &str, promised: bool) -> bool {
        let id = heading.split(' ').next().unwrap_or_default();
        if !is_id(id) {
            self.problems.push(Problem::new(DOCUMENT, at + 1, "the heading of a rule begins with its id, such as R1"));
            return false;
        }
        self.rules.push(Rule { id: id.to_owned(), heading: at, promised, end: at + 1, tests: None, has_reason: false });
        true
    }

    fn check(&mut self) {
        for (i, rule) in self.rules.iter().enumerate() {
            let mut wrong = |what: String| self.problems.push(Problem::new(DOCUMENT, rule.heading + 1, what));
            let id = &rule.id;
            if let Some(first) = self.rules[..i].iter().find(|other| other.id == *id) {
                wrong(format!("{id} is also the id of the rule in line {}", first.heading + 1));
            }
            if !rule.has_reason {
                wrong(format!("{id} has no paragraph that begins with \"Reason:\""));
            }
            if !rule.promised && rule.tests.is_some() {
                wrong(format!("{id} is not promised yet, so it has no paragraph that begins with \"Tests:\""));
            }
        }
    }
}

impl Rule {
    fn add(&mut self, at: usize, line: &str, lines: &[String]) {
        if line.is_empty() {
            return;
        }
        let begins_paragraph = lines[at - 1].is_empty();
        match &mut self.tests {
            Some(tests) if tests.end == at => tests.end += 1,
            None if begins_paragraph && line.starts_with("Tests:") => self.tests = Some(at..at + 1),
            _ => {}
        }
        self.has_reason |= begins_paragraph && line.starts_with("Reason:");
        self.end = at + 1;
    }
}

/// A letter for the kind of rule, and a number.
pub fn is_id(text: &str) -> bool {
    let number = text.strip_prefix(['C', 'R', 'S', 'K', 'F', 'B']).unwrap_or_default();
    !number.is_empty() && !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit())
}
