//! Each script, by the generated client.

mod watches;

use std::time::Duration;

use tokio::time::timeout;
use tonic::{Code, transport::Channel};
use tonic_types::StatusExt;

use super::*;
use crate::api::{
    Event,
    v1::{
        DeleteRequest, Deletion, EntryBatch, Mutation, Verdict, changelog_service_client::ChangelogServiceClient,
        mutation::Change, stream_all_response::Event as StreamEvent, verdict::Outcome,
    },
};

/// What must happen has happened by then.
const PATIENCE: Duration = Duration::from_secs(10);

struct Tested {
    client: ChangelogServiceClient<Channel>,
    server: Server,
}

async fn start() -> Tested {
    let server = Server::start().await.unwrap();
    let client = ChangelogServiceClient::connect(format!("http://{}", server.address)).await.unwrap();
    Tested { client, server }
}

impl Tested {
    async fn set(&mut self, workspace: &str) -> Result<SetResponse, Status> {
        let set = SetRequest {
            workspace_id: workspace.to_owned(),
            changelog_id: "/deployment/a".to_owned(),
            ..Default::default()
        };
        self.client.set(set).await.map(Response::into_inner)
    }

    /// The events of a load, up to its end.
    async fn load(&mut self, workspace: &str) -> (Vec<String>, Result<(), Status>) {
        let request = LoadWorkspaceRequest { workspace_id: workspace.to_owned(), ..Default::default() };
        let mut stream = match self.client.load_workspace(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return (Vec::new(), Err(status)),
        };
        let mut events = Vec::new();
        loop {
            match stream.message().await {
                Ok(Some(message)) => events.push(match message.event.expect("an event") {
                    Event::Batch(batch) => shown(&batch),
                    Event::Snapshot(snapshot) => String::from_utf8(snapshot.resume_token).unwrap(),
                    Event::Later(_) => "later".to_owned(),
                }),
                Ok(None) => return (events, Ok(())),
                Err(status) => return (events, Err(status)),
            }
        }
    }

    /// The events of a stream, up to its end.
    async fn stream(&mut self, workspace: &str) -> (Vec<String>, Result<(), Status>) {
        let request = StreamAllRequest { workspace_ids: vec![workspace.to_owned()], ..Default::default() };
        let mut stream = match self.client.stream_all(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return (Vec::new(), Err(status)),
        };
        let mut events = Vec::new();
        loop {
            match stream.message().await {
                Ok(Some(message)) => events.push(match message.event.expect("an event") {
                    StreamEvent::Batch(batch) => shown(&batch),
                    other => panic!("{other:?}"),
                }),
                Ok(None) => return (events, Ok(())),
                Err(status) => return (events, Err(status)),
            }
        }
    }

    /// The verdicts of a stream with these messages, and its end.
    async fn write(&mut self, messages: Vec<WriteRequest>) -> (Vec<Verdict>, Result<(), Status>) {
        let mut stream = match self.client.write(stream::iter(messages)).await {
            Ok(response) => response.into_inner(),
            Err(status) => return (Vec::new(), Err(status)),
        };
        let mut verdicts = Vec::new();
        loop {
            match stream.message().await {
                Ok(Some(message)) => verdicts.extend(message.verdicts),
                Ok(None) => return (verdicts, Ok(())),
                Err(status) => return (verdicts, Err(status)),
            }
        }
    }

    async fn observed(&mut self, workspace: &str) -> serde_json::Value {
        self.get(workspace, "calls").await
    }

    async fn cancelled(&mut self, workspace: &str) {
        let seen = timeout(PATIENCE, self.get(workspace, "cancelled")).await;
        assert_eq!(seen.expect("the server sees that the call was cancelled")["cancelled"], true);
    }

    async fn get(&mut self, workspace: &str, what: &str) -> serde_json::Value {
        let changelog_id = format!("/observed/{what}");
        let request = GetRequest { workspace_id: workspace.to_owned(), changelog_id, ..Default::default() };
        let entry = self.client.get(request).await.unwrap().into_inner().entry.unwrap();
        assert_eq!(entry.key, format!("{workspace}/observed/{what}"));
        let Some(Value::Raw(raw)) = entry.value else { panic!("{:?}", entry.value) };
        serde_json::from_slice(&raw).unwrap()
    }
}

/// The entries, without their workspace.
fn shown(batch: &EntryBatch) -> String {
    let entry = |entry: &Entry| {
        let key = entry.key.split_once('/').expect("a key").1;
        let value = entry.value.as_ref().map(|value| match value {
            Value::Raw(raw) => String::from_utf8(raw.clone()).unwrap(),
            Value::Json(_) => panic!("{value:?}"),
        });
        assert_eq!(value.is_none(), entry.is_tombstone);
        format!("{key}@{} {}", entry.offset, value.as_deref().unwrap_or("deleted"))
    };
    batch.entries.iter().map(entry).collect::<Vec<_>>().join(", ")
}

fn mutations(workspace: &str, count: u64) -> WriteRequest {
    let mutation = |id| Mutation {
        id,
        workspace_id: workspace.to_owned(),
        changelog_id: "/deployment/a".to_owned(),
        change: Some(Change::Deletion(Deletion {})),
        ..Default::default()
    };
    WriteRequest { mutations: (0..count).map(mutation).collect() }
}

fn code_and_reason(status: &Status) -> (Code, Option<String>) {
    let info = status.get_details_error_info();
    assert!(info.as_ref().is_none_or(|info| info.domain == "changelogd"));
    (status.code(), info.map(|info| info.reason))
}

fn assert_refused(status: &Status, code: Code, reason: &str) {
    assert_eq!(code_and_reason(status), (code, Some(reason.to_owned())));
}

const A: &str = r#"deployment/a@0 {"name":"a","version":0}"#;

#[tokio::test]
async fn a_load_ends_without_its_snapshot() {
    let mut tested = start().await;
    for (workspace, code) in [("partial.1", None), ("broken.1", Some(Code::Internal))] {
        let expected = code.map(|code| (code, None));
        let (events, end) = tested.load(workspace).await;
        assert_eq!((events, end.err().as_ref().map(code_and_reason)), (vec![A.to_owned()], expected.clone()));
        let (events, end) = tested.stream(workspace).await;
        assert_eq!((events, end.err().as_ref().map(code_and_reason)), (vec![A.to_owned()], expected));
    }
}

#[tokio::test]
async fn a_load_has_an_event_of_a_later_version() {
    let (events, end) = start().await.load("unknown-event.1").await;
    assert_eq!(events, ["later", A, "token-1"]);
    end.unwrap();
}

#[tokio::test]
async fn a_call_hangs_until_it_is_cancelled() {
    let mut tested = start().await;
    let short = Duration::from_millis(50);
    timeout(short, tested.load("hang.load")).await.expect_err("no answer");
    tested.cancelled("hang.load").await;
    assert_eq!(tested.observed("hang.load").await["timeoutMs"], -1);

    let mut set = Request::new(SetRequest { changelog_id: "hang.set/deployment/a".to_owned(), ..Default::default() });
    set.set_timeout(short);
    let status = tested.client.set(set).await.unwrap_err();
    // tonic's client ends a call at its deadline with this code.
    assert_eq!(code_and_reason(&status), (Code::Cancelled, None));
    tested.cancelled("hang.set").await;
    let observed = tested.observed("hang.set").await;
    assert_eq!((observed["calls"].as_u64(), observed["timeoutMs"].as_i64()), (Some(1), Some(50)));
}

#[tokio::test]
async fn a_set_is_refused_with_the_facts_of_its_script() {
    let mut tested = start().await;
    let busy = tested.set("busy.1").await.unwrap_err();
    assert_refused(&busy, Code::ResourceExhausted, "PRODUCER_QUEUE_FULL");
    assert_eq!(busy.message(), "the queue is full");
    let delay = busy.get_details_retry_info().unwrap().retry_delay;
    assert_eq!(delay, Some(Duration::from_millis(1_500)));
    assert_eq!(busy.get_details_error_info().unwrap().metadata, [("limit".to_owned(), "1000".to_owned())].into());
    assert!(busy.get_details_bad_request().is_none());

    let refused = tested.set("refused.1").await.unwrap_err();
    assert_refused(&refused, Code::InvalidArgument, "VALUE_TOO_LARGE");
    assert_eq!(refused.message(), "too large");
    assert_eq!(refused.get_details_bad_request().unwrap().field_violations[0].field, "raw");
    let facts = [("limit".to_owned(), "10".to_owned()), ("got".to_owned(), "11".to_owned())];
    assert_eq!(refused.get_details_error_info().unwrap().metadata, facts.into());
    assert!(refused.get_details_retry_info().is_none());

    let unknown = tested.set("unknown.1").await.unwrap_err();
    assert_refused(&unknown, Code::DeadlineExceeded, "OUTCOME_UNKNOWN");
    assert_eq!(tested.observed("unknown.1").await["calls"], 1);
}

#[tokio::test]
async fn a_set_is_answered_with_the_status_of_its_workspace() {
    let mut tested = start().await;
    for code in 1..=16 {
        let status = tested.set(&format!("status-{code}-A_REASON.1")).await.unwrap_err();
        assert_refused(&status, Code::from(code), "A_REASON");
        let status = tested.set(&format!("status-{code}.1")).await.unwrap_err();
        assert_eq!(code_and_reason(&status), (Code::from(code), None));
    }
    for not_a_code in ["status-0.1", "status-17.1", "status-x.1", "status-.1"] {
        let status = tested.set(not_a_code).await.unwrap_err();
        assert_eq!(code_and_reason(&status), (Code::Unimplemented, None), "{not_a_code}");
    }
}

#[tokio::test]
async fn a_status_may_have_all_details() {
    let mut tested = start().await;
    for code in 1..=16 {
        let status = tested.set(&format!("details-{code}.1")).await.unwrap_err();
        assert_refused(&status, Code::from(code), "ALL_DETAILS");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "raw");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(1_500)));
        assert_eq!(details.error_info().unwrap().metadata["got"], "größe 🦀");
    }
    assert_eq!(code_and_reason(&tested.set("details-0.1").await.unwrap_err()), (Code::Unimplemented, None));
}

#[tokio::test]
async fn a_deadline_must_be_sent() {
    let mut tested = start().await;
    for (sent, is_seen) in [(Some(60), true), (Some(31), true), (Some(20), false), (Some(70), false), (None, false)] {
        let mut set = Request::new(SetRequest { workspace_id: "deadline-60000.1".to_owned(), ..Default::default() });
        let mut load =
            Request::new(LoadWorkspaceRequest { workspace_id: "deadline-60000.1".to_owned(), ..Default::default() });
        if let Some(seconds) = sent.map(Duration::from_secs) {
            set.set_timeout(seconds);
            load.set_timeout(seconds);
        }
        let code = |result: Result<(), Status>| result.err().map(|status| status.code());
        let expected = (!is_seen).then_some(Code::FailedPrecondition);
        assert_eq!(code(tested.client.set(set).await.map(drop)), expected, "{sent:?}");
        assert_eq!(code(tested.client.load_workspace(load).await.map(drop)), expected, "{sent:?}");
    }
}

#[tokio::test]
async fn a_connection_is_silent_and_open() {
    let server = Server::start().await.unwrap();
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let without_pings = endpoint.connect().await.unwrap();
    let with_pings = endpoint
        .http2_keep_alive_interval(Duration::from_millis(20))
        .keep_alive_timeout(Duration::from_millis(20))
        .connect()
        .await
        .unwrap();
    let silent = || SetRequest { workspace_id: "silent.1".to_owned(), ..Default::default() };
    let status = ChangelogServiceClient::new(with_pings).set(silent()).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (Code::Unavailable, None));
    // A ping was needed: without one, the connection still seems to work.
    let mut client = ChangelogServiceClient::new(without_pings);
    timeout(Duration::from_millis(200), client.set(silent())).await.expect_err("no answer");
}

#[tokio::test]
async fn a_message_is_larger_than_the_usual_limit() {
    let mut tested = start().await;
    let request = || LoadWorkspaceRequest { workspace_id: "large-message.1".to_owned(), ..Default::default() };
    let status = tested.client.load_workspace(request()).await.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(code_and_reason(&status), (Code::OutOfRange, None));
    let mut client = tested.client.max_decoding_message_size(8 * 1024 * 1024);
    let message = client.load_workspace(request()).await.unwrap().into_inner().message().await.unwrap().unwrap();
    let Some(Event::Batch(batch)) = message.event else { panic!("{message:?}") };
    let Some(Value::Raw(raw)) = &batch.entries[0].value else { panic!("no value") };
    assert_eq!(raw.len(), 5 * 1024 * 1024);
}

#[tokio::test]
async fn a_message_and_facts_may_have_any_text() {
    let utf8 = start().await.set("utf8.1").await.unwrap_err();
    assert_refused(&utf8, Code::InvalidArgument, "KEY_INVALID");
    assert_eq!(utf8.message(), "größe: 100 % von \u{201c}漢字\u{201d} 🦀\n%41 is no A");
    assert_eq!(utf8.get_details_error_info().unwrap().metadata["got"], "größe 🦀");
}

#[tokio::test]
async fn a_compressed_request_is_told_from_another() {
    let mut tested = start().await;
    assert_eq!(tested.set("gzip.1").await.unwrap_err().code(), Code::Unimplemented);
    tested.client = tested.client.send_compressed(CompressionEncoding::Gzip);
    tested.set("gzip.1").await.unwrap();
    // The name of an encoding is not enough.
    let mut named = Request::new(SetRequest { workspace_id: "gzip.1".to_owned(), ..Default::default() });
    named.metadata_mut().insert("grpc-encoding", "gzip".parse().unwrap());
    let mut plain = ChangelogServiceClient::connect(format!("http://{}", tested.server.address)).await.unwrap();
    assert_eq!(plain.set(named).await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(code_and_reason(&tested.set("status-5.1").await.unwrap_err()), (Code::NotFound, None));
}

#[tokio::test]
async fn a_connection_ends_without_an_answer() {
    let mut tested = start().await;
    // Each of these connects again.
    assert_eq!(tested.set("disconnect.1").await.unwrap_err().code(), Code::Unknown);
    assert_eq!(tested.load("disconnect.1").await.1.unwrap_err().code(), Code::Unknown);
    let (verdicts, end) = tested.write(vec![mutations("count.1", 1), mutations("disconnect.1", 1)]).await;
    assert_eq!((verdicts.len(), end.unwrap_err().code()), (1, Code::Unknown));
}

#[tokio::test]
async fn a_starting_server_refuses_twice() {
    let mut tested = start().await;
    for _ in 0..2 {
        let status = tested.set("starting.1").await.unwrap_err();
        assert_refused(&status, Code::Unavailable, "STARTING");
    }
    assert!(tested.set("starting.1").await.unwrap().position.is_some());
    assert_eq!(tested.observed("starting.1").await["calls"], 3);
    // Each workspace has its own count.
    assert_refused(&tested.set("starting.2").await.unwrap_err(), Code::Unavailable, "STARTING");
}

#[tokio::test]
async fn flush_has_two_failures() {
    let mut tested = start().await;
    for (after, expected, last) in
        [(0, &[(1, "flush/deployment/a")][..], 1), (1, &[(2, "flush/deployment/b")], 2), (2, &[], 2)]
    {
        let request = FlushRequest { failures_after: after, ..Default::default() };
        let answer = tested.client.flush(request).await.unwrap().into_inner();
        let failures: Vec<_> = answer.failures.iter().map(|failure| (failure.id, failure.key.as_str())).collect();
        assert_eq!((&*failures, answer.last_failure, answer.remaining), (expected, last, 0));
        for error in answer.failures.into_iter().map(|failure| failure.error.unwrap()) {
            assert_eq!((error.code, error.reason.as_str()), (Code::Unavailable as i32, "BROKERS_UNREACHABLE"));
            assert_eq!(error.retry_after.unwrap().seconds, 1);
        }
    }
}

#[tokio::test]
async fn each_mutation_has_a_verdict() {
    let mut tested = start().await;
    let (verdicts, end) = tested.write(vec![mutations("count.1", 3), mutations("count.1", 2)]).await;
    end.unwrap();
    let offset = |verdict: &Verdict| match &verdict.outcome {
        Some(Outcome::Written(written)) => (verdict.id, written.position.unwrap().offset),
        other => panic!("{other:?}"),
    };
    assert_eq!(verdicts.iter().map(offset).collect::<Vec<_>>(), [(0, 0), (1, 1), (2, 2), (0, 3), (1, 4)]);
    let bytes = prost::Message::encoded_len(&mutations("count.1", 3));
    let expected = serde_json::json!({
        "calls": 1, "timeoutMs": -1, "cancelled": false, "messages": 2, "mostMutations": 3, "mostBytes": bytes,
    });
    assert_eq!(tested.observed("count.1").await, expected);

    let both =
        WriteRequest { mutations: [mutations("busy.1", 1).mutations, mutations("refused.1", 1).mutations].concat() };
    let (verdicts, end) = tested.write(vec![both]).await;
    end.unwrap();
    let error = |verdict: Verdict| match verdict.outcome {
        Some(Outcome::Error(error)) => error,
        other => panic!("{other:?}"),
    };
    let errors: Vec<_> = verdicts.into_iter().map(error).collect();
    assert_eq!((errors[0].code, errors[0].reason.as_str()), (Code::ResourceExhausted as i32, "PRODUCER_QUEUE_FULL"));
    assert_eq!(errors[0].retry_after.unwrap(), prost_types::Duration { seconds: 1, nanos: 500_000_000 });
    assert_eq!((errors[1].code, errors[1].field.as_str()), (Code::InvalidArgument as i32, "raw"));
    assert_eq!(errors[1].metadata.len(), 2);
}

#[tokio::test]
async fn a_write_stream_stalls() {
    let mut tested = start().await;
    let messages = vec![mutations("stall.1", 2), mutations("stall.1", 3)];
    timeout(Duration::from_millis(50), tested.write(messages)).await.expect_err("no verdict");
    tested.cancelled("stall.1").await;
    let observed = tested.observed("stall.1").await;
    assert_eq!((observed["messages"].as_u64(), observed["mostMutations"].as_u64()), (Some(1), Some(2)));
}

#[tokio::test]
async fn a_write_stream_is_cut() {
    let mut tested = start().await;
    for (workspace, first) in [("cut.1", 1), ("cut.3", 3)] {
        let (verdicts, end) = tested.write(vec![mutations(workspace, first), mutations(workspace, 1)]).await;
        assert!(matches!(&verdicts[..], [Verdict { id: 0, outcome: Some(Outcome::Written(_)) }]), "{verdicts:?}");
        assert_eq!(code_and_reason(&end.unwrap_err()), (Code::Unavailable, None));
    }
}

#[tokio::test]
async fn what_has_no_script_is_unimplemented() {
    let mut tested = start().await;
    let expected = (Code::Unimplemented, None);
    for workspace in ["none", "resume.1", "count.1", "partial.1", ""] {
        assert_eq!(code_and_reason(&tested.set(workspace).await.unwrap_err()), expected, "{workspace}");
    }
    assert_eq!(code_and_reason(&tested.load("starting.1").await.1.unwrap_err()), expected);
    assert_eq!(code_and_reason(&tested.watch("partial.1", "", 1).await.1.unwrap_err()), expected);
    assert_eq!(code_and_reason(&tested.stream("unknown-event.1").await.1.unwrap_err()), expected);
    assert_eq!(code_and_reason(&tested.write(vec![mutations("resume.1", 1)]).await.1.unwrap_err()), expected);
    let get = GetRequest { changelog_id: "count.1/deployment/a".to_owned(), ..Default::default() };
    assert_eq!(code_and_reason(&tested.client.get(get).await.unwrap_err()), expected);
    let delete = DeleteRequest { changelog_id: "busy.1/deployment/a".to_owned(), ..Default::default() };
    assert_eq!(code_and_reason(&tested.client.delete(delete).await.unwrap_err()), expected);
}
