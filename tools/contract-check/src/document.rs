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
    /// Paragraphs that begin with `Reason:`.
    reasons: usize,
    /// The first line behind the `Tests:` paragraph.
    behind_tests: Option<usize>,
}

impl Document {
    pub fn parse(text: &str) -> Self {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut document = Self { lines: Vec::new(), rules: Vec::new(), problems: Vec::new() };
        if text.contains('\r') {
            document.problems.push(Problem::new(DOCUMENT, 1, "lines end with a line feed only"));
        }
        let (mut promised, mut in_rule) = (true, false);
        // The line where a code block begins, and its fence.
        let mut code = None::<(usize, &str)>;
        for (at, line) in lines.iter().enumerate() {
            if let Some((_, begin)) = code {
                if fence(line).is_some_and(|end| end.starts_with(begin) && line.trim() == end) {
                    code = None;
                }
                continue;
            }
            if let Some(begin) = fence(line) {
                code = Some((at, begin));
                continue;
            }
            if is_misplaced_heading(line) {
                document.problems.push(Problem::new(DOCUMENT, at + 1, "the heading of a rule begins with \"### \""));
            } else if line.starts_with("## ") {
                (promised, in_rule) = (line != NOT_PROMISED, false);
            } else if let Some(heading) = line.strip_prefix("### ") {
                in_rule = document.begin(at, heading, promised);
            } else if let Some(rule) = document.rules.last_mut().filter(|_| in_rule) {
                rule.add(at, line, &lines);
            }
        }
        if let Some((at, _)) = code {
            document.problems.push(Problem::new(DOCUMENT, at + 1, "this code block has no end"));
        }
        document.lines = lines;
        document.check();
        document.check_references();
        document
    }

    fn begin(&mut self, at: usize, heading: &str, promised: bool) -> bool {
        let id = heading.split(' ').next().unwrap_or_default();
        if !is_id(id) {
            self.problems.push(Problem::new(DOCUMENT, at + 1, "the heading of a rule begins with its id, such as R1"));
            return false;
        }
        self.rules.push(Rule {
            id: id.to_owned(),
            heading: at,
            promised,
            end: at + 1,
            tests: None,
            reasons: 0,
            behind_tests: None,
        });
        true
    }

    /// An id in a text is that of a rule.
    fn check_references(&mut self) {
        for (at, line) in self.lines.iter().enumerate() {
            for word in line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| is_id(word)) {
                if self.rules.iter().all(|rule| rule.id != word) {
                    self.problems.push(Problem::new(DOCUMENT, at + 1, format!("{word} is no rule of this document")));
                }
            }
        }
    }

    fn check(&mut self) {
        for (i, rule) in self.rules.iter().enumerate() {
            let mut wrong = |what: String| self.problems.push(Problem::new(DOCUMENT, rule.heading + 1, what));
            let id = &rule.id;
            if let Some(first) = self.rules[..i].iter().find(|other| other.id == *id) {
                wrong(format!("{id} is also the id of the rule in line {}", first.heading + 1));
            }
            match rule.reasons {
                0 => wrong(format!("{id} has no paragraph that begins with \"Reason:\" and gives one")),
                1 => {}
                _ => wrong(format!("{id} has more than one paragraph that begins with \"Reason:\"")),
            }
            if let Some(at) = rule.behind_tests {
                wrong(format!("line {}: nothing stands behind the list of the tests of {id}", at + 1));
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
            Some(_) => drop(self.behind_tests.get_or_insert(at)),
            None if begins_paragraph && line.starts_with("Tests:") => self.tests = Some(at..at + 1),
            None => {}
        }
        let gives_reason = line.strip_prefix("Reason:").is_some_and(|reason| !reason.trim().is_empty());
        self.reasons += usize::from(begins_paragraph && gives_reason);
        self.end = at + 1;
    }
}

/// The fence that begins or ends a code block.
fn fence(line: &str) -> Option<&str> {
    let text = line.trim_start();
    let kind = text.chars().next().filter(|c| matches!(c, '`' | '~'))?;
    let fence = &text[..text.len() - text.trim_start_matches(kind).len()];
    (fence.len() >= 3 && line.len() - text.len() <= 3).then_some(fence)
}

/// A heading with an id that is indented, without a space, or of another level than a rule's.
fn is_misplaced_heading(line: &str) -> bool {
    let text = line.trim_start();
    let title = text.trim_start_matches('#');
    let id = title.split_whitespace().next().unwrap_or_default();
    text.starts_with('#') && is_id(&id.to_uppercase()) && !line.starts_with("### ")
}

/// A letter for the kind of rule, and a number.
pub fn is_id(text: &str) -> bool {
    let number = text.strip_prefix(['C', 'R', 'S', 'K', 'F', 'B']).unwrap_or_default();
    !number.is_empty() && !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit())
}
