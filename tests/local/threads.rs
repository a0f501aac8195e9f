//! A system that gives no thread for a while.

use changelogd::proto::v1;
use prost_types::{ListValue, Value, value::Kind};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{
    contract::server::{TestServer, directory, raw, reason},
    control_group::ControlGroup,
};

/// Large enough for a thread of its own.
fn large(form: v1::ValueFormat) -> v1::set_request::Value {
    match form {
        v1::ValueFormat::Json => {
            let values = vec![Value { kind: Some(Kind::NumberValue(1.0)) }; 5_000];
            v1::set_request::Value::Json((&Value { kind: Some(Kind::ListValue(ListValue { values })) }).into())
        }
        _ => v1::set_request::Value::Raw(format!("[{}1]", "1,".repeat(50_000)).into()),
    }
}

fn mutation(key: &str, form: v1::ValueFormat) -> v1::Mutation {
    let change = Some(match large(form) {
        v1::set_request::Value::Json(json) => v1::mutation::Change::Json(json),
        v1::set_request::Value::Raw(raw) => v1::mutation::Change::Raw(raw),
    });
    v1::Mutation { changelog_id: key.to_owned(), change, ..Default::default() }
}

/// Every kind of call that needs a thread, and what it returned. Writes use these keys.
async fn calls(server: &TestServer, keys: [&str; 4]) -> Vec<(&'static str, Result<(), Status>)> {
    let mut client = server.client.clone();
    let set = |key: &str, form| v1::SetRequest {
        changelog_id: key.to_owned(),
        value: Some(large(form)),
        ..Default::default()
    };
    let written = async |key: &str, form| -> Result<(), Status> {
        let messages = tokio_stream::iter([v1::WriteRequest { mutations: vec![mutation(key, form)] }]);
        let mut verdicts = server.client.clone().write(messages).await?.into_inner();
        let verdict = verdicts.message().await?.expect("a verdict").verdicts.remove(0);
        match verdict.outcome.expect("an outcome") {
            v1::verdict::Outcome::Written(_) => Ok(()),
            v1::verdict::Outcome::Error(error) => Err(error.into()),
        }
    };
    let get = |value_format: v1::ValueFormat| v1::GetRequest {
        changelog_id: "ws/t/old".to_owned(),
        value_format: value_format.into(),
        ..Default::default()
    };
    let load = v1::LoadWorkspaceRequest { workspace_id: "ws".to_owned(), ..Default::default() };
    vec![
        ("Set, json", client.set(set(keys[0], v1::ValueFormat::Json)).await.map(drop)),
        ("Set, raw", client.set(set(keys[1], v1::ValueFormat::Raw)).await.map(drop)),
        ("Write, json", written(keys[2], v1::ValueFormat::Json).await),
        ("Write, raw", written(keys[3], v1::ValueFormat::Raw).await),
        ("Get", client.get(get(v1::ValueFormat::Raw)).await.map(drop)),
        ("Get, json", client.get(get(v1::ValueFormat::Json)).await.map(drop)),
        ("LoadWorkspace", server.try_load(load).await.map(drop)),
        ("StreamAll", server.stream(v1::StreamAllRequest::default()).await.map(drop)),
    ]
}

/// Skipped where no control group of threads can be made.
/// Covers R43.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_threads_each_call_is_refused_and_with_threads_all_succeed_again() {
    let Some(group) = ControlGroup::of_threads() else {
        println!("skipped: no control group of threads can be made here");
        return;
    };
    let (_keep, path) = directory();
    let arguments = vec![format!("--data-dir={}", path.display())];
    let mut server = TestServer::spawn(group.command(), arguments).await.ready().await;
    // Too small for a thread.
    server.set("ws/t/old", &format!("[{}1]", "1,".repeat(5_000))).await;
    for round in 0..3 {
        // Threads that are there stay, and none is added.
        assert!(group.set("1"));
        let mut refused = 0;
        let keys = [0, 1, 2, 3].map(|n| format!("ws/t/{round}-{n}"));
        for (call, outcome) in calls(&server, keys.each_ref().map(|key| &**key)).await {
            // After the first round, a thread is there that waits for more work.
            let Err(status) = outcome else { continue };
            refused += 1;
            assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "OUT_OF_FILES"), "{call}: {status:?}");
            assert!(status.message().contains("thread"), "{call}: {status:?}");
            assert!(status.get_error_details().retry_info().is_some(), "{call}: {status:?}");
        }
        if round == 0 {
            assert_eq!(refused, 8);
        }
        // What needs no thread is served.
        server.set("ws/t/small", "1").await;
        assert_eq!(server.http("/readyz").await.0, 200);
        assert!(group.set("max"));
        if round == 0 {
            let keys = server.load("ws").await.texts().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
            assert_eq!(keys, ["ws/t/old", "ws/t/small"], "nothing of the refused calls was written");
        }
        for (call, outcome) in calls(&server, ["ws/t/a", "ws/t/b", "ws/t/c", "ws/t/d"]).await {
            outcome.unwrap_or_else(|status| panic!("{call}: {status:?}"));
        }
    }
    let set = v1::SetRequest { changelog_id: "ws/t/last".to_owned(), value: raw("1"), ..Default::default() };
    server.client.clone().set(set).await.unwrap();
    server.stop().await;
}
