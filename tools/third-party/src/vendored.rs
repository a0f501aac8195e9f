//! The C libraries in the binary: packages bring their sources along, and no list of Cargo names them.

use std::{error::Error, fs, path::PathBuf};

use cargo_metadata::{DependencyKind, Package};

use crate::packages::Linked;

struct Source {
    /// The key `links` of the package that links it.
    links: &'static str,
    /// The package that has its sources.
    package: &'static str,
    name: &'static str,
    /// An SPDX expression.
    licence: &'static str,
    /// Below the package's directory.
    text: &'static str,
    version: Version,
    /// Vendor and product, as in the database of vulnerabilities (CPE).
    cpe: &'static str,
}

enum Version {
    /// Of the package, after the plus sign.
    Package,
    /// Macros of a header.
    Macros(&'static str, &'static [&'static str]),
}

const SOURCES: [Source; 6] = [
    Source {
        links: "openssl",
        package: "openssl-src",
        name: "openssl",
        licence: "Apache-2.0",
        text: "openssl/LICENSE.txt",
        version: Version::Package,
        cpe: "openssl:openssl",
    },
    Source {
        links: "z",
        package: "libz-sys",
        name: "zlib",
        licence: "Zlib",
        text: "src/zlib/LICENSE",
        version: Version::Macros("src/zlib/zlib.h", &["ZLIB_VERSION"]),
        cpe: "zlib:zlib",
    },
    Source {
        links: "zstd",
        package: "zstd-sys",
        name: "zstd",
        licence: "BSD-3-Clause",
        text: "zstd/LICENSE",
        version: Version::Package,
        cpe: "facebook:zstandard",
    },
    // Its file has the licences of all that it contains: also of crc32c, fnv1a, HdrHistogram, murmur2, nanopb, the
    // OpenTelemetry protocol, pycrc, queue, regexp, snappy and tinycthread.
    Source {
        links: "rdkafka",
        package: "rdkafka-sys",
        name: "librdkafka",
        licence: "BSD-2-Clause AND BSD-3-Clause AND MIT AND Apache-2.0 AND Zlib AND CC0-1.0",
        text: "librdkafka/LICENSES.txt",
        version: Version::Package,
        cpe: "confluent:librdkafka",
    },
    Source {
        links: "rdkafka",
        package: "rdkafka-sys",
        name: "lz4",
        licence: "BSD-2-Clause",
        text: "librdkafka/LICENSE.lz4",
        version: Version::Macros(
            "librdkafka/src/lz4.h",
            &["LZ4_VERSION_MAJOR", "LZ4_VERSION_MINOR", "LZ4_VERSION_RELEASE"],
        ),
        cpe: "lz4_project:lz4",
    },
    Source {
        links: "rdkafka",
        package: "rdkafka-sys",
        name: "cjson",
        licence: "MIT",
        text: "librdkafka/LICENSE.cjson",
        version: Version::Macros(
            "librdkafka/src/cJSON.h",
            &["CJSON_VERSION_MAJOR", "CJSON_VERSION_MINOR", "CJSON_VERSION_PATCH"],
        ),
        cpe: "davegamble:cjson",
    },
];

/// A C library in the binary.
pub struct Library {
    pub name: &'static str,
    pub version: String,
    pub licence: &'static str,
    pub text: PathBuf,
    pub cpe: String,
    /// The package that has its sources, with its version.
    pub package: String,
}

/// The C libraries of these packages. An error if one is not in the table, or one of the table is not linked.
pub fn libraries(linked: &Linked) -> Result<Vec<Library>, Box<dyn Error>> {
    for package in &linked.packages {
        let builds_c = package
            .dependencies
            .iter()
            .any(|d| d.kind == DependencyKind::Build && !d.optional && ["cc", "cmake"].contains(&&*d.name));
        match &package.links {
            Some(links) if SOURCES.iter().all(|source| source.links != links) => {
                return Err(unknown(package, &format!("links {links:?}")));
            }
            None if builds_c => return Err(unknown(package, "compiles C code")),
            _ => {}
        }
    }
    SOURCES.iter().map(|source| library(source, linked)).collect()
}

fn unknown(package: &Package, what: &str) -> Box<dyn Error> {
    format!("{} {} {what}, and src/vendored.rs has no entry of it", package.name, package.version).into()
}

fn library(source: &Source, linked: &Linked) -> Result<Library, Box<dyn Error>> {
    let fail = |what: &str| format!("{}, of src/vendored.rs: {what}", source.name);
    if linked.packages.iter().all(|package| package.links.as_deref() != Some(source.links)) {
        return Err(fail("no linked package has it; remove its entry").into());
    }
    let package = linked.built.iter().find(|package| *package.name == source.package);
    let package = package.ok_or_else(|| fail("the package with its sources is not there"))?;
    let dir = package.manifest_path.parent().ok_or_else(|| fail("its package has no directory"))?;
    let version = match &source.version {
        Version::Package => match package.version.build.as_str() {
            "" => return Err(fail("the package's version does not name its version").into()),
            // As in zstd.1.5.7.
            build => build.trim_start_matches(|c: char| !c.is_ascii_digit()).to_owned(),
        },
        Version::Macros(header, macros) => {
            let header = fs::read_to_string(dir.join(header))?;
            let parts: Option<Vec<_>> = macros.iter().map(|name| macro_value(&header, name)).collect();
            parts.ok_or_else(|| fail("its header has no version"))?.join(".")
        }
    };
    Ok(Library {
        name: source.name,
        cpe: format!("cpe:2.3:a:{}:{version}:*:*:*:*:*:*:*", source.cpe),
        version,
        licence: source.licence,
        text: dir.join(source.text).into(),
        package: format!("{} {}", package.name, package.version),
    })
}

/// The value of `#define NAME value`, without quotation marks.
fn macro_value(header: &str, name: &str) -> Option<String> {
    header.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let found = words.next() == Some("#define") && words.next() == Some(name);
        found.then(|| words.next().map(|value| value.trim_matches('"').to_owned())).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_macros_with_and_without_quotation_marks() {
        let header = "#define A_VERSION_MAJOR    1    /* breaks */\n#define A_VERSION_NUMBER 3\n#define Z \"1.3.2\"\n";
        assert_eq!(macro_value(header, "A_VERSION_MAJOR").as_deref(), Some("1"));
        assert_eq!(macro_value(header, "Z").as_deref(), Some("1.3.2"));
        assert_eq!(macro_value(header, "A_VERSION"), None, "a name that only begins like one of the file");
    }
}
