//! A server whose log is not read.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::server::{PATIENCE, binary};

/// The real binary on the memory store. It logs a lot, and nothing reads its standard error once it serves.
pub struct UnreadServer {
    pub admin: String,
    pub api: String,
    /// With the end of the pipe that is read, which stays open.
    _child: Child,
}

impl UnreadServer {
    pub async fn start() -> Self {
        let mut child = Command::new(binary())
            .args(["serve", "--store=memory", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0"])
            .args(["--log-format=json", "--log=trace"])
            .env_clear()
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let serving = loop {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").unwrap();
            match serde_json::from_str::<serde_json::Value>(&line.expect("a line")) {
                Ok(line) if line["message"] == "serving" => break line,
                _ => {}
            }
        };
        child.stderr = Some(lines.into_inner().into_inner());
        let address = |port: &str| serving[port].as_str().unwrap().to_owned();
        Self { admin: address("admin"), api: address("api"), _child: child }
    }
}
