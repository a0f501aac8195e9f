//! Requests near their limits, as messages.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*, sample::select};
use prost::Message;
use prost_types::{ListValue, Struct, Value, value::Kind};

use crate::proto::v1::{self, mutation::Change, set_request};

/// Those that write come first. `SetOpaque` is `Set` with --values=opaque.
pub const RPCS: [&str; 10] =
    ["Set", "SetOpaque", "Delete", "Write", "LoadWorkspace", "StreamAll", "Get", "Describe", "Flush", "Watch"];

fn workspace_id() -> impl Strategy<Value = String> {
    let ids = ["", "w", "ws-1", "a/b", " ", "w\u{9f}", "\u{1f980}"].map(str::to_owned);
    let long = [255, 256].map(|length| "w".repeat(length));
    prop_oneof![3 => Just("w".to_owned()), 1 => select([&ids[..], &long].concat())]
}

fn changelog_id() -> impl Strategy<Value = String> {
    let ids = ["", "/t/i", "w/t/i", "/t/a/b", "t/i", "//i", "/t/", "/t//i", "/t/\u{7f}", "/"].map(str::to_owned);
    let long = [1_020, 1_021].map(|length| format!("/t/{}", "x".repeat(length)));
    prop_oneof![4 => Just("/t/i".to_owned()), 1 => select([&ids[..], &long].concat())]
}

fn headers() -> impl Strategy<Value = Vec<v1::Header>> {
    let header = |key: &str, value: Option<usize>| v1::Header {
        key: key.to_owned(),
        value: value.map(|length| vec![b'v'; length].into()),
    };
    let headers =
        [header("k", None), header("k", Some(0)), header("\u{e9}", Some(9)), header("", None), header("\0", None)];
    let limits = [
        vec![header("k", Some(1)); 64],
        vec![header("k", Some(1)); 65],
        vec![header("k", Some(16_383))],
        vec![header("k", Some(16_384))],
    ];
    prop_oneof![
        8 => Just(Vec::new()),
        4 => vec(select(headers.to_vec()), 0..3),
        1 => select(limits.to_vec()),
    ]
}

fn raw() -> impl Strategy<Value = Bytes> {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let texts =
        ["1", "null", "{\"a\":[1,2]}", " {} ", "", "{", "nul", "1e400", "\"\\ud800\"", "01", "[1,]", "\"\u{1f980}\""];
    let mut texts: Vec<_> = texts.map(|text| Bytes::from(text.to_owned())).to_vec();
    texts.extend([nested(127).into(), nested(128).into(), Bytes::from_static(b"\"\xff\"")]);
    texts.extend([298, 299].map(|length| format!("\"{}\"", "x".repeat(length)).into()));
    select(texts)
}

/// Values around the depths at which answers and decoders stop.
fn value() -> impl Strategy<Value = Value> {
    let of = |kind| Value { kind: Some(kind) };
    let number = move |n: f64| of(Kind::NumberValue(n));
    let leaves = [
        of(Kind::NullValue(0)),
        of(Kind::NullValue(7)),
        of(Kind::BoolValue(true)),
        of(Kind::StringValue("\u{1f980}\"\\".to_owned())),
        of(Kind::StringValue("x".repeat(298))),
        of(Kind::StringValue("x".repeat(299))),
        number(-0.0),
        number(9_007_199_254_740_992.0),
        number(1_131_508_164_979_449.0 + 0.25),
        number(5e-324),
        number(f64::NAN),
        number(f64::NEG_INFINITY),
        Value { kind: None },
        of(Kind::ListValue(ListValue::default())),
        of(Kind::StructValue(Struct::default())),
    ];
    let depth = prop_oneof![8 => 0..4_usize, 1 => select(vec![31, 32, 33, 34, 47, 48, 49, 50, 60])];
    let leaves = prop_oneof![select(leaves.to_vec()), any::<f64>().prop_map(number)];
    (vec(leaves, 1..3), depth, any::<u64>()).prop_map(move |(values, depth, kinds)| {
        let mut values = values.into_iter();
        let mut value = values.next().expect("not empty");
        for level in 0..depth {
            let more = values.next();
            value = if kinds >> (level % 64) & 1 == 0 {
                of(Kind::ListValue(ListValue { values: [value].into_iter().chain(more).collect() }))
            } else {
                let names = ["a", "", "\u{e9}\n"].map(str::to_owned);
                let fields: BTreeMap<_, _> = names.into_iter().zip([value].into_iter().chain(more)).collect();
                of(Kind::StructValue(Struct { fields }))
            };
        }
        value
    })
}

fn number() -> impl Strategy<Value = i32> {
    prop_oneof![8 => 0..3, 1 => select(vec![3, -1, 127, i32::MAX, i32::MIN])]
}

/// The parts of requests that write.
pub type Written = (String, String, Vec<v1::Header>, (Option<Bytes>, Option<Value>), i32);

pub fn written() -> impl Strategy<Value = Written> {
    let value = (option::weighted(0.6, raw()), option::weighted(0.4, value()));
    (workspace_id(), changelog_id(), headers(), value, number())
}

/// The RPC and its message.
pub fn write_request(
    (workspace_id, changelog_id, headers, (raw, json), ack): Written,
    rpc: usize,
) -> (&'static str, Vec<u8>) {
    let rpc = RPCS[rpc % 4];
    let bytes = match rpc {
        "Delete" => v1::DeleteRequest { workspace_id, changelog_id, headers, ack }.encode_to_vec(),
        "Write" => {
            let change = match (raw, json, ack) {
                (_, _, 1) => Some(Change::Deletion(v1::Deletion {})),
                (Some(raw), ..) => Some(Change::Raw(raw)),
                (None, json, _) => json.map(|json| Change::Json((&json).into())),
            };
            let mutation = v1::Mutation { id: ack as u64, workspace_id, changelog_id, change, headers };
            // An empty mutation has two bytes, so that a thousand of them are few.
            let mut bytes = v1::WriteRequest { mutations: vec![mutation] }.encode_to_vec();
            if ack == i32::MAX || ack == i32::MIN {
                let empty = if ack == i32::MAX { 999 } else { 1_000 };
                bytes.extend([10, 0].iter().cycle().take(2 * empty));
            }
            bytes
        }
        _ => {
            let value = raw.map(set_request::Value::Raw).or(json.map(|json| set_request::Value::Json((&json).into())));
            v1::SetRequest { workspace_id, changelog_id, value, headers, ack }.encode_to_vec()
        }
    };
    (rpc, bytes)
}

/// The parts of requests that read.
pub type Read = (String, String, Vec<String>, [i32; 2], (Vec<i32>, Vec<u8>, bool));

pub fn read() -> impl Strategy<Value = Read> {
    let types = prop_oneof![4 => Just("t"), 1 => select(vec!["", "a/b", "t\n", "\u{9f}", "\u{e9}", " "])];
    let types = vec(types.prop_map(str::to_owned), 0..3);
    let rest = (vec(any::<i32>(), 0..3), vec(any::<u8>(), 0..3), any::<bool>());
    (workspace_id(), changelog_id(), types, [number(), number()], rest)
}

pub fn read_request(
    (id, changelog_id, types, [one, two], (partitions, token, flag)): Read,
    rpc: usize,
) -> (&'static str, Vec<u8>) {
    let rpc = RPCS[4 + rpc % 6];
    let workspace_id = id.clone();
    let bytes = match rpc {
        "LoadWorkspace" => {
            v1::LoadWorkspaceRequest { workspace_id, entity_types: types, value_format: one }.encode_to_vec()
        }
        "StreamAll" => {
            let workspace_ids = if flag { vec![id.clone(), "v".to_owned(), id] } else { Vec::new() };
            let (content, value_format, resume_token) = (one, two, token.into());
            v1::StreamAllRequest {
                partitions,
                workspace_ids,
                entity_types: types,
                content,
                value_format,
                resume_token,
                follow: flag,
            }
            .encode_to_vec()
        }
        "Get" => v1::GetRequest { workspace_id, changelog_id, value_format: one }.encode_to_vec(),
        "Describe" => v1::DescribeRequest { workspace_id }.encode_to_vec(),
        "Flush" => v1::FlushRequest { timeout_ms: one as u32, failures_after: two as u64 }.encode_to_vec(),
        _ => v1::WatchRequest { workspace_id, entity_types: types, value_format: one, resume_token: token.into() }
            .encode_to_vec(),
    };
    (rpc, bytes)
}
