//! The log: a reader that is slow or gone holds up no call, and its form is the same for every line.

use std::{
    io::Read,
    process::Stdio,
    time::{Duration, Instant},
};

use changelogd::proto::v1;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStderr, Command},
};
use tonic::Code;

use crate::{
    contract::server::{Client, PATIENCE, binary, connect, raw, reason},
    http2::{ACK, PING, PREFACE, SETTINGS, frame, wait_until_read},
    process::{run, text},
};

/// A server whose stderr the test reads, or does not.
async fn started(more: &[&str]) -> (Child, (Client, String), Lines<BufReader<ChildStderr>>) {
    let mut child = Command::new(binary())
        .args(["serve", "--store=memory", "--listen=127.0.0.1:0", "--admin-listen=off", "--log-format=json"])
        .args(more)
        .env_clear()
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").unwrap().expect("a line");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        if line["message"] == "serving" {
            let api = line["api"].as_str().unwrap().to_owned();
            return (child, (connect(&api).await, api), lines);
        }
    }
}

/// All lines until the process ends.
async fn read(mut lines: Lines<BufReader<ChildStderr>>) -> Vec<serde_json::Value> {
    let mut all = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        all.push(serde_json::from_str(&line).expect("an object a line"));
    }
    all
}

async fn refused(client: &mut Client) {
    let request = v1::SetRequest { changelog_id: "ws/t/a".to_owned(), value: raw("no JSON"), ..Default::default() };
    let status = tokio::time::timeout(PATIENCE, client.set(request)).await.expect("an answer").unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::InvalidArgument, "VALUE_NOT_JSON"), "{status:?}");
}

async fn drains(child: &mut Child) {
    let pid = child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").unwrap();
    assert_eq!(status.code(), Some(0));
}

/// Covers R41.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipe_that_nobody_reads_holds_up_nothing() {
    let (mut child, (mut client, _), lines) = started(&["--log=debug"]).await;
    for _ in 0..20_000 {
        refused(&mut client).await;
    }
    drains(&mut child).await;
    drop(lines);
}

/// Covers R41.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_gone_changes_nothing_for_callers() {
    let (mut child, (mut client, _), lines) = started(&["--log=debug"]).await;
    drop(lines);
    for n in 0..500 {
        refused(&mut client).await;
        let request = v1::SetRequest {
            changelog_id: format!("ws/t/{n}"),
            value: raw("1"),
            ack: v1::Ack::Buffered.into(),
            ..Default::default()
        };
        client.set(request).await.unwrap();
    }
    drains(&mut child).await;
}

/// Covers R42, C58.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_failed_calls_are_a_few_lines_with_their_number() {
    const CALLS: u64 = 20_000;
    let (mut child, (mut client, _), lines) = started(&[]).await;
    let reading = tokio::spawn(read(lines));
    let started = Instant::now();
    for _ in 0..CALLS {
        refused(&mut client).await;
    }
    let seconds = started.elapsed().as_secs() + 2;
    drains(&mut child).await;
    let lines = reading.await.unwrap();
    let one_by_one = lines.iter().filter(|l| l["message"] == "call").count() as u64;
    let summaries: Vec<_> = lines.iter().filter(|l| l["message"] == "more calls failed in the same way").collect();
    let counted: u64 = summaries.iter().map(|l| l["calls"].as_u64().unwrap()).sum();
    assert_eq!(one_by_one + counted, CALLS, "each call is a line or is counted");
    assert!(one_by_one <= 5 * seconds, "{one_by_one} lines in {seconds} s");
    for summary in summaries {
        assert_eq!((&summary["rpc"], &summary["code"]), (&"Set".into(), &"INVALID_ARGUMENT".into()));
        assert_eq!(summary["reason"], "VALUE_NOT_JSON");
    }
}

/// Covers C69, C58.
#[tokio::test]
async fn a_start_that_fails_says_so_in_the_format_of_the_log() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    /// Arguments, exit status, and what the message contains.
    type Case<'a> = (&'a [&'a str], i32, &'a str);
    let cases: [Case<'_>; 7] = [
        (&["--store=memory", "--listen", &taken], 1, &taken),
        (&["--listen=127.0.0.1:0", "--data-dir=/sys/changelogd"], 1, "/sys/changelogd"),
        (&["--nope"], 64, "--nope"),
        (&["--store=memory", "--partitions=0"], 64, "\"0\""),
        (&["--listen=0.0.0.0:0"], 64, "--insecure-listen"),
        (&["--brokers=b:1", "--kafka-property=acks=1"], 64, "acks"),
        (&["--store=memory", "--log=a=b=c"], 64, "--log"),
    ];
    for (arguments, exit_status, part) in cases {
        let fixed = ["serve", "--admin-listen=off"];
        let json = [&fixed[..], arguments, &["--log-format=json"]].concat();
        let (by_flag, _) = run(&json, &[]).await;
        let plain = [&fixed[..], arguments].concat();
        let (by_variable, _) = run(&plain, &[("CHANGELOGD_LOG_FORMAT", "json")]).await;
        for output in [by_flag, by_variable] {
            assert_eq!(output.status.code(), Some(exit_status), "{arguments:?}");
            let lines = text(&output.stderr);
            let parsed: Vec<serde_json::Value> =
                lines.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
            let last = parsed.last().unwrap();
            assert_eq!(last["level"], "ERROR");
            assert!(last["message"].as_str().unwrap().contains(part), "{arguments:?}: {last}");
        }
        let (as_text, _) = run(&[&plain[..], &["--log-format=text"]].concat(), &[]).await;
        let line = text(&as_text.stderr);
        let last = line.lines().last().unwrap();
        assert!(last.starts_with("changelogd: ") && last.contains(part), "{arguments:?}: {line}");
    }
}

/// Covers R41.
#[test]
fn an_exit_message_does_not_wait_for_a_reader() {
    // A pipe that is full: its reader never reads.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut filler = writer.try_clone().unwrap();
    let filled = std::thread::spawn(move || {
        // A write that blocks ends when the reader is dropped.
        let _ = std::io::Write::write_all(&mut filler, &[b'x'; 1 << 20]);
    });
    let started = Instant::now();
    let mut child = std::process::Command::new(binary())
        .args(["serve", "--store=memory", "--listen=0.0.0.0:0"])
        .env_clear()
        .stderr(writer)
        .spawn()
        .unwrap();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < PATIENCE, "it ends");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.code(), Some(64));
    assert!(reader.read(&mut [0; 1]).is_ok());
    drop(reader);
    filled.join().unwrap();
}

/// Frames for which a library writes a line each.
/// Covers R42.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_a_library_logs_one_by_one_do_not_flood_the_log() {
    const FRAMES: usize = 20_000;
    let (mut child, mut client, lines) = started(&[]).await;
    let reading = tokio::spawn(read(lines));
    let begun = Instant::now();
    let mut connection = TcpStream::connect(&client.1).await.unwrap();
    let unasked = frame(PING, ACK, 0, &[1; 8]);
    connection.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), &unasked.repeat(FRAMES)].concat()).await.unwrap();
    refused(&mut client.0).await;
    // The flood has been read when the server has answered what came after it.
    wait_until_read(&mut connection).await;
    let seconds = begun.elapsed().as_secs() + 2;
    drains(&mut child).await;
    let lines = reading.await.unwrap();
    let one_by_one = lines.iter().filter(|l| l["target"].as_str().is_some_and(|t| t.starts_with("h2"))).count();
    assert!((1..=50 * seconds as usize).contains(&one_by_one), "{one_by_one} lines in {seconds} s");
    let counted: u64 =
        lines.iter().filter(|l| l["source"] == "h2::proto::ping_pong").map(|l| l["lines"].as_u64().unwrap()).sum();
    assert_eq!(one_by_one + counted as usize, FRAMES, "each is a line or is counted");
}

/// Covers C69.
#[tokio::test]
async fn with_too_few_open_files_the_start_fails_and_says_so() {
    for open_files in [8, 20, 63] {
        let script =
            format!("ulimit -n {open_files}; exec \"$0\" serve --store=memory --log-format=json --listen=127.0.0.1:0");
        let output = Command::new("sh").arg("-c").arg(script).arg(binary()).env_clear().output().await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{open_files}: {}", text(&output.stderr));
        let line: serde_json::Value = serde_json::from_str(text(&output.stderr).trim()).expect("one object");
        let message = line["message"].as_str().unwrap();
        assert!(message.contains(&open_files.to_string()) && message.contains("ulimit"), "{message}");
    }
}

/// More kinds of failed calls than the limit of a place in the code has room for.
/// Covers R42.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failed_calls_of_many_kinds_are_each_a_line_or_counted_by_kind() {
    const ROUNDS: u64 = 500;
    let (mut child, (mut client, _), lines) = started(&[]).await;
    let reading = tokio::spawn(read(lines));
    let name = |n: u64| ["no key", "ws/t/none", "", "a/b"][n as usize].to_owned();
    for _ in 0..ROUNDS {
        let set = |key: u64, value: &str, ack| v1::SetRequest {
            changelog_id: name(key),
            value: raw(value),
            ack,
            ..Default::default()
        };
        let get =
            |key: u64, value_format| v1::GetRequest { changelog_id: name(key), value_format, ..Default::default() };
        let load = |workspace, format| v1::LoadWorkspaceRequest {
            workspace_id: name(workspace),
            value_format: format,
            ..Default::default()
        };
        let delete = |key: u64, ack| v1::DeleteRequest { changelog_id: name(key), ack, ..Default::default() };
        client.set(set(0, "1", 0)).await.unwrap_err();
        client.set(set(1, "no JSON", 0)).await.unwrap_err();
        client.set(set(1, "1", 9)).await.unwrap_err();
        client.set(set(1, &"1".repeat(1_000_001), 0)).await.unwrap_err();
        client.delete(delete(0, 0)).await.unwrap_err();
        client.delete(delete(1, 9)).await.unwrap_err();
        client.get(get(0, 0)).await.unwrap_err();
        client.get(get(1, 0)).await.unwrap_err();
        client.get(get(1, 9)).await.unwrap_err();
        client.load_workspace(load(3, 0)).await.unwrap_err();
        client.load_workspace(load(1, 9)).await.unwrap_err();
        client.describe(v1::DescribeRequest { workspace_id: name(3) }).await.unwrap_err();
        client.watch(v1::WatchRequest::default()).await.unwrap_err();
        let stream = v1::StreamAllRequest { workspace_ids: vec![name(3)], ..Default::default() };
        client.stream_all(stream).await.unwrap_err();
        client.stream_all(v1::StreamAllRequest { content: 9, ..Default::default() }).await.unwrap_err();
    }
    drains(&mut child).await;
    let mut calls = std::collections::BTreeMap::<String, u64>::new();
    for line in reading.await.unwrap() {
        let count = match line["message"].as_str().unwrap() {
            "call" => 1,
            "more calls failed in the same way" => line["calls"].as_u64().unwrap(),
            _ => continue,
        };
        *calls.entry(format!("{} {} {}", line["rpc"], line["code"], line["reason"])).or_default() += count;
    }
    assert!(calls.len() > 10, "{calls:?}");
    assert!(calls.values().all(|count| count % ROUNDS == 0), "each is a line or is counted: {calls:?}");
    assert_eq!(calls.values().sum::<u64>(), 15 * ROUNDS);
}

/// Covers S16.
#[tokio::test]
async fn more_connections_than_are_possible_are_a_warning_that_names_both_numbers() {
    for (asked, warned) in [(1_000, true), (128, false), (1, false)] {
        let arguments =
            format!("serve --store=memory --listen=127.0.0.1:0 --admin-listen=off --max-connections={asked}");
        let script = format!("ulimit -n 256; exec \"$0\" {arguments} --log-format=json");
        let mut child = Command::new("sh")
            .args(["-c", &script])
            .arg(binary())
            .env_clear()
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (mut lines, mut warning) = (BufReader::new(child.stderr.take().unwrap()).lines(), None);
        loop {
            let line =
                tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").unwrap().expect("a line");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "serving" {
                break;
            }
            if line["level"] == "WARN" && line["asked"] == asked {
                warning = Some(line["max_connections"].clone());
            }
        }
        assert_eq!(warning, warned.then_some(128.into()), "{asked}");
    }
}
