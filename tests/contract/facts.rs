//! The facts of refusals, as members of `ErrorInfo.metadata`, and which entity or workspace their messages name.

use std::collections::HashMap;

use changelogd::proto::v1;
use tonic::{Code, Status};

use super::{server::TestServer, statuses::facts};

/// Covers C58, C77.
pub async fn each_refusal_has_its_facts(server: TestServer) {
    let limit = server.describe("").await.limits.unwrap().max_value_bytes as usize;
    let set = |changelog_id: &str, value: &str| v1::SetRequest {
        workspace_id: "ws".to_owned(),
        changelog_id: changelog_id.to_owned(),
        value: Some(v1::set_request::Value::Raw(value.to_owned().into())),
        ..Default::default()
    };
    let header = |bytes: usize| v1::Header { key: "k".to_owned(), value: Some(vec![b'h'; bytes].into()) };
    let (too_large, long) = ("7".repeat(limit + 1), format!("/t/{}", "\u{e9}".repeat(600)));
    let (size, most) = ((limit + 1).to_string(), limit.to_string());
    let with_headers = |headers| v1::SetRequest { headers, ..set("/t/i", "1") };
    type Expected<'a> = &'a [(&'a str, &'a str)];
    let refused: [(v1::SetRequest, &str, Expected); 5] = [
        (set(&long, "1"), "KEY_INVALID", &[("limit", "1024"), ("got", "1205")]),
        (set("/t/\u{7}", "1"), "KEY_INVALID", &[("character", "U+0007")]),
        (set("/t", "1"), "KEY_INVALID", &[("key", "ws/t")]),
        (set("t/i/?#", "1"), "KEY_INVALID", &[("changelogId", "t/i/?#"), ("workspace", "ws"), ("meant", "/t/i/?#")]),
        // Before the key is read: the message is refused as it is decoded.
        (with_headers(vec![header(1); 1_001]), "ARGUMENT_INVALID", &[("limit", "64")]),
    ];
    let expect = |status: &Status, reason: &str, expected: Expected| {
        let facts = facts(status, Code::InvalidArgument, reason, reason);
        let expected = expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        assert_eq!(facts, expected.collect::<HashMap<_, _>>(), "{status:?}");
    };
    for (request, reason, expected) in refused {
        expect(&server.client.clone().set(request).await.unwrap_err(), reason, expected);
    }
    let nan = prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(f64::NAN)) };
    let nan = Some(v1::set_request::Value::Json((&nan).into()));
    let nameless = v1::Header { key: String::new(), value: None };
    let key = ("key", "ws/t/i");
    let of_a_key: [(v1::SetRequest, &str, Expected); 8] = [
        (set("/t/i", &too_large), "VALUE_TOO_LARGE", &[key, ("limit", &most), ("got", &size)]),
        (set("/t/i", "{"), "VALUE_NOT_JSON", &[key]),
        (v1::SetRequest { value: nan, ..set("/t/i", "") }, "VALUE_NOT_JSON", &[key]),
        (v1::SetRequest { value: None, ..set("/t/i", "") }, "ARGUMENT_INVALID", &[key]),
        (with_headers(vec![header(1); 65]), "ARGUMENT_INVALID", &[key, ("limit", "64"), ("got", "65")]),
        (with_headers(vec![header(16_384)]), "ARGUMENT_INVALID", &[key, ("limit", "16384"), ("got", "16385")]),
        (with_headers(vec![nameless]), "ARGUMENT_INVALID", &[key, ("header", "0")]),
        (v1::SetRequest { ack: 9, ..set("/t/i", "1") }, "ARGUMENT_INVALID", &[key, ("got", "9")]),
    ];
    for (request, reason, expected) in of_a_key {
        let v1::SetRequest { workspace_id, changelog_id, value, headers, ack } = request.clone();
        let status = server.client.clone().set(request).await.unwrap_err();
        expect(&status, reason, expected);
        assert!(status.message().starts_with("set \"ws/t/i\": "), "{status:?}");
        let (with_value, with_ack) = (reason.starts_with("VALUE") || value.is_none(), ack != 0);
        if !with_value {
            let delete = v1::DeleteRequest {
                workspace_id: workspace_id.clone(),
                changelog_id: changelog_id.clone(),
                headers: headers.clone(),
                ack,
            };
            let status = server.client.clone().delete(delete).await.unwrap_err();
            expect(&status, reason, expected);
            assert!(status.message().starts_with("delete \"ws/t/i\": "), "{status:?}");
        }
        if !with_ack {
            let change = value.map(|value| match value {
                v1::set_request::Value::Raw(raw) => v1::mutation::Change::Raw(raw),
                v1::set_request::Value::Json(json) => v1::mutation::Change::Json(json),
            });
            let verb = if change.is_some() { "set" } else { "write" };
            let mutation = v1::Mutation { id: 1, workspace_id, changelog_id, change, headers };
            let status = verdict_of(&server, mutation).await;
            expect(&status, reason, expected);
            assert!(status.message().starts_with(&format!("{verb} \"ws/t/i\": ")), "{status:?}");
        }
    }
    let get = v1::GetRequest { changelog_id: "ws/t/i".to_owned(), value_format: 77, ..Default::default() };
    let status = server.client.clone().get(get).await.unwrap_err();
    expect(&status, "ARGUMENT_INVALID", &[key, ("got", "77")]);
    assert!(status.message().starts_with("get \"ws/t/i\": "), "{status:?}");
    let workspace = ("workspace", "ws?");
    let load = v1::LoadWorkspaceRequest { workspace_id: "ws?".to_owned(), ..Default::default() };
    let types = |types| v1::LoadWorkspaceRequest { entity_types: types, ..load.clone() };
    let of_a_workspace: [(v1::LoadWorkspaceRequest, Expected); 3] = [
        (v1::LoadWorkspaceRequest { value_format: 77, ..load.clone() }, &[workspace, ("got", "77")]),
        (types(vec![String::new()]), &[workspace]),
        (types(vec!["t".to_owned(); 10_001]), &[workspace, ("limit", "10000"), ("got", "10001")]),
    ];
    for (request, expected) in of_a_workspace {
        let status = server.try_load(request).await.unwrap_err();
        expect(&status, "ARGUMENT_INVALID", expected);
        assert!(status.message().starts_with("load \"ws?\": "), "{status:?}");
    }
    let watch = v1::WatchRequest { workspace_id: "ws?".to_owned(), resume_token: "x".into(), ..Default::default() };
    let mut watching = server.client.clone().watch(watch).await.unwrap().into_inner();
    let status = watching.message().await.unwrap_err();
    expect(&status, "TOKEN_INVALID", &[workspace]);
    assert!(status.message().starts_with("watch \"ws?\": "), "{status:?}");
    let key = format!("ws/t/{}", "k".repeat(1_000));
    let status = server.get(&key).await.unwrap_err();
    let named = format!("{}…", &key[..80]);
    assert_eq!(facts(&status, Code::NotFound, "KEY_NOT_FOUND", "get")["key"], named);
    assert!(status.message().contains(&named), "as in the message");
    let partitions = server.describe("").await.partition_count;
    let stream = v1::StreamAllRequest { partitions: vec![partitions + 3], ..Default::default() };
    let status = server.stream(stream).await.unwrap_err();
    let facts = facts(&status, Code::InvalidArgument, "ARGUMENT_INVALID", "stream");
    assert_eq!((&*facts["got"], &*facts["partitions"]), (&*(partitions + 3).to_string(), &*partitions.to_string()));
}

/// The error of the verdict on one mutation.
async fn verdict_of(server: &TestServer, mutation: v1::Mutation) -> Status {
    let request = v1::WriteRequest { mutations: vec![mutation] };
    let mut answers = server.client.clone().write(futures_util::stream::iter([request])).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().expect("a verdict");
    match answer.verdicts[0].outcome.clone() {
        Some(v1::verdict::Outcome::Error(error)) => error.into(),
        outcome => panic!("{outcome:?}"),
    }
}
