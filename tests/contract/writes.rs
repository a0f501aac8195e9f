//! `Write`: a verdict for every mutation.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use changelogd::proto::v1;
use futures_util::stream;
use tokio::{sync::mpsc, time::timeout};
use tonic::{Code, Status, transport::Endpoint};
use v1::{mutation::Change, verdict::Outcome};

use super::server::{Client, PATIENCE, TestServer, reason};

fn set(id: u64, key: &str, value: &str) -> v1::Mutation {
    let change = Some(Change::Raw(Bytes::copy_from_slice(value.as_bytes())));
    v1::Mutation { id, changelog_id: key.to_owned(), change, ..Default::default() }
}

fn delete(id: u64, key: &str) -> v1::Mutation {
    let change = Some(Change::Deletion(v1::Deletion {}));
    v1::Mutation { id, changelog_id: key.to_owned(), change, ..Default::default() }
}

/// Sends these messages and closes the request stream. Returns the verdicts in the order of arrival, and the status
/// that ended the stream.
async fn write(server: &TestServer, messages: Vec<Vec<v1::Mutation>>) -> (Vec<v1::Verdict>, Result<(), Status>) {
    let messages: Vec<_> = messages.into_iter().map(|mutations| v1::WriteRequest { mutations }).collect();
    let mut answers = match server.client.clone().write(stream::iter(messages)).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return (Vec::new(), Err(status)),
    };
    let mut verdicts = Vec::new();
    loop {
        match timeout(PATIENCE, answers.message()).await.expect("an answer in time") {
            Ok(Some(answer)) => {
                assert!(!answer.verdicts.is_empty(), "a message without a verdict says nothing");
                verdicts.extend(answer.verdicts);
            }
            Ok(None) => return (verdicts, Ok(())),
            Err(status) => return (verdicts, Err(status)),
        }
    }
}

fn offset(verdict: &v1::Verdict) -> i64 {
    match &verdict.outcome {
        Some(Outcome::Written(written)) => written.position.expect("a position").offset,
        other => panic!("mutation {}: {other:?}", verdict.id),
    }
}

fn error(verdict: &v1::Verdict) -> (Code, String) {
    let Some(Outcome::Error(error)) = &verdict.outcome else { panic!("it is written: {verdict:?}") };
    (Code::from(error.code), error.reason.clone())
}

/// Covers C37, C38, C39, C42.
pub async fn every_mutation_gets_one_verdict_and_acknowledged_ones_are_loaded(server: TestServer) {
    const WORKSPACES: u64 = 20;
    let key = |id: u64| format!("w{}/t/{id}", id % WORKSPACES);
    let mutations: Vec<_> = (0..5_000).map(|id| set(id, &key(id), &id.to_string())).collect();
    let (verdicts, ended) = write(&server, mutations.chunks(700).map(<[_]>::to_vec).collect()).await;
    ended.expect("after half-close: all verdicts, then OK");
    let found: HashMap<u64, i64> = verdicts.iter().map(|v| (v.id, offset(v))).collect();
    assert_eq!((verdicts.len(), found.len()), (5_000, 5_000), "one verdict each");
    for w in 0..WORKSPACES {
        let loaded = server.load(&format!("w{w}")).await;
        let sent: Vec<u64> = (0..5_000).filter(|id| id % WORKSPACES == w).collect();
        let expected: Vec<_> = sent.iter().map(|id| (key(*id), id.to_string())).collect();
        assert_eq!(loaded.texts(), expected, "in the order sent");
        let offsets: Vec<_> = loaded.entries.iter().map(|e| e.offset).collect();
        assert_eq!(offsets, sent.iter().map(|id| found[id]).collect::<Vec<_>>(), "where the verdicts say");
    }
}

/// Covers C37, C38, B12, B18.
pub async fn a_bad_mutation_gets_its_own_verdict_and_the_rest_goes_on(server: TestServer) {
    let nothing = v1::Mutation { id: 4, changelog_id: "w/t/a".to_owned(), ..Default::default() };
    let first = vec![set(1, "w/t/a", "1"), set(2, "no-slash", "1"), set(3, "w/t/a", "{"), nothing];
    let second = vec![set(5, "w/t/a", "2"), set(6, "w/t/b", "1"), delete(7, "w/t/b"), delete(8, "w/t/never")];
    let (verdicts, ended) = write(&server, vec![first, second]).await;
    ended.unwrap();
    let of = |id: u64| {
        let mut all = verdicts.iter().filter(|v| v.id == id);
        let one = all.next().unwrap_or_else(|| panic!("no verdict for {id}"));
        assert!(all.next().is_none(), "two verdicts for {id}");
        one
    };
    assert_eq!(error(of(2)), (Code::InvalidArgument, "KEY_INVALID".to_owned()));
    assert_eq!(error(of(3)), (Code::InvalidArgument, "VALUE_NOT_JSON".to_owned()));
    assert_eq!(error(of(4)), (Code::InvalidArgument, "ARGUMENT_INVALID".to_owned()));
    assert!(offset(of(1)) < offset(of(5)), "the same key twice: both applied, in order");
    assert!(offset(of(6)) < offset(of(7)));
    offset(of(8));
    assert_eq!(server.load("w").await.texts(), [("w/t/a".to_owned(), "2".to_owned())]);
}

/// Covers C37, B18.
pub async fn a_message_with_too_many_mutations_ends_the_stream_and_writes_nothing(server: TestServer) {
    let many = (0..1_001).map(|id| set(id + 10, &format!("w/t/{id}"), "1")).collect();
    let (verdicts, ended) = write(&server, vec![vec![set(1, "w/t/before", "1")], many]).await;
    let status = ended.unwrap_err();
    assert_eq!((status.code(), &*reason(&status)), (Code::InvalidArgument, "ARGUMENT_INVALID"), "{status:?}");
    assert!(status.message().contains("1001"), "{status:?}");
    assert_eq!(verdicts.iter().map(|v| v.id).collect::<Vec<_>>(), [1], "what was read before has its verdict");
    assert_eq!(server.load("w").await.entries.len(), 1);
}

/// Covers C38, R26, B18.
pub async fn the_last_of_many_mutations_of_a_key_is_the_one_loaded(server: TestServer) {
    let mutations = (0..3_000).map(|id| set(id, &format!("w{}/t/a", id % 3), &id.to_string())).collect::<Vec<_>>();
    let (verdicts, ended) = write(&server, mutations.chunks(1_000).map(<[_]>::to_vec).collect()).await;
    ended.unwrap();
    assert_eq!(verdicts.len(), 3_000);
    for w in 0..3 {
        let expected = (2_997 + w).to_string();
        assert_eq!(server.load(&format!("w{w}")).await.texts(), [(format!("w{w}/t/a"), expected)]);
    }
}

/// The server's window limits how much the client can send, and so does the client's own HTTP/2 window for verdicts.
/// Nothing is lost.
/// Covers F24.
pub async fn the_server_stops_reading_from_a_writer_that_reads_no_verdicts(server: TestServer) {
    const MESSAGES: u64 = 200;
    let value = format!("\"{}\"", "x".repeat(2_000));
    let (sender, receiver) = mpsc::channel(1);
    let messages = stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|m| (m, receiver)) });
    let endpoint = Endpoint::from_shared(format!("http://{}", server.api)).unwrap().initial_stream_window_size(65_535);
    let mut client = Client::new(endpoint.connect().await.unwrap());
    let mut sent = 0;
    let message = |n: u64| {
        let mutations = (0..1_000).map(|i| set(n * 1_000 + i, &format!("w{i}/t/{}", n % 7), &value)).collect();
        v1::WriteRequest { mutations }
    };
    sender.send(message(0)).await.unwrap();
    let mut answers = client.write(messages).await.unwrap().into_inner();
    sent += 1;
    // If sending stalls for this long, the server has stopped reading.
    while sent < MESSAGES && timeout(Duration::from_secs(3), sender.send(message(sent))).await.is_ok() {
        sent += 1;
    }
    assert!(sent < MESSAGES / 4, "{sent} messages of 2 MB were taken without a verdict being read");
    // A client that reads no verdicts delays no other client's flush, because all mutations that were read are
    // acknowledged.
    let flush = v1::FlushRequest { timeout_ms: 20_000, failures_after: 0 };
    assert_eq!(server.client.clone().flush(flush).await.unwrap().into_inner().remaining, 0);
    drop(sender);
    let mut verdicts = 0;
    while let Some(answer) = timeout(PATIENCE, answers.message()).await.expect("an answer in time").unwrap() {
        answer.verdicts.iter().for_each(|v| assert!(offset(v) >= 0));
        verdicts += answer.verdicts.len() as u64;
    }
    assert_eq!(verdicts, sent * 1_000, "all verdicts, and then OK");
}

/// Covers C37, R32.
pub async fn a_draining_server_sends_all_verdicts_and_ends_the_stream_with_its_reason(mut server: TestServer) {
    let (sender, receiver) = mpsc::channel(4);
    let messages = stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|m| (m, receiver)) });
    for message in 0..3 {
        let mutations = (0..200).map(|i| set(message * 200 + i, &format!("w/t/{message}-{i}"), "1")).collect();
        sender.send(v1::WriteRequest { mutations }).await.unwrap();
    }
    let mut answers = server.client.clone().write(messages).await.unwrap().into_inner();
    // One verdict shows that the server reads. The other verdicts wait, or are not known yet.
    let first = answers.message().await.unwrap().expect("a verdict");
    let (mut written, mut refused) = (0, 0);
    let mut count = |verdicts: Vec<v1::Verdict>| {
        for verdict in verdicts {
            match &verdict.outcome {
                Some(Outcome::Written(_)) => written += 1,
                _ => {
                    assert_eq!(error(&verdict), (Code::Unavailable, "DRAINING".to_owned()), "{verdict:?}");
                    refused += 1;
                }
            }
        }
    };
    count(first.verdicts);
    let stopping = tokio::spawn(async move {
        server.stop().await;
        server
    });
    let status = loop {
        match timeout(PATIENCE, answers.message()).await.expect("it ends in time") {
            Ok(Some(answer)) => count(answer.verdicts),
            Ok(None) => panic!("a writer must be told why its stream ends"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "DRAINING"), "{status:?}");
    let mut server = stopping.await.unwrap();
    if server.durable {
        // Every accepted mutation has a verdict.
        server.restart_stopped().await;
        let server = server.ready().await;
        assert_eq!(server.load("w").await.entries.len(), written, "{refused} were refused");
    }
}
