//! Rules for values.

use serde::de::IgnoredAny;

/// The most levels of arrays and objects in a JSON document. Parsers fail on deeper ones. serde_json takes as many.
const MAX_NESTING: usize = 127;

/// The form of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueMode {
    /// A JSON document (RFC 8259) with at most 127 levels, stored byte for byte as sent.
    Json,
    /// Any bytes. An empty value is allowed.
    Opaque,
}

/// The rules for values of one deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueRules {
    /// The form of values.
    pub mode: ValueMode,
    /// The most bytes of a value.
    pub max_bytes: usize,
}

/// Why a value is refused. Contains no bytes of the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Over the limit.
    #[error("the value has {got} bytes, at most {limit} are allowed")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// Its bytes.
        got: usize,
    },
    /// Its objects have more members than a value within the limit can have, because keys occur more than once.
    #[error("the value is too large: its objects have {got} members, at most {limit} are allowed")]
    TooManyMembers {
        /// The limit.
        limit: usize,
        /// How many of them were counted.
        got: usize,
    },
    /// Not JSON.
    #[error("the value is not JSON: {problem}")]
    NotJson {
        /// The error and its position, without bytes of the value.
        problem: String,
    },
}

impl ValueRules {
    /// Checks one value.
    pub fn check(&self, value: &[u8]) -> Result<(), ValueError> {
        if value.len() > self.max_bytes {
            return Err(ValueError::TooLarge { limit: self.max_bytes, got: value.len() });
        }
        if self.mode == ValueMode::Opaque {
            return Ok(());
        }
        let not_json = |problem| ValueError::NotJson { problem };
        // serde_json does not check the encoding of strings that it ignores.
        let text = str::from_utf8(value).map_err(|e| not_json(format!("not UTF-8 at byte {}", e.valid_up_to())))?;
        serde_json::from_str::<IgnoredAny>(text).map_err(|e| not_json(e.to_string()))?;
        match nesting(value) {
            levels if levels > MAX_NESTING => {
                Err(not_json(format!("it is nested {levels} levels deep, at most {MAX_NESTING} are allowed")))
            }
            _ => Ok(()),
        }
    }
}

/// How many levels of arrays and objects a JSON document has, or more, if that is within the limit. It must be valid.
fn nesting(json: &[u8]) -> usize {
    // Most documents have fewer brackets than the limit. Counting them is much faster than following them.
    let brackets = json.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    if brackets <= MAX_NESTING {
        return brackets;
    }
    let (mut levels, mut deepest, mut bytes) = (0_usize, 0, json.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                levels += 1;
                deepest = deepest.max(levels);
            }
            b']' | b'}' => levels = levels.saturating_sub(1),
            // The rest of a string, in which a backslash hides the next byte.
            b'"' => loop {
                match bytes.next() {
                    None | Some(b'"') => break,
                    Some(b'\\') => drop(bytes.next()),
                    Some(_) => {}
                }
            },
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(mode: ValueMode, value: &[u8]) -> Result<(), ValueError> {
        ValueRules { mode, max_bytes: 16 }.check(value)
    }

    /// Covers C11, C12.
    #[test]
    fn json_documents_are_accepted_unchanged() {
        for good in ["null", " { \"a\" : 1 } ", "1e400", "\"\u{1f980}\"", "[]"] {
            assert_eq!(check(ValueMode::Json, good.as_bytes()), Ok(()), "{good}");
        }
    }

    /// A document with this many levels of arrays, objects, or both.
    fn nested(levels: usize, (open, close): (&str, &str), innermost: &str) -> String {
        let mut text = innermost.to_owned();
        for _ in 0..levels {
            text = format!("{open}{text}{close}");
        }
        text
    }

    /// Covers C12, B28.
    #[test]
    fn json_is_refused_beyond_127_levels_and_the_depth_is_named() {
        let rules = ValueRules { mode: ValueMode::Json, max_bytes: 10_000_000 };
        for level in [("[", "]"), ("{\"a\":", "}"), (" [\t", "\n] "), ("[[],", "]"), ("[\"[[{\\\"[\\\\\",", "]")] {
            for innermost in ["1", "\"[[[[\"", "\"\\\\\"", "\"\\u005b\\\"{\""] {
                // An empty array next to the inner value is a level, too.
                let levels = 127 - usize::from(level.0 == "[[],");
                assert_eq!(rules.check(nested(levels, level, innermost).as_bytes()), Ok(()), "{level:?} {innermost}");
                let levels = levels + 1;
                let error = rules.check(nested(levels, level, innermost).as_bytes()).unwrap_err().to_string();
                assert!(error.contains("128") && error.contains("127"), "{level:?} {innermost}: {error}");
            }
        }
        let deep = ["[".repeat(490_000), "]".repeat(490_000)].concat();
        assert!(rules.check(deep.as_bytes()).unwrap_err().to_string().contains("490000"));
    }

    proptest! {
        /// serde_json has the same limit for documents that it does not skip.
        /// Covers C12, B28.
        #[test]
        fn a_document_is_accepted_if_a_parser_takes_it(
            tokens in prop::collection::vec(prop::sample::select(vec![
                "[", "]", "{", "}", "\"a\"", ":", ",", "1", " ", "\\", "\"", "null",
            ]), 0..40),
            levels in 100..140_usize,
        ) {
            let rules = ValueRules { mode: ValueMode::Json, max_bytes: 10_000_000 };
            for text in [tokens.concat(), nested(levels, ("[", "]"), &tokens.concat())] {
                let taken = serde_json::from_str::<serde_json::Value>(&text).is_ok();
                prop_assert_eq!(rules.check(text.as_bytes()).is_ok(), taken, "{}", text);
            }
        }
    }

    /// Covers C12, C58, B11.
    #[test]
    fn invalid_json_is_refused_with_its_position_and_without_its_bytes() {
        for bad in [&b""[..], b"{", b"nul", b"{\"a\":1}x", b"'a'", b"\"\xff\"", b"NaN", b"01"] {
            let error = check(ValueMode::Json, bad).unwrap_err().to_string();
            assert!(error.contains("column") || error.contains("at byte"), "{error}");
        }
        let error = check(ValueMode::Json, b"secret").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    /// Covers C12, R11, B8.
    #[test]
    fn opaque_values_may_be_any_bytes_and_empty() {
        assert_eq!(check(ValueMode::Opaque, b""), Ok(()));
        assert_eq!(check(ValueMode::Opaque, b"\xff\x00"), Ok(()));
    }

    /// Covers C13, B9.
    #[test]
    fn a_value_at_the_limit_is_accepted_and_one_more_byte_is_refused() {
        assert_eq!(check(ValueMode::Opaque, &[b'x'; 16]), Ok(()));
        assert_eq!(check(ValueMode::Opaque, &[b'x'; 17]), Err(ValueError::TooLarge { limit: 16, got: 17 }));
    }
}
