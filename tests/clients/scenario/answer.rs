//! What a program printed for a call, and what a step expects of it.

use std::{collections::BTreeMap, ops::RangeInclusive};

use serde::Deserialize;
use serde_json::{Map, Value};
use tonic::Code;

use crate::LANGUAGES;

/// Any value.
const ANY: &str = "*";
/// Any value or none: JSON of protobuf leaves out default values.
const ANY_OR_NONE: &str = "?";
/// As the name of a member: others may be there. As the last element of a list: more may follow.
const OTHERS: &str = "…";
const VERDICTS: &str = "verdicts";
/// Those of gRPC's codes.
const NUMBERS: RangeInclusive<i32> = 0..=16;
/// The bytes of a value that a difference shows.
const SHOWN: usize = 300;

/// One line of a program's output.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub name: String,
    /// The number of a gRPC code.
    code: i32,
    message: String,
    /// The details of the status, or null without an ErrorInfo.
    error: Value,
    /// In the JSON of protobuf.
    responses: Vec<Value>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Expected {
    code: Codes,
    #[serde(default = "any")]
    message: Value,
    #[serde(default)]
    error: Value,
    #[serde(default)]
    responses: Value,
    /// How many verdicts the responses must have if the code is OK.
    verdicts_if_ok: Option<usize>,
}

fn any() -> Value {
    ANY.into()
}

/// Names or numbers of gRPC codes.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Codes {
    One(String),
    OneOf(Vec<String>),
    /// What differs from `*` in some languages.
    ByLanguage(BTreeMap<String, Codes>),
}

impl Codes {
    fn in_language(&self, language: &str) -> &[String] {
        match self {
            Self::One(code) => std::slice::from_ref(code),
            Self::OneOf(codes) => codes,
            Self::ByLanguage(codes) => {
                codes.get(language).or_else(|| codes.get(ANY)).map_or(&[], |codes| codes.in_language(language))
            }
        }
    }

    /// Whether each name is that of a code or language, and no language lacks a code.
    fn are_known(&self) -> Result<(), String> {
        match self {
            Self::One(_) | Self::OneOf(_) => {
                let codes = self.in_language(ANY);
                let unknown = codes.iter().find(|code| number_of(code).is_none());
                if codes.is_empty() {
                    return Err("no code is expected".to_owned());
                }
                unknown.map_or(Ok(()), |code| Err(format!("there is no code {code}")))
            }
            Self::ByLanguage(codes) => {
                let is_known = |name: &str| name == ANY || LANGUAGES.contains(&name);
                if let Some(name) = codes.keys().find(|name| !is_known(name)) {
                    return Err(format!("there is no language {name}"));
                }
                if !codes.contains_key(ANY) {
                    return Err(format!("no code is expected of the languages that are not named: {ANY:?}"));
                }
                codes.values().try_for_each(Self::are_known)
            }
        }
    }
}

impl Expected {
    /// Whether an answer can be as expected.
    pub fn is_possible(&self) -> Result<(), String> {
        self.code.are_known()
    }

    pub fn differences(&self, answer: &Answer, language: &str) -> Vec<String> {
        let mut differences = Vec::new();
        let codes = self.code.in_language(language);
        if !codes.iter().any(|code| number_of(code) == Some(answer.code)) {
            let code = Code::from_i32(answer.code);
            differences.push(format!("expected the code {codes:?}, got {code:?} with {:?}", answer.message));
        }
        differences.extend(difference(&self.message, &answer.message.as_str().into(), "message"));
        differences.extend(difference(&self.error, &answer.error, "error"));
        let verdicts: usize =
            answer.responses.iter().filter_map(|response| Some(response[VERDICTS].as_array()?.len())).sum();
        if let (0, Some(expected)) = (answer.code, self.verdicts_if_ok)
            && expected != verdicts
        {
            differences.push(format!("expected {expected} verdicts, got {verdicts}"));
        }
        // A step without responses expects none.
        let expected = if self.responses.is_null() { Value::Array(Vec::new()) } else { self.responses.clone() };
        differences.extend(difference(&expected, &merged(&answer.responses).into(), "responses"));
        differences
    }
}

/// The number of a code, by its name or number.
fn number_of(code: &str) -> Option<i32> {
    let plain = |text: &str| text.replace('_', "").to_lowercase();
    let is_named = |number: &i32| plain(&format!("{:?}", Code::from_i32(*number))) == plain(code);
    code.parse().ok().filter(|number| NUMBERS.contains(number)).or_else(|| NUMBERS.into_iter().find(is_named))
}

/// A server splits entries and verdicts into messages as it likes. Verdicts come in any order.
fn merged(responses: &[Value]) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::new();
    for mut response in responses.iter().cloned() {
        if let (Some((last_kind, last)), Some((kind, list))) =
            (merged.last_mut().and_then(list_in), list_in(&mut response))
            && last_kind == kind
        {
            last.append(list);
        } else {
            merged.push(response);
        }
    }
    for (kind, list) in merged.iter_mut().filter_map(list_in) {
        if kind == VERDICTS {
            list.sort_by_key(|verdict| verdict["id"].as_str().and_then(|id| id.parse::<u64>().ok()));
        }
    }
    merged
}

/// What the server could have sent in more or fewer messages.
fn list_in(response: &mut Value) -> Option<(&'static str, &mut Vec<Value>)> {
    let response = response.as_object_mut()?;
    if response.contains_key(VERDICTS) {
        return Some((VERDICTS, response.get_mut(VERDICTS)?.as_array_mut()?));
    }
    Some(("entries", response.get_mut("batch")?.get_mut("entries")?.as_array_mut()?))
}

/// The first place where two values differ.
fn difference(expected: &Value, got: &Value, path: &str) -> Option<String> {
    match (expected, got) {
        (Value::String(text), _) if text == ANY || text == ANY_OR_NONE => None,
        (Value::Object(expected), Value::Object(got)) => of_objects(expected, got, path),
        (Value::Array(expected), Value::Array(got)) if has_length_of(expected, got) => {
            let mut pairs = expected.iter().filter(|expected| *expected != OTHERS).zip(got).enumerate();
            pairs.find_map(|(at, (expected, got))| difference(expected, got, &format!("{path}[{at}]")))
        }
        // Some libraries print 1 as 1.0.
        (Value::Number(expected), Value::Number(got)) if expected.as_f64() == got.as_f64() => None,
        _ if expected == got => None,
        _ => Some(format!("{path}: expected {}, got {}", shown(expected), shown(got))),
    }
}

fn has_length_of(expected: &[Value], got: &[Value]) -> bool {
    match expected.split_last() {
        Some((last, first)) if last == OTHERS => first.len() <= got.len(),
        _ => expected.len() == got.len(),
    }
}

fn of_objects(expected: &Map<String, Value>, got: &Map<String, Value>, path: &str) -> Option<String> {
    let named = expected.iter().filter(|(name, _)| *name != OTHERS).find_map(|(name, expected)| {
        let path = format!("{path}.{name}");
        match got.get(name) {
            Some(got) => difference(expected, got, &path),
            None if expected == ANY_OR_NONE => None,
            None => Some(format!("{path}: expected {}, got nothing", shown(expected))),
        }
    });
    let may_have_others = expected.contains_key(OTHERS);
    let mut others = got.iter().filter(|(name, _)| !may_have_others && !expected.contains_key(*name));
    named.or_else(|| others.next().map(|(name, got)| format!("{path}.{name}: expected nothing, got {}", shown(got))))
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    let end = text.floor_char_boundary(SHOWN);
    if end < text.len() { format!("{}… ({} bytes)", &text[..end], text.len()) } else { text }
}
