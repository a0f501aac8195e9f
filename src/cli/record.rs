//! Entries as JSON Lines, and back. A value that is JSON without a line break stands in its line byte for byte.
//! Other values are base64.
//!
//! Promises: what `export` prints is read back as the same write, or `export` fails. A line that is read has no member
//! that this version does not know, because to ignore one could lose what it stands for.

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use changelog_core::{
    model::{Header, Headers},
    rule::{Rule, holds},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, IgnoredAny},
};
use serde_json::value::RawValue;

use crate::proto::v1;

/// A line of `load`, `stream` and `export`.
#[derive(Debug, Serialize)]
pub struct Line {
    pub key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<String>,
    /// The JSON document, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    pub tombstone: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderLine>,
}

/// A header: `value`, `value_base64`, or neither for null.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderLine {
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
}

/// A line that `import` reads: one of [`Line`], or a Snapshot or Bookmark between them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct InputLine {
    key: Option<String>,
    // Where the record was. It gets another place.
    #[serde(rename = "partition")]
    _partition: Option<i32>,
    #[serde(rename = "offset")]
    _offset: Option<i64>,
    #[serde(rename = "timestamp")]
    _timestamp: Option<String>,
    #[serde(default, deserialize_with = "present")]
    value: Option<Box<RawValue>>,
    value_base64: Option<String>,
    #[serde(default, alias = "deleted")]
    tombstone: bool,
    #[serde(default, deserialize_with = "objects")]
    headers: Vec<HeaderLine>,
    snapshot: Option<IgnoredAny>,
    bookmark: Option<IgnoredAny>,
}

/// `null` is a value, and not the same as no value.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Box<RawValue>>, D::Error> {
    let value = Box::<RawValue>::deserialize(value)?;
    Ok((value.get() != "null" || holds(Rule::NullIsAValue)).then_some(value))
}

/// serde reads an array as an object, too: its elements as members. That would read lines of other formats.
fn objects<'de, D: Deserializer<'de>>(headers: D) -> Result<Vec<HeaderLine>, D::Error> {
    let headers = Vec::<Box<RawValue>>::deserialize(headers)?;
    headers.into_iter().map(|header| object(header.get()).map_err(de::Error::custom)).collect()
}

fn object<'a, T: Deserialize<'a>>(text: &'a str) -> serde_json::Result<T> {
    let value = serde_json::from_str(text)?;
    if text.trim_ascii_start().starts_with('{') { Ok(value) } else { Err(de::Error::custom("it is no object")) }
}

/// What a line says to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub key: String,
    /// `None` deletes.
    pub value: Option<Bytes>,
    pub headers: Vec<v1::Header>,
}

/// Why a line says nothing to write.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Empty if it is not known.
    pub key: String,
    pub why: String,
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
}

/// Why no server takes this entry back. Other clients can write records that a request may not have.
pub fn not_importable(entry: &v1::Entry) -> Option<String> {
    let headers = entry.headers.iter().map(|h| Header { key: h.key.clone(), value: h.value.clone() });
    match (&entry.value, entry.is_tombstone) {
        (Some(v1::entry::Value::Raw(_)), false) | (None, true) => {
            Headers::new(headers.collect()).err().map(|error| error.to_string())
        }
        _ => Some("it has neither bytes nor a tombstone".to_owned()),
    }
}

/// The change of a line. `None` for a Snapshot or a Bookmark.
pub fn parse(line: &str) -> Result<Option<Change>, BadLine> {
    let bad = |key: &str, why: String| BadLine { key: key.to_owned(), why };
    let line: InputLine = object(line).map_err(|error| bad("", without_line_number(&error)))?;
    let InputLine { key, value, value_base64, tombstone, headers, .. } = line;
    let has_change = key.is_some() || value.is_some() || value_base64.is_some() || tombstone || !headers.is_empty();
    match (line.snapshot.is_some(), line.bookmark.is_some(), has_change) {
        (false, false, _) => {}
        (true, true, _) | (_, _, true) => {
            return Err(bad(&key.unwrap_or_default(), "has a snapshot or a bookmark next to other members".to_owned()));
        }
        (true, false, false) | (false, true, false) => return Ok(None),
    }
    let Some(key) = key else { return Err(bad("", "has no key".to_owned())) };
    let headers = headers.into_iter().map(HeaderLine::into_header).collect::<Result<_, _>>();
    let headers = headers.map_err(|why| bad(&key, why))?;
    let value = match (tombstone, value, value_base64) {
        (true, None, None) => None,
        (false, Some(value), None) => Some(String::from(Box::<str>::from(value)).into()),
        (false, None, Some(text)) => Some(decode(&text).map_err(|why| bad(&key, why))?),
        (false, None, None) => return Err(bad(&key, "has neither value, value_base64 nor tombstone".to_owned())),
        _ => return Err(bad(&key, "must have exactly one of value, value_base64 and tombstone".to_owned())),
    };
    Ok(Some(Change { key, value, headers }))
}

/// To serde_json each line is the first.
fn without_line_number(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).map_or(text.clone(), |text| format!("{text} (column {})", error.column()))
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

    fn into_header(self) -> Result<v1::Header, String> {
        let value = match (self.value, self.value_base64) {
            (Some(_), Some(_)) => return Err("a header has both value and value_base64".to_owned()),
            (Some(text), None) => Some(text.into()),
            (None, Some(text)) => Some(decode(&text)?),
            (None, None) => None,
        };
        Ok(v1::Header { key: self.key, value })
    }
}
