//! Which files of the sources import which. Files are read as tokens: paths after `use` and paths in code count,
//! comments and strings do not.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The path of a module in its crate: `["changelog", "read"]`.
pub type Module = Vec<String>;

/// A crate: its modules that have a file of their own.
pub struct Crate(pub BTreeMap<Module, Source>);

pub struct Source {
    /// Its path from the root of the workspace.
    pub file: String,
    words: Vec<String>,
    paths: Vec<Named>,
}

/// A path that a file names.
struct Named {
    segments: Vec<String>,
    /// The name that a `use` gives to it.
    name: Option<String>,
    is_reexport: bool,
    /// How many inline modules it is in.
    depth: usize,
}

/// Idents, punctuation and literals, without groups. `::` is one word.
fn words(tokens: TokenStream, found: &mut Vec<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    _ => ("(", ")"),
                };
                found.push(open.to_owned());
                words(group.stream(), found);
                found.push(close.to_owned());
            }
            TokenTree::Punct(colon) if colon.as_char() == ':' && found.last().is_some_and(|last| last == ":") => {
                *found.last_mut().expect("a colon") = "::".to_owned();
            }
            other => found.push(other.to_string()),
        }
    }
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// All paths of a file.
fn named(words: &[String]) -> Vec<Named> {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    // For each open brace, whether it is that of an inline module.
    let (mut found, mut braces, mut at) = (Vec::new(), Vec::new(), 0);
    let mut is_public = false;
    while at < words.len() {
        let depth = braces.iter().filter(|is_module| **is_module).count();
        let was_public = std::mem::take(&mut is_public);
        match word(at) {
            "{" => braces.push(at >= 2 && word(at - 2) == "mod"),
            "}" => drop(braces.pop()),
            "pub" => {
                is_public = true;
                if word(at + 1) == "(" && ["crate", "super", "self", "in"].contains(&word(at + 2)) {
                    at += words[at..].iter().position(|word| word == ")").expect("a visibility ends");
                }
            }
            "use" => {
                at += 1;
                uses(words, &mut at, &[], &mut |segments, name| {
                    found.push(Named { segments, name: Some(name), is_reexport: was_public, depth });
                });
                continue;
            }
            first if is_name(first) && word(at + 1) == "::" && (at == 0 || word(at - 1) != "::") => {
                let mut segments = vec![first.to_owned()];
                while word(at + 1) == "::" && is_name(word(at + 2)) {
                    segments.push(word(at + 2).to_owned());
                    at += 2;
                }
                found.push(Named { segments, name: None, is_reexport: false, depth });
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The paths of a `use`, and the names that it gives to them.
fn uses(words: &[String], at: &mut usize, before: &[String], found: &mut impl FnMut(Vec<String>, String)) {
    let mut path = before.to_vec();
    loop {
        let word = words[*at].as_str();
        *at += 1;
        match word {
            "::" => {}
            "{" => {
                while words[*at] != "}" {
                    uses(words, at, &path, found);
                    *at += usize::from(words[*at] == ",");
                }
                *at += 1;
                return;
            }
            _ if is_name(word) || word == "*" => {
                if word != "self" || path.is_empty() {
                    path.push(word.to_owned());
                }
                if words[*at] == "::" {
                    continue;
                }
                let mut name = path.last().cloned().unwrap_or_default();
                if words[*at] == "as" {
                    name = words[*at + 1].clone();
                    *at += 2;
                }
                return found(path, name);
            }
            _ => return, // `use<'a>` in a type
        }
    }
}

impl Crate {
    fn read(root: &Path, directory: &Path) -> Self {
        let mut modules = BTreeMap::new();
        for path in sources(directory) {
            let relative = path.strip_prefix(directory).unwrap().with_extension("");
            let mut module: Module = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if ["mod", "lib"].contains(&module.last().unwrap().as_str()) {
                module.pop();
            }
            let file = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let tokens = fs::read_to_string(&path).unwrap().parse().unwrap_or_else(|error| panic!("{file}: {error}"));
            let mut text = Vec::new();
            words(tokens, &mut text);
            modules.insert(module, Source { file, paths: named(&text), words: text });
        }
        Self(modules)
    }

    /// The path from the crate's root. None if it begins with another crate or with a name that is in scope.
    fn absolute(&self, module: &[String], path: &Named) -> Option<Vec<String>> {
        let begin = path.segments.iter().take_while(|s| ["crate", "self", "super"].contains(&s.as_str())).count();
        let (begin, rest) = path.segments.split_at(begin);
        let supers = begin.iter().filter(|segment| *segment == "super").count();
        let parent = &module[..module.len().saturating_sub(supers.saturating_sub(path.depth))];
        match begin.first().map(String::as_str) {
            Some("crate") => Some(rest.to_vec()),
            Some(_) => Some([parent, rest].concat()),
            None => self.0.contains_key(&[module, &rest[..1]].concat()).then(|| [module, rest].concat()),
        }
    }

    /// Each path in each file: with `crate` before it if it is of this crate, else as it stands.
    pub fn named(&self) -> impl Iterator<Item = (&Module, &Source, Vec<String>)> {
        self.0.iter().flat_map(move |(module, source)| {
            source.paths.iter().map(move |path| {
                let own = self.absolute(module, path).map(|rest| [vec!["crate".to_owned()], rest].concat());
                (module, source, own.unwrap_or_else(|| path.segments.clone()))
            })
        })
    }

    /// The module in whose file the last name of an absolute path is defined. Imports and re-exports are followed.
    fn home(&self, path: &[String], hops: usize) -> Option<Module> {
        let mut module = Module::new();
        for (at, segment) in path.iter().enumerate() {
            let child = [&module[..], std::slice::from_ref(segment)].concat();
            if self.0.contains_key(&child) {
                module = child;
                continue;
            }
            let source = self.0.get(&module)?;
            if hops == 0 || source.defines(segment) {
                break;
            }
            let behind = |used: &Named| {
                let rest = &path[at + 1..];
                if used.name.as_ref() == Some(segment) {
                    return Some(self.home(&[&self.absolute(&module, used)?, rest].concat(), hops - 1));
                }
                // A glob names its module.
                let target = self.home(&self.absolute(&module, used)?, hops - 1)?;
                let is_glob = used.name.as_deref() == Some("*");
                (is_glob && target != module && self.0[&target].defines(segment)).then_some(Some(target))
            };
            return source.paths.iter().find_map(behind).unwrap_or(Some(module.clone()));
        }
        Some(module)
    }

    /// The files that a file imports. What a module declares or only re-exports does not count.
    pub fn imports(&self, module: &Module, source: &Source) -> BTreeSet<Module> {
        let is_import = |path: &Named, target: &Module| {
            let is_used = |name: &String| {
                let exports = source.paths.iter().filter(|p| p.is_reexport && p.name.as_ref() == Some(name));
                source.words.iter().filter(|word| *word == name).count() > exports.count()
            };
            target != module
                && !(path.is_reexport && target.starts_with(module) && !path.name.as_ref().is_some_and(is_used))
        };
        let target =
            |path: &Named| self.home(&self.absolute(module, path)?, 8).filter(|target| is_import(path, target));
        source.paths.iter().filter_map(target).collect()
    }
}

impl Source {
    fn defines(&self, name: &str) -> bool {
        const ITEMS: [&str; 8] = ["fn", "struct", "enum", "trait", "type", "const", "static", "mod"];
        self.words.windows(2).any(|pair| ITEMS.contains(&pair[0].as_str()) && pair[1] == name)
    }
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| if path.is_dir() { sources(&path) } else { vec![path] };
    entries.flat_map(of).filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
}

pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Programs and test support: the folders of their roots.
const DEVELOPMENT: [&str; 11] = [
    "testkit/src",
    "tests/local",
    "tests/broker",
    "tests/campaign",
    "tests/clients",
    "clients/rust/src",
    "benches/system",
    "tools/contract-check/src",
    "tools/contract-check/tests/structure",
    "examples/embed/src",
    "examples/rust/src",
];

pub fn development_crates() -> Vec<Crate> {
    DEVELOPMENT.iter().map(|directory| Crate::read(root(), &root().join(directory))).collect()
}

/// The root package and the crates.
pub fn crates() -> Vec<Crate> {
    let others = fs::read_dir(root().join("crates")).into_iter().flatten().map(|entry| entry.unwrap().path());
    let directories = std::iter::once(root().to_owned()).chain(others).map(|package| package.join("src"));
    directories.map(|directory| Crate::read(root(), &directory)).collect()
}
