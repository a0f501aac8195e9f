//! The JSON document of a `google.protobuf.Value` in a request: compact, keys sorted, and integral doubles up to 2^53
//! without a fraction.
//!
//! The document is written while the encoded value is read. Messages would take many times the memory. Where a field
//! occurs more than once, the rules of protocol buffers apply: the last one wins, and messages are merged.

use std::io;

use changelog_core::model::ValueError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::proto::{
    EncodedValue,
    value_fields::{BOOL, ELEMENTS, FIELD_KEY, FIELD_VALUE, FIELDS, LIST, NULL, NUMBER, STRING, STRUCT},
};

/// A document nested deeper than this is refused, by the rules for values, too.
const MAX_NESTING: usize = 127;

/// The largest integer up to which every integer is a double: 2^53.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Why a value has no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadValue {
    /// The bytes are not a Value.
    Malformed(&'static str),
    /// JSON can't express it.
    NotJson(ValueError),
}

fn not_json(problem: impl Into<String>) -> BadValue {
    BadValue::NotJson(ValueError::NotJson { problem: problem.into() })
}

/// The document, or why there is none. It may have `limit` bytes.
pub fn json_from_value(value: &EncodedValue, limit: usize) -> Result<Vec<u8>, BadValue> {
    let mut document = Document { bytes: Vec::new(), length: 0, limit };
    write_value(&[value.bytes()], MAX_NESTING, &mut document)?;
    match document.length {
        got if got > limit => Err(BadValue::NotJson(ValueError::TooLarge { limit, got })),
        _ => Ok(document.bytes),
    }
}

/// What is written. Beyond the limit it is only counted.
struct Document {
    bytes: Vec<u8>,
    length: usize,
    limit: usize,
}

impl Document {
    fn push(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        if self.length <= self.limit {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

impl io::Write for Document {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One field of a message.
struct Field<'a> {
    number: u32,
    content: Content<'a>,
}

#[derive(Clone, Copy)]
enum Content<'a> {
    Varint(u64),
    Eight([u8; 8]),
    Four,
    Bytes(&'a [u8]),
}

/// Takes the next field of a message.
fn next_field<'a>(message: &mut &'a [u8]) -> Result<Option<Field<'a>>, BadValue> {
    while !message.is_empty() {
        let (number, wire_type) = decode_key(message).map_err(|_| CUT)?;
        let content = match wire_type {
            WireType::Varint => Content::Varint(decode_varint(message).map_err(|_| CUT)?),
            WireType::SixtyFourBit => Content::Eight(take(message, 8)?.try_into().map_err(|_| CUT)?),
            WireType::ThirtyTwoBit => take(message, 4).map(|_| Content::Four)?,
            WireType::LengthDelimited => {
                let length = decode_varint(message).map_err(|_| CUT)?;
                Content::Bytes(take(message, length)?)
            }
            WireType::StartGroup | WireType::EndGroup => {
                // No message here has groups. They are left out, as any field that is not known.
                skip_field(wire_type, number, message, DecodeContext::default()).map_err(|_| CUT)?;
                continue;
            }
        };
        return Ok(Some(Field { number, content }));
    }
    Ok(None)
}

fn take<'a>(message: &mut &'a [u8], bytes: u64) -> Result<&'a [u8], BadValue> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let (taken, rest) = message.split_at_checked(bytes).ok_or(CUT)?;
    *message = rest;
    Ok(taken)
}

const CUT: BadValue = BadValue::Malformed("a field of the Value is cut or malformed");
const WRONG_TYPE: BadValue = BadValue::Malformed("a field of the Value has the wrong wire type");

/// The kind that a Value has. Messages are in parts, because fields that occur more than once are merged.
enum Kind<'a> {
    Null,
    Bool(bool),
    Number(f64),
    String(&'a str),
    Struct(Vec<&'a [u8]>),
    List(Vec<&'a [u8]>),
}

fn kind_of<'a>(parts: &[&'a [u8]]) -> Result<Kind<'a>, BadValue> {
    let mut kind = None;
    for part in parts {
        let mut message = *part;
        while let Some(Field { number, content }) = next_field(&mut message)? {
            kind = Some(match (number, content) {
                (NULL, Content::Varint(_)) => Kind::Null,
                (BOOL, Content::Varint(number)) => Kind::Bool(number != 0),
                (NUMBER, Content::Eight(bytes)) => Kind::Number(f64::from_le_bytes(bytes)),
                (STRING, Content::Bytes(bytes)) => Kind::String(text(bytes)?),
                (STRUCT, Content::Bytes(bytes)) => match kind {
                    Some(Kind::Struct(parts)) => Kind::Struct(with(parts, bytes)),
                    _ => Kind::Struct(vec![bytes]),
                },
                (LIST, Content::Bytes(bytes)) => match kind {
                    Some(Kind::List(parts)) => Kind::List(with(parts, bytes)),
                    _ => Kind::List(vec![bytes]),
                },
                (NULL..=LIST, _) => return Err(WRONG_TYPE),
                _ => continue,
            });
        }
    }
    kind.ok_or_else(|| not_json("a Value has no kind"))
}

fn with<'a>(mut parts: Vec<&'a [u8]>, part: &'a [u8]) -> Vec<&'a [u8]> {
    parts.push(part);
    parts
}

fn text(bytes: &[u8]) -> Result<&str, BadValue> {
    str::from_utf8(bytes).map_err(|_| BadValue::Malformed("a string of the Value is not UTF-8"))
}

fn write_value(parts: &[&[u8]], levels: usize, document: &mut Document) -> Result<(), BadValue> {
    let below = || {
        levels.checked_sub(1).ok_or_else(|| {
            not_json(format!("it is nested more than {MAX_NESTING} levels deep, at most {MAX_NESTING} are allowed"))
        })
    };
    match kind_of(parts)? {
        Kind::Null => document.push(b"null"),
        Kind::Bool(true) => document.push(b"true"),
        Kind::Bool(false) => document.push(b"false"),
        Kind::Number(number) => write_number(number, document)?,
        Kind::String(text) => write_json(text, document)?,
        Kind::List(parts) => write_list(&parts, below()?, document)?,
        Kind::Struct(parts) => write_struct(&parts, below()?, document)?,
    }
    Ok(())
}

fn write_json(part: impl serde::Serialize, document: &mut Document) -> Result<(), BadValue> {
    serde_json::to_writer(document, &part).map_err(|e| not_json(e.to_string()))
}

fn write_number(number: f64, document: &mut Document) -> Result<(), BadValue> {
    if !number.is_finite() {
        return Err(not_json("a number is not finite (JSON has no NaN and no infinities)"));
    }
    // -0 keeps its sign, as a fraction.
    let negative_zero = number == 0.0 && number.is_sign_negative();
    if number.fract() == 0.0 && number.abs() <= MAX_EXACT && !negative_zero {
        return write_json(number as i64, document);
    }
    write_json(number, document)
}

fn write_list(parts: &[&[u8]], levels: usize, document: &mut Document) -> Result<(), BadValue> {
    document.push(b"[");
    let mut first = true;
    for part in parts {
        let mut message = *part;
        while let Some(field) = next_field(&mut message)? {
            match (field.number, field.content) {
                (ELEMENTS, Content::Bytes(element)) => {
                    if !std::mem::take(&mut first) {
                        document.push(b",");
                    }
                    write_value(&[element], levels, document)?;
                }
                (ELEMENTS, _) => return Err(WRONG_TYPE),
                _ => {}
            }
        }
    }
    document.push(b"]");
    Ok(())
}

fn write_struct(parts: &[&[u8]], levels: usize, document: &mut Document) -> Result<(), BadValue> {
    // Only the entries, because each may have few bytes.
    let mut entries = Vec::new();
    for part in parts {
        let mut message = *part;
        while let Some(field) = next_field(&mut message)? {
            match (field.number, field.content) {
                (FIELDS, Content::Bytes(entry)) => {
                    key_of(entry)?;
                    entries.push(entry);
                }
                (FIELDS, _) => return Err(WRONG_TYPE),
                _ => {}
            }
        }
    }
    document.push(b"{");
    // Of one key the last entry counts. The sort keeps their order.
    entries.sort_by_key(|entry| key_of(entry).unwrap_or_default());
    let mut first = true;
    for (i, entry) in entries.iter().enumerate() {
        let (key, value) = entry_of(entry)?;
        if entries.get(i + 1).is_some_and(|next| key_of(next) == Ok(key)) {
            continue;
        }
        if !std::mem::take(&mut first) {
            document.push(b",");
        }
        write_json(key, document)?;
        document.push(b":");
        write_value(&value, levels, document)?;
    }
    document.push(b"}");
    Ok(())
}

/// The key of a map's entry.
fn key_of(entry: &[u8]) -> Result<&str, BadValue> {
    let (mut key, mut message) = ("", entry);
    while let Some(field) = next_field(&mut message)? {
        match (field.number, field.content) {
            (FIELD_KEY, Content::Bytes(bytes)) => key = text(bytes)?,
            (FIELD_KEY, _) => return Err(WRONG_TYPE),
            _ => {}
        }
    }
    Ok(key)
}

/// The key of a map's entry, and the parts of its value.
fn entry_of(entry: &[u8]) -> Result<(&str, Vec<&[u8]>), BadValue> {
    let (mut key, mut value, mut message) = ("", Vec::new(), entry);
    while let Some(field) = next_field(&mut message)? {
        match (field.number, field.content) {
            (FIELD_KEY, Content::Bytes(bytes)) => key = text(bytes)?,
            (FIELD_VALUE, Content::Bytes(bytes)) => value.push(bytes),
            (FIELD_KEY | FIELD_VALUE, _) => return Err(WRONG_TYPE),
            _ => {}
        }
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
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
}
