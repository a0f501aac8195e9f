//! `import`, `export` and `set` as processes: a server that restarts, inputs that do not end, files and links.

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt, process::Command};

use crate::{
    command_line::run,
    contract::server::{PATIENCE, TestServer, binary, directory},
    process::text,
    servers::embedded_process,
};

/// Waits until this is true.
async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_true() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The sockets that a process has open.
fn sockets(pid: u32) -> usize {
    let Ok(open) = fs::read_dir(format!("/proc/{pid}/fd")) else { return 0 };
    let links = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

/// Covers C56, C65.
#[tokio::test]
async fn lines_that_meet_no_server_are_sent_again_and_none_is_lost() {
    let (_keep, path) = directory();
    fs::create_dir_all(&path).unwrap();
    let socket = path.join("s.sock");
    let serve = async || {
        let mut server = Command::new(binary())
            .args(["serve", "--admin-listen=off"])
            .arg(format!("--listen=unix:{}", socket.display()))
            .arg(format!("--data-dir={}", path.join("data").display()))
            .env_clear()
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let end = Instant::now() + PATIENCE;
        let addr = format!("--addr=unix:{}", socket.display());
        while !run(["health", &addr], &[]).await.status.success() {
            assert!(Instant::now() < end && server.try_wait().unwrap().is_none(), "it serves");
        }
        server
    };
    let mut server = serve().await;
    let addr = format!("--addr=unix:{}", socket.display());
    // Of the lines that fail, the first is too many.
    let mut import = Command::new(binary())
        .args(["import", &addr, "--max-failures=1", "--retry-for=60s"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut input, pid) = (import.stdin.take().unwrap(), import.id().unwrap());
    input.write_all(b"{\"key\":\"w/t/0\",\"value\":0}\n").await.unwrap();
    let end = Instant::now() + PATIENCE;
    while !run(["get", "w/t/0", &addr], &[]).await.status.success() {
        assert!(Instant::now() < end, "the first line is written");
    }
    let connected = sockets(pid);
    server.kill().await.unwrap();
    // A line that is sent to a server that dies has an unknown outcome.
    until("it notices that the connection has ended", || sockets(pid) < connected).await;
    for n in 1..50 {
        input.write_all(format!("{{\"key\":\"w/t/{n}\",\"value\":{n}}}\n").as_bytes()).await.unwrap();
    }
    until("it reads the lines", || rustix::io::ioctl_fionread(&input).unwrap() == 0).await;
    drop(input);
    // Nothing listens there.
    assert!(import.try_wait().unwrap().is_none(), "it goes on for --retry-for");
    let mut server = serve().await;
    let output = tokio::time::timeout(PATIENCE, import.wait_with_output()).await.expect("it ends").unwrap();
    assert!(output.status.success(), "{output:?}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&summary["import"]["set"], &summary["import"]["failed"]), (&50.into(), &0.into()), "{summary}");
    let exported = run(["export", &addr], &[]).await;
    assert_eq!(text(&exported.stdout).lines().count(), 50);
    server.kill().await.unwrap();
}

/// Covers C65, C69.
#[tokio::test]
async fn an_import_ends_when_it_has_failed_although_its_input_does_not_end() {
    let server = embedded_process().await.ready().await;
    for line in ["nonsense\n", "{\"key\":\"bad\",\"value\":1}\n", "{\0\"\0k\0"] {
        let mut import = Command::new(binary())
            .args(["import", "--max-failures=1", "--addr", &server.api])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut input = import.stdin.take().unwrap();
        input.write_all(line.as_bytes()).await.unwrap();
        input.flush().await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), import.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{line:?}: it waits for its input")).unwrap();
        assert_eq!(ended.code(), Some(if line.contains('\0') { 64 } else { 1 }), "{line:?}");
        drop(input);
    }
}

/// Covers C65, C69.
#[tokio::test]
async fn an_export_replaces_no_link_to_what_is_open_or_no_file() {
    let server = embedded_process().await;
    server.set("w/t/a", "7").await;
    let addr = format!("--addr={}", server.api);
    let keep = tempfile::tempdir().unwrap();
    let (link, other, file) = (keep.path().join("link"), keep.path().join("other"), keep.path().join("stdout"));
    let export = async |to: &Path| {
        let mut command = Command::new(binary());
        command.args(["export", &addr]).arg(to).env_clear().stdin(Stdio::null()).kill_on_drop(true);
        // `output` would replace it by a pipe.
        command.stdout(File::create(&file).unwrap()).stderr(Stdio::piped());
        let ended = command.spawn().expect("it runs").wait_with_output();
        tokio::time::timeout(PATIENCE, ended).await.expect("it ends").unwrap()
    };
    // Standard output is a regular file here.
    for target in ["/dev/null", "/proc/self/fd/1", "/dev/stdout", keep.path().to_str().unwrap()] {
        for hops in 1..3 {
            symlink(target, &link).unwrap();
            let given = if hops == 1 { &link } else { &other };
            if hops == 2 {
                symlink("link", &other).unwrap();
            }
            let output = export(given).await;
            let line = text(&output.stderr);
            assert!(output.status.code() == Some(64) && line.contains("FILE: "), "{target}: {output:?}");
            assert!(line.contains(given.to_str().unwrap()), "{target}: {line}");
            assert!(fs::symlink_metadata(given).unwrap().is_symlink(), "{target}");
            fs::remove_file(&link).unwrap();
            let _ = fs::remove_file(&other);
        }
    }
    // - is standard output, and no name.
    assert!(export(Path::new("-")).await.status.success());
    assert_eq!(fs::read_to_string(&file).unwrap(), "{\"key\":\"w/t/a\",\"value\":7}\n");
    assert!(!Path::new("-").exists());
    // A link to nothing, and one to a file, is replaced.
    fs::write(&other, "precious").unwrap();
    for target in ["nothing", "other"] {
        symlink(target, &link).unwrap();
        assert!(export(&link).await.status.success(), "{target}");
        let found = fs::symlink_metadata(&link).unwrap();
        assert!(found.is_file() && found.permissions().mode() & 0o777 == 0o600, "{target}: {found:?}");
        fs::remove_file(&link).unwrap();
    }
    assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
}

/// Covers C65.
#[tokio::test]
async fn a_new_export_is_for_its_owner_and_a_replaced_one_keeps_its_mode() {
    let server = embedded_process().await;
    server.set("w/t/a", "7").await;
    let addr = format!("--addr={}", server.api);
    let keep = tempfile::tempdir().unwrap();
    let file = keep.path().join("all.jsonl");
    let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
    let export = async || {
        let output = run(["export", &addr, file.to_str().unwrap()], &[]).await;
        assert!(output.status.success(), "{output:?}");
    };
    export().await;
    assert_eq!(mode(), 0o600);
    for before in [0o644, 0o666, 0o400, 0o640] {
        fs::set_permissions(&file, Permissions::from_mode(before)).unwrap();
        export().await;
        assert_eq!(mode(), before);
    }
}

/// Covers C65.
#[tokio::test]
async fn an_export_says_which_settings_the_importing_sidecar_needs() {
    let (keep, path) = directory();
    let data = format!("--data-dir={}", path.display());
    let mut server =
        TestServer::process(vec![data, "--values=opaque".to_owned()]).await.keeping(Box::new(keep)).ready().await;
    let set = async |server: &TestServer, key: &str, value: &str| {
        let output = run(["set", key, value, "--addr", &server.api], &[]).await;
        assert!(output.status.success(), "{output:?}");
    };
    let export = async |server: &TestServer| {
        let output = run(["export", "--addr", &server.api, "--output=text"], &[]).await;
        assert!(output.status.success(), "a backup has everything: {output:?}");
        (text(&output.stdout).lines().count(), text(&output.stderr))
    };
    set(&server, "w/t/a", "{\"a\":1}").await;
    set(&server, "w/t/b", " [1]\n").await;
    assert_eq!(export(&server).await, (2, String::new()));
    set(&server, "w/t/c", "no json").await;
    set(&server, "w/t/d", "").await;
    set(&server, "w/t/e", &"7".repeat(2_000)).await;
    let (lines, warning) = export(&server).await;
    assert!(lines == 5 && warning.lines().count() == 1, "{warning}");
    assert!(warning.contains("2 values are no JSON") && warning.contains("--values opaque"), "{warning}");
    assert!(warning.starts_with("changelogd: export: warning: ") && warning.contains("w/t/c"), "{warning}");
    server.arguments[1] = "--max-value-bytes=1000".to_owned();
    server.restart().await;
    server = server.ready().await;
    let (lines, warning) = export(&server).await;
    assert!(lines == 5 && warning.lines().count() == 2, "{warning}");
    assert!(warning.contains("1 values are larger") && warning.contains("--max-value-bytes 2000"), "{warning}");
}

/// Covers C65, C69.
#[tokio::test]
async fn set_reads_no_more_than_a_value_may_have_and_names_a_byte_order_mark() {
    let server = embedded_process().await;
    let addr = format!("--addr={}", server.api);
    // An input without an end. Much more memory than a value takes is not there.
    let limited = async |value: &str, input: Stdio| {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg("ulimit -v 4000000; exec \"$0\" \"$@\"").arg(binary());
        shell.args(["set", "w/t/a", value, &addr]).env_clear().stdin(input).kill_on_drop(true);
        tokio::time::timeout(PATIENCE, shell.output()).await.expect("it ends").expect("it runs")
    };
    let zero = || File::open("/dev/zero").unwrap();
    for (value, input) in [("@/dev/zero", Stdio::null()), ("-", zero().into())] {
        let output = limited(value, input).await;
        let line = text(&output.stderr);
        assert!(output.status.code() == Some(64) && line.contains("more than 64000000 bytes"), "{output:?}");
    }
    let keep = tempfile::tempdir().unwrap();
    let file = keep.path().join("value");
    let utf16: Vec<u8> = "{\"a\":1}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, named) in [
        ("\u{feff}{\"a\":1}".as_bytes(), "byte order mark (U+FEFF)"),
        (&[b"\xff\xfe", &utf16[..]].concat(), "UTF-16"),
        (&utf16, "UTF-16"),
    ] {
        fs::write(&file, bytes).unwrap();
        let output = run(["set", "w/t/a", &format!("@{}", file.display()), &addr], &[]).await;
        let line = text(&output.stderr);
        assert!(output.status.code() == Some(1) && line.contains("VALUE_NOT_JSON"), "{line}");
        assert!(line.contains(named) && line.contains("nothing was written"), "{line}");
    }
}
