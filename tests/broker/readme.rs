//! Keeps the README true: `make run` and every `console` block run as they are written, and print the output that the
//! README shows. In expected output, `…` stands for anything.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use changelogd_testkit::Broker;

use crate::contract::server::{PATIENCE, binary, directory};

/// A command and its output.
#[derive(Debug)]
struct Step {
    command: String,
    expected: Vec<String>,
}

fn steps(readme: &str, tag: &str) -> Vec<Step> {
    let (mut steps, mut inside) = (Vec::<Step>::new(), false);
    for line in readme.lines() {
        if let Some(fence) = line.strip_prefix("```") {
            inside = !inside && fence == tag;
        } else if let (true, Some(command)) = (inside, line.strip_prefix("$ ")) {
            steps.push(Step { command: command.to_owned(), expected: Vec::new() });
        } else if inside {
            steps.last_mut().expect("a command comes first").expected.push(line.to_owned());
        }
    }
    steps
}

/// `…` matches any text. Alone on a line it matches any number of lines.
fn matches(expected: &str, printed: &str) -> bool {
    let mut parts = expected.split('…');
    let Some(mut rest) = printed.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<_> = parts.collect();
    for (i, part) in parts.iter().enumerate() {
        if i + 1 == parts.len() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// Runs the steps in one shell, as a user would type them.
fn run(steps: &[Step], substitute: impl Fn(&str) -> String, variables: &[(&str, &str)]) {
    const MARK: &str = "@@ end of step @@";
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut shell = Command::new("bash")
        .current_dir(root)
        .env_remove("CHANGELOGD_TEST_BINARY")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("bash runs");
    let mut input = shell.stdin.take().expect("piped");
    // Job control, for `&` and `kill %1`.
    writeln!(input, "set -m").unwrap();
    for step in steps {
        writeln!(input, "{}\necho '{MARK}'", substitute(&step.command)).unwrap();
    }
    drop(input);
    let mut printed = String::new();
    shell.stdout.take().expect("piped").read_to_string(&mut printed).expect("text");
    let _ = shell.wait();
    let printed: Vec<_> = printed.split(&format!("{MARK}\n")).collect();
    assert_eq!(printed.len(), steps.len() + 1, "{printed:#?}");
    for (step, printed) in steps.iter().zip(printed) {
        let lines: Vec<_> = printed.lines().collect();
        let open = step.expected.last().is_some_and(|l| l == "…");
        let expected = &step.expected[..step.expected.len() - usize::from(open)];
        let same = (lines.len() == expected.len() || open && lines.len() >= expected.len())
            && expected.iter().zip(&lines).all(|(e, p)| matches(&substitute(e), p));
        assert!(same, "$ {}\nprinted\n{printed}\nand not\n{}", step.command, step.expected.join("\n"));
    }
}

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

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("the README")
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
    run(&tour, substitute, &[("CHANGELOGD_ADDR", &addr)]);
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
    run(&tour, substitute, &[("PATH", &path)]);
    let started = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(started.elapsed() < PATIENCE, "what the tour started has ended");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_readme_test_compares_the_output() {
    assert!(
        matches("a…c", "abc") && matches("a…", "a") && matches("…", "x") && matches("{\"t\":\"…\"}", "{\"t\":\"1\"}")
    );
    assert!(!matches("a…c", "abd") && !matches("a", "ab") && !matches("ab", "a"));
}
