//! `changelogd wait` as a process: what it waits for, and what it says when it gives up.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use tokio::{
    net::TcpListener,
    process::{Child, Command},
};

use crate::{
    contract::server::{PATIENCE, TestServer, binary, directory, http_get},
    opening::{Held, Opening},
    process::{run, text},
    servers::{answering, embedded_process},
};

fn waiting(arguments: &[&str]) -> Child {
    // A shell ignores INT for what it starts in the background, and so would the process.
    let mut command = Command::new("/usr/bin/env");
    command.arg("--default-signal").arg(binary()).arg("wait").args(arguments).env_clear().stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn().expect("it runs")
}

async fn ended(wait: Child) -> Output {
    tokio::time::timeout(PATIENCE, wait.wait_with_output()).await.expect("it ends").unwrap()
}

async fn succeeds(wait: Child) {
    let output = ended(wait).await;
    let printed = (text(&output.stdout), text(&output.stderr));
    assert_eq!(printed, ("{\"status\":\"SERVING\"}\n".to_owned(), String::new()), "{output:?}");
    assert_eq!(output.status.code(), Some(0));
}

/// The text of the error line of a `wait` that gives up.
async fn gives_up(addr: &str, timeout: &str) -> String {
    let begun = Instant::now();
    let output = ended(waiting(&["--addr", addr, "--timeout", timeout])).await;
    let line = text(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(69), 0), "{output:?}");
    let limit = changelogd::config::parse_duration(timeout).unwrap();
    assert!(begun.elapsed() >= limit && begun.elapsed() < limit + Duration::from_secs(5), "{:?}", begun.elapsed());
    let object: serde_json::Value = serde_json::from_str(line.trim_end()).expect("one line");
    assert_eq!((&object["command"], &object["code"]), (&"wait".into(), &"UNAVAILABLE".into()), "{line}");
    let error = object["error"].as_str().unwrap();
    let cause = error.strip_prefix(&format!("UNAVAILABLE: not ready within {limit:?} (--timeout): "));
    cause.unwrap_or_else(|| panic!("{error}")).to_owned()
}

/// Covers C68.
#[tokio::test]
async fn wait_ends_when_a_server_has_started_that_refused_before() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let wait = waiting(&["--addr", &address]);
    // Its first connection is closed at once. Later ones are refused until the server listens.
    let first = tokio::time::timeout(PATIENCE, listener.accept()).await.expect("it connects").unwrap();
    drop((first, listener));
    let (_keep, path) = directory();
    let arguments = vec![format!("--data-dir={}", path.display()), format!("--listen={address}")];
    let _server = TestServer::process(arguments).await;
    succeeds(wait).await;
}

/// Covers C68.
#[tokio::test]
async fn wait_ends_when_a_socket_file_has_appeared() {
    let (keep, path) = directory();
    let address = format!("unix:{}", keep.path().join("api.sock").display());
    let cause = gives_up(&address, "1s").await;
    assert!(cause.contains(&address) && cause.contains("No such file"), "{cause}");
    let wait = waiting(&["--addr", &address]);
    let arguments = vec![format!("--data-dir={}", path.display()), format!("--listen={address}")];
    let _server = TestServer::process(arguments).await;
    succeeds(wait).await;
}

/// Covers C68.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wait_ends_when_a_server_that_was_not_serving_serves() {
    let held = Held::start(&["--health-listen=127.0.0.1:0"]).await;
    let addresses = &held.addresses;
    let (api, health) = (addresses.api.to_string(), addresses.health.as_ref().unwrap().to_string());
    let admin = addresses.admin.as_ref().unwrap().to_string();
    let mut waits = [waiting(&["--addr", &api]), waiting(&["--addr", &health])];
    let is_connected = |metrics: &str, port: &str| {
        let line = format!("changelogd_connections{{port=\"{port}\"}} ");
        metrics.lines().any(|found| found.strip_prefix(&line).is_some_and(|count| count != "0"))
    };
    let started = Instant::now();
    loop {
        let (_, metrics) = http_get(&admin, "/metrics").await;
        if is_connected(&metrics, "api") && is_connected(&metrics, "health") {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{metrics}");
    }
    let cause = gives_up(&api, "1s").await;
    let expected = "NOT_SERVING: UNAVAILABLE STARTING: ";
    assert!(cause.starts_with(expected) && cause.contains("the store is being opened"), "{cause}");
    assert_eq!(gives_up(&health, "1s").await, "NOT_SERVING");
    assert!(waits.iter_mut().all(|wait| wait.try_wait().unwrap().is_none()), "they wait");
    held.open.send(Opening::Succeeds).unwrap();
    for wait in waits {
        succeeds(wait).await;
    }
}

/// Covers C68, C69.
#[tokio::test]
async fn wait_gives_up_at_its_timeout_and_says_what_it_saw() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let cause = gives_up(&free, "1s").await;
    assert!(cause.contains("no sidecar answers at") && cause.contains("Connection refused"), "{cause}");
    // The system accepts connections for it.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    assert_eq!(gives_up(&address, "300ms").await, format!("no answer from http://{address}"));
    let not_serving = answering(&[8, 2]).await;
    assert_eq!(gives_up(&not_serving, "1s").await, "NOT_SERVING");

    let server = embedded_process().await.ready().await;
    let data = std::path::Path::new(server.arguments[0].strip_prefix("--data-dir=").unwrap());
    std::fs::rename(data, data.with_extension("elsewhere")).unwrap();
    let started = Instant::now();
    while server.http("/readyz").await.0 == 200 {
        assert!(started.elapsed() < PATIENCE, "it notices that its directory is gone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let cause = gives_up(&server.api, "1s").await;
    assert!(cause.starts_with("NOT_SERVING: STORE_GONE: "), "{cause}");
    let (output, _) = run(&["wait", "--addr", &server.api, "--timeout=1s", "--output=text"], &[]).await;
    let line = text(&output.stderr);
    assert!(
        line.starts_with("changelogd: wait: UNAVAILABLE: not ready within 1s (--timeout): NOT_SERVING: "),
        "{line}"
    );
}

/// Covers C68, C69.
#[tokio::test]
async fn wait_refuses_what_can_never_work_at_once() {
    for (arguments, named) in [
        (&["wait", "--addr=50051"][..], "--addr"),
        (&["wait", "--addr=unix:"], "--addr"),
        (&["wait", "--addr=localhost:"], "--addr"),
        (&["wait", "--addr=[::1]"], "--addr"),
        (&["wait", "--addr=https://h:1"], "--addr"),
        (&["wait", "--timeout=5"], "--timeout"),
        (&["wait", "127.0.0.1:1"], "argument 2 "),
    ] {
        let (output, took) = run(arguments, &[]).await;
        let line = text(&output.stderr);
        assert!(output.status.code() == Some(64) && line.contains(named), "{arguments:?}: {line}");
        assert!(line.lines().count() == 1 && took < Duration::from_secs(10), "{arguments:?}: {line} {took:?}");
    }
}

/// Covers C68.
#[tokio::test]
async fn a_signal_ends_a_wait() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for (name, number) in [("INT", 2), ("TERM", 15)] {
        let wait = waiting(&["--addr", &silent.local_addr().unwrap().to_string(), "--timeout=1h"]);
        let _connection = tokio::time::timeout(PATIENCE, silent.accept()).await.expect("it connects").unwrap();
        let pid = wait.id().unwrap().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().await.unwrap().success());
        let output = ended(wait).await;
        assert_eq!((output.status.signal(), output.stdout.len(), output.stderr.len()), (Some(number), 0, 0));
    }
}
