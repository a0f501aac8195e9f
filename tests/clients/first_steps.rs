//! Does what the READMEs of the packages and of their examples tell a new user: `make first-steps`.
//!
//! Each README is followed from an empty folder, with a changelogd on the embedded store. `CHANGELOGD` is this
//! checkout. What other runs have fetched or built there is used. Programs in the empty folder are built from nothing.

use std::{fs, path::Path, time::Instant};

use changelogd_testkit::workspace_root;
use tokio::process::Command;

use super::{chosen, log::Log, readme::Script, servers::Servers, stage};

/// Maven resets colours, also without colours and in a file.
const MAVEN_ENDS: &str = "\u{1b}[0m";

/// Whether everything in these languages works.
pub async fn run(only: &[String], servers: &Servers) -> Result<bool, String> {
    let mut all_work = true;
    for language in chosen(only) {
        for folder in ["clients", "examples"] {
            let readme = format!("{folder}/{language}/README.md");
            let began = Instant::now();
            let result = follow(&readme, language, servers).await;
            let took = began.elapsed().as_secs_f64();
            match result {
                Ok(()) => println!("{readme:<30} {took:>6.1} s"),
                Err(what) => {
                    all_work = false;
                    println!("{readme:<30} {took:>6.1} s  FAILED: {what}");
                }
            }
        }
    }
    Ok(all_work)
}

async fn follow(readme: &str, language: &str, servers: &Servers) -> Result<(), String> {
    let error = |error: std::io::Error| format!("{readme}: {error}");
    let text = fs::read_to_string(workspace_root().join(readme)).map_err(error)?;
    let script = Script::of(&text).map_err(|error| format!("{readme}: {error}"))?;
    let folder = tempfile::tempdir().map_err(error)?;
    let output = tempfile::tempdir().map_err(error)?;
    let path = |path: &Path| path.display().to_string();
    let variables = [
        ("CHANGELOGD", path(workspace_root())),
        ("OUTPUT", path(output.path())),
        ("CHANGELOGD_ADDR", servers.embedded().to_owned()),
    ];
    let mut shell = Command::new("sh");
    shell.args(["-c", &script.text]).current_dir(folder.path());
    for shared in ["CARGO_TARGET_DIR", "CARGO_BUILD_BUILD_DIR", "CARGO_BUILD_TARGET_DIR"] {
        shell.env_remove(shared);
    }
    let log = Log::create(format!("{language}/first-steps.log"))?;
    let result = stage::ended(shell, &variables, &log, stage::TIME_LIMIT).await;
    result.and_then(|()| has_printed(&script, output.path())).map_err(|what| stage::with_log(&what, &log))
}

fn has_printed(script: &Script, output: &Path) -> Result<(), String> {
    for (number, expected) in &script.printed {
        let printed = fs::read_to_string(output.join(number.to_string())).map_err(|error| error.to_string())?;
        let printed = printed.replace(MAVEN_ENDS, "");
        if printed != *expected {
            return Err(format!("expected {expected:?}, printed {printed:?}"));
        }
    }
    Ok(())
}
