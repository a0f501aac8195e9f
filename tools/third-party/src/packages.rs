//! The packages that are linked into the binary.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fs::File,
    io::BufReader,
    path::Path,
};

use auditable_serde::DependencyKind as AuditableKind;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};

const ROOT: &str = "changelogd";

pub struct Linked {
    pub root: Package,
    /// Of others, without what only build scripts use, sorted by name.
    pub packages: Vec<Package>,
    /// Of this workspace.
    pub own: Vec<Package>,
    /// What each of them links directly.
    pub edges: BTreeMap<PackageId, Vec<PackageId>>,
    /// All packages that a build uses, build scripts included.
    pub built: Vec<Package>,
}

/// By the dependency graph. It may have more than the binary, because features of all members count.
pub fn of_graph(root: &Path, target: &str) -> Result<Linked, Box<dyn Error>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .other_options(["--locked", "--filter-platform", target].map(str::to_owned))
        .exec()?;
    let top = metadata.packages.iter().find(|package| *package.name == ROOT).ok_or("no package changelogd")?;
    let edges = edges(&metadata)?;
    let mut reached = BTreeSet::new();
    let mut waiting = vec![top.id.clone()];
    while let Some(id) = waiting.pop() {
        if reached.insert(id.clone()) {
            waiting.extend(edges[&id].iter().cloned());
        }
    }
    let (own, mut packages): (Vec<_>, Vec<_>) = metadata
        .packages
        .iter()
        .filter(|package| reached.contains(&package.id))
        .cloned()
        .partition(|package| package.source.is_none());
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(Linked { root: top.clone(), packages, own, edges, built: metadata.packages })
}

/// By the list in the binary, which cargo-auditable put there.
pub fn of_binary(root: &Path, target: &str, binary: &Path) -> Result<Linked, Box<dyn Error>> {
    let fail = |error: &dyn Error| format!("{}: {error}", binary.display());
    let file = File::open(binary).map_err(|error| fail(&error))?;
    let info = auditable_info::audit_info_from_reader(&mut BufReader::new(file), auditable_info::Limits::default())
        .map_err(|error| fail(&error))?;
    let in_binary: BTreeSet<(String, String)> = info
        .packages
        .iter()
        .filter(|package| package.kind == AuditableKind::Runtime)
        .map(|package| (package.name.clone(), package.version.to_string()))
        .collect();
    let mut linked = of_graph(root, target)?;
    let key = |package: &Package| (package.name.to_string(), package.version.to_string());
    let known: BTreeSet<_> = linked.packages.iter().chain(&linked.own).map(key).collect();
    if let Some((name, version)) = in_binary.difference(&known).next() {
        return Err(format!("{} has {name} {version}, which this Cargo.lock does not link", binary.display()).into());
    }
    linked.packages.retain(|package| in_binary.contains(&key(package)));
    linked.own.retain(|package| in_binary.contains(&key(package)));
    Ok(linked)
}

/// Normal dependencies. Also macros, because the code that they write is compiled into the binary.
fn edges(metadata: &Metadata) -> Result<BTreeMap<PackageId, Vec<PackageId>>, Box<dyn Error>> {
    let resolve = metadata.resolve.as_ref().ok_or("cargo metadata has no graph")?;
    let of_node = |node: &cargo_metadata::Node| {
        let links = |dep: &&cargo_metadata::NodeDep| dep.dep_kinds.iter().any(|d| d.kind == DependencyKind::Normal);
        (node.id.clone(), node.deps.iter().filter(links).map(|dep| dep.pkg.clone()).collect())
    };
    Ok(resolve.nodes.iter().map(of_node).collect())
}
