//! The tests in the sources, and the rules that they cover.
//!
//! A test is
//! - a function with an attribute whose path ends in `test`, such as `#[tokio::test]`, also within `proptest! { … }`,
//! - a function of the contract suite, tests/contract, that its macro `contract!` names,
//! - a type or function of the fault campaign, tests/campaign, that has a `Covers` line,
//! - what follows a comment `# Covers K1.` in a shell script of the tests or in the Makefile,
//! - what follows a comment `// Covers R38.` in a Go test of the tools.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};
use syn::{Attribute, Expr, ExprLit, Item, Lit, Meta};

use crate::{Problem, document::is_id};

/// The servers that `contract!(module, …)` runs the suite on, by module, in the order in which they are listed.
const STORES: [(&str, &str); 7] = [
    ("memory", "memory"),
    ("embedded", "embedded"),
    ("mock_kafka", "mock cluster"),
    ("broker", "Apache Kafka"),
    ("embedded_over_the_wire", "embedded over the wire"),
    ("broker_over_the_wire", "Apache Kafka over the wire"),
    ("broker_like_2_1", "like Kafka 2.1"),
];

/// Where `contract!` is.
const SUITE: &str = "tests/contract/mod.rs";

/// The tests that the sources contain.
#[derive(Default)]
pub struct Tests {
    pub tests: Vec<Test>,
    pub problems: Vec<Problem>,
    /// Indexes in [`STORES`] of the servers that the contract suite runs on, and what they can do.
    stores: BTreeMap<usize, BTreeSet<Capability>>,
    /// The functions that `contract!` names, by module and name, and what a server needs for them.
    suite: BTreeMap<(String, String), Capability>,
    /// Those of them that were found.
    found: BTreeSet<(String, String)>,
}

/// A test with at least one `Covers` line.
pub struct Test {
    pub name: String,
    pub place: Place,
    pub covers: Vec<String>,
    pub file: String,
    pub line: usize,
    /// The line of its name.
    pub at: usize,
}

/// What a server can do besides what each of them can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    None,
    Durable,
    Foreign,
}

impl Capability {
    fn named(name: &str) -> Option<Self> {
        match name {
            "durable" => Some(Self::Durable),
            "foreign" => Some(Self::Foreign),
            _ => None,
        }
    }
}

/// Where a test runs, in the order in which places are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// With what a server must be able to do for it, as `contract!` names it.
    ContractSuite(Capability),
    Unit,
    Local,
    Broker,
    Campaign,
    Chart,
    Image,
    Tools,
    Make,
}

impl Tests {
    /// The name of a place in the document.
    pub fn named(&self, place: Place) -> String {
        let name = match place {
            Place::ContractSuite(needed) => {
                let fit = self.stores.iter().filter(|(_, can)| needed == Capability::None || can.contains(&needed));
                return fit.map(|(i, _)| STORES[*i].1).collect::<Vec<_>>().join(", ");
            }
            Place::Unit => "unit",
            Place::Local => "tests/local",
            Place::Broker => "broker",
            Place::Campaign => "campaign",
            Place::Chart => "chart",
            Place::Image => "image",
            Place::Tools => "tools",
            Place::Make => "make",
        };
        name.to_owned()
    }

    /// Reads which functions the macro of tests/contract/mod.rs names. They are one to a line, between
    /// `(@tests $start, module:` and `);`. Those of an arm such as `(@durable $start:path)` need that capability.
    pub fn read_suite(&mut self, text: &str) {
        let (mut module, mut needed) = (None, Capability::None);
        for (at, line) in text.lines().map(str::trim).enumerate() {
            if let Some(arm) = line.strip_prefix("(@").and_then(|l| l.strip_suffix(" $start:path) => {")) {
                match Capability::named(arm) {
                    Some(capability) => needed = capability,
                    None => self.wrong(SUITE, at + 1, format!("tools/contract-check knows no capability {arm}")),
                }
            } else if let Some((_, group)) = line.split_once("(@tests $start, ") {
                module = Some(group.trim_end_matches(':').to_owned());
            } else if line.starts_with(')') {
                module = None;
            } else if let Some(module) = &module
                && !line.is_empty()
                && !line.starts_with("//")
            {
                self.suite.insert((module.clone(), line.to_owned()), needed);
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

    /// The functions that `contract!` names and that tests/contract does not have.
    pub fn check_suite(&mut self) {
        let missing = self.suite.keys().filter(|named| !self.found.contains(named)).cloned();
        for (module, name) in missing.collect::<Vec<_>>() {
            self.wrong(SUITE, 1, format!("contract! names {module}::{name}, and there is no such function"));
        }
    }

    fn read_rust(&mut self, file: &str, text: &str) {
        let parsed = match syn::parse_file(text) {
            Ok(parsed) => parsed,
            Err(error) => return self.wrong(file, error.span().start().line, format!("it does not parse: {error}")),
        };
        let mut reader = Rust { tests: self, file, claimed: BTreeSet::new() };
        reader.items(&parsed.items, reason_not_to_run(&parsed.attrs));
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
            let Some(covers) = comment.strip_prefix(prefix).and_then(ids_of) else {
                if !looks_like_covers(comment) {
                    continue;
                }
                self.wrong(file, line, format!("a Covers line has the form \"{prefix}R1, R3.\""));
                continue;
            };
            match lines.next().and_then(|(at, next)| Some((at, name_of(next)?))) {
                Some((at, name)) => {
                    let (place, file) = (place_of(file), file.to_owned());
                    self.tests.push(Test { name, place, covers, file, line, at });
                }
                None => self.wrong(file, line, "this Covers line belongs to no test"),
            }
        }
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
    let suite = root.join(SUITE);
    tests.read_suite(&fs::read_to_string(&suite).map_err(|error| format!("{}: {error}", suite.display()))?);
    for path in files {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let file = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        tests.read_file(&file, &text);
    }
    tests.check_suite();
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
        () if file.starts_with("tests/image/") => Place::Image,
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
    /// `not_run` says why the tests among them may not run.
    fn items(&mut self, items: &[Item], not_run: Option<&'static str>) {
        for item in items {
            match item {
                Item::Fn(function) => self.item(&function.attrs, &function.sig.ident, not_run),
                Item::Struct(fault) => self.item(&fault.attrs, &fault.ident, not_run),
                Item::Mod(module) => {
                    let items = module.content.as_ref().map_or(&[][..], |(_, items)| items);
                    self.items(items, not_run.or_else(|| reason_not_to_run(&module.attrs)));
                }
                Item::Macro(called) if called.mac.path.is_ident("contract") => {
                    self.run_of_the_suite(&called.mac.tokens);
                }
                Item::Macro(called) if called.mac.path.is_ident("proptest") => {
                    self.functions_of(called.mac.tokens.clone(), not_run.or_else(|| reason_not_to_run(&called.attrs)));
                }
                _ => {}
            }
        }
    }

    /// A function or type with these attributes.
    fn item(&mut self, attributes: &[Attribute], ident: &Ident, not_run: Option<&'static str>) {
        let (name, at) = (&*ident.to_string(), ident.span().start().line);
        let is_test = attributes.iter().any(|a| a.path().segments.last().is_some_and(|s| s.ident == "test"));
        let stem = self.file.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        let in_suite = self.file.starts_with("tests/contract/");
        let named = (stem.to_owned(), name.to_owned());
        let (name, place) = match place_of(self.file) {
            _ if in_suite && self.tests.suite.contains_key(&named) => {
                let needed = self.tests.suite[&named];
                self.tests.found.insert(named);
                (name.to_owned(), Place::ContractSuite(needed))
            }
            Place::Campaign => (format!("{stem}::{name}"), Place::Campaign),
            place if is_test => (name.to_owned(), place),
            _ => return,
        };
        for (line, doc) in attributes.iter().filter_map(documentation) {
            if let Some(Ok(covers)) = covers(&doc) {
                self.claimed.insert(line);
                if let Some(why) = not_run.or_else(|| reason_not_to_run(attributes)) {
                    self.tests.wrong(self.file, line, format!("{name} covers rules, and may not run: {why}"));
                }
                let file = self.file.to_owned();
                self.tests.tests.push(Test { name: name.clone(), place, covers, file, line, at });
            }
        }
    }

    /// `contract!(module, start, capability, …)`.
    fn run_of_the_suite(&mut self, tokens: &TokenStream) {
        let mut tokens = tokens.clone().into_iter();
        let Some(TokenTree::Ident(module)) = tokens.next() else { return };
        // The path of `start` has no segment that is named like a capability.
        let can = tokens.filter_map(|token| match token {
            TokenTree::Ident(ident) => Capability::named(&ident.to_string()),
            _ => None,
        });
        match STORES.iter().position(|(name, _)| module == name) {
            Some(store) => drop(self.tests.stores.insert(store, can.collect())),
            None => {
                let what =
                    format!("contract!({module}, …): STORES in tools/contract-check has no name for this server");
                self.tests.wrong(self.file, module.span().start().line, what);
            }
        }
    }

    /// The functions of `proptest! { … }`. Their parameters are not Rust, so only attributes and names are read.
    fn functions_of(&mut self, tokens: TokenStream, not_run: Option<&'static str>) {
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
                    let name = name.clone();
                    let parsed = syn::parse::Parser::parse2(Attribute::parse_outer, std::mem::take(&mut attributes));
                    self.item(&parsed.unwrap_or_default(), &name, not_run);
                }
                _ => {}
            }
        }
    }
}

/// A test that is ignored, or that some builds leave out, proves nothing in the others.
fn reason_not_to_run(attributes: &[Attribute]) -> Option<&'static str> {
    attributes.iter().find_map(|attribute| match &attribute.meta {
        meta if meta.path().is_ident("ignore") => Some("it is ignored"),
        Meta::List(list) if list.path.is_ident("cfg") && list.tokens.to_string() != "test" => {
            Some("it is under a cfg other than cfg(test)")
        }
        Meta::List(list) if list.path.is_ident("cfg_attr") && list.tokens.to_string().contains("ignore") => {
            Some("a cfg_attr may ignore it")
        }
        _ => None,
    })
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
    let distinct = ids.iter().collect::<BTreeSet<_>>().len() == ids.len();
    (distinct && ids.iter().all(|id| is_id(id))).then_some(ids)
}

/// A comment whose first word is "covers" or "cover" and whose second is like an id. It must be a `Covers` line of the
/// exact form.
fn looks_like_covers(line: &str) -> bool {
    let comment = line.trim();
    if !["//", "/*", "*", "#"].iter().any(|begin| comment.starts_with(begin)) {
        return false;
    }
    let text = comment.trim_start_matches(['/', '*', '!', '#', '[', ' ']);
    let text = text.strip_prefix("doc").map_or(text, |rest| rest.trim_start_matches([' ', '=', '"']));
    let mut words = text.split_whitespace();
    let is_covers = |word: &str| ["covers", "cover"].contains(&&*word.trim_end_matches(':').to_lowercase());
    words.next().is_some_and(is_covers)
        && words.next().is_some_and(|word| is_id(&word.trim_end_matches([',', '.', ';', '"', ']']).to_uppercase()))
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
