//! Which code of others the binary links, with licences, for the image.
//!
//! ```text
//! changelogd-third-party                  checks that each linked package and library has a licence text
//! changelogd-third-party BINARY DIR       writes DIR/THIRD-PARTY.txt, DIR/rust-std.html and DIR/sbom.cdx.json
//! ```
//!
//! The list of packages is the one in the binary, which cargo-auditable puts there. Cargo's metadata has the places of
//! their sources, and the list that the check uses. `vendored` has the C libraries, which no list of Cargo names.
//!
//! Does not decide which licences are allowed: `deny.toml` does.

mod licences;
mod packages;
mod sbom;
mod vendored;

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// What the image is built for.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => check(),
        [binary, dir] if !binary.starts_with('-') => write(Path::new(binary), Path::new(dir)),
        _ => {
            eprintln!("usage: changelogd-third-party [BINARY DIR]");
            return ExitCode::from(64);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("changelogd-third-party: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<(), Box<dyn Error>> {
    for target in TARGETS {
        let linked = packages::of_graph(&root(), target)?;
        let libraries = vendored::libraries(&linked)?;
        licences::document(&linked.packages, &libraries)?;
    }
    Ok(())
}

fn write(binary: &Path, dir: &Path) -> Result<(), Box<dyn Error>> {
    let linked = packages::of_binary(&root(), &host()?, binary)?;
    let libraries = vendored::libraries(&linked)?;
    let standard_library = licences::standard_library(&output("rustc", &["--print", "sysroot"])?)?;
    let rust_version = output("rustc", &["--version"])?;
    let rust_version = rust_version.split(' ').nth(1).ok_or("rustc --version has no version")?;
    fs::create_dir_all(dir)?;
    fs::write(dir.join("THIRD-PARTY.txt"), licences::document(&linked.packages, &libraries)?)?;
    fs::write(dir.join("rust-std.html"), standard_library)?;
    let time = env::var("SOURCE_DATE_EPOCH").ok();
    fs::write(dir.join("sbom.cdx.json"), sbom::document(&linked, &libraries, rust_version, time.as_deref())?)?;
    println!("{} packages, {} C libraries: {}", linked.packages.len(), libraries.len(), dir.display());
    Ok(())
}

/// The root of the workspace. `cargo run` sets the variable to the directory of this package.
fn root() -> PathBuf {
    env::var("CARGO_MANIFEST_DIR").map_or_else(|_| PathBuf::from("."), |package| Path::new(&package).join("../.."))
}

fn host() -> Result<String, Box<dyn Error>> {
    let version = output("rustc", &["-vV"])?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or("rustc -vV names no host")?.to_owned())
}

fn output(program: &str, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program} {}: {}", arguments.join(" "), output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
