//! The client's commands and the command line as a process: arguments, files, a server that is stuck.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, PermissionsExt, symlink},
    },
    path::Path,
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use tokio::process::Command;

use crate::{
    contract::server::{PATIENCE, TestServer, binary, directory},
    mock_cluster::MockKafka,
    process::text,
    servers::embedded_process,
};

pub async fn run<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>, variables: &[(&str, &OsStr)]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).env_clear().envs(variables.iter().copied());
    command.stdin(Stdio::null()).kill_on_drop(true);
    tokio::time::timeout(PATIENCE, command.output()).await.expect("it ends").expect("it runs")
}

fn bytes(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}

fn joined(directory: &Path, name: &[u8]) -> OsString {
    directory.join(OsStr::from_bytes(name)).into_os_string()
}

/// Covers C69.
#[tokio::test]
async fn arguments_and_variables_that_are_not_utf8_are_exit_64_and_named() {
    let server = embedded_process().await;
    let addr = format!("--addr={}", server.api);
    let cases: [(&[&[u8]], &str); 13] = [
        (&[b"get", b"w/t/a\xff"], "argument "),
        (&[b"set", b"w/t/\xff", b"1"], "argument "),
        (&[b"set", b"w/t/a", b"\"\xff\""], "argument "),
        (&[b"set", b"w/t/a", b"1", b"--header", b"h=\xff"], "--header"),
        (&[b"set", b"w/t/a", b"1", b"--header=h=\xff"], "--header"),
        (&[b"get", b"--workspace=\xff", b"/t/a"], "--workspace"),
        (&[b"delete", b"w/t/\xff"], "argument "),
        (&[b"load", b"\xff"], "argument "),
        (&[b"stream", b"--type", b"\xff"], "--type"),
        (&[b"export", b"--workspace", b"\xff", b"/nonexistent/file"], "--workspace"),
        (&[b"get", b"--addr=\xff:1", b"w/t/a"], "--addr"),
        (&[b"serve", b"--topic=\xff"], "--topic"),
        (&[b"get\xff"], "argument 1 "),
    ];
    for (arguments, named) in cases {
        let has_server = !["serve", "get\u{fffd}"].contains(&&*String::from_utf8_lossy(arguments[0]));
        let own_address = arguments.iter().any(|argument| argument.starts_with(b"--addr"));
        let addr = (has_server && !own_address).then(|| addr.clone().into());
        let output = run(arguments.iter().map(|argument| bytes(argument)).chain(addr), &[]).await;
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {line}");
        assert!(line.contains(named) && line.contains("UTF-8"), "{arguments:?}: {line}");
        assert!(line.lines().count() == 1 && !line.contains('\u{fffd}'), "{arguments:?}: {line}");
    }
    for name in ["CHANGELOGD_TOPIC", "KAFKA_BROKERS", "CHANGELOGD_LISTEN", "CHANGELOGD_KAFKA_PROPERTY"] {
        let output = run(["config"], &[(name, OsStr::from_bytes(b"\xff:1"))]).await;
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{name}: {line}");
        assert!(line.contains(name) && line.contains("UTF-8"), "{line}");
    }
    let all = server.stream(changelogd::proto::v1::StreamAllRequest::default()).await.unwrap();
    assert!(all.entries.is_empty(), "nothing was written under another key");
}

/// Covers C65, C69.
#[tokio::test]
async fn paths_may_have_bytes_that_are_not_utf8() {
    let (_keep, directory) = directory();
    fs::create_dir_all(&directory).unwrap();
    let (data, socket) = (joined(&directory, b"data\xff"), joined(&directory, b"s\xfe.sock"));
    let mut listen = bytes(b"--listen=unix:");
    listen.push(&socket);
    let mut server = Command::new(binary())
        .args(["serve", "--admin-listen=off"])
        .arg(&listen)
        .env_clear()
        .env("CHANGELOGD_DATA_DIR", &data)
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let until = Instant::now() + PATIENCE;
    while !fs::symlink_metadata(&socket).is_ok_and(|found| found.file_type().is_socket()) {
        assert!(Instant::now() < until && server.try_wait().unwrap().is_none(), "it listens");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut addr = bytes(b"--addr=unix:");
    addr.push(&socket);
    let value = joined(&directory, b"value\xff.json");
    fs::write(&value, "{\"a\":1}").unwrap();
    let (mut at_value, file) = (bytes(b"@"), joined(&directory, b"all\xff.jsonl"));
    at_value.push(&value);
    let mut ready = run([&bytes(b"health"), &addr], &[]).await;
    while !ready.status.success() {
        assert!(Instant::now() < until, "{ready:?}");
        ready = run([&bytes(b"health"), &addr], &[]).await;
    }
    let commands: [&[&OsStr]; 4] = [
        &["set".as_ref(), &addr, "w/t/a".as_ref(), &at_value],
        &["export".as_ref(), &addr, &file],
        &["import".as_ref(), &addr, &file],
        &["get".as_ref(), &addr, "w/t/a".as_ref(), "--raw".as_ref()],
    ];
    for arguments in commands {
        let output = run(arguments, &[]).await;
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        assert!(arguments[0] != "get" || output.stdout == b"{\"a\":1}", "{output:?}");
    }
    assert!(fs::symlink_metadata(&data).is_ok_and(|found| found.is_dir()));
    let missing = run([OsStr::new("import"), &addr, &joined(&directory, b"\x1b[2J\xff")], &[]).await;
    let line = text(&missing.stderr);
    assert!(missing.status.code() == Some(64) && line.contains("FILE: ") && !line.contains('\u{1b}'), "{line:?}");
}

/// Covers C63, C69.
#[tokio::test]
async fn flags_work_before_and_after_the_command() {
    let server = embedded_process().await;
    server.set("w/t/a", "7").await;
    let addr = format!("--addr={}", server.api);
    for arguments in [
        &[&*addr, "get", "w/t/a", "--raw"][..],
        &["--addr", &server.api, "--raw", "get", "w/t/a"],
        &["get", "w/t/a", "--raw", &addr],
        &["--timeout=5s", "get", &addr, "w/t/a", "--raw"],
    ] {
        let output = run(arguments, &[("CHANGELOGD_ADDR", OsStr::new("127.0.0.1:1"))]).await;
        assert_eq!((output.status.code(), &*text(&output.stdout)), (Some(0), "7"), "{arguments:?}: {output:?}");
    }
    for (arguments, named) in [
        (&["--nope", "get", "w/t/a"][..], "--nope"),
        (&[&addr, "serve"], "--addr"),
        (&[&addr, "gett", "w/t/a"], "gett"),
        (&["--addr", "x", "get", "w/t/a"], "--addr"),
    ] {
        let output = run(arguments, &[]).await;
        let line = text(&output.stderr);
        assert!(output.status.code() == Some(64) && line.contains(named), "{arguments:?}: {line}");
    }
    let output = run(["--log-format=json", "serve", "--partitions=0"], &[]).await;
    assert!(output.status.code() == Some(64) && text(&output.stderr).starts_with('{'), "{output:?}");
}

/// Covers C68, C69.
#[tokio::test]
async fn a_command_against_a_stuck_server_ends_at_its_timeout_and_health_with_69() {
    let server = embedded_process().await;
    let frozen = server.api.clone();
    server.signal("STOP");
    // The system accepts connections for it.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let accepts_nothing = silent.local_addr().unwrap().to_string();
    for address in [frozen, accepts_nothing] {
        for (arguments, status) in [
            (&["health"][..], 69),
            (&["health", "--service=liveness"], 69),
            (&["wait"], 69),
            (&["get", "w/t/a"], 1),
            (&["set", "w/t/a", "1"], 1),
            (&["load", "w"], 1),
            (&["export"], 1),
            (&["describe"], 1),
            (&["flush"], 1),
        ] {
            let begun = Instant::now();
            let output = run([arguments, &["--addr", &address, "--timeout=300ms"]].concat(), &[]).await;
            assert_eq!(output.status.code(), Some(status), "{arguments:?}: {output:?}");
            assert_eq!(text(&output.stderr).lines().count(), 1, "{arguments:?}: {output:?}");
            assert!(begun.elapsed() < Duration::from_secs(10), "{arguments:?} took {:?}", begun.elapsed());
            let is_unknown = text(&output.stderr).contains("the outcome of the write is not known");
            assert_eq!(is_unknown, arguments[0] == "set", "{arguments:?}: {output:?}");
        }
    }
    server.signal("CONT");
}

/// Covers C65, C69.
#[tokio::test]
async fn an_export_touches_no_other_file_than_its_own() {
    let server = embedded_process().await;
    server.set("w/t/a", "7").await;
    let keep = tempfile::tempdir().unwrap();
    let (victim, file, partial) =
        (keep.path().join("victim"), keep.path().join("all.jsonl"), keep.path().join("all.jsonl.partial"));
    fs::write(&victim, "precious").unwrap();
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
    let export = async |file: &Path| {
        run([OsStr::new("export"), format!("--addr={}", server.api).as_ref(), file.as_os_str()], &[]).await
    };
    // What others may have put at the name that an earlier version used.
    let place: [&dyn Fn(); 5] = [
        &|| symlink(&victim, &partial).unwrap(),
        &|| fs::hard_link(&victim, &partial).unwrap(),
        &|| fs::create_dir(&partial).unwrap(),
        &|| fs::write(&partial, "an interrupted export").unwrap(),
        &|| rustix::fs::mkfifoat(rustix::fs::CWD, &partial, 0o600.into()).unwrap(),
    ];
    for (i, place) in place.iter().enumerate() {
        place();
        let before = fs::symlink_metadata(&partial).unwrap().file_type();
        let output = export(&file).await;
        assert!(output.status.success(), "{i}: {output:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "{\"key\":\"w/t/a\",\"value\":7}\n", "{i}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious", "{i}");
        let found = fs::symlink_metadata(&partial).unwrap();
        assert_eq!(found.file_type(), before, "{i}");
        assert_eq!(fs::read_dir(keep.path()).unwrap().count(), 3, "{i}: no partial file is left");
        if found.is_dir() { fs::remove_dir(&partial) } else { fs::remove_file(&partial) }.unwrap();
        fs::remove_file(&file).unwrap();
    }
    // A link at FILE is replaced, and not followed.
    symlink(&victim, &file).unwrap();
    assert!(export(&file).await.status.success());
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    // What is no regular file is not replaced.
    let fifo = keep.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o600.into()).unwrap();
    for bad in [keep.path(), &fifo, Path::new("/dev/null"), &keep.path().join("no/such/directory"), Path::new("/")] {
        let output = export(bad).await;
        let line = text(&output.stderr);
        assert!(output.status.code() == Some(64) && line.contains("FILE: "), "{bad:?}: {output:?}");
    }
    assert!(fs::symlink_metadata(&fifo).unwrap().file_type().is_fifo());
}

/// Covers C65.
#[tokio::test]
async fn a_signal_removes_the_partial_file() {
    let kafka = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let keep = tempfile::tempdir().unwrap();
    for signal in ["INT", "TERM", "HUP"] {
        // The server does not answer.
        let mut export = Command::new(binary())
            .args(["export", "--addr", &kafka.local_addr().unwrap().to_string()])
            .arg(keep.path().join("all.jsonl"))
            .env_clear()
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let until = Instant::now() + PATIENCE;
        let (connection, _) = tokio::time::timeout(PATIENCE, kafka.accept()).await.expect("it connects").unwrap();
        assert_eq!(fs::read_dir(keep.path()).unwrap().count(), 1, "the partial file");
        let pid = export.id().unwrap().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid]).status().await.unwrap();
        assert!(sent.success());
        let ended = tokio::time::timeout(until - Instant::now(), export.wait()).await.expect("it ends").unwrap();
        assert_eq!(ended.code(), Some(1), "{signal}");
        assert_eq!(fs::read_dir(keep.path()).unwrap().count(), 0, "{signal}");
        drop(connection);
    }
}

/// Names and values.
type Headers<'a> = &'a [(&'a str, Option<&'a [u8]>)];

/// Writes a record as another client of Kafka does.
async fn produce(brokers: &str, partition: i32, key: &str, headers: Headers<'_>) {
    let producer: FutureProducer = ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let headers =
        headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: *value }));
    let record = FutureRecord::to("t").partition(partition).key(key).payload("1").headers(headers);
    producer.send(record, PATIENCE).await.expect("it is written");
}

/// Covers C16, C65.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_headers_are_carried_or_refused_before_the_export_is_good() {
    let kafka = MockKafka::start(1);
    let server = TestServer::process(kafka.arguments(1)).await.ready().await;
    let keep = tempfile::tempdir().unwrap();
    let file = keep.path().join("all.jsonl");
    let (long, large) = ([b'x'; 16_384], vec![b'x'; 20_000]);
    let good: [(&str, Option<&[u8]>); 5] =
        [("h", None), ("h", Some(b"")), ("h", Some(b"\xff\0")), ("H", Some(b"x")), ("\u{202e}", Some(b"\n"))];
    produce(&kafka.brokers, 0, "w/t/good", &good).await;
    let addr = format!("--addr={}", server.api);
    let export = async || run([OsStr::new("export"), addr.as_ref(), file.as_os_str()], &[]).await;
    assert!(export().await.status.success());
    let before = server.load("w").await.entries;
    server.delete("w/t/good").await;
    let output = run([OsStr::new("import"), addr.as_ref(), file.as_os_str()], &[]).await;
    assert!(output.status.success(), "{output:?}");
    let after = server.load("w").await.entries;
    assert_eq!(
        (&after[0].key, &after[0].value, &after[0].headers),
        (&before[0].key, &before[0].value, &before[0].headers)
    );
    assert_eq!(after[0].headers.len(), good.len());
    fs::remove_file(&file).unwrap();
    let many = vec![("h", None); 65];
    let bad: [(&str, Headers<'_>, &str); 4] = [
        ("w/t/unnamed", &[("a", None), ("", Some(b"x"))], "header 1 has no key"),
        ("w/t/many", &many, "65 headers, at most 64 are allowed"),
        ("w/t/long", &[("h", Some(&long))], "16385 bytes, at most 16384 are allowed"),
        ("w/t/large", &[("h", Some(&large))], "20001 bytes, at most 16384 are allowed"),
    ];
    for (key, headers, limit) in bad {
        produce(&kafka.brokers, 0, key, headers).await;
        let output = export().await;
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{key}: {line}");
        assert!(line.contains(key) && line.contains(limit) && line.contains("1 entries"), "{line}");
        assert_eq!(fs::read_dir(keep.path()).unwrap().count(), 0, "{key}: no file passes for a good one");
        server.delete(key).await;
    }
    assert!(export().await.status.success());
}

/// The last line of an import, and its exit status.
async fn import(server: &TestServer, input: &[u8]) -> (serde_json::Value, Output) {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), input).unwrap();
    let addr = format!("--addr={}", server.api);
    let output = run([OsStr::new("import"), addr.as_ref(), file.path().as_os_str()], &[]).await;
    let last =
        text(&output.stdout).lines().last().map_or(serde_json::Value::Null, |l| serde_json::from_str(l).unwrap());
    (last["import"].clone(), output)
}

/// Covers C65.
#[tokio::test]
async fn each_line_of_an_import_is_counted_once() {
    let server = embedded_process().await;
    let input = "\u{feff}{\"key\":\"w/t/a\",\"value\":null}\r\n\n{\"key\":\"w/t/b\",\"deleted\":true}\nnonsense\n\
                 { \"snapshot\": {} }\n{\"key\":\"w/t/c\",\"value\":1,\"later\":2}\n\
                 \u{feff}{\"key\":\"w/t/d\",\"value\":1}";
    let (summary, output) = import(&server, input.as_bytes()).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let of = |name: &str| summary[name].as_u64().unwrap();
    let counts = [of("lines"), of("set"), of("deleted"), of("failed"), of("skipped"), of("not_sent")];
    assert_eq!(counts, [7, 2, 1, 2, 2, 0], "{summary}");
    let failed = text(&output.stdout);
    assert!(failed.contains("\"line\":4") && failed.contains("\"line\":6") && failed.contains("`later`"), "{failed}");
    let entries = server.load("w").await.texts();
    assert_eq!(entries, [("w/t/a".to_owned(), "null".to_owned()), ("w/t/d".to_owned(), "1".to_owned())]);
}

/// Covers C65, C69.
#[tokio::test]
async fn an_import_of_utf16_is_one_error() {
    let server = embedded_process().await;
    let text_of_many_lines = "{\"key\":\"w/t/a\",\"value\":1}\r\n".repeat(100);
    for mark in ["\u{feff}", ""] {
        let input: Vec<_> = (mark.to_owned() + &text_of_many_lines).encode_utf16().flat_map(u16::to_le_bytes).collect();
        let (_, output) = import(&server, &input).await;
        let line = text(&output.stderr);
        assert!(output.status.code() == Some(64) && line.contains("UTF-16"), "{output:?}");
        assert!(line.lines().count() == 1 && output.stdout.is_empty(), "{output:?}");
    }
}

/// Covers B10, C56, C65.
#[tokio::test]
async fn a_value_over_the_message_limit_says_that_nothing_was_written() {
    let server = embedded_process().await;
    let large = format!("\"{}\"", "x".repeat(8_000_000));
    let middle = format!("\"{}\"", "x".repeat(5_000_000));
    let line = |key: &str, value: &str| format!("{{\"key\":\"{key}\",\"value\":{value}}}\n");
    let input = [line("w/t/a", "1"), line("w/t/b", &large), line("w/t/c", &middle), line("w/t/d", "1")].concat();
    let (summary, output) = import(&server, input.as_bytes()).await;
    assert_eq!((summary["set"].as_u64(), summary["failed"].as_u64()), (Some(2), Some(2)), "{summary}");
    let failed = text(&output.stdout);
    let over = failed.lines().find(|line| line.contains("w/t/b")).unwrap();
    assert!(over.contains("nothing was written") && over.contains("8000"), "{over}");
    assert!(failed.contains("VALUE_TOO_LARGE") && !failed.contains("not known"), "{failed}");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), large).unwrap();
    let value = format!("@{}", file.path().display());
    let output = run(["set", "w/t/e", &value, "--addr", &server.api], &[]).await;
    let line = text(&output.stderr);
    assert!(output.status.code() == Some(1) && line.contains("nothing was written"), "{line}");
    assert_eq!(server.load("w").await.entries.len(), 2);
}

/// Covers C81.
#[tokio::test]
async fn no_text_of_a_server_or_value_is_printed_raw() {
    let server = embedded_process().await;
    let hidden = "\u{202e}\u{200b}\u{feff}\u{ad}\u{2800}\u{2066}\u{e0041}";
    let (key, value) = (format!("w/t/{hidden}"), format!("{{\"a\":\"{hidden}\u{9b}\u{7f}\"}}"));
    server.set(&key, &value).await;
    let is_raw = |printed: &str| printed.contains(|c: char| (c.is_control() && c != '\n') || hidden.contains(c));
    for format in ["--output=text", "--output=json"] {
        let commands: [&[&str]; 7] = [
            &["get", &key],
            &["get", &format!("{key}x")],
            &["load", "w"],
            &["stream"],
            &["set", &format!("{key}\u{9b}"), "1"],
            &["set", &key, "{"],
            &["delete", &key],
        ];
        for arguments in commands {
            let output = run([arguments, &[format, "--addr", &server.api]].concat(), &[]).await;
            let printed = text(&output.stdout) + &text(&output.stderr);
            assert!(!printed.is_empty() && !is_raw(&printed), "{arguments:?}: {printed:?}");
            for line in printed.lines().filter(|_| format == "--output=json") {
                let object: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(object["key"].is_null() || object["key"] == *key, "{line}");
                assert!(object["value"].is_null() || object["value"].to_string().contains(hidden), "{line}");
            }
        }
        server.set(&key, &value).await;
    }
    let output = run(["get", &key, "--raw", "--addr", &server.api], &[]).await;
    assert_eq!(text(&output.stdout), value, "the bytes of the value, in a pipe");
    let output = run(["get", "--nope\u{202e}"], &[]).await;
    assert!(!is_raw(&text(&output.stderr)), "{output:?}");
}

/// Covers S6.
#[tokio::test]
async fn localhost_is_served_on_both_loopbacks() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return changelogd_testkit::skipped("this machine has no IPv6 loopback");
    }
    let (keep, path) = directory();
    let data = format!("--data-dir={}", path.display());
    let server = TestServer::process(vec![data, "--listen=localhost:0".to_owned()]).await.keeping(Box::new(keep));
    let port = server.api.strip_prefix("localhost:").unwrap_or_else(|| panic!("{}", server.api));
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}"), format!("localhost:{port}")] {
        let output = run(["health", "--addr", &address], &[]).await;
        assert!(output.status.success(), "{address}: {output:?}");
    }
    let taken = run(["serve", "--store=memory", "--admin-listen=off", &format!("--listen=[::1]:{port}")], &[]).await;
    assert_eq!(taken.status.code(), Some(1), "{taken:?}");
}
