//! Fuzz target: requests, from the bytes of a message through the server's codec to what the changelog gets.
//!
//! Keys have their own target in the core crate, so here `Key` and `WorkspaceId` say which of them are valid.

mod grammar;
mod inputs;

use std::{fmt::Debug, sync::LazyLock};

use bytes::Bytes;
use changelog_core::{
    changelog::{Ack, Content},
    model::{Headers, Key, ValueMode, ValueRules, WorkspaceId},
};
use changelogd_testkit::fuzz::{config, corpus, mutated, mutations};
use futures_util::FutureExt;
use http_body_util::Full;
use proptest::{collection::vec, prelude::*};
use prost::Message;
use prost_types::{ListValue, Struct, Value, value::Kind};
use tokio::time::Instant;
use tonic::{Code, Status, Streaming, codec::Codec as _};
use tonic_types::StatusExt;

use super::{
    conversion::Conversions, json_from_value::json_from_value, request, set_delete, value_from_json::value_from_json,
    write,
};
use crate::{
    memory::MemoryPart,
    proto::{
        Codec, Decoded, EncodedValue, Lists, SharedBytes,
        v1::{self, mutation::Change, set_request},
    },
};
use inputs::{RPCS, read, read_request, write_request, written};

/// A small limit, so that values reach it. 127 levels fit.
const MAX_VALUE_BYTES: usize = 300;
const JSON: ValueRules = ValueRules { mode: ValueMode::Json, max_bytes: MAX_VALUE_BYTES };
const OPAQUE: ValueRules = ValueRules { mode: ValueMode::Opaque, max_bytes: MAX_VALUE_BYTES };

static CONVERSIONS: LazyLock<Conversions> = LazyLock::new(|| Conversions::new(MemoryPart::new("conversions", 0, 0)));

/// Decodes a message as the server does.
fn decode<M: Message + Default + Decoded + Lists + SharedBytes + 'static>(bytes: &[u8]) -> Result<M, Status> {
    let mut frame = vec![0];
    frame.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    frame.extend_from_slice(bytes);
    let decoder = Codec::<(), M>::default().decoder();
    let mut messages = Streaming::new_request(decoder, Full::new(Bytes::from(frame)), None, None);
    messages.message().now_or_never().expect("the body is complete").map(|message| message.expect("one message"))
}

/// The reason of a refusal, which must be the client's fault.
fn reason(status: &Status) -> String {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    status.get_details_error_info().expect("a reason").reason
}

/// Decodes a message and parses it. What is accepted must be what `valid` accepts. Returns `ok` or the reason.
fn checked<M: Message + Default + Debug + Decoded + Lists + SharedBytes + 'static, T>(
    bytes: &[u8],
    valid: impl FnOnce(&M) -> bool,
    parse: impl FnOnce(M) -> Result<T, Status>,
) -> String {
    let message: M = match decode(bytes) {
        Ok(message) => message,
        Err(status) => {
            assert_eq!(reason(&status), "ARGUMENT_INVALID");
            // A list that is too long is refused before it is decoded.
            if let Ok(message) = M::decode(bytes) {
                assert!(!valid(&message), "refused against the documents: {status:?}");
            }
            return "undecodable".to_owned();
        }
    };
    // Unknown fields are dropped, and what is left has one encoding.
    let encoded = message.encode_to_vec();
    let again = decode::<M>(&encoded).map(|message| message.encode_to_vec());
    assert_eq!(again.ok().as_ref(), Some(&encoded));
    let valid = valid(&message);
    match parse(message) {
        Ok(_) => {
            assert!(valid, "accepted against the documents: {:?}", M::decode(bytes));
            "ok".to_owned()
        }
        Err(status) => {
            assert!(!valid, "refused against the documents: {status:?} {:?}", M::decode(bytes));
            let violations = status.get_details_bad_request().expect("a field").field_violations;
            assert!(matches!(&violations[..], [violation] if !violation.field.is_empty()), "{status:?}");
            reason(&status)
        }
    }
}

fn headers_are_valid(headers: &[v1::Header]) -> bool {
    let bytes = headers.iter().map(|h| h.key.len() + h.value.as_ref().map_or(0, Bytes::len)).sum::<usize>();
    headers.len() <= 64 && bytes <= 16_384 && headers.iter().all(|h| !h.key.is_empty() && !h.key.contains('\0'))
}

fn types_are_valid(types: &[String]) -> bool {
    let bad = |c| matches!(c, '/' | '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}');
    types.iter().all(|entity_type| !entity_type.is_empty() && !entity_type.contains(bad))
}

/// The enums of requests have the numbers 0 to 2.
fn known(number: i32) -> bool {
    (0..=2).contains(&number)
}

fn raw_is_valid(raw: &[u8], rules: &ValueRules) -> bool {
    raw.len() <= MAX_VALUE_BYTES && (rules.mode == ValueMode::Opaque || grammar::is_json(raw))
}

/// A value that prost does not decode may be accepted: it is nested deeper than prost follows, or the part at fault is
/// replaced by a later one.
fn json_is_valid(encoded: &EncodedValue) -> bool {
    fn has_json(value: &Value) -> bool {
        match &value.kind {
            None => false,
            Some(Kind::NumberValue(n)) => n.is_finite(),
            Some(Kind::ListValue(list)) => list.values.iter().all(has_json),
            Some(Kind::StructValue(fields)) => fields.fields.values().all(has_json),
            Some(_) => true,
        }
    }
    let document = json_from_value(encoded, MAX_VALUE_BYTES);
    let decoded = encoded.decode_value();
    document.is_ok_and(|document| match &decoded {
        Ok(value) => has_json(value),
        Err(_) => grammar::is_json(&document),
    })
}

/// The same document comes back, unless it is nested deeper than answers are.
fn comes_back(value: &Value, stored: &[u8]) {
    // A null is one number, whatever the request had.
    fn normal(value: &Value) -> Value {
        let kind = match value.kind.clone().expect("a kind") {
            Kind::NullValue(_) => Kind::NullValue(0),
            Kind::ListValue(list) => Kind::ListValue(ListValue { values: list.values.iter().map(normal).collect() }),
            Kind::StructValue(fields) => {
                let fields = fields.fields.iter().map(|(name, value)| (name.clone(), normal(value))).collect();
                Kind::StructValue(Struct { fields })
            }
            other => other,
        };
        Value { kind: Some(kind) }
    }
    match value_from_json(stored, usize::MAX) {
        Some(found) => assert_eq!(found.bytes(), normal(value).encode_to_vec()),
        None => assert!(stored.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() > 32, "{value:?}"),
    }
}

fn stored(value: Option<set_request::Value>, rules: &ValueRules) -> Result<Bytes, Status> {
    let json = match &value {
        Some(set_request::Value::Json(json)) => Some(json.clone()),
        _ => None,
    };
    let value = set_delete::value(value, rules, &CONVERSIONS, Instant::now());
    let bytes = value.now_or_never().expect("a small value is converted at once")?;
    assert!(bytes.len() <= MAX_VALUE_BYTES);
    if let Some(Ok(value)) = json.map(|json| json.decode_value()) {
        comes_back(&value, &bytes);
    }
    Ok(bytes)
}

fn accepted(key: &Key, headers: &Headers) {
    assert!(key.bytes().len() <= 1_024 && key.workspace_bytes().len() <= 255);
    assert!(headers.as_slice().len() <= 64);
}

fn set(bytes: &[u8], rules: &ValueRules) -> String {
    let valid = |r: &v1::SetRequest| {
        let value = match &r.value {
            None => false,
            Some(set_request::Value::Raw(raw)) => raw_is_valid(raw, rules),
            Some(set_request::Value::Json(json)) => json_is_valid(json),
        };
        let key = Key::from_request(&r.workspace_id, &r.changelog_id);
        key.is_ok() && known(r.ack) && headers_are_valid(&r.headers) && value
    };
    checked(bytes, valid, |r| {
        let (key, ack) = (request::key(&r.workspace_id, &r.changelog_id)?, request::ack(r.ack)?);
        assert_eq!(ack == Ack::Buffered, r.ack == 2);
        accepted(&key, &request::headers(r.headers)?);
        stored(r.value, rules)
    })
}

fn delete(bytes: &[u8]) -> String {
    let valid = |r: &v1::DeleteRequest| {
        let key = Key::from_request(&r.workspace_id, &r.changelog_id);
        key.is_ok() && known(r.ack) && headers_are_valid(&r.headers)
    };
    checked(bytes, valid, |r| {
        let (key, _) = (request::key(&r.workspace_id, &r.changelog_id)?, request::ack(r.ack)?);
        accepted(&key, &request::headers(r.headers)?);
        Ok(())
    })
}

/// Each mutation is accepted or refused for itself; too many end the stream.
fn mutations_of(bytes: &[u8], rules: &ValueRules) -> String {
    let valid = |r: &v1::WriteRequest| r.mutations.len() <= 1_000;
    let mut first = None;
    let outcome = checked(bytes, valid, |r: v1::WriteRequest| {
        write::check_count(&r.mutations)?;
        for mutation in r.mutations {
            let valid = |m: &v1::Mutation| {
                let change = match &m.change {
                    None => false,
                    Some(Change::Deletion(_)) => true,
                    Some(Change::Raw(raw)) => raw_is_valid(raw, rules),
                    Some(Change::Json(json)) => json_is_valid(json),
                };
                Key::from_request(&m.workspace_id, &m.changelog_id).is_ok() && headers_are_valid(&m.headers) && change
            };
            let outcome = checked(&mutation.encode_to_vec(), valid, |m: v1::Mutation| {
                let change = write::change(m, rules, &CONVERSIONS).now_or_never().expect("a small value")?;
                accepted(&change.key, &change.headers);
                assert!(change.value.as_ref().is_none_or(|value| value.len() <= MAX_VALUE_BYTES));
                Ok(())
            });
            first.get_or_insert(outcome);
        }
        Ok(())
    });
    if outcome == "ok" { first.unwrap_or(outcome) } else { outcome }
}

fn load(bytes: &[u8]) -> String {
    let valid = |r: &v1::LoadWorkspaceRequest| {
        WorkspaceId::parse(&r.workspace_id).is_ok() && types_are_valid(&r.entity_types) && known(r.value_format)
    };
    checked(bytes, valid, |r| {
        request::workspace(&r.workspace_id, "workspace_id")?;
        request::entity_types(r.entity_types)?;
        request::value_format(r.value_format)
    })
}

fn stream(bytes: &[u8]) -> String {
    let valid = |r: &v1::StreamAllRequest| {
        r.workspace_ids.iter().all(|id| WorkspaceId::parse(id).is_ok())
            && types_are_valid(&r.entity_types)
            && known(r.content)
            && known(r.value_format)
    };
    checked(bytes, valid, |r: v1::StreamAllRequest| {
        let sent = r.clone();
        let (stream, format) = request::stream(r)?;
        assert!(stream.workspaces.is_sorted_by(|one, next| one < next), "each workspace once");
        assert!(sent.workspace_ids.iter().all(|id| stream.workspaces.iter().any(|w| w.as_str() == id)));
        assert!(sent.entity_types.iter().all(|t| stream.types.contains(t)));
        assert!(stream.workspaces.len() <= sent.workspace_ids.len() && stream.types.len() <= sent.entity_types.len());
        assert_eq!((stream.partitions, stream.resume_token), (sent.partitions, sent.resume_token));
        assert_eq!((stream.follow, stream.content == Content::Latest), (sent.follow, sent.content == 2));
        assert_eq!(i32::from(format), sent.value_format);
        Ok(())
    })
}

fn get(bytes: &[u8]) -> String {
    let valid =
        |r: &v1::GetRequest| Key::from_request(&r.workspace_id, &r.changelog_id).is_ok() && known(r.value_format);
    checked(bytes, valid, |r| {
        request::key(&r.workspace_id, &r.changelog_id)?;
        request::value_format(r.value_format)
    })
}

fn describe(bytes: &[u8]) -> String {
    let valid = |r: &v1::DescribeRequest| r.workspace_id.is_empty() || WorkspaceId::parse(&r.workspace_id).is_ok();
    checked(bytes, valid, |r| request::described_workspace(&r.workspace_id))
}

fn flush(bytes: &[u8]) -> String {
    checked(
        bytes,
        |_| true,
        |r: v1::FlushRequest| {
            let millis = request::flush_timeout(r.timeout_ms).as_millis();
            assert!((1..=60_000).contains(&millis) && (r.timeout_ms == 0 || millis <= r.timeout_ms.into()));
            Ok(())
        },
    )
}

/// The outcome of a message of this RPC.
fn outcome(rpc: &str, bytes: &[u8]) -> String {
    match rpc {
        "Set" => set(bytes, &JSON),
        "SetOpaque" => set(bytes, &OPAQUE),
        "Delete" => delete(bytes),
        "Write" => mutations_of(bytes, &JSON),
        "LoadWorkspace" => load(bytes),
        "StreamAll" => stream(bytes),
        "Get" => get(bytes),
        "Describe" => describe(bytes),
        "Flush" => flush(bytes),
        "Watch" => checked(bytes, |_| true, |_: v1::WatchRequest| Ok(())),
        other => panic!("no RPC {other}"),
    }
}

proptest! {
    #![proptest_config(config())]

    /// Covers C12, C13, C14, C15, C16, S15, B1, B3, B4, B8, B9, B11, B14, B18, B28.
    #[test]
    fn a_write_is_accepted_exactly_if_it_is_within_the_limits(
        (one, other, rpc) in (written(), written(), 0..4_usize),
        changes in mutations(),
    ) {
        let ((rpc, bytes), (_, other)) = (write_request(one, rpc), write_request(other, rpc));
        outcome(rpc, &bytes);
        outcome(rpc, &mutated(&bytes, &other, &changes));
    }

    /// Covers C17, C20, S15, B1, B3, B14, B15.
    #[test]
    fn a_read_is_accepted_exactly_if_it_is_within_the_limits(
        (one, other, rpc) in (read(), read(), 0..6_usize),
        changes in mutations(),
    ) {
        let ((rpc, bytes), (_, other)) = (read_request(one, rpc), read_request(other, rpc));
        prop_assert_ne!(outcome(rpc, &bytes), "undecodable");
        outcome(rpc, &mutated(&bytes, &other, &changes));
    }

    /// Covers S15.
    #[test]
    fn any_bytes_are_a_message_or_refused(bytes in vec(prop_oneof![0..64_u8, any::<u8>()], 0..32), rpc in 0..10_usize) {
        outcome(RPCS[rpc], &bytes);
    }
}

/// Covers C1, C5, C12, C14, C16, C17, S15, B1, B3, B6, B8, B11, B14, B18, B28.
#[test]
fn the_corpus_of_requests_is_answered_as_it_says() {
    for input in corpus(include_str!("../../tests/corpus/requests.txt")) {
        let (rpc, expected) = input.expected.split_once(':').expect("an RPC and an outcome");
        let [bytes] = &input.parts[..] else { panic!("line {}: one message", input.line) };
        assert_eq!(outcome(rpc, bytes), expected, "line {}", input.line);
    }
}
