//! A changelogd in a special environment: started by a command that prepares it, or with variables set. Its output is
//! kept after it ends, because a refused start is a result, too.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

pub use crate::sidecar::binary;
use crate::sidecar::{Client, client};

const WITHIN: Duration = Duration::from_secs(60);

pub struct Process {
    child: Child,
    pub api: String,
}

/// Why no process serves.
#[derive(Debug)]
pub enum NotStarted {
    /// It ended, with this output.
    Ended(String),
    Other(String),
}

impl std::fmt::Display for NotStarted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ended(words) => write!(f, "it ended: {words}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl Process {
    /// `sh` runs `script` first, with the command of the binary as its `"$@"`. Without preparation it is `exec "$@"`.
    pub async fn start(
        script: &[&str],
        environment: &[(&str, &Path)],
        arguments: &[String],
    ) -> Result<Self, NotStarted> {
        let mut child = Command::new(script[0])
            .args(&script[1..])
            .arg("sh") // the script's $0
            .arg(binary())
            .args(["serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--log-format=json"])
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| NotStarted::Other(format!("cannot start {}: {error}", script[0])))?;
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let serving = async {
            let mut said = String::new();
            while let Ok(Some(line)) = lines.next_line().await {
                match serde_json::from_str::<serde_json::Value>(&line) {
                    Ok(line) if line["message"] == "serving" => {
                        return Ok(line["api"].as_str().unwrap_or("").to_owned());
                    }
                    _ => said.push_str(&format!("{line}\n")),
                }
            }
            Err(NotStarted::Ended(said.trim().to_owned()))
        };
        let served = timeout(WITHIN, serving).await;
        let api = served.map_err(|_| NotStarted::Other(format!("it does not serve within {WITHIN:?}")))??;
        // Its output is read to the end, because a full pipe would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, api })
    }

    pub fn client(&self) -> Client {
        client(&self.api)
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// SIGKILL.
    pub async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }
}
