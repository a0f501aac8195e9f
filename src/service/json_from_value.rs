//! The JSON document of a `google.protobuf.Value` in a request: compact, keys sorted, and integral doubles up to 2^53
//! without a fraction.
//!
//! The document is written while the encoded value is read. Messages would take many times the memory. Where a field
//! occurs more than once, the rules of protocol buffers apply: the last one wins, and messages are merged.
//!
//! Besides the document, only the members of objects are collected, because they are sorted. Two bytes of a request can
//! be a member, so there is a limit on them.

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

/// Objects may have as many members, for each byte of the limit, in this share. A member takes five bytes or more, as
/// in `"":1,`, so a document within the limit never has more. But of the members with one key only the last counts.
const BYTES_OF_MEMBER: usize = 4;
/// So many are always allowed.
const MIN_MEMBERS: usize = 1_024;

/// The most members that are collected at a time, of all objects together.
fn most_members(limit: usize) -> usize {
    (limit / BYTES_OF_MEMBER).max(MIN_MEMBERS)
}

/// The most bytes that a conversion takes, besides the value. The document is copied as it grows.
pub fn most_conversion_bytes(value: usize, limit: usize) -> usize {
    // An entry has at least a tag and a length. Of a string, one byte can become six.
    let members = most_members(limit).min(value / 2).saturating_mul(size_of::<Member>());
    let document = value.saturating_mul(6).min(limit);
    members.saturating_add(document).saturating_add(document / 2)
}

/// The document, or why there is none. It may have `limit` bytes.
pub fn json_from_value(value: &EncodedValue, limit: usize) -> Result<Vec<u8>, BadValue> {
    let whole = value.bytes();
    // Most documents are shorter than their values.
    let bytes = Vec::with_capacity(whole.len().min(limit));
    let mut document = Document { bytes, length: 0, limit, whole, members_left: most_members(limit) };
    write_value(Merged { outer: &[], number: FIELD_VALUE, part: whole }, MAX_NESTING, &mut document)?;
    match document.length {
        got if got > limit => Err(BadValue::NotJson(ValueError::TooLarge { limit, got })),
        _ => {
            // It may be kept for a while.
            document.bytes.shrink_to_fit();
            Ok(document.bytes)
        }
    }
}

/// What is written. Beyond the limit it is only counted.
struct Document<'a> {
    bytes: Vec<u8>,
    length: usize,
    limit: usize,
    /// What it is written of.
    whole: &'a [u8],
    /// How many more members may be collected now.
    members_left: usize,
}

impl Document<'_> {
    fn push(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        if self.length <= self.limit {
            // Not twice what it had, if that is over the limit.
            if self.length > self.bytes.capacity() {
                let wanted = self.length.max(2 * self.bytes.capacity()).min(self.limit);
                self.bytes.reserve_exact(wanted - self.bytes.len());
            }
            self.bytes.extend_from_slice(bytes);
        }
    }
}

impl io::Write for Document<'_> {
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
    /// From its tag on.
    start: &'a [u8],
}

#[derive(Clone, Copy)]
enum Content<'a> {
    Varint(u64),
    Eight([u8; 8]),
    Four,
    Bytes(&'a [u8]),
}

/// The fields of a message, one after another.
trait Fields<'a>: Copy {
    fn next(&mut self) -> Result<Option<Field<'a>>, BadValue>;
}

impl<'a> Fields<'a> for &'a [u8] {
    fn next(&mut self) -> Result<Option<Field<'a>>, BadValue> {
        next_field(self)
    }
}

/// The fields of a message that has several parts: the fields of `outer` with this number. They are not collected,
/// because each part may have two bytes.
#[derive(Clone, Copy)]
struct Merged<'a, F> {
    outer: F,
    number: u32,
    /// The rest of the part that is being read.
    part: &'a [u8],
}

impl<'a, F: Fields<'a>> Fields<'a> for Merged<'a, F> {
    fn next(&mut self) -> Result<Option<Field<'a>>, BadValue> {
        loop {
            if let Some(field) = next_field(&mut self.part)? {
                return Ok(Some(field));
            }
            match self.outer.next()? {
                None => return Ok(None),
                Some(Field { number, content: Content::Bytes(part), .. }) if number == self.number => self.part = part,
                Some(_) => {}
            }
        }
    }
}

/// A Value: one part in a list, and perhaps more in the entry of a map.
type ValueFields<'a> = Merged<'a, &'a [u8]>;
/// A list or struct, in a Value.
type Contents<'a> = Merged<'a, ValueFields<'a>>;

/// Takes the next field of a message.
fn next_field<'a>(message: &mut &'a [u8]) -> Result<Option<Field<'a>>, BadValue> {
    while !message.is_empty() {
        let start = *message;
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
        return Ok(Some(Field { number, content, start }));
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
const TOO_LONG: BadValue = BadValue::Malformed("the Value has 4 GiB or more");
const WRONG_TYPE: BadValue = BadValue::Malformed("a field of the Value has the wrong wire type");

/// The kind that a Value has.
enum Kind<'a> {
    Null,
    Bool(bool),
    Number(f64),
    String(&'a str),
    Struct(Contents<'a>),
    List(Contents<'a>),
}

fn kind_of(mut fields: ValueFields<'_>) -> Result<Kind<'_>, BadValue> {
    let mut kind = None;
    loop {
        let before = fields;
        let Some(Field { number, content, .. }) = fields.next()? else { break };
        // All parts from the first of its kind on.
        let contents = Merged { outer: before, number, part: &[] };
        kind = Some(match (number, content) {
            (NULL, Content::Varint(_)) => Kind::Null,
            (BOOL, Content::Varint(number)) => Kind::Bool(number != 0),
            (NUMBER, Content::Eight(bytes)) => Kind::Number(f64::from_le_bytes(bytes)),
            (STRING, Content::Bytes(bytes)) => Kind::String(text(bytes)?),
            (STRUCT, Content::Bytes(_)) => match kind {
                Some(same @ Kind::Struct(_)) => same,
                _ => Kind::Struct(contents),
            },
            (LIST, Content::Bytes(_)) => match kind {
                Some(same @ Kind::List(_)) => same,
                _ => Kind::List(contents),
            },
            (NULL..=LIST, _) => return Err(WRONG_TYPE),
            _ => continue,
        });
    }
    kind.ok_or_else(|| not_json("a Value has no kind"))
}

fn text(bytes: &[u8]) -> Result<&str, BadValue> {
    str::from_utf8(bytes).map_err(|_| BadValue::Malformed("a string of the Value is not UTF-8"))
}

fn write_value<'a>(value: ValueFields<'a>, levels: usize, document: &mut Document<'a>) -> Result<(), BadValue> {
    let below = || {
        levels.checked_sub(1).ok_or_else(|| {
            not_json(format!("it is nested more than {MAX_NESTING} levels deep, at most {MAX_NESTING} are allowed"))
        })
    };
    match kind_of(value)? {
        Kind::Null => document.push(b"null"),
        Kind::Bool(true) => document.push(b"true"),
        Kind::Bool(false) => document.push(b"false"),
        Kind::Number(number) => write_number(number, document)?,
        Kind::String(text) => write_json(text, document)?,
        Kind::List(list) => write_list(list, below()?, document)?,
        Kind::Struct(fields) => write_struct(fields, below()?, document)?,
    }
    Ok(())
}

fn write_json(part: impl serde::Serialize, document: &mut Document<'_>) -> Result<(), BadValue> {
    serde_json::to_writer(document, &part).map_err(|e| not_json(e.to_string()))
}

fn write_number(number: f64, document: &mut Document<'_>) -> Result<(), BadValue> {
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

fn write_list<'a>(mut list: Contents<'a>, levels: usize, document: &mut Document<'a>) -> Result<(), BadValue> {
    document.push(b"[");
    let mut first = true;
    while let Some(field) = list.next()? {
        match (field.number, field.content) {
            (ELEMENTS, Content::Bytes(element)) => {
                if !std::mem::take(&mut first) {
                    document.push(b",");
                }
                let element = Merged { outer: &[][..], number: FIELD_VALUE, part: element };
                write_value(element, levels, document)?;
            }
            (ELEMENTS, _) => return Err(WRONG_TYPE),
            _ => {}
        }
    }
    document.push(b"]");
    Ok(())
}

/// An entry of a map: where its field begins in the whole value, and where the field of its key does.
#[derive(Clone, Copy)]
struct Member {
    entry: u32,
    /// [`Member::NO_KEY`] if the entry has none.
    key: u32,
}

impl Member {
    const NO_KEY: u32 = u32::MAX;

    /// Of the field of an entry.
    fn new(field: &[u8], mut entry: &[u8], whole: &[u8]) -> Result<Self, BadValue> {
        let place = |field: &[u8]| {
            let bytes = field.as_ptr() as usize - whole.as_ptr() as usize;
            u32::try_from(bytes).ok().filter(|place| *place != Self::NO_KEY).ok_or(TOO_LONG)
        };
        let mut key = Self::NO_KEY;
        while let Some(field) = next_field(&mut entry)? {
            match (field.number, field.content) {
                (FIELD_KEY, Content::Bytes(bytes)) => {
                    text(bytes)?;
                    key = place(field.start)?;
                }
                (FIELD_VALUE, Content::Bytes(_)) => {}
                (FIELD_KEY | FIELD_VALUE, _) => return Err(WRONG_TYPE),
                _ => {}
            }
        }
        Ok(Self { entry: place(field)?, key })
    }

    fn key(self, whole: &[u8]) -> &[u8] {
        if self.key == Self::NO_KEY { &[] } else { bytes_of_field(self.key, whole) }
    }

    fn entry(self, whole: &[u8]) -> &[u8] {
        bytes_of_field(self.entry, whole)
    }
}

/// What the field that begins here contains. It has been read before.
fn bytes_of_field(place: u32, whole: &[u8]) -> &[u8] {
    match next_field(&mut &whole[place as usize..]) {
        Ok(Some(Field { content: Content::Bytes(bytes), .. })) => bytes,
        _ => &[],
    }
}

/// The members of an object, sorted by their keys. Those with one key are in the order of the value.
fn sorted_members<'a>(fields: Contents<'a>, document: &Document<'a>) -> Result<Vec<Member>, BadValue> {
    let (mut count, mut counted) = (0, fields);
    while let Some(field) = counted.next()? {
        match (field.number, field.content) {
            (FIELDS, Content::Bytes(_)) => count += 1,
            (FIELDS, _) => return Err(WRONG_TYPE),
            _ => {}
        }
    }
    if count > document.members_left {
        let limit = most_members(document.limit);
        let got = limit - document.members_left + count;
        return Err(BadValue::NotJson(ValueError::TooManyMembers { limit, got }));
    }
    let (mut members, mut fields) = (Vec::with_capacity(count), fields);
    // The parts after the last entry are not read once more.
    while members.len() < count
        && let Some(field) = fields.next()?
    {
        if let (FIELDS, Content::Bytes(entry)) = (field.number, field.content) {
            members.push(Member::new(field.start, entry, document.whole)?);
        }
    }
    // Without memory of its own. The order of bytes is that of characters.
    let whole = document.whole;
    members.sort_unstable_by(|a, b| a.key(whole).cmp(b.key(whole)).then(a.entry.cmp(&b.entry)));
    Ok(members)
}

fn write_struct<'a>(fields: Contents<'a>, levels: usize, document: &mut Document<'a>) -> Result<(), BadValue> {
    let members = sorted_members(fields, document)?;
    document.members_left -= members.len();
    document.push(b"{");
    let mut first = true;
    for (i, member) in members.iter().enumerate() {
        let key = member.key(document.whole);
        // Of one key the last entry counts.
        if members.get(i + 1).is_some_and(|next| next.key(document.whole) == key) {
            continue;
        }
        if !std::mem::take(&mut first) {
            document.push(b",");
        }
        write_json(text(key)?, document)?;
        document.push(b":");
        let value = Merged { outer: member.entry(document.whole), number: FIELD_VALUE, part: &[][..] };
        write_value(value, levels, document)?;
    }
    document.push(b"}");
    document.members_left += members.len();
    Ok(())
}
#[cfg(test)]
mod tests;
