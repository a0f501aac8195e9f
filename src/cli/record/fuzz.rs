//! Fuzz target: the lines that `import` reads, next to a second definition of them, and back from `export`.

#![allow(clippy::option_option, reason = "a bad line or member is the outer None, and what it says the inner option")]

use std::{
    fmt, io,
    sync::{Arc, Mutex},
};

use changelogd_testkit::fuzz::{config, corpus, mutated, mutations};
use futures_util::FutureExt;
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde::de::{Deserializer as _, MapAccess, Visitor};

use super::*;
use crate::cli::{format::Format, import::lines::Lines, output::Output};

/// The members of an object in their order, repeated ones included.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Self(Vec::new()))
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(member) = map.next_entry()? {
            self.0.push(member);
        }
        Ok(self)
    }
}

fn members(text: &str) -> Option<Vec<(String, Box<RawValue>)>> {
    let mut from = serde_json::Deserializer::from_str(text);
    let Members(members) = from.deserialize_map(Members(Vec::new())).ok()?;
    from.end().ok()?;
    let repeated = members.iter().enumerate().any(|(i, (name, _))| members[..i].iter().any(|(n, _)| n == name));
    (!repeated).then_some(members)
}

/// The text of a member, or that it is absent or null. `None` if it is something else.
fn text(raw: Option<&RawValue>) -> Option<Option<String>> {
    raw.map_or(Some(None), |raw| serde_json::from_str(raw.get()).ok())
}

fn bytes(value: Option<String>, base64: Option<String>) -> Option<Option<Bytes>> {
    match (value, base64) {
        (Some(_), Some(_)) => None,
        (value, None) => Some(value.map(Into::into)),
        (None, Some(text)) => Some(Some(BASE64_STANDARD.decode(text).ok()?.into())),
    }
}

fn header(members: &[(String, Box<RawValue>)]) -> Option<v1::Header> {
    let of = |wanted: &str| members.iter().find(|(name, _)| name == wanted).map(|(_, raw)| &**raw);
    if members.iter().any(|(name, _)| !["key", "value", "value_base64"].contains(&&**name)) {
        return None;
    }
    Some(v1::Header { key: text(of("key"))??, value: bytes(text(of("value"))?, text(of("value_base64"))?)? })
}

/// What a line says, written again without the parser's code: a change, nothing to write, or `None` for a bad line.
fn said(line: &str) -> Option<Option<Change>> {
    const NAMES: [&str; 11] = [
        "key",
        "partition",
        "offset",
        "timestamp",
        "value",
        "value_base64",
        "tombstone",
        "deleted",
        "headers",
        "snapshot",
        "bookmark",
    ];
    let members = members(line)?;
    let of = |wanted: &str| members.iter().find(|(name, _)| name == wanted).map(|(_, raw)| &**raw);
    if members.iter().any(|(name, _)| !NAMES.contains(&&**name)) || (of("tombstone").and(of("deleted"))).is_some() {
        return None;
    }
    for (number, fits) in [("partition", i32::MAX.into()), ("offset", i64::MAX)] {
        let raw = of(number).map_or("null", RawValue::get);
        let found: Option<i64> = serde_json::from_str(raw).ok()?;
        found.is_none_or(|n| (-fits - 1..=fits).contains(&n)).then_some(())?;
    }
    let (key, base64) = (text(of("key"))?, text(of("value_base64"))?);
    text(of("timestamp"))?;
    let deleted = of("tombstone").or(of("deleted")).map_or(Some(false), |raw| raw.get().parse().ok())?;
    let headers: Vec<Members> = of("headers").map_or(Some(Vec::new()), |raw| serde_json::from_str(raw.get()).ok())?;
    let repeated =
        |Members(all): &Members| all.iter().enumerate().any(|(i, (name, _))| all[..i].iter().any(|(n, _)| n == name));
    if headers.iter().any(repeated) {
        return None;
    }
    let headers: Option<Vec<_>> = headers.iter().map(|Members(all)| header(all)).collect();
    let marks = ["snapshot", "bookmark"].iter().filter(|mark| of(mark).is_some_and(|raw| raw.get() != "null")).count();
    let value = of("value").map(|raw| raw.get().to_owned());
    let says_more =
        key.is_some() || value.is_some() || base64.is_some() || deleted || !headers.as_ref().is_some_and(Vec::is_empty);
    if marks > 0 {
        return (marks == 1 && !says_more).then_some(None);
    }
    let present = usize::from(value.is_some()) + usize::from(base64.is_some()) + usize::from(deleted);
    if present != 1 {
        return None;
    }
    Some(Some(Change { key: key?, value: bytes(value, base64)?, headers: headers? }))
}

/// What the parser makes of a line, in the form of [`said`].
fn parsed(line: &str) -> Option<Option<Change>> {
    parse(line).ok()
}

const VALUES: [&str; 24] = [
    "null",
    "true",
    "false",
    "\"w/t/i\"",
    "\"\"",
    "\"bnVsbA==\"",
    "\"?\"",
    "\"\\u0000\\ud83d\\ude00\"",
    "\"\\ud800\"",
    "0",
    "-1",
    "1.5",
    "2147483648",
    "12345678901234567890",
    "1e400",
    "{}",
    "[]",
    "[{\"key\":\"h\"}]",
    "[{\"key\":\"h\",\"value\":null}]",
    "[{\"key\":\"h\",\"value\":\"v\"},{\"key\":\"\",\"value_base64\":\"/w==\"}]",
    "[{\"key\":\"h\",\"value\":\"v\",\"value_base64\":\"\"}]",
    "[[\"h\",\"v\",null]]",
    "{ \"a\" :\t[1, {\"b\":null}] }",
    "\"\u{202e}\u{feff}\"",
];

const MEMBERS: [&str; 15] = [
    "key",
    "key",
    "value",
    "value_base64",
    "tombstone",
    "deleted",
    "headers",
    "partition",
    "offset",
    "timestamp",
    "snapshot",
    "bookmark",
    "later",
    "Key",
    "\\u006bey",
];

fn member() -> impl Strategy<Value = String> {
    (select(&MEMBERS[..]), select(&VALUES[..])).prop_map(|(name, value)| format!("\"{name}\":{value}"))
}

/// Most lines have a key and one more member, so that many are good.
fn line() -> impl Strategy<Value = String> {
    let good = prop_oneof![
        select(&VALUES[..]).prop_map(|value| format!("\"value\":{value}")),
        Just("\"value_base64\":\"bnVsbA==\"".to_owned()),
        Just("\"tombstone\":true".to_owned()),
    ];
    prop_oneof![
        3 => (good, vec(member(), 0..2)).prop_map(|(good, more)| {
            [vec!["\"key\":\"w/t/i\"".to_owned(), good], more].concat().join(",")
        }),
        1 => vec(member(), 0..5).prop_map(|members| members.join(",")),
    ]
    .prop_flat_map(|members| {
        select(vec![format!("{{{members}}}"), format!(" {{ {members}\t}} "), format!("[{members}]")])
    })
}

fn json() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        select(&VALUES[..]).prop_map(|text| text.as_bytes().to_vec()),
        any::<String>().prop_map(|text| serde_json::to_vec(&text).unwrap()),
        vec(any::<u8>(), 0..16),
    ]
}

/// An entry, and the change that it stands for.
fn entry() -> impl Strategy<Value = (v1::Entry, Change)> {
    let headers = vec((any::<String>(), option::of(vec(any::<u8>(), 0..8))), 0..3);
    (any::<String>(), option::weighted(0.9, json()), headers).prop_map(|(key, value, headers)| {
        let header = |(key, value): (String, Option<Vec<u8>>)| v1::Header { key, value: value.map(Into::into) };
        let headers: Vec<_> = headers.into_iter().map(header).collect();
        let value: Option<Bytes> = value.map(Into::into);
        let entry = v1::Entry {
            key: key.clone(),
            is_tombstone: value.is_none(),
            value: value.clone().map(v1::entry::Value::Raw),
            headers: headers.clone(),
            ..Default::default()
        };
        (entry, Change { key, value, headers })
    })
}

/// Where an export is written.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

proptest! {
    #![proptest_config(config())]

    /// Covers C65, S15.
    #[test]
    fn a_line_is_read_exactly_as_its_definition_says(
        (one, other) in (line(), line()),
        changes in prop_oneof![Just(Vec::new()), mutations()],
    ) {
        let bytes = mutated(one.as_bytes(), other.as_bytes(), &changes);
        let text = String::from_utf8_lossy(&bytes);
        prop_assert_eq!(parsed(&text), said(&text), "{}", text);
    }

    /// Covers C16, C65, S15.
    #[test]
    fn what_is_exported_is_read_back_as_the_same_write(entries in vec(entry(), 1..4), place in any::<bool>()) {
        let shared = Shared::default();
        let mut output = Output::new(Format::Json, Box::new(shared.clone()));
        for (entry, _) in &entries {
            prop_assert!(output.export(&Line::of(entry, place)).is_ok());
        }
        prop_assert!(output.flush().is_ok());
        let written = shared.0.lock().unwrap().clone();
        let mut lines = Lines::new(&written[..], usize::MAX);
        for (number, (_, expected)) in (1..).zip(entries) {
            // A reader of bytes in memory never waits.
            let line = lines.next().now_or_never().expect("it is ready");
            let line = line.map_err(|error| TestCaseError::fail(error.to_string()))?.expect("a line");
            prop_assert_eq!(line.number, number);
            let text = line.text.map_err(TestCaseError::fail)?;
            prop_assert_eq!(parsed(text), Some(Some(expected)), "{}", text);
        }
        prop_assert!(matches!(lines.next().now_or_never(), Some(Ok(None))), "no more lines");
    }
}

/// Covers C65, S15.
#[test]
fn the_corpus_of_lines_is_read_as_it_says() {
    for input in corpus(include_str!("../../../tests/corpus/lines.txt")) {
        let (line, rest) = input.parts.split_first().expect("a line");
        let text = std::str::from_utf8(line).expect("UTF-8");
        let found = parse(text);
        let (outcome, parts) = match &found {
            Ok(Some(Change { key, value: Some(value), .. })) => ("set", vec![key.as_bytes(), value]),
            Ok(Some(Change { key, value: None, .. })) => ("delete", vec![key.as_bytes()]),
            Ok(None) => ("skipped", vec![]),
            Err(_) => ("refused", vec![]),
        };
        assert_eq!(
            (outcome, parts),
            (&*input.expected, rest.iter().map(Vec::as_slice).collect()),
            "{}: {found:?}",
            input.line
        );
        assert_eq!(said(text), found.ok(), "line {}: the second definition", input.line);
    }
}
