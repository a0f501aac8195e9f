//! Keeps the README true: `make run` and every `console` block run as they are written, and print the output that the
//! README shows.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use changelogd_testkit::Broker;

use crate::{
    console::{run, steps},
    contract::server::{PATIENCE, binary, directory},
};

/// Ends the processes that it started, and their children.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", "--", &format!("-{}", self.0.id())]).status();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).expect("the README")
}

/// `make run` serves, and the tour works as written. Only ports and the directory differ, so that other processes do
/// not disturb it. With CHANGELOGD_TEST_BINARY, that binary is the server and the client.
/// Covers C60, C63, C64, C68.
#[test]
fn the_readme_tour_works_as_written() {
    use std::os::unix::process::CommandExt;
    let (_keep, data) = directory();
    let (api, admin) = (free_port(), free_port());
    let mut serve = match std::env::var_os("CHANGELOGD_TEST_BINARY") {
        Some(binary) => Command::new(binary),
        None => Command::new("make"),
    };
    let command = if serve.get_program() == "make" { "run" } else { "serve" };
    let serving = serve
        .arg(command)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CHANGELOGD_LISTEN", format!("127.0.0.1:{api}"))
        .env("CHANGELOGD_ADMIN_LISTEN", format!("127.0.0.1:{admin}"))
        .env("CHANGELOGD_DATA_DIR", &data)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("it starts");
    let _serving = Group(serving);
    let addr = format!("127.0.0.1:{api}");
    let started = Instant::now();
    let healthy =
        || Command::new(binary()).args(["health", "--addr", &addr]).output().is_ok_and(|o| o.status.success());
    while !healthy() {
        // It may have to be built first.
        assert!(started.elapsed() < Duration::from_secs(1200), "make run does not serve");
        std::thread::sleep(Duration::from_millis(100));
    }
    let tour = steps(&readme(), "console");
    assert!(tour.len() > 12, "{tour:#?}");
    assert!(tour[0].command.contains("$PWD/target/debug"), "the tour begins with the PATH: {}", tour[0].command);
    let folder = binary().parent().expect("a folder").display().to_string();
    let substitute = |text: &str| {
        text.replace("127.0.0.1:50051", &addr)
            .replace("127.0.0.1:9650", &format!("127.0.0.1:{admin}"))
            .replace("$PWD/target/debug", &folder)
    };
    run(&tour, root(), substitute, &[("CHANGELOGD_ADDR", &addr)]);
}

/// Covers C61.
#[test]
fn the_readme_tour_with_kafka_works_as_written() {
    let broker = Broker::start();
    let port = free_port();
    let tour = steps(&readme(), "console kafka");
    assert!(tour.len() > 6, "{tour:#?}");
    let substitute = |text: &str| {
        text.replace("localhost:9092", broker.bootstrap()).replace("127.0.0.1:50052", &format!("127.0.0.1:{port}"))
    };
    let path =
        format!("{}:{}", binary().parent().expect("a folder").display(), std::env::var("PATH").unwrap_or_default());
    run(&tour, root(), substitute, &[("PATH", &path)]);
    let started = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(started.elapsed() < PATIENCE, "what the tour started has ended");
        std::thread::sleep(Duration::from_millis(50));
    }
}
