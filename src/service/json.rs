//! `google.protobuf.Value` in requests and responses, for people with grpcurl.

use std::{borrow::Cow, fmt};

use changelog_core::model::ValueError;
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Values nested deeper than this are returned raw.
const MAX_DEPTH: usize = 32;

/// The largest integer up to which every integer is a double: 2^53.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Compact JSON, keys sorted, integral doubles up to 2^53 without a fraction.
pub fn to_bytes(value: &Value) -> Result<Vec<u8>, ValueError> {
    let value = to_json(value).map_err(|problem| ValueError::NotJson { problem: problem.to_owned() })?;
    serde_json::to_vec(&value).map_err(|e| ValueError::NotJson { problem: e.to_string() })
}

fn to_json(value: &Value) -> Result<serde_json::Value, &'static str> {
    Ok(match value.kind.as_ref().ok_or("a Value has no kind")? {
        Kind::NullValue(_) => serde_json::Value::Null,
        Kind::BoolValue(b) => (*b).into(),
        Kind::StringValue(s) => s.as_str().into(),
        Kind::NumberValue(n) if !n.is_finite() => {
            return Err("a number is not finite (JSON has no NaN and no infinities)");
        }
        // -0 keeps its sign, as a fraction.
        Kind::NumberValue(n) if n.fract() == 0.0 && n.abs() <= MAX_EXACT && !(*n == 0.0 && n.is_sign_negative()) => {
            (*n as i64).into()
        }
        Kind::NumberValue(n) => (*n).into(),
        Kind::ListValue(list) => list.values.iter().map(to_json).collect::<Result<Vec<_>, _>>()?.into(),
        // serde_json's map sorts its keys.
        Kind::StructValue(fields) => serde_json::Value::Object(
            fields.fields.iter().map(|(k, v)| Ok((k.clone(), to_json(v)?))).collect::<Result<_, &'static str>>()?,
        ),
    })
}

/// The document as a Value; `None` if it is not JSON, or if a Value can't hold it without loss.
pub fn from_bytes(bytes: &[u8]) -> Option<Value> {
    let text = std::str::from_utf8(bytes).ok()?;
    from_raw(serde_json::from_str(text).ok()?, MAX_DEPTH)
}

fn from_raw(raw: &RawValue, depth: usize) -> Option<Value> {
    let text = raw.get();
    let kind = match text.as_bytes().first()? {
        b'n' => Kind::NullValue(0),
        b't' => Kind::BoolValue(true),
        b'f' => Kind::BoolValue(false),
        b'"' => Kind::StringValue(serde_json::from_str(text).ok()?),
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let values = items.into_iter().map(|i| from_raw(i, depth.checked_sub(1)?)).collect::<Option<_>>()?;
            Kind::ListValue(ListValue { values })
        }
        b'{' => {
            let Members(members) = serde_json::from_str(text).ok()?;
            let count = members.len();
            let fields: std::collections::BTreeMap<_, _> = members
                .into_iter()
                .map(|(key, item)| Some((key, from_raw(item, depth.checked_sub(1)?)?)))
                .collect::<Option<_>>()?;
            if fields.len() != count {
                return None;
            }
            Kind::StructValue(Struct { fields })
        }
        _ => Kind::NumberValue(exact(text)?),
    };
    Some(Value { kind: Some(kind) })
}

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

/// An object's members in order, with repeated keys kept.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<Cow<'de, str>, &'de RawValue>()? {
                    members.push((key.into_owned(), value));
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Collect).map(Members)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(n: f64) -> Value {
        Value { kind: Some(Kind::NumberValue(n)) }
    }

    fn stored(text: &str) -> String {
        String::from_utf8(to_bytes(&from_bytes(text.as_bytes()).expect(text)).unwrap()).unwrap()
    }

    /// Covers C14.
    #[test]
    fn values_are_stored_compact_with_sorted_keys_and_integers_without_a_fraction() {
        assert_eq!(stored(r#"{ "b": 1.0, "a": [true, null, "x"] }"#), r#"{"a":[true,null,"x"],"b":1}"#);
        assert_eq!(to_bytes(&number(9_007_199_254_740_992.0)).unwrap(), b"9007199254740992");
        assert_eq!(to_bytes(&number(-3.0)).unwrap(), b"-3");
        assert_eq!(to_bytes(&number(1.5)).unwrap(), b"1.5");
        assert_eq!(to_bytes(&Value { kind: Some(Kind::NullValue(0)) }).unwrap(), b"null");
    }

    /// Covers C14, B11.
    #[test]
    fn values_that_json_cannot_express_are_refused() {
        for bad in [number(f64::NAN), number(f64::INFINITY), Value { kind: None }] {
            assert!(matches!(to_bytes(&bad), Err(ValueError::NotJson { .. })));
            let list = Value { kind: Some(Kind::ListValue(ListValue { values: vec![bad] })) };
            assert!(matches!(to_bytes(&list), Err(ValueError::NotJson { .. })));
        }
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
        assert_eq!(to_bytes(&number(tie)).unwrap(), b"1131508164979449.2");
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
    }
}
