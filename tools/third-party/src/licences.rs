//! The licence texts of all that is linked, as one document.

use std::{collections::BTreeMap, error::Error, fmt::Write as _, fs, io, path::Path};

use cargo_metadata::Package;
use spdx::Expression;

use crate::vendored::Library;

/// How the names of files with licences begin, in lower case.
const NAMES: [&str; 6] = ["license", "licence", "copying", "copyright", "notice", "unlicense"];

/// What rustc's own distribution says of the standard library and what that links.
pub fn standard_library(sysroot: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let file = Path::new(sysroot).join("share/doc/rust/COPYRIGHT-library.html");
    let missing = |error| format!("{}: {error}; the toolchains of rustup have it", file.display());
    Ok(fs::read(&file).map_err(missing)?)
}

/// A list of all packages and libraries, then each text once, with those that it is of.
pub fn document(packages: &[Package], libraries: &[Library]) -> Result<String, Box<dyn Error>> {
    let mut list = String::new();
    // A text, and what it is of.
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for library in libraries {
        let name = format!("{} {}", library.name, library.version);
        writeln!(list, "{name}: {} (C, in {})", library.licence, library.package)?;
        let text = fs::read_to_string(&library.text).map_err(|e| format!("{}: {e}", library.text.display()))?;
        texts.entry(normal(&text)).or_default().push(name);
    }
    for package in packages {
        let name = format!("{} {}", package.name, package.version);
        let licence = package.license.as_deref().unwrap_or("see the text");
        writeln!(list, "{name}: {licence}")?;
        for text in texts_of(package)? {
            texts.entry(normal(&text)).or_default().push(name.clone());
        }
    }
    let mut document = format!(
        "What others wrote and changelogd links. rust-std.html has the licences of Rust's standard library.\n\n{list}"
    );
    let mut texts: Vec<_> = texts.into_iter().collect();
    // In the order of the list above.
    texts.sort_by_cached_key(|(_, of)| list.find(&format!("{}:", of[0])));
    for (text, of) in texts {
        write!(document, "\n{}\n{}\n\n{text}", "-".repeat(80), of.join(", "))?;
    }
    Ok(document)
}

/// The files of the package. Of one without files, the standard texts of its licences, with its authors.
fn texts_of(package: &Package) -> Result<Vec<String>, Box<dyn Error>> {
    let fail = |what: &str| format!("{} {}: {what}", package.name, package.version);
    let dir = package.manifest_path.parent().ok_or_else(|| fail("no directory"))?;
    let mut files: Vec<_> = fs::read_dir(dir)?.collect::<io::Result<_>>()?;
    files.retain(|file| {
        let name = file.file_name().to_string_lossy().to_lowercase();
        NAMES.iter().any(|begin| name.starts_with(begin)) && file.path().is_file()
    });
    files.sort_by_key(fs::DirEntry::file_name);
    let texts: Vec<_> = files.iter().map(|file| fs::read_to_string(file.path())).collect::<io::Result<_>>()?;
    if !texts.is_empty() {
        return Ok(texts);
    }
    let expression = package.license.as_deref().ok_or_else(|| fail("neither a licence nor a file with one"))?;
    let expression = Expression::parse_mode(expression, spdx::ParseMode::LAX)?;
    let standard = |node: &spdx::expression::ExpressionReq| match &node.req.license {
        spdx::LicenseItem::Spdx { id, .. } => Ok(id.text()),
        other => Err(fail(&format!("{other} has no standard text"))),
    };
    let authors = match &package.authors[..] {
        [] => format!("the authors of {}", package.name),
        authors => authors.join(", "),
    };
    let with_authors = |text: Result<&str, _>| text.map(|text| format!("Copyright: {authors}\n\n{text}"));
    Ok(expression.requirements().map(standard).map(with_authors).collect::<Result<_, _>>()?)
}

/// Without what differs between copies of one text: white space at the ends of lines, and empty lines at both ends.
fn normal(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    let text = lines.join("\n");
    format!("{}\n", text.trim_matches('\n'))
}
