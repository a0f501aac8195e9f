//! The CycloneDX document of the binary: packages, C libraries and the standard library, with licences and what links
//! what. Two builds of one commit write the same bytes, so it has no serial number.

use std::{collections::BTreeMap, error::Error};

use cargo_metadata::{Package, PackageId};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{packages::Linked, vendored::Library};

/// Of the format. Scanners of 2023 read it.
const SPEC_VERSION: &str = "1.5";

/// `time`: of the commit, in seconds since 1970. The document has no time without it.
pub fn document(
    linked: &Linked,
    libraries: &[Library],
    rust_version: &str,
    time: Option<&str>,
) -> Result<String, Box<dyn Error>> {
    let standard_library = json!({
        "type": "library",
        "bom-ref": format!("rust-std@{rust_version}"),
        "name": "rust-std",
        "version": rust_version,
        "licenses": [{ "expression": "MIT OR Apache-2.0" }],
        "purl": format!("pkg:generic/rust-std@{rust_version}"),
    });
    let own = linked.own.iter().filter(|package| package.id != linked.root.id);
    let mut components: Vec<Value> = own.chain(&linked.packages).map(|package| component(package, "library")).collect();
    components.extend(libraries.iter().map(of_library));
    components.push(standard_library);

    let all = || linked.own.iter().chain(&linked.packages);
    let purls: BTreeMap<&PackageId, String> = all().map(|package| (&package.id, purl(package))).collect();
    let mut dependencies: Vec<Value> = Vec::new();
    for package in all() {
        let mut on: Vec<String> = linked.edges[&package.id].iter().filter_map(|id| purls.get(id).cloned()).collect();
        let sources = |library: &&Library| library.package == format!("{} {}", package.name, package.version);
        on.extend(libraries.iter().filter(sources).map(reference));
        // The package with the sources of OpenSSL is part of the build only, so this one stands for it.
        if *package.name == "openssl-sys" {
            on.extend(libraries.iter().filter(|library| library.name == "openssl").map(reference));
        }
        if package.id == linked.root.id {
            on.push(format!("rust-std@{rust_version}"));
        }
        on.sort();
        dependencies.push(json!({ "ref": purl(package), "dependsOn": on }));
    }

    let mut metadata = json!({
        "tools": { "components": [{
            "type": "application", "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION"),
        }] },
        "component": component(&linked.root, "application"),
    });
    if let Some(time) = time {
        metadata["timestamp"] = Timestamp::from_second(time.parse()?)?.to_string().into();
    }
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": SPEC_VERSION,
        "version": 1,
        "metadata": metadata,
        "components": components,
        "dependencies": dependencies,
    });
    Ok(format!("{document:#}\n"))
}

fn component(package: &Package, kind: &str) -> Value {
    let mut component = json!({
        "type": kind,
        "bom-ref": purl(package),
        "name": *package.name,
        "version": package.version.to_string(),
        "purl": purl(package),
    });
    if let Some(licence) = &package.license {
        // An old form of "or", which SPDX does not know.
        component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    component
}

fn purl(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version.to_string().replace('+', "%2B"))
}

fn of_library(library: &Library) -> Value {
    json!({
        "type": "library",
        "bom-ref": reference(library),
        "name": library.name,
        "version": library.version,
        "licenses": [{ "expression": library.licence }],
        "cpe": library.cpe,
        "purl": format!("pkg:generic/{}@{}", library.name, library.version),
    })
}

fn reference(library: &Library) -> String {
    format!("{}@{}", library.name, library.version)
}
