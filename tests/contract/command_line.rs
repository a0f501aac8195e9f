//! The commands of the client against every store.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, process::Output};

use bytes::Bytes;
use changelogd::proto::v1;
use tokio::process::Command;

use super::server::{TestServer, binary};

/// Runs a command of the client.
pub async fn client(server: &TestServer, arguments: &[&str], file: &Path) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).arg(format!("--addr={}", server.api)).arg(file).env_clear().kill_on_drop(true);
    tokio::time::timeout(super::server::PATIENCE, command.output()).await.expect("it ends").expect("it runs")
}

/// The summary of an import that succeeds.
async fn import(server: &TestServer, file: &Path) -> serde_json::Value {
    let output = client(server, &["import"], file).await;
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    serde_json::from_str::<serde_json::Value>(text.lines().last().expect("a line")).expect("JSON")["import"].clone()
}

/// Each key with its value and headers.
type State = BTreeMap<String, (Vec<u8>, Vec<v1::Header>)>;

async fn state(server: &TestServer) -> State {
    let latest = v1::StreamAllRequest { content: v1::Content::Latest.into(), ..Default::default() };
    let entries = server.stream(latest).await.expect("a stream").entries;
    let value = |entry: &v1::Entry| match &entry.value {
        Some(v1::entry::Value::Raw(raw)) => raw.to_vec(),
        other => panic!("{other:?}"),
    };
    entries.iter().map(|entry| (entry.key.clone(), (value(entry), entry.headers.clone()))).collect()
}

/// Covers C11, C16, C65.
pub async fn what_is_exported_deleted_and_imported_is_as_before(server: TestServer) {
    let values = [
        "null",
        "true",
        "\"\"",
        "{}",
        "[]",
        "{\"a\":null}",
        "-0.0",
        "1e400",
        "12345678901234567890123456789012345678901234567890",
        "0.1000000000000000000000000000000001",
        "{ \"b\" : 1.50,  \"a\":[ ], \"b\":2 }",
        " null ",
        "{\n\t\"a\": 1\r\n}",
        "\"\\ud800\"",
        "\"\u{202e}\u{feff}\u{200d}\u{9b}\u{2028}\"",
    ];
    let keys = [
        "ws/t/%",
        "ws/t/a/b",
        "ws/ /\u{3000}",
        "caf\u{e9}/t/1",
        "cafe\u{301}/t/1",
        "\u{202e}w/\u{200b}/🦀",
        "ws/\"/\\",
    ];
    let header =
        |key: &str, value: Option<&[u8]>| v1::Header { key: key.to_owned(), value: value.map(Bytes::copy_from_slice) };
    let headers = [
        vec![],
        vec![header("h", None), header("h", Some(b"")), header("h", Some(b"x")), header("h", Some(b"\xff\0"))],
        vec![header("\u{1b}\u{202e}\"", Some("\u{200b}é\n".as_bytes()))],
        vec![header("k", Some(&[b'x'; 255])); 64],
    ];
    let mut expected = State::new();
    for (i, value) in values.iter().enumerate() {
        let key = keys.get(i).map_or_else(|| format!("ws/t/{i}"), |key| (*key).to_owned());
        expected.insert(key, (value.as_bytes().to_vec(), headers[i % headers.len()].clone()));
    }
    for (key, (value, headers)) in &expected {
        let request = v1::SetRequest {
            changelog_id: key.clone(),
            value: Some(v1::set_request::Value::Raw(Bytes::copy_from_slice(value))),
            headers: headers.clone(),
            ..Default::default()
        };
        server.client.clone().set(request).await.unwrap_or_else(|status| panic!("{key:?}: {status:?}"));
    }
    assert_eq!(state(&server).await, expected);

    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("all.jsonl");
    let output = client(&server, &["export"], &file).await;
    assert!(output.status.success(), "{output:?}");
    for key in expected.keys() {
        server.delete(key).await;
    }
    assert_eq!(state(&server).await, State::new());
    let summary = import(&server, &file).await;
    assert_eq!(
        (summary["lines"].as_u64(), summary["set"].as_u64()),
        (Some(expected.len() as u64), Some(expected.len() as u64))
    );
    assert_eq!(state(&server).await, expected);
    // What `load` prints is equal as JSON. Its Snapshot is skipped.
    let output = Command::new(binary()).args(["load", "ws", "--addr", &server.api]).env_clear().output().await.unwrap();
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(
        text.lines().all(|line| !line.contains(|c: char| c.is_control() || "\u{202e}\u{200b}\u{feff}".contains(c)))
    );
    fs::write(&file, text).unwrap();
    let summary = import(&server, &file).await;
    assert_eq!((summary["skipped"].as_u64(), summary["failed"].as_u64()), (Some(1), Some(0)), "{summary}");
    let equal = |state: State| {
        let json = |bytes: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        state.into_iter().map(|(key, (value, headers))| (key, (json(value), headers))).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(equal(state(&server).await), equal(expected));
}

/// Covers C38, C65.
pub async fn an_import_applies_the_lines_of_each_key_in_the_order_of_the_file(server: TestServer) {
    let (mut lines, mut expected) = (String::new(), BTreeMap::new());
    for n in 0..3_000 {
        // A few keys have many lines, in workspaces of several partitions.
        let key = format!("w{}/t/{}", n % 7, n * n % 60);
        if n % 11 == 0 {
            writeln!(lines, "{{\"key\":\"{key}\",\"deleted\":true}}").unwrap();
            expected.remove(&key);
        } else {
            writeln!(lines, "{{\"key\":\"{key}\",\"value\":{{\"n\":{n}}}}}").unwrap();
            expected.insert(key, (format!("{{\"n\":{n}}}").into_bytes(), vec![]));
        }
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("lines.jsonl");
    fs::write(&file, lines).unwrap();
    let summary = import(&server, &file).await;
    assert_eq!((summary["lines"].as_u64(), summary["failed"].as_u64()), (Some(3_000), Some(0)), "{summary}");
    assert_eq!(state(&server).await, expected);
}
