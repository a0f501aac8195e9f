//! The tests in the sources, and the rules that they cover.
//!
//! A test is
//! - a function with an attribute whose path ends in `test`, such as `#[tokio::test]`, also within `proptest! { … }`,
//! - a function of the contract suite, tests/contract, that its macro `contract!` names,
//! - a type or function of the fault campaign, tests/campaign, that has a `Covers` line,
//! - what follows a comment `# Covers K1.` in a shell script of the tests or in the Makefile,
//! - what follows a comment `// Covers R38.` in a Go test of the tools.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{Attribute, Expr, ExprLit, Item, Lit, Meta};

use crate::{Problem, document::is_id};

/// The servers that `contract!(module, …)` runs the suite on, by module, in the order in which they are listed.
const STORES: [(&str, &str); 6] = [
    ("memory", "memory"),
    ("embedded", "embedded"),
    ("mock_kafka", "mock cluster"),
    ("broker", "Apache Kafka"),
    ("embedded_over_the_wire", "embedded over the wire"),
    ("broker_over_the_wire", "Apache Kafka over the wire"),
];

/// The tests that the sources contain.
#[derive(Default)]
pub struct Tests {
    pub tests: Vec<Test>,
    pub problems: Vec<Problem>,
    /// Indexes in [`STORES`] of the servers that the contract suite runs on.
    stores: BTreeSet<usize>,
    /// The functions that `contract!` names: module and name.
    suite: BTreeSet<(String, String)>,
}

/// A test with at least one `Covers` line.
pub struct Test {
    pub name: String,
    pub place: Place,
    pub covers: Vec<String>,
    pub file: String,
    pub line: usize,
}

/// Where a test runs, in the order in which places are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    ContractSuite,
    Unit,
    Local,
    Broker,
    Campaign,
    Chart,
    Tools,
    Make,
}

impl Tests {
    /// The name of a place in the document.
    pub fn named(&self, place: Place) -> String {
        let name = match place {
            Place::ContractSuite => return self.stores.iter().map(|i| STORES[*i].1).collect::<Vec<_>>().join(", "),
            Place::Unit => "unit",
            Place::Local => "tests/it",
            Place::Broker => "broker",
            Place::Campaign => "campaign",
            Place::Chart => "chart",
            Place::Tools => "tools",
            Place::Make => "make",
        };
        name.to_owned()
    }

    /// Reads which functions the macro of tests/contract/mod.rs names. They are one to a line, between
    /// `(@tests $start, module:` and `);`.
    pub fn read_suite(&mut self, text: &str) {
        let mut module = None;
        for line in text.lines().map(str::trim) {
            if let Some((_, group)) = line.split_once("(@tests $start, ") {
                module = Some(group.trim_end_matches(':').to_owned());
            } else if line.starts_with(')') {
                module = None;
            } else if let Some(module) = &module {
                self.suite.insert((module.clone(), line.to_owned()));
            }
        }
    }

    /// Reads one file, named by its path from the root.
    pub fn read_file(&mut self, file: &str, text: &str) {
        match file.rsplit_once('.') {
            Some((_, "rs")) => self.read_rust(file, text),
            Some((_, "sh")) => self.read_comments(file, text, "# Covers ", shell_name),
            Some(_) if file.ends_with("_test.go") => self.read_comments(file, text, "// Covers ", go_name),
            None if file == "Makefile" => self.read_comments(file, text, "# Covers ", target_name),
            _ => {}
        }
    }

    fn read_rust(&mut self, file: &str, text: &str) {
        let parsed = match syn::parse_file(text) {
            Ok(parsed) => parsed,
            Err(error) => return self.wrong(file, error.span().start().line, format!("it does not parse: {error}")),
        };
        let mut reader = Rust { tests: self, file, claimed: BTreeSet::new() };
        reader.items(&parsed.items);
        let claimed = reader.claimed;
        for (at, line) in text.lines().enumerate().filter(|(_, line)| looks_like_covers(line)) {
            if !claimed.contains(&(at + 1)) {
                let what = if covers(line.trim().strip_prefix("///").unwrap_or_default()).is_some_and(|c| c.is_ok()) {
                    "this Covers line belongs to no test"
                } else {
                    "a Covers line has the form \"/// Covers R1, R3.\""
                };
                self.wrong(file, at + 1, what);
            }
        }
    }

    /// `name_of` gives the name of the line after the comment.
    fn read_comments(&mut self, file: &str, text: &str, prefix: &str, name_of: fn(&str) -> Option<String>) {
        let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        while let Some((line, comment)) = lines.next() {
            let Some(ids) = comment.strip_prefix(prefix) else { continue };
            let Some(covers) = ids_of(ids) else {
                self.wrong(file, line, format!("a Covers line has the form \"{prefix}R1, R3.\""));
                continue;
            };
            match lines.next().and_then(|(_, next)| name_of(next)) {
                Some(name) => self.add(name, place_of(file), covers, file, line),
                None => self.wrong(file, line, "this Covers line belongs to no test"),
            }
        }
    }

    fn add(&mut self, name: String, place: Place, covers: Vec<String>, file: &str, line: usize) {
        self.tests.push(Test { name, place, covers, file: file.to_owned(), line });
    }

    fn wrong(&mut self, file: &str, line: usize, what: impl Into<String>) {
        self.problems.push(Problem::new(file, line, what));
    }
}

/// All tests below a root.
pub fn read(root: &Path) -> Result<Tests, String> {
    let mut files = vec![root.join("Makefile")];
    for directory in ["src", "tests", "crates", "tools/linearize"] {
        let directory = root.join(directory);
        if directory.is_dir() {
            walk(&directory, &mut files).map_err(|error| format!("{}: {error}", directory.display()))?;
        }
    }
    files.sort();
    let mut tests = Tests::default();
    let suite = root.join("tests/contract/mod.rs");
    tests.read_suite(&fs::read_to_string(&suite).map_err(|error| format!("{}: {error}", suite.display()))?);
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let file = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        tests.read_file(&file, &text);
    }
    Ok(tests)
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// Where the tests of a file run.
fn place_of(file: &str) -> Place {
    let within = |directory: &str| file.split('/').any(|part| part == directory);
    match () {
        () if within("campaign") => Place::Campaign,
        () if within("chart") => Place::Chart,
        () if within("broker") => Place::Broker,
        () if file.starts_with("tools/") => Place::Tools,
        () if file == "Makefile" => Place::Make,
        () if file.starts_with("tests/") => Place::Local,
        () => Place::Unit,
    }
}

/// One Rust file.
struct Rust<'a> {
    tests: &'a mut Tests,
    file: &'a str,
    /// The lines whose `Covers` belongs to a test.
    claimed: BTreeSet<usize>,
}

impl Rust<'_> {
    fn items(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::Fn(function) => self.item(&function.attrs, &function.sig.ident.to_string()),
                Item::Struct(fault) => self.item(&fault.attrs, &fault.ident.to_string()),
                Item::Mod(module) => self.items(module.content.as_ref().map_or(&[], |(_, items)| items)),
                Item::Macro(called) if called.mac.path.is_ident("contract") => {
                    self.run_of_the_suite(&called.mac.tokens);
                }
                Item::Macro(called) if called.mac.path.is_ident("proptest") => {
                    self.functions_of(called.mac.tokens.clone());
                }
                _ => {}
            }
        }
    }

    /// A function or type with these attributes.
    fn item(&mut self, attributes: &[Attribute], name: &str) {
        let is_test = attributes.iter().any(|a| a.path().segments.last().is_some_and(|s| s.ident == "test"));
        let stem = self.file.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        let in_suite = self.file.starts_with("tests/contract/");
        let (name, place) = match place_of(self.file) {
            _ if in_suite && self.tests.suite.contains(&(stem.to_owned(), name.to_owned())) => {
                (name.to_owned(), Place::ContractSuite)
            }
            Place::Campaign => (format!("{stem}::{name}"), Place::Campaign),
            place if is_test => (name.to_owned(), place),
            _ => return,
        };
        for (line, doc) in attributes.iter().filter_map(documentation) {
            if let Some(Ok(covers)) = covers(&doc) {
                self.claimed.insert(line);
                self.tests.add(name.clone(), place, covers, self.file, line);
            }
        }
    }

    /// `contract!(module, start)`.
    fn run_of_the_suite(&mut self, tokens: &TokenStream) {
        let Some(TokenTree::Ident(module)) = tokens.clone().into_iter().next() else { return };
        match STORES.iter().position(|(name, _)| module == name) {
            Some(store) => drop(self.tests.stores.insert(store)),
            None => {
                let what =
                    format!("contract!({module}, …): STORES in tools/contract-check has no name for this server");
                self.tests.wrong(self.file, module.span().start().line, what);
            }
        }
    }

    /// The functions of `proptest! { … }`. Their parameters are not Rust, so only attributes and names are read.
    fn functions_of(&mut self, tokens: TokenStream) {
        let mut attributes = TokenStream::new();
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match (token, tokens.peek()) {
                (TokenTree::Punct(hash), Some(TokenTree::Group(group)))
                    if hash.as_char() == '#' && group.delimiter() == Delimiter::Bracket =>
                {
                    attributes.extend([TokenTree::Punct(hash), TokenTree::Group(group.clone())]);
                }
                (TokenTree::Ident(keyword), Some(TokenTree::Ident(name))) if keyword == "fn" => {
                    let name = name.to_string();
                    let parsed = syn::parse::Parser::parse2(Attribute::parse_outer, std::mem::take(&mut attributes));
                    self.item(&parsed.unwrap_or_default(), &name);
                }
                _ => {}
            }
        }
    }
}

/// The line and the text of a doc comment.
fn documentation(attribute: &Attribute) -> Option<(usize, String)> {
    let Meta::NameValue(meta) = &attribute.meta else { return None };
    match &meta.value {
        Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) if meta.path.is_ident("doc") => {
            Some((text.span().start().line, text.value()))
        }
        _ => None,
    }
}

/// The ids of a doc comment's line: none if it is no `Covers` line, an error if it is malformed.
fn covers(doc: &str) -> Option<Result<Vec<String>, ()>> {
    let ids = doc.strip_prefix(" Covers ")?;
    Some(ids_of(ids).ok_or(()))
}

/// `R1, R3.`
fn ids_of(text: &str) -> Option<Vec<String>> {
    let ids: Vec<_> = text.strip_suffix('.')?.split(", ").map(str::to_owned).collect();
    ids.iter().all(|id| is_id(id)).then_some(ids)
}

/// A comment whose first word is "covers" and whose second is like an id. It must be a `Covers` line of the exact form.
fn looks_like_covers(line: &str) -> bool {
    let Some(comment) = line.trim().strip_prefix("//") else { return false };
    let mut words = comment.trim_start_matches(['/', '!']).split_whitespace();
    words.next().is_some_and(|word| word.trim_end_matches(':').eq_ignore_ascii_case("covers"))
        && words.next().is_some_and(|word| is_id(&word.trim_end_matches([',', '.', ';']).to_uppercase()))
}

/// `refuses 'native sidecar' …` or `same() {`.
fn shell_name(line: &str) -> Option<String> {
    if let Some((function, _)) = line.split_once("() {") {
        return Some(function.to_owned());
    }
    let (command, rest) = line.split_once(' ')?;
    let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let (title, _) = rest[1..].split_once(quote)?;
    Some(format!("{command} {quote}{title}{quote}"))
}

/// `func TestName(…`.
fn go_name(line: &str) -> Option<String> {
    let (name, _) = line.strip_prefix("func ")?.split_once('(')?;
    Some(name.to_owned())
}

/// `deny: …`.
fn target_name(line: &str) -> Option<String> {
    let (target, _) = line.split_once(':')?;
    Some(target.to_owned())
}
