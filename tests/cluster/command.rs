//! Commands that end by themselves, within a time limit.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use changelogd_testkit::workspace_root;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// Enough for a command that waits for pods.
const AT_MOST: Duration = Duration::from_secs(300);

/// What is below `target/cluster/`.
pub fn target(path: &str) -> PathBuf {
    workspace_root().join("target/cluster").join(path)
}

/// Runs it, and returns its output. An error has both outputs.
pub async fn output(command: Command) -> Result<String, String> {
    output_of(command, "").await
}

/// The same with this text as its standard input.
pub async fn output_of(command: Command, input: &str) -> Result<String, String> {
    run(command, input).await.map(|(output, _)| output)
}

/// Runs it, and returns both outputs.
pub async fn outputs(command: Command) -> Result<String, String> {
    run(command, "").await.map(|(output, errors)| output + &errors)
}

/// Runs it, and returns its output and what it wrote to standard error.
async fn run(mut command: Command, input: &str) -> Result<(String, String), String> {
    let name = name(&command);
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("cannot run {name}: {error}"));
    let mut child = child?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let ended = async {
        // A program that reads no input closes it, which is no error here.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await
    };
    let ended = timeout(AT_MOST, ended).await.map_err(|_| format!("{name} has not ended within {AT_MOST:?}"))?;
    let output = ended.map_err(|error| format!("{name}: {error}"))?;
    let [text, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    if output.status.success() {
        return Ok((text, errors));
    }
    Err(format!("{name}: {}: {}{}", output.status, errors.trim(), text.trim()))
}

/// The program and its arguments, without the folders that say nothing.
fn name(command: &Command) -> String {
    let program = Path::new(command.as_std().get_program()).file_name().unwrap_or_default();
    let words = [program].into_iter().chain(command.as_std().get_args());
    words.map(|word| word.display().to_string()).collect::<Vec<_>>().join(" ")
}

/// Whether a program is on PATH.
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
