//! The error line of a wrong command line or a failed command: it names the cause and the way out, and no secret.

use std::{
    ffi::{OsStr, OsString},
    net::{Ipv6Addr, TcpListener},
    os::unix::ffi::OsStrExt,
    time::Duration,
};

use crate::{
    command_line::run,
    contract::server::directory,
    process::{run as run_text, text},
    servers::{answering, embedded_process},
};

/// Covers C69, S12.
#[tokio::test]
async fn an_argument_or_address_that_may_have_a_secret_is_not_shown() {
    let cases: [(&[&str], &str); 18] = [
        (&["serve", "--brokers", "h:1", "--kafka-property", "client.id=a", "sasl.password=hunter2"], "sasl.password=…"),
        (&["config", "--brokers", "h:1", "--kafka-property", "client.id=a", "a.b=hunter2"], "argument 6 (not shown"),
        (&["serve", "--kafka-property", "sasl.password", "hunter2"], "argument 4 (not shown"),
        (&["serve", "sasl.password:hunter2"], "argument 2 (not shown"),
        (&["serve", "sasl.password hunter2"], "argument 2 (not shown"),
        (&["set", "k", "1", "hunter2"], "argument 4 (not shown"),
        (&["serve", "--drain-delay", "sasl.password=hunter2"], "--drain-delay"),
        (&["serve", "--store=sasl.password=hunter2"], "--store"),
        (&["sasl.password=hunter2"], "sasl.password=…"),
        (&["--addr", "h:1", "sasl.password=hunter2"], "sasl.password=…"),
        (&["topic", "sasl.password=hunter2"], "sasl.password=…"),
        (&["topic", "describe", "sasl.password=hunter2"], "sasl.password=…"),
        (&["get", "k", "sasl.password=hunter2"], "sasl.password=…"),
        (&["get", "--sasl.password=hunter2"], "--sasl.password"),
        (&["get", "k", "--addr", "http://user:hunter2@127.0.0.1:1"], "--addr"),
        (&["get", "k", "--addr", "user:hunter2@127.0.0.1:1"], "--addr"),
        (&["get", "k", "--addr", "https://user:hunter2@h"], "--addr"),
        (&["serve", "--listen", "http://user:hunter2@h:1"], "--listen"),
    ];
    for (arguments, named) in cases {
        let output = run(arguments, &[]).await;
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {line}");
        assert!(line.contains(named) && !line.contains("hunter2"), "{arguments:?}: {line}");
        assert_eq!((line.lines().count(), output.stdout.len()), (1, 0), "{arguments:?}: {line}");
    }
    for argument in ["sasl.password=hunter2\u{0}", "--sasl.password=hunter2\u{0}"] {
        let bytes: Vec<u8> = argument.bytes().map(|byte| if byte == 0 { 0xff } else { byte }).collect();
        let output = run(["get".as_ref(), OsStr::from_bytes(&bytes)], &[]).await;
        let line = text(&output.stderr);
        assert!(output.status.code() == Some(64) && line.contains("sasl.password"), "{line}");
        assert!(!line.contains("hunter2"), "{line}");
    }
    let variable = [("CHANGELOGD_ADDR", OsStr::new("http://user:hunter2@127.0.0.1:1"))];
    let line = text(&run(["get", "w/t/a"], &variable).await.stderr);
    assert!(line.contains("CHANGELOGD_ADDR") && !line.contains("hunter2"), "{line}");
}

/// Covers C63, C69.
#[tokio::test]
async fn a_wrong_command_line_is_one_line_with_the_setting_and_the_way_out() {
    let cases: [(&[&str], &[&str]); 23] = [
        (&[], &["a command is required", "changelogd --help"]),
        (&["topic"], &["a command is required", "changelogd topic --help"]),
        (&["--addr"], &["a command is required"]),
        (&["--addr", "127.0.0.1:1"], &["a command is required"]),
        (&["topic", "--brokers=h:1"], &["a command is required", "changelogd topic --help"]),
        (&["gte", "k"], &["argument 1 (not shown", "no such command", "--help"]),
        (&["exprt"], &["exprt: no such command", "--help"]),
        (&["topic", "delete"], &["delete: no such command", "changelogd topic --help"]),
        (&["get", "k", "--wait", "1s"], &["--wait: `get` has no such flag", "changelogd get --help"]),
        (&["serve", "--addr=h:1"], &["--addr: `serve` has no such flag"]),
        (&["get", "a", "b"], &["argument 3 (not shown", "`get` takes no such argument", "changelogd get --help"]),
        (&["import", "--max-failures", "-1"], &["--max-failures", "begins with a dash"]),
        (&["get", "k", "--timeout", "-5s"], &["--timeout", "begins with a dash"]),
        (&["import", "--max-failures=-1"], &["--max-failures", "\"-1\""]),
        (&["import", "--max-failures=0"], &["--max-failures", "\"0\"", "1.."]),
        (&["import", ""], &["FILE", "a value is required"]),
        (&["serve", "--data-dir", ""], &["--data-dir", "a value is required"]),
        (&["export", "--workspace"], &["--workspace", "a value is required"]),
        (&["export", "--output", ""], &["--output", "must be one of text, json"]),
        (&["get"], &["KEY", "is required"]),
        (&["get", "k", "--timeout=1s", "--timeout=2s"], &["--timeout", "multiple times"]),
        (&["get", "k", "--addr=h:1", "-x"], &["-x: no such flag"]),
        (&["get", "k", "--raw=1"], &["--raw: takes no value", "leave it out"]),
    ];
    for (arguments, parts) in cases {
        let output = run(arguments, &[]).await;
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {line}");
        assert!(parts.iter().all(|part| line.contains(part)), "{arguments:?}: {line}");
        assert!(line.lines().count() == 1 && output.stdout.is_empty(), "{arguments:?}: {line}");
        assert!(!line.contains("must be one of \n"), "{line}");
    }
    let raw: [OsString; 3] = ["get".into(), "--raw".into(), OsStr::from_bytes(b"w/t/a\xff").into()];
    let line = text(&run(raw, &[]).await.stderr);
    assert!(line.contains("argument 3 (not shown, as it may be a secret): must be UTF-8"), "{line}");
    for arguments in [
        &["--addr", "127.0.0.1:1", "--help"][..],
        &["--addr", "127.0.0.1:1", "--version"],
        &["--output", "json", "help", "get"],
        &["topic", "--brokers", "h:1", "--help"],
    ] {
        let output = run(arguments, &[]).await;
        assert!(output.status.success() && text(&output.stdout).contains("changelogd"), "{arguments:?}: {output:?}");
    }
    // Flags between the command and the one below it.
    let arguments = ["topic", "--brokers", "127.0.0.1:1", "describe", "--kafka-property=socket.timeout.ms=1"];
    let line = text(&run(arguments, &[]).await.stderr);
    assert!(!line.contains("no such"), "{line}");
}

/// Covers C69.
#[tokio::test]
async fn a_command_without_an_answer_names_the_cause_and_a_write_what_became_of_it() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unix = tempfile::tempdir().unwrap();
    let missing = format!("unix:{}", unix.path().join("s").display());
    for (address, cause) in [(&*free.to_string(), "Connection refused"), (&missing, "No such file")] {
        for (arguments, is_write) in [
            (&["get", "w/t/a"][..], false),
            (&["set", "w/t/a", "1"], true),
            (&["delete", "w/t/a"], true),
            (&["import", "/dev/null"], true),
        ] {
            let output = run([arguments, &["--addr", address]].concat(), &[]).await;
            let line = text(&output.stderr);
            assert!(output.status.code() == Some(69) && line.contains(cause), "{arguments:?}: {line}");
            assert_eq!(line.contains("nothing was written"), is_write, "{line}");
        }
    }
    let line = text(&run(["get", "w/t/a", "--addr=name.invalid:1"], &[]).await.stderr);
    assert!(line.contains("dns error: ") || line.contains("lookup"), "{line}");
    let server = embedded_process().await;
    let addr = format!("--addr={}", server.api);
    for (arguments, reason) in
        [(["set", "w/t/a", "{", &addr], "VALUE_NOT_JSON"), (["set", "bad", "1", &addr], "KEY_INVALID")]
    {
        let line = text(&run(arguments, &[]).await.stderr);
        assert!(line.contains(reason) && line.contains("nothing was written"), "{line}");
    }
    server.signal("STOP");
    let line = text(&run(["get", "w/t/a", &addr, "--timeout=300ms"], &[]).await.stderr);
    server.signal("CONT");
    assert!(line.contains("DEADLINE_EXCEEDED") && line.contains("300ms (--timeout)"), "{line}");
}

/// Covers C56, C69.
#[tokio::test]
async fn an_answer_that_can_not_be_decoded_is_no_refusal() {
    // Where a message is expected, these bytes have a number.
    let addr = format!("--addr={}", answering(&[8, 1]).await);
    let line = text(&run(["set", "w/t/a", "1", &addr], &[]).await.stderr);
    assert!(line.contains("the outcome of the write is not known"), "{line}");
    assert!(!line.contains("ARGUMENT_INVALID") && line.contains("INTERNAL"), "{line}");
    let line = text(&run(["get", "w/t/a", &addr], &[]).await.stderr);
    assert!(!line.contains("ARGUMENT_INVALID") && line.contains("INTERNAL"), "{line}");
    let input = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(input.path(), "{\"key\":\"w/t/a\",\"value\":1}\n").unwrap();
    // A line that was not sent when the first answer came is sent again.
    let arguments = ["import", input.path().to_str().unwrap(), &addr, "--retry-for=1s"];
    let output = run(arguments, &[]).await;
    let printed = text(&output.stdout);
    assert!(output.status.code() == Some(1) && !printed.contains("ARGUMENT_INVALID"), "{output:?}");
    assert!(printed.contains("not known") != printed.contains("nothing was written"), "{printed}");
}

/// Covers C69, S6.
#[tokio::test]
async fn a_port_of_localhost_that_is_taken_on_one_loopback_is_named_with_it() {
    let Ok(taken) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        return changelogd_testkit::skipped("this machine has no IPv6 loopback");
    };
    let port = taken.local_addr().unwrap().port();
    let listen = format!("--listen=localhost:{port}");
    let (output, _) = run_text(&["serve", "--store=memory", "--admin-listen=off", &listen], &[]).await;
    let line = text(&output.stderr);
    assert!(output.status.code() == Some(1) && line.contains(&format!("[::1]:{port}")), "{line}");
}

/// Covers C62.
#[tokio::test]
async fn a_variable_of_the_client_is_no_unknown_setting_of_serve() {
    let (_keep, path) = directory();
    let mut server = tokio::process::Command::new(crate::contract::server::binary())
        .args(["serve", "--listen=127.0.0.1:0", "--admin-listen=off", "--log-format=json"])
        .env_clear()
        .env("CHANGELOGD_DATA_DIR", &path)
        .envs([("CHANGELOGD_TIMEOUT", "5s"), ("CHANGELOGD_OUTPUT", "json"), ("CHANGELOGD_ADDR", "x:1")])
        .env("CHANGELOGD_TIMEOUTS", "1")
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(server.stderr.take().unwrap()));
    let mut unknown = Vec::new();
    loop {
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next_line()).await.expect("a line");
        let line: serde_json::Value = serde_json::from_str(&line.unwrap().expect("it runs")).unwrap();
        if line["message"] == "serving" {
            break;
        }
        unknown.extend(line["name"].as_str().map(ToOwned::to_owned));
    }
    assert_eq!(unknown, ["CHANGELOGD_TIMEOUTS"]);
}
