//! The `google.protobuf.Value` of a stored JSON document, for people with grpcurl.
//!
//! The encoded value is written while the document is read. Messages would take many times the memory.

use std::{borrow::Cow, fmt};

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

/// The document as a Value. `None` if it is not JSON, if a Value can't hold it without loss, or if that would have more
/// than `limit` bytes.
pub fn value_from_json(document: &[u8], limit: usize) -> Option<EncodedValue> {
    let text = std::str::from_utf8(document).ok()?;
    let mut encoder = Encoder { encoded: Vec::new(), limit };
    encoder.value(serde_json::from_str(text).ok()?, MAX_DEPTH)?;
    // The length of a message is written when its end is known, so it is checked once more.
    (encoder.encoded.len() <= limit).then(|| EncodedValue::from_bytes(encoder.encoded))
}

/// The most bytes that the Value of a document with this many bytes has. In `[1,1]` two bytes become eleven. Tags and
/// lengths of nested messages are longer than in most documents on each level once.
pub fn most_encoded_bytes(document: usize) -> usize {
    document.saturating_mul(6).saturating_add(MAX_DEPTH * 32)
}

struct Encoder {
    encoded: Vec<u8>,
    limit: usize,
}

impl Encoder {
    fn value(&mut self, raw: &RawValue, depth: usize) -> Option<()> {
        if self.encoded.len() > self.limit {
            return None;
        }
        let text = raw.get();
        match text.as_bytes().first()? {
            b'n' => self.varint(NULL, 0),
            b't' => self.varint(BOOL, 1),
            b'f' => self.varint(BOOL, 0),
            b'"' => {
                let Text(text) = serde_json::from_str(text).ok()?;
                self.text(STRING, &text);
            }
            b'[' => {
                let depth = depth.checked_sub(1)?;
                self.message(LIST, |encoder| {
                    serde_json::Deserializer::from_str(text).deserialize_seq(Elements { encoder, depth }).ok()
                })?;
            }
            b'{' => {
                let depth = depth.checked_sub(1)?;
                let most = self.limit / MIN_MEMBER_BYTES;
                let mut members = serde_json::Deserializer::from_str(text).deserialize_map(Members { most }).ok()?;
                members.sort_by(|(a, _), (b, _)| a.cmp(b));
                if members.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                    return None;
                }
                self.message(STRUCT, |encoder| {
                    members.iter().try_for_each(|(key, value)| {
                        encoder.message(FIELDS, |encoder| {
                            if !key.is_empty() {
                                encoder.text(FIELD_KEY, key);
                            }
                            encoder.message(FIELD_VALUE, |encoder| encoder.value(value, depth))
                        })
                    })
                })?;
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

    fn text(&mut self, field: u32, text: &str) {
        encode_key(field, WireType::LengthDelimited, &mut self.encoded);
        encode_varint(text.len() as u64, &mut self.encoded);
        self.encoded.extend_from_slice(text.as_bytes());
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
struct Elements<'e> {
    encoder: &'e mut Encoder,
    depth: usize,
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<&RawValue>()? {
            let encoded = self.encoder.message(ELEMENTS, |encoder| encoder.value(element, self.depth));
            encoded.ok_or_else(|| A::Error::custom("it stays raw"))?;
        }
        Ok(())
    }
}

/// Collects an object's members in order, with repeated keys kept. Fails if there are more than `most`.
struct Members {
    most: usize,
}

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Text(key), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
            if members.len() > self.most {
                return Err(A::Error::custom("it stays raw"));
            }
            members.push((key, value));
        }
        Ok(members)
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
