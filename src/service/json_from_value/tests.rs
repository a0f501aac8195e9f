use proptest::prelude::*;
use prost::Message;
use prost_types::{ListValue, Value, value};

use super::*;
use crate::proto::testing::a_value;

fn number(n: f64) -> Value {
    Value { kind: Some(value::Kind::NumberValue(n)) }
}

fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(value::Kind::ListValue(ListValue { values })) }
}

fn document(value: &Value) -> Result<String, BadValue> {
    json_from_value(&value.into(), usize::MAX).map(|bytes| String::from_utf8(bytes).unwrap())
}

/// The document of decoded messages, as `serde_json` writes it.
fn model(value: &Value) -> Option<serde_json::Value> {
    Some(match value.kind.as_ref()? {
        value::Kind::NullValue(_) => serde_json::Value::Null,
        value::Kind::BoolValue(b) => (*b).into(),
        value::Kind::StringValue(s) => s.as_str().into(),
        value::Kind::NumberValue(n) if !n.is_finite() => return None,
        value::Kind::NumberValue(n)
            if n.fract() == 0.0 && n.abs() <= MAX_EXACT && !(*n == 0.0 && n.is_sign_negative()) =>
        {
            (*n as i64).into()
        }
        value::Kind::NumberValue(n) => (*n).into(),
        value::Kind::ListValue(list) => list.values.iter().map(model).collect::<Option<Vec<_>>>()?.into(),
        value::Kind::StructValue(fields) => serde_json::Value::Object(
            fields.fields.iter().map(|(k, v)| Some((k.clone(), model(v)?))).collect::<Option<_>>()?,
        ),
    })
}

/// Covers C14.
#[test]
fn numbers_have_no_fraction_if_they_need_none() {
    for (n, text) in [
        (9_007_199_254_740_992.0, "9007199254740992"),
        (-3.0, "-3"),
        (1.5, "1.5"),
        (-0.0, "-0.0"),
        (1e300, "1e+300"),
        (1_131_508_164_979_449.0 + 0.25, "1131508164979449.2"),
    ] {
        assert_eq!(document(&number(n)).unwrap(), text);
    }
}

/// Covers C14, B11.
#[test]
fn values_that_json_cannot_express_are_refused() {
    for bad in [number(f64::NAN), number(f64::INFINITY), number(f64::NEG_INFINITY), Value { kind: None }] {
        for value in [list(vec![bad.clone()]), list(vec![number(1.0), list(vec![bad.clone()])]), bad] {
            assert!(matches!(document(&value), Err(BadValue::NotJson(_))), "{value:?}");
        }
    }
}

/// Covers C12.
#[test]
fn a_value_may_have_127_levels_and_no_more() {
    let nested = |levels: usize| (0..levels).fold(number(1.0), |value, _| list(vec![value]));
    assert_eq!(document(&nested(127)).unwrap(), format!("{}1{}", "[".repeat(127), "]".repeat(127)));
    for levels in [128, 1_000, 50_000] {
        // Encoded from the inside, because prost would recurse.
        let mut bytes = number(1.0).encode_to_vec();
        for _ in 0..levels {
            for field in [0x0a, 0x32] {
                let mut outer = vec![field];
                prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
                outer.append(&mut bytes);
                bytes = outer;
            }
            if bytes.len() > 60_000 {
                break;
            }
        }
        match json_from_value(&EncodedValue::from_bytes(bytes), usize::MAX) {
            Err(BadValue::NotJson(error)) => assert!(error.to_string().contains("127"), "{error}"),
            other => panic!("{levels}: {other:?}"),
        }
    }
}

/// Covers C13.
#[test]
fn a_document_over_the_limit_is_refused_with_its_size() {
    let text = |of: &str, times: usize| Value { kind: Some(value::Kind::StringValue(of.repeat(times))) };
    let object = |members: usize| {
        let fields = (0..members).map(|n| (format!("{n:05}"), number(0.0))).collect();
        Value { kind: Some(value::Kind::StructValue(prost_types::Struct { fields })) }
    };
    for value in [text("\u{1}", 1_000), list(vec![number(-1.5e-300); 500]), object(1_000), text("é", 100)] {
        let whole = document(&value).unwrap();
        let refused = |limit: usize| json_from_value(&(&value).into(), limit);
        assert_eq!(refused(whole.len()).unwrap(), whole.as_bytes());
        for limit in [whole.len() - 1, 10, 0] {
            let too_large = BadValue::NotJson(ValueError::TooLarge { limit, got: whole.len() });
            assert_eq!(refused(limit), Err(too_large));
        }
    }
}

/// Fields that occur more than once, and fields that are not known.
/// Covers C14.
#[test]
fn repeated_fields_are_merged_as_protocol_buffers_say() {
    let encoded = |values: &[Value]| values.iter().flat_map(Message::encode_to_vec).collect::<Vec<_>>();
    let unknown = [0x3a, 0x01, 0x07, 0x40, 0x05, 0x4d, 1, 2, 3, 4, 0x53, 0x08, 0x01, 0x54].to_vec();
    for (bytes, expected) in [
        (encoded(&[number(1.0), number(2.0)]), "2"),
        (encoded(&[list(vec![number(1.0)]), list(vec![number(2.0)])]), "[1,2]"),
        (encoded(&[list(vec![number(1.0)]), number(3.0), list(vec![number(2.0)])]), "[2]"),
        ([unknown.clone(), encoded(&[number(4.0)])].concat(), "4"),
        ([encoded(&[number(4.0)]), unknown].concat(), "4"),
    ] {
        let document = json_from_value(&EncodedValue::from_bytes(bytes.clone()), usize::MAX).unwrap();
        assert_eq!(String::from_utf8(document).unwrap(), expected);
        assert_eq!(model(&Value::decode(&*bytes).unwrap()).unwrap().to_string(), expected);
    }
}

/// A field with a message or text.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut field = Vec::new();
    prost::encoding::encode_key(number, WireType::LengthDelimited, &mut field);
    prost::encoding::encode_varint(bytes.len() as u64, &mut field);
    field.extend_from_slice(bytes);
    field
}

fn too_large(bytes: &[u8], limit: usize) -> Option<String> {
    match json_from_value(&EncodedValue::from_bytes(bytes.to_vec()), limit) {
        Err(BadValue::NotJson(error @ ValueError::TooManyMembers { .. })) => Some(error.to_string()),
        Err(BadValue::NotJson(_)) | Ok(_) => None,
        Err(other) => panic!("{other:?}"),
    }
}

/// Two bytes can be a member.
/// Covers C13.
#[test]
fn objects_with_more_members_than_a_document_within_the_limit_are_refused() {
    const LIMIT: usize = 100_000;
    type Kind<'a> = (&'static str, Box<dyn Fn(usize) -> Vec<u8> + 'a>);
    let most = LIMIT / 4;
    let entry = |key: &str| field(FIELDS, &[field(FIELD_KEY, key.as_bytes()), field(FIELD_VALUE, &[8, 0])].concat());
    let object = |entries: &[u8]| field(STRUCT, entries);
    let nested = |inner: &[u8]| field(FIELDS, &[field(FIELD_KEY, b"a"), field(FIELD_VALUE, inner)].concat());
    let kinds: Vec<Kind<'_>> = vec![
        ("empty entries", Box::new(|n| object(&[FIELDS as u8 * 8 + 2, 0].repeat(n)))),
        ("one key", Box::new(|n| object(&entry("a").repeat(n)))),
        ("one object in parts", Box::new(|n| object(&entry("")).repeat(n))),
        ("an element", Box::new(|n| field(LIST, &field(ELEMENTS, &object(&entry("é").repeat(n)))))),
        (
            "two levels",
            Box::new(|n| {
                object(&[entry("b").repeat(n / 2), nested(&object(&entry("c").repeat(n - n / 2 - 1)))].concat())
            }),
        ),
    ];
    for (kind, bytes) in &kinds {
        assert_eq!(too_large(&bytes(most), LIMIT), None, "{kind}");
        let error = too_large(&bytes(most + 1), LIMIT).expect(kind);
        assert!(error.contains("too large") && error.contains(&most.to_string()), "{kind}: {error}");
    }
    // What was collected for one object is free again for the next.
    let list = field(LIST, &field(ELEMENTS, &object(&entry("a").repeat(most))).repeat(10));
    assert_eq!(json_from_value(&EncodedValue::from_bytes(list), LIMIT).unwrap().len(), 10 * r#"{"a":null},"#.len() + 1);
}

/// Covers C13.
#[test]
fn a_document_at_the_limit_never_has_too_many_members() {
    for bytes in [0, 1, 2] {
        let keys: Vec<_> = match bytes {
            0 => vec![String::new()],
            1 => ('!'..='~').filter(|c| !"\"\\".contains(*c)).map(String::from).collect(),
            _ => ('a'..='z').flat_map(|a| ('a'..='z').map(move |b| format!("{a}{b}"))).collect(),
        };
        let fields = keys.into_iter().map(|key| (key, number(0.0))).collect();
        let object = Value { kind: Some(value::Kind::StructValue(prost_types::Struct { fields })) };
        for value in [object.clone(), list(vec![object; 200])] {
            let limit = document(&value).unwrap().len();
            assert!(json_from_value(&(&value).into(), limit).is_ok());
        }
    }
}

/// A document of 1.5 times its own size, and each member, fit into what is reserved.
#[test]
fn the_memory_of_a_conversion_has_a_limit() {
    assert_eq!(size_of::<Member>(), 8);
    let limit = 1_000_000;
    assert_eq!(most_conversion_bytes(usize::MAX, limit), 2 * limit + limit + limit / 2);
    assert_eq!(most_conversion_bytes(2, limit), 8 + 12 + 6);
    assert_eq!(most_conversion_bytes(usize::MAX, 10), 8 * MIN_MEMBERS + 15);
}

/// A Value in any of its encodings: kinds that replace each other, parts that are merged, keys that occur twice, and
/// unknown fields.
fn an_encoding() -> impl Strategy<Value = Vec<u8>> {
    let unknown = prop::sample::select(vec![&[0x3a, 1, 7][..], &[0x40, 5], &[0x4d, 1, 2, 3, 4], &[0x53, 8, 1, 0x54]]);
    let unknown = unknown.prop_map(<[u8]>::to_vec).boxed();
    let leaf = prop_oneof![
        any::<Option<bool>>().prop_map(|b| b.map_or(vec![8, 0], |b| vec![0x20, b.into()])),
        (-3..4_i8).prop_map(|n| number(f64::from(n) / 2.0).encode_to_vec()),
        "[a\"é]{0,2}".prop_map(|text| field(STRING, text.as_bytes())),
        unknown.clone(),
    ];
    let value = prop::collection::vec(leaf, 0..3).prop_map(|fields| fields.concat());
    value.prop_recursive(4, 60, 6, move |value| {
        let some = |of: BoxedStrategy<Vec<u8>>| prop::collection::vec(of, 0..4).prop_map(|parts| parts.concat());
        let values = |number: u32| value.clone().prop_map(move |bytes| field(number, &bytes)).boxed();
        let key = prop::sample::select(vec!["", "a", "b", "é"]).prop_map(|key| field(FIELD_KEY, key.as_bytes()));
        let in_entry = prop_oneof![2 => key, 3 => values(FIELD_VALUE), 1 => unknown.clone()].boxed();
        let entry = some(in_entry).prop_map(|bytes| field(FIELDS, &bytes)).boxed();
        let content = prop_oneof![
            4 => some(entry).prop_map(|bytes| field(STRUCT, &bytes)),
            4 => some(values(ELEMENTS)).prop_map(|bytes| field(LIST, &bytes)),
            2 => value.clone(),
            1 => unknown.clone(),
        ];
        some(content.boxed())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    /// Covers C14.
    #[test]
    fn every_encoding_is_read_as_prost_reads_it(bytes in an_encoding()) {
        let found = json_from_value(&EncodedValue::from_bytes(bytes.clone()), usize::MAX).ok();
        let expected = model(&Value::decode(&*bytes).unwrap()).map(|json| json.to_string().into_bytes());
        prop_assert_eq!(found, expected);
    }
}

proptest! {
    /// Covers C14.
    #[test]
    fn the_document_is_that_of_the_decoded_messages(value in a_value()) {
        prop_assert_eq!(document(&value).ok(), model(&value).map(|json| json.to_string()));
    }

    /// Flipped bits, and parts that are left out or repeated.
    /// Covers C14, C58.
    #[test]
    fn damaged_values_are_read_as_prost_reads_them(
        value in a_value(), flips in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        cut in any::<prop::sample::Index>(), repeat in any::<bool>(),
    ) {
        let mut bytes = value.encode_to_vec();
        if bytes.is_empty() {
            return Ok(());
        }
        for flip in flips {
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let part = bytes[cut.index(bytes.len())..].to_vec();
        if repeat {
            bytes.extend(part);
        }
        let found = json_from_value(&EncodedValue::from_bytes(bytes.clone()), usize::MAX);
        match Value::decode(&*bytes) {
            Ok(value) => prop_assert_eq!(found.ok(), model(&value).map(|json| json.to_string().into_bytes())),
            // A part that a later one replaces is not read here, but by prost.
            Err(_) => {
                if let Ok(document) = found {
                    prop_assert!(serde_json::from_slice::<serde_json::Value>(&document).is_ok());
                }
            }
        }
    }
}
