//! The shorthands of the files in `steps/`:
//!
//! - `$id` in a text is the part of a workspace's name that makes it unique.
//! - `{"$repeat": 3, "of": …}` in a list is three elements. `$n` in their texts is 1, 2 and 3.
//! - `{"$base64": "text"}` is the text in base64, as JSON has bytes.
//! - `{"$document": 100}` is a JSON document of 100 bytes, in base64.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Map, Value};

pub fn expanded(value: &Value, id: &str) -> Result<Value, String> {
    let replaced = |text: &str| text.replace("$id", id);
    Ok(match value {
        Value::String(text) => Value::String(replaced(text)),
        Value::Array(list) => Value::Array(list_of(list, id)?),
        Value::Object(object) => match shorthand(object)? {
            None => {
                let members = object.iter().map(|(name, value)| Ok((replaced(name), expanded(value, id)?)));
                Value::Object(members.collect::<Result<_, String>>()?)
            }
            Some(Shorthand::Text(text)) => Value::String(BASE64_STANDARD.encode(replaced(text))),
            Some(Shorthand::Document(bytes)) => Value::String(BASE64_STANDARD.encode(document(bytes))),
            Some(Shorthand::Repeat(..)) => return Err("$repeat is for elements of lists".to_owned()),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    })
}

fn list_of(list: &[Value], id: &str) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    for element in list {
        let repeat = element.as_object().map(shorthand).transpose()?.flatten();
        if let Some(Shorthand::Repeat(times, of)) = repeat {
            let of = expanded(of, id)?;
            all.extend((1..=times).map(|n| numbered(&of, &n.to_string())));
        } else {
            all.push(expanded(element, id)?);
        }
    }
    Ok(all)
}

/// In nested repetitions `$n` is the number of the inner one.
fn numbered(value: &Value, n: &str) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace("$n", n)),
        Value::Array(list) => list.iter().map(|value| numbered(value, n)).collect(),
        Value::Object(object) => {
            object.iter().map(|(name, value)| (name.clone(), numbered(value, n))).collect::<Map<_, _>>().into()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// The bytes of the shortest document.
const QUOTATION_MARKS: usize = 2;

enum Shorthand<'a> {
    Repeat(u64, &'a Value),
    Text(&'a str),
    Document(usize),
}

fn shorthand(object: &Map<String, Value>) -> Result<Option<Shorthand<'_>>, String> {
    let Some(name) = object.keys().find(|name| name.starts_with('$') && !name.starts_with("$id")) else {
        return Ok(None);
    };
    let value = &object[name];
    let found = match (name.as_str(), object.len()) {
        ("$repeat", 2) => value.as_u64().zip(object.get("of")).map(|(times, of)| Shorthand::Repeat(times, of)),
        ("$base64", 1) => value.as_str().map(Shorthand::Text),
        ("$document", 1) => {
            let bytes = value.as_u64().and_then(|bytes| usize::try_from(bytes).ok());
            bytes.filter(|bytes| *bytes >= QUOTATION_MARKS).map(Shorthand::Document)
        }
        _ => None,
    };
    found.map(Some).ok_or_else(|| format!("{name} is no shorthand, or not written as one"))
}

/// A JSON string with this many bytes, its quotation marks included.
fn document(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - QUOTATION_MARKS))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shorthands_are_expanded() {
        let value = json!({"key-$id": ["$id.$n", {"$repeat": 2, "of": {"n": "$n", "in": "$id"}}, 1, null]});
        let expected = json!({"key-7": ["7.$n", {"n": "1", "in": "7"}, {"n": "2", "in": "7"}, 1, null]});
        assert_eq!(expanded(&value, "7").unwrap(), expected);
        let nested = json!([{"$repeat": 2, "of": [{"$repeat": 2, "of": "$n"}]}]);
        assert_eq!(expanded(&nested, "").unwrap(), json!([["1", "2"], ["1", "2"]]));
        assert_eq!(expanded(&json!({"raw": {"$base64": "{}"}}), "").unwrap(), json!({"raw": "e30="}));
        assert_eq!(expanded(&json!({"raw": {"$document": 4}}), "").unwrap(), json!({"raw": "Inh4Ig=="}));
    }

    #[test]
    fn what_looks_like_a_shorthand_is_one() {
        for wrong in [
            json!({"$repeat": 2, "of": 1}),
            json!([{"$repeat": "2", "of": 1}]),
            json!([{"$repeat": 2}]),
            json!({"$document": 1}),
            json!({"$base64": "a", "more": 1}),
            json!({"$other": 1}),
        ] {
            expanded(&wrong, "").unwrap_err();
        }
    }
}
