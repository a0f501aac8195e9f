//! Images as OCI archives, written here and imported into containerd. No registry and no Docker is needed.

use std::{
    collections::BTreeSet,
    env::consts::ARCH,
    fs::{self, File},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use tokio::process::Command;

use super::command::{output, target};

pub const CHANGELOGD: &str = "cluster.test/changelogd";
pub const APPLICATION: &str = "cluster.test/application:1";
/// The container that holds the namespaces of a pod.
pub const PAUSE: &str = APPLICATION;

/// As the final image of the Dockerfile has it.
const USER: u64 = 65532;
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What is in an image.
pub struct Contents<'a> {
    pub name: String,
    pub binary: &'a Path,
    pub entrypoint: &'a str,
    pub arguments: &'a [&'a str],
    pub environment: &'a [&'a str],
    /// A directory of the user.
    pub data: Option<&'a str>,
    /// More programs, with their paths in the image.
    pub more: &'a [(&'a str, &'a Path)],
}

/// Packs the binary with the libraries that it is linked to. Returns the archive.
pub async fn pack(contents: &Contents<'_>) -> Result<PathBuf, String> {
    let mut libraries = libraries(contents.binary).await?;
    for (_, program) in contents.more {
        libraries.extend(self::libraries(program).await?);
    }
    let path = target("run").join(format!("{}.tar", contents.name.replace(['/', ':'], "-")));
    let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
    let layer = layer(contents, &libraries).map_err(wrong)?;
    let archive = File::create(&path).map_err(wrong)?;
    archived(archive, contents, &layer).map_err(wrong)?;
    Ok(path)
}

/// Imports an archive under this name, whatever name it has itself.
pub async fn import(archive: &Path, name: &str) -> Result<(), String> {
    let mut ctr = Command::new("ctr");
    ctr.args(["--namespace", "k8s.io", "images", "import", "--index-name", name]).arg(archive);
    output(ctr).await.map(drop)
}

/// By `ldd`: the paths at which the dynamic linker looks for them, and the dynamic linker.
async fn libraries(binary: &Path) -> Result<BTreeSet<PathBuf>, String> {
    let mut ldd = Command::new("ldd");
    ldd.arg(binary);
    let listed = output(ldd).await?;
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(listed.lines().filter_map(path).collect())
}

fn layer(contents: &Contents<'_>, libraries: &BTreeSet<PathBuf>) -> Result<Vec<u8>, std::io::Error> {
    let mut layer = Builder::new(Vec::new());
    let mut add = |path: &str, kind: EntryType, mode: u32, owner: u64, bytes: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_size(bytes.len() as u64);
        layer.append_data(&mut header, path.trim_start_matches('/'), bytes)
    };
    for directory in ["/etc", "/home", "/var", "/var/lib", "/usr", "/usr/local", "/usr/local/bin"] {
        add(directory, EntryType::Directory, 0o755, 0, &[])?;
    }
    add("/tmp", EntryType::Directory, 0o1777, 0, &[])?;
    add("/home/nonroot", EntryType::Directory, 0o700, USER, &[])?;
    let users =
        format!("root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/home/nonroot:/sbin/nologin\n");
    add("/etc/passwd", EntryType::Regular, 0o644, 0, users.as_bytes())?;
    add("/etc/group", EntryType::Regular, 0o644, 0, format!("root:x:0:\nnonroot:x:{USER}:\n").as_bytes())?;
    add(CERTIFICATES, EntryType::Regular, 0o644, 0, &fs::read(CERTIFICATES)?)?;
    for library in libraries {
        add(&library.display().to_string(), EntryType::Regular, 0o755, 0, &fs::read(library)?)?;
    }
    add(contents.entrypoint, EntryType::Regular, 0o755, 0, &fs::read(contents.binary)?)?;
    for (path, program) in contents.more {
        add(path, EntryType::Regular, 0o755, 0, &fs::read(program)?)?;
    }
    if let Some(data) = contents.data {
        add(data, EntryType::Directory, 0o770, USER, &[])?;
    }
    layer.into_inner()
}

fn archived(file: File, contents: &Contents<'_>, layer: &[u8]) -> Result<(), std::io::Error> {
    let mut archive = Builder::new(file);
    let mut add = |path: &str, bytes: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, path, bytes)
    };
    let mut blob = |media_type: &str, bytes: &[u8]| {
        let digest = hex(&Sha256::digest(bytes));
        add(&format!("blobs/sha256/{digest}"), bytes)?;
        let described = json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() });
        Ok::<Value, std::io::Error>(described)
    };
    let layer = blob(LAYER, layer)?;
    let environment: Vec<_> = [PATH].iter().chain(contents.environment).collect();
    let configuration = json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Env": environment,
            "Entrypoint": [contents.entrypoint],
            "Cmd": contents.arguments,
        },
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let configuration = blob(CONFIGURATION, configuration.to_string().as_bytes())?;
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": configuration, "layers": [layer] });
    let manifest = blob(MANIFEST, manifest.to_string().as_bytes())?;
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] });
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add("index.json", index.to_string().as_bytes())?;
    archive.into_inner()?.sync_all()
}

/// As Go names it.
fn architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
