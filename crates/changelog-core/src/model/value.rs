//! Rules for values.

use serde::de::IgnoredAny;

/// The form of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueMode {
    /// A JSON document (RFC 8259), stored byte for byte as sent.
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
        let deep = [b"[".repeat(10_000), b"]".repeat(10_000)].concat();
        assert_eq!(ValueRules { mode: ValueMode::Json, max_bytes: 1_000_000 }.check(&deep), Ok(()));
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
