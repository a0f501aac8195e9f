//! The contract of `Set`, `Delete`, `Get`, `Flush`, `LoadWorkspace` and `Describe`, of restarts and of draining.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use changelog_core::model::{PartitionCount, murmur2};
use changelogd::proto::v1;
use prost::Message;
use tonic::Code;

use super::server::{TestServer, connect, handled, raw, reason, text};

/// Covers C22, C23, C42, R1, R36.
pub async fn a_load_contains_every_write_acknowledged_before_it(server: TestServer) {
    for i in 0..50 {
        server.set(&format!("ws/t/{i}"), &format!("{{\"n\":{i}}}")).await;
        let loaded = server.load("ws").await;
        assert_eq!(loaded.entries.len(), i + 1);
        assert_eq!(loaded.texts().last().unwrap().1, format!("{{\"n\":{i}}}"));
        assert_eq!(loaded.snapshot.entries, i as u64 + 1);
    }
}

/// Covers C11, C12, C17.
pub async fn values_are_returned_byte_for_byte(server: TestServer) {
    let values =
        ["null", " {\n\t\"b\" : 1.50, \"a\": [ ] }\n", "\"é🦀\\u0000\"", "12345678901234567890", "{\"a\":1,\"a\":2}"];
    for (i, value) in values.iter().enumerate() {
        server.set(&format!("ws/t/{i}"), value).await;
    }
    let texts = server.load("ws").await.texts();
    assert_eq!(texts.iter().map(|(_, v)| v.as_str()).collect::<Vec<_>>(), values);
}

/// Covers C17, C18, C23, R10, B12.
pub async fn a_delete_removes_and_deleting_an_absent_key_is_ok(server: TestServer) {
    server.set("ws/t/a", "1").await;
    server.set("ws/t/b", "2").await;
    let deleted = server.delete("ws/t/a").await;
    let nothing = server.delete("ws/t/never-there").await;
    assert!(nothing.offset > deleted.offset);
    let loaded = server.load("ws").await;
    assert_eq!(loaded.texts(), [("ws/t/b".to_owned(), "2".to_owned())]);
    assert_eq!((loaded.snapshot.entries, loaded.snapshot.tombstones), (1, 2));
    server.set("ws/t/a", "3").await;
    assert_eq!(server.load("ws").await.entries.len(), 2, "what was deleted can be set again");
}

/// Covers C22, R8, B13.
pub async fn an_unknown_workspace_loads_empty_and_whole(server: TestServer) {
    let loaded = server.load("nobody").await;
    assert!(loaded.entries.is_empty());
    assert_eq!((loaded.snapshot.entries, loaded.snapshot.start_offset), (0, 0));
    assert!(!loaded.snapshot.resume_token.is_empty());
}

/// Covers C22, C47, C48.
pub async fn a_load_returns_entries_in_the_order_of_their_last_change(server: TestServer) {
    for key in ["a", "b", "c", "a", "b"] {
        server.set(&format!("ws/t/{key}"), "1").await;
    }
    let loaded = server.load("ws").await;
    assert_eq!(loaded.entries.iter().map(|e| &*e.key).collect::<Vec<_>>(), ["ws/t/c", "ws/t/a", "ws/t/b"]);
    assert!(loaded.entries.is_sorted_by_key(|e| e.offset));
    assert!(loaded.entries.iter().all(|e| e.timestamp.is_some() && e.partition == loaded.snapshot.partition));
    assert!(loaded.snapshot.end_offset > loaded.entries[2].offset);
}

/// Covers C2, C22.
pub async fn a_load_returns_only_its_workspace_and_types(server: TestServer) {
    let count = PartitionCount::new(server.describe("").await.partition_count.into()).unwrap();
    // One workspace in the same partition, and one whose name begins alike.
    let home = count.of_workspace(b"ws");
    let neighbour = (0..).map(|i| format!("n{i}")).find(|n| count.of_workspace(n.as_bytes()) == home).unwrap();
    for key in ["ws/a/1", "ws/b/1", "ws2/a/1", "ws/ab/1", &format!("{neighbour}/a/1")] {
        server.set(key, "1").await;
    }
    let keys = |l: super::server::Loaded| l.entries.into_iter().map(|e| e.key).collect::<Vec<_>>();
    assert_eq!(keys(server.load("ws").await), ["ws/a/1", "ws/b/1", "ws/ab/1"]);
    assert_eq!(keys(server.load_types("ws", &["a"]).await), ["ws/a/1"]);
    assert_eq!(keys(server.load_types("ws", &["b", "ab"]).await), ["ws/b/1", "ws/ab/1"]);
    assert_eq!(keys(server.load_types("ws", &["none"]).await), [""; 0]);
}

/// Covers C44, R19.
pub async fn concurrent_loads_do_not_affect_each_other(server: TestServer) {
    for i in 0..300 {
        server.set(&format!("ws{}/t/{i}", i % 3), "1").await;
    }
    let server = Arc::new(server);
    let loads = (0..12).map(|i| {
        let server = server.clone();
        tokio::spawn(async move { server.load(&format!("ws{}", i % 3)).await.entries.len() })
    });
    for load in loads.collect::<Vec<_>>() {
        assert_eq!(load.await.unwrap(), 100);
    }
}

/// Covers C45, R26.
pub async fn a_write_after_another_s_answer_is_applied_after_it(server: TestServer) {
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(connect(&server.api).await);
    }
    for i in 0..60 {
        // Over any connection and with either acknowledgement, the answer orders the writes.
        let request = v1::SetRequest {
            changelog_id: "ws/t/k".to_owned(),
            value: raw(&i.to_string()),
            ack: (if i % 2 == 0 { v1::Ack::Durable } else { v1::Ack::Buffered }).into(),
            ..Default::default()
        };
        connections[i % 3].set(request).await.unwrap();
    }
    let flushed = server.client.clone().flush(v1::FlushRequest::default()).await.unwrap().into_inner();
    assert_eq!((flushed.remaining, flushed.failures.len()), (0, 0));
    assert_eq!(server.load("ws").await.texts(), [("ws/t/k".to_owned(), "59".to_owned())]);
}

/// Covers C18, C19, C41, R25, R31.
pub async fn a_buffered_write_has_no_position_and_flush_waits_for_it(server: TestServer) {
    for i in 0..500 {
        let request = v1::SetRequest {
            changelog_id: format!("ws/t/{i}"),
            value: raw("1"),
            ack: v1::Ack::Buffered.into(),
            ..Default::default()
        };
        let answer = server.client.clone().set(request).await.unwrap().into_inner();
        assert_eq!((answer.position, answer.timestamp), (None, None));
    }
    let request = v1::FlushRequest { timeout_ms: 60_000, failures_after: 0 };
    let flushed = server.client.clone().flush(request).await.unwrap().into_inner();
    assert_eq!(flushed, v1::FlushResponse::default());
    assert_eq!(server.load("ws").await.entries.len(), 500);
}

/// Covers C8, R27.
pub async fn a_workspace_is_in_the_partition_that_kafka_computes(server: TestServer) {
    let count = server.describe("").await.partition_count;
    for workspace in ["ws", "wu", "é", "🦀", "fd7af248-ce5c-46a5-93d7-1c0c9005b99d"] {
        let expected = ((murmur2(workspace.as_bytes()) & 0x7fff_ffff) % count as u32) as i32;
        for id in ["a", "b/c"] {
            assert_eq!(server.set(&format!("{workspace}/t/{id}"), "1").await.partition, expected);
        }
        assert_eq!(server.describe(workspace).await.workspace_partition, Some(expected));
        assert_eq!(server.load(workspace).await.snapshot.partition, expected);
    }
}

/// Covers C36.
pub async fn get_returns_the_latest_value_or_not_found(server: TestServer) {
    server.set("ws/t/a", "1").await;
    let position = server.set("ws/t/a", "2").await;
    let entry = server.get("ws/t/a").await.unwrap();
    assert_eq!((text(&entry), entry.offset, entry.partition), ("2".to_owned(), position.offset, position.partition));
    server.delete("ws/t/a").await;
    for absent in ["ws/t/a", "ws/t/b", "other/t/a"] {
        let status = server.get(absent).await.unwrap_err();
        assert_eq!((status.code(), &*reason(&status)), (Code::NotFound, "KEY_NOT_FOUND"));
    }
}

/// Covers C14, C15.
pub async fn json_values_are_stored_compact_and_returned_as_asked(server: TestServer) {
    use prost_types::{Struct, Value, value::Kind};
    let number = |n| Value { kind: Some(Kind::NumberValue(n)) };
    let fields = BTreeMap::from([("b".to_owned(), number(1.0)), ("a".to_owned(), number(0.5))]);
    let document = Value { kind: Some(Kind::StructValue(Struct { fields })) };
    let request = v1::SetRequest {
        changelog_id: "ws/t/json".to_owned(),
        value: Some(v1::set_request::Value::Json((&document).into())),
        ..Default::default()
    };
    server.client.clone().set(request).await.unwrap();
    assert_eq!(text(&server.get("ws/t/json").await.unwrap()), r#"{"a":0.5,"b":1}"#);
    let null = v1::set_request::Value::Json((&Value { kind: Some(Kind::NullValue(0)) }).into());
    let request = v1::SetRequest { changelog_id: "ws/t/null".to_owned(), value: Some(null), ..Default::default() };
    server.client.clone().set(request).await.unwrap();
    assert_eq!(text(&server.get("ws/t/null").await.unwrap()), "null", "JSON null is a value, not a delete");

    server.set("ws/t/big", "{\"a\":1,\"n\":12345678901234567890}").await;
    let request = v1::LoadWorkspaceRequest {
        workspace_id: "ws".to_owned(),
        value_format: v1::ValueFormat::Json.into(),
        ..Default::default()
    };
    let entries = server.try_load(request).await.unwrap().entries;
    assert_eq!(entries[0].value, Some(v1::entry::Value::Json((&document).into())));
    assert!(matches!(entries[2].value, Some(v1::entry::Value::Raw(_))), "a value falls back to raw as a whole");
}

/// Covers C16.
pub async fn headers_are_kept_in_both_directions(server: TestServer) {
    let header = |key: &str, value: Option<&'static [u8]>| v1::Header {
        key: key.to_owned(),
        value: value.map(Bytes::from_static),
    };
    let headers =
        vec![header("a", Some(b"1")), header("null", None), header("a", Some(b"\xff")), header("empty", Some(b""))];
    let request = v1::SetRequest {
        changelog_id: "ws/t/a".to_owned(),
        value: raw("1"),
        headers: headers.clone(),
        ..Default::default()
    };
    server.client.clone().set(request).await.unwrap();
    assert_eq!(server.get("ws/t/a").await.unwrap().headers, headers);
    let request =
        v1::DeleteRequest { changelog_id: "ws/t/a".to_owned(), headers: headers.clone(), ..Default::default() };
    server.client.clone().delete(request).await.unwrap();
    let all = server.stream(v1::StreamAllRequest::default()).await.unwrap().entries;
    let tombstone = all.last().unwrap();
    assert!(tombstone.is_tombstone && tombstone.value.is_none());
    assert_eq!(tombstone.headers, headers);
}

/// Covers C11.
pub async fn an_empty_value_is_no_json_document(server: TestServer) {
    let status = server
        .client
        .clone()
        .set(v1::SetRequest { changelog_id: "ws/t/a".to_owned(), value: raw(""), ..Default::default() })
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "VALUE_NOT_JSON", "by default values are JSON");
}

/// Covers C12, R11, B8.
pub async fn an_empty_value_is_a_value(mut server: TestServer) {
    server.arguments.push("--values=opaque".to_owned());
    server.restart().await;
    let server = server.ready().await;
    server.set("ws/t/a", "").await;
    let entries = server.load("ws").await.entries;
    assert_eq!(entries[0].value, Some(v1::entry::Value::Raw(Bytes::new())));
    assert!(!entries[0].is_tombstone);
}

/// Covers C18, C47.
pub async fn offsets_never_go_back(server: TestServer) {
    let mut last = -1;
    for i in 0..20 {
        let offset = if i % 5 == 4 { server.delete("ws/t/k").await } else { server.set("ws/t/k", "1").await }.offset;
        assert!(offset > last);
        last = offset;
    }
}

/// Covers C40, C47.
pub async fn offsets_and_state_survive_a_restart(mut server: TestServer) {
    server.set("ws/t/k", "1").await;
    server.delete("ws/t/k").await;
    server.set("ws/t/stays", "{\"x\":1}").await;
    let before = server.load("ws").await;
    server.restart().await;
    let server = server.ready().await;
    let after = server.load("ws").await;
    assert_eq!(after.entries, before.entries, "offsets and timestamps included");
    assert!(server.set("ws/t/k", "1").await.offset > before.snapshot.end_offset - 1);
}

/// Covers C13, C35.
pub async fn describe_returns_what_is_served(server: TestServer) {
    let position = server.set("ws/t/a", "1").await;
    let described = server.describe("ws").await;
    assert_eq!(described.partitions.len(), described.partition_count as usize);
    let partition = &described.partitions[position.partition as usize];
    assert_eq!(partition.partition, position.partition);
    assert_eq!((partition.high_offset, partition.last_stable_offset), (position.offset + 1, position.offset + 1));
    assert_eq!((&*described.hash, described.workspace_partition), ("murmur2", Some(position.partition)));
    assert!(!described.topic.is_empty());
    assert_eq!(!described.topic_id.is_empty(), server.has_id);
    assert_eq!(described.version, env!("CARGO_PKG_VERSION"));
    let limits = described.limits.unwrap();
    assert_eq!((limits.max_key_bytes, limits.max_headers, limits.max_header_bytes), (1024, 64, 16_384));
    assert!(limits.max_value_bytes > 900_000 && limits.max_request_bytes >= limits.max_value_bytes);
    let errors: Vec<_> = described.findings.iter().filter(|f| f.severity() == v1::Severity::Error).collect();
    assert!(errors.is_empty(), "{errors:?}");
}

/// Covers C7, C23, C50, R13, B25.
pub async fn foreign_records_are_counted_and_never_stop_a_read(server: TestServer) {
    let foreign = server.foreign.as_ref().expect("another client can write to this store");
    let home = server.set("ws/t/a", "1").await.partition;
    let count = server.describe("").await.partition_count;
    let bytes = |b: &'static [u8]| Some(Bytes::from_static(b));
    let blank = Bytes::from_static("\u{200b}/t/a".as_bytes());
    let long = vec![b'x'; 5000].into();
    for key in [None, bytes(b"no-slash"), bytes(b"\xff\xfe"), bytes(b"ws//x"), Some(long), Some(blank)] {
        foreign(home, key, bytes(b"1"));
    }
    foreign((home + 1) % count, bytes(b"ws/t/elsewhere"), bytes(b"1"));
    // A record without a key needs a topic with another policy for a while, and the finding may have been recorded.
    let server = server.ready().await;
    server.set("ws/t/b", "2").await;
    let loaded = server.load("ws").await;
    assert_eq!(loaded.entries.iter().map(|e| &*e.key).collect::<Vec<_>>(), ["ws/t/a", "ws/t/b"]);
    assert_eq!((loaded.snapshot.records_read, loaded.snapshot.skipped, loaded.snapshot.misplaced), (8, 6, 0));
    let all = server.stream(v1::StreamAllRequest::default()).await.unwrap();
    assert_eq!(all.entries.len(), 2);
    assert_eq!(all.snapshots.iter().map(|s| s.misplaced).sum::<u64>(), 1);
    let metrics = server.http("/metrics").await.1;
    assert!(metrics.contains("changelogd_replay_records_total{class=\"misplaced\"} 1"), "{metrics}");
    // Each record that was read is counted in one class.
    let classes = metrics.lines().filter(|line| line.starts_with("changelogd_replay_records_total{class="));
    let counted: u64 = classes.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    let read = loaded.snapshot.records_read + all.snapshots.iter().map(|s| s.records_read).sum::<u64>();
    assert_eq!(counted, read, "{metrics}");
    // The memory store keeps no findings.
    if server.durable {
        let findings = server.describe("").await.findings;
        for code in ["FOREIGN_RECORDS", "MISPLACED_RECORDS"] {
            assert!(findings.iter().any(|f| f.code == code), "{code}: {findings:?}");
        }
    }
}

/// Covers C42, R40.
pub async fn a_key_that_is_overwritten_all_the_time_is_in_every_load(server: TestServer) {
    let server = Arc::new(server);
    for key in 0..20 {
        server.set(&format!("ws/t/{key}"), "0").await;
    }
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (server, done) = (server.clone(), done.clone());
        tokio::spawn(async move {
            let mut n = 0;
            while !done.load(Ordering::Relaxed) {
                n += 1;
                server.set(&format!("ws/t/{}", n % 20), &n.to_string()).await;
                // Reading from librdkafka's mock cluster is slower than writing to it. This test is not about a log
                // that grows without limit.
                if n > 2_000 {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            }
            n
        })
    };
    for _ in 0..50 {
        assert_eq!(server.load("ws").await.entries.len(), 20);
    }
    done.store(true, Ordering::Relaxed);
    assert!(writer.await.unwrap() > 0);
}

/// Covers S10.
pub async fn health_reflection_and_metrics_answer(server: TestServer) {
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
    let channel = tonic::transport::Channel::from_shared(format!("http://{}", server.api)).unwrap();
    let channel = channel.connect().await.unwrap();
    for service in ["", "liveness", "readiness", "serving", "changelog.v1.ChangelogService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    macro_rules! ask {
        ($version:ident, $request:ident($text:expr), $response:ident) => {{
            use tonic_reflection::pb::$version::{
                ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
                server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
            };
            let request = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::$request($text.to_owned())),
            };
            let mut client = ServerReflectionClient::new(channel.clone());
            let answers = client.server_reflection_info(futures_util::stream::iter([request])).await.unwrap();
            match answers.into_inner().message().await.unwrap().unwrap().message_response {
                Some(MessageResponse::$response(response)) => response,
                other => panic!("{} is answered with {other:?}", $text),
            }
        }};
    }
    macro_rules! reflection {
        ($version:ident) => {
            let list = ask!($version, ListServices(""), ListServicesResponse).service;
            assert!(list.iter().any(|s| s.name == "changelog.v1.ChangelogService"), "{list:?}");
            // The types of error details, so that a client without the .proto can decode them.
            for message in ["ErrorInfo", "BadRequest", "RetryInfo", "Status"] {
                let symbol = format!("google.rpc.{message}");
                let files = ask!($version, FileContainingSymbol(symbol), FileDescriptorResponse).file_descriptor_proto;
                let file = prost_types::FileDescriptorProto::decode(&*files[0]).unwrap();
                assert!(file.message_type.iter().any(|m| m.name() == message), "{symbol}: {:?}", file.name());
            }
        };
    }
    reflection!(v1);
    reflection!(v1alpha);
    server.set("ws/t/a", "1").await;
    assert_eq!(server.http("/livez").await.0, 200);
    let metrics = server.http("/metrics").await.1;
    assert!(metrics.contains(&(handled("Set", "OK") + " 1\n")), "{metrics}");
    assert!(metrics.contains("changelogd_ready 1"), "{metrics}");
}

/// Covers C53, R32.
pub async fn a_draining_server_ends_a_following_stream_with_its_reason(mut server: TestServer) {
    use v1::stream_all_response::Event;
    server.set("ws/t/a", "1").await;
    let request = v1::StreamAllRequest { follow: true, ..Default::default() };
    let mut follower = server.client.clone().stream_all(request).await.unwrap().into_inner();
    let mut ends = server.describe("").await.partition_count;
    while ends > 0 {
        if let Some(Event::Snapshot(_)) = follower.message().await.unwrap().unwrap().event {
            ends -= 1;
        }
    }
    server.stop().await;
    let status = loop {
        match follower.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a follower must be told why its stream ends"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), &*reason(&status)), (Code::Unavailable, "DRAINING"), "{status:?}");
}
