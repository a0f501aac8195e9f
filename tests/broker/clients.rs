//! Clients of other languages, with the libraries that their users have: what they read of an error, and how they reach
//! a Unix socket. Also Prometheus' own parsers.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use changelogd::proto::v1;
use prost::Message;

use crate::contract::server::{PATIENCE, TestServer, directory, http_get_accepting, raw, reason};

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Fetches the libraries, once a process.
fn fetched() -> PathBuf {
    static FETCHED: OnceLock<Result<(), String>> = OnceLock::new();
    let result = FETCHED.get_or_init(|| {
        let script = sources().join("fetch.sh");
        let output = Command::new(script).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    });
    result.as_ref().unwrap_or_else(|error| panic!("no clients to test with: {error}"));
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/client-libraries")
}

fn python(program: &str) -> Command {
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", fetched().join("python")).arg(sources().join(program));
    python
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Python,
    Node,
    Java,
}

const CLIENTS: [Client; 3] = [Client::Python, Client::Node, Client::Java];

impl Client {
    fn command(self) -> Command {
        let fetched = fetched();
        match self {
            Self::Python => python("call.py"),
            Self::Node => {
                let mut node = Command::new("node");
                node.env("NODE_PATH", fetched.join("node/node_modules")).arg(sources().join("node/call.js"));
                node
            }
            Self::Java => {
                let mut java = Command::new("java");
                let java_files = fetched.join("java");
                let classes = format!("{0}/classes:{0}/libs/*", java_files.display());
                java.args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-cp", &classes, "Call"]);
                java
            }
        }
    }

    /// Makes one unary call. Returns the code, and the message or the response as hexadecimal digits.
    async fn call(self, target: &str, authority: &str, method: &str, request: &impl Message) -> (String, String) {
        let digits: String = request.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
        let method = format!("changelog.v1.ChangelogService/{method}");
        let mut command = self.command();
        command.args([target, authority, &method, &digits]);
        let output = finished(command).await;
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        let (code, text) = printed.split_once('\n').unwrap_or_else(|| {
            panic!("{self:?} printed {printed:?}: {}", String::from_utf8_lossy(&output.stderr));
        });
        (code.to_owned(), text.trim_end_matches('\n').to_owned())
    }
}

async fn finished(mut command: Command) -> Output {
    command.stdin(Stdio::null());
    let running = tokio::process::Command::from(command).kill_on_drop(true).output();
    tokio::time::timeout(2 * PATIENCE, running).await.expect("it ends in time").expect("it starts")
}

/// Node's library does not decode what it need not, and the cut of a long text is not in the middle of a character.
/// Covers C78.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_the_same_text_in_each_language() {
    let server = TestServer::in_process(vec!["--store=memory".to_owned()]).await.ready().await;
    let long = format!("other/t/{}", "\u{e9}\u{1f980}".repeat(60));
    for changelog_id in ["other/t/?#[]@!$&'()*+,;=:", "other/t/100%20 {a}", "other/t/caf\u{e9} \u{1f980} ~`^|", &long] {
        let request = v1::SetRequest {
            workspace_id: "ws".to_owned(),
            changelog_id: changelog_id.to_owned(),
            value: raw("1"),
            ..Default::default()
        };
        let status = server.client.clone().set(request.clone()).await.unwrap_err();
        assert_eq!(reason(&status), "KEY_INVALID");
        let shown: String = changelog_id.chars().take(80).collect();
        assert!(status.message().contains(&shown) && status.message().ends_with("meant?"), "{status:?}");
        for client in CLIENTS {
            let answer = client.call(&server.api, "", "Set", &request).await;
            assert_eq!(answer, ("INVALID_ARGUMENT".to_owned(), status.message().to_owned()), "{client:?}");
        }
    }
}

/// Covers C79.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_language_reaches_a_unix_socket_as_the_document_says() {
    let (keep, path) = directory();
    let socket = keep.path().join("api.sock");
    let arguments = vec![format!("--data-dir={}", path.display()), format!("--listen=unix:{}", socket.display())];
    let server = TestServer::process(arguments).await.ready().await;
    let target = format!("unix://{}", socket.display());
    let set = v1::SetRequest { changelog_id: "ws/t/i".to_owned(), value: raw("1"), ..Default::default() };
    for client in CLIENTS {
        let (code, text) = client.call(&target, "localhost", "Set", &set).await;
        assert_eq!(code, "OK", "{client:?}: {text}");
        // Without the option, what the document names as the symptom.
        let (code, text) = client.call(&target, "", "Set", &set).await;
        if client == Client::Node {
            assert_eq!(code, "OK", "{text}");
        } else {
            let symptom = text.contains("RST_STREAM") || text.contains("PROTOCOL_ERROR");
            assert!(code == "INTERNAL" && symptom, "{client:?}: {code} {text}");
        }
    }
    assert_eq!(server.get("ws/t/i").await.unwrap().offset, 3, "a record for each of the four that are OK");
    for authority in [&["-authority", "localhost"][..], &[]] {
        let mut grpcurl = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/grpcurl"));
        grpcurl.args(["-plaintext", "-unix"]).args(authority).arg(&socket);
        grpcurl.arg("changelog.v1.ChangelogService/Describe");
        let output = finished(grpcurl).await;
        assert!(output.status.success(), "{authority:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Covers C80.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_formats_of_the_metrics_pass_prometheus_parsers() {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";
    let (keep, path) = directory();
    let server = TestServer::process(vec![format!("--data-dir={}", path.display())]).await.ready().await;
    server.set("ws/t/i", "1").await;
    server.load("ws").await;
    server.get("ws/t/none").await.unwrap_err();
    // Each family that this test can cause is there before the two answers.
    let ended = "changelogd_connections_ended_total{port=\"admin\",reason=\"client\"}";
    while server.metric(ended).await == 0 {
        tokio::task::yield_now().await;
    }
    let mut parser = python("metrics.py");
    for (name, accept, content_type) in [
        ("plain", None, "text/plain; version=0.0.4; charset=utf-8"),
        ("open", Some(OPEN_METRICS), "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ] {
        let (head, body) = http_get_accepting(&server.admin, "/metrics", accept).await;
        let head = head.to_ascii_lowercase();
        assert!(head.contains(&format!("\r\ncontent-type: {content_type}\r\n")), "{head}");
        assert!(head.contains("\r\nvary: accept\r\n"), "{head}");
        assert_eq!(body.ends_with("# EOF\n"), accept.is_some());
        let file = keep.path().join(name);
        std::fs::write(&file, body).unwrap();
        parser.arg(file);
    }
    let output = finished(parser).await;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.trim().parse::<usize>().expect("a number") > 15, "{printed}");
}
