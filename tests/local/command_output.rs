//! Where the client's commands print: closed pipes, full disks, terminals, and the help.

use std::{
    fs::{self, File, OpenOptions},
    io::Read,
    os::fd::OwnedFd,
    process::{ExitStatus, Stdio},
};

use changelogd::proto::v1;
use prost::Message;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use tokio::process::Command;

use crate::{
    command_line::run,
    contract::server::{PATIENCE, binary},
    process::text,
    servers::{answering, embedded_process},
};

/// Runs a command with this standard output and error. Returns the exit status.
async fn status(arguments: &[&str], input: Stdio, output: impl Into<Stdio>, errors: impl Into<Stdio>) -> Option<i32> {
    let mut command = Command::new(binary());
    command.args(arguments).env_clear().stdin(input).stdout(output).stderr(errors).kill_on_drop(true);
    let ended: ExitStatus = tokio::time::timeout(PATIENCE, command.status()).await.expect("it ends").expect("it runs");
    ended.code()
}

/// A pipe that no process reads.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

fn lines(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    file
}

/// Covers C64, C68, C69.
#[tokio::test]
async fn a_closed_pipe_hides_no_failure() {
    let server = embedded_process().await.ready().await;
    server.set("w/t/a", "1").await;
    let addr = format!("--addr={}", server.api);
    let not_serving = format!("--addr={}", answering(&[8, 2]).await);
    let remaining = v1::FlushResponse { remaining: 1, ..Default::default() }.encode_to_vec();
    let remaining = format!("--addr={}", answering(&remaining).await);
    // A load that ends without its Snapshot.
    let cut = format!("--addr={}", answering(&[]).await);
    let (bad, many) = (lines(&"nonsense\n".repeat(3)), lines(&"nonsense\n".repeat(30)));
    let (bad, many) = (bad.path().to_str().unwrap(), many.path().to_str().unwrap());
    let cases: [(&[&str], i32); 20] = [
        (&["health", &not_serving], 69),
        (&["health", &not_serving, "--output=text"], 69),
        (&["wait", &not_serving, "--timeout=100ms"], 69),
        (&["import", bad, &addr], 1),
        (&["import", many, &addr, "--output=text"], 1),
        (&["flush", &remaining], 1),
        (&["load", "w", &cut], 1),
        (&["stream", &cut], 1),
        (&["watch", "w", &cut], 1),
        (&["export", &cut], 1),
        (&["get", "w/t/none", &addr], 1),
        (&["set", "bad", "1", &addr], 1),
        (&["health", &addr], 0),
        (&["wait", &addr], 0),
        (&["set", "w/t/a", "1", &addr], 0),
        (&["load", "w", &addr], 0),
        (&["watch", "w", &addr], 0),
        (&["export", &addr], 0),
        (&["flush", &addr], 0),
        (&["config"], 0),
    ];
    for (arguments, expected) in cases {
        let found = status(arguments, Stdio::null(), closed(), Stdio::null()).await;
        assert_eq!(found, Some(expected), "{arguments:?}");
    }
}

/// Covers C69.
#[tokio::test]
async fn output_that_can_not_be_written_is_exit_1_and_standard_error_never_decides() {
    let server = embedded_process().await.ready().await;
    server.set("w/t/a", "1").await;
    let addr = format!("--addr={}", server.api);
    let many = lines(&"nonsense\n".repeat(3000));
    let many = many.path().to_str().unwrap();
    for arguments in
        [&["get", "w/t/a", &addr][..], &["export", &addr], &["health", &addr], &["describe", &addr], &["config"]]
    {
        let errors = tempfile::tempfile().unwrap();
        let found = status(arguments, Stdio::null(), full(), errors.try_clone().unwrap()).await;
        let message = read_again(errors);
        assert!(found == Some(1) && message.contains("output can't be written"), "{arguments:?}: {found:?} {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    for (arguments, expected) in [
        (&["get", "w/t/none", &addr][..], 1),
        (&["import", many, &addr, "--max-failures=3000"], 1),
        (&["set", "w/t/a"], 64),
        (&["get", "w/t/a", "--addr=127.0.0.1:1"], 69),
    ] {
        for errors in [full(), closed()] {
            let found = status(arguments, Stdio::null(), Stdio::null(), errors).await;
            assert_eq!(found, Some(expected), "{arguments:?}");
        }
        // Both in one pipe, as with `2>&1 |`.
        let (reader, writer) = std::io::pipe().unwrap();
        let errors = writer.try_clone().unwrap();
        drop(reader);
        assert_eq!(status(arguments, Stdio::null(), writer, errors).await, Some(expected), "{arguments:?}");
    }
}

fn read_again(mut file: File) -> String {
    use std::io::{Seek, SeekFrom};
    let mut text = String::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// A pseudo-terminal: the end that a test reads, and the one that a command has. A read fails once no process has the
/// other end open.
pub fn terminal() -> (File, OwnedFd) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let inner = ioctl_tiocgptpeer(&terminal, OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    (terminal.into(), inner)
}

/// What a command prints on a terminal, and its exit status.
async fn on_terminal(arguments: &[&str]) -> (String, Option<i32>) {
    let (mut terminal, inner) = terminal();
    let reader = std::thread::spawn(move || {
        let (mut printed, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = terminal.read(&mut buffer) {
            printed.extend_from_slice(&buffer[..count]);
        }
        printed
    });
    let mut command = Command::new(binary());
    command.args(arguments).env_clear().env("TERM", "xterm").kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(inner.try_clone().unwrap()).stderr(inner);
    let ended = tokio::time::timeout(PATIENCE, command.status()).await.expect("it ends").expect("it runs");
    drop(command);
    let printed = tokio::task::spawn_blocking(|| reader.join().unwrap()).await.unwrap();
    (text(&printed).replace("\r\n", "\n"), ended.code())
}

/// Covers C64, C65, C81.
#[tokio::test]
async fn on_a_terminal_lines_are_text_and_no_progress_is_mixed_into_them() {
    let server = embedded_process().await.ready().await;
    server.set("w/t/a", "{\"a\":\"\u{202e}\u{9b}\"}").await;
    let addr = format!("--addr={}", server.api);
    let (exported, status) = on_terminal(&["export", &addr]).await;
    assert_eq!((exported.lines().count(), status), (1, Some(0)), "{exported:?}");
    let object: serde_json::Value = serde_json::from_str(&exported).unwrap_or_else(|e| panic!("{e}: {exported:?}"));
    assert_eq!(object["value"]["a"], "\u{202e}\u{9b}", "escaped, and equal as JSON");
    assert!(!exported.contains(['\u{202e}', '\u{9b}', '\u{1b}']), "{exported:?}");
    let (shown, status) = on_terminal(&["get", "w/t/a", &addr]).await;
    assert!(status == Some(0) && shown.starts_with("w/t/a  {\"a\":\"\\u{202e}\\u{9b}\"}  ("), "{shown:?}");
    let (shown, status) = on_terminal(&["get", "w/t/none", &addr]).await;
    assert!(status == Some(1) && shown.starts_with("changelogd: get: NOT_FOUND KEY_NOT_FOUND: "), "{shown:?}");
    let (shown, status) = on_terminal(&["config"]).await;
    assert!(status == Some(0) && shown.contains("127.0.0.1:50051  (default)\n"), "{shown:?}");
    // Of an import, the bar is removed before the summary.
    let input = lines("{\"key\":\"w/t/b\",\"value\":1}\n");
    let (shown, status) = on_terminal(&["import", input.path().to_str().unwrap(), &addr]).await;
    let last = shown.lines().last().unwrap_or_default().rsplit('\u{1b}').next().unwrap();
    assert!(status == Some(0) && last.contains("1 lines: 1 set, 0 deleted, 0 failed, in "), "{shown:?}");
}

/// Covers C63, C68.
#[tokio::test]
async fn the_help_of_each_command_shows_what_its_documentation_says() {
    let cases: [(&[&str], &[&str]); 15] = [
        (&["set"], &["Writes one entity", "changelogd set ws-1/city/1", "@bern.json"]),
        (&["get"], &["Reads one entity", "replays the workspace's partition", "status 1 if the entity is not there"]),
        (&["delete"], &["Deletes one entity", "is no failure"]),
        (&["flush"], &["Waits for accepted writes", "Exit status 1 if writes remain"]),
        (&["load"], &["Loads the state", "The last line is the Snapshot. Without it the load is not whole"]),
        (&["stream"], &["Streams records", "Without it the partition is not whole"]),
        (&["watch"], &["Prints the state", "Without it the state is not whole", "--resume-token <TOKEN>"]),
        (&["describe"], &["Shows what", "Exit status 0 also if there are findings"]),
        (&["export"], &["Writes the latest", "FILE.….partial", "--values opaque", "mode 0600", "standard output"]),
        (&["import"], &["Reads JSON Lines", "`value_base64`", "`headers`", "Exit status 1 if a line failed"]),
        (&["health"], &["Asks grpc.health.v1", "69 if it does not", "An unknown --service is 1"]),
        (&["wait"], &["Waits until the sidecar is ready", "By default it waits for 30s", "the exit status is 69"]),
        (&["topic", "ensure"], &["Creates the topic", "cleanup.policy=compact", "without --alter"]),
        (&["topic", "describe"], &["Shows partitions", "talks to the brokers"]),
        (&["serve"], &["Serves the API"]),
    ];
    for (command, phrases) in cases {
        let output = run([command, &["--help"]].concat(), &[]).await;
        // Lines are wrapped.
        let help = text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        for phrase in phrases {
            assert!(output.status.success() && help.contains(phrase), "{command:?}: no {phrase:?} in {help}");
        }
    }
    let list = text(&run(["--help"], &[]).await.stdout);
    let commands = ["set", "get", "delete", "flush", "load", "stream", "watch", "describe", "export", "import"];
    for command in commands.into_iter().chain(["health", "wait", "topic"]) {
        let line = list.lines().find(|line| line.trim_start().starts_with(command)).expect(command);
        assert!(line.split_whitespace().count() > 2, "{line:?}");
    }
    // The name of the program is its own, whatever the caller says.
    let mut forged = std::process::Command::new(binary());
    std::os::unix::process::CommandExt::arg0(&mut forged, "\u{1b}[31mX\u{202e}");
    let output = Command::from(forged).arg("--help").env_clear().output().await.unwrap();
    let help = text(&output.stdout);
    assert!(help.contains("Usage: changelogd ") && !help.contains(['\u{1b}', '\u{202e}']), "{help:?}");
}
