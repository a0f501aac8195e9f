//! Entries as JSON Lines, and back. A value that is JSON without a line break stands in its line byte for byte.
//! Other values are base64.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::proto::v1;

/// A line of `load`, `stream` and `export`, and what `import` reads.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// The JSON document, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    #[serde(default, alias = "deleted", skip_serializing_if = "is_false")]
    pub tombstone: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderLine>,
}

/// A header: `value`, `value_base64`, or neither for null.
#[derive(Debug, Serialize, Deserialize)]
pub struct HeaderLine {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn is_false(b: &bool) -> bool {
    !b
}

/// The document byte for byte, if it fits in a line.
fn inline(bytes: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(bytes).ok()?;
    // RawValue drops white space around a document, and a line can hold no line break.
    if text.contains(['\n', '\r']) || text.trim_ascii() != text {
        return None;
    }
    RawValue::from_string(text.to_owned()).ok()
}

/// RFC 3339, UTC, milliseconds.
pub fn timestamp(of: &prost_types::Timestamp) -> Option<String> {
    let timestamp = jiff::Timestamp::new(of.seconds, of.nanos).ok()?;
    Some(format!("{timestamp:.3}"))
}

impl Line {
    /// The line of an entry. `place` adds partition, offset and timestamp.
    pub fn of(entry: &v1::Entry, place: bool) -> Self {
        let raw = match &entry.value {
            Some(v1::entry::Value::Raw(raw)) => Some(raw),
            _ => None,
        };
        let value = raw.and_then(|raw| inline(raw));
        let value_base64 = if value.is_none() { raw.map(|raw| BASE64_STANDARD.encode(raw)) } else { None };
        Self {
            key: entry.key.clone(),
            partition: place.then_some(entry.partition),
            offset: place.then_some(entry.offset),
            timestamp: entry.timestamp.as_ref().filter(|_| place).and_then(timestamp),
            value,
            value_base64,
            tombstone: entry.is_tombstone,
            headers: entry.headers.iter().map(HeaderLine::of).collect(),
        }
    }

    /// The value to write; `None` deletes.
    pub fn into_value(self) -> Result<Option<Bytes>, String> {
        match (self.tombstone, self.value, self.value_base64) {
            (true, None, None) => Ok(None),
            (false, Some(value), None) => Ok(Some(String::from(Box::<str>::from(value)).into())),
            (false, None, Some(text)) => decode(&text).map(Some),
            (false, None, None) => Err("has neither value, value_base64 nor tombstone".to_owned()),
            _ => Err("must have exactly one of value, value_base64 and tombstone".to_owned()),
        }
    }
}

fn decode(text: &str) -> Result<Bytes, String> {
    BASE64_STANDARD.decode(text).map(Bytes::from).map_err(|e| format!("value_base64 is not base64: {e}"))
}

impl HeaderLine {
    fn of(header: &v1::Header) -> Self {
        let text = header.value.as_ref().and_then(|v| String::from_utf8(v.to_vec()).ok());
        let value_base64 = header.value.as_ref().filter(|_| text.is_none()).map(|v| BASE64_STANDARD.encode(v));
        Self { key: header.key.clone(), value: text, value_base64 }
    }

    pub fn into_header(self) -> Result<v1::Header, String> {
        let value = match (self.value, self.value_base64) {
            (Some(_), Some(_)) => return Err("a header has both value and value_base64".to_owned()),
            (Some(text), None) => Some(text.into()),
            (None, Some(text)) => Some(decode(&text)?),
            (None, None) => None,
        };
        Ok(v1::Header { key: self.key, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &'static [u8]) -> v1::Entry {
        v1::Entry {
            key: "w/t/i".to_owned(),
            value: Some(v1::entry::Value::Raw(value.into())),
            timestamp: Some(prost_types::Timestamp { seconds: 1, nanos: 5_000_000 }),
            ..Default::default()
        }
    }

    /// Covers C65.
    #[test]
    fn values_pass_through_a_line_byte_for_byte() {
        let values: [&[u8]; 8] = [
            b"{ \"b\" : 1.50,  \"a\":[ ] }",
            b"12345678901234567890",
            b" 1 ",
            b"{\n}",
            b"\xff",
            b"",
            b"not json",
            "\"\u{2028}é\"".as_bytes(),
        ];
        for value in values {
            let line = serde_json::to_string(&Line::of(&entry(value), true)).unwrap();
            assert_eq!(line.lines().count(), 1);
            let back: Line = serde_json::from_str(&line).unwrap();
            assert_eq!(back.into_value().unwrap().as_deref(), Some(value), "{line}");
        }
        let line = serde_json::to_string(&Line::of(&entry(b"{ \"a\" :1}"), true)).unwrap();
        assert!(line.ends_with("\"timestamp\":\"1970-01-01T00:00:01.005Z\",\"value\":{ \"a\" :1}}"), "{line}");
    }

    /// Covers C65.
    #[test]
    fn tombstones_and_null_headers_pass_through_a_line() {
        let header =
            |value: Option<&'static [u8]>| v1::Header { key: "h".to_owned(), value: value.map(Bytes::from_static) };
        let headers = vec![header(None), header(Some(b"")), header(Some(b"x")), header(Some(b"\xff"))];
        let entry = v1::Entry { is_tombstone: true, value: None, headers: headers.clone(), ..entry(b"") };
        let line = serde_json::to_string(&Line::of(&entry, false)).unwrap();
        let mut back: Line = serde_json::from_str(&line).unwrap();
        let found: Vec<_> = std::mem::take(&mut back.headers).into_iter().map(|h| h.into_header().unwrap()).collect();
        assert_eq!(found, headers);
        assert_eq!(back.into_value(), Ok(None));
    }

    /// Covers C65.
    #[test]
    fn lines_of_version_0_1_0_and_members_of_later_ones_are_read() {
        let exported =
            "{\"key\":\"w/t/i\",\"value\":{ \"a\" :1},\"headers\":[{\"key\":\"h\",\"value\":\"v\"},{\"key\":\"n\"}]}";
        for line in [exported.to_owned(), exported.replacen('{', "{\"later\":[1],", 1)] {
            let line: Line = serde_json::from_str(&line).unwrap();
            assert_eq!((&*line.key, line.headers.len()), ("w/t/i", 2));
            assert_eq!(line.into_value().unwrap().as_deref(), Some(&b"{ \"a\" :1}"[..]));
        }
        let deleted: Line = serde_json::from_str("{\"key\":\"w/t/i\",\"deleted\":true}").unwrap();
        assert_eq!(deleted.into_value(), Ok(None));
    }

    /// Covers C65.
    #[test]
    fn lines_without_a_record_or_with_two_values_are_refused() {
        for bad in [
            "{\"key\":\"k\"}",
            "{\"key\":\"k\",\"value\":1,\"deleted\":true}",
            "{\"key\":\"k\",\"value_base64\":\"?\"}",
        ] {
            let line: Line = serde_json::from_str(bad).unwrap();
            assert!(line.into_value().is_err(), "{bad}");
        }
    }
}
