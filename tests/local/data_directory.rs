//! The data directory of the embedded store, as an operator sees it: modes, links, copies, and its removal.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use changelogd::proto::v1;
use changelogd_testkit::remove_tree;
use tonic::Code;

use crate::{
    contract::server::{PATIENCE, TestServer, binary, connect, directory, raw, reason},
    process::{run, text},
};

fn data_dir(path: &Path) -> Vec<String> {
    vec![format!("--data-dir={}", path.display())]
}

/// All files and directories below a directory.
fn below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { [vec![path.clone()], below(&path)].concat() } else { vec![path] })
        .collect()
}

/// Covers R47, S6.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_for_the_owner_and_a_socket_is_for_its_group_whatever_the_umask() {
    for umask in ["0000", "0002", "0022", "0027", "0077", "0277"] {
        let (keep, path) = directory();
        let socket = keep.path().join("api.sock");
        let arguments = [data_dir(&path), vec![format!("--listen=unix:{}", socket.display())]].concat();
        let mut server = TestServer::process_with_umask(umask, arguments).await.ready().await;
        let metadata = fs::metadata(&socket).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o660, "umask {umask}: the socket");
        // More than the engine keeps in memory, so that it makes tables.
        let mut wrote = 0;
        let is_table = |path: &PathBuf| path.parent().is_some_and(|dir| dir.ends_with("keyspaces/1/tables"));
        while below(&path).iter().filter(|path| is_table(path)).count() < 2 {
            let value: String = (0..125_000_u32)
                .map(|n| format!("{:08x}", (n + wrote * 125_000).wrapping_mul(2_654_435_761)))
                .collect();
            server.set(&format!("ws/t/{wrote}"), &format!("\"{}\"", &value[..900_000])).await;
            wrote += 1;
            assert!(wrote < 200, "tables are written");
        }
        server.stop().await;
        let all = [below(&path), vec![path.clone()]].concat();
        assert!(all.len() > 20, "{all:?}");
        for file in all {
            let mode = fs::symlink_metadata(&file).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, if file.is_dir() { 0o700 } else { 0o600 }, "umask {umask}: {}", file.display());
        }
    }
}

/// Covers R47.
#[tokio::test]
async fn a_directory_that_others_may_write_is_named_with_its_mode_and_served() {
    for (mode, warned) in [(0o700, false), (0o755, false), (0o2770, true), (0o777, true), (0o1777, true)] {
        let (_keep, path) = directory();
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let log = path.with_file_name("log");
        let mut child = std::process::Command::new(binary())
            .args(["serve", "--listen=127.0.0.1:0", "--admin-listen=off", "--log-format=json"])
            .args(data_dir(&path))
            .env_clear()
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let started = Instant::now();
        let lines = loop {
            let lines = fs::read_to_string(&log).unwrap();
            if lines.contains("\"serving\"") {
                break lines;
            }
            assert!(started.elapsed() < PATIENCE, "{lines}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        child.kill().unwrap();
        child.wait().unwrap();
        let line = lines.lines().find(|line| line.contains("others may write"));
        assert_eq!(line.is_some(), warned, "{mode:o}: {lines}");
        let named = |line: &str| line.contains(path.to_str().unwrap()) && line.contains(&format!("{mode:04o}"));
        assert!(line.is_none_or(named), "{mode:o}: {line:?}");
    }
}

/// Covers R47.
#[tokio::test]
async fn a_link_in_the_directory_ends_the_start_with_its_name() {
    for name in ["lock", "store", "acknowledged", "engine", "store.new", "engine.new"] {
        let (keep, path) = directory();
        let target = keep.path().join("target");
        fs::create_dir(&path).unwrap();
        symlink(&target, path.join(name)).unwrap();
        let arguments =
            [vec!["serve".to_owned(), "--listen=127.0.0.1:0".into(), "--admin-listen=off".into()], data_dir(&path)];
        let arguments = arguments.concat();
        let (output, _) = run(&arguments.iter().map(|a| &**a).collect::<Vec<_>>(), &[]).await;
        let line = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {line}");
        assert!(line.contains(&format!("{} is a symbolic link", path.join(name).display())), "{name}: {line}");
        assert!(!target.exists(), "{name}");
    }
}

/// Removes files of each keyspace that begin with this.
fn remove(path: &Path, below: &str, begin: &str) {
    for keyspace in fs::read_dir(path.join("engine/keyspaces")).unwrap() {
        for file in fs::read_dir(keyspace.unwrap().path().join(below)).unwrap() {
            let file = file.unwrap();
            if file.file_name().to_str().unwrap().starts_with(begin) && file.path().is_file() {
                remove_tree(&file.path());
            }
        }
    }
}

/// Covers R46.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_directory_a_server_answers_store_gone_and_turns_readiness_off() {
    type Removal = fn(&Path);
    let of_files: [(&str, Removal); 3] = [
        ("rm of all tables", |path| remove(path, "tables/", "")),
        ("rm of each current", |path| remove(path, "", "current")),
        ("rm of each list of tables", |path| remove(path, "", "v")),
    ];
    let others: [(&str, Removal); 7] = [
        ("rm -r of all keyspaces", |path| {
            for entry in fs::read_dir(path.join("engine/keyspaces")).unwrap() {
                remove_tree(&entry.unwrap().path());
            }
        }),
        ("mv of a keyspace", |path| fs::rename(path.join("engine/keyspaces/3"), path.join("engine/moved")).unwrap()),
        ("rm -r", remove_tree),
        ("mv", |path| fs::rename(path, path.with_file_name("aside")).unwrap()),
        ("mv of the engine", |path| fs::rename(path.join("engine"), path.join("aside")).unwrap()),
        ("rm of the marker", |path| fs::remove_file(path.join("store")).unwrap()),
        ("another lock", |path| {
            fs::remove_file(path.join("lock")).unwrap();
            fs::write(path.join("lock"), "").unwrap();
        }),
    ];
    let of_files = of_files.map(|removal| (removal, true));
    for ((what, removal), of_files) in of_files.into_iter().chain(others.map(|removal| (removal, false))) {
        let (_keep, path) = directory();
        let server = TestServer::process(data_dir(&path)).await.ready().await;
        server.set("ws/t/a", "1").await;
        let mut following = server.client.clone();
        let request = v1::StreamAllRequest { follow: true, ..Default::default() };
        let mut following = following.stream_all(request).await.unwrap().into_inner();
        removal(&path);
        let started = Instant::now();
        let (code, body) = loop {
            let (code, body) = server.http("/readyz").await;
            if code != 200 || started.elapsed() > PATIENCE {
                break (code, body);
            }
            // The engine may just have replaced these files.
            if of_files {
                removal(&path);
            }
        };
        assert!(code == 503 && body.contains("is gone") && body.contains(path.to_str().unwrap()), "{what}: {body}");
        assert_eq!(server.http("/livez").await.0, 200, "{what}");
        let ended = loop {
            match following.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{what}: an end without a cause"),
                Err(status) => break status,
            }
        };
        let set = v1::SetRequest { changelog_id: "ws/t/b".to_owned(), value: raw("2"), ..Default::default() };
        let delete = v1::DeleteRequest { changelog_id: "ws/t/a".to_owned(), ..Default::default() };
        let load = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
        for status in [
            ended,
            server.client.clone().set(set).await.unwrap_err(),
            server.client.clone().delete(delete).await.unwrap_err(),
            server.try_load(load).await.unwrap_err(),
            server.get("ws/t/a").await.unwrap_err(),
            server.stream(v1::StreamAllRequest::default()).await.unwrap_err(),
        ] {
            assert_eq!(
                (status.code(), &*reason(&status)),
                (Code::FailedPrecondition, "STORE_GONE"),
                "{what}: {status:?}"
            );
        }
        // Neither reads nor writes the store.
        assert_eq!(server.describe("").await.findings[0].code, "STORE_GONE", "{what}");
        let flushed = server.client.clone().flush(v1::FlushRequest::default()).await.expect(what).into_inner();
        assert_eq!((flushed.remaining, flushed.failures.len()), (0, 0), "{what}: {flushed:?}");
    }
}

/// Each start with few threads fails and names the lack, or succeeds. It runs as a user of its own, whose threads are
/// counted, so it is skipped without the rights of root.
/// Covers R43, R44.
#[tokio::test]
async fn a_start_that_gets_too_few_threads_says_so_and_names_no_damage() {
    if fs::metadata("/proc/self").map_or(1, |process| std::os::unix::fs::MetadataExt::uid(&process)) != 0 {
        changelogd_testkit::skipped("only root can become another user");
        return;
    }
    let keep = tempfile::tempdir().unwrap();
    // The other user may not reach the directory of the build.
    let (program, mut refused) = (keep.path().join("changelogd"), 0);
    fs::copy(binary(), &program).unwrap();
    for mode_of in [keep.path(), &program] {
        fs::set_permissions(mode_of, fs::Permissions::from_mode(0o777)).unwrap();
    }
    // With one, there is no thread that could write the message.
    for threads in 2..=12 {
        let (data, log) = (keep.path().join(format!("data-{threads}")), keep.path().join("log"));
        let mut child = std::process::Command::new("setpriv")
            .args(["--reuid=54321", "--regid=54321", "--clear-groups", "bash", "-c"])
            .arg(format!("ulimit -u {threads}; exec \"$0\" \"$@\""))
            .arg(&program)
            .args(["serve", "--listen=127.0.0.1:0", "--admin-listen=off", "--log-format=json"])
            .args(data_dir(&data))
            .env_clear()
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() && !fs::read_to_string(&log).unwrap().contains("\"serving\"") {
            assert!(started.elapsed() < PATIENCE, "{threads}: it ends or serves");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let _ = child.kill();
        child.wait().unwrap();
        let lines = fs::read_to_string(&log).unwrap();
        if lines.contains("\"serving\"") {
            continue;
        }
        refused += 1;
        assert!(lines.contains("threads"), "{threads}: {lines}");
        for wrong in ["corrupt", "damage", "fault of changelogd", "panicked"] {
            assert!(!lines.contains(wrong), "{threads}: {lines}");
        }
    }
    assert!(refused >= 5, "{refused}");
}

/// The commands of the section "Backup" of docs/embedded-store.md.
fn backup_commands() -> Vec<String> {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/embedded-store.md")).unwrap();
    let section = document.split("\n## Backup\n").nth(1).expect("the section").split("\n## ").next().unwrap();
    section.lines().filter_map(|line| line.strip_prefix("$ ")).map(str::to_owned).collect()
}

/// Runs a script with `changelogd` in its path, in this directory.
async fn shell(script: &str, dir: &Path, api: &str, other: &str) {
    let command = dir.join("changelogd");
    if !command.exists() {
        symlink(binary(), &command).unwrap();
    }
    let output = tokio::process::Command::new("bash")
        .args(["-ec", script])
        .current_dir(dir)
        .env("PATH", format!("{}:{}", dir.display(), std::env::var("PATH").unwrap()))
        .env("CHANGELOGD_ADDR", api)
        .env("OTHER", other)
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{script}: {}", text(&output.stderr));
}

/// Covers R48.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_backups_restore_what_was_written() {
    let commands = backup_commands();
    let [export, import, stop, copy] = &commands[..] else { panic!("{commands:?}") };
    let keep = tempfile::tempdir().unwrap();
    let serve = |name: &str| TestServer::process(data_dir(&keep.path().join(name)));
    let server = serve("changelogd-data").await.ready().await;
    for n in 0..200 {
        server.set(&format!("ws{}/t/{n}", n % 3), &n.to_string()).await;
    }
    server.delete("ws0/t/0").await;
    let expected = server.load("ws0").await.texts();
    shell(export, keep.path(), &server.api, "").await;
    let other = serve("other").await.ready().await;
    shell(import, keep.path(), &server.api, &other.api).await;
    let sorted = |mut texts: Vec<(String, String)>| {
        texts.sort();
        texts
    };
    assert_eq!(sorted(other.load("ws0").await.texts()), sorted(expected.clone()));
    drop(server);

    // The shell starts the server whose process it stops.
    let start = "changelogd serve --listen=127.0.0.1:0 --admin-listen=off 2>log & SERVER=$!; \
                 until grep -q serving log; do kill -0 \"$SERVER\"; sleep 0.05; done";
    shell(&format!("{start}\n{stop}\n{copy}"), keep.path(), "", "").await;
    fs::remove_dir_all(keep.path().join("changelogd-data")).unwrap();
    let restored = serve("backup").await.ready().await;
    assert_eq!(restored.load("ws0").await.texts(), expected);
    let mut client = connect(&restored.api).await;
    let set = v1::SetRequest { changelog_id: "ws0/t/0".to_owned(), value: raw("1"), ..Default::default() };
    client.set(set).await.unwrap();
    assert_eq!(fs::metadata(keep.path().join("backup")).unwrap().permissions().mode() & 0o7777, 0o700);
}
