//! `changelogd watch`.

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    fs::File,
    io::{AsyncBufReadExt, AsyncRead, BufReader, Lines},
    process::{Child, Command},
};

use crate::{
    command_output::terminal,
    contract::server::{PATIENCE, TestServer, binary},
    servers::embedded_process,
};

/// A running command, and the lines that it prints.
struct Running {
    _command: Child,
    lines: Lines<BufReader<Box<dyn AsyncRead + Unpin>>>,
}

fn command(server: &TestServer, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg("watch").args(arguments).arg(format!("--addr={}", server.api)).env_clear().kill_on_drop(true);
    command
}

impl Running {
    fn start(server: &TestServer, arguments: &[&str]) -> Self {
        let mut command = command(server, arguments).stdout(Stdio::piped()).spawn().expect("it starts");
        let lines: Box<dyn AsyncRead + Unpin> = Box::new(command.stdout.take().expect("a pipe"));
        Self { _command: command, lines: BufReader::new(lines).lines() }
    }

    fn on_terminal(server: &TestServer, arguments: &[&str]) -> Self {
        let (outer, inner) = terminal();
        let command = command(server, arguments).env("TERM", "xterm").stdout(inner).spawn().expect("it starts");
        let lines: Box<dyn AsyncRead + Unpin> = Box::new(File::from_std(outer));
        Self { _command: command, lines: BufReader::new(lines).lines() }
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time");
        line.expect("a line").expect("it goes on")
    }

    /// The next line of text that is no bookmark.
    async fn text(&mut self) -> String {
        loop {
            let line = self.line().await;
            if !line.starts_with("bookmark ") {
                return line;
            }
        }
    }

    /// The next object that is no bookmark.
    async fn object(&mut self) -> Value {
        loop {
            let object: Value = serde_json::from_str(&self.line().await).expect("JSON Lines in a pipe");
            if object["bookmark"].is_null() {
                return object;
            }
        }
    }
}

/// Covers C63, C64, C71.
#[tokio::test]
async fn watch_prints_the_state_synced_and_each_change_at_once_and_resumes() {
    let server = embedded_process().await.ready().await;
    server.set("ws/a/1", "{\"n\":1}").await;
    server.set("ws/b/2", "2").await;
    let mut watching = Running::start(&server, &["ws"]);
    let (first, second) = (watching.object().await, watching.object().await);
    assert_eq!((&first["key"], &second["key"]), (&"ws/a/1".into(), &"ws/b/2".into()));
    let synced = watching.object().await["synced"].clone();
    assert_eq!((&synced["entries"], &synced["tombstones"]), (&2.into(), &0.into()), "{synced}");
    server.set("ws/a/3", "3").await;
    assert_eq!(watching.object().await["value"], 3);
    drop(watching);

    server.delete("ws/a/1").await;
    let token = synced["resume_token"].as_str().expect("a token").to_owned();
    let mut resumed = Running::start(&server, &["ws", "--type=a", "--output=json"]);
    assert_eq!(resumed.object().await["key"], "ws/a/3", "of this type");
    let mut resumed = Running::start(&server, &["ws", "--resume-token", &token, "--output=text"]);
    let (first, second, third) = (resumed.line().await, resumed.line().await, resumed.line().await);
    assert!(first.starts_with("ws/a/3  3  (") && second.starts_with("ws/a/1  deleted  ("), "{first} {second}");
    assert!(third.starts_with("synced: partition ") && third.contains("; token "), "{third}");
}

/// Covers C64, C81.
#[tokio::test]
async fn on_a_terminal_a_watch_prints_text() {
    let server = embedded_process().await.ready().await;
    server.set("ws/a/1", "{\"n\":\"\u{202e}\"}").await;
    let mut watching = Running::on_terminal(&server, &["ws"]);
    let (first, second) = (watching.text().await, watching.text().await);
    assert!(first.starts_with("ws/a/1  {\"n\":\"\\u{202e}\"}  ("), "{first}");
    assert!(second.starts_with("synced: partition ") && second.contains("; token "), "{second}");
    server.delete("ws/a/1").await;
    let third = watching.text().await;
    assert!(third.starts_with("ws/a/1  deleted  ("), "at once: {third}");
}

/// Covers C63, C64.
#[tokio::test]
async fn a_watch_that_prints_text_shows_a_bookmark_only_after_changes() {
    let server = embedded_process().await.ready().await;
    server.set("ws/a/1", "1").await;
    let mut watching = Running::start(&server, &["ws", "--output=text"]);
    assert!(watching.line().await.starts_with("ws/a/1  1  ("));
    assert!(watching.line().await.starts_with("synced: "));
    // The same server gives JSON Lines a bookmark, so it has given one to the other watch too.
    let mut quiet = Running::start(&server, &["ws", "--output=json"]);
    while !quiet.line().await.contains("bookmark") {}
    while !quiet.line().await.contains("bookmark") {}
    server.set("ws/a/1", "2").await;
    let (change, bookmark) = (watching.line().await, watching.line().await);
    assert!(change.starts_with("ws/a/1  2  (") && bookmark.starts_with("bookmark "), "{change} {bookmark}");
    let token = bookmark.trim_start_matches("bookmark ");
    let mut resumed = Running::start(&server, &["ws", "--resume-token", token, "--output=text"]);
    let first = resumed.line().await;
    assert!(first.contains(", 0 entries, 0 tombstones, "), "the token is behind the change: {first}");
}

/// Covers C63, C69, C71.
#[tokio::test]
async fn watch_ends_with_the_reason_and_a_status() {
    let mut server = embedded_process().await.ready().await;
    let cases: [(&[&str], i32, &str); 4] = [
        (&["ws", "--timeout=300ms"], 1, "DEADLINE"),
        (&["w/s"], 1, "KEY_INVALID"),
        (&["ws", "--resume-token=AAAA"], 1, "TOKEN_INVALID"),
        (&["ws", "--resume-token=?"], 64, "must be base64"),
    ];
    for (arguments, status, reason) in cases {
        let mut command = command(&server, arguments);
        let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await.expect("it ends").unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
    }

    let mut command = command(&server, &["ws"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(command.stdout.take().unwrap()).lines();
    let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time").unwrap();
    assert!(first.is_some_and(|line| line.contains("synced")));
    server.stop().await;
    let output = tokio::time::timeout(PATIENCE, command.wait_with_output()).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("DRAINING"), "{said}");
}
