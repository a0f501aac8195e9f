//! The `google.protobuf.Value` of a stored JSON document, for people with grpcurl.
//!
//! The encoded value is written while the document is read. Messages would take many times the memory. Only the members
//! of objects are collected, because they are sorted.

use std::{borrow::Cow, fmt, mem};

use prost::encoding::{WireType, encode_key, encode_varint};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::proto::{
    EncodedValue,
    value_fields::{BOOL, ELEMENTS, FIELD_KEY, FIELD_VALUE, FIELDS, LIST, NULL, NUMBER, STRING, STRUCT},
};

/// Values nested deeper than this are returned raw.
const MAX_DEPTH: usize = 32;

/// Tags and lengths of an encoded member, and its value.
const MIN_MEMBER_BYTES: usize = 6;
/// A member of a document, as in `"":1,`.
const MIN_TEXT_OF_MEMBER: usize = 5;

/// The document as a Value. `None` if it is not JSON, if a Value can't hold it without loss, or if that would have more
/// than `limit` bytes.
pub fn value_from_json(document: &[u8], limit: usize) -> Option<EncodedValue> {
    let text = std::str::from_utf8(document).ok()?;
    // Memory that is not written to is not taken from the system.
    let encoded = Vec::with_capacity(most_encoded_bytes(document.len()).min(limit));
    let mut encoder = Encoder { encoded, limit, text, collected: 0, unescaped: String::new() };
    encoder.value(serde_json::from_str::<&RawValue>(text).ok()?.get(), MAX_DEPTH)?;
    // The length of a message is written when its end is known, so it is checked once more.
    if encoder.encoded.len() > limit {
        return None;
    }
    encoder.encoded.shrink_to_fit();
    Some(EncodedValue::from_bytes(encoder.encoded))
}

/// The most bytes that a conversion takes, besides the document and the Value: its members. Keys with escapes are
/// longer, and are copied; together that is less.
pub fn most_conversion_bytes(document: usize, limit: usize) -> usize {
    let members = (document / MIN_TEXT_OF_MEMBER + 1).min(limit / MIN_MEMBER_BYTES);
    members.saturating_mul(mem::size_of::<Member>())
}

/// The most bytes that the Value of a document with this many bytes has. In `[1,1]` two bytes become eleven. Tags and
/// lengths of nested messages are longer than in most documents on each level once.
pub fn most_encoded_bytes(document: usize) -> usize {
    document.saturating_mul(6).saturating_add(MAX_DEPTH * 32)
}

struct Encoder<'t> {
    encoded: Vec<u8>,
    limit: usize,
    /// The document.
    text: &'t str,
    /// The least bytes of the Value that all members which were collected so far have.
    collected: usize,
    /// Keys that had escapes, of the objects that are being encoded.
    unescaped: String,
}

/// A member of an object, in few bytes: there may be one for each five bytes of a document.
#[derive(Clone, Copy)]
struct Member {
    /// Where its key is in the document, or behind it, in the keys that had escapes.
    key: Span,
    /// Where its value is in the document.
    value: Span,
}

/// Where a part of a text begins, and its bytes.
#[derive(Clone, Copy)]
struct Span(u32, u32);

impl Span {
    /// `None` for a document of 4 GiB.
    fn new(start: usize, bytes: usize) -> Option<Self> {
        Some(Self(u32::try_from(start).ok()?, u32::try_from(bytes).ok()?))
    }

    /// Of a part of `text`.
    fn within(text: &str, part: &str) -> Option<Self> {
        Self::new(part.as_ptr() as usize - text.as_ptr() as usize, part.len())
    }

    fn of(self, text: &str) -> &str {
        &text[self.0 as usize..][..self.1 as usize]
    }
}

impl<'t> Encoder<'t> {
    /// `text` is a JSON value in the document.
    fn value(&mut self, text: &'t str, depth: usize) -> Option<()> {
        if self.encoded.len() > self.limit {
            return None;
        }
        match text.as_bytes().first()? {
            b'n' => self.varint(NULL, 0),
            b't' => self.varint(BOOL, 1),
            b'f' => self.varint(BOOL, 0),
            b'"' => {
                let Text(text) = serde_json::from_str(text).ok()?;
                write_text(STRING, &text, &mut self.encoded);
            }
            b'[' => {
                let depth = depth.checked_sub(1)?;
                self.message(LIST, |encoder| {
                    serde_json::Deserializer::from_str(text).deserialize_seq(Elements { encoder, depth }).ok()
                })?;
            }
            b'{' => {
                let depth = depth.checked_sub(1)?;
                let unescaped = self.unescaped.len();
                let members = self.members(text)?;
                self.message(STRUCT, |encoder| {
                    members.iter().try_for_each(|member| {
                        encoder.message(FIELDS, |encoder| {
                            let key = member.key(encoder.text, &encoder.unescaped);
                            if !key.is_empty() {
                                write_text(FIELD_KEY, key, &mut encoder.encoded);
                            }
                            let value = member.value.of(encoder.text);
                            encoder.message(FIELD_VALUE, |encoder| encoder.value(value, depth))
                        })
                    })
                })?;
                self.unescaped.truncate(unescaped);
            }
            _ => {
                let number = exact(text)?;
                encode_key(NUMBER, WireType::SixtyFourBit, &mut self.encoded);
                self.encoded.extend_from_slice(&number.to_le_bytes());
            }
        }
        Some(())
    }

    fn varint(&mut self, field: u32, number: u64) {
        encode_key(field, WireType::Varint, &mut self.encoded);
        encode_varint(number, &mut self.encoded);
    }

    /// The members of an object, sorted. `None` if a key occurs twice, or if their Value is too large.
    fn members(&mut self, text: &'t str) -> Option<Vec<Member>> {
        let left = self.limit.saturating_sub(self.collected) / MIN_MEMBER_BYTES;
        // Each has a colon. More are in strings and in members of members.
        let most = text.bytes().filter(|byte| *byte == b':').count().min(text.len() / MIN_TEXT_OF_MEMBER + 1).min(left);
        let visitor = Members { members: Vec::with_capacity(most), encoder: self };
        let mut members = serde_json::Deserializer::from_str(text).deserialize_map(visitor).ok()?;
        let key = |member: &Member| member.key(self.text, &self.unescaped);
        members.sort_unstable_by(|a, b| key(a).cmp(key(b)));
        let twice = members.windows(2).any(|pair| key(&pair[0]) == key(&pair[1]));
        (!twice).then_some(members)
    }

    fn member(&mut self, quoted: &'t str, value: &'t str) -> Option<Member> {
        let key = quoted.strip_prefix('"')?.strip_suffix('"')?;
        let key = if key.contains('\\') {
            let Text(key) = serde_json::from_str(quoted).ok()?;
            let start = self.text.len() + self.unescaped.len();
            self.unescaped.push_str(&key);
            Span::new(start, key.len())?
        } else {
            Span::within(self.text, key)?
        };
        self.collected += MIN_MEMBER_BYTES + key.1 as usize;
        (self.collected <= self.limit).then_some(Member { key, value: Span::within(self.text, value)? })
    }

    /// Writes a message, and then its length before it. Most messages are short: the length has one byte.
    fn message(&mut self, field: u32, content: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        encode_key(field, WireType::LengthDelimited, &mut self.encoded);
        let at = self.encoded.len();
        self.encoded.push(0);
        content(self)?;
        let length = self.encoded.len() - at - 1;
        match u8::try_from(length) {
            Ok(short @ ..128) => self.encoded[at] = short,
            _ => {
                let mut long = Vec::with_capacity(10);
                encode_varint(length as u64, &mut long);
                self.encoded.splice(at..=at, long);
            }
        }
        Some(())
    }
}

impl Member {
    fn key<'a>(&self, text: &'a str, unescaped: &'a str) -> &'a str {
        let Span(start, bytes) = self.key;
        match (start as usize).checked_sub(text.len()) {
            Some(start) => &unescaped[start..][..bytes as usize],
            None => self.key.of(text),
        }
    }
}

fn write_text(field: u32, text: &str, encoded: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, encoded);
    encode_varint(text.len() as u64, encoded);
    encoded.extend_from_slice(text.as_bytes());
}

/// A string, which is copied only if it has escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The double that stands for the same number, or `None`. A fraction must be the shortest form of its double. For
/// example, no double is exactly 0.1, but the nearest one is printed as 0.1. An integer must be exactly the value of
/// its double, because readers calculate with it.
fn exact(text: &str) -> Option<f64> {
    // Integers with up to 15 digits are exact. Zero may have a sign.
    if text.len() <= 15
        && let Ok(integer @ (1.. | ..=-1)) = text.parse::<i64>()
    {
        #[allow(clippy::cast_precision_loss)]
        return Some(integer as f64);
    }
    let number: f64 = text.parse().ok()?;
    let integer = !text.contains(['.', 'e', 'E']);
    // Of two shortest forms serde_json takes the even one, as JavaScript and Python do. Rust's formatting does not.
    let written = if integer { format!("{number:.0}") } else { serde_json::to_string(&number).ok()? };
    (number.is_finite() && decimal(text)? == decimal(&written)?).then_some(number)
}

/// Sign, digits without leading and trailing zeros, and the power of ten of the last digit.
fn decimal(text: &str) -> Option<(bool, String, i64)> {
    let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let significant = digits.trim_start_matches('0').trim_end_matches('0');
    if significant.is_empty() {
        return Some((negative, String::new(), 0));
    }
    let trailing = digits.len() - digits.trim_end_matches('0').len();
    let exponent = exponent.parse::<i64>().ok()?.checked_sub(fraction.len() as i64)?.checked_add(trailing as i64)?;
    Some((negative, significant.to_owned(), exponent))
}

/// Encodes the elements of an array one by one.
struct Elements<'e, 't> {
    encoder: &'e mut Encoder<'t>,
    depth: usize,
}

impl<'t> Visitor<'t> for Elements<'_, 't> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<&RawValue>()? {
            let encoded = self.encoder.message(ELEMENTS, |encoder| encoder.value(element.get(), self.depth));
            encoded.ok_or_else(|| A::Error::custom("it stays raw"))?;
        }
        Ok(())
    }
}

/// Collects an object's members in order, with repeated keys kept.
struct Members<'e, 't> {
    members: Vec<Member>,
    encoder: &'e mut Encoder<'t>,
}

impl<'t> Visitor<'t> for Members<'_, 't> {
    type Value = Vec<Member>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'t>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            let member = self.encoder.member(key.get(), value.get());
            self.members.push(member.ok_or_else(|| A::Error::custom("it stays raw"))?);
        }
        Ok(self.members)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost_types::{ListValue, Struct, Value, value::Kind};

    use super::*;
    use crate::{proto::testing::a_value, service::json_from_value::json_from_value};

    fn number(n: f64) -> Value {
        Value { kind: Some(Kind::NumberValue(n)) }
    }

    fn from_bytes(document: &[u8]) -> Option<Value> {
        Some(value_from_json(document, usize::MAX)?.decode_value().expect("it is a Value"))
    }

    fn to_bytes(value: &Value) -> Option<Vec<u8>> {
        json_from_value(&value.into(), usize::MAX).ok()
    }

    /// Covers C14.
    #[test]
    fn values_are_stored_compact_with_sorted_keys_and_integers_without_a_fraction() {
        let value = from_bytes(br#"{ "b": 1.0, "a": [true, null, "x"] }"#).unwrap();
        assert_eq!(to_bytes(&value).unwrap(), br#"{"a":[true,null,"x"],"b":1}"#);
    }

    /// Covers C15.
    #[test]
    fn a_value_over_the_limit_is_returned_raw() {
        for document in ["[1,1,1]", r#"{"a":{"a":[]}}"#, r#""12345678901234567890""#, "[[[[]]]]"] {
            let bytes = value_from_json(document.as_bytes(), usize::MAX).unwrap().bytes().len();
            assert!(value_from_json(document.as_bytes(), bytes).is_some(), "{document}");
            assert_eq!(value_from_json(document.as_bytes(), bytes - 1), None, "{document}");
        }
        assert_eq!(value_from_json(format!("[{}1]", "1,".repeat(500_000)).as_bytes(), 3_000_000), None);
        let members: Vec<_> = (0..100_000).map(|n| format!("\"{n}\":null")).collect();
        assert_eq!(value_from_json(format!("{{{}}}", members.join(",")).as_bytes(), 200_000), None);
    }

    /// Covers C15.
    #[test]
    fn members_come_sorted_by_what_their_keys_mean() {
        for (document, stored) in [
            (r#"{"b":1,"\u0061":2}"#, r#"{"a":2,"b":1}"#),
            (r#"{"\u0062":{"\u0064":1,"c:":{"\n":[]}},"a":{"\"":1}}"#, r#"{"a":{"\"":1},"b":{"c:":{"\n":[]},"d":1}}"#),
            (r#"{"\u00e9":{"\u00ea":1},"\u00e8":{"\u00eb":2,"":0}}"#, r#"{"è":{"":0,"ë":2},"é":{"ê":1}}"#),
            (r#"[{"":1},{"\\":{"\\":2}},{"x":[{"\/":3}]}]"#, r#"[{"":1},{"\\":{"\\":2}},{"x":[{"/":3}]}]"#),
            ("{}", "{}"),
        ] {
            let value = from_bytes(document.as_bytes()).unwrap_or_else(|| panic!("{document}"));
            assert_eq!(String::from_utf8(to_bytes(&value).unwrap()).unwrap(), stored, "{document}");
        }
        // Each level has many members, and together they are too many.
        let members = |inner: &str| {
            let members: Vec<_> = (0..1_000).map(|n| format!("\"{n}\":{inner}")).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(value_from_json(members(&members("1")).as_bytes(), 3_000_000), None);
        assert!(value_from_json(members("1").as_bytes(), 20_000).is_some());
    }

    /// Covers C15.
    #[test]
    fn a_value_that_json_would_change_is_returned_raw_as_a_whole() {
        for bad in [
            "12345678901234567890",
            "[1, 9007199254740993]",
            "0.1000000000000000055",
            "1e400",
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#""\ud800""#,
            "",
            "{",
        ] {
            assert_eq!(from_bytes(bad.as_bytes()), None, "{bad}");
        }
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(from_bytes(nested(32).as_bytes()).is_some());
        assert_eq!(from_bytes(nested(33).as_bytes()), None);
    }

    /// Covers C15.
    #[test]
    fn numbers_that_differ_only_in_form_are_returned_as_json() {
        for (text, number) in
            [("1.10", 1.1), ("1e2", 100.0), ("100", 100.0), ("0.0", 0.0), ("0.1", 0.1), ("-2E-3", -0.002)]
        {
            assert_eq!(exact(text), Some(number), "{text}");
        }
        assert!(exact("-0").is_some_and(|n| n == 0.0 && n.is_sign_negative()));
    }

    /// Covers C14, C15.
    #[test]
    fn a_double_with_two_shortest_forms_survives_in_the_even_one() {
        let tie = 1_131_508_164_979_449.0 + 0.25;
        assert_eq!(exact("1131508164979449.2"), Some(tie));
        assert_eq!(exact("1131508164979449.3"), None, "it would come back as another number");
        assert_eq!(exact("1131508164979449.25"), None);
        for shortest in ["5e-324", "1.7976931348623157e308", "2.2250738585072014e-308"] {
            let double = exact(shortest).unwrap();
            assert_eq!(from_bytes(shortest.as_bytes()), Some(number(double)), "{shortest}");
        }
    }

    proptest! {
        /// Covers C14, C15.
        #[test]
        fn every_double_survives_its_shortest_form(n in any::<f64>().prop_filter("finite", |n| n.is_finite())) {
            let bytes = to_bytes(&number(n)).unwrap();
            prop_assert_eq!(from_bytes(&bytes), Some(number(n)));
        }

        /// Covers C15.
        #[test]
        #[allow(clippy::cast_precision_loss)]
        fn integers_are_returned_exactly_or_as_raw(n in any::<i64>()) {
            let value = from_bytes(n.to_string().as_bytes());
            let same = n as f64 as i128 == i128::from(n);
            prop_assert_eq!(value.is_some(), same);
        }

        /// With messages on every side of 127 bytes, where a length gets a second byte.
        /// Covers C14, C15.
        #[test]
        fn what_was_stored_for_a_value_is_returned_as_this_value(value in a_value(), size in 0..40_000_usize) {
            let padding = Value { kind: Some(Kind::StringValue("x".repeat(size % 300))) };
            let list = Value { kind: Some(Kind::ListValue(ListValue { values: vec![padding; size / 300] })) };
            let fields = [("a".to_owned(), value), ("b".to_owned(), list)].into();
            let value = Value { kind: Some(Kind::StructValue(Struct { fields })) };
            if let Some(document) = to_bytes(&value) {
                prop_assert_eq!(from_bytes(&document), Some(value));
            }
        }
    }
}
